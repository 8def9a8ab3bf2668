package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/postgres/postgrestest"
)

func TestStore_Ready(t *testing.T) {
	server := postgrestest.Start(t)
	url := server.URL(t)
	s := open(t, url, t.TempDir())
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	// Nobody may write: a standby that isn't promoted says the same.
	server.Exec(t, url, "CREATE RULE readonly AS ON UPDATE TO goose_db_version DO INSTEAD SELECT 1/0")
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "write") {
		t.Errorf("a database that takes no writes: %v", err)
	}
	server.Exec(t, url, "DELETE FROM goose_db_version WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)")
	if err := s.Ready(t.Context()); !errors.Is(err, store.ErrSchema) {
		t.Errorf("an older schema: %v", err)
	}
}
