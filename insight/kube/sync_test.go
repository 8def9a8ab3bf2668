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
	got, kinds []string
	err        error
}

func (s *ids) Put(_ context.Context, id, kind string, r io.Reader) error {
	if s.err != nil {
		return s.err
	}
	_, err := io.Copy(io.Discard, r)
	s.got, s.kinds = append(s.got, id), append(s.kinds, kind)
	return err
}

type everyHour struct{}

func (everyHour) Next(t time.Time) time.Time { return t.Truncate(time.Hour).Add(time.Hour) }

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

func (c fakeClient) Secrets(ctx context.Context, namespace, selector string) ([]corev1.Secret, error) {
	list, err := c.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	return list.Items, err
}

func (c fakeClient) CreateSecret(ctx context.Context, namespace string, secret *corev1.Secret) error {
	_, err := c.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{})
	return err
}

func (c fakeClient) PatchSecret(ctx context.Context, namespace, name string, patch []byte) error {
	_, err := c.CoreV1().Secrets(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (c fakeClient) DeleteSecret(ctx context.Context, namespace, name string, only metav1.Preconditions) error {
	return c.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &only})
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
	t.Run("burned at the next time that a schedule has", func(t *testing.T) {
		client, _, _ := syncOnce(t, configMap(func(*corev1.ConfigMap) {}), &ids{}, false)
		w := NewWatcher(Config{
			Client: fakeClient{Clientset: client}, Spool: &ids{}, BurnAfterReading: true, BurnAt: everyHour{}, Logger: slog.New(slog.DiscardHandler),
		})
		now := configMap(func(cm *corev1.ConfigMap) {
			cm.Annotations[lagoon.AnnotationProcessed] = time.Now().UTC().Format(time.RFC3339)
		})
		again, err := w.sync(t.Context(), &metav1.PartialObjectMetadata{ObjectMeta: now.ObjectMeta})
		if err != nil || again <= 0 || again > time.Hour {
			t.Errorf("looks again in %s, %v", again, err)
		}
		before := configMap(taken)
		if _, err := w.sync(t.Context(), &metav1.PartialObjectMetadata{ObjectMeta: before.ObjectMeta}); err != nil {
			t.Error(err)
		}
		if got := writes(client); len(got) != 2 || got[1] != "delete u 7" {
			t.Errorf("writes %q", got)
		}
	})
	t.Run("which go to Lagoon core", func(t *testing.T) {
		enabled := func(cm *corev1.ConfigMap) { cm.Annotations[lagoon.AnnotationCoreEnabled] = "true" }
		plain := func(*corev1.ConfigMap) {}
		for _, tc := range []struct {
			change func(*corev1.ConfigMap)
			core   ToCore
			kinds  []string
		}{
			{enabled, ToCore{}, []string{"insight"}},
			{plain, ToCore{}, []string{"insight-hub"}},
			{plain, ToCore{All: true}, []string{"insight"}},
			{plain, ToCore{Only: true}, nil},
			{enabled, ToCore{Only: true}, []string{"insight"}},
		} {
			cm := configMap(tc.change)
			client := fake.NewClientset(cm.DeepCopy(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
			s := &ids{}
			w := NewWatcher(Config{Client: fakeClient{Clientset: client}, Spool: s, ToCore: tc.core, Logger: slog.New(slog.DiscardHandler)})
			if _, err := w.sync(t.Context(), &metav1.PartialObjectMetadata{ObjectMeta: cm.ObjectMeta}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.kinds, s.kinds); diff != "" {
				t.Errorf("%+v: %s", tc.core, diff)
			}
			now, err := client.CoreV1().ConfigMaps("ns").Get(t.Context(), "one", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if now.Annotations[lagoon.AnnotationCoreStatus] != "success" || now.Annotations[lagoon.AnnotationProcessed] == "" || now.Annotations[lagoon.AnnotationRetries] != "0" {
				t.Errorf("annotations %v", now.Annotations)
			}
		}
	})
	t.Run("given up where that is asked for", func(t *testing.T) {
		cm := configMap(func(cm *corev1.ConfigMap) { cm.Annotations[lagoon.AnnotationRetries] = "3" })
		client := fake.NewClientset(cm.DeepCopy(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
		w := NewWatcher(Config{Client: fakeClient{Clientset: client}, Spool: &ids{err: errors.New("disk")}, MaxRetries: 3, Logger: slog.New(slog.DiscardHandler)})
		if _, err := w.sync(t.Context(), &metav1.PartialObjectMetadata{ObjectMeta: cm.ObjectMeta}); err != nil {
			t.Fatal(err)
		}
		now, err := client.CoreV1().ConfigMaps("ns").Get(t.Context(), "one", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{lagoon.AnnotationRetries: "4", lagoon.AnnotationCoreStatus: "failure", lagoon.AnnotationCoreError: "disk"}
		if diff := cmp.Diff(want, now.Annotations); diff != "" {
			t.Error(diff)
		}
		if got := now.Labels[lagoon.LabelMaxRetry]; got != "MAX_RETRY_EXCEEDED" {
			t.Errorf("label %q", got)
		}
	})
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

// A Secret's token is renewed in its place before it ends, and one of another
// secret is replaced; a token that never ends stays as it is.
func TestTokenMaker_sync(t *testing.T) {
	ns := lagoon.Namespace{Name: "ns", EnvironmentID: "3", ProjectName: "shop", EnvironmentName: "main"}
	meta := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{
		lagoon.LabelEnvironmentID: "3", lagoon.LabelProject: "shop", lagoon.LabelEnvironment: "main",
	}}}
	token := func(secret string, end time.Time) string {
		token, err := lagoon.NewToken([]byte(secret), ns, end)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	const day = 24 * time.Hour
	hence := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for name, tc := range map[string]struct {
		there string
		life  time.Duration
		kept  bool
		ends  time.Duration // 0 is never
	}{
		"none":                         {"", 0, false, 0},
		"none, and they end":           {"", day, false, day},
		"one that never ends":          {token("secret", time.Time{}), 0, true, 0},
		"one that never ends, but may": {token("secret", time.Time{}), day, false, day},
		"one with half its life":       {token("secret", hence(day/2)), day, true, day / 2},
		"one near its end":             {token("secret", hence(day/4)), day, false, day},
		"one that ends too late":       {token("secret", hence(9*day)), day, false, day},
		"one that ends and needn't":    {token("secret", hence(day)), 0, false, 0},
		"one that has ended":           {token("secret", hence(-day)), day, false, day},
		"one of another secret":        {token("old", time.Time{}), 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			if tc.there != "" {
				client = fake.NewClientset(&corev1.Secret{
					ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: lagoon.TokenSecret, Labels: map[string]string{lagoon.LabelToken: "true"}},
					Data:       map[string][]byte{lagoon.TokenKey: []byte(tc.there)},
				})
			}
			m := &TokenMaker{TokenConfig{Client: fakeClient{Clientset: client}, Secret: []byte("secret"), Life: tc.life, Logger: slog.New(slog.DiscardHandler)}}
			again, err := m.sync(t.Context(), meta)
			if err != nil {
				t.Fatal(err)
			}
			s, err := client.CoreV1().Secrets("ns").Get(t.Context(), lagoon.TokenSecret, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := string(s.Data[lagoon.TokenKey])
			if kept := got == tc.there; kept != tc.kept {
				t.Errorf("kept: %t", kept)
			}
			if parsed, err := lagoon.ParseToken(got, []byte("secret")); err != nil || parsed != ns {
				t.Errorf("%+v, %v", parsed, err)
			}
			end := lagoon.TokenEnd(got)
			if end.IsZero() != (tc.ends == 0) || tc.ends != 0 && time.Until(end).Round(time.Minute) != tc.ends {
				t.Errorf("ends %s, want in %s", end, tc.ends)
			}
			if (again > 0) != (tc.life > 0) || again > tc.life*2/3 {
				t.Errorf("looks again in %s", again)
			}
		})
	}
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
