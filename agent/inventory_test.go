package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	insightlink "reeve.dev/reeve/insight/link"
	scankube "reeve.dev/reeve/scan/kube"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

func TestWorkloads(t *testing.T) {
	web := scankube.Deployment{
		Namespace: "shop", Pod: "web-1", Container: "php", Kind: "Deployment", Workload: "web", Image: "web:1", Digest: "sha256:1",
		Labels: map[string]string{"lagoon.sh/service": "nginx", "pod-template-hash": "5f"},
	}
	alone := scankube.Deployment{Namespace: "blog", Pod: "once", Container: "c", Image: "once:1", Digest: "sha256:2"}
	got := workloads(map[string]scankube.Deployment{web.Key(): web, alone.Key(): alone}, map[string]int{web.Key(): 3, alone.Key(): 1})
	want := []insight.Workload{
		{Namespace: "blog", Kind: "Pod", Name: "once", Container: "c", Image: "once:1", Digest: "sha256:2", Pods: 1},
		{Namespace: "shop", Kind: "Deployment", Name: "web", Container: "php", Image: "web:1", Digest: "sha256:1", Service: "nginx", Pods: 3, Labels: map[string]string{"lagoon.sh/service": "nginx"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// cluster is what a watcher knows: pods of their own, by namespace, each with a
// container c that runs.
type cluster struct {
	pods        map[string][]string
	versions    map[string]uint64
	cronJobs    map[string][]string
	annotations map[string]string
	err         error // of what is asked for
}

func (c *cluster) set(namespace string, pods ...string) {
	c.pods[namespace] = pods
	c.versions[namespace]++
	if len(pods) == 0 {
		delete(c.versions, namespace)
	}
}

func (c *cluster) Namespaces() (map[string]uint64, bool) { return maps.Clone(c.versions), true }

func (c *cluster) Inventory(namespace string) (map[string]scankube.Deployment, map[string]int, map[string][]string) {
	running, count, pods := map[string]scankube.Deployment{}, map[string]int{}, map[string][]string{}
	for _, p := range c.pods[namespace] {
		d := scankube.Deployment{Namespace: namespace, Pod: p, Container: "c", Digest: "sha256:1"}
		running[d.Key()], count[d.Key()], pods[p] = d, 1, []string{"c"}
	}
	return running, count, pods
}

func (c *cluster) Annotated(context.Context, string) (map[string]string, error) {
	return c.annotations, c.err
}

func (c *cluster) CronJobs(context.Context) (map[string][]string, error) { return c.cronJobs, c.err }

// hubOf is a hub's end of the link, in a bubble of synctest.
type hubOf struct {
	*testing.T
	store *store.Store
	// older says that it takes no views, and down that it takes nothing.
	older, down bool
	asked       []string // of it, since the last time: what each request tells
}

func (h *hubOf) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if h.down {
		return nil, errors.New("the link is down")
	}
	mux := http.NewServeMux()
	handler := insightlink.InventoryHandler(h.store, slog.New(slog.DiscardHandler))
	mux.Handle(insightlink.InventoryPath, handler)
	if !h.older {
		mux.Handle(insightlink.ViewPath, handler)
	}
	h.asked = append(h.asked, r.URL.Path+h.tells(body))
	r.Body = io.NopCloser(bytes.NewReader(body))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), fleet.Peer{Agent: "edge"})))
	return w.Result(), nil
}

// tells says what a request tells of: how much of which namespaces, and of policies.
func (h *hubOf) tells(body []byte) (says string) {
	h.Helper()
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	var v insight.View
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		h.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Contents)) {
		says += fmt.Sprintf(" %s:%d", name, v.Contents[name].Size())
	}
	if v.Policies != nil {
		says += fmt.Sprint(" ", v.Policies)
	}
	return says
}

func (h *hubOf) expect(what string, want ...string) {
	h.Helper()
	if d := cmp.Diff(want, h.asked); d != "" {
		h.Errorf("%s (-want +got):\n%s", what, d)
	}
	h.asked = nil
}

// runs says in how many pods of which namespaces something runs, as the hub knows it.
func (h *hubOf) runs() map[string]int {
	h.Helper()
	out := map[string]int{}
	for n := 0; ; n += 1000 {
		found, err := h.store.Workloads(h.Context(), insight.Query{Limit: 1000, Offset: n}, false)
		if err != nil {
			h.Fatal(err)
		}
		for _, w := range found {
			out[w.Namespace]++
		}
		if len(found) < 1000 {
			return out
		}
	}
}

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("pod-", i))
	}
	return out
}

