package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"reeve.dev/reeve/policy/github"
)

var _ github.Store = (*Store)(nil)

const topicGitHub = "github"

// sweptAtOnce is how many of the oldest answers make place for others.
const sweptAtOnce = 100

// LoadResponses implements github.Responses.
func (s *Store) LoadResponses(ctx context.Context, connection, scope string) (data []byte, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `SELECT data FROM github_responses WHERE connection = ? AND scope = ?`, connection, scope).Scan(&data)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load GitHub's answers about %s: %w", scope, err)
	}
	return data, nil
}

// SaveResponses implements github.Responses.
func (s *Store) SaveResponses(ctx context.Context, connection, scope string, data []byte, now time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO github_responses (connection, scope, saved, size, data) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (connection, scope) DO UPDATE SET saved = excluded.saved, size = excluded.size, data = excluded.data`,
			connection, scope, micros(now), len(data), data)
		return err
	})
	if err != nil {
		return fmt.Errorf("save GitHub's answers about %s: %w", scope, err)
	}
	return nil
}

// SweepResponses forgets the answers, and standings, that were saved before a
// time, and then the
// oldest ones as long as all take more than maxBytes. What is forgotten is asked
// for again.
func (s *Store) SweepResponses(ctx context.Context, before time.Time, maxBytes int64) error {
	err := s.update(ctx, func(tx *Tx) error {
		for _, table := range []string{"github_responses", "github_standing"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE saved < ?`, micros(before)); err != nil {
				return err
			}
		}
		for {
			var size int64
			if err := tx.QueryRow(ctx, `SELECT COALESCE(SUM(size), 0) FROM github_responses`).Scan(&size); err != nil || size <= maxBytes {
				return err
			}
			if _, err := tx.Exec(ctx, `
				DELETE FROM github_responses WHERE (connection, scope) IN (
					SELECT connection, scope FROM github_responses ORDER BY saved, connection, scope LIMIT ?)`, sweptAtOnce); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return fmt.Errorf("forget GitHub's answers: %w", err)
	}
	return nil
}

// GitHubMarked implements github.Work.
func (s *Store) GitHubMarked() <-chan struct{} { return s.wait(topicGitHub) }

// MarkGitHub implements github.Work.
func (s *Store) MarkGitHub(ctx context.Context, t github.Task, anew bool) error {
	conflict := `DO NOTHING`
	if anew {
		conflict = `DO UPDATE SET stamp = excluded.stamp,
			cause = CASE WHEN excluded.due < github_work.due THEN excluded.cause ELSE github_work.cause END,
			due = CASE WHEN excluded.due < github_work.due THEN excluded.due ELSE github_work.due END`
	}
	err := s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `
			INSERT INTO github_work (connection, owner, repo, cause, due, stamp, lease, lease_until) VALUES (?, ?, ?, ?, ?, ?, '', 0)
			ON CONFLICT (connection, owner, repo) `+conflict,
			t.Connection, strings.ToLower(t.Owner), strings.ToLower(t.Repo), t.Cause, micros(t.Due), uuid.NewString()))
		if n > 0 {
			tx.Notify(topicGitHub)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("mark %s/%s to be checked: %w", t.Owner, t.Repo, err)
	}
	return nil
}

