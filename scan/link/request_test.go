package link_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/link"
)

// TestWithdraw: an agent ends what it asked for itself, and nothing else.
func TestWithdraw(t *testing.T) {
	h := newHub(t)
	if err := h.store.SaveAgent(t.Context(), fleet.Registration{Agent: "edge", Instance: "i1", ScanTargets: []string{"k8s-container"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	c := link.NewClient(h.transport(t))
	request := scan.Request{
		Target: scan.Target{Agent: "edge", Namespace: "shop", Pod: "web", Container: "app"}, Profile: "base",
		RequestedBy: "scans.reeve.dev of shop", Key: scan.Key{Name: "uid", Digest: "d"},
	}
	asked, err := c.Ask(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	request.RequestedBy, request.Key = "token:ci", scan.Key{Caller: "token:ci", Name: "mine"}
	others, err := h.Create(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	open, err := c.Open(t.Context())
	if d := cmp.Diff([]scan.Keyed{{ID: asked.ID, Key: "uid"}}, open); d != "" || err != nil {
		t.Errorf("open %v (-want +got):\n%s", err, d)
	}
	if err := c.Withdraw(t.Context(), others.ID); !errors.Is(err, scan.ErrNotFound) {
		t.Errorf("another's scan: %v", err)
	}
	if err := c.Withdraw(t.Context(), asked.ID); err != nil {
		t.Fatal(err)
	}
	if now, err := c.Asked(t.Context(), asked.ID); err != nil || now.Status != scan.Cancelled || !strings.Contains(now.Reason, "deletion of its object") {
		t.Errorf("%+v, %v", now, err)
	}
	if err := c.Withdraw(t.Context(), asked.ID); !errors.Is(err, scan.ErrFinished) {
		t.Errorf("again: %v", err)
	}
	if open, err = c.Open(t.Context()); len(open) != 0 || err != nil {
		t.Errorf("open %v, %v", open, err)
	}
	if s, err := h.Get(t.Context(), others.ID); err != nil || s.Status != scan.Queued {
		t.Errorf("another's scan %s, %v", s.Status, err)
	}
}

// TestAsk: what is asked for in an agent's cluster is a scan there and nowhere
// else, once.
func TestAsk(t *testing.T) {
	h := newHub(t)
	if err := h.store.SaveAgent(t.Context(), fleet.Registration{Agent: "edge", Instance: "i1", ScanTargets: []string{"k8s-container", "dir"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	c := link.NewClient(h.transport(t))
	request := scan.Request{
		Target: scan.Target{Agent: "other", Namespace: "shop", Pod: "web", Container: "app"}, Profile: "base",
		Inputs: map[string]any{"n": int64(1)}, Method: scan.Exec, Timeout: time.Minute,
		RequestedBy: "scans.reeve.dev shop/one", Key: scan.Key{Name: "uid", Digest: "d"},
	}
	asked, err := c.Ask(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Ask(t.Context(), request)
	if err != nil || again.ID != asked.ID {
		t.Errorf("again: %+v, %v", again, err)
	}
	got, err := h.Get(t.Context(), asked.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := scan.Request{
		Target: scan.Target{Agent: "edge", Namespace: "shop", Pod: "web", Container: "app"}, Profile: "base", Priority: scan.Normal,
		Inputs: map[string]any{"n": int64(1)}, Method: scan.Exec, Timeout: time.Minute, RequestedBy: "agent:edge scans.reeve.dev shop/one",
	}
	if diff := cmp.Diff(want, got.Request); diff != "" {
		t.Error(diff)
	}
	if now, err := c.Asked(t.Context(), asked.ID); err != nil || now.Status != scan.Queued {
		t.Errorf("%+v, %v", now, err)
	}
	for name, change := range map[string]func(*scan.Request){
		"no such profile":    func(r *scan.Request) { r.Profile = "nope" },
		"not a pod's name":   func(r *scan.Request) { r.Target.Pod = "Nope!" },
		"another by the key": func(r *scan.Request) { r.Key.Digest = "another" },
	} {
		r := request
		r.Key.Name = name
		if name == "another by the key" {
			r.Key.Name = "uid"
		}
		change(&r)
		if _, err := c.Ask(t.Context(), r); !errors.Is(err, link.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mine := peer
	defer func() { peer = mine }()
	peer = fleet.Peer{Agent: "other", Instance: "i2"}
	if _, err := c.Asked(t.Context(), asked.ID); !errors.Is(err, scan.ErrNotFound) {
		t.Errorf("another agent's: %v", err)
	}
}

// TestSendProfile: an agent stores profiles of its own name alone.
func TestSendProfile(t *testing.T) {
	h := newHub(t)
	c := link.NewClient(h.transport(t))
	for range 2 {
		ref, err := c.SendProfile(t.Context(), strings.NewReader(`{"name": "agent_edge_shop_mine", "version": "1.0.0+ab"}`))
		if err != nil || ref != "agent_edge_shop_mine@1.0.0+ab" {
			t.Fatalf("%q, %v", ref, err)
		}
	}
	if _, err := h.Ask(t.Context(), peer, scan.Request{Target: scan.Target{Namespace: "a", Pod: "b", Container: "c"}, Profile: "agent_edge_shop_mine@1.0.0+ab"}); err != nil && !strings.Contains(err.Error(), "k8s-container") {
		t.Error(err)
	}
	// Its archive would go to who scans with it.
	other := fleet.Peer{Agent: "other", Instance: "i2"}
	if _, err := h.Ask(t.Context(), other, scan.Request{Target: scan.Target{Namespace: "a", Pod: "b", Container: "c"}, Profile: "agent_edge_shop_mine@1.0.0+ab"}); err == nil || !strings.Contains(err.Error(), "another agent's") {
		t.Errorf("for another agent: %v", err)
	}
	for name, text := range map[string]string{
		"another agent's name": `{"name": "agent_other_shop_mine", "version": "1"}`,
		"a name of all":        `{"name": "mine", "version": "1"}`,
		"no archive":           "x",
		"too large":            strings.Repeat("x", scan.MaxAgentProfile+1),
		"another content":      `{"name": "agent_edge_shop_mine", "version": "1.0.0+ab", "x": 1}`,
	} {
		if _, err := c.SendProfile(t.Context(), strings.NewReader(text)); !errors.Is(err, link.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSendProfile_bounded: nobody fills the catalogue from within a cluster.
func TestSendProfile_bounded(t *testing.T) {
	h := newHub(t)
	c := link.NewClient(h.transport(t))
	send := func(name string, version int) error {
		_, err := c.SendProfile(t.Context(), strings.NewReader(fmt.Sprintf(`{"name": "agent_edge_%s", "version": "1.0.%d"}`, name, version)))
		return err
	}
	for i := range 8 {
		if err := send("shop_mine", i); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := h.store.StoredProfiles(t.Context(), "agent_edge_shop_mine")
	if err != nil || len(stored) != 5 || stored[0].Version != "1.0.7" {
		t.Errorf("%d versions, %v", len(stored), err)
	}
	for i := range 99 {
		if err := send(fmt.Sprintf("shop_%d", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := send("shop_more", 0); !errors.Is(err, link.ErrInvalid) {
		t.Errorf("one more: %v", err)
	}
	if err := send("shop_mine", 8); err != nil {
		t.Errorf("a version of one that is there: %v", err)
	}
}

func FuzzAsk(f *testing.F) {
	handler := link.Handler(anyQueue{}, quiet)
	f.Add([]byte(`{"key":"k","target":{"namespace":"a","pod":"b","container":"c"},"profile":"p","inputs":{"n":1},"timeoutMs":5}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequestWithContext(fleet.WithPeer(t.Context(), peer), http.MethodPost, "http://hub/v1/scans", strings.NewReader(string(body)))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}
