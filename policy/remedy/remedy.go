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
)

// Path is what a hook's name follows in the requests of the hub.
const Path = "/v1/remedies/"

// maxEvent bounds a request.
const maxEvent = 64 << 10

// Event is an outcome that a hook is to act on.
type Event struct {
	// ID names the outcome: the same again has the same one.
	ID        string    `json:"id"`
	Scan      string    `json:"scan"`
	Policy    string    `json:"policy"`
	Passed    bool      `json:"passed"`
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	Container string    `json:"container"`
	At        time.Time `json:"at"`
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
	case len(validation.IsDNS1123Label(e.Namespace)) > 0:
		return errors.New("namespace: it can't be the name of one")
	case len(validation.IsDNS1123Subdomain(e.Pod)) > 0:
		return errors.New("pod: it can't be the name of one")
	case len(validation.IsDNS1123Label(e.Container)) > 0:
		return errors.New("container: it can't be the name of one")
	}
	return nil
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
	log := hs.log.With("hook", h.Name, "scan", e.Scan, "passed", e.Passed, "target", e.Namespace+"/"+e.Pod+"/"+e.Container)
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
	raw, err := hs.client.Get().AbsPath("/api/v1/namespaces", e.Namespace, "pods", e.Pod).Do(ctx).Raw()
	if err == nil {
		err = json.Unmarshal(raw, &pod)
	}
	if err != nil {
		return nil, fmt.Errorf("get the pod: %w", err)
	}
	own := owner(&pod)
	with := replacer(e, own)
	if len(h.Annotate)+len(h.Label) > 0 {
		at := own
		if h.Object == Pod {
			at = object{"/api/v1", "pods", "Pod", e.Pod}
		}
		if err := hs.patch(ctx, h, e, at, with); err != nil {
			return done, err
		}
		done = append(done, "marked "+at.String())
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
type object struct{ api, resource, kind, name string }

func (o object) String() string { return o.kind + "/" + o.name }

// owner is the workload that a pod belongs to, or the pod itself where it
// belongs to none that is known here. That a ReplicaSet is a Deployment's its
// name tells, so that no right is needed to look at it.
func owner(pod *corev1.Pod) object {
	c := metav1.GetControllerOf(pod)
	if c == nil {
		return object{"/api/v1", "pods", "Pod", pod.Name}
	}
	hash := pod.Labels["pod-template-hash"]
	if name, ok := strings.CutSuffix(c.Name, "-"+hash); ok && hash != "" && c.Kind == "ReplicaSet" {
		return object{"/apis/apps/v1", "deployments", "Deployment", name}
	}
	switch c.Kind {
	case "ReplicaSet":
		return object{"/apis/apps/v1", "replicasets", c.Kind, c.Name}
	case "StatefulSet":
		return object{"/apis/apps/v1", "statefulsets", c.Kind, c.Name}
	case "DaemonSet":
		return object{"/apis/apps/v1", "daemonsets", c.Kind, c.Name}
	case "Job":
		return object{"/apis/batch/v1", "jobs", c.Kind, c.Name}
	}
	return object{"/api/v1", "pods", "Pod", pod.Name}
}

func replacer(e Event, workload object) *strings.Replacer {
	outcome := "failed"
	if e.Passed {
		outcome = "passed"
	}
	return strings.NewReplacer("{outcome}", outcome, "{scan}", e.Scan, "{policy}", e.Policy, "{at}", e.At.UTC().Format(time.RFC3339),
		"{namespace}", e.Namespace, "{pod}", e.Pod, "{container}", e.Container, "{workload}", workload.String())
}

func (hs *Hooks) patch(ctx context.Context, h Hook, e Event, at object, with *strings.Replacer) error {
	annotations, labels := map[string]string{}, map[string]any{}
	for k, v := range h.Annotate {
		annotations[k] = with.Replace(v)
	}
	for k, v := range h.Label {
		labels[k] = v
		if e.Passed {
			labels[k] = nil // a merge patch takes it off so
		}
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations, "labels": labels}})
	if err != nil {
		return err
	}
	err = hs.client.Patch(types.MergePatchType).AbsPath(at.api, "namespaces", e.Namespace, at.resource, at.name).Body(body).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("mark %s: %w", at, err)
	}
	return nil
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
