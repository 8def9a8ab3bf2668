package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"reeve.dev/reeve/insight"
)

var _ insight.ExportStore = (*Store)(nil)

// exportTopic is announced when exports are queued.
const exportTopic = "exports"

// ExportsQueued implements insight.ExportStore.
func (s *Store) ExportsQueued() <-chan struct{} { return s.wait(exportTopic) }

// queueExport has the SBOM wait in place of the one that was to go, or went, to
// the same destination. What went already goes again only where that is asked
// for.
func queueExport(ctx context.Context, tx *Tx, e insight.Export, again bool, at int64) error {
	unless := ` WHERE insight_exports.digest <> excluded.digest OR insight_exports.state = 'refused'`
	if again {
		unless = ` WHERE insight_exports.state <> 'waiting' OR insight_exports.digest <> excluded.digest`
	}
	n, err := affected(tx.Exec(ctx, `
		INSERT INTO insight_exports (project, version, cluster, namespace, project_of, environment, service, build, digest,
			state, queued, attempts, next_at, reason, ended)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, 0, ?, '', 0)
		ON CONFLICT (project, version) DO UPDATE SET cluster = excluded.cluster, namespace = excluded.namespace,
			project_of = excluded.project_of, environment = excluded.environment, service = excluded.service, build = excluded.build,
			digest = excluded.digest, state = 'waiting', queued = excluded.queued, attempts = 0, next_at = excluded.next_at, reason = '', ended = 0`+unless,
		e.Project, e.Version, e.Cluster, e.Environment.Namespace, e.Environment.Project, e.Environment.Name, e.Service, e.Build, e.Digest, at, at))
	if n > 0 {
		tx.Notify(exportTopic)
	}
	return err
}

// QueueExports has SBOMs go to their destinations, again if they went there
// already.
func (s *Store) QueueExports(ctx context.Context, list []insight.Export, at time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		if err := tx.Lock(ctx, exportTopic); err != nil { // all in one order
			return err
		}
		for _, e := range list {
			if err := queueExport(ctx, tx, e, true, micros(at)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("queue exports: %w", err)
	}
	return nil
}

const exportColumns = `
	SELECT project, version, cluster, namespace, project_of, environment, service, build, digest, state, queued, attempts, next_at, reason, ended
	FROM insight_exports`

func scanExport(rows *sql.Rows) (e insight.Export, err error) {
	var queued, next, ended int64
	err = rows.Scan(&e.Project, &e.Version, &e.Cluster, &e.Environment.Namespace, &e.Environment.Project, &e.Environment.Name,
		&e.Service, &e.Build, &e.Digest, &e.State, &queued, &e.Attempts, &next, &e.Reason, &ended)
	e.Queued, e.Next, e.Ended = fromMicros(queued), fromMicros(next), fromMicros(ended)
	return e, err
}

// DueExports implements insight.ExportStore.
func (s *Store) DueExports(ctx context.Context, now time.Time, limit int) (out []insight.Export, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out = nil
		rows, err := tx.Query(ctx, exportColumns+` WHERE state = 'waiting' AND next_at <= ? ORDER BY next_at, project, version LIMIT ?`, micros(now), limit)
		if err != nil {
			return err
		}
		return eachRow(rows, func() error {
			e, err := scanExport(rows)
			out = append(out, e)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("due exports: %w", err)
	}
	return out, nil
}

// PutExport implements insight.ExportStore.
func (s *Store) PutExport(ctx context.Context, e insight.Export) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE insight_exports SET state = ?, attempts = ?, next_at = ?, reason = ?, ended = ?
			WHERE project = ? AND version = ? AND digest = ? AND queued = ?`,
			e.State, e.Attempts, micros(e.Next), e.Reason, micros(e.Ended), e.Project, e.Version, e.Digest, micros(e.Queued))
		return err
	})
	if err != nil {
		return fmt.Errorf("export to %s %s: %w", e.Project, e.Version, err)
	}
	return nil
}

// Exports lists exports in a state, or all, the latest queued first.
func (s *Store) Exports(ctx context.Context, q insight.Query, state insight.ExportState) (out []insight.Export, err error) {
	var f filter
	equal(&f, "cluster", q.Cluster)
	equal(&f, "namespace", q.Namespace)
	equal(&f, "project_of", q.Project)
	equal(&f, "environment", q.Environment)
	equal(&f, "service", q.Service)
	equal(&f, "state", state)
	f.within(q, "cluster", "namespace")
	err = s.rows(ctx, exportColumns, f, "queued DESC, project, version", q, func(rows *sql.Rows) error {
		e, err := scanExport(rows)
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list exports: %w", err)
	}
	return out, nil
}

// ExportBacklog counts what waits, and what was refused.
func (s *Store) ExportBacklog(ctx context.Context) (b insight.ExportBacklog, err error) {
	var oldest int64
	err = s.view(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, `
			SELECT COALESCE(SUM(CASE WHEN state = 'waiting' THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN state = 'refused' THEN 1 ELSE 0 END), 0),
				COALESCE(MIN(CASE WHEN state = 'waiting' THEN queued END), 0)
			FROM insight_exports`).Scan(&b.Waiting, &b.Refused, &oldest)
	})
	b.Oldest = fromMicros(oldest)
	if err != nil {
		return b, fmt.Errorf("count exports: %w", err)
	}
	return b, nil
}
