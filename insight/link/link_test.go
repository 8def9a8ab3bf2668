package link_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/internal/spool"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

// hub serves the handler on a real store, to an agent named edge.
func hub(t *testing.T) (*httptest.Server, *store.Store) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return serve(t, link.Handler(insight.NewService(db, insight.Limits{}, quiet), quiet)), db
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.BaseContext = func(net.Listener) context.Context {
		return fleet.WithPeer(context.Background(), fleet.Peer{Agent: "edge", Instance: "1"})
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// deliver drains a spool of messages, by id, until it is empty.
func deliver(t *testing.T, srv *httptest.Server, messages ...[2]string) spool.Stats {
	t.Helper()
	return deliverAs(t, srv, insight.SpoolKind, messages...)
}

// deliverAs is deliver for messages of one kind.
func deliverAs(t *testing.T, srv *httptest.Server, kind string, messages ...[2]string) spool.Stats {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, m := range messages {
		if err := s.Put(t.Context(), m[0], kind, strings.NewReader(m[1])); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := &link.Client{Base: srv.URL, HTTP: srv.Client(), Logger: quiet}
	last := messages[len(messages)-1][0]
	s.Drain(ctx, func(ctx context.Context, it spool.Item) error {
		err := client.Send(ctx, it)
		if it.ID == last && (err == nil || spool.IsPermanent(err)) {
			cancel()
		}
		return err
	})
	return s.Stats()
}

type accepting func(insight.Item)

func (f accepting) Accept(_ context.Context, it insight.Item) error { f(it); return nil }

func (accepting) Quarantine(_ context.Context, p insight.Poison) error { return errors.New(p.Reason) }

const oneFact = `{"type":"direct.facts","environment":3,"projectName":"p","environmentName":"main","facts":[{"name":"php","value":"8"}]}`

func TestLink(t *testing.T) {
	t.Run("what a namespace's workloads told is that namespace's", func(t *testing.T) {
		srv, db := hub(t)
		deliverAs(t, srv, lagoon.SpoolDirect("shop-main"), [2]string{"1", oneFact})
		deliverAs(t, srv, lagoon.SpoolDirect("no\nname"), [2]string{"2", strings.Replace(oneFact, `"environment":3`, `"environment":4`, 1)})
		facts, err := db.Facts(t.Context(), insight.Query{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range facts {
			got = append(got, f.Environment.Namespace)
		}
		if diff := cmp.Diff([]string{"shop-main", ""}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("what is spooled is in the store, under the peer's name", func(t *testing.T) {
		srv, db := hub(t)
		st := deliver(t, srv, [2]string{"1", oneFact}, [2]string{"2", `{"type":"direct.problems","environment":3,"problems":[{"identifier":"CVE-1"}]}`})
		if st != (spool.Stats{}) {
			t.Errorf("left in the spool: %+v", st)
		}
		facts, err := db.Facts(t.Context(), insight.Query{Cluster: "edge"})
		if err != nil || len(facts) != 1 || facts[0].Value != "8" || facts[0].Environment.Project != "p" {
			t.Errorf("facts %+v, %v", facts, err)
		}
		problems, err := db.Problems(t.Context(), insight.Query{Cluster: "edge", Q: "CVE-1"})
		if err != nil || len(problems) != 1 {
			t.Errorf("problems %+v, %v", problems, err)
		}
	})
	t.Run("what an agent made itself is known as that", func(t *testing.T) {
		var got []string
		srv := serve(t, link.Handler(accepting(func(it insight.Item) { got = append(got, fmt.Sprint(it.ID, " ", it.Scanned)) }), quiet))
		const sbom = `{"type":"sbom","namespace":"ns","service":"web","payload":{"a":"{}"}}`
		deliver(t, srv, [2]string{"sbom/1.1", sbom}, [2]string{"configmap/1/1", sbom})
		if diff := cmp.Diff([]string{"sbom/1.1 true", "configmap/1/1 false"}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a poison message is quarantined and holds nothing back", func(t *testing.T) {
		srv, db := hub(t)
		st := deliver(t, srv, [2]string{"1", `{"type":"sbom","namespace":"ns","service":"web","payload":{"a":"{"}}`}, [2]string{"2", "hello"}, [2]string{"3", oneFact})
		if st != (spool.Stats{}) {
			t.Errorf("left in the spool: %+v", st)
		}
		got, err := db.Quarantined(t.Context(), insight.Query{})
		if err != nil || len(got) != 2 {
			t.Fatalf("quarantine %+v, %v", got, err)
		}
		for _, q := range got {
			want := map[insight.ItemID]string{"1": "sbom: is cut off", "2": "the message: isn't JSON"}[q.Item]
			if !strings.Contains(q.Reason, want) {
				t.Errorf("item %s: reason %q, want %q", q.Item, q.Reason, want)
			}
		}
		if facts, err := db.Facts(t.Context(), insight.Query{}); err != nil || len(facts) != 1 {
			t.Errorf("facts %+v, %v", facts, err)
		}
	})
	t.Run("an item without an id is rejected for good", func(t *testing.T) {
		srv, _ := hub(t)
		if st := deliver(t, srv, [2]string{"", oneFact}); st.Rejected != 1 || st.Items != 0 {
			t.Errorf("spool %+v, want it rejected", st)
		}
	})
}

// The hub's receipt is committed and the answer never arrives.
func TestLink_lostAnswer(t *testing.T) {
	srv, db := hub(t)
	var calls atomic.Int32
	flaky := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			srv.Config.Handler.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		srv.Config.Handler.ServeHTTP(w, r)
	}))
	st := deliver(t, flaky, [2]string{"1", `{"type":"sbom","namespace":"ns","service":"web","payload":{"a":"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\"}"}}`})
	if st != (spool.Stats{}) {
		t.Errorf("left in the spool: %+v", st)
	}
	docs, err := db.InsightDocuments(t.Context(), insight.Query{History: true})
	if err != nil || len(docs) != 1 {
		t.Errorf("%d documents after %d calls, %v; want 1", len(docs), calls.Load(), err)
	}
	if calls.Load() != 2 {
		t.Errorf("%d calls, want 2", calls.Load())
	}
}

type receiver struct{ err error }

func (r receiver) Accept(context.Context, insight.Item) error       { return r.err }
func (r receiver) Quarantine(context.Context, insight.Poison) error { return r.err }

func TestHandler_storeFails(t *testing.T) {
	for name, message := range map[string]string{"to accept": oneFact, "to quarantine": "hello"} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, link.Handler(receiver{errors.New("disk full at /var/lib/reeve")}, quiet))
			resp, err := srv.Client().Post(srv.URL+link.Path, "application/json", strings.NewReader(message))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 500 || strings.Contains(string(b), "/var") {
				t.Errorf("%s %s, %v", resp.Status, b, err)
			}
		})
	}
}

func TestHandler_outsideALink(t *testing.T) {
	w := httptest.NewRecorder()
	link.Handler(receiver{}, quiet).ServeHTTP(w, httptest.NewRequest(http.MethodPost, link.Path, strings.NewReader(oneFact)))
	if w.Code != http.StatusForbidden {
		t.Errorf("status %d, want 403", w.Code)
	}
}

// panicking is a service that fails inside on what it is to store.
type panicking struct{ *insight.Service }

func (panicking) Accept(context.Context, insight.Item) error { panic("oops") }

// What the hub can't survive is quarantined, and what comes after it arrives.
func TestHandler_panic(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	srv := serve(t, link.Handler(panicking{insight.NewService(db, insight.Limits{}, quiet)}, quiet))
	if st := deliver(t, srv, [2]string{"a", oneFact}, [2]string{"b", oneFact}); st.Items != 0 || st.Rejected != 0 {
		t.Errorf("left in the spool: %+v", st)
	}
	kept, err := db.Quarantined(t.Context(), insight.Query{})
	if err != nil || len(kept) != 2 || !strings.Contains(kept[0].Reason, "oops") {
		t.Errorf("quarantined %+v, %v", kept, err)
	}
}
