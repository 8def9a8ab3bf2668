package link_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/link"
)

// inventories is a hub's store.
type inventories struct {
	put  func(fleet.AgentName, insight.Inventory) error
	view func(fleet.AgentName, insight.View) ([]string, error)
}

func (i inventories) PutInventory(_ context.Context, cluster fleet.AgentName, inventory insight.Inventory, _ time.Time) error {
	return i.put(cluster, inventory)
}

func (i inventories) PutView(_ context.Context, cluster fleet.AgentName, v insight.View, _ time.Time) ([]string, error) {
	return i.view(cluster, v)
}

// reporting is an agent's client of a hub with that store.
func reporting(t *testing.T, to inventories) *link.Client {
	h := link.InventoryHandler(to, slog.New(slog.DiscardHandler))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), fleet.Peer{Agent: "edge"})))
	}))
	t.Cleanup(s.Close)
	return &link.Client{Base: s.URL, HTTP: s.Client(), Logger: slog.New(slog.DiscardHandler)}
}

func TestInventory(t *testing.T) {
	var got insight.Inventory
	var answer error
	c := reporting(t, inventories{put: func(cluster fleet.AgentName, i insight.Inventory) error {
		if cluster != "edge" {
			t.Errorf("of %s", cluster)
		}
		got = i
		return answer
	}})
	want := insight.Inventory{Workloads: []insight.Workload{{Namespace: "shop", Kind: "Deployment", Name: "web", Container: "php", Digest: "sha256:1", Pods: 2}}, Backlog: insight.Backlog{Items: 1}}
	if err := c.SendInventory(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	nameless := insight.Inventory{Workloads: []insight.Workload{{Namespace: "shop", Kind: "Deployment", Container: "php"}}}
	if err := c.SendInventory(t.Context(), nameless); err == nil || !strings.Contains(err.Error(), "workloads[0].name: must have") {
		t.Errorf("without a name: %v", err)
	}
	answer = errors.New("disk full")
	if err := c.SendInventory(t.Context(), want); err == nil || strings.Contains(err.Error(), "disk") {
		t.Errorf("the store's error: %v", err)
	}
	for _, body := range []string{"plain", "\x1f\x8b\x08"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.Base+link.InventoryPath, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", body, resp.Status)
		}
	}
}

func TestView(t *testing.T) {
	var got insight.View
	var answer error
	c := reporting(t, inventories{view: func(cluster fleet.AgentName, v insight.View) ([]string, error) {
		if cluster != "edge" {
			t.Errorf("of %s", cluster)
		}
		got = v
		return []string{"blog"}, answer
	}})
	want := insight.View{
		Namespaces: map[string]string{"shop": "1", "blog": "2"}, Policies: map[string]string{},
		Contents: map[string]insight.Contents{"shop": {
			Workloads: []insight.Workload{{Namespace: "shop", Kind: "Deployment", Name: "web", Container: "php", Digest: "sha256:1", Pods: 2}},
			Pods:      map[string][]string{"web-1": {"php"}}, CronJobs: []string{"nightly"},
		}},
		CronJobs: true, Backlog: insight.Backlog{Items: 1},
	}
	wanted, err := c.SendView(t.Context(), want)
	if diff := cmp.Diff([]string{"blog"}, wanted); err != nil || diff != "" {
		t.Errorf("wanted %v: %s", err, diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	long := strings.Repeat("x", 300)
	for says, wrong := range map[string]insight.View{
		"namespaces: \"shop\" must have":                        {Namespaces: map[string]string{"shop": ""}},
		"contents: \"shop\" isn't among":                        {Contents: map[string]insight.Contents{"shop": {}}},
		"contents.a.workloads[0].namespace: is \"shop\"":        {Namespaces: map[string]string{"a": "1"}, Contents: map[string]insight.Contents{"a": want.Contents["shop"]}},
		"contents.a.workloads[0].namespace: must have":          {Namespaces: map[string]string{"a": "1"}, Contents: map[string]insight.Contents{"a": {Workloads: []insight.Workload{{}}}}},
		"contents.a.pods: \"web\" and its containers must have": {Namespaces: map[string]string{"a": "1"}, Contents: map[string]insight.Contents{"a": {Pods: map[string][]string{"web": {long}}}}},
		"contents.a.cronJobs: \"\" must have":                   {Namespaces: map[string]string{"a": "1"}, Contents: map[string]insight.Contents{"a": {CronJobs: []string{""}}}},
		"backlog.broker: has":                                   {Backlog: insight.Backlog{Broker: strings.Repeat("x", 5<<10)}},
	} {
		if _, err := c.SendView(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %s", err, says)
		}
	}
	answer = errors.New("disk full")
	if _, err := c.SendView(t.Context(), want); err == nil || strings.Contains(err.Error(), "disk") || errors.Is(err, link.ErrNoViews) {
		t.Errorf("the store's error: %v", err)
	}
	older := httptest.NewServer(http.NotFoundHandler())
	defer older.Close()
	c.Base = older.URL
	if _, err := c.SendView(t.Context(), want); !errors.Is(err, link.ErrNoViews) {
		t.Errorf("an older hub: %v", err)
	}
}

// TestInventory_bomb: what is small on its way, and would fill the hub's memory.
func TestInventory_bomb(t *testing.T) {
	h := link.InventoryHandler(inventories{}, slog.New(slog.DiscardHandler))
	for name, body := range map[string][2]string{
		link.InventoryPath: {`{"workloads":[{}`, `,{}`},
		link.ViewPath:      {`{"contents":{"shop":{"pods":{"\"{":[""`, `,""`},
	} {
		var text bytes.Buffer
		z := gzip.NewWriter(&text)
		io.WriteString(z, body[0]+strings.Repeat(body[1], 15<<20/3))
		z.Close()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPut, name, &text)
		h.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), fleet.Peer{Agent: "edge"})))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "values, must have at most") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// FuzzInventory: whatever an agent sends, the store is given what is valid alone.
func FuzzInventory(f *testing.F) {
	for _, text := range []string{
		`{"workloads": [{"namespace": "shop", "kind": "Deployment", "name": "web", "container": "php", "pods": 2}], "policies": {"shop": "p: {}"}}`,
		`{"namespaces": {"shop": "1", "blog": "2"}, "contents": {"shop": {"pods": {"web-1": ["php"]}, "cronJobs": ["nightly"]}}, "cronJobs": true}`,
		`{"namespaces": {"": ""}}`, `null`, `{`,
	} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, view bool) {
		given := false
		h := link.InventoryHandler(inventories{
			put: func(_ fleet.AgentName, i insight.Inventory) error { given = true; return i.Validate() },
			view: func(_ fleet.AgentName, v insight.View) ([]string, error) {
				given = true
				for name, c := range v.Contents {
					if v.Namespaces[name] == "" || slices.ContainsFunc(c.Workloads, func(w insight.Workload) bool { return w.Namespace != name }) {
						t.Errorf("contents of %q in %v", name, v.Namespaces)
					}
				}
				return nil, v.Validate()
			},
		}, slog.New(slog.DiscardHandler))
		path, good := link.InventoryPath, http.StatusNoContent
		if view {
			path, good = link.ViewPath, http.StatusOK
		}
		var body bytes.Buffer
		z := gzip.NewWriter(&body)
		z.Write(text)
		z.Close()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPut, path, &body)
		h.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), fleet.Peer{Agent: "edge"})))
		if given != (w.Code == good) || !given && w.Code != http.StatusBadRequest {
			t.Errorf("given: %v, answered %d: %s", given, w.Code, w.Body)
		}
	})
}
