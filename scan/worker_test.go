package scan

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
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
