package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/internal/telemetry"
)

// Durations are the same text in both formats, wherever they stand.
func TestLogger_Durations(t *testing.T) {
	log := func(format string) string {
		var out bytes.Buffer
		l := telemetry.Logger(&out, slog.LevelInfo, format)
		l.With("in", 90*time.Second).Info("done", "took", 1500*time.Millisecond, slog.Group("of", slog.Duration("wait", 0)))
		return out.String()
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(log("json")), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "time")
	want := map[string]any{"level": "INFO", "msg": "done", "in": "1m30s", "took": "1.5s", "of": map[string]any{"wait": "0s"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("json (-want +got):\n%s", diff)
	}
	if text := log("text"); !strings.Contains(text, "in=1m30s took=1.5s of.wait=0s") {
		t.Error(text)
	}
}
