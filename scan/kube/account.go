package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"reeve.dev/reeve/internal/kubeapi"
)

// What an account and its role carry, by which a sweeper knows them.
const (
	labelManager  = "app.kubernetes.io/managed-by"
	labelInstance = "reeve.dev/instance"
	labelScan     = "reeve.dev/scan"
	manager       = "reeve-agent"
	// annotationExpires is when anybody may remove it, in RFC 3339.
	annotationExpires = "reeve.dev/expires"
)

const (
	// tokenLife is the shortest that Kubernetes gives. What a scan needs it for
	// happens at its beginning; the account's end is the token's.
	tokenLife = 10 * time.Minute
	// settle is how long the API servers may take to know of a new role.
	settle = 10 * time.Second
	// removeWithin bounds the removal of one account.
	removeWithin = 15 * time.Second
	// SweepEvery is how often Run looks for what is left over.
	SweepEvery = time.Minute
)

// Accounts makes a service account for each scan, with a role that allows the
// scan of one pod, and removes them when it is over. What a crash leaves, Sweep
// removes: its own instance's at once, others' once they have expired.
//
// The accounts are in the agent's own namespace, and only their roles are beside
// the pods: so nobody who may start pods there can use them, and the agent needs
// no right to the tokens of other namespaces' accounts, by which it would have
// all the cluster's.
//
// The methods may be called concurrently.
type Accounts struct {
	config   *rest.Config
	core     rest.Interface
	rbac     rest.Interface
	meta     metadata.Interface
	home     string
	instance string
	log      *slog.Logger

	mu   sync.Mutex
	live map[string]bool // guarded by mu; the names of accounts in use
}

// NewAccounts works with the rights of config. The accounts are in the namespace
// home. instance tells this process, and those that come after it on the same
// disk, from others.
func NewAccounts(config *rest.Config, home, instance string, log *slog.Logger) (*Accounts, error) {
	core, err := kubeapi.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	rbac, err := kubeapi.RBAC(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &Accounts{config: config, core: core, rbac: rbac, meta: meta, home: home, instance: instance, log: log, live: map[string]bool{}}, nil
}

// Grant is what an account is for.
type Grant struct {
	// Scan and Attempt name it.
	Scan           string
	Attempt        int
	Namespace, Pod string
	// Methods are the ways into the pod's containers that it allows.
	Methods []Method
	// Life is how long the scan may take.
	Life time.Duration
}

// Make makes an account and returns how it reaches the cluster, and what removes
// it: that is called in any case where there is no error, and logs its own.
func (a *Accounts) Make(ctx context.Context, g Grant) (_ *rest.Config, _ func(), err error) {
	meta := metav1.ObjectMeta{
		Name: fmt.Sprintf("reeve-scan-%s-%d", g.Scan, g.Attempt), Namespace: g.Namespace,
		Labels:      map[string]string{labelManager: manager, labelInstance: a.instance, labelScan: g.Scan},
		Annotations: map[string]string{annotationExpires: time.Now().Add(max(g.Life, tokenLife) + time.Minute).UTC().Format(time.RFC3339)},
	}
	a.hold(meta.Name, true)
	release := func() {
		defer a.hold(meta.Name, false)
		if err := a.remove(context.WithoutCancel(ctx), g.Namespace, meta.Name); err != nil {
			a.log.WarnContext(ctx, "a scan's service account is left for the sweeper", "scan", g.Scan, "namespace", g.Namespace, "name", meta.Name, "error", err)
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	account := &corev1.ServiceAccount{ObjectMeta: meta}
	account.Namespace = a.home
	if err := a.core.Post().Namespace(a.home).Resource("serviceaccounts").Body(account).Do(ctx).Error(); err != nil {
		return nil, nil, grantError("serviceaccounts", a.home, g, err)
	}
	role := &rbacv1.Role{ObjectMeta: meta, Rules: g.rules()}
	if err := a.rbac.Post().Namespace(g.Namespace).Resource("roles").Body(role).Do(ctx).Error(); err != nil {
		return nil, nil, grantError("roles", g.Namespace, g, err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: a.home, Name: meta.Name}},
	}
	if err := a.rbac.Post().Namespace(g.Namespace).Resource("rolebindings").Body(binding).Do(ctx).Error(); err != nil {
		return nil, nil, grantError("rolebindings", g.Namespace, g, err)
	}
	seconds := int64(tokenLife / time.Second)
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if err := a.core.Post().Namespace(a.home).Resource("serviceaccounts").Name(meta.Name).SubResource("token").Body(token).Do(ctx).Into(token); err != nil {
		return nil, nil, grantError("serviceaccounts/token", a.home, g, err)
	}
	config := rest.AnonymousClientConfig(a.config)
	config.BearerToken = token.Status.Token
	return config, release, nil
}

// rules are all that a scan does.
func (g Grant) rules() []rbacv1.PolicyRule {
	rule := func(resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: []string{g.Pod}, Verbs: verbs}
	}
	rules := []rbacv1.PolicyRule{rule("pods", "get"), rule("pods/exec", "get", "create"), rule("pods/log", "get")}
	for _, m := range g.Methods {
		if m == Ephemeral {
			rules = append(rules, rule("pods/ephemeralcontainers", "get", "update", "patch"))
		}
	}
	return rules
}

func grantError(resource, namespace string, g Grant, err error) error {
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return &Error{ErrForbidden, fmt.Sprintf("the agent may not create %s in namespace %s, which it needs for a scan's own service account: grant it what deploy/rbac.yaml has, or set scan.rbac to none, to scan with the agent's own rights: %v", resource, namespace, err)}
	case apierrors.IsNotFound(err):
		return &Error{ErrNotFound, fmt.Sprintf("namespace %s not found", namespace)}
	}
	return fmt.Errorf("%s for scan %s: %w", resource, g.Scan, err)
}

