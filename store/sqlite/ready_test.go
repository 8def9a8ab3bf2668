package sqlite_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"reeve.dev/reeve/store"
)

func TestStore_Ready(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	s := open(t, path)
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// A backup from before an upgrade is put beneath it.
	if _, err := db.Exec("DELETE FROM goose_db_version WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, store.ErrSchema) {
		t.Errorf("an older schema: %v", err)
	}
	if _, err := db.Exec("DROP TABLE goose_db_version"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Error("a database with nothing in it is ready")
	}
}
