package agent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An agent whose disk takes nothing more isn't ready: it would refuse what
// workloads hand in.
func TestAgent_Health_disk(t *testing.T) {
	cfg := Defaults()
	cfg.DataDir, cfg.Metrics, cfg.Insights.Broker.URL = filepath.Join(t.TempDir(), "data"), "", "amqp://127.0.0.1:1"
	a, err := New(cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	ready := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w
	}
	if w := ready(); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if err := os.RemoveAll(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	if w := ready(); w.Code != http.StatusServiceUnavailable || !strings.HasPrefix(w.Body.String(), "dataDir: nothing can be written: no such file") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