// Open is Open by an account of the scan's own, which Release removes.
func (a *Accounts) Open(ctx context.Context, g Grant, container string, opt Options) (_ Opened, err error) {
	config, release, err := a.Make(ctx, g)
	if err != nil {
		return Opened{}, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	// API servers learn of the role one after another.
	for begin := time.Now(); ; {
		t, entry, err := Open(ctx, config, g.Namespace, g.Pod, container, opt)
		if err == nil {
			return Opened{Target: t, Entry: entry, Release: release}, nil
		}
		if !errors.Is(err, ErrForbidden) || errors.Is(err, ErrRefused) || time.Since(begin) > settle {
			return Opened{}, err
		}
		select {
		case <-ctx.Done():
			return Opened{}, context.Cause(ctx)
		case <-time.After(lookUp):
		}
	}
}

func (a *Accounts) hold(name string, held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if held {
		a.live[name] = true
	} else {
		delete(a.live, name)
	}
}

func (a *Accounts) holds(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live[name]
}

// kinds are what an account consists of, in the order in which it is removed:
// without the account its token is worth nothing.
var kinds = []schema.GroupVersionResource{
	corev1.SchemeGroupVersion.WithResource("serviceaccounts"),
	rbacv1.SchemeGroupVersion.WithResource("rolebindings"),
	rbacv1.SchemeGroupVersion.WithResource("roles"),
}

// place is where objects of a kind are, if the others are in namespace.
func (a *Accounts) place(kind schema.GroupVersionResource, namespace string) string {
	if kind == kinds[0] {
		return a.home
	}
	return namespace
}

func (a *Accounts) remove(ctx context.Context, namespace, name string) error {
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	var errs []error
	for _, kind := range kinds {
		if err := a.meta.Resource(kind).Namespace(a.place(kind, namespace)).Delete(ctx, name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run sweeps now and then, until ctx is done.
func (a *Accounts) Run(ctx context.Context) {
	tick := time.NewTicker(SweepEvery)
	defer tick.Stop()
	for {
		n, err := a.Sweep(ctx)
		if n > 0 {
			a.log.InfoContext(ctx, "left-over service accounts of scans were removed", "objects", n)
		}
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "left-over service accounts of scans can't be looked for", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep removes what scans have left, and says how many objects that were. It
// needs the verbs list and delete on service accounts in its own namespace, and
// on roles and their bindings in all.
func (a *Accounts) Sweep(ctx context.Context) (removed int, err error) {
	var errs []error
	for _, kind := range kinds {
		list, err := a.meta.Resource(kind).Namespace(a.place(kind, metav1.NamespaceAll)).List(ctx, metav1.ListOptions{LabelSelector: labelManager + "=" + manager + "," + labelScan})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, m := range list.Items {
			if !a.left(&m, time.Now()) {
				continue
			}
			err := a.meta.Resource(kind).Namespace(m.Namespace).Delete(ctx, m.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &m.UID}})
			switch {
			case err == nil:
				removed++
			case !apierrors.IsNotFound(err):
				errs = append(errs, err)
			}
		}
	}
	return removed, errors.Join(errs...)
}

// left reports whether an object is of no use to anybody.
func (a *Accounts) left(m *metav1.PartialObjectMetadata, now time.Time) bool {
	if m.Labels[labelInstance] == a.instance {
		return !a.holds(m.Name)
	}
	expires, err := time.Parse(time.RFC3339, m.Annotations[annotationExpires])
	return err == nil && now.After(expires)
}
