package e2e

import (
	"maps"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// clientConfig is how a program made with client-go goes through the hub.
func (w *world) clientConfig(t *testing.T, kubeconfig string) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(w.dir, kubeconfig+".kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1 // client-go's own limit isn't what is under test
	return cfg
}

// informersGoOn has an informer follow ConfigMaps while the agent and then
// the hub are killed. What happens meanwhile it must know when they are back.
func (w *world) informersGoOn(t *testing.T) {
	client, err := kubernetes.NewForConfig(w.clientConfig(t, "exec"))
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(clients))
	defer factory.Shutdown()
	stop := make(chan struct{})
	defer close(stop)
	informer := factory.Core().V1().ConfigMaps().Informer()
	var events locked[string]
	name := func(obj any) string { return obj.(*corev1.ConfigMap).Name }
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { events.add("add " + name(obj)) },
		UpdateFunc: func(before, obj any) {
			// An informer that lists again tells of what it had already, too.
			if m := obj.(*corev1.ConfigMap); m.ResourceVersion != before.(*corev1.ConfigMap).ResourceVersion {
				events.add("update " + m.Name + "=" + m.Data["key"])
			}
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			events.add("delete " + name(obj))
		},
	}); err != nil {
		t.Fatal(err)
	}
	factory.Start(stop)
	if !cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced) {
		t.Fatal("the informer never listed")
	}
	direct := func(args ...string) {
		t.Helper()
		if _, err := w.k.Kubectl(w.ctx, "", append([]string{"-n", clients}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want map[string]string) {
		t.Helper()
		var got map[string]string
		w.await(t, "what the informer has", func() (bool, error) {
			got = map[string]string{}
			for _, obj := range informer.GetStore().List() {
				if m := obj.(*corev1.ConfigMap); m.Name != "kube-root-ca.crt" {
					got[m.Name] = m.Data["key"]
				}
			}
			return maps.Equal(got, want), nil
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
	direct("create", "configmap", "one", "--from-literal=key=1")
	direct("create", "configmap", "two", "--from-literal=key=1")
	has(map[string]string{"one": "1", "two": "1"})

	w.agent.kill(syscall.SIGKILL)
	direct("delete", "configmap", "one")
	direct("patch", "configmap", "two", "-p", `{"data": {"key": "2"}}`)
	w.startAgent("")
	has(map[string]string{"two": "2"})

	w.hub.kill(syscall.SIGKILL)
	direct("create", "configmap", "three", "--from-literal=key=3")
	w.startHub()
	has(map[string]string{"two": "2", "three": "3"})

	direct("delete", "configmap", "three") // a watch is on again
	has(map[string]string{"two": "2"})

	counts := map[string]int{}
	for _, e := range events.all() {
		counts[e]++
	}
	delete(counts, "add kube-root-ca.crt")
	if diff := cmp.Diff(map[string]int{"add one": 1, "add two": 1, "delete one": 1, "update two=2": 1, "add three": 1, "delete three": 1}, counts); diff != "" {
		t.Error("events that the informer told of:", diff)
	}
	w.awaitAgent(t, agentName)
}
