package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/scan"
	scankube "reeve.dev/reeve/scan/kube"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

const (
	inventoryNamespaces = 500
	inventoryEach       = 5 // pods of a workload
	inventorySubjects   = 10_000
)

// inventory has an agent's inventory of a cluster reported to a hub with SQLite: all
// of it, a part that is new, and nothing; while as many containers of it are subjects
// of a policy by their scans. And it says what the agent's watch takes.
func inventory(ctx context.Context, opt options, report *Report) error {
	if err := watching(ctx, opt.pods, report); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.DiscardHandler)
	s, err := sqlite.Open(ctx, filepath.Join(dir, "reeve.db"), log)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := scannedPods(ctx, s, opt.pods); err != nil {
		return err
	}
	handler := insightlink.InventoryHandler(s, log)
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), fleet.Peer{Agent: "bench"})))
	}))
	defer hub.Close()
	to := &insightlink.Client{Base: hub.URL, HTTP: hub.Client(), Logger: log}
	v := insight.View{Namespaces: map[string]string{}, CronJobs: true}
	put := func(generation int, namespaces ...int) (took, cpu time.Duration, err error) {
		v.Contents = map[string]insight.Contents{}
		for _, n := range namespaces {
			name := fmt.Sprint("ns-", n)
			v.Namespaces[name], v.Contents[name] = fmt.Sprint(generation), podsOf(n, generation, opt.pods)
		}
		before, began := cpuTime(), time.Now()
		wanted, err := to.SendView(ctx, v)
		if err == nil && len(wanted) > 0 {
			err = fmt.Errorf("the hub wants %d namespaces", len(wanted))
		}
		return time.Since(began), cpuTime() - before, err
	}
	every := make([]int, inventoryNamespaces)
	for i := range every {
		every[i] = i
	}
	first, _, err := put(0, every...)
	if err != nil {
		return err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	allocated := m.TotalAlloc
	fewest, idle := time.Hour, time.Hour
	const changes = 20
	var spent time.Duration
	for i := range changes {
		took, cpu, err := put(i+1, i*10, i*10+1, i*10+2, i*10+3, i*10+4)
		if err != nil {
			return err
		}
		fewest, spent = min(fewest, took), spent+cpu
	}
	runtime.ReadMemStats(&m)
	each := float64(m.TotalAlloc-allocated) / changes / (1 << 20)
	for range changes {
		took, _, err := put(0)
		if err != nil {
			return err
		}
		idle = min(idle, took)
	}
	report.Add(
		Row{Name: fmt.Sprintf("inventory of %d pods: all of it, once", opt.pods), Value: ms(first), Unit: "ms"},
		Row{Name: "1% of that is new: agent to hub, stored and held against subjects", Value: ms(fewest), Unit: "ms", Peer: "a hundredth of the 10 s between two", PeerValue: 100, Bar: 1},
		Row{Name: "CPU of that, of both", Value: ms(spent / changes), Unit: "ms"},
		Row{Name: "memory allocated for that, by both", Value: each, Unit: "MiB"},
		Row{Name: "nothing is new", Value: ms(idle), Unit: "ms"},
	)
	return nil
}

// podsOf are the contents of a namespace.
func podsOf(namespace, generation, pods int) insight.Contents {
	c := insight.Contents{Pods: map[string][]string{}}
	name := fmt.Sprint("ns-", namespace)
	for i := range pods / inventoryNamespaces {
		w := i / inventoryEach
		if i%inventoryEach == 0 {
			for _, container := range []string{"app", "proxy"} {
				c.Workloads = append(c.Workloads, insight.Workload{
					Namespace: name, Kind: "Deployment", Name: fmt.Sprint("web-", w), Container: container, Image: fmt.Sprint("registry.example/", container, ":", generation),
					Digest: fmt.Sprintf("sha256:%064d", generation), Pods: inventoryEach, Labels: map[string]string{"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop"},
				})
			}
		}
		c.Pods[fmt.Sprintf("web-%d-5d4f5c7b9-%05d", w, i)] = []string{"app", "proxy"}
	}
	return c
}

// scannedPods has the containers called app be subjects of a policy.
func scannedPods(ctx context.Context, s *store.Store, pods int) error {
	now := time.Now()
	left := inventorySubjects
	for n := range inventoryNamespaces {
		for pod := range podsOf(n, 0, pods).Pods {
			if left == 0 {
				return nil
			}
			left--
			c := scan.Scan{ID: scan.NewID(), Created: now, Expires: now.Add(time.Hour), Request: scan.Request{
				Profile: "p", Target: scan.Target{Agent: "bench", Namespace: fmt.Sprint("ns-", n), Pod: pod, Container: "app"},
			}}
			if err := s.CreateScan(ctx, c); err != nil {
				return err
			}
			r := fleet.Result{Outcome: fleet.Outcome{Subject: c.Request.Target.Subject(), Policy: "p", Details: "so it is"}, Agent: "bench", Namespace: c.Request.Target.Namespace}
			if err := s.FinishScan(ctx, scan.Finish{ID: c.ID, Status: scan.Completed, Verdict: scan.Verdict{Outcome: scan.Failed}, Results: []fleet.Result{r}}, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// watching is the heap of an agent's watch of as many pods, which an API server
// sends as pods are that real controllers make.
func watching(ctx context.Context, pods int, report *Report) error {
	yes := true
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		to := json.NewEncoder(w)
		send := func(kind watch.EventType, pod *corev1.Pod) {
			pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
			to.Encode(map[string]any{"type": kind, "object": pod}) // the client that is gone asks for no more
		}
		for i := range pods {
			send(watch.Added, benchPod(i, &yes))
		}
		end := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}
		send(watch.Bookmark, end)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer api.Close()
	before := heap()
	w, err := scankube.NewWatcher(&rest.Config{Host: api.URL}, nil, nil, func(scankube.Deployment) error { return nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() { stop(); <-ended }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ok := false; !ok; _, ok = w.Namespaces() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	report.Add(Row{Name: fmt.Sprintf("heap of the agent's watch of %d pods", pods), Value: float64(heap()-before) / (1 << 20), Unit: "MiB"})
	return nil
}

// heap is what is in use, after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// benchPod is a pod of two containers, with what else a pod has: some 8 KB.
func benchPod(i int, yes *bool) *corev1.Pod {
	w := i / inventoryEach
	hash := fmt.Sprintf("%09d", w)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprint("ns-", w%inventoryNamespaces), Name: fmt.Sprintf("web-%d-%s-%05d", w, hash, i), UID: types.UID(fmt.Sprintf("uid-%032d", i)), ResourceVersion: "1",
			Labels:          map[string]string{"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "pod-template-hash": hash},
			Annotations:     map[string]string{"checksum/config": strings.Repeat("c", 64), "prometheus.io/scrape": "true"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprintf("web-%d-%s", w, hash), UID: "uid", Controller: yes}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(`{"f:status":"` + strings.Repeat("f", 3000) + `"}`)}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range []string{"app", "proxy"} {
		var env []corev1.EnvVar
		for n := range 20 {
			env = append(env, corev1.EnvVar{Name: fmt.Sprint("SETTING_", n), Value: strings.Repeat("v", 40)})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c, Image: "registry.example/" + c + ":1", Env: env})
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c, ImageID: fmt.Sprintf("registry.example/%s@sha256:%064d", c, w%500), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		})
	}
	return pod
}
