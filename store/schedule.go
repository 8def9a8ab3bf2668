package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
)

var _ scan.ScheduleStore = (*Store)(nil)

const topicSchedules = "schedules"

// SchedulesChanged implements scan.ScheduleStore.
func (s *Store) SchedulesChanged() <-chan struct{} { return s.wait(topicSchedules) }

// scheduledRequest is the column of what a schedule asks for.
type scheduledRequest struct {
	Target    *scan.Target      `json:"target,omitempty"`
	Selector  *scan.Selector    `json:"selector,omitempty"`
	Agents    []fleet.AgentName `json:"agents,omitempty"`
	Profile   string            `json:"profile"`
	Threshold string            `json:"threshold,omitempty"`
	Inputs    json.RawMessage   `json:"inputs,omitempty"`
	Timeout   int64             `json:"timeout"` // microseconds
	Priority  scan.Priority     `json:"priority,omitempty"`
	Method    scan.Method       `json:"method,omitempty"`
	SBOM      bool              `json:"sbom,omitempty"`
	Standing  bool              `json:"standing,omitempty"`
	Actions   []string          `json:"actions,omitempty"`
	By        string            `json:"by"`
}

func storedRequest(c scan.Schedule) (string, error) {
	r := scheduledRequest{
		Selector: c.Selector, Agents: c.Agents, Profile: c.Request.Profile, Threshold: c.Request.Threshold,
		Timeout: c.Request.Timeout.Microseconds(), Priority: c.Request.Priority, Method: c.Request.Method, SBOM: c.Request.SBOM, Standing: c.Request.Standing, Actions: c.Request.Actions, By: c.Request.RequestedBy,
	}
	if c.Selector == nil {
		r.Target = &c.Request.Target
	}
	var err error
	if c.Request.Inputs != nil {
		if r.Inputs, err = json.Marshal(c.Request.Inputs); err != nil {
			return "", fmt.Errorf("inputs: %w", err)
		}
	}
	text, err := json.Marshal(r)
	return string(text), err
}

const scheduleColumns = `owner, name, cron, time_zone, request, jitter, missed, suspended, created, created_by, next_at, maker, paused`

func scanSchedule(row interface{ Scan(...any) error }) (c scan.Schedule, err error) {
	var request, maker string
	var jitter, suspended, created, next int64
	err = row.Scan(&c.Owner, &c.Name, &c.Cron, &c.TimeZone, &request, &jitter, &c.Missed, &suspended, &created, &c.CreatedBy, &next, &maker, &c.Paused)
	if err != nil {
		return c, err
	}
	c.Jitter, c.Suspended = time.Duration(jitter)*time.Microsecond, suspended != 0
	c.Created, c.Next = fromMicros(created), fromMicros(next)
	if maker != "" {
		c.Maker = []byte(maker)
	}
	var r scheduledRequest
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		return c, fmt.Errorf("schedule %s: %w", c.Name, err)
	}
	c.Selector, c.Agents = r.Selector, r.Agents
	c.Request = scan.Request{
		Profile: r.Profile, Threshold: r.Threshold, Timeout: time.Duration(r.Timeout) * time.Microsecond,
		Priority: r.Priority, Method: r.Method, SBOM: r.SBOM, Standing: r.Standing, Actions: r.Actions, RequestedBy: r.By,
	}
	if r.Target != nil {
		c.Request.Target = *r.Target
	}
	if len(r.Inputs) > 0 {
		c.Request.Inputs, err = scan.DecodeInputs(r.Inputs)
	}
	return c, err
}

