package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"reeve.dev/reeve/scan"
)

// CreateBatch implements scan.BatchStore.
func (s *Store) CreateBatch(ctx context.Context, b scan.Batch, k scan.Key) error {
	return s.update(ctx, func(tx *Tx) error {
		if err := takeKey(ctx, tx, k, string(b.ID), b.Created); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO batches (id, requested_by, created) VALUES (?, ?, ?)`, b.ID, b.RequestedBy, micros(b.Created)); err != nil {
			return err
		}
		for _, c := range b.Selections {
			if err := insertScan(ctx, tx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// BatchByKey implements scan.BatchStore.
func (s *Store) BatchByKey(ctx context.Context, k scan.Key, now time.Time) (b scan.Batch, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		id, err := byKey(ctx, tx, k, now)
		if err == nil {
			b, err = batchByID(ctx, tx, scan.BatchID(id))
		}
		return err
	})
	return b, err
}

// Batch implements scan.BatchStore.
func (s *Store) Batch(ctx context.Context, id scan.BatchID) (b scan.Batch, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		b, err = batchByID(ctx, tx, id)
		return err
	})
	return b, err
}

func batchByID(ctx context.Context, tx *Tx, id scan.BatchID) (scan.Batch, error) {
	b := scan.Batch{ID: id, Scans: map[scan.Status]int{}, Outcomes: map[scan.Outcome]int{}}
	var created int64
	err := tx.QueryRow(ctx, `SELECT requested_by, created FROM batches WHERE id = ?`, id).Scan(&b.RequestedBy, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return scan.Batch{}, scan.ErrNoBatch
	}
	if err != nil {
		return scan.Batch{}, err
	}
	b.Created = fromMicros(created)
	if b.Selections, err = queryScans(ctx, tx, `batch = ? AND selector <> '' ORDER BY id`, id); err != nil {
		return scan.Batch{}, err
	}
	rows, err := tx.Query(ctx, `SELECT status, outcome, COUNT(*) FROM scans WHERE batch = ? AND selector = '' GROUP BY status, outcome`, id)
	if err != nil {
		return scan.Batch{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var status scan.Status
		var outcome scan.Outcome
		var n int
		if err := rows.Scan(&status, &outcome, &n); err != nil {
			return scan.Batch{}, err
		}
		b.Scans[status] += n
		if outcome != "" {
			b.Outcomes[outcome] += n
		}
	}
	return b, rows.Err()
}

// ExpandScan implements scan.BatchStore.
func (s *Store) ExpandScan(ctx context.Context, f scan.Finish, found []scan.Scan, now time.Time) error {
	return s.update(ctx, func(tx *Tx) error {
		c, err := scanToChange(ctx, tx, f.ID)
		switch {
		case err != nil:
			return err
		case c.Request.Target.Agent != f.Agent, c.Selector == nil, f.Attempt > c.Attempt:
			return scan.ErrNotFound
		case c.Status.Final():
			return finished(c)
		case f.Attempt < c.Attempt:
			return scan.ErrStale
		}
		if err := s.finish(ctx, tx, c, f, now); err != nil {
			return err
		}
		for _, one := range found {
			if err := insertScan(ctx, tx, one); err != nil {
				return err
			}
		}
		if f.Status != scan.Completed {
			return nil
		}
		return s.endUnselected(ctx, tx, c, found, now)
	})
}

// CancelBatch implements scan.BatchStore.
func (s *Store) CancelBatch(ctx context.Context, id scan.BatchID, reason string, now time.Time) (n int, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		if _, err := batchByID(ctx, tx, id); err != nil {
			return err
		}
		open, err := queryScans(ctx, tx, `batch = ? AND status IN ('queued', 'running') ORDER BY id`+tx.dialect.ForUpdate, id)
		if err != nil {
			return err
		}
		for _, c := range open {
			if err := s.finish(ctx, tx, c, scan.Finish{Status: scan.Cancelled, Reason: reason}, now); err != nil {
				return err
			}
		}
		n = len(open)
		return nil
	})
	return n, err
}
