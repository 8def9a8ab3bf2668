package crd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"reeve.dev/reeve/internal/kubeapi"
)

// Hub is what the controller asks of it. What is wrong with a request is an
// error for which Config.Refused answers true; anything else is tried again.
type Hub interface {
	// Ask asks for a scan; again with the same key it is the same.
	Ask(ctx context.Context, r Request) (State, error)
	// State is how a scan stands.
	State(ctx context.Context, id string) (State, error)
	// Open lists the scans that Ask asked for and that aren't over, as their
	// ids by the keys, and Withdraw ends one.
	Open(ctx context.Context) (map[string]string, error)
	Withdraw(ctx context.Context, id string) error
	// SendProfile has the hub keep a profile, and answers its name there.
	SendProfile(ctx context.Context, archive io.Reader) (ref string, err error)
	// SetPolicies replaces all policies of this cluster, and answers what is
	// wrong with which, by their names as Policy.Name has them.
	SetPolicies(ctx context.Context, all []Policy) (problems map[string]string, err error)
}

// Request asks for a scan. Key is the object's. By names its namespace, and not
// the object: callers take turns in the queue, and each object would be one.
type Request struct {
	Key, By                   string
	Namespace, Pod, Container string
	Run                       // Profile.Name is the hub's name of it
}

// State is how a scan stands.
type State struct {
	ID, Status, Outcome, Reason, Method string
	Controls                            Controls
	Findings                            []string
	Started, Finished                   time.Time
	// Final says that nothing of it changes any more.
	Final bool
}

// Policy is a ScanPolicy for the hub.
type Policy struct {
	// Name is NAMESPACE/NAME.
	Name      string
	Namespace string
	// Labels is the selector, as text.
	Labels string
	Spec   ScanPolicySpec // Profile.Name is the hub's name of it
}

// Config is what a Controller works with.
type Config struct {
	Hub Hub
	// Refused tells errors of the Hub that trying again won't heal.
	Refused func(error) bool
	// Gone tells that the hub doesn't know a scan, or that it is over.
	Gone func(error) bool
	// MaxPolicies is how many the hub takes of a cluster, and MaxBytes how much
	// they may be in all; it gets the oldest.
	MaxPolicies, MaxBytes int
	// ProfilePrefix begins the names of profiles that the hub takes.
	ProfilePrefix string
	Logger        *slog.Logger
}

const (
	// resync is how often each object is looked at without a change of its own.
	resync = 10 * time.Minute
	// settle is how long changes of policies, and deletions, are gathered.
	settle = 500 * time.Millisecond
	// minLook and maxLook are how often a scan is asked after, by its age: ten
	// thousand that wait would keep the hub busy otherwise.
	minLook = time.Second
	maxLook = 30 * time.Second
	// workers is how many Scans are worked on side by side.
	workers = 4

	minRetry = 200 * time.Millisecond
	maxRetry = time.Minute
)

// Controller brings Scans and ScanPolicies to the hub.
type Controller struct {
	cfg  Config
	kube rest.Interface // of the group
	core rest.Interface
}

// New returns a controller of the cluster that config leads to. It needs get,
// list and watch on scans and scanpolicies, patch on their status, and get on
// the ConfigMaps that have profiles.
func New(config *rest.Config, cfg Config) (*Controller, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(GroupVersion, &Scan{}, &ScanList{}, &ScanPolicy{}, &ScanPolicyList{})
	kube, err := kubeapi.Of(config, scheme, GroupVersion)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	core, err := kubeapi.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &Controller{cfg: cfg, kube: kube, core: core}, nil
}

