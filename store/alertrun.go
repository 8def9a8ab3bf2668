package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/policy"
)

var (
	_ alert.Runs     = (*Store)(nil)
	_ alert.Silences = (*Store)(nil)
)

// Emit implements alert.Runs.
func (s *Store) Emit(ctx context.Context, e alert.Emit) error {
	err := s.update(ctx, func(tx *Tx) error { return s.emit(ctx, tx, e) })
	if err != nil {
		return fmt.Errorf("record outcomes of run %s: %w", e.Run, err)
	}
	return nil
}

// emit is Emit in the transaction that makes the outcomes true.
func (s *Store) emit(ctx context.Context, tx *Tx, e alert.Emit) error {
	emitted := 0
	for _, m := range e.Emissions {
		if m.Outcome.Run != e.Run {
			return fmt.Errorf("an outcome of run %q is emitted as one of %q", m.Outcome.Run, e.Run)
		}
		isNew := len(m.Sinks) == 0
		for _, sink := range m.Sinks {
			added, err := s.enqueue(ctx, tx, m.Outcome, sink, policy.Place{Agent: m.Agent, Namespace: m.Namespace}, nil)
			if err != nil {
				return err
			}
			isNew = isNew || added
		}
		if isNew {
			emitted++
		}
	}
	if e.Alone {
		return nil
	}
	return recordRun(ctx, tx, e, emitted)
}

// recordRun adds to a run's record.
func recordRun(ctx context.Context, tx *Tx, e alert.Emit, emitted int) error {
	now := micros(time.Now())
	ended := int64(0)
	if e.Done {
		ended = now
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO outcome_run (id, source, expected, emitted, note, began_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET
			expected = CASE WHEN excluded.expected > 0 THEN excluded.expected ELSE outcome_run.expected END,
			emitted  = outcome_run.emitted + excluded.emitted,
			note     = CASE WHEN excluded.note <> '' THEN excluded.note ELSE outcome_run.note END,
			ended_at = CASE WHEN excluded.ended_at > 0 THEN excluded.ended_at ELSE outcome_run.ended_at END`,
		e.Run, e.Source, e.Expected, emitted, e.Note, now, ended)
	return err
}

const outcomeRunColumns = `id, source, expected, emitted, note, began_at, ended_at`

func scanOutcomeRun(row interface{ Scan(...any) error }) (r alert.Run, err error) {
	var began, ended int64
	err = row.Scan(&r.ID, &r.Source, &r.Expected, &r.Emitted, &r.Note, &began, &ended)
	r.Began, r.Ended = fromMicros(began), fromMicros(ended)
	return r, err
}

// OutcomeRun implements alert.Runs.
func (s *Store) OutcomeRun(ctx context.Context, id string) (alert.Run, error) {
	var r alert.Run
	err := s.view(ctx, func(tx *Tx) (err error) {
		if r, err = scanOutcomeRun(tx.QueryRow(ctx, `SELECT `+outcomeRunColumns+` FROM outcome_run WHERE id = ?`, id)); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT state, COUNT(*) FROM alert WHERE run = ? GROUP BY state`, id)
		if err != nil {
			return err
		}
		defer rows.Close()
		r.Alerts = map[alert.State]int{}
		for rows.Next() {
			var state alert.State
			var n int
			if err := rows.Scan(&state, &n); err != nil {
				return err
			}
			r.Alerts[state] = n
		}
		return rows.Err()
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = alert.ErrNoRun
	}
	if err != nil {
		return alert.Run{}, fmt.Errorf("run %q: %w", id, err)
	}
	return r, nil
}

// OutcomeRuns implements alert.Runs.
func (s *Store) OutcomeRuns(ctx context.Context, f alert.RunFilter) ([]alert.Run, error) {
	where, args := []string{"1 = 1"}, []any{}
	if f.Source != "" {
		where, args = append(where, "source = ?"), append(args, f.Source)
	}
	if f.Incomplete {
		where = append(where, "(ended_at = 0 OR emitted < expected)")
	}
	if f.Before != "" {
		where = append(where, `(began_at < (SELECT b.began_at FROM outcome_run b WHERE b.id = ?)
			OR began_at = (SELECT b.began_at FROM outcome_run b WHERE b.id = ?) AND id < ?)`)
		args = append(args, f.Before, f.Before, f.Before)
	}
	limit := min(f.Limit, 1000)
	if limit <= 0 {
		limit = 100
	}
	var out []alert.Run
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+outcomeRunColumns+` FROM outcome_run WHERE `+strings.Join(where, " AND ")+`
			ORDER BY began_at DESC, id DESC LIMIT ?`, append(args, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scanOutcomeRun(rows)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return out, nil
}

// RemoveOutcomeRuns implements alert.RetentionStore.
func (s *Store) RemoveOutcomeRuns(ctx context.Context, before time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM outcome_run WHERE began_at < ?`, micros(before))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove old runs: %w", err)
	}
	return nil
}

// AddSilence implements alert.Silences.
func (s *Store) AddSilence(ctx context.Context, v alert.Silence) error {
	err := s.update(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM alert_silence WHERE until_at <= ?`, micros(v.Created)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO alert_silence (id, sink, owner, repo, policy, until_at, comment, created_by, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			v.ID, v.Sink, v.Owner, v.Repo, v.Policy, micros(v.Until), v.Comment, v.CreatedBy, micros(v.Created))
		return err
	})
	if err != nil {
		return fmt.Errorf("add a silence: %w", err)
	}
	return nil
}

// Silences implements alert.Silences.
func (s *Store) Silences(ctx context.Context, now time.Time) ([]alert.Silence, error) {
	var out []alert.Silence
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT id, sink, owner, repo, policy, until_at, comment, created_by, created_at
			FROM alert_silence WHERE until_at > ? ORDER BY until_at, id LIMIT 1000`, micros(now))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var v alert.Silence
			var until, created int64
			if err := rows.Scan(&v.ID, &v.Sink, &v.Owner, &v.Repo, &v.Policy, &until, &v.Comment, &v.CreatedBy, &created); err != nil {
				return err
			}
			v.Until, v.Created = fromMicros(until), fromMicros(created)
			out = append(out, v)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list silences: %w", err)
	}
	return out, nil
}

// RemoveSilence implements alert.Silences. What it held back is due then.
func (s *Store) RemoveSilence(ctx context.Context, id string) error {
	err := s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `DELETE FROM alert_silence WHERE id = ?`, id))
		if err != nil || n == 0 {
			return errors.Join(err, alert.ErrNoSilence)
		}
		_, err = tx.Exec(ctx, `
			UPDATE alert_key SET next_at = ? WHERE next_at > ? AND lease = '' AND id IN (
				SELECT key_id FROM alert WHERE state = 'pending' AND last_error LIKE 'held back: %')`, micros(time.Now()), micros(time.Now()))
		tx.Notify(topicAlert)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove silence %q: %w", id, err)
	}
	return nil
}
