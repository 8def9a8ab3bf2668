package scan

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Retention says how long scans are kept that are finished. Zero of a member
// is for ever, or as many as there are.
type Retention struct {
	// KeepFor is the age, from its end on, at which a scan is forgotten.
	KeepFor time.Duration `yaml:"keepFor"`
	// PerTarget is how many completed scans of one target with the same
	// profile and threshold are kept, and how many that weren't.
	PerTarget int `yaml:"perTarget"`
	// Total is how many scans are kept in all, finished or not.
	Total int `yaml:"total"`
}

// DefaultRetention is a quarter of a year.
func DefaultRetention() Retention {
	return Retention{KeepFor: 90 * 24 * time.Hour, PerTarget: 100, Total: 1_000_000}
}

// Validate reports what is wrong with r.
func (r Retention) Validate() error {
	switch {
	case r.KeepFor != 0 && r.KeepFor < time.Hour:
		return fmt.Errorf("keepFor %v: it must be at least 1h, or 0 for ever", r.KeepFor)
	case r.PerTarget < 0:
		return fmt.Errorf("perTarget %d: it must not be negative", r.PerTarget)
	case r.Total < 0:
		return fmt.Errorf("total %d: it must not be negative", r.Total)
	}
	return nil
}

// RetentionStore forgets scans.
type RetentionStore interface {
	// OldScans lists finished scans that r doesn't keep, at most limit. One whose
	// request may be repeated, since its Key is younger than KeyLife, only goes
	// by its age: the same request would be another scan.
	OldScans(ctx context.Context, r Retention, now time.Time, limit int) ([]ID, error)
	// RemoveScans forgets those of the scans that are finished, with the
	// batches that they were the last of. Their results go with the next sweep
	// of documents; their alerts have a life of their own.
	RemoveScans(ctx context.Context, ids []ID, now time.Time) error
}

// So many scans are looked up at a time, and so many removed in one
// transaction, so that nobody else waits long for his.
const (
	oldScans     = 5000
	removedScans = 200
)

// Apply forgets what r doesn't keep, and returns how many scans that were.
func (r Retention) Apply(ctx context.Context, s RetentionStore, now time.Time) (int, error) {
	removed := 0
	for {
		old, err := s.OldScans(ctx, r, now, oldScans)
		if err != nil {
			return removed, fmt.Errorf("look for old scans: %w", err)
		}
		for part := range slices.Chunk(old, removedScans) {
			if err := s.RemoveScans(ctx, part, now); err != nil {
				return removed, fmt.Errorf("remove old scans: %w", err)
			}
			removed += len(part)
		}
		if len(old) == 0 {
			return removed, nil
		}
	}
}