// Run works until ctx is done.
func (c *Controller) Run(ctx context.Context) error {
	scans := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](minRetry, maxRetry))
	policies := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](minRetry, maxRetry))
	gone := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](minRetry, maxRetry))
	watchScans, err := c.watch("scans", &Scan{}, func(key string) { scans.Add(key) })
	if err != nil {
		return err
	}
	watchPolicies, err := c.watch("scanpolicies", &ScanPolicy{}, func(string) { policies.AddAfter("all", settle) })
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { watchScans.RunWithContext(ctx) })
	wg.Go(func() { watchPolicies.RunWithContext(ctx) })
	for range workers {
		wg.Go(func() {
			work(ctx, scans, c.cfg.Logger, func(key string) (time.Duration, error) {
				obj, there, err := watchScans.GetStore().GetByKey(key)
				if err == nil && !there {
					gone.AddAfter("all", settle)
				}
				if err != nil || !there {
					return 0, err
				}
				return c.syncScan(ctx, obj.(*Scan).DeepCopyObject().(*Scan))
			})
		})
	}
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), watchPolicies.HasSynced) {
			policies.Add("all") // also where there is none any more
		}
		work(ctx, policies, c.cfg.Logger, func(string) (time.Duration, error) {
			var all []*ScanPolicy
			for _, obj := range watchPolicies.GetStore().List() {
				all = append(all, obj.(*ScanPolicy).DeepCopyObject().(*ScanPolicy))
			}
			return 0, c.syncPolicies(ctx, all)
		})
	})
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), watchScans.HasSynced) {
			gone.Add("all") // those that went while nobody watched
		}
		work(ctx, gone, c.cfg.Logger, func(string) (time.Duration, error) {
			return resync, c.withdraw(ctx, func() map[string]bool {
				there := map[string]bool{}
				for _, obj := range watchScans.GetStore().List() {
					there[string(obj.(*Scan).UID)] = true
				}
				return there
			}, c.scans)
		})
	})
	<-ctx.Done()
	scans.ShutDown()
	gone.ShutDown()
	policies.ShutDown()
	wg.Wait()
	return context.Cause(ctx)
}

func (c *Controller) watch(resource string, kind runtime.Object, changed func(key string)) (cache.SharedIndexInformer, error) {
	add := func(obj any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
			changed(key)
		}
	}
	source := cache.NewListWatchFromClient(c.kube, resource, metav1.NamespaceAll, fields.Everything())
	informer := cache.NewSharedIndexInformer(source, kind, resync, cache.Indexers{})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, obj any) { add(obj) }, DeleteFunc: add})
	return informer, errors.Join(err, informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		c.cfg.Logger.WarnContext(ctx, "watch interrupted, will retry", "resource", resource, "error", err)
	}))
}

// work syncs what comes to the queue until that is shut down.
func work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], log *slog.Logger, sync func(string) (time.Duration, error)) {
	for {
		key, down := queue.Get()
		if down {
			return
		}
		again, err := sync(key)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.WarnContext(ctx, "will be tried again", "object", key, "error", err)
			queue.AddRateLimited(key)
		default:
			queue.Forget(key)
			if again > 0 {
				queue.AddAfter(key, again)
			}
		}
		queue.Done(key)
	}
}

// syncScan asks for the scan, or after it.
func (c *Controller) syncScan(ctx context.Context, s *Scan) (time.Duration, error) {
	if cond := meta.FindStatusCondition(s.Status.Conditions, Finished); cond != nil && cond.Status == metav1.ConditionTrue || s.DeletionTimestamp != nil {
		return 0, nil
	}
	was := deepCopy(&s.Status)
	state, err := c.state(ctx, s)
	switch {
	case err != nil && (c.final(err) || c.cfg.Gone(err)):
		state = State{ID: s.Status.ScanID, Status: "error", Reason: err.Error(), Final: true}
	case err != nil:
		return 0, err
	}
	s.Status.show(state, s.Generation)
	if err := c.patch(ctx, "scans", s.Namespace, s.Name, was, &s.Status); err != nil || state.Final {
		return 0, err
	}
	return min(max(time.Since(s.CreationTimestamp.Time)/20, minLook), maxLook), nil
}