// TestReporter is a story of a cluster, its agent, and hubs.
func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		h := &hubOf{T: t, store: s}
		c := &cluster{pods: map[string][]string{}, versions: map[string]uint64{}, cronJobs: map[string][]string{"idle": {"nightly"}}, annotations: map[string]string{}}
		broker := ""
		var logged bytes.Buffer
		start := func() *reporter {
			return &reporter{
				from: c, to: &insightlink.Client{Base: "http://hub", HTTP: &http.Client{Transport: h}, Logger: slog.New(slog.DiscardHandler)},
				backlog: func() insight.Backlog { return insight.Backlog{Broker: broker} },
				log:     slog.New(slog.NewTextHandler(&logged, nil)), namespaces: map[string]*namespaceReport{},
			}
		}
		r := start()
		report := func() {
			t.Helper()
			time.Sleep(inventoryEvery)
			if err := r.report(t.Context()); err != nil {
				t.Error(err)
			}
		}
		const view, old = insightlink.ViewPath, insightlink.InventoryPath

		for i := range 3 {
			c.set(fmt.Sprint("ns-", i), names(3000)...)
		}
		report()
		h.expect("at first", view+" map[]", view+" idle:1 ns-0:6000 ns-1:6000", view+" ns-2:6000")
		report()
		h.expect("when nothing happens")
		time.Sleep(inventoryStale)
		report()
		h.expect("once in a while", view+" map[]")
		c.set("ns-1", names(3001)...)
		c.set("ns-2", names(3000)...)
		report()
		h.expect("a pod more", view+" ns-1:6002")
		broker = "it is blocked"
		report()
		h.expect("the broker", view)
		r = start()
		report()
		h.expect("by the next process", view+" map[]")

		h.down = true
		c.set("ns-0")
		time.Sleep(inventoryEvery)
		if err := r.report(t.Context()); err == nil {
			t.Error("a link that is down is none")
		}
		h.down = false
		report()
		h.expect("a namespace that is gone", view+" map[]")
		if d := cmp.Diff(map[string]int{"ns-1": 3001, "ns-2": 3000}, h.runs()); d != "" {
			t.Errorf("what runs (-want +got):\n%s", d)
		}

		// A hub of an older version comes, and the newer one again.
		h.older = true
		c.set("ns-1", "a")
		c.annotations, c.err = map[string]string{"ns-1": "p: {}"}, nil
		time.Sleep(annotationsEvery)
		report()
		h.expect("an older hub", view+" ns-1:2 map[ns-1:p: {}]", old+" map[ns-1:p: {}]")
		c.set("ns-1", "a", "b")
		report()
		h.expect("which isn't asked again at once", old+" map[ns-1:p: {}]")
		h.older = false
		time.Sleep(inventoryStale)
		report()
		h.expect("the newer one", view+" map[ns-1:p: {}]", view+" idle:1 ns-1:4 ns-2:6000")
		if d := cmp.Diff(map[string]int{"ns-1": 2, "ns-2": 3000}, h.runs()); d != "" {
			t.Errorf("what runs (-want +got):\n%s", d)
		}

		// What a namespace says is gone with it, and with its CronJobs.
		c.annotations, c.cronJobs = map[string]string{"idle": "p: {}"}, map[string][]string{"idle": {"nightly", "weekly"}}
		time.Sleep(cronJobsEvery)
		report()
		c.annotations, c.cronJobs = map[string]string{}, nil
		time.Sleep(annotationsEvery)
		h.asked = nil
		report()
		h.expect("a namespace that is gone with its CronJobs", view+" map[]")
		if r.namespaces["idle"] != nil {
			t.Error("it is told that there still is such a namespace")
		}
		c.annotations, c.cronJobs = map[string]string{"ns-1": "p: {}"}, map[string][]string{"idle": {"nightly"}}
		time.Sleep(cronJobsEvery)
		report()
		h.asked = nil

		// What it may not know any more it doesn't say.
		c.err = apierrors.NewForbidden(schema.GroupResource{Resource: "cronjobs"}, "", nil)
		time.Sleep(cronJobsEvery)
		report()
		h.expect("without the right to know", view+" map[ns-1:p: {}]")
		time.Sleep(cronJobsEvery)
		report()
		for _, what := range []string{"list namespaces", "list cronjobs"} {
			if n := strings.Count(logged.String(), what); n != 1 {
				t.Errorf("%s is logged %d times: %s", what, n, &logged)
			}
		}
	})
}

// TestReporter_large: an older hub is told a part of a cluster that is too large for
// it, with a warning; a hub of today is told all.
func TestReporter_large(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		h := &hubOf{T: t, store: s, older: true}
		c := &cluster{pods: map[string][]string{}, versions: map[string]uint64{}}
		const all = insight.MaxWorkloads + 1000
		for i := range 30 {
			c.set(fmt.Sprint("ns-", i), names(all/30)...)
		}
		var logged bytes.Buffer
		r := &reporter{
			from: c, to: &insightlink.Client{Base: "http://hub", HTTP: &http.Client{Transport: h}, Logger: slog.New(slog.DiscardHandler)},
			backlog: func() insight.Backlog { return insight.Backlog{} },
			log:     slog.New(slog.NewTextHandler(&logged, nil)), namespaces: map[string]*namespaceReport{},
		}
		told := func() int {
			t.Helper()
			time.Sleep(inventoryStale)
			if err := r.report(t.Context()); err != nil {
				t.Fatal(err)
			}
			found, err := s.Reports(t.Context(), insight.Query{})
			if err != nil || len(found) != 1 {
				t.Fatalf("reports %+v, %v", found, err)
			}
			return found[0].Workloads
		}
		if n := told(); n != insight.MaxWorkloads || !strings.Contains(logged.String(), "upgrade it") {
			t.Errorf("an older hub knows of %d; logged %s", n, &logged)
		}
		h.older = false
		time.Sleep(inventoryStale)
		if n := told(); n != all {
			t.Errorf("the hub knows of %d of %d", n, all)
		}
	})
}