// SaveSchedule implements scan.ScheduleStore.
func (s *Store) SaveSchedule(ctx context.Context, c scan.Schedule, was *scan.Schedule) (created bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		tx.Notify(topicSchedules)
		if err := tx.Lock(ctx, topicSchedules); err != nil {
			return err
		}
		var others int
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM schedules WHERE owner = ?`, c.Owner).Scan(&others); err != nil {
			return err
		}
		there, err := querySchedules(ctx, tx, `owner = ? AND name = ?`, c.Owner, c.Name)
		created = len(there) == 0
		switch {
		case err != nil:
			return err
		case was != nil && !isStill(there, *was):
			return scan.ErrChanged
		case created && others >= scan.MaxSchedules:
			return scan.ErrSchedulesFull
		}
		return putSchedule(ctx, tx, c)
	})
	return created, err
}

// isStill reports whether what is there is was, whatever it has run since; or
// nothing, as the zero schedule is.
func isStill(there []scan.Schedule, was scan.Schedule) bool {
	if len(there) == 0 {
		return was.Created.IsZero()
	}
	return there[0].Created.Equal(was.Created) && there[0].Suspended == was.Suspended
}

func putSchedule(ctx context.Context, tx *Tx, c scan.Schedule) error {
	request, err := storedRequest(c)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO schedules (`+scheduleColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (owner, name) DO UPDATE SET cron = excluded.cron, time_zone = excluded.time_zone, request = excluded.request,
			jitter = excluded.jitter, missed = excluded.missed, suspended = excluded.suspended,
			created = excluded.created, created_by = excluded.created_by, next_at = excluded.next_at,
			maker = excluded.maker, paused = excluded.paused`,
		c.Owner, c.Name, c.Cron, c.TimeZone, request, c.Jitter.Microseconds(), c.Missed, bit(c.Suspended),
		micros(c.Created), c.CreatedBy, micros(c.Next), string(c.Maker), c.Paused)
	return err
}

// PauseSchedule implements scan.ScheduleStore.
func (s *Store) PauseSchedule(ctx context.Context, c scan.Schedule, reason string) error {
	return s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `UPDATE schedules SET suspended = 1, next_at = 0, paused = ? WHERE owner = ? AND name = ? AND created = ?`,
			reason, c.Owner, c.Name, micros(c.Created))
		return err
	})
}

// SetSchedules implements scan.ScheduleStore.
func (s *Store) SetSchedules(ctx context.Context, owner fleet.AgentName, list []scan.Schedule) error {
	return s.update(ctx, func(tx *Tx) error {
		tx.Notify(topicSchedules)
		if err := tx.Lock(ctx, topicSchedules); err != nil {
			return err
		}
		found, err := querySchedules(ctx, tx, `owner = ?`, owner)
		if err != nil {
			return err
		}
		there := map[string]scan.Schedule{}
		for _, c := range found {
			there[c.Name] = c
		}
		for _, c := range list {
			if old, ok := there[c.Name]; ok && same(old, c) {
				c.Next, c.Created = old.Next, old.Created
			}
			delete(there, c.Name)
			if err := putSchedule(ctx, tx, c); err != nil {
				return err
			}
		}
		for name := range there {
			if _, err := tx.Exec(ctx, `DELETE FROM schedules WHERE owner = ? AND name = ?`, owner, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// same reports whether two schedules run at the same times.
func same(a, b scan.Schedule) bool {
	return a.Cron == b.Cron && a.TimeZone == b.TimeZone && a.Suspended == b.Suspended
}

func querySchedules(ctx context.Context, tx *Tx, where string, args ...any) (out []scan.Schedule, err error) {
	rows, err := tx.Query(ctx, `SELECT `+scheduleColumns+` FROM schedules WHERE `+where+` ORDER BY owner, name`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		c, err := scanSchedule(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// Schedule implements scan.ScheduleStore.
func (s *Store) Schedule(ctx context.Context, owner fleet.AgentName, name string) (c scan.Schedule, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		c, err = scanSchedule(tx.QueryRow(ctx, `SELECT `+scheduleColumns+` FROM schedules WHERE owner = ? AND name = ?`, owner, name))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = scan.ErrNoSchedule
	}
	return c, err
}

// Schedules implements scan.ScheduleStore.
func (s *Store) Schedules(ctx context.Context) (out []scan.Schedule, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out, err = querySchedules(ctx, tx, `1 = 1`)
		return err
	})
	return out, err
}

// DeleteSchedule implements scan.ScheduleStore.
func (s *Store) DeleteSchedule(ctx context.Context, owner fleet.AgentName, name string) error {
	return s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `DELETE FROM schedules WHERE owner = ? AND name = ?`, owner, name))
		if err == nil && n == 0 {
			err = scan.ErrNoSchedule
		}
		return err
	})
}

// DueSchedules implements scan.ScheduleStore.
func (s *Store) DueSchedules(ctx context.Context, now time.Time) (due []scan.Schedule, next time.Time, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		if due, err = querySchedules(ctx, tx, `next_at > 0 AND next_at <= ?`, micros(now)); err != nil {
			return err
		}
		var first sql.NullInt64
		err := tx.QueryRow(ctx, `SELECT MIN(next_at) FROM schedules WHERE next_at > 0 AND next_at > ?`, micros(now)).Scan(&first)
		next = fromMicros(first.Int64)
		return err
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("schedules that are due: %w", err)
	}
	return due, next, nil
}

// FireSchedule implements scan.ScheduleStore.
func (s *Store) FireSchedule(ctx context.Context, c scan.Schedule, next time.Time, r scan.Run) (fired bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `UPDATE schedules SET next_at = ? WHERE owner = ? AND name = ? AND next_at = ?`,
			micros(next), c.Owner, c.Name, micros(c.Next)))
		if fired = n > 0; err != nil || !fired {
			return err
		}
		// The same time again is the same run: clocks can be set back.
		_, err = tx.Exec(ctx, `
			INSERT INTO schedule_runs (owner, schedule, at, state, missed, reason, begun, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (owner, schedule, at) DO NOTHING`,
			r.Owner, r.Schedule, micros(r.At), r.State, r.Missed, r.Reason, micros(r.Begun), micros(r.Begun))
		return err
	})
	return fired, err
}

const runColumns = `owner, schedule, at, state, scan, batch, missed, reason, begun`

func queryRuns(ctx context.Context, tx *Tx, where string, args ...any) (out []scan.Run, err error) {
	rows, err := tx.Query(ctx, `SELECT `+runColumns+` FROM schedule_runs WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r scan.Run
		var at, begun int64
		if err := rows.Scan(&r.Owner, &r.Schedule, &at, &r.State, &r.Scan, &r.Batch, &r.Missed, &r.Reason, &begun); err != nil {
			return nil, err
		}
		r.At, r.Begun = fromMicros(at), fromMicros(begun)
		out = append(out, r)
	}
	return out, rows.Err()
}

