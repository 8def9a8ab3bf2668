package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// pod has the running containers named, and belongs to a workload.
func pod(name, hash, kind, owner string, containers ...string) corev1.Pod {
	yes := true
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, Labels: map[string]string{"pod-template-hash": hash},
		OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: owner, Controller: &yes}},
	}}
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	}
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: "stopped"})
	return p
}

func TestSelect(t *testing.T) {
	pods := []corev1.Pod{
		pod("web-5d-1", "5d", "ReplicaSet", "web-5d", "app", "proxy"),
		pod("web-api-6f-1", "6f", "ReplicaSet", "web-api-6f", "app"),
		pod("db-0", "", "StatefulSet", "db", "app"),
		pod("nightly-29-x", "", "Job", "nightly-29", "app"),
	}
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("labelSelector"))
		list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
		list.Items = pods[:2]
		if r.URL.Query().Get("continue") != "" {
			list.Items = pods[2:]
		} else {
			list.Continue = "more"
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(list)
	}))
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	for name, tc := range map[string]struct {
		s    Selection
		want []string
	}{
		"all":           {Selection{}, []string{"web-5d-1/app", "web-5d-1/proxy", "web-api-6f-1/app", "db-0/app", "nightly-29-x/app"}},
		"a deployment":  {Selection{Namespace: "shop", Kind: "Deployment", Name: "web"}, []string{"web-5d-1/app", "web-5d-1/proxy"}},
		"a replica set": {Selection{Namespace: "shop", Kind: "ReplicaSet", Name: "web-api-6f"}, []string{"web-api-6f-1/app"}},
		"a cron job":    {Selection{Namespace: "shop", Kind: "CronJob", Name: "nightly"}, []string{"nightly-29-x/app"}},
		"a pod":         {Selection{Namespace: "shop", Kind: "Pod", Name: "db-0"}, []string{"db-0/app"}},
		"of a pod":      {Selection{Namespace: "shop", Kind: "Pod", Name: "web-5d-1", Container: "proxy"}, []string{"web-5d-1/proxy"}},
		"a container":   {Selection{Container: "proxy"}, []string{"web-5d-1/proxy"}},
		"nothing":       {Selection{Kind: "DaemonSet", Name: "db"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Select(t.Context(), config, tc.s, 10)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range found {
				got = append(got, c.Pod+"/"+c.Name)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	if _, err := Select(t.Context(), config, Selection{Namespace: "shop", Kind: "Pod", Name: "web-5d-1"}, 10); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "name one of app, proxy") {
		t.Errorf("of a pod with two containers: %v", err)
	}
	asked = nil
	if _, err := Select(t.Context(), config, Selection{Namespace: "shop", Labels: "app=web"}, 10); err != nil {
		t.Fatal(err)
	}
	if want := []string{"GET /api/v1/namespaces/shop/pods app=web", "GET /api/v1/namespaces/shop/pods app=web"}; !cmp.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
	if _, err := Select(t.Context(), config, Selection{}, 2); err == nil {
		t.Error("more than the limit were taken")
	}
}

func TestTransient(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d}`, status)
	}))
	for _, tc := range []struct {
		status int
		want   bool
	}{{http.StatusForbidden, false}, {http.StatusNotFound, false}, {http.StatusBadGateway, true}, {http.StatusInternalServerError, true}} {
		status = tc.status
		_, err := Select(t.Context(), &rest.Config{Host: server.URL}, Selection{}, 1)
		if err == nil || Transient(err) != tc.want {
			t.Errorf("%d: %v, want transient %v", status, err, tc.want)
		}
	}
	server.Close()
	if _, err := Select(t.Context(), &rest.Config{Host: server.URL}, Selection{}, 1); !Transient(err) || errors.Is(err, ErrForbidden) {
		t.Errorf("an API server that is away: %v", err)
	}
}
