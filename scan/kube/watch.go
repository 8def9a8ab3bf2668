package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"reeve.dev/reeve/internal/kubeapi"
)

// Deployment is a container that runs of an image of which none of its
// workload's ran before.
type Deployment struct {
	Namespace, Pod, Container string
	// PodID is the pod's UID.
	PodID string
	// Kind and Workload are what the pod belongs to, such as a Deployment; both
	// empty for a pod of its own.
	Kind, Workload string
	// Image is as the pod's author names it; Digest is sha256:HEX.
	Image, Digest       string
	Labels, Annotations map[string]string
}

// Key is the same for each pod in which the workload runs the image.
func (d Deployment) Key() string {
	who := d.Kind + "/" + d.Workload
	if d.Kind == "" {
		who = "Pod/" + d.Pod
	}
	return d.Namespace + "/" + who + "/" + d.Container + "@" + d.Digest
}

// Watcher tells what is deployed in a cluster. It needs the verbs list and watch
// on pods.
type Watcher struct {
	client rest.Interface
	keep   []string // the annotations of pods that Deployments have
	tell   func(Deployment) error
	log    *slog.Logger

	mu       sync.Mutex                    // guards what follows
	pods     map[string]map[string]heldPod // by namespace and name
	versions map[string]uint64             // of what is known of a namespace's pods
	changes  uint64
	count    map[string]int  // of pods, by the key
	known    map[string]bool // keys that were told before
	seen     bool            // every pod was looked at
}

// heldPod is what is known of a pod that hasn't ended.
type heldPod struct {
	runs       []Deployment
	containers []string // of any state
}

// NewWatcher returns a watcher whose Run calls tell, one call at a time, for
// each deployment that is not among known: those that ran when Running was
// called last. What tell doesn't take is told again when the pod is looked at
// next.
func NewWatcher(config *rest.Config, known []string, keep []string, tell func(Deployment) error, log *slog.Logger) (*Watcher, error) {
	client, err := kubeapi.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	w := &Watcher{client: client, keep: keep, tell: tell, log: log, pods: map[string]map[string]heldPod{}, versions: map[string]uint64{}, count: map[string]int{}, known: map[string]bool{}}
	for _, key := range known {
		w.known[key] = true
	}
	return w, nil
}

// Run watches until ctx is done.
func (w *Watcher) Run(ctx context.Context) error {
	pods := func(o *metav1.ListOptions) *rest.Request {
		o.FieldSelector = "status.phase!=Succeeded,status.phase!=Failed"
		return w.client.Get().Resource("pods").VersionedParams(o, metav1.ParameterCodec)
	}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list := &corev1.PodList{}
			return list, pods(&o).Do(ctx).Into(list)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return pods(&o).Watch(ctx)
		},
	}
	informer := cache.NewSharedIndexInformer(source, &corev1.Pod{}, resync, cache.Indexers{})
	handled, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { w.look(ctx, obj) },
		UpdateFunc: func(_, obj any) { w.look(ctx, obj) },
		DeleteFunc: w.forget,
	})
	err = errors.Join(err, informer.SetTransform(w.trim),
		informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
			w.log.WarnContext(ctx, "watch interrupted, will retry", "resource", "pods", "error", err)
		}))
	if err != nil {
		return err
	}
	var synced sync.WaitGroup
	defer synced.Wait()
	synced.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), handled.HasSynced) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.known = map[string]bool{} // what is left of it has gone
			w.seen = true
		}
	})
	informer.RunWithContext(ctx)
	return context.Cause(ctx)
}

// watchedPod is what is kept of a pod.
type watchedPod struct {
	metav1.ObjectMeta // the name, and what the informer looks at
	heldPod
}

// trim keeps of a pod what it holds. What prepares one that is pending isn't
// deployed.
func (w *Watcher) trim(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	small := &watchedPod{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion}}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		small.containers = append(small.containers, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		if len(c.Command) == 0 || c.Command[0] != scannerProgram { // of which there is one more with each scan
			small.containers = append(small.containers, c.Name)
		}
	}
	if pod.Status.Phase == corev1.PodPending {
		return small, nil
	}
	var kept map[string]string
	for _, name := range w.keep {
		if value, ok := pod.Annotations[name]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[name] = value
		}
	}
	small.runs = deployments(pod)
	for i := range small.runs {
		small.runs[i].Annotations = kept
	}
	return small, nil
}

// resync is how often each pod is looked at again, for what wasn't told.
const resync = 10 * time.Minute

var imageDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}$`)

// deployments are those of a pod.
func deployments(pod *corev1.Pod) (all []Deployment) {
	if pod.DeletionTimestamp != nil {
		return nil
	}
	kind, workload := workloadOf(pod)
	for _, st := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		digest := imageDigest.FindString(st.ImageID)
		if st.State.Running == nil || digest == "" {
			continue
		}
		d := Deployment{
			Namespace: pod.Namespace, Pod: pod.Name, PodID: string(pod.UID), Container: st.Name, Kind: kind, Workload: workload,
			Digest: digest, Labels: pod.Labels, Annotations: pod.Annotations,
		}
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if c.Name == st.Name {
				d.Image = c.Image
			}
		}
		all = append(all, d)
	}
	return all
}

// workloadOf is what a pod belongs to; see owned. It is what the pod says: whoever
// may make pods in a namespace can have one belong to a workload there that isn't its
// owner, until the cluster's garbage collector or the owner has found that out. So he
// adds an image to those that a workload runs, and hides none: each is reported, and
// judged, by its own digest. He could as well change what the namespace runs.
func workloadOf(pod *corev1.Pod) (kind, name string) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return "", ""
	}
	kind, name = owner.Kind, owner.Name
	switch kind {
	case "ReplicaSet":
		if base := replicaSet.FindStringSubmatch(name); base != nil && owned(pod, "Deployment", base[1]) {
			return "Deployment", base[1]
		}
	case "Job":
		if base := cronJob.FindStringSubmatch(name); base != nil {
			return "CronJob", base[1]
		}
	}
	return kind, name
}

var (
	replicaSet = regexp.MustCompile(`^(.+)-[0-9a-z]+$`)
	cronJob    = regexp.MustCompile(`^(.+)-[0-9]{8,}$`)
)

// look tells what is new in a pod.
func (w *Watcher) look(ctx context.Context, obj any) {
	pod, ok := obj.(*watchedPod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	held := heldPod{containers: pod.containers}
	for _, d := range pod.runs {
		key := d.Key()
		if w.count[key] == 0 && !w.known[key] {
			if err := w.tell(d); err != nil {
				w.log.WarnContext(ctx, "a new image wasn't told of, will try again", "namespace", d.Namespace, "pod", d.Pod, "container", d.Container, "error", err)
				continue
			}
		}
		held.runs = append(held.runs, d)
	}
	if len(held.runs) == len(pod.runs) {
		held.runs = pod.runs // which is there already
	}
	w.hold(pod.Namespace, pod.Name, held)
}

func (w *Watcher) forget(obj any) {
	if key, err := cache.DeletionHandlingObjectToName(obj); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hold(key.Namespace, key.Name, heldPod{})
	}
}

// hold makes held what is known of a pod; one without containers is gone. mu is held.
func (w *Watcher) hold(namespace, name string, held heldPod) {
	for _, d := range held.runs {
		w.count[d.Key()]++
		// From now on it counts whether it runs.
		delete(w.known, d.Key())
	}
	before := w.pods[namespace][name]
	for _, d := range before.runs {
		if key := d.Key(); w.count[key] == 1 {
			delete(w.count, key)
		} else {
			w.count[key]--
		}
	}
	if reflect.DeepEqual(held, before) {
		return
	}
	w.changes++
	w.versions[namespace] = w.changes
	if len(held.containers) > 0 {
		if w.pods[namespace] == nil {
			w.pods[namespace] = map[string]heldPod{}
		}
		w.pods[namespace][name] = held
		return
	}
	delete(w.pods[namespace], name)
	if len(w.pods[namespace]) == 0 {
		delete(w.pods, namespace)
		delete(w.versions, namespace)
	}
}

// Namespaces are those that have pods which haven't ended, each with a number that
// is another one whenever something about these is. ok is false until every pod was
// looked at.
func (w *Watcher) Namespaces() (versions map[string]uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.versions), w.seen
}

// Inventory are the deployments that run in a namespace, each once, by the key; the
// number of pods of each; and the names of the containers of all pods that haven't
// ended, by pod.
func (w *Watcher) Inventory(namespace string) (running map[string]Deployment, count map[string]int, pods map[string][]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	running, count, pods = map[string]Deployment{}, map[string]int{}, map[string][]string{}
	for name, p := range w.pods[namespace] {
		pods[name] = p.containers
		for _, d := range p.runs {
			key := d.Key()
			if first, known := running[key]; !known || d.Pod < first.Pod {
				running[key] = d
			}
			count[key]++
		}
	}
	return running, count, pods
}

// Running are the keys of what runs and was told, and of what ran before and
// wasn't seen again yet.
func (w *Watcher) Running() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := slices.AppendSeq(slices.Collect(maps.Keys(w.count)), maps.Keys(w.known))
	slices.Sort(keys)
	return keys
}