// withdraw ends the scans whose objects aren't there any more. watched tells those
// that were seen, and listed those that the API server has, by their UIDs: what
// isn't watched may have been made since, and asked for by another process of the
// agent. Both are asked after the hub, since what has a scan was there before.
func (c *Controller) withdraw(ctx context.Context, watched func() map[string]bool, listed func(context.Context) (map[string]bool, error)) error {
	open, err := c.cfg.Hub.Open(ctx)
	if err != nil {
		return err
	}
	there := watched()
	maps.DeleteFunc(open, func(key, _ string) bool { return there[key] })
	if len(open) == 0 {
		return nil
	}
	if there, err = listed(ctx); err != nil {
		return fmt.Errorf("list scans: %w", err)
	}
	var errs []error
	for key, id := range open {
		if there[key] {
			continue
		}
		if err := c.cfg.Hub.Withdraw(ctx, id); err != nil && !c.cfg.Gone(err) {
			errs = append(errs, err)
			continue
		}
		c.cfg.Logger.InfoContext(ctx, "scan withdrawn: its object was deleted", "scan", id)
	}
	return errors.Join(errs...)
}

// listPage is how many objects are listed at a time.
const listPage = 500

// scans are the UIDs of the Scans that there are.
func (c *Controller) scans(ctx context.Context) (map[string]bool, error) {
	there, options := map[string]bool{}, metav1.ListOptions{Limit: listPage}
	for {
		var page ScanList
		if err := c.kube.Get().Resource("scans").VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Into(&page); err != nil {
			return nil, err
		}
		for i := range page.Items {
			there[string(page.Items[i].UID)] = true
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return there, nil
		}
	}
}

func (c *Controller) state(ctx context.Context, s *Scan) (State, error) {
	if s.Status.ScanID != "" {
		return c.cfg.Hub.State(ctx, s.Status.ScanID)
	}
	run := s.Spec.Run
	var err error
	if run.Profile.Name, err = c.profile(ctx, s.Namespace, run.Profile); err != nil {
		return State{}, err
	}
	return c.cfg.Hub.Ask(ctx, Request{
		Key: string(s.UID), By: "scans.reeve.dev of " + s.Namespace,
		Namespace: s.Namespace, Pod: s.Spec.Target.Pod, Container: s.Spec.Target.Container, Run: run,
	})
}

// profile is the name that the hub has for p.
func (c *Controller) profile(ctx context.Context, namespace string, p Profile) (string, error) {
	if p.ConfigMap == "" {
		return p.Name, nil
	}
	var cm corev1.ConfigMap
	if err := c.core.Get().Namespace(namespace).Resource("configmaps").Name(p.ConfigMap).Do(ctx).Into(&cm); err != nil {
		return "", fmt.Errorf("profile of ConfigMap %s/%s: %w", namespace, p.ConfigMap, err)
	}
	archive, err := Pack(&cm, c.cfg.ProfilePrefix)
	if err != nil {
		return "", unfit{err}
	}
	return c.cfg.Hub.SendProfile(ctx, bytes.NewReader(archive))
}

// final reports whether an error is one that only a change heals.
func (c *Controller) final(err error) bool {
	var bad unfit
	return c.cfg.Refused(err) || errors.As(err, &bad) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err)
}

// unfit is an error of an object's or a ConfigMap's content.
type unfit struct{ error }

func (e unfit) Unwrap() error { return e.error }

// phases are the words for a scan's states.
var phases = map[string]string{"queued": "Queued", "running": "Running", "completed": "Completed", "error": "Error", "cancelled": "Cancelled"}

// show makes the status say how the scan stands.
func (st *ScanStatus) show(s State, generation int64) {
	st.ObservedGeneration, st.ScanID, st.Phase, st.Outcome, st.Reason = generation, s.ID, phases[s.Status], s.Outcome, s.Reason
	st.Method, st.Findings = s.Method, s.Findings
	if !s.Started.IsZero() {
		st.StartedAt = &metav1.Time{Time: s.Started.UTC().Truncate(time.Second)}
	}
	if !s.Finished.IsZero() {
		st.FinishedAt = &metav1.Time{Time: s.Finished.UTC().Truncate(time.Second)}
	}
	if s.Status == "completed" {
		st.Controls = &s.Controls
	}
	set := func(kind string, is bool, reason, message string) {
		status := metav1.ConditionFalse
		if is {
			status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&st.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation})
	}
	if s.ID == "" {
		set(Accepted, false, "Refused", s.Reason)
	} else {
		set(Accepted, true, "Asked", "the hub has it as "+s.ID)
	}
	set(Finished, s.Final, st.Phase, s.Reason)
	switch {
	case s.Status == "completed" && s.Outcome == "passed":
		set(Passed, true, "Met", fmt.Sprintf("%d controls passed", s.Controls.Passed))
	case s.Status == "completed":
		set(Passed, false, "Failed", strings.Join(append([]string{fmt.Sprintf("%d controls failed, %d couldn't be judged", s.Controls.Failed, s.Controls.Error)}, s.Findings...), "; "))
	}
}

