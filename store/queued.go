package store

import (
	"context"
	"time"

	"reeve.dev/reeve/scan"
)

// Waiting is how many scans there are of a status that isn't final, and how
// long the oldest of them has been there.
type Waiting struct {
	Scans  int
	Oldest time.Time
}

// Unfinished counts the scans that aren't over.
func (s *Store) Unfinished(ctx context.Context) (map[scan.Status]Waiting, error) {
	all := map[scan.Status]Waiting{scan.Queued: {}, scan.Running: {}}
	err := s.view(ctx, func(tx *Tx) error {
		for status := range all {
			var w Waiting
			var oldest int64
			err := tx.QueryRow(ctx, `SELECT COUNT(*), COALESCE(MIN(created), 0) FROM scans WHERE status = ?`, status).Scan(&w.Scans, &oldest)
			if err != nil {
				return err
			}
			w.Oldest = fromMicros(oldest)
			all[status] = w
		}
		return nil
	})
	return all, err
}
