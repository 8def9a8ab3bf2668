package insight_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/insight"
)

// oneExport is a store with one export that waits until it is sent.
type oneExport struct {
	mu     sync.Mutex
	sent   bool      // guarded by mu
	holder string    // guarded by mu
	until  time.Time // guarded by mu
}

func (o *oneExport) DueExports(context.Context, time.Time, int) ([]insight.Export, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sent {
		return nil, nil
	}
	return []insight.Export{{Digest: "sha256:1", State: insight.ExportWaiting}}, nil
}

func (o *oneExport) PutExport(_ context.Context, e insight.Export) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = e.State == insight.ExportSent
	return nil
}

func (o *oneExport) TakeDuty(_ context.Context, _, holder string, now, until time.Time) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holder != holder && o.until.After(now) {
		return false, nil
	}
	o.holder, o.until = holder, until
	return true, nil
}

func (*oneExport) ExportsQueued() <-chan struct{} { return nil }
func (*oneExport) Document(string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("{}")), nil
}

// While one hub still sends an SBOM, however long that takes, no other sends
// it, or a later one.
func TestExporter_oneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		store := &oneExport{}
		calls := make(chan string, 10)
		for _, hub := range []string{"a", "b"} {
			x := &insight.Exporter{
				Store: store, Holder: hub, Logger: slog.New(slog.DiscardHandler),
				Send: func(context.Context, insight.Export, io.Reader) error {
					calls <- hub
					time.Sleep(4 * time.Minute)
					return nil
				},
			}
			go x.Run(ctx)
		}
		time.Sleep(time.Hour)
		if n := len(calls); n != 1 {
			t.Errorf("it was sent %d times", n)
		}
		stop()
		synctest.Wait()
	})
}