// patch writes a status that has changed.
func (c *Controller) patch(ctx context.Context, resource, namespace, name string, was, is any) error {
	before, err := json.Marshal(was)
	if err != nil {
		return err
	}
	after, err := json.Marshal(is)
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	err = c.kube.Patch(types.MergePatchType).Namespace(namespace).Resource(resource).Name(name).SubResource("status").
		Body([]byte(`{"status":` + string(after) + `}`)).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil // it was deleted meanwhile
	}
	return err
}

// syncPolicies hands all policies to the hub and says in each whether it was
// taken.
func (c *Controller) syncPolicies(ctx context.Context, all []*ScanPolicy) error {
	// Nobody's new ones push out those of others.
	slices.SortFunc(all, func(a, b *ScanPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
	})
	problems := map[string]string{}
	var taken []Policy
	left := room{c.cfg.MaxPolicies, c.cfg.MaxBytes}
	for _, p := range all {
		if p.DeletionTimestamp != nil {
			continue
		}
		policy, err := c.policy(ctx, p)
		if err == nil {
			err = left.take(policy)
		}
		switch {
		case err == nil:
			taken = append(taken, policy)
		case c.final(err):
			problems[policy.Name] = err.Error()
		default:
			return err
		}
	}
	refused, err := c.cfg.Hub.SetPolicies(ctx, taken)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range all {
		key := p.Namespace + "/" + p.Name
		cond := metav1.Condition{Type: Accepted, Status: metav1.ConditionTrue, Reason: "Taken", Message: "the hub acts on it", ObservedGeneration: p.Generation}
		for _, why := range []string{problems[key], refused[key]} {
			if why != "" {
				cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, "Refused", why
			}
		}
		was := deepCopy(&p.Status)
		p.Status.ObservedGeneration = p.Generation
		meta.SetStatusCondition(&p.Status.Conditions, cond)
		errs = append(errs, c.patch(ctx, "scanpolicies", p.Namespace, p.Name, was, &p.Status))
	}
	return errors.Join(errs...)
}

// room is what policies may still take up: one more than fit would have the hub
// refuse them all.
type room struct{ policies, bytes int }

// maxPolicy bounds a single policy.
const maxPolicy = 64 << 10

func (r *room) take(p Policy) error {
	text, err := json.Marshal(p)
	switch {
	case err != nil:
		return unfit{err}
	case len(text) > maxPolicy:
		return unfit{fmt.Errorf("the policy has %d bytes; at most %d", len(text), maxPolicy)}
	case r.policies == 0, r.bytes < len(text):
		return unfit{errors.New("older policies of the cluster are as much as the hub takes: delete some of them")}
	}
	r.policies--
	r.bytes -= len(text)
	return nil
}

func (c *Controller) policy(ctx context.Context, p *ScanPolicy) (_ Policy, err error) {
	out := Policy{Name: p.Namespace + "/" + p.Name, Namespace: p.Namespace, Spec: p.Spec}
	if p.Spec.Selector != nil {
		selector, err := metav1.LabelSelectorAsSelector(p.Spec.Selector)
		if err != nil {
			return out, unfit{fmt.Errorf("selector: %w", err)}
		}
		out.Labels = selector.String()
	}
	out.Spec.Profile.Name, err = c.profile(ctx, p.Namespace, p.Spec.Profile)
	return out, err
}
