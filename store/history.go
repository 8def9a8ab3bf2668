package store

import (
	"context"
	"strings"

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

const seriesColumns = `agent, namespace, pod, container, uri, profile, threshold`

// isLatest notes that c, which is completed, is the last of its series, unless a
// scan that was asked for later is.
func isLatest(ctx context.Context, tx *Tx, c scan.Scan, outcome scan.Outcome) error {
	t := c.Request.Target
	_, err := tx.Exec(ctx, `
		INSERT INTO latest_scans (`+seriesColumns+`, scan, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (`+seriesColumns+`) DO UPDATE SET scan = excluded.scan, outcome = excluded.outcome WHERE latest_scans.scan < excluded.scan`,
		t.Agent, t.Namespace, t.Pod, t.Container, t.URI, c.Request.Profile, c.Request.Threshold, c.ID, outcome)
	return err
}

// notLatest has other scans be the last of their series in the place of some that
// are forgotten, where there are any.
func notLatest(ctx context.Context, tx *Tx, these string, args []any) error {
	_, err := tx.Exec(ctx, `DELETE FROM latest_scans WHERE scan IN (`+these+`) AND NOT EXISTS (
		SELECT 1 FROM scans WHERE `+inSeries+`)`, args...)
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE latest_scans SET
			outcome = (SELECT outcome FROM scans WHERE `+inSeries+` ORDER BY id DESC LIMIT 1),
			scan = (SELECT MAX(id) FROM scans WHERE `+inSeries+`) WHERE scan IN (`+these+`)`, args...)
	}
	return err
}

// inSeries is the condition for the completed scans of the series of a row of
// latest_scans.
const inSeries = `scans.status = 'completed' AND scans.selector = '' AND scans.agent = latest_scans.agent AND scans.namespace = latest_scans.namespace
	AND scans.pod = latest_scans.pod AND scans.container = latest_scans.container AND scans.uri = latest_scans.uri
	AND scans.profile = latest_scans.profile AND scans.threshold = latest_scans.threshold`
