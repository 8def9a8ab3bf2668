package remedy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

// Path is what a hook's name follows in the requests of the hub.
const Path = "/v1/remedies/"

const (
	maxEvent = 64 << 10 // a request
	maxGroup = 4 << 10  // Group and Check
)

// Event is an outcome that a hook is to act on.
type Event struct {
	// ID names the outcome: the same again has the same one.
	ID        string `json:"id"`
	Scan      string `json:"scan"`
	Policy    string `json:"policy"`
	Passed    bool   `json:"passed"`
	Namespace string `json:"namespace"`
	// Pod is the one that a scan looked into. What is known of a workload without
	// that has Workload, KIND/NAME, in its place.
	Pod       string    `json:"pod,omitempty"`
	Workload  string    `json:"workload,omitempty"`
	Container string    `json:"container"`
	At        time.Time `json:"at"`
	// Group and Check say what a mark is of, see [Hooks]: a check is one way to
	// come to an outcome, such as a profile with its threshold and inputs, and of
	// a group are those that answer the same question. Without a group it is the
	// policy.
	Group string `json:"group,omitempty"`
	Check string `json:"check,omitempty"`
	// Standing says that it is the owner's own rule that chose how to check: when
	// it passes, all of its group has.
	Standing bool `json:"standing,omitempty"`
}

