package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"reeve.dev/reeve/insight"
)

// DocumentComponents lists the components of SBOMs, each once, and the
// problems that were found in them.
func (s *Store) DocumentComponents(ctx context.Context, digests []insight.Digest) (out []insight.Component, found []insight.Problem, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out, found = nil, nil
		var documents []int64
		for part := range slices.Chunk(digests, batch) {
			var args []any
			some, err := numbers(tx.Query(ctx, `SELECT id FROM insight_documents WHERE digest IN (`+list(part, &args)+`)`, args...))
			if err != nil {
				return err
			}
			documents = append(documents, some...)
		}
		ids, err := members(ctx, tx, documents)
		if err != nil {
			return err
		}
		components, err := componentsByID(ctx, tx, ids)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(components, batch) {
			some := make([]int64, len(part))
			for i, c := range part {
				some[i] = c.id
			}
			var args []any
			findings, err := readFindings(ctx, tx, ` WHERE f.component_id IN (`+list(some, &args)+`)`, args...)
			if err != nil {
				return err
			}
			for _, c := range part {
				out = append(out, c.Component)
				for _, f := range findings[c.id] {
					found = append(found, problemOf(placed{}, c, f).Problem)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("components of SBOMs: %w", err)
	}
	return out, found, nil
}

// Successions lists the services whose current SBOM came since a time, with the
// one that was current then.
func (s *Store) Successions(ctx context.Context, q insight.Query) (out []insight.Succession, err error) {
	since := micros(q.Since)
	f := inventory(q)
	f.with("v.is_current = ?", 1)
	f.with("v.kind = ?", insight.KindSBOM)
	f.with("v.received >= ?", since)
	f.args = append([]any{since}, f.args...)
	err = s.rows(ctx, documentColumns+`,
			COALESCE((SELECT o.digest FROM insight_inventory p JOIN insight_documents o ON o.id = p.document_id
				WHERE p.cluster = v.cluster AND p.place = v.place AND p.service = v.service AND p.kind = v.kind AND p.received < ?
				ORDER BY p.received DESC, p.item DESC LIMIT 1), '')
		FROM insight_inventory v JOIN insight_documents d ON d.id = v.document_id`,
		f, "v.cluster, v.place, v.service", q, func(r *sql.Rows) error {
			var one insight.Succession
			one.Now, err = scanDocument(r, &one.Before)
			out = append(out, one)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list new SBOMs: %w", err)
	}
	return out, nil
}
