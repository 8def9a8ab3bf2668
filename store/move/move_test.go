package move_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/blob/blobtest"
	"reeve.dev/reeve/store/move"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/postgres/postgrestest"
	"reeve.dev/reeve/store/sqlite"
)

// What the process of a move is told by its environment.
const (
	killedFrom = "REEVE_TEST_MOVE_FROM" // set: this is such a process
	killedTo   = "REEVE_TEST_MOVE_TO"
	killedDocs = "REEVE_TEST_MOVE_DOCUMENTS"
	killedAt   = "REEVE_TEST_MOVE_AT" // the step in which it kills itself
)

func TestMain(m *testing.M) {
	from := os.Getenv(killedFrom)
	if from == "" {
		os.Exit(m.Run())
	}
	_, err := move.Move(context.Background(), move.Config{
		From: from, To: postgres.Config{URL: os.Getenv(killedTo), Documents: os.Getenv(killedDocs)}, Logger: quiet,
		Progress: func(what string, done, _ int) {
			if what == os.Getenv(killedAt) && done > 0 || what == "statistics" && what == os.Getenv(killedAt) {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		},
	})
	fmt.Fprintln(os.Stderr, "it went to its end:", err)
	os.Exit(1)
}

var quiet = slog.New(slog.DiscardHandler)

const documents = 20

// filled is a hub's data with rows in each table, of texts that only one of the
// databases takes as they are, and documents that rows name. Not all is in the
// file yet: the hub was killed.
func filled(t testing.TB, rowsOf map[string]int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "reeve.db")
	s, err := sqlite.Open(t.Context(), path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for n := range documents {
		d, _, err := s.PutDocument(strings.NewReader(fmt.Sprint("document ", n)), 100)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("PRAGMA defer_foreign_keys = 1"); err != nil {
		t.Fatal(err)
	}
	for table, columns := range columnsOf(t, db) {
		insert := fmt.Sprintf(`INSERT INTO "%s" VALUES (%s)`, table, strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", "))
		for n := range cmp.Or(rowsOf[table], 2*documents) {
			var row []any
			for _, c := range columns {
				row = append(row, value(table, c, n, digests))
			}
			if _, err := tx.Exec(insert, row...); err != nil {
				t.Fatalf("%s: %v", table, err)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	// A copy from beneath a running hub is what a kill leaves.
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(left, "reeve.db-wal")); err != nil || info.Size() == 0 {
		t.Fatalf("nothing is outside of the file: %v", err)
	}
	return left
}

// refers are columns that name another table's row by that one's column.
var refers = map[string]string{"key_id": "id", "entry": "id", "replica": "id", "schedule": "name"}

// value is one for the n-th row.
func value(table string, c [2]string, n int, digests []string) any {
	name, kind := c[0], c[1]
	if as, ok := refers[name]; ok {
		name = as
	}
	named := name == "digest" && table != "thresholds" && table != "scan_keys" || table == "scans" && strings.HasSuffix(name, "_digest")
	switch {
	case named && n < len(digests):
		return digests[n]
	case kind == "BIGINT":
		return int64(n)
	case kind == "DOUBLE PRECISION":
		return float64(n) / 3
	case kind == "BLOB":
		return []byte{0, 0xff, byte(n)}
	case n == 7:
		return "\x00 and \xff, 日本語"
	}
	return fmt.Sprint(name, n)
}

func columnsOf(t testing.TB, db *sql.DB) map[string][][2]string {
	t.Helper()
	rows, err := db.Query(`SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version' ORDER BY m.name, c.cid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string][][2]string{}
	for rows.Next() {
		var table string
		var c [2]string
		if err := rows.Scan(&table, &c[0], &c[1]); err != nil {
			t.Fatal(err)
		}
		out[table] = append(out[table], c)
	}
	if err := rows.Err(); err != nil || len(out) < 40 {
		t.Fatalf("%d tables: %v", len(out), err)
	}
	return out
}

// contents are all rows of the tables as they are read by each database's own
// means, with the texts that PostgreSQL can't hold mended.
func sourceContents(t *testing.T, dir string) map[string][]string {
	t.Helper()
	db, err := sqlite.OpenReadOnly(filepath.Join(dir, "reeve.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	out := map[string][]string{}
	for table := range columnsOf(t, db) {
		rows, err := db.Query(`SELECT * FROM "` + table + `"`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			var cells []string
			for i, v := range values {
				if text, ok := v.(string); ok {
					v = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
				}
				cells = append(cells, fmt.Sprintf("%s=%v", columns[i], v))
			}
			slices.Sort(cells)
			out[table] = append(out[table], strings.Join(cells, " "))
		}
		slices.Sort(out[table])
	}
	return out
}

func targetContents(t *testing.T, url string) map[string][]string {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	rows, err := c.Query(t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'goose_db_version'")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, table := range tables {
		rows, err := c.Query(t.Context(), `SELECT * FROM "`+table+`"`)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			var cells []string
			for i, v := range values {
				cells = append(cells, fmt.Sprintf("%s=%v", rows.FieldDescriptions()[i].Name, v))
			}
			slices.Sort(cells)
			out[table] = append(out[table], strings.Join(cells, " "))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(out[table])
	}
	return out
}

func indexes(t *testing.T, url string) (names []string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	rows, err := c.Query(t.Context(), "SELECT replace(indexdef, schemaname, '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY indexname")
	if err != nil {
		t.Fatal(err)
	}
	if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	return names
}

func opened(t *testing.T, to postgres.Config) *store.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), to, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// files are the names and contents of what is in a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"reeve.db", "reeve.db-wal"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(text)
	}
	return out
}

func TestMove(t *testing.T) {
	server := postgrestest.Start(t)
	dir := filled(t, map[string]int{"scans": 1100}) // each thousand is told
	want := sourceContents(t, dir)
	before := files(t, dir)

	t.Run("everything", func(t *testing.T) {
		to := postgres.Config{URL: server.URL(t), Bucket: blobtest.Start(t).URL, Scratch: t.TempDir()}
		cfg := move.Config{From: dir, To: to, Logger: quiet}
		r, err := move.Move(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if r.Already || r.Documents != (move.Documents{Copied: documents}) || len(r.Tables) != len(want) {
			t.Errorf("it says %+v", r)
		}
		if diff := gocmp.Diff(want, targetContents(t, to.URL)); diff != "" {
			t.Error(diff)
		}
		empty := postgres.Config{URL: server.URL(t), Documents: t.TempDir()}
		opened(t, empty)
		if diff := gocmp.Diff(indexes(t, empty.URL), indexes(t, to.URL)); diff != "" {
			t.Error(diff)
		}
		for name, was := range before {
			if is := files(t, dir)[name]; is != was {
				t.Errorf("%s has changed", name)
			}
		}

		again, err := move.Move(t.Context(), cfg)
		if err != nil || !again.Already || again.Documents != (move.Documents{There: documents}) {
			t.Errorf("again: %+v, %v", again, err)
		}
		if diff := gocmp.Diff(r.Tables, again.Tables); diff != "" {
			t.Error(diff)
		}
		// A hub goes on with it: what is new gets numbers of its own.
		s := opened(t, to)
		item := insight.Item{
			ID: "one", Cluster: "edge", Environment: insight.Environment{Namespace: "shop"},
			Content: insight.Document{Kind: insight.KindSBOM, Service: "web"},
		}
		parsed := &insight.Parsed{Digest: "sha256:new", SBOM: &insight.SBOM{Components: []insight.Component{{PURL: "pkg:deb/debian/bash@5", Name: "bash"}}}}
		if fresh, err := s.ApplyInsight(t.Context(), item, parsed, time.Now()); !fresh || err != nil {
			t.Errorf("an SBOM: %v, %v", fresh, err)
		}
		c := scan.Scan{
			ID: scan.NewID(), Status: scan.Queued, Created: time.Now(), Expires: time.Now().Add(time.Hour),
			Request: scan.Request{Target: scan.Target{Agent: fleet.AgentName("edge"), URI: "dir:/"}, Profile: "base", Timeout: time.Minute},
		}
		if err := s.CreateScan(t.Context(), c); err != nil {
			t.Error(err)
		}
		if _, err := move.Move(t.Context(), cfg); !errors.Is(err, move.ErrNotEmpty) {
			t.Errorf("onto what a hub has changed: %v", err)
		}
	})

	for _, at := range []string{"documents", "scans", "compare", "statistics"} {
		t.Run("killed at "+at, func(t *testing.T) {
			to := postgres.Config{URL: server.URL(t), Documents: t.TempDir()}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), killedFrom+"="+dir, killedTo+"="+to.URL, killedDocs+"="+to.Documents, killedAt+"="+at)
			if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != -1 {
				t.Fatalf("%v\n%s", err, out)
			}
			for table, rows := range targetContents(t, to.URL) {
				if all := at == "statistics"; all != (len(rows) > 0) {
					t.Fatalf("%d rows are in %s", len(rows), table)
				}
			}
			r, err := move.Move(t.Context(), move.Config{From: dir, To: to, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			if r.Documents.There == 0 || r.Already != (at == "statistics") {
				t.Errorf("what was done is done anew: %+v", r)
			}
			if diff := gocmp.Diff(want, targetContents(t, to.URL)); diff != "" {
				t.Error(diff)
			}
			for name, was := range before {
				if is := files(t, dir)[name]; is != was {
					t.Errorf("%s has changed", name)
				}
			}
		})
	}

	t.Run("somebody writes meanwhile", func(t *testing.T) {
		to := postgres.Config{URL: server.URL(t), Documents: t.TempDir()}
		s := opened(t, to)
		_, err := move.Move(t.Context(), move.Config{From: dir, To: to, Logger: quiet, Progress: func(what string, done, total int) {
			if what == "documents" && done == total {
				if _, err := s.TakeDuty(t.Context(), "retention", "me", time.Now(), time.Now().Add(time.Minute)); err != nil {
					t.Error(err)
				}
			}
		}})
		if !errors.Is(err, move.ErrNotEmpty) || !strings.Contains(err.Error(), "duties") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("onto what another program has", func(t *testing.T) {
		to := postgres.Config{URL: server.URL(t), Documents: t.TempDir()}
		c, err := pgx.Connect(t.Context(), to.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.WithoutCancel(t.Context()))
		if _, err := c.Exec(t.Context(), "CREATE TABLE letters (text TEXT); INSERT INTO letters VALUES ('dear')"); err != nil {
			t.Fatal(err)
		}
		if _, err := move.Move(t.Context(), move.Config{From: dir, To: to, Logger: quiet}); !errors.Is(err, move.ErrNotEmpty) {
			t.Errorf("got %v", err)
		}
		if diff := gocmp.Diff(map[string][]string{"letters": {"text=dear"}}, targetContents(t, to.URL)); diff != "" {
			t.Error(diff)
		}
		var tables int
		if err := c.QueryRow(t.Context(), "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()").Scan(&tables); err != nil || tables != 1 {
			t.Errorf("%d tables, %v", tables, err)
		}
	})

	t.Run("documents are lost", func(t *testing.T) {
		lossy := t.TempDir()
		if err := os.CopyFS(lossy, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		blobs, err := filepath.Glob(filepath.Join(lossy, "blobs", "*.gz"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(blobs[0]), os.Truncate(blobs[1], 20)); err != nil {
			t.Fatal(err)
		}
		cfg := move.Config{From: lossy, To: postgres.Config{URL: server.URL(t), Documents: t.TempDir()}, Logger: quiet}
		if _, err := move.Move(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "2 of the 20 documents") {
			t.Errorf("got %v", err)
		}
		cfg.WithoutMissing = true
		r, err := move.Move(t.Context(), cfg)
		if err != nil || r.Documents != (move.Documents{There: documents - 2, Missing: 2}) {
			t.Errorf("without them: %+v, %v", r, err)
		}
	})

	t.Run("a text that no index takes", func(t *testing.T) {
		long := t.TempDir()
		if err := os.CopyFS(long, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", filepath.Join(long, "reeve.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("UPDATE scans SET agent = hex(randomblob(50000)) WHERE id = 'id3'"); err != nil {
			t.Fatal(err)
		}
		_, err = move.Move(t.Context(), move.Config{From: long, To: postgres.Config{URL: server.URL(t), Documents: t.TempDir()}, Logger: quiet})
		if err == nil || !strings.Contains(err.Error(), "scans") || !strings.Contains(err.Error(), "longer than an index") {
			t.Errorf("got %v", err)
		}
	})

	for name, schema := range map[string]int64{"older": -1, "newer": 9999} {
		t.Run("a source of a schema that is "+name, func(t *testing.T) {
			other := t.TempDir()
			if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", filepath.Join(other, "reeve.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			statement := fmt.Sprintf("INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, 1)", schema)
			if schema < 0 {
				statement = "DELETE FROM goose_db_version WHERE version_id > 100"
			}
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
			_, err = move.Move(t.Context(), move.Config{From: other, To: postgres.Config{URL: server.URL(t), Documents: t.TempDir()}, Logger: quiet})
			if err == nil || errors.Is(err, store.ErrNewer) != (schema > 0) || !strings.Contains(err.Error(), "schema") {
				t.Errorf("got %v", err)
			}
		})
	}

	t.Run("no source", func(t *testing.T) {
		none := t.TempDir()
		_, err := move.Move(t.Context(), move.Config{From: none, To: postgres.Config{URL: server.URL(t), Documents: t.TempDir()}, Logger: quiet})
		if left, _ := os.ReadDir(none); err == nil || !strings.Contains(err.Error(), "dataDir") || len(left) > 0 {
			t.Errorf("%v, and %v is left", err, left)
		}
	})
}

// BenchmarkMove takes a million rows; run it with -benchtime 1x.
func BenchmarkMove(b *testing.B) {
	server := postgrestest.Start(b)
	const all = 1_000_000
	dir := filled(b, map[string]int{
		"scans": all / 10, "alert": all / 10, "alert_key": all / 10, "audit_records": all / 10, "insight_facts": all / 10,
		"insight_problems": all / 10, "insight_components": all / 10, "osv_affected": all / 10, "osv_entries": all / 10, "insight_inventory": all / 10,
		"insight_documents": all / 10,
	})
	for b.Loop() {
		to := postgres.Config{URL: server.URL(b), Documents: b.TempDir()}
		r, err := move.Move(b.Context(), move.Config{From: dir, To: to, Logger: quiet})
		if err != nil {
			b.Fatal(err)
		}
		rows := 0
		for _, t := range r.Tables {
			rows += t.Rows
		}
		b.ReportMetric(float64(rows), "rows")
	}
}
