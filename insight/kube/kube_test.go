package kube_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reeve.dev/reeve/insight/kube"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

// cluster is a namespace of a real Kubernetes.
type cluster struct {
	kubernetes.Interface
	client    kube.Client
	metadata  metadata.Interface
	config    *rest.Config
	namespace string
}

// connect makes a namespace, labelled as a Lagoon environment, that is
// deleted when the test ends.
func connect(t *testing.T) *cluster {
	t.Helper()
	path := os.Getenv("REEVE_TEST_KUBECONFIG")
	if path == "" {
		t.Skip("needs a Kubernetes that may be written to: set REEVE_TEST_KUBECONFIG to its kubeconfig (cd e2e && go run ./cmd/cluster starts one)")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1 // this test polls
	c := &cluster{Interface: kubernetes.NewForConfigOrDie(cfg), metadata: metadata.NewForConfigOrDie(cfg), config: cfg}
	if c.client, err = kube.NewClient(cfg); err != nil {
		t.Fatal(err)
	}
	ns, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "insight-",
		Labels:       map[string]string{lagoon.LabelProject: "shop", lagoon.LabelEnvironment: "main", lagoon.LabelEnvironmentID: "3"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.namespace = ns.Name
	t.Cleanup(func() {
		if err := c.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *cluster) create(t *testing.T, cm *corev1.ConfigMap) *corev1.ConfigMap {
	t.Helper()
	cm, err := c.CoreV1().ConfigMaps(c.namespace).Create(t.Context(), cm, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cm
}

// sees waits until the ConfigMap is as cond says; a ConfigMap that is gone is
// nil.
func (c *cluster) sees(t *testing.T, name, what string, cond func(*corev1.ConfigMap) bool) {
	t.Helper()
	until(t, what, func() bool {
		cm, err := c.CoreV1().ConfigMaps(c.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return cond(nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return cond(cm)
	})
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}

func processed(cm *corev1.ConfigMap) bool {
	if cm == nil {
		return false
	}
	_, err := time.Parse(time.RFC3339, cm.Annotations[lagoon.AnnotationProcessed])
	return err == nil
}

func openSpool(t *testing.T, cfg spool.Config) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// start runs f until the returned function is called or the test ends.
func start(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

func (c *cluster) watcher(s kube.Spool, change func(*kube.Config)) *kube.Watcher {
	cfg := kube.Config{Client: c.client, Metadata: c.metadata, Namespace: c.namespace, Spool: s, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	return kube.NewWatcher(cfg)
}

func sbomMap(name, doc string) *corev1.ConfigMap {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, doc)
	z.Close()
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{lagoon.LabelInsightsType: "sbom-gz", lagoon.LabelService: "nginx", lagoon.LabelBuildName: "b1"},
			Annotations: map[string]string{"lagoon.sh/branch": "main"},
		},
		BinaryData: map[string][]byte{"nginx.cyclonedx.json.gz": b.Bytes()},
	}
}

func messages(t *testing.T, s *spool.Spool) (got []lagoon.ConfigMap) {
	t.Helper()
	for _, it := range s.List() {
		r, err := it.Open()
		if err != nil {
			t.Fatal(err)
		}
		var m lagoon.ConfigMap
		if err := json.NewDecoder(r).Decode(&m); err != nil {
			t.Fatal(err)
		}
		r.Close()
		got = append(got, m)
	}
	return got
}

func TestWatcher(t *testing.T) {
	c := connect(t)
	s := openSpool(t, spool.Config{})
	before := c.create(t, sbomMap("before", "1"))
	other := c.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	unknown := sbomMap("unknown", "2")
	unknown.Labels[lagoon.LabelInsightsType] = "cheese"
	unknown = c.create(t, unknown)
	stop := start(t, c.watcher(s, nil).Run)
	c.sees(t, "before", "what was there is taken", processed)
	want := lagoon.ConfigMap{
		BinaryPayload: before.BinaryData, Annotations: before.Annotations, Labels: before.Labels,
		Namespace: c.namespace, Environment: "main", Service: "nginx", Project: "shop", Type: lagoon.TypeSBOM,
	}
	if diff := cmp.Diff([]lagoon.ConfigMap{want}, messages(t, s)); diff != "" {
		t.Error(diff)
	}

	after := c.create(t, sbomMap("after", "3"))
	c.sees(t, "after", "what comes later is taken", processed)

	// The producer replaces a ConfigMap as a whole, with its metadata.
	after.ResourceVersion, after.BinaryData = "", map[string][]byte{"nginx.cyclonedx.json.gz": {4}}
	if _, err := c.CoreV1().ConfigMaps(c.namespace).Update(t.Context(), after, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.sees(t, "after", "what was replaced is taken again", processed)
	if got := messages(t, s); len(got) != 3 || !cmp.Equal(got[2].BinaryPayload, after.BinaryData) {
		t.Errorf("%d messages, want 3 with the new payload last", len(got))
	}

	// A restarted agent takes nothing twice, and leaves alone what isn't ours.
	stop()
	stop = start(t, c.watcher(s, nil).Run)
	c.create(t, sbomMap("last", "5"))
	c.sees(t, "last", "the restarted agent works", processed)
	stop()
	if got := s.Stats().Items; got != 4 {
		t.Errorf("%d messages, want 4", got)
	}
	for _, cm := range []*corev1.ConfigMap{other, unknown} {
		c.sees(t, cm.Name, "untouched", func(now *corev1.ConfigMap) bool { return now.ResourceVersion == cm.ResourceVersion })
	}
}

func TestWatcher_crashBeforeTheAnnotation(t *testing.T) {
	c := connect(t)
	s := openSpool(t, spool.Config{})
	c.create(t, sbomMap("one", "1"))
	// The agent dies when the spool has the message and nobody else knows.
	ctx, die := context.WithCancelCause(t.Context())
	crash := errors.New("crash")
	err := c.watcher(putFunc(func(_ context.Context, id, kind string, r io.Reader) error {
		err := s.Put(context.Background(), id, kind, r)
		die(crash)
		return err
	}), nil).Run(ctx)
	if !errors.Is(err, crash) || s.Stats().Items != 1 {
		t.Fatalf("%v, %+v", err, s.Stats())
	}
	start(t, c.watcher(s, nil).Run)
	c.sees(t, "one", "taken again", processed)
	if got := s.Stats().Items; got != 1 {
		t.Errorf("%d messages, want the one", got)
	}
}

type putFunc func(ctx context.Context, id, kind string, r io.Reader) error

func (f putFunc) Put(ctx context.Context, id, kind string, r io.Reader) error {
	return f(ctx, id, kind, r)
}

func TestWatcher_fullSpool(t *testing.T) {
	c := connect(t)
	s := openSpool(t, spool.Config{MaxItems: 1})
	if err := s.Put(t.Context(), "in the way", "test", strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	c.create(t, sbomMap("one", "1"))
	start(t, c.watcher(s, func(cfg *kube.Config) { cfg.DeferFor = time.Second }).Run)
	c.sees(t, "one", "deferred, and tried more than once", func(cm *corev1.ConfigMap) bool {
		return cm.Labels[lagoon.LabelWriteDeferred] != "" && cm.Annotations[lagoon.AnnotationRetries] >= "2"
	})
	ctx, cancel := context.WithCancel(t.Context())
	s.Drain(ctx, func(context.Context, spool.Item) error { cancel(); return nil })
	c.sees(t, "one", "taken when there is room", func(cm *corev1.ConfigMap) bool {
		return processed(cm) && cm.Labels[lagoon.LabelWriteDeferred] == ""
	})
	if got := messages(t, s); len(got) != 1 || got[0].Labels[lagoon.LabelService] != "nginx" {
		t.Errorf("messages %+v", got)
	}
}

func TestWatcher_burnAfterReading(t *testing.T) {
	c := connect(t)
	s := openSpool(t, spool.Config{})
	start(t, c.watcher(s, func(cfg *kube.Config) { cfg.BurnAfterReading = true }).Run)
	for i := range 3 {
		name := fmt.Sprint("burn-", i)
		c.create(t, sbomMap(name, name))
		c.sees(t, name, "burned", func(cm *corev1.ConfigMap) bool { return cm == nil })
	}
	if got := s.Stats().Items; got != 3 {
		t.Errorf("%d messages, want 3", got)
	}
}

func TestTokenMaker(t *testing.T) {
	c := connect(t)
	maker, err := kube.NewTokenMaker(kube.TokenConfig{
		Client: c.client, Metadata: c.metadata, Secret: []byte("secret"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	secrets := c.CoreV1().Secrets(c.namespace)
	start(t, maker.Run)
	token := func() (ns lagoon.Namespace) {
		until(t, "the Secret is there", func() bool {
			s, err := secrets.Get(t.Context(), lagoon.TokenSecret, metav1.GetOptions{})
			if err != nil {
				return false
			}
			if diff := cmp.Diff(map[string]string{lagoon.LabelToken: "true", lagoon.LabelDynamicSecret: "insights-token"}, s.Labels, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			ns, err = lagoon.ParseToken(string(s.Data[lagoon.TokenKey]), []byte("secret"))
			return err == nil
		})
		return ns
	}
	want := lagoon.Namespace{Name: c.namespace, EnvironmentID: "3", ProjectName: "shop", EnvironmentName: "main"}
	if diff := cmp.Diff(want, token()); diff != "" {
		t.Error(diff)
	}

	// A token that says something else is replaced when the namespace changes.
	patch := fmt.Sprintf(`{"data":{%q:"Zm9yZ2Vk"}}`, lagoon.TokenKey)
	if _, err := secrets.Patch(t.Context(), lagoon.TokenSecret, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	relabel := fmt.Sprintf(`{"metadata":{"labels":{%q:"4"}}}`, lagoon.LabelEnvironmentID)
	if _, err := c.CoreV1().Namespaces().Patch(t.Context(), c.namespace, "application/merge-patch+json", []byte(relabel), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	want.EnvironmentID = "4"
	if diff := cmp.Diff(want, token()); diff != "" {
		t.Error(diff)
	}
}

// Two agents and a real API server: one of them works, and the other takes
// over when it ends.
func TestLeader_cluster(t *testing.T) {
	c := connect(t)
	leases, err := kube.NewLeases(c.config)
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan string)
	run := func(name string) (stop func()) {
		l := &kube.Leader{Leases: leases, Namespace: c.namespace, Name: "ac8a682b.lagoon.sh", Identity: name, Logger: slog.New(slog.DiscardHandler)}
		return start(t, func(ctx context.Context) error {
			return l.Run(ctx, func(ctx context.Context) error {
				began <- name
				<-ctx.Done()
				return context.Cause(ctx)
			})
		})
	}
	stop := run("a")
	if got := <-began; got != "a" {
		t.Fatalf("%s began", got)
	}
	run("b")
	stop()
	if got := <-began; got != "b" {
		t.Fatalf("%s began", got)
	}
	lease, err := c.CoordinationV1().Leases(c.namespace).Get(t.Context(), "ac8a682b.lagoon.sh", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *lease.Spec.HolderIdentity != "b" || *lease.Spec.LeaseTransitions != 2 || *lease.Spec.LeaseDurationSeconds != 15 {
		t.Errorf("the lease says %+v", lease.Spec)
	}
}
