package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/scan"
)

var (
	_ scan.RetentionStore  = (*Store)(nil)
	_ alert.RetentionStore = (*Store)(nil)
)

const finalScans = `status IN ('completed', 'error', 'cancelled')`

// TakeDuty reports whether holder may do until then what one replica of the
// hub does at a time: nobody else has taken it, or holder has itself, or its
// time is over.
func (s *Store) TakeDuty(ctx context.Context, name, holder string, now, until time.Time) (bool, error) {
	var n int64
	err := s.update(ctx, func(tx *Tx) (err error) {
		n, err = affected(tx.Exec(ctx, `
			INSERT INTO duties (name, holder, until) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
			WHERE duties.holder = excluded.holder OR duties.until <= ?`,
			name, holder, micros(until), micros(now)))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("take the duty %s: %w", name, err)
	}
	return n == 1, nil
}

// texts reads rows of one column, and closes them.
func texts(rows *sql.Rows, err error) (out []string, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, rows.Err()
}

// OldScans implements scan.RetentionStore.
func (s *Store) OldScans(ctx context.Context, r scan.Retention, now time.Time, limit int) ([]scan.ID, error) {
	var out []scan.ID
	find := func(tx *Tx, query string, args ...any) error {
		ids, err := texts(tx.Query(ctx, query+` LIMIT ?`, append(args, limit-len(out))...))
		for _, id := range ids {
			out = append(out, scan.ID(id))
		}
		return err
	}
	err := s.view(ctx, func(tx *Tx) error {
		out = nil
		if r.KeepFor > 0 {
			if err := find(tx, `SELECT id FROM scans WHERE finished > 0 AND finished <= ? AND `+finalScans, micros(now.Add(-r.KeepFor))); err != nil {
				return err
			}
		}
		if r.Total > 0 && len(out) < limit {
			if err := find(tx, `
				SELECT id FROM scans WHERE `+finalScans+` AND id <= (SELECT id FROM scans ORDER BY id DESC LIMIT 1 OFFSET ?)
				AND NOT EXISTS (SELECT 1 FROM scan_keys k WHERE k.scan IN (scans.id, scans.batch) AND k.created > ?)
				ORDER BY id`, r.Total, micros(now.Add(-scan.KeyLife))); err != nil {
				return err
			}
		}
		if r.PerTarget > 0 && len(out) < limit {
			return find(tx, `
				SELECT id FROM (
					SELECT id, ROW_NUMBER() OVER (
						PARTITION BY agent, namespace, pod, container, uri, profile, threshold, CASE WHEN status = 'completed' THEN 1 ELSE 0 END
						ORDER BY id DESC) AS n
					FROM scans WHERE selector = '' AND `+finalScans+`) AS ranked
				WHERE n > ? AND NOT EXISTS (SELECT 1 FROM scan_keys k WHERE k.scan = ranked.id AND k.created > ?)`,
				r.PerTarget, micros(now.Add(-scan.KeyLife)))
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// RemoveScans implements scan.RetentionStore.
func (s *Store) RemoveScans(ctx context.Context, ids []scan.ID, now time.Time) error {
	if len(ids) == 0 {
		return nil
	}
	return s.update(ctx, func(tx *Tx) error {
		var args []any
		these := list(ids, &args)
		batches, err := texts(tx.Query(ctx, `SELECT DISTINCT batch FROM scans WHERE batch <> '' AND id IN (`+these+`)`, args...))
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM scans WHERE `+finalScans+` AND id IN (`+these+`)`, args...); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM scan_keys WHERE scan IN (`+these+`)`, args...); err != nil {
			return err
		}
		if err := notLatest(ctx, tx, these, args, now); err != nil {
			return err
		}
		if len(batches) == 0 {
			return nil
		}
		args = nil
		batches, err = texts(tx.Query(ctx, `
			DELETE FROM batches WHERE id IN (`+list(batches, &args)+`)
			AND NOT EXISTS (SELECT 1 FROM scans WHERE scans.batch = batches.id) RETURNING id`, args...))
		if err != nil || len(batches) == 0 {
			return err
		}
		args = nil
		_, err = tx.Exec(ctx, `DELETE FROM scan_keys WHERE scan IN (`+list(batches, &args)+`)`, args...)
		return err
	})
}

// RemoveAlerts implements alert.RetentionStore.
func (s *Store) RemoveAlerts(ctx context.Context, done, dead time.Time, limit int) (int, error) {
	var n int
	err := s.update(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			DELETE FROM alert WHERE id IN (
				SELECT id FROM alert WHERE done_at > 0 AND state IN ('delivered', 'skipped') AND done_at < ?
				UNION ALL SELECT id FROM alert WHERE done_at > 0 AND state = 'dead' AND done_at < ?
				LIMIT ?)
			AND state <> 'pending' -- if somebody has replayed it meanwhile
			RETURNING key_id, state`, micros(done), micros(dead), limit)
		if err != nil {
			return err
		}
		n = 0
		gone := tallies{}
		for rows.Next() {
			var key string
			var state alert.State
			if err := rows.Scan(&key, &state); err != nil {
				rows.Close()
				return err
			}
			gone.of(key).move(state, "", 0)
			n++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		// Whoever adds an alert to a key meanwhile has set its next_at before
		// this gets to see the key's row.
		err = gone.apply(func(key string, t tally) error {
			left, err := affected(tx.Exec(ctx, `
				DELETE FROM alert_key WHERE id = ? AND next_at = 0 AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.key_id = alert_key.id)`, key))
			if err != nil || left > 0 {
				return err
			}
			_, err = tx.Exec(ctx, `UPDATE alert_key SET delivered = delivered + ?, skipped = skipped + ?, dead = dead + ? WHERE id = ?`,
				t.delivered, t.skipped, t.dead, key)
			return err
		})
		if err != nil {
			return err
		}
		if n == limit {
			return nil
		}
		// The last turn: pauses of sinks that are no more.
		_, err = tx.Exec(ctx, `DELETE FROM alert_sink WHERE held_by = '' AND paused_until < ?
			AND NOT EXISTS (SELECT 1 FROM alert_key k WHERE k.sink = alert_sink.name)`, micros(done))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("remove old alerts: %w", err)
	}
	return n, nil
}

// recounted is how many keys RecountAlerts mends at most.
const recounted = 10_000

// RecountAlerts mends what is counted of keys, and which of them have something
// to deliver, where it isn't what is there: a hub of an earlier version that works
// on the same database, until it is replaced, doesn't count. It answers of how
// many keys that was.
func (s *Store) RecountAlerts(ctx context.Context, now time.Time) (int, error) {
	var wrong []string
	err := s.view(ctx, func(tx *Tx) (err error) {
		wrong, err = texts(tx.Query(ctx, `
			SELECT k.id FROM alert_key k
			LEFT JOIN (SELECT key_id, COUNT(*) AS n, SUM(size) AS bytes FROM alert WHERE state = 'pending' GROUP BY key_id) p ON p.key_id = k.id
			LEFT JOIN (
				SELECT key_id,
					SUM(CASE WHEN state = 'delivered' THEN n ELSE 0 END) AS delivered,
					SUM(CASE WHEN state = 'skipped'   THEN n ELSE 0 END) AS skipped,
					SUM(CASE WHEN state = 'dead'      THEN n ELSE 0 END) AS dead
				FROM (SELECT key_id, state, COUNT(*) AS n FROM alert WHERE done_at > 0 GROUP BY state, key_id) AS done GROUP BY key_id
			) d ON d.key_id = k.id
			WHERE k.pending <> COALESCE(p.n, 0) OR k.pending_bytes <> COALESCE(p.bytes, 0) OR (k.next_at = 0) <> (p.n IS NULL)
				OR k.delivered <> COALESCE(d.delivered, 0) OR k.skipped <> COALESCE(d.skipped, 0) OR k.dead <> COALESCE(d.dead, 0)
			ORDER BY k.id LIMIT ?`, recounted))
		return err
	})
	for part := range slices.Chunk(wrong, batch) {
		if err != nil {
			break
		}
		err = s.update(ctx, func(tx *Tx) error {
			var args []any
			these := list(part, &args)
			// Locked first, so that what is counted is what their last change has left.
			if _, err := texts(tx.Query(ctx, `SELECT id FROM alert_key WHERE id IN (`+these+`) ORDER BY id`+tx.dialect.ForUpdate, args...)); err != nil {
				return err
			}
			const of = ` FROM alert a WHERE a.key_id = alert_key.id AND a.state = `
			_, err := tx.Exec(ctx, `
				UPDATE alert_key SET
					next_at = CASE WHEN NOT EXISTS (SELECT 1`+of+`'pending') THEN 0 WHEN next_at > 0 THEN next_at ELSE CAST(? AS BIGINT) END,
					pending = (SELECT COUNT(*)`+of+`'pending'), pending_bytes = (SELECT CAST(COALESCE(SUM(a.size), 0) AS BIGINT)`+of+`'pending'),
					oldest = COALESCE((SELECT a.since`+of+`'pending' ORDER BY a.seq LIMIT 1), 0),
					delivered = (SELECT COUNT(*)`+of+`'delivered'), skipped = (SELECT COUNT(*)`+of+`'skipped'), dead = (SELECT COUNT(*)`+of+`'dead')
				WHERE id IN (`+these+`)`, append([]any{micros(now)}, args...)...)
			tx.Notify(topicAlert)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("count alerts anew: %w", err)
	}
	return len(wrong), nil
}

// RemoveReceipts forgets which items were received before a time; one that an
// agent sends again after that counts as new.
func (s *Store) RemoveReceipts(ctx context.Context, before time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM insight_receipts WHERE received < ?`, micros(before))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove old receipts: %w", err)
	}
	return nil
}
