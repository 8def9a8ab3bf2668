package store

import (
	"context"
	"fmt"
	"time"

	"reeve.dev/reeve/pki"
)

var _ pki.RevocationStore = (*Store)(nil)

// Revoke implements pki.RevocationStore.
func (s *Store) Revoke(ctx context.Context, r pki.Revocation) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO revocations (kind, id, reason, actor, at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, actor = excluded.actor, at = excluded.at`,
			r.Kind, r.ID, r.Reason, r.By, micros(r.At))
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke %s %s: %w", r.Kind, r.ID, err)
	}
	return nil
}

// Revocations implements pki.RevocationStore.
func (s *Store) Revocations(ctx context.Context, since time.Time) ([]pki.Revocation, error) {
	var out []pki.Revocation
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT kind, id, reason, actor, at FROM revocations
			WHERE at >= ? ORDER BY at DESC, kind, id`, micros(since))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r pki.Revocation
			var at int64
			if err := rows.Scan(&r.Kind, &r.ID, &r.Reason, &r.By, &at); err != nil {
				return err
			}
			r.At = fromMicros(at)
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	return out, nil
}