// LeaseGitHub implements github.Work.
func (s *Store) LeaseGitHub(ctx context.Context, connection, lease string, now, until time.Time, limit int) (out []github.Task, next time.Time, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		out, next = nil, time.Time{}
		if _, err := tx.Exec(ctx, `
			UPDATE github_work SET lease = ?, lease_until = ? WHERE connection = ? AND (owner, repo) IN (
				SELECT owner, repo FROM github_work
				WHERE connection = ? AND due <= ? AND lease_until <= ?
				ORDER BY due, owner, repo LIMIT ?`+tx.dialect.SkipLocked+`)`,
			lease, micros(until), connection, connection, micros(now), micros(now), limit); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT owner, repo, cause, due, stamp FROM github_work WHERE connection = ? AND lease = ? ORDER BY due, owner, repo`, connection, lease)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			t := github.Task{Connection: connection}
			var due int64
			if err := rows.Scan(&t.Owner, &t.Repo, &t.Cause, &due, &t.Stamp); err != nil {
				return err
			}
			t.Due = fromMicros(due)
			out = append(out, t)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		rows.Close()
		var at sql.NullInt64
		err = tx.QueryRow(ctx, `
			SELECT MIN(CASE WHEN lease_until > due THEN lease_until ELSE due END) FROM github_work
			WHERE connection = ? AND (due > ? OR lease_until > ?)`, connection, micros(now), micros(now)).Scan(&at)
		next = fromMicros(at.Int64)
		return err
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("lease what is to be checked on %s: %w", connection, err)
	}
	return out, next, nil
}

// ExtendGitHub implements github.Work.
func (s *Store) ExtendGitHub(ctx context.Context, t github.Task, lease string, until time.Time) (bool, error) {
	var n int64
	err := s.update(ctx, func(tx *Tx) (err error) {
		n, err = affected(tx.Exec(ctx, `UPDATE github_work SET lease_until = ? WHERE connection = ? AND owner = ? AND repo = ? AND lease = ?`,
			micros(until), t.Connection, t.Owner, t.Repo, lease))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("extend the lease on %s/%s: %w", t.Owner, t.Repo, err)
	}
	return n > 0, nil
}

// SettleGitHub implements github.Work.
func (s *Store) SettleGitHub(ctx context.Context, t github.Task, lease string, next time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		of := []any{t.Connection, t.Owner, t.Repo, lease}
		if next.IsZero() {
			if _, err := tx.Exec(ctx, `DELETE FROM github_work WHERE connection = ? AND owner = ? AND repo = ? AND lease = ? AND stamp = ?`, append(of, t.Stamp)...); err != nil {
				return err
			}
		} else if _, err := tx.Exec(ctx, `UPDATE github_work SET due = ?, cause = 'clock' WHERE connection = ? AND owner = ? AND repo = ? AND lease = ? AND stamp = ?`,
			append(append([]any{micros(next)}, of...), t.Stamp)...); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE github_work SET lease = '', lease_until = 0 WHERE connection = ? AND owner = ? AND repo = ? AND lease = ?`, of...)
		return err
	})
	if err != nil {
		return fmt.Errorf("settle the check of %s/%s: %w", t.Owner, t.Repo, err)
	}
	return nil
}

// storedLimits is what of a github.LimitStatus is kept as JSON.
type storedLimits struct {
	Limits    []storedLimit `json:"limits,omitempty"`
	Until     int64         `json:"until,omitempty"`
	Why       string        `json:"why,omitempty"`
	Waits     int64         `json:"waits,omitempty"`
	Requests  int64         `json:"requests,omitempty"`
	Unchanged int64         `json:"unchanged,omitempty"`
}

type storedLimit struct {
	Resource  string `json:"resource"`
	Limit     int    `json:"limit"`
	Remaining int    `json:"remaining"`
	Reset     int64  `json:"reset"`
}

// SaveGitHubStandings implements github.Standings.
func (s *Store) SaveGitHubStandings(ctx context.Context, holder string, all []github.Status, now time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		for _, st := range all {
			row := storedLimits{Until: micros(st.Until), Why: st.Why, Waits: st.Waits, Requests: st.Requests, Unchanged: st.Unchanged}
			for _, l := range st.Limits {
				row.Limits = append(row.Limits, storedLimit{l.Resource, l.Limit, l.Remaining, micros(l.Reset)})
			}
			limits, err := json.Marshal(row)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `
				INSERT INTO github_standing (connection, organisation, holder, completed, limits, saved) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (connection, organisation, holder) DO UPDATE SET
					completed = CASE WHEN excluded.completed > github_standing.completed THEN excluded.completed ELSE github_standing.completed END,
					limits = excluded.limits, saved = excluded.saved`,
				st.Connection, st.Organisation, holder, micros(st.Completed), string(limits), micros(now))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save how the checks of repositories stand: %w", err)
	}
	return nil
}

// GitHubStandings implements github.Standings.
func (s *Store) GitHubStandings(ctx context.Context) (out []github.Standing, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT connection, organisation, holder, completed, limits, saved FROM github_standing ORDER BY connection, organisation, holder`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				st               github.Standing
				completed, saved int64
				limits           []byte
				row              storedLimits
			)
			if err := rows.Scan(&st.Connection, &st.Organisation, &st.Holder, &completed, &limits, &saved); err != nil {
				return err
			}
			if err := json.Unmarshal(limits, &row); err != nil {
				return fmt.Errorf("%s: %w", st.Organisation, err)
			}
			st.Completed, st.Saved, st.Until = fromMicros(completed), fromMicros(saved), fromMicros(row.Until)
			st.Why, st.Waits, st.Requests, st.Unchanged = row.Why, row.Waits, row.Requests, row.Unchanged
			for _, l := range row.Limits {
				st.Limits = append(st.Limits, github.Limit{Resource: l.Resource, Limit: l.Limit, Remaining: l.Remaining, Reset: fromMicros(l.Reset)})
			}
			out = append(out, st)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read how the checks of repositories stand: %w", err)
	}
	return out, nil
}
