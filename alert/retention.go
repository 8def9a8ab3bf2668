package alert

import (
	"context"
	"fmt"
	"time"
)

// Retention says how long alerts are kept that aren't pending. Zero of a
// member is for ever.
type Retention struct {
	// KeepFor is for those that were delivered or skipped. Once nothing of an
	// owner, repo, policy and sink is left, their Seq begins at 1 again.
	KeepFor time.Duration `yaml:"keepFor"`
	// DeadFor is for those that were given up.
	DeadFor time.Duration `yaml:"deadFor"`
}

// DefaultRetention is a month, and a quarter of a year for dead letters.
func DefaultRetention() Retention {
	return Retention{KeepFor: 30 * 24 * time.Hour, DeadFor: 90 * 24 * time.Hour}
}

// Validate reports what is wrong with r.
func (r Retention) Validate() error {
	if r.KeepFor != 0 && r.KeepFor < time.Hour {
		return fmt.Errorf("keepFor %v: it must be at least 1h, or 0 for ever", r.KeepFor)
	}
	if r.DeadFor != 0 && r.DeadFor < time.Hour {
		return fmt.Errorf("deadFor %v: it must be at least 1h, or 0 for ever", r.DeadFor)
	}
	return nil
}

// RetentionStore forgets alerts.
type RetentionStore interface {
	// RemoveAlerts forgets up to limit alerts that were done before a time, the
	// zero time for none: those delivered or skipped, and those that are dead.
	RemoveAlerts(ctx context.Context, done, dead time.Time, limit int) (int, error)
	// RemoveOutcomeRuns forgets the records of runs that began before a time.
	RemoveOutcomeRuns(ctx context.Context, before time.Time) error
}

const removedAlerts = 500

// Apply forgets what r doesn't keep, and returns how many alerts that were.
func (r Retention) Apply(ctx context.Context, s RetentionStore, now time.Time) (int, error) {
	before := func(age time.Duration) time.Time {
		if age == 0 {
			return time.Time{}
		}
		return now.Add(-age)
	}
	if r.KeepFor != 0 {
		if err := s.RemoveOutcomeRuns(ctx, before(r.KeepFor)); err != nil {
			return 0, err
		}
	}
	for removed := 0; ; {
		n, err := s.RemoveAlerts(ctx, before(r.KeepFor), before(r.DeadFor), removedAlerts)
		removed += n
		if err != nil || n < removedAlerts {
			return removed, err
		}
	}
}
