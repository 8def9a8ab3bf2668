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
	where, args := []string{"selector = ''", "status = 'completed'"}, []any{}
	for _, c := range []struct{ column, value string }{{"agent", string(f.Agent)}, {"namespace", f.Namespace}, {"profile", f.Profile}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if cond, in := inScopes(f.Within, "agent", "namespace"); cond != "" {
		where, args = append(where, cond), append(args, in...)
	}
	// What isn't of the series as such is asked of the last scan alone.
	query := `id IN (SELECT MAX(id) FROM scans WHERE ` + strings.Join(where, " AND ") + `
		GROUP BY agent, namespace, pod, container, uri, profile, threshold)`
	if f.Outcome != "" {
		query, args = query+` AND outcome = ?`, append(args, f.Outcome)
	}
	if f.Before != "" {
		query, args = query+` AND id < ?`, append(args, f.Before)
	}
	err = s.view(ctx, func(tx *Tx) error {
		out, err = queryScans(ctx, tx, query+` ORDER BY id DESC LIMIT ?`, append(args, pageLimit(f.Limit))...)
		return err
	})
	return out, err
}
