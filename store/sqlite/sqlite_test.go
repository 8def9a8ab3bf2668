package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
	"reeve.dev/reeve/store/storetest"
)

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store {
		return open(t, filepath.Join(t.TempDir(), "reeve.db"))
	})
}

func TestOpen_keepsTheFilePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c%20", "reeve.db")
	open(t, path)
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestOpen_refusesWhatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	if err := os.WriteFile(path, []byte("this is a letter to a friend, not a database at all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("opened a text file as a database")
	}
}

func TestOpen_refusesANewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if !errors.Is(err, store.ErrNewer) {
		t.Fatalf("got %v, want ErrNewer", err)
	}
}

func newScan() scan.Scan {
	return scan.Scan{
		ID: scan.NewID(), Status: scan.Queued, Created: time.Now(), Expires: time.Now().Add(time.Hour),
		Request: scan.Request{
			Target: scan.Target{Agent: "edge", URI: "dir:/"}, Profile: "base", Timeout: time.Minute,
			Inputs: map[string]any{"text": strings.Repeat("x", 1000)},
		},
	}
}

// Another process keeps the database locked: the call fails within its time
// and changes nothing.
func TestStore_locked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	s := open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	c := newScan()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.CreateScan(ctx, c); err == nil {
		t.Fatal("a scan was acknowledged though the database was locked")
	}
	if _, err := s.Scan(t.Context(), c.ID); !errors.Is(err, scan.ErrNotFound) {
		t.Errorf("while it is locked: %v, want to read that there is none", err)
	}
	if _, err := db.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateScan(t.Context(), c); err != nil {
		t.Errorf("once it is free: %v", err)
	}
}

func TestStore_RecountAlerts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	s := open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	storetest.Miscount(t, s, db)
}

// What is asked often, or for each of many, is found by an index.
func TestOpen_indexes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, query := range []string{
		`SELECT 1 FROM scans WHERE result_digest = 'd'`,
		`SELECT 1 FROM scans WHERE profile_digest = 'd'`,
		`SELECT 1 FROM insight_documents WHERE digest = 'd'`,
		`SELECT 1 FROM insight_documents WHERE content = 'c' AND content <> ''`,
		`SELECT 1 FROM insight_quarantine WHERE digest = 'd'`,
		`SELECT 1 FROM scans WHERE agent = 'a' AND status = 'queued' AND kind IN ('dir')`,
		`SELECT 1 FROM scans WHERE status = 'running' AND (lease_expires <= 1 OR expires <= 1) OR status = 'queued' AND expires <= 1`,
		`SELECT 1 FROM alert_key WHERE sink = 's' AND next_at > 0 AND next_at <= 1 AND lease_until <= 1`,
		`SELECT 1 FROM alert_key WHERE lease = 'l' AND lease <> ''`,
		`SELECT 1 FROM scan_keys WHERE scan IN ('s', 't')`,
		`SELECT 1 FROM events WHERE state = 'pending' AND due <= 1`,
		`SELECT 1 FROM schedules WHERE next_at > 0 AND next_at <= 1`,
		`SELECT MIN(seq) FROM alert WHERE key_id = 'k' AND state = 'pending'`,
		`SELECT id FROM alert WHERE done_at > 0 AND state IN ('delivered', 'skipped') AND done_at < 1 UNION ALL SELECT id FROM alert WHERE done_at > 0 AND state = 'dead' AND done_at < 1 LIMIT 5`,
		`SELECT SUM(pending) FROM alert_key WHERE next_at > 0`,
		`SELECT 1 FROM policy_subjects p WHERE agent = 'a' AND checked < 1 AND EXISTS (SELECT 1 FROM scans s WHERE s.id = p.run AND s.selector = ''
			AND EXISTS (SELECT 1 FROM scans b WHERE b.batch = s.batch AND b.batch <> '' AND b.agent = s.agent AND b.selector <> '' AND b.selector = '{}'))`,
		`SELECT sink, SUM(dead) FROM alert_key WHERE dead > 0 GROUP BY sink`,
	} {
		rows, err := db.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(detail, "SCAN") && !strings.Contains(detail, "USING ") {
				t.Errorf("%s: %s", query, detail)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
