package store

import (
	"context"
	"encoding/json"
	"fmt"

	"reeve.dev/reeve/scan"
)

var _ scan.CatalogueStore = (*Store)(nil)

// lockCatalogue keeps two replicas from filling the catalogue's last place.
const lockCatalogue = "catalogue"

// controlRow is a control of a profile, as the column has it.
type controlRow struct {
	ID          string  `json:"id"`
	Title       string  `json:"title,omitempty"`
	Description string  `json:"description,omitempty"`
	Impact      float64 `json:"impact"`
}

// SaveProfile implements scan.CatalogueStore.
func (s *Store) SaveProfile(ctx context.Context, p scan.Profile, most int) (created bool, err error) {
	rows := make([]controlRow, len(p.Controls))
	for i, c := range p.Controls {
		rows[i] = controlRow(c)
	}
	controls, err := json.Marshal(rows)
	if err != nil {
		return false, fmt.Errorf("controls: %w", err)
	}
	err = s.update(ctx, func(tx *Tx) error {
		created = false
		if err := tx.Lock(ctx, lockCatalogue); err != nil {
			return err
		}
		old, err := queryProfiles(ctx, tx, `name = ? AND version = ?`, p.Name, p.Version)
		switch {
		case err != nil:
			return err
		case len(old) > 0 && old[0].Digest != p.Digest:
			return scan.ErrVersionUsed
		case len(old) > 0:
			return nil
		}
		if err := full(ctx, tx, `SELECT COUNT(*) FROM profiles`, most); err != nil {
			return err
		}
		created = true
		_, err = tx.Exec(ctx, `
			INSERT INTO profiles (name, version, digest, title, summary, controls, created, created_by)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			p.Name, p.Version, p.Digest, p.Title, p.Summary, string(controls), micros(p.Created), p.CreatedBy)
		return err
	})
	return created, err
}

func full(ctx context.Context, tx *Tx, count string, most int) error {
	var n int
	if err := tx.QueryRow(ctx, count).Scan(&n); err != nil {
		return err
	}
	if n >= most {
		return fmt.Errorf("%w: there are %d already; delete some first", scan.ErrCatalogueFull, n)
	}
	return nil
}

// StoredProfiles implements scan.CatalogueStore.
func (s *Store) StoredProfiles(ctx context.Context, name string) (out []scan.Profile, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out, err = queryProfiles(ctx, tx, `name = ? ORDER BY created DESC, version DESC`, name)
		return err
	})
	return out, err
}

// LastProfiles implements scan.CatalogueStore.
func (s *Store) LastProfiles(ctx context.Context, prefix, after string, limit int) (out []scan.Profile, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out, err = queryProfiles(ctx, tx, `name > ? AND SUBSTR(name, 1, ?) = ? AND NOT EXISTS (
			SELECT 1 FROM profiles AS later WHERE later.name = profiles.name AND (later.created > profiles.created
				OR later.created = profiles.created AND later.version > profiles.version)) ORDER BY name LIMIT ?`, max(after, before(prefix)), len(prefix), prefix, limit)
		return err
	})
	return out, err
}

// before comes before every text that begins with prefix, and after what comes
// before all of them.
func before(prefix string) string {
	if prefix == "" {
		return ""
	}
	return prefix[:len(prefix)-1]
}

func queryProfiles(ctx context.Context, tx *Tx, where string, args ...any) ([]scan.Profile, error) {
	rows, err := tx.Query(ctx, `SELECT name, version, digest, title, summary, controls, created, created_by FROM profiles WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []scan.Profile
	for rows.Next() {
		var p scan.Profile
		var text []byte
		var created int64
		if err := rows.Scan(&p.Name, &p.Version, &p.Digest, &p.Title, &p.Summary, &text, &created, &p.CreatedBy); err != nil {
			return nil, err
		}
		var controls []controlRow
		if err := json.Unmarshal(text, &controls); err != nil {
			return nil, fmt.Errorf("controls of profile %s: %w", p.Name, err)
		}
		for _, c := range controls {
			p.Controls = append(p.Controls, scan.ProfileControl(c))
		}
		p.Created = fromMicros(created)
		out = append(out, p)
	}
	return out, rows.Err()
}

// DeleteProfile implements scan.CatalogueStore.
func (s *Store) DeleteProfile(ctx context.Context, name, version string) error {
	return s.update(ctx, func(tx *Tx) error {
		query, args := `DELETE FROM profiles WHERE name = ?`, []any{name}
		if version != "" {
			query, args = query+` AND (version = ? OR digest = ?)`, append(args, version, version)
		}
		n, err := affected(tx.Exec(ctx, query, args...))
		if err == nil && n == 0 {
			err = scan.ErrNoProfile
		}
		return err
	})
}

// SaveThreshold implements scan.CatalogueStore.
func (s *Store) SaveThreshold(ctx context.Context, t scan.Threshold, was string, most int) (created bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		created = false
		if err := tx.Lock(ctx, lockCatalogue); err != nil {
			return err
		}
		old, err := queryThresholds(ctx, tx, `name = ?`, t.Name)
		switch {
		case err != nil:
			return err
		case was == scan.NoDigest && len(old) > 0, was != "" && was != scan.NoDigest && (len(old) == 0 || old[0].Digest != was):
			return scan.ErrChanged
		case len(old) > 0:
			_, err = tx.Exec(ctx, `UPDATE thresholds SET text = ?, digest = ?, created = ?, created_by = ? WHERE name = ?`,
				string(t.Text), t.Digest, micros(t.Created), t.CreatedBy, t.Name)
			return err
		}
		if err := full(ctx, tx, `SELECT COUNT(*) FROM thresholds`, most); err != nil {
			return err
		}
		created = true
		_, err = tx.Exec(ctx, `INSERT INTO thresholds (name, text, digest, created, created_by) VALUES (?, ?, ?, ?, ?)`,
			t.Name, string(t.Text), t.Digest, micros(t.Created), t.CreatedBy)
		return err
	})
	return created, err
}

// StoredThreshold implements scan.CatalogueStore.
func (s *Store) StoredThreshold(ctx context.Context, name string) (t scan.Threshold, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		found, err := queryThresholds(ctx, tx, `name = ?`, name)
		if err == nil && len(found) == 0 {
			err = scan.ErrNoThreshold
		}
		if err == nil {
			t = found[0]
		}
		return err
	})
	return t, err
}

// StoredThresholds implements scan.CatalogueStore.
func (s *Store) StoredThresholds(ctx context.Context, after string, limit int) (out []scan.Threshold, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		out, err = queryThresholds(ctx, tx, `name > ? ORDER BY name LIMIT ?`, after, limit)
		return err
	})
	return out, err
}

func queryThresholds(ctx context.Context, tx *Tx, where string, args ...any) ([]scan.Threshold, error) {
	rows, err := tx.Query(ctx, `SELECT name, text, digest, created, created_by FROM thresholds WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []scan.Threshold
	for rows.Next() {
		var t scan.Threshold
		var created int64
		if err := rows.Scan(&t.Name, &t.Text, &t.Digest, &created, &t.CreatedBy); err != nil {
			return nil, err
		}
		t.Created = fromMicros(created)
		out = append(out, t)
	}
	return out, rows.Err()
}

// DeleteThreshold implements scan.CatalogueStore.
func (s *Store) DeleteThreshold(ctx context.Context, name string) error {
	return s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `DELETE FROM thresholds WHERE name = ?`, name))
		if err == nil && n == 0 {
			err = scan.ErrNoThreshold
		}
		return err
	})
}
