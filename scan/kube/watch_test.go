package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// podOf is a pod of a deployment, with one container that runs an image whose
// digest repeats a character.
func podOf(name, digest string) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: "uid-" + "x", Labels: map[string]string{"app": "web", "pod-template-hash": "5d4f"},
			Annotations:     map[string]string{"scan-profile": "p", "other": strings.Repeat("x", 1000)},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5d4f", Controller: &yes}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example/web:1"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", ImageID: "registry.example/web@sha256:" + strings.Repeat(digest, 64), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{Name: "waits", ImageID: "x@sha256:" + strings.Repeat("e", 64)},
		}},
	}
}

// TestWatcher_look tells a story of a deployment's pods.
func TestWatcher_look(t *testing.T) {
	var told []Deployment
	var refuse error
	const before = "shop/Deployment/web/app@sha256:"
	w, err := NewWatcher(&rest.Config{Host: "http://localhost"}, []string{before + strings.Repeat("0", 64)}, []string{"scan-profile"}, func(d Deployment) error {
		if refuse == nil {
			told = append(told, d)
		}
		return refuse
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	see := func(pod *corev1.Pod) {
		t.Helper()
		small, err := w.trim(pod)
		if err != nil {
			t.Fatal(err)
		}
		w.look(t.Context(), small)
	}
	want := func(why string, digests ...string) {
		t.Helper()
		var got []string
		for _, d := range told {
			got = append(got, d.Digest[len(d.Digest)-1:])
		}
		if diff := cmp.Diff(digests, got); diff != "" {
			t.Errorf("%s: %s", why, diff)
		}
	}
	see(podOf("web-1", "0"))
	want("what ran before the start")
	see(podOf("web-2", "1"))
	see(podOf("web-3", "1"))
	see(podOf("web-3", "1"))
	want("a new image, in two pods", "1")
	if diff := cmp.Diff(Deployment{
		Namespace: "shop", Pod: "web-2", PodID: "uid-x", Container: "app", Kind: "Deployment", Workload: "web",
		Image: "registry.example/web:1", Digest: "sha256:" + strings.Repeat("1", 64),
		Labels: map[string]string{"app": "web", "pod-template-hash": "5d4f"}, Annotations: map[string]string{"scan-profile": "p"},
	}, told[0]); diff != "" {
		t.Error(diff)
	}
	refuse = errors.New("the disk is full")
	see(podOf("web-3", "2"))
	refuse = nil
	want("not taken", "1")
	see(podOf("web-3", "2"))
	want("told again", "1", "2")
	w.forget(podOf("web-1", "0"))
	see(podOf("web-1", "0"))
	want("rolled back", "1", "2", "0")
	w.forget(podOf("web-1", "0"))
	w.forget(podOf("web-2", "1"))
	w.forget(podOf("web-3", "2"))
	if left := w.Running(); len(left) != 0 {
		t.Errorf("of what has gone there is left %q", left)
	}
}

// TestWatcher_Inventory: pods are there whether their containers run or not, and what
// prepares one that is pending isn't deployed.
func TestWatcher_Inventory(t *testing.T) {
	w, err := NewWatcher(&rest.Config{Host: "http://localhost"}, nil, nil, func(Deployment) error { return nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var version uint64
	expect := func(what string, changed bool, running map[string]string, pods map[string][]string) {
		t.Helper()
		versions, _ := w.Namespaces()
		if now := versions["shop"]; changed != (now != version) {
			t.Errorf("%s: changed: %v", what, !changed)
		}
		version = versions["shop"]
		found, count, all := w.Inventory("shop")
		got := map[string]string{}
		for key, d := range found {
			got[strings.TrimRight(key, "0123456789")] = fmt.Sprintf("%s of %d", d.Pod, count[key])
		}
		if d := cmp.Diff(running, got); d != "" {
			t.Errorf("%s: running (-want +got):\n%s", what, d)
		}
		if d := cmp.Diff(pods, all); d != "" {
			t.Errorf("%s: pods (-want +got):\n%s", what, d)
		}
	}
	see := func(pod *corev1.Pod) {
		t.Helper()
		small, err := w.trim(pod)
		if err != nil {
			t.Fatal(err)
		}
		w.look(t.Context(), small)
	}
	const app = "shop/Deployment/web/app@sha256:"
	both := map[string][]string{"web-1": {"app"}, "web-2": {"app"}}
	see(podOf("web-2", "1"))
	see(podOf("web-1", "1"))
	expect("two pods", true, map[string]string{app: "web-1 of 2"}, both)
	see(podOf("web-1", "1"))
	expect("nothing new", false, map[string]string{app: "web-1 of 2"}, both)
	crashed := podOf("web-1", "1")
	crashed.Status.ContainerStatuses[0].State = corev1.ContainerState{}
	see(crashed)
	expect("one has crashed", true, map[string]string{app: "web-2 of 1"}, both)
	pending := podOf("web-2", "1")
	pending.Status.Phase = corev1.PodPending
	pending.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	see(pending)
	expect("one is prepared", true, map[string]string{}, map[string][]string{"web-1": {"app"}, "web-2": {"init", "app"}})
	entered := podOf("web-1", "1")
	entered.Spec.EphemeralContainers = []corev1.EphemeralContainer{
		(&entering{pod: podOf("web-1", "1")}).scanner("reeve-1"), {EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debugger"}},
	}
	see(entered)
	expect("one is debugged and scanned", true, map[string]string{app: "web-1 of 1"}, map[string][]string{"web-1": {"app", "debugger"}, "web-2": {"init", "app"}})
	w.forget(cache.DeletedFinalStateUnknown{Key: "shop/web-1"})
	w.forget(podOf("web-2", "1"))
	expect("none is left", true, map[string]string{}, map[string][]string{})
	if versions, ok := w.Namespaces(); ok || len(versions) != 0 {
		t.Errorf("namespaces %v, %v, before all pods were looked at", versions, ok)
	}
}

// TestDeployments_scannersName: nobody hides a container by how he calls it.
func TestDeployments_scannersName(t *testing.T) {
	pod := podOf("web-1", "1")
	pod.Status.ContainerStatuses[0].Name = SidecarName
	if all := deployments(pod); len(all) != 1 || all[0].Container != SidecarName {
		t.Errorf("deployments %+v", all)
	}
}

func TestWorkloadOf(t *testing.T) {
	yes := true
	for _, tt := range []struct{ kind, name, hash, want string }{
		{"ReplicaSet", "web-5d4f", "5d4f", "Deployment/web"},
		{"ReplicaSet", "web-5d4f", "", "ReplicaSet/web-5d4f"},
		{"Job", "nightly-29384756", "", "CronJob/nightly"},
		{"Job", "once-7", "", "Job/once-7"},
		{"StatefulSet", "db", "", "StatefulSet/db"},
		{"", "", "", "/"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"pod-template-hash": tt.hash}}}
		if tt.kind != "" {
			pod.OwnerReferences = []metav1.OwnerReference{{Kind: tt.kind, Name: tt.name, Controller: &yes}}
		}
		if kind, name := workloadOf(pod); kind+"/"+name != tt.want {
			t.Errorf("%s %s: %s/%s, want %s", tt.kind, tt.name, kind, name, tt.want)
		}
	}
}
