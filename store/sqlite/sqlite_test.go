package sqlite_test

import (
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

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
