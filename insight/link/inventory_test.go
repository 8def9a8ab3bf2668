package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/link"
)

type inventoriesFunc func(fleet.AgentName, insight.Inventory) error

func (f inventoriesFunc) PutInventory(_ context.Context, cluster fleet.AgentName, i insight.Inventory, _ time.Time) error {
	return f(cluster, i)
}

func TestInventory(t *testing.T) {
	var got insight.Inventory
	var answer error
	h := link.InventoryHandler(inventoriesFunc(func(cluster fleet.AgentName, i insight.Inventory) error {
		if cluster != "edge" {
			t.Errorf("of %s", cluster)
		}
		got = i
		return answer
	}), slog.New(slog.DiscardHandler))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), fleet.Peer{Agent: "edge"})))
	}))
	defer s.Close()
	c := &link.Client{Base: s.URL, HTTP: s.Client(), Logger: slog.New(slog.DiscardHandler)}
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
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+link.InventoryPath, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
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
