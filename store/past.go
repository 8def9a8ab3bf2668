package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"reeve.dev/reeve/insight"
)

// pastAtOnce is how much of the past one transaction forgets.
const pastAtOnce = 1000

// RemovePastInsights forgets what ended before a time: facts and problems,
// documents in whose place others came, with what was read of them where they are
// nowhere any more, and what was exported and isn't current. The documents
// themselves go with SweepBlobs.
func (s *Store) RemovePastInsights(ctx context.Context, before time.Time) error {
	for _, remove := range []func(context.Context, *Tx, int64) (int64, error){
		func(ctx context.Context, tx *Tx, before int64) (int64, error) { return facts.forget(ctx, tx, before) },
		func(ctx context.Context, tx *Tx, before int64) (int64, error) {
			return problems.forget(ctx, tx, before)
		},
		forgetDocuments, forgetExports,
	} {
		for n := int64(pastAtOnce); n == pastAtOnce; {
			err := s.update(ctx, func(tx *Tx) (err error) {
				n, err = remove(ctx, tx, micros(before))
				return err
			})
			if err != nil {
				return fmt.Errorf("remove old insights: %w", err)
			}
		}
	}
	return nil
}

func (s spans) forget(ctx context.Context, tx *Tx, before int64) (int64, error) {
	return affected(tx.Exec(ctx, `DELETE FROM `+s.table+`_past WHERE until < ?`, before))
}

// forgetDocuments forgets places that documents had, and documents that have none
// left, with their components. It passes over those of images that still run
// somewhere, which are known by them, those that are yet to be exported, and the
// last of all: a number isn't given twice.
func forgetDocuments(ctx context.Context, tx *Tx, before int64) (int64, error) {
	// As who gives a document its number.
	if err := tx.Lock(ctx, "documents"); err != nil {
		return 0, err
	}
	// By its plus the one database looks for what is old, of which there is little, and
	// not for what isn't current, which is nearly all.
	documents, err := numbers(tx.Query(ctx, `
		DELETE FROM insight_inventory WHERE is_current = 0 AND (cluster, item) IN (
			SELECT v.cluster, v.item FROM insight_inventory v JOIN insight_documents d ON d.id = v.document_id
			WHERE +v.is_current = 0 AND v.received < ? AND EXISTS (
				SELECT 1 FROM insight_inventory n WHERE n.cluster = v.cluster AND n.place = v.place
				AND n.service = v.service AND n.kind = v.kind AND n.received > v.received AND n.received < ?)
			AND NOT (d.image <> '' AND EXISTS (SELECT 1 FROM workloads w WHERE w.digest = d.image))
			AND d.digest NOT IN (SELECT digest FROM insight_exports WHERE state = 'waiting')
			AND d.id <> (SELECT MAX(id) FROM insight_documents)
			LIMIT ?)
		RETURNING document_id`, before, before, pastAtOnce))
	if err != nil {
		return 0, err
	}
	slices.Sort(documents)
	for part := range slices.Chunk(slices.Compact(slices.Clone(documents)), batch) {
		var args []any
		gone, err := numbers(tx.Query(ctx, `
			SELECT id FROM insight_documents d WHERE id IN (`+list(part, &args)+`)
			AND NOT EXISTS (SELECT 1 FROM insight_inventory v WHERE v.document_id = d.id)`+tx.dialect.ForUpdate, args...))
		if err != nil {
			return 0, err
		}
		if len(gone) == 0 {
			continue
		}
		args = nil
		these := list(gone, &args)
		for _, statement := range []string{
			// Those that it makes on itself.
			`DELETE FROM vex_statements WHERE document IN (SELECT digest FROM insight_documents WHERE id IN (` + these + `)) AND subject = '` + insight.SubjectDocument + `' || document`,
			`DELETE FROM insight_members WHERE document_id IN (` + these + `)`,
			`DELETE FROM insight_documents WHERE id IN (` + these + `)`,
		} {
			if _, err := tx.Exec(ctx, statement, args...); err != nil {
				return 0, err
			}
		}
	}
	return int64(len(documents)), nil
}

// forgetExports forgets what went, or was refused, and isn't what runs. What does
// stays, so that it doesn't go again.
func forgetExports(ctx context.Context, tx *Tx, before int64) (int64, error) {
	return affected(tx.Exec(ctx, `
		DELETE FROM insight_exports WHERE (project, version) IN (
			SELECT e.project, e.version FROM insight_exports e
			WHERE e.state <> 'waiting' AND e.ended < ? AND NOT EXISTS (
				SELECT 1 FROM insight_documents d JOIN insight_inventory v ON v.document_id = d.id
				WHERE d.digest = e.digest AND v.is_current = 1)
			LIMIT ?)`, before, pastAtOnce))
}
