package hub_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/store/blob/blobtest"
	"reeve.dev/reeve/store/postgres/postgrestest"
)

// What a hub has goes to PostgreSQL once it is stopped, and another goes on
// with it: of the same agents and callers.
func TestMigrate(t *testing.T) {
	cfg := config(t)
	one := start(t, cfg)
	var made struct{ ID string }
	one.call(t, "POST", "/api/v1/tokens", map[string]any{"kind": "join", "agent": "edge"}, http.StatusCreated, &made)
	quiet := slog.New(slog.DiscardHandler)
	m := hub.Migration{From: cfg.DataDir}
	if _, err := hub.Migrate(t.Context(), cfg, m, quiet); err == nil || !strings.Contains(err.Error(), "database.url") {
		t.Errorf("to nowhere: %v", err)
	}
	cfg.Database.URL, cfg.Documents.URL = postgrestest.Start(t).URL(t), blobtest.Start(t).URL
	cfg.DataDir, cfg.Listen.Replicas = filepath.Join(t.TempDir(), "made"), "127.0.0.1:0"
	if _, err := hub.Migrate(t.Context(), cfg, m, quiet); err == nil || !strings.Contains(err.Error(), "another hub runs on") {
		t.Errorf("of a hub that runs: %v", err)
	}
	none := t.TempDir()
	_, err := hub.Migrate(t.Context(), cfg, hub.Migration{From: none}, quiet)
	if left, _ := os.ReadDir(none); err == nil || !strings.Contains(err.Error(), "dataDir") || len(left) > 0 {
		t.Errorf("of none: %v, and %v is left", err, left)
	}
	one.stop()
	recording := filepath.Join(m.From, "recordings", "left.cast")
	if err := os.WriteFile(recording, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Migrate(t.Context(), cfg, m, quiet); err == nil || !strings.Contains(err.Error(), filepath.Dir(recording)) {
		t.Errorf("without a recording: %v", err)
	}
	if err := os.Remove(recording); err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Migrate(t.Context(), cfg, m, quiet); err != nil {
		t.Fatal(err)
	}
	two := start(t, cfg)
	var tokens struct{ Items []struct{ ID string } }
	two.call(t, "GET", "/api/v1/tokens", nil, http.StatusOK, &tokens)
	if len(tokens.Items) != 1 || tokens.Items[0].ID != made.ID {
		t.Errorf("the tokens are %+v, want that of %s", tokens, made.ID)
	}
}
