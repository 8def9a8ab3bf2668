package postgres_test

import (
	"database/sql"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/postgres/postgrestest"
	"reeve.dev/reeve/store/storetest"
)

func open(t *testing.T, url, documents string) *store.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Documents: documents}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	server := postgrestest.Start(t)
	storetest.Run(t, func(t *testing.T) *store.Store { return open(t, server.URL(t), t.TempDir()) })
	for name, test := range map[string]func(*testing.T, *postgrestest.Server){
		"replicas wake each other":         wakeEachOther,
		"replicas lease each scan once":    leaseOnce,
		"replicas take documents together": takeDocuments,
		"texts sort by their bytes":        sortByBytes,
		"what is replayed isn't forgotten": replayWhileForgetting,
		"what comes while it is forgotten": comeWhileForgetting,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

func newScan() scan.Scan {
	return scan.Scan{
		ID: scan.NewID(), Status: scan.Queued, Created: time.Now(), Expires: time.Now().Add(time.Hour),
		Request: scan.Request{Target: scan.Target{Agent: "edge", URI: "dir:/"}, Profile: "base", Timeout: time.Minute},
	}
}

// wakeEachOther: replicas that start together migrate once, and what one
// changes wakes who waits at another.
func wakeEachOther(t *testing.T, server *postgrestest.Server) {
	url, documents := server.URL(t), t.TempDir()
	replicas := make([]*store.Store, 3)
	var all sync.WaitGroup
	for i := range replicas {
		all.Go(func() {
			s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Documents: documents}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			replicas[i] = s
			t.Cleanup(func() { s.Close() })
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	// wake returns once change, at one replica, has woken who waits at another.
	wake := func(wait func() <-chan struct{}, change func()) {
		t.Helper()
		c := wait()
		change()
		select {
		case <-c:
		case <-time.After(30 * time.Second):
			t.Fatal("not woken")
		}
	}
	queued := func() <-chan struct{} { return replicas[1].ScanQueued("edge") }
	create := func() {
		if err := replicas[0].CreateScan(t.Context(), newScan()); err != nil {
			t.Fatal(err)
		}
	}
	wake(queued, create)
	wake(queued, func() { // by itself, once it listens again
		server.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE 'LISTEN%'`)
	})
	wake(queued, create)
}

// leaseOnce: however many replicas lease at a time, each scan goes to one, and
// none is told that there is nothing while there is.
func leaseOnce(t *testing.T, server *postgrestest.Server) {
	url, documents := server.URL(t), t.TempDir()
	const scans, takers = 40, 8
	a, b := open(t, url, documents), open(t, url, documents)
	var want []scan.ID
	for range scans {
		c := newScan()
		want = append(want, c.ID)
		if err := a.CreateScan(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	var (
		mu  sync.Mutex
		got []scan.ID
		all sync.WaitGroup
	)
	for i := range takers {
		s := []*store.Store{a, b}[i%2]
		all.Go(func() {
			for {
				c, err := s.LeaseScan(t.Context(), scan.Taker{Agent: "edge", Instance: "i", Kinds: []string{"dir"}, LeaseFor: time.Minute}, time.Now())
				if errors.Is(err, scan.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got = append(got, c.ID)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("leased %d scans, want each of %d once", len(got), len(want))
	}
}

// takeDocuments: documents that share their components, from several clusters
// at a time, are all taken, and of each service one is current.
func takeDocuments(t *testing.T, server *postgrestest.Server) {
	url, documents := server.URL(t), t.TempDir()
	replicas := []*store.Store{open(t, url, documents), open(t, url, documents)}
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			digest := insight.Digest("sha256:" + strings.Repeat("a", i+1))
			bom := &insight.SBOM{Components: []insight.Component{{Type: "library", Name: "zlib"}, {Type: "library", Name: "own", Version: string(digest)}}}
			_, err := replicas[i%2].ApplyInsight(t.Context(), insight.Item{
				ID: insight.ItemID(digest), Cluster: fleet.AgentName([]string{"east", "west"}[i/2%2]), Environment: insight.Environment{Namespace: "shop"},
				Content: insight.Document{Kind: insight.KindSBOM, Service: "web"},
			}, &insight.Parsed{Digest: digest, SBOM: bom}, time.Now())
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, history := range []bool{true, false} {
		got, err := replicas[0].InsightDocuments(t.Context(), insight.Query{History: history})
		if want := map[bool]int{true: 16, false: 2}[history]; err != nil || len(got) != want {
			t.Errorf("history %v: %d documents, %v; want %d", history, len(got), err, want)
		}
	}
}

// replayWhileForgetting: an alert that somebody replays while it is forgotten
// stays, and so does what waits of its key.
func replayWhileForgetting(t *testing.T, server *postgrestest.Server) {
	url := server.URL(t)
	s := open(t, url, t.TempDir())
	o := fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "a"}, Policy: "base", Run: "r1", At: time.Now()}
	storetest.Outcomes(t, s, []fleet.Outcome{o}, []string{"x"}, nil)
	id := alert.NewID(o, "x")
	if err := s.SkipAlert(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	replay, err := db.BeginTx(t.Context(), nil) // by another replica, not yet committed
	if err != nil {
		t.Fatal(err)
	}
	defer replay.Rollback()
	for _, change := range []string{`UPDATE alert SET state = 'pending', done_at = 0, replayed = 1`, `UPDATE alert_key SET next_at = 1, pending = 1, skipped = 0`} {
		if _, err := replay.ExecContext(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	removed := make(chan error, 1)
	go func() {
		later := time.Now().Add(time.Hour)
		_, err := s.RemoveAlerts(t.Context(), later, later, 10)
		removed <- err
	}()
	for waits := 0; waits == 0; {
		if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%DELETE FROM alert %'`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if err := replay.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	if a, err := s.Alert(t.Context(), id); err != nil || a.State != alert.Pending {
		t.Errorf("%+v, %v", a, err)
	}
	storetest.Miscount(t, s, db)
}

// comeWhileForgetting: a document that comes anew while another replica forgets it
// is there.
func comeWhileForgetting(t *testing.T, server *postgrestest.Server) {
	url := server.URL(t)
	s := open(t, url, t.TempDir())
	come := func(id insight.ItemID, digest insight.Digest) error {
		it := insight.Item{ID: id, Cluster: "edge", Environment: insight.Environment{Namespace: "shop"}, Content: insight.Document{Kind: insight.KindSBOM, Service: "web"}}
		_, err := s.ApplyInsight(t.Context(), it, &insight.Parsed{Digest: digest, SBOM: &insight.SBOM{}}, time.Now())
		return err
	}
	if err := errors.Join(come("1", "old"), come("2", "new")); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	forget, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer forget.Rollback()
	for _, what := range []string{"insight_inventory WHERE item = '1'", "insight_members WHERE document_id = 1", "insight_documents WHERE id = 1"} {
		if _, err := forget.ExecContext(t.Context(), "DELETE FROM "+what); err != nil {
			t.Fatal(err)
		}
	}
	came := make(chan error, 1)
	go func() { came <- come("3", "old") }()
	for waits := 0; waits == 0; {
		if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO insight_inventory %'`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if err := forget.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-came; err != nil {
		t.Fatal(err)
	}
	if docs, err := s.InsightDocuments(t.Context(), insight.Query{}); err != nil || len(docs) != 1 || docs[0].Item != "3" || docs[0].Digest != "old" {
		t.Errorf("%+v, %v", docs, err)
	}
}

// sortByBytes: whatever the database's collation is; and what PostgreSQL's
// texts can't hold is replaced.
func sortByBytes(t *testing.T, server *postgrestest.Server) {
	s := open(t, server.URL(t), t.TempDir())
	names := []string{"B", "a", "A-b", "Ab", "\x00\xff", "é"}
	var facts insight.Facts
	for _, n := range names {
		facts = append(facts, insight.Fact{Name: n, Value: "x\x00"})
	}
	if _, err := s.ApplyInsight(t.Context(), insight.Item{ID: "1", Cluster: "edge", Content: facts}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	found, err := s.Facts(t.Context(), insight.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.Name+"="+f.Value)
	}
	want := []string{"A-b=x\uFFFD", "Ab=x\uFFFD", "B=x\uFFFD", "a=x\uFFFD", "é=x\uFFFD", "\uFFFD\uFFFD=x\uFFFD"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOpen_errors(t *testing.T) {
	for name, tc := range map[string]struct{ url, says string }{
		"not a URL":   {"postgres://u:hush@[::1", "cannot parse"},
		"no database": {"postgres://u:hush@127.0.0.1:1/db", "connect"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), postgres.Config{URL: tc.url, Documents: t.TempDir()}, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v; want %q, and no password", err, tc.says)
			}
		})
	}
}
