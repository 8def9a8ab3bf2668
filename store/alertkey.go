package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"reeve.dev/reeve/alert/sign"
)

var _ sign.Store = (*Store)(nil)

// AlertKeys implements sign.Store.
func (s *Store) AlertKeys(ctx context.Context, now time.Time) ([]sign.Key, error) {
	var out []sign.Key
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT id, public, sealed, created_at, ends_at FROM alert_signing_key
			WHERE ends_at = 0 OR ends_at > ? ORDER BY created_at DESC, id`, micros(now))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				k              sign.Key
				public, sealed string
				created, ends  int64
			)
			if err := rows.Scan(&k.ID, &public, &sealed, &created, &ends); err != nil {
				return err
			}
			var errs [2]error
			k.Public, errs[0] = base64.StdEncoding.DecodeString(public)
			k.Sealed, errs[1] = base64.StdEncoding.DecodeString(sealed)
			if err := errors.Join(errs[:]...); err != nil {
				return fmt.Errorf("key %s: %w", k.ID, err)
			}
			k.Created, k.Ends = fromMicros(created), fromMicros(ends)
			out = append(out, k)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the keys of alerts: %w", err)
	}
	return out, nil
}

const validAlertKeys = `SELECT COUNT(*) FROM alert_signing_key WHERE ends_at = 0 OR ends_at > ?`

// AddAlertKey implements sign.Store.
func (s *Store) AddAlertKey(ctx context.Context, k sign.Key, others int, end time.Time) (added bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		added = false
		if err := tx.Lock(ctx, "alert keys"); err != nil {
			return err
		}
		var valid int
		if err := tx.QueryRow(ctx, validAlertKeys, micros(k.Created)).Scan(&valid); err != nil || valid > others {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE alert_signing_key SET ends_at = ? WHERE ends_at = 0`, micros(end)); err != nil {
			return err
		}
		added = true
		_, err := tx.Exec(ctx, `INSERT INTO alert_signing_key (id, public, sealed, created_at, ends_at) VALUES (?, ?, ?, ?, 0)`,
			k.ID, base64.StdEncoding.EncodeToString(k.Public), base64.StdEncoding.EncodeToString(k.Sealed), micros(k.Created))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("add a key of alerts: %w", err)
	}
	return added, nil
}

// EndAlertKey implements sign.Store. If it was the newest, the one before it
// goes on without an end.
func (s *Store) EndAlertKey(ctx context.Context, id string, now time.Time) (ended bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		ended = false
		if err := tx.Lock(ctx, "alert keys"); err != nil {
			return err
		}
		var valid int
		if err := tx.QueryRow(ctx, validAlertKeys, micros(now)).Scan(&valid); err != nil || valid < 2 {
			return err
		}
		n, err := affected(tx.Exec(ctx, `UPDATE alert_signing_key SET ends_at = ? WHERE id = ? AND (ends_at = 0 OR ends_at > ?)`, micros(now), id, micros(now)))
		if err != nil {
			return err
		}
		ended = n > 0
		_, err = tx.Exec(ctx, `UPDATE alert_signing_key SET ends_at = 0 WHERE ends_at > ?
			AND NOT EXISTS (SELECT 1 FROM alert_signing_key o WHERE o.ends_at = 0)`, micros(now))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end a key of alerts: %w", err)
	}
	return ended, nil
}
