package kube

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"reeve.dev/reeve/insight/lagoon"
)

// These run without a cluster and show what a real API server can't be made
// to do at a chosen moment; kube_test.go has the rest.

type ids struct {
	got []string
	err error
}

func (s *ids) Put(_ context.Context, id, _ string, r io.Reader) error {
	if s.err != nil {
		return s.err
	}
	_, err := io.Copy(io.Discard, r)
	s.got = append(s.got, id)
	return err
}

func configMap(change func(*corev1.ConfigMap)) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "one", UID: "u", ResourceVersion: "7",
			Labels: map[string]string{lagoon.LabelInsightsType: "sbom-gz"}, Annotations: map[string]string{},
		},
	}
	change(cm)
	return cm
}

// fakeClient is client-go's fake, as far as a Watcher asks it.
type fakeClient struct {
	Client
	*fake.Clientset
}

func (c fakeClient) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return c.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (c fakeClient) PatchConfigMap(ctx context.Context, namespace, name string, patch []byte) error {
	_, err := c.CoreV1().ConfigMaps(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (c fakeClient) DeleteConfigMap(ctx context.Context, namespace, name string, only metav1.Preconditions) error {
	return c.CoreV1().ConfigMaps(namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &only})
}

func (c fakeClient) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return c.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
}

func syncOnce(t *testing.T, cm *corev1.ConfigMap, s *ids, burn bool, reactors ...clienttesting.SimpleReactor) (*fake.Clientset, time.Duration, error) {
	t.Helper()
	client := fake.NewClientset(cm.DeepCopy(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	for i := range reactors {
		client.PrependReactor(reactors[i].Verb, reactors[i].Resource, reactors[i].Reaction)
	}
	w := NewWatcher(Config{Client: fakeClient{Clientset: client}, Spool: s, BurnAfterReading: burn, Logger: slog.New(slog.DiscardHandler)})
	again, err := w.sync(t.Context(), &metav1.PartialObjectMetadata{ObjectMeta: cm.ObjectMeta})
	return client, again, err
}

func writes(c *fake.Clientset) (got []string) {
	for _, a := range c.Actions() {
		switch a := a.(type) {
		case clienttesting.PatchAction:
			got = append(got, string(a.GetPatch()))
		case clienttesting.DeleteActionImpl:
			p := a.DeleteOptions.Preconditions
			got = append(got, "delete "+string(*p.UID)+" "+*p.ResourceVersion)
		}
	}
	return got
}

func refuse(verb string, err error) clienttesting.SimpleReactor {
	return clienttesting.SimpleReactor{Verb: verb, Resource: "configmaps", Reaction: func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, err
	}}
}

func TestWatcher_sync(t *testing.T) {
	conflict := apierrors.NewConflict(corev1.Resource("configmaps"), "one", errors.New("replaced"))
	future := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	taken := func(cm *corev1.ConfigMap) { cm.Annotations[lagoon.AnnotationProcessed] = "2026-01-01T00:00:00Z" }
	for name, tc := range map[string]struct {
		change func(*corev1.ConfigMap)
		burn   bool
		writes []string
	}{
		"taken before":         {change: taken},
		"taken before, burned": {change: taken, burn: true, writes: []string{"delete u 7"}},
		"given up":             {change: func(cm *corev1.ConfigMap) { cm.Labels[lagoon.LabelMaxRetry] = "MAX_RETRY_EXCEEDED" }},
		"not for us":           {change: func(cm *corev1.ConfigMap) { cm.Labels[lagoon.LabelType] = "direct" }},
		"going away": {change: func(cm *corev1.ConfigMap) {
			cm.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			cm.Finalizers = []string{"x/y"}
		}},
		"deferred until then": {
			change: func(cm *corev1.ConfigMap) { cm.Labels[lagoon.LabelWriteDeferred] = "1700000000" },
			writes: []string{`{"metadata":{"resourceVersion":"7","labels":{"lagoon.sh/insightsWriteDeferred":null}}}`},
		},
		"deferred until nonsense": {
			change: func(cm *corev1.ConfigMap) { cm.Labels[lagoon.LabelWriteDeferred] = "soon" },
			writes: []string{`{"metadata":{"resourceVersion":"7","labels":{"lagoon.sh/insightsWriteDeferred":null}}}`},
		},
		"deferred still": {change: func(cm *corev1.ConfigMap) { cm.Labels[lagoon.LabelWriteDeferred] = future }},
	} {
		t.Run(name, func(t *testing.T) {
			s := &ids{}
			client, again, err := syncOnce(t, configMap(tc.change), s, tc.burn)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.writes, writes(client)); diff != "" {
				t.Error(diff)
			}
			if s.got != nil {
				t.Errorf("spooled %v", s.got)
			}
			if wait := name == "deferred still"; wait != (again > 0) {
				t.Errorf("looks again in %s", again)
			}
		})
	}
	t.Run("replaced between the spool and the annotation", func(t *testing.T) {
		s := &ids{}
		_, _, err := syncOnce(t, configMap(func(*corev1.ConfigMap) {}), s, false, refuse("patch", conflict))
		if err != nil {
			t.Errorf("a conflict is the cache's to resolve, got %v", err)
		}
		if diff := cmp.Diff([]string{"configmap/u/7"}, s.got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("replaced before it is burned", func(t *testing.T) {
		if _, _, err := syncOnce(t, configMap(taken), &ids{}, true, refuse("delete", conflict)); err != nil {
			t.Error(err)
		}
	})
	t.Run("the API server is away for the annotation", func(t *testing.T) {
		away := apierrors.NewServiceUnavailable("etcd")
		if _, _, err := syncOnce(t, configMap(func(*corev1.ConfigMap) {}), &ids{}, false, refuse("patch", away)); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("got %v, want an error that is tried again", err)
		}
	})
	t.Run("the spool refuses", func(t *testing.T) {
		cm := configMap(func(cm *corev1.ConfigMap) { cm.Annotations[lagoon.AnnotationRetries] = "4" })
		client, _, err := syncOnce(t, cm, &ids{err: errors.New("disk")}, false)
		if err != nil {
			t.Fatal(err)
		}
		now, err := client.CoreV1().ConfigMaps("ns").Get(t.Context(), "one", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		until, err := strconv.ParseInt(now.Labels[lagoon.LabelWriteDeferred], 10, 64)
		if d := time.Until(time.Unix(until, 0)); err != nil || d < 4*time.Minute || d > 5*time.Minute {
			t.Errorf("deferred by %s, %v", d, err)
		}
		if got := now.Annotations[lagoon.AnnotationRetries]; got != "5" {
			t.Errorf("retries %q, want 5", got)
		}
		if _, ok := now.Annotations[lagoon.AnnotationProcessed]; ok {
			t.Error("annotated as taken")
		}
	})
}

func TestController_trim(t *testing.T) {
	c := &controller{keep: []string{"kept"}}
	m := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Annotations:   map[string]string{"kept": "1", "kubectl.kubernetes.io/last-applied-configuration": "{…}"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}}
	if _, err := c.trim(m); err != nil {
		t.Fatal(err)
	}
	want := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"kept": "1"}}}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
}
