package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/event"
)

var _ event.Store = (*Store)(nil)

const topicEvents = "events"

// EventsDue implements event.Store.
func (s *Store) EventsDue() <-chan struct{} { return s.wait(topicEvents) }

// AddEvents implements event.Store.
func (s *Store) AddEvents(ctx context.Context, calls [][]event.Event, limit int) ([]event.Added, error) {
	var out []event.Added
	err := s.update(ctx, func(tx *Tx) error {
		out = make([]event.Added, len(calls))
		all, err := pendingEvents(ctx, tx, limit+1, "")
		of := map[string]int{}
		for i := 0; i < len(calls) && err == nil; i++ {
			out[i], err = addCall(ctx, tx, calls[i], limit, &all, of)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add events: %w", err)
	}
	return out, nil
}

// addCall keeps the events of one call, or none. All are pending, and of whom is
// in of as far as it was asked.
func addCall(ctx context.Context, tx *Tx, events []event.Event, limit int, all *int, of map[string]int) (event.Added, error) {
	added := event.Added{New: make([]bool, len(events))}
	var pending []any
	by := ""
	for i, e := range events {
		n, err := insertEvent(ctx, tx, e)
		if err != nil {
			return added, err
		}
		if added.New[i] = n > 0; added.New[i] && e.State == event.Pending {
			pending, by = append(pending, e.ID), e.By
		}
	}
	if len(pending) == 0 {
		return added, nil
	}
	mine, known := of[by]
	if !known {
		var err error
		if mine, err = pendingEvents(ctx, tx, limit+1, by); err != nil {
			return added, err
		}
		mine -= len(pending) // they are there already
	}
	of[by] = mine
	if mine+len(pending) <= event.Share*(limit-*all-len(pending)) {
		*all, of[by] = *all+len(pending), mine+len(pending)
		tx.Notify(topicEvents)
		return added, nil
	}
	// Of the call's events only these are new and its own; an invalid one may stay.
	for part := range slices.Chunk(pending, 500) {
		if _, err := tx.Exec(ctx, `DELETE FROM events WHERE id IN (`+strings.TrimSuffix(strings.Repeat("?, ", len(part)), ", ")+`)`, part...); err != nil {
			return added, err
		}
	}
	return event.Added{Full: true}, nil
}

// pendingEvents counts those that wait, of a sender unless it is empty, up to a
// number.
func pendingEvents(ctx context.Context, tx *Tx, most int, by string) (n int, err error) {
	where, args := ``, []any{}
	if by != "" {
		where, args = ` AND received_by = ?`, []any{by}
	}
	err = tx.QueryRow(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE state = 'pending'`+where+` LIMIT ?) AS pending`, append(args, most)...).Scan(&n)
	return n, err
}

func insertEvent(ctx context.Context, tx *Tx, e event.Event) (int64, error) {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return 0, err
	}
	return affected(tx.Exec(ctx, `
		INSERT INTO events (id, source, name, type, subject, at, agent, namespace, data, body, topic,
			received, received_by, state, reason, since, due, bytes)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (source, name) DO NOTHING`,
		e.ID, e.Source, e.Name, e.Type, e.Subject, micros(e.Time), e.Data.Agent, e.Data.Namespace, string(data), string(e.Body), e.Topic(),
		micros(e.Received), e.By, e.State, e.Reason, micros(e.Since), micros(e.Due), len(e.Body)))
}

const eventColumns = `id, source, name, type, subject, at, data, body, received, received_by, state, reason, decisions, since, due`

func scanEvent(row interface{ Scan(...any) error }, more ...any) (e event.Event, err error) {
	var data, body, decisions string
	var at, received, since, due int64
	err = row.Scan(append([]any{
		&e.ID, &e.Source, &e.Name, &e.Type, &e.Subject, &at, &data, &body,
		&received, &e.By, &e.State, &e.Reason, &decisions, &since, &due,
	}, more...)...)
	if err != nil {
		return e, err
	}
	e.Body = []byte(body)
	e.Time, e.Received, e.Since, e.Due = fromMicros(at), fromMicros(received), fromMicros(since), fromMicros(due)
	if err := json.Unmarshal([]byte(data), &e.Data); err != nil {
		return e, fmt.Errorf("event %s: data: %w", e.ID, err)
	}
	if decisions != "" {
		if err := json.Unmarshal([]byte(decisions), &e.Decisions); err != nil {
			return e, fmt.Errorf("event %s: decisions: %w", e.ID, err)
		}
	}
	return e, nil
}

// ClaimEvents implements event.Store.
func (s *Store) ClaimEvents(ctx context.Context, now, until time.Time, limit int) (event.Claimed, error) {
	var out event.Claimed
	// Most calls find nothing, and those needn't wait for the writer.
	next := func(tx *Tx) error {
		var due sql.NullInt64
		err := tx.QueryRow(ctx, `SELECT MIN(due) FROM events WHERE state = 'pending'`).Scan(&due)
		out.NextAt = fromMicros(due.Int64)
		return err
	}
	err := s.view(ctx, next)
	if err == nil && !out.NextAt.IsZero() && !out.NextAt.After(now) {
		err = s.update(ctx, func(tx *Tx) error {
			out = event.Claimed{}
			if out.Events, err = claim(ctx, tx, now, until, limit); err != nil {
				return err
			}
			return next(tx)
		})
	}
	if err != nil {
		return event.Claimed{}, fmt.Errorf("claim events: %w", err)
	}
	return out, nil
}

func claim(ctx context.Context, tx *Tx, now, until time.Time, limit int) (out []event.Event, err error) {
	rows, err := tx.Query(ctx, `
		SELECT `+eventColumns+`, COALESCE((SELECT MAX(l.id) FROM events l
			WHERE l.topic = events.topic AND l.topic <> '' AND l.state = 'pending' AND l.id > events.id), '')
		FROM events WHERE state = 'pending' AND due <= ? ORDER BY due, id LIMIT ?`+tx.dialect.SkipLocked, micros(now), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var later event.ID
		e, err := scanEvent(rows, &later)
		if err != nil {
			return nil, err
		}
		e.Later = later
		out = append(out, e)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for _, e := range out {
		if _, err := tx.Exec(ctx, `UPDATE events SET due = ? WHERE id = ?`, micros(until), e.ID); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// SettleEvents implements event.Store.
func (s *Store) SettleEvents(ctx context.Context, now time.Time, done []event.Settlement) error {
	err := s.update(ctx, func(tx *Tx) error {
		for _, d := range done {
			if err := settleEvent(ctx, tx, now, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle events: %w", err)
	}
	return nil
}

func settleEvent(ctx context.Context, tx *Tx, now time.Time, d event.Settlement) error {
	decisions, err := json.Marshal(d.Decisions)
	if err != nil {
		return err
	}
	if d.State == event.Pending {
		_, err := tx.Exec(ctx, `UPDATE events SET reason = ?, due = ? WHERE id = ? AND state = 'pending'`, d.Reason, micros(d.RetryAt), d.ID)
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE events SET state = ?, reason = ?, decisions = ? WHERE id = ? AND state = 'pending'`,
		d.State, d.Reason, string(decisions), d.ID)
	if err != nil {
		return err
	}
	if d.Later != "" {
		since := micros(d.Since)
		if _, err := tx.Exec(ctx, `UPDATE events SET since = ? WHERE id = ? AND since > ?`, since, d.Later, since); err != nil {
			return err
		}
	}
	for content, scan := range d.Scans {
		_, err := tx.Exec(ctx, `
			INSERT INTO event_scans (content, scan, at) VALUES (?, ?, ?)
			ON CONFLICT (content) DO UPDATE SET scan = excluded.scan, at = excluded.at`, content, scan, micros(now))
		if err != nil {
			return err
		}
	}
	return nil
}

// LastEventScan implements event.Store.
func (s *Store) LastEventScan(ctx context.Context, content string, since time.Time) (valid bool, latest string, err error) {
	var at int64
	var status sql.NullString
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT e.scan, e.at, s.status FROM event_scans e LEFT JOIN scans s ON s.id = e.scan WHERE e.content = ?`,
			content).Scan(&latest, &at, &status)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return false, "", nil
	}
	if err != nil {
		return false, "", fmt.Errorf("the last scan of a content: %w", err)
	}
	return at > micros(since) && status.String != "error" && status.String != "cancelled", latest, nil
}

// Event implements event.Store.
func (s *Store) Event(ctx context.Context, id event.ID) (e event.Event, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		e, err = scanEvent(tx.QueryRow(ctx, `SELECT `+eventColumns+` FROM events WHERE id = ?`, id))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return e, event.ErrNotFound
	}
	return e, err
}

// Events implements event.Store.
func (s *Store) Events(ctx context.Context, f event.Filter) (out []event.Event, err error) {
	where, args := []string{"1 = 1"}, []any{}
	with := func(cond string, arg ...any) { where, args = append(where, cond), append(args, arg...) }
	if f.State != "" {
		with("state = ?", f.State)
	}
	if f.Type != "" {
		with("type = ?", f.Type)
	}
	if f.Source != "" {
		with("source = ?", f.Source)
	}
	if f.Agent != "" {
		with("agent = ?", f.Agent)
	}
	if f.Before != "" {
		with("id < ?", f.Before)
	}
	if cond, in := inScopes(f.Within, "agent", "namespace"); cond != "" {
		with(cond, in...)
	}
	limit := min(f.Limit, 1000)
	if limit <= 0 {
		limit = 100
	}
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+eventColumns+` FROM events WHERE `+strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT ?`, append(args, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			e, err := scanEvent(rows)
			if err != nil {
				return err
			}
			out = append(out, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return out, nil
}

// SweepEvents implements event.Store.
func (s *Store) SweepEvents(ctx context.Context, before time.Time, keep int, bytes int64) (int, error) {
	var n int64
	err := s.update(ctx, func(tx *Tx) (err error) {
		n, err = affected(tx.Exec(ctx, `
			DELETE FROM events WHERE state <> 'pending' AND (received < ? OR id <= (
				SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?) OR id <= (
				SELECT MAX(id) FROM (SELECT id, SUM(bytes) OVER (ORDER BY id DESC) AS total FROM events) AS sizes WHERE total > ?))`,
			micros(before), keep, bytes))
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM event_scans WHERE at < ?`, micros(before))
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sweep events: %w", err)
	}
	return int(n), nil
}

// SetEventRoutes implements event.Store.
func (s *Store) SetEventRoutes(ctx context.Context, agent string, routes []event.Route) error {
	return s.update(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM event_routes WHERE agent = ?`, agent); err != nil {
			return err
		}
		for _, r := range routes {
			text, err := json.Marshal(r)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO event_routes (agent, name, route) VALUES (?, ?, ?)
				ON CONFLICT (agent, name) DO UPDATE SET route = excluded.route`, agent, r.Name, string(text))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// EventRoutes implements event.Store.
func (s *Store) EventRoutes(ctx context.Context) (out []event.Route, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT route FROM event_routes ORDER BY agent, name`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var text string
			var r event.Route
			if err := rows.Scan(&text); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				return fmt.Errorf("route: %w", err)
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	return out, err
}