// ClaimRuns implements scan.ScheduleStore.
func (s *Store) ClaimRuns(ctx context.Context, now, until time.Time) (out []scan.Run, err error) {
	var waiting int
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM schedule_runs WHERE state = 'due' AND due <= ?`, micros(now)).Scan(&waiting)
	})
	if err == nil && waiting > 0 {
		err = s.update(ctx, func(tx *Tx) error {
			if out, err = queryRuns(ctx, tx, `state = 'due' AND due <= ? ORDER BY due, owner, schedule`+tx.dialect.SkipLocked, micros(now)); err != nil {
				return err
			}
			for _, r := range out {
				_, err := tx.Exec(ctx, `UPDATE schedule_runs SET due = ? WHERE owner = ? AND schedule = ? AND at = ?`, micros(until), r.Owner, r.Schedule, micros(r.At))
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claim runs of schedules: %w", err)
	}
	return out, nil
}

// EndRun implements scan.ScheduleStore.
func (s *Store) EndRun(ctx context.Context, r scan.Run, again time.Time) error {
	return s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE schedule_runs SET state = ?, scan = ?, batch = ?, reason = ?, due = ?
			WHERE owner = ? AND schedule = ? AND at = ? AND state = 'due'`,
			r.State, r.Scan, r.Batch, r.Reason, micros(again), r.Owner, r.Schedule, micros(r.At))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			DELETE FROM schedule_runs WHERE owner = ? AND schedule = ? AND state <> 'due' AND at <= (
				SELECT at FROM schedule_runs WHERE owner = ? AND schedule = ? ORDER BY at DESC LIMIT 1 OFFSET ?)`,
			r.Owner, r.Schedule, r.Owner, r.Schedule, scan.RunsKept)
		return err
	})
}

// Runs implements scan.ScheduleStore.
func (s *Store) Runs(ctx context.Context, owner fleet.AgentName, name string, limit int) (out []scan.Run, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out, err = queryRuns(ctx, tx, `owner = ? AND schedule = ? ORDER BY at DESC LIMIT ?`, owner, name, limit)
		return err
	})
	return out, err
}