// plain is what a policy's name is of, and an id: nothing that means anything
// to a shell, or is an option of a command's.
var plain = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._/@:+-]{0,511}$`)

func (e Event) validate() error {
	switch {
	case !plain.MatchString(e.ID):
		return errors.New("id: it must be letters, digits and . _ / @ : + -, and begin with one of the former")
	case !plain.MatchString(e.Scan):
		return errors.New("scan: it must be letters, digits and . _ / @ : + -, and begin with one of the former")
	case !plain.MatchString(e.Policy):
		return errors.New("policy: it must be letters, digits and . _ / @ : + -, and begin with one of the former")
	case len(e.Group)+len(e.Check) > maxGroup:
		return fmt.Errorf("group and check: they must have at most %d bytes", maxGroup)
	case len(validation.IsDNS1123Label(e.Namespace)) > 0:
		return errors.New("namespace: it can't be the name of one")
	case e.Workload != "" && e.Pod != "":
		return errors.New("workload: there is a pod, too")
	case e.Workload != "" && !known(e.Workload):
		return errors.New("workload: it must be KIND/NAME, the kind Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob or Pod")
	case e.Workload == "" && len(validation.IsDNS1123Subdomain(e.Pod)) > 0:
		return errors.New("pod: it can't be the name of one")
	case len(validation.IsDNS1123Label(e.Container)) > 0:
		return errors.New("container: it can't be the name of one")
	}
	return nil
}

// kinds are those of workloads, without their names.
var kinds = map[string]object{
	"Deployment":  {api: "/apis/apps/v1", resource: "deployments"},
	"StatefulSet": {api: "/apis/apps/v1", resource: "statefulsets"},
	"DaemonSet":   {api: "/apis/apps/v1", resource: "daemonsets"},
	"ReplicaSet":  {api: "/apis/apps/v1", resource: "replicasets"},
	"Job":         {api: "/apis/batch/v1", resource: "jobs"},
	"CronJob":     {api: "/apis/batch/v1", resource: "cronjobs"},
	"Pod":         {api: "/api/v1", resource: "pods"},
}

func known(workload string) bool {
	kind, name, _ := strings.Cut(workload, "/")
	_, is := kinds[kind]
	return is && len(validation.IsDNS1123Subdomain(name)) == 0
}

// Config is what Hooks work with.
type Config struct {
	Hooks []Hook
	// Cluster is asked for, by the account whose rights the owner has granted.
	Cluster *rest.Config
	Logger  *slog.Logger
}

// Hooks are those of an agent. They are an http.Handler for what the hub
// sends: POST Path + NAME with an Event. 200 says that it is done, 404 that
// there is no such hook or the pod is gone, 403 that the owner doesn't allow it,
// 400 and 422 that it can never be done, and anything else that it may be
// tried again.
//
// A label stays as long as any check that failed hasn't passed since. Each such
// check is a mark, an annotation remedy.reeve.dev/HOOK.GROUP.CHECK of the object
// with the scan that failed; what passes takes off its own mark only, or, if it
// is a standing one, all of its group. So nobody takes off a label by a check
// that asks for less.
type Hooks struct {
	hooks  map[string]Hook
	client *rest.RESTClient
	log    *slog.Logger
}

// New makes the hooks of a valid configuration.
func New(cfg Config) (*Hooks, error) {
	hs := &Hooks{hooks: map[string]Hook{}, log: cfg.Logger}
	for _, h := range cfg.Hooks {
		if err := h.load(); err != nil {
			return nil, fmt.Errorf("hook %s: %w", h.Name, err)
		}
		hs.hooks[h.Name] = h
	}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	conf := rest.CopyConfig(cfg.Cluster)
	conf.GroupVersion = &schema.GroupVersion{}
	conf.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	var err error
	hs.client, err = rest.UnversionedRESTClientFor(conf)
	return hs, err
}

func (hs *Hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, Path)
	h, ok := hs.hooks[name]
	if r.Method != http.MethodPost || !ok {
		http.Error(w, fmt.Sprintf("this agent has no hook %.40q; its owner must put it into remediation.hooks of the agent's configuration", name), http.StatusNotFound)
		return
	}
	var e Event
	err := json.NewDecoder(io.LimitReader(r.Body, maxEvent)).Decode(&e)
	if err == nil {
		err = e.validate()
	}
	if err != nil {
		http.Error(w, "the event is refused: "+err.Error(), http.StatusBadRequest)
		return
	}
	log := hs.log.With("hook", h.Name, "scan", e.Scan, "passed", e.Passed, "target", e.Namespace+"/"+e.Pod+e.Workload+"/"+e.Container)
	if !h.acts(e.Namespace) {
		log.WarnContext(r.Context(), "the hub asked for a hook where it may not act")
		http.Error(w, fmt.Sprintf("hook %s may not act in namespace %s: the agent's owner allows it in %s", h.Name, e.Namespace, strings.Join(h.Namespaces, ", ")), http.StatusForbidden)
		return
	}
	done, err := hs.run(r.Context(), h, e)
	if err != nil {
		log.WarnContext(r.Context(), "remedy not done", "error", err)
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	log.InfoContext(r.Context(), "remedy done", "did", strings.Join(done, "; "))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string][]string{"did": done})
}

// statusOf says whether trying again may help.
func statusOf(err error) int {
	var status apierrors.APIStatus
	if errors.Is(err, errForged) || errors.Is(err, errNoPod) {
		return http.StatusUnprocessableEntity
	}
	if !errors.As(err, &status) {
		return http.StatusBadGateway
	}
	switch code := int(status.Status().Code); code {
	case http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusBadRequest:
		return code
	}
	// Rights are granted, and servers mended.
	return http.StatusBadGateway
}

// run does what h says and tells what that was.
func (hs *Hooks) run(ctx context.Context, h Hook, e Event) (done []string, err error) {
	var pod corev1.Pod
	var own object
	if kind, name, _ := strings.Cut(e.Workload, "/"); kind != "" {
		if own = kinds[kind]; h.Object == Pod && kind != "Pod" {
			return nil, errNoPod
		}
		own.kind, own.name = kind, name
		pod.Name = name
	} else {
		raw, err := hs.client.Get().AbsPath("/api/v1/namespaces", e.Namespace, "pods", e.Pod).Do(ctx).Raw()
		if err == nil {
			err = json.Unmarshal(raw, &pod)
		}
		if err != nil {
			return nil, fmt.Errorf("get the pod: %w", err)
		}
		if own, err = hs.owner(ctx, &pod); err != nil {
			return nil, err
		}
	}
	with := replacer(e, own)
	if len(h.Annotate)+len(h.Label) > 0 {
		at := own
		if h.Object == Pod {
			at = object{"/api/v1", "pods", "Pod", pod.Name, pod.UID}
		}
		did, err := hs.mark(ctx, h, e, at, with)
		if err != nil {
			return done, err
		}
		done = append(done, did)
	}
	if h.Job != "" && !e.Passed {
		name, err := hs.start(ctx, h, e, with)
		if err != nil {
			return done, err
		}
		done = append(done, "started Job/"+name)
	}
	return done, nil
}

// object is one of a namespace.
type object struct {
	api, resource, kind, name string
	uid                       types.UID
}

func (o object) String() string { return o.kind + "/" + o.name }

// errForged says that a pod names an owner that isn't its own: whoever makes
// pods writes into them what he likes.
var errForged = errors.New("the pod says that it belongs to a workload which isn't there, or another one of that name")

// errNoPod says that a hook marks pods, and the outcome is about a workload.
var errNoPod = errors.New("the outcome is about a workload, and the hook marks pods: its owner must give object: workload")

// owner is the workload that a pod belongs to, or the pod itself where it
// belongs to none that is known here. Which Deployment has a ReplicaSet that one
// is asked; that the others are the pod's own the API server sees when they are
// changed, by their UID.
func (hs *Hooks) owner(ctx context.Context, pod *corev1.Pod) (object, error) {
	c := metav1.GetControllerOf(pod)
	if c == nil {
		return object{"/api/v1", "pods", "Pod", pod.Name, pod.UID}, nil
	}
	switch c.Kind {
	case "ReplicaSet":
		var rs metav1.PartialObjectMetadata
		raw, err := hs.client.Get().AbsPath("/apis/apps/v1/namespaces", pod.Namespace, "replicasets", c.Name).Do(ctx).Raw()
		if err == nil {
			err = json.Unmarshal(raw, &rs)
		}
		switch d := metav1.GetControllerOf(&rs); {
		case apierrors.IsNotFound(err), err == nil && rs.UID != c.UID:
			return object{}, fmt.Errorf("ReplicaSet %s: %w", c.Name, errForged)
		case err != nil:
			return object{}, fmt.Errorf("get the ReplicaSet: %w", err)
		case d != nil && d.Kind == "Deployment":
			return object{"/apis/apps/v1", "deployments", d.Kind, d.Name, d.UID}, nil
		}
		return object{"/apis/apps/v1", "replicasets", c.Kind, c.Name, c.UID}, nil
	case "StatefulSet":
		return object{"/apis/apps/v1", "statefulsets", c.Kind, c.Name, c.UID}, nil
	case "DaemonSet":
		return object{"/apis/apps/v1", "daemonsets", c.Kind, c.Name, c.UID}, nil
	case "Job":
		return object{"/apis/batch/v1", "jobs", c.Kind, c.Name, c.UID}, nil
	}
	return object{"/api/v1", "pods", "Pod", pod.Name, pod.UID}, nil
}

func replacer(e Event, workload object) *strings.Replacer {
	outcome := "failed"
	if e.Passed {
		outcome = "passed"
	}
	return strings.NewReplacer("{outcome}", outcome, "{scan}", e.Scan, "{policy}", e.Policy, "{at}", e.At.UTC().Format(time.RFC3339),
		"{namespace}", e.Namespace, "{pod}", e.Pod, "{container}", e.Container, "{workload}", workload.String())
}

// markPrefix begins the annotations that are marks.
const markPrefix = "remedy.reeve.dev/"

// marks are the prefix of the marks of e's group, and e's own.
func marks(h Hook, e Event) (group, own string) {
	if e.Group == "" {
		e.Group = e.Policy
	}
	short := func(parts ...string) string {
		sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
		return hex.EncodeToString(sum[:6])
	}
	group = markPrefix + h.Name + "." + short(e.Container, e.Group) + "."
	return group, group + short(e.Check)
}

// mark annotates and labels an object, and tells what that was. Others, such as
// its kubelet, may change it meanwhile.
func (hs *Hooks) mark(ctx context.Context, h Hook, e Event, at object, with *strings.Replacer) (answer string, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		answer, err = hs.markOnce(ctx, h, e, at, with)
		return err
	})
	return answer, err
}

func (hs *Hooks) markOnce(ctx context.Context, h Hook, e Event, at object, with *strings.Replacer) (string, error) {
	annotations, labels := map[string]any{}, map[string]any{}
	for k, v := range h.Annotate {
		annotations[k] = with.Replace(v)
	}
	group, own := marks(h, e)
	if len(h.Label) > 0 {
		if annotations[own] = e.Scan; e.Passed {
			annotations[own] = nil // a merge patch takes it off so
		}
	}
	if !e.Passed {
		for k, v := range h.Label {
			labels[k] = v
		}
	}
	now, err := hs.patch(ctx, e, at, annotations, labels, "")
	if err != nil {
		return "", err
	}
	if !e.Passed || len(h.Label) == 0 {
		return "marked " + at.String(), nil
	}
	// What is left decides about the labels, as long as it is all that is there.
	// Another hook may want the same one.
	annotations, left := map[string]any{}, 0
	wanted := map[string]bool{}
	for k := range now.Annotations {
		mark, is := strings.CutPrefix(k, markPrefix)
		by, _, _ := strings.Cut(mark, ".")
		switch {
		case !is:
		case e.Standing && strings.HasPrefix(k, group):
			annotations[k] = nil
		default:
			shared := false
			for l := range hs.hooks[by].Label {
				if _, mine := h.Label[l]; mine {
					wanted[l], shared = true, true
				}
			}
			if shared {
				left++
			}
		}
	}
	for k := range h.Label {
		if _, there := now.Labels[k]; there && !wanted[k] {
			labels[k] = nil
		}
	}
	if len(annotations)+len(labels) > 0 {
		if _, err := hs.patch(ctx, e, at, annotations, labels, now.ResourceVersion); err != nil {
			return "", err
		}
	}
	if left > 0 {
		return fmt.Sprintf("marked %s, which stays labelled: %d other checks of it failed and haven't passed since", at, left), nil
	}
	return "marked " + at.String(), nil
}

// patch changes the metadata of an object, which must still be the one that it
// was, and of that version if there is one; and answers how it is then.
func (hs *Hooks) patch(ctx context.Context, e Event, at object, annotations, labels map[string]any, version string) (*metav1.PartialObjectMetadata, error) {
	meta := map[string]any{"annotations": annotations, "labels": labels}
	if at.uid != "" {
		meta["uid"] = at.uid
	}
	if version != "" {
		meta["resourceVersion"] = version
	}
	body, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return nil, err
	}
	raw, err := hs.client.Patch(types.MergePatchType).AbsPath(at.api, "namespaces", e.Namespace, at.resource, at.name).Body(body).Do(ctx).Raw()
	var now metav1.PartialObjectMetadata
	if err == nil {
		err = json.Unmarshal(raw, &now)
	}
	if err != nil {
		return nil, fmt.Errorf("mark %s: %w", at, err)
	}
	return &now, nil
}

// start creates the Job, which is named for the hook and the event; one that
// is there already is fine.
func (hs *Hooks) start(ctx context.Context, h Hook, e Event, with *strings.Replacer) (string, error) {
	job := fill(h.job, with).(map[string]any)
	meta, _ := job["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		job["metadata"] = meta
	}
	sum := sha256.Sum256([]byte(e.ID))
	name := h.Name + "-" + hex.EncodeToString(sum[:8])
	meta["name"] = name
	namespace, _ := meta["namespace"].(string)
	if namespace == "" {
		namespace = e.Namespace
	}
	labels, _ := meta["labels"].(map[string]any)
	if labels == nil {
		labels = map[string]any{}
		meta["labels"] = labels
	}
	labels["app.kubernetes.io/managed-by"] = "reeve"
	body, err := json.Marshal(job)
	if err != nil {
		return "", err
	}
	err = hs.client.Post().AbsPath("/apis/batch/v1/namespaces", namespace, "jobs").Body(body).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("start a Job in namespace %s: %w", namespace, err)
	}
	return name, nil
}
