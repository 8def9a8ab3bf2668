package scan

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/target"
)

// progressFunc is a hub that is only told of progress.
type progressFunc struct {
	Source
	told func()
}

func (p progressFunc) Progress(context.Context, ID, int, Progress) error {
	p.told()
	return nil
}

// However short the lease is that a hub gives, and however busy the run,
// reports keep it.
func TestWorker_report_keepsTheLease(t *testing.T) {
	for _, lease := range []time.Duration{time.Second, 3 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			last, longest := time.Now(), time.Duration(0)
			w := &Worker{cfg: WorkerConfig{Source: progressFunc{told: func() {
				longest, last = max(longest, time.Since(last)), time.Now()
			}}}}
			ctx, cancel := context.WithTimeout(t.Context(), 10*lease)
			defer cancel()
			r := newReporter()
			go func() {
				for ctx.Err() == nil {
					r.set(Progress{})
					sleep(ctx, 7*lease/10)
				}
			}()
			w.report(ctx, &Job{LeaseFor: lease}, r, nil)
			if longest > lease/2 {
				t.Errorf("a lease of %v isn't renewed for %v", lease, longest)
			}
		})
	}
}

// What hands in an SBOM is asked for a job that wants one, while its target is
// open, and its failure isn't the scan's.
func TestWorker_scan_SBOM(t *testing.T) {
	for _, tc := range []struct{ wanted, panics bool }{{false, false}, {true, false}, {true, true}} {
		wanted, closed, asked := tc.wanted, false, 0
		w, err := NewWorker(WorkerConfig{
			Source: profileSource{},
			Kinds:  []string{KindContainer}, CacheDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
			Engine: func(context.Context, string, target.Target, EngineOptions) (*hdf.Results, error) {
				return &hdf.Results{}, nil
			},
			OpenTarget: func(context.Context, *Job) (Opened, error) {
				return Opened{Target: closable{}, Release: func() { closed = true }, SBOM: func(context.Context) error {
					asked++
					if closed {
						t.Error("the target is closed already")
					}
					if tc.panics {
						panic("a jar that nobody thought of")
					}
					return errors.New("no")
				}}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		m := w.scan(t.Context(), &Job{
			ProfileDigest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(archive))), Timeout: time.Minute, SBOM: wanted,
			Target: Target{Namespace: "n", Pod: "p", Container: "c"},
		}, func(Progress) {})
		if m.err != nil || m.results == nil || !closed || (asked == 1) != wanted {
			t.Errorf("%+v: asked %d times, closed %v, error %v", tc, asked, closed, m.err)
		}
	}
}

// profileSource is a hub that only has a profile.
type profileSource struct{ Source }

const archive = "a profile"

func (profileSource) Profile(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(archive)), nil
}

// closable is a target of which nothing is asked.
type closable struct{ target.Target }

func (closable) Close() error { return nil }
