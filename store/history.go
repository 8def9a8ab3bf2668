package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
)

// oneSeries is the condition for the completed scans of a series.
func oneSeries(s scan.Series) (string, []any) {
	t := s.Target
	where := `status = 'completed' AND namespace = ? AND pod = ? AND container = ? AND uri = ?`
	args := []any{t.Namespace, t.Pod, t.Container, t.URI}
	if t.Agent != "" {
		where, args = where+` AND agent = ?`, append(args, t.Agent)
	}
	if s.Profile != "" {
		where, args = where+` AND profile = ? AND threshold = ?`, append(args, s.Profile, s.Threshold)
	}
	return where, args
}

// Latest implements scan.HistoryStore.
func (s *Store) Latest(ctx context.Context, f scan.LatestFilter) (out []scan.Scan, err error) {
	where, args := []string{"1 = 1"}, []any{}
	for _, c := range []struct{ column, value string }{
		{"agent", string(f.Agent)}, {"namespace", f.Namespace}, {"profile", f.Profile}, {"outcome", string(f.Outcome)},
	} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if cond, in := inScopes(f.Within, "agent", "namespace"); cond != "" {
		where, args = append(where, cond), append(args, in...)
	}
	if f.Before != "" {
		where, args = append(where, "scan < ?"), append(args, f.Before)
	}
	err = s.view(ctx, func(tx *Tx) error {
		out, err = queryScans(ctx, tx, `id IN (SELECT scan FROM latest_scans WHERE `+strings.Join(where, " AND ")+` ORDER BY scan DESC LIMIT ?) ORDER BY id DESC`,
			append(args, pageLimit(f.Limit))...)
		return err
	})
	return out, err
}

// eachStanding hands on rows of agent, day, passed and failed.
func eachStanding(rows *sql.Rows, err error, each func(fleet.AgentName, int64, scan.PostureDay)) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name fleet.AgentName
		var day int64
		var n scan.PostureDay
		if err := rows.Scan(&name, &day, &n.Passed, &n.Failed); err != nil {
			return err
		}
		each(name, day, n)
	}
	return rows.Err()
}

const seriesColumns = `agent, namespace, pod, container, uri, profile, threshold`

// isLatest notes that c, which is completed, is the last of its series, unless a
// scan that was asked for later is.
func isLatest(ctx context.Context, tx *Tx, c scan.Scan, outcome scan.Outcome, now time.Time) error {
	t := c.Request.Target
	series := []any{t.Agent, t.Namespace, t.Pod, t.Container, t.URI, c.Request.Profile, c.Request.Threshold}
	for {
		var last scan.ID
		var before scan.Outcome
		err := tx.QueryRow(ctx, `SELECT scan, outcome FROM latest_scans WHERE `+oneLatest+tx.dialect.ForUpdate, series...).Scan(&last, &before)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			made, err := tx.Exec(ctx, `INSERT INTO latest_scans (`+seriesColumns+`, scan, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				append(series, c.ID, outcome)...)
			if err != nil {
				return err
			}
			if n, err := made.RowsAffected(); n == 0 || err != nil {
				if err != nil {
					return err
				}
				continue // another transaction made it meanwhile
			}
			return stands(ctx, tx, t.Agent, t.Namespace, outcome, 1, now)
		case err != nil || last >= c.ID:
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE latest_scans SET scan = ?, outcome = ? WHERE `+oneLatest, append([]any{c.ID, outcome}, series...)...); err != nil || outcome == before {
			return err
		}
		if err := stands(ctx, tx, t.Agent, t.Namespace, before, -1, now); err != nil {
			return err
		}
		return stands(ctx, tx, t.Agent, t.Namespace, outcome, 1, now)
	}
}

// oneLatest is the condition for the row of latest_scans of a series.
const oneLatest = `agent = ? AND namespace = ? AND pod = ? AND container = ? AND uri = ? AND profile = ? AND threshold = ?`

// stands notes that by n more series, or less, of a namespace stand so since now.
func stands(ctx context.Context, tx *Tx, agent fleet.AgentName, namespace string, outcome scan.Outcome, n int, now time.Time) error {
	passed, failed := 0, n
	if outcome == scan.Passed {
		passed, failed = n, 0
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO posture_days (day, agent, namespace, passed, failed) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (day, agent, namespace) DO UPDATE SET passed = posture_days.passed + excluded.passed, failed = posture_days.failed + excluded.failed`,
		dayOf(now), agent, namespace, passed, failed)
	return err
}

// dayOf counts the days since 1970, in UTC.
func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// notLatest has other scans be the last of their series in the place of some that
// are forgotten, where there are any.
func notLatest(ctx context.Context, tx *Tx, these string, args []any, now time.Time) error {
	// Each change by itself: rows of posture_days are locked in one order.
	type change struct {
		agent     fleet.AgentName
		namespace string
		outcome   scan.Outcome
	}
	by := map[change]int{}
	count := func(n int, query string) error {
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c change
			if err := rows.Scan(&c.agent, &c.namespace, &c.outcome); err != nil {
				return err
			}
			by[c] += n
		}
		return rows.Err()
	}
	if err := count(-1, `SELECT agent, namespace, outcome FROM latest_scans WHERE scan IN (`+these+`) ORDER BY `+seriesColumns+tx.dialect.ForUpdate); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM latest_scans WHERE scan IN (`+these+`) AND NOT EXISTS (
		SELECT 1 FROM scans WHERE `+inSeries+`)`, args...)
	if err == nil {
		err = count(1, `UPDATE latest_scans SET
			outcome = (SELECT outcome FROM scans WHERE `+inSeries+` ORDER BY id DESC LIMIT 1),
			scan = (SELECT MAX(id) FROM scans WHERE `+inSeries+`) WHERE scan IN (`+these+`) RETURNING agent, namespace, outcome`)
	}
	for _, c := range slices.SortedFunc(maps.Keys(by), func(a, b change) int {
		return cmp.Or(cmp.Compare(a.agent, b.agent), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.outcome, b.outcome))
	}) {
		if err == nil && by[c] != 0 {
			err = stands(ctx, tx, c.agent, c.namespace, c.outcome, by[c], now)
		}
	}
	if err == nil {
		_, err = tx.Exec(ctx, `DELETE FROM posture_days WHERE day < ?`, dayOf(now)-scan.PostureDays)
	}
	return err
}

// Posture implements scan.HistoryStore. It goes back from how all stands now, so
// that days before the first that it looks at don't matter.
func (s *Store) Posture(ctx context.Context, f scan.PostureFilter) ([]scan.Posture, error) {
	where, args := []string{"1 = 1"}, []any{}
	if f.Agent != "" {
		where, args = append(where, "agent = ?"), append(args, f.Agent)
	}
	if f.Namespace != "" {
		where, args = append(where, "namespace = ?"), append(args, f.Namespace)
	}
	if cond, in := inScopes(f.Within, "agent", "namespace"); cond != "" {
		where, args = append(where, cond), append(args, in...)
	}
	chosen, agent := strings.Join(where, " AND "), `''`
	if f.ByAgent {
		agent = "agent"
	}
	until := dayOf(f.Until)
	first := until - int64(f.Days) + 1
	all := map[fleet.AgentName]scan.PostureDay{}
	changes := map[fleet.AgentName][]scan.PostureDay{}
	if !f.ByAgent {
		all[""] = scan.PostureDay{}
	}
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+agent+`, 0, SUM(CASE WHEN outcome = 'passed' THEN 1 ELSE 0 END), SUM(CASE WHEN outcome = 'passed' THEN 0 ELSE 1 END)
			FROM latest_scans WHERE `+chosen+` GROUP BY 1`, args...)
		err = eachStanding(rows, err, func(name fleet.AgentName, _ int64, n scan.PostureDay) { all[name] = n })
		if err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT `+agent+`, day, SUM(passed), SUM(failed) FROM posture_days WHERE `+chosen+` AND day >= ? GROUP BY 1, day`, append(args, first)...)
		return eachStanding(rows, err, func(name fleet.AgentName, day int64, n scan.PostureDay) {
			now := all[name] // nothing, of one that is all forgotten
			if day > until {
				now.Passed, now.Failed = now.Passed-n.Passed, now.Failed-n.Failed
			} else {
				if changes[name] == nil {
					changes[name] = make([]scan.PostureDay, f.Days)
				}
				changes[name][day-first] = n
			}
			all[name] = now
		})
	})
	out := make([]scan.Posture, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := scan.Posture{Agent: name, Days: make([]scan.PostureDay, f.Days)}
		for i, n := f.Days-1, all[name]; i >= 0; i-- {
			n.At = time.Unix((first+int64(i))*24*60*60, 0).UTC()
			p.Days[i] = n
			if c := changes[name]; c != nil {
				n.Passed, n.Failed = n.Passed-c[i].Passed, n.Failed-c[i].Failed
			}
		}
		out = append(out, p)
	}
	return out, err
}

// inSeries is the condition for the completed scans of the series of a row of
// latest_scans.
const inSeries = `scans.status = 'completed' AND scans.selector = '' AND scans.agent = latest_scans.agent AND scans.namespace = latest_scans.namespace
	AND scans.pod = latest_scans.pod AND scans.container = latest_scans.container AND scans.uri = latest_scans.uri
	AND scans.profile = latest_scans.profile AND scans.threshold = latest_scans.threshold`
