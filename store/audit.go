package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/audit"
)

var (
	_ audit.Store          = (*Store)(nil)
	_ audit.RecordingStore = (*Store)(nil)
)

const auditColumns = `chain, seq, at, kind, actor, holder, agent, service, action, status, body, hash`

// auditRows is how many records one statement inserts.
const auditRows = 100

// AppendAudit implements audit.Store.
func (s *Store) AppendAudit(ctx context.Context, entries []audit.Entry) error {
	err := s.update(ctx, func(tx *Tx) error {
		for part := range slices.Chunk(entries, auditRows) {
			var args []any
			for _, e := range part {
				i := e.Index
				args = append(args, e.Chain, e.Seq, micros(i.At), i.Kind, i.Actor, i.Holder, i.Agent, i.Service, i.Action, i.Status, e.Body, e.Hash)
			}
			values := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), ", len(part)), ", ")
			if _, err := tx.Exec(ctx, `INSERT INTO audit_records (`+auditColumns+`) VALUES `+values, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("append to the audit log: %w", err)
	}
	return nil
}

// AuditHead implements audit.Store.
func (s *Store) AuditHead(ctx context.Context, chain string) (h audit.Head, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		h, err = auditHead(tx.QueryRow(ctx, `SELECT seq, hash, body FROM audit_records WHERE chain = ? ORDER BY seq DESC LIMIT 1`, chain))
		return err
	})
	if err != nil {
		return audit.Head{}, fmt.Errorf("find the end of the audit log: %w", err)
	}
	return h, nil
}

func auditHead(row *sql.Row) (h audit.Head, err error) {
	err = row.Scan(&h.Seq, &h.Hash, &h.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return audit.Head{}, nil
	}
	return h, err
}

// AuditChains implements audit.Store.
func (s *Store) AuditChains(ctx context.Context) (chains []string, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT chain FROM audit_records UNION SELECT chain FROM audit_anchors ORDER BY chain`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c string
			if err := rows.Scan(&c); err != nil {
				return err
			}
			chains = append(chains, c)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list the audit log's chains: %w", err)
	}
	return chains, nil
}

// AuditEntries implements audit.Store.
func (s *Store) AuditEntries(ctx context.Context, chain string, after int64, limit int) ([]audit.Entry, error) {
	return s.auditEntries(ctx, `chain = ? AND seq > ? ORDER BY seq LIMIT ?`, chain, after, limit)
}

// AuditRecords implements audit.Store.
func (s *Store) AuditRecords(ctx context.Context, f audit.Filter) ([]audit.Entry, error) {
	where, args := []string{"1 = 1"}, []any{}
	with := func(cond string, values ...any) { where, args = append(where, cond), append(args, values...) }
	for _, c := range []struct{ column, value string }{
		{"kind", string(f.Kind)}, {"actor", f.Actor}, {"holder", f.Holder}, {"agent", f.Agent}, {"service", f.Service}, {"action", f.Action},
	} {
		if c.value != "" {
			with(c.column+" = ?", c.value)
		}
	}
	if f.Status != 0 {
		with("status = ?", f.Status)
	}
	if !f.Since.IsZero() {
		with("at >= ?", micros(f.Since))
	}
	if !f.Until.IsZero() {
		with("at < ?", micros(f.Until))
	}
	if b := f.Before; !b.At.IsZero() {
		at := micros(b.At)
		with("(at < ? OR at = ? AND (chain < ? OR chain = ? AND seq < ?))", at, at, b.Chain, b.Chain, b.Seq)
		with("at <= ?", at) // by which the index finds the place
	}
	return s.auditEntries(ctx, strings.Join(where, " AND ")+` ORDER BY at DESC, chain DESC, seq DESC LIMIT ?`, append(args, f.Limit)...)
}

func (s *Store) auditEntries(ctx context.Context, where string, args ...any) (out []audit.Entry, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+auditColumns+` FROM audit_records WHERE `+where, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e audit.Entry
			var at int64
			i := &e.Index
			if err := rows.Scan(&e.Chain, &e.Seq, &at, &i.Kind, &i.Actor, &i.Holder, &i.Agent, &i.Service, &i.Action, &i.Status, &e.Body, &e.Hash); err != nil {
				return err
			}
			i.At = fromMicros(at)
			out = append(out, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return out, nil
}

// AddAnchor implements audit.Store.
func (s *Store) AddAnchor(ctx context.Context, a audit.Anchor) error {
	if err := s.update(ctx, func(tx *Tx) error { return addAnchor(ctx, tx, a) }); err != nil {
		return fmt.Errorf("anchor the audit log: %w", err)
	}
	return nil
}

func addAnchor(ctx context.Context, tx *Tx, a audit.Anchor) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO audit_anchors (chain, seq, kind, hash, at, signature) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (chain, seq, kind) DO NOTHING`,
		a.Chain, a.Seq, a.Kind, a.Hash, micros(a.At), base64.StdEncoding.EncodeToString(a.Signature))
	return err
}

// Anchors implements audit.Store.
func (s *Store) Anchors(ctx context.Context, chain string) (out []audit.Anchor, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT chain, seq, kind, hash, at, signature FROM audit_anchors WHERE chain = ? ORDER BY seq, kind`, chain)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a audit.Anchor
			var at int64
			var signature string
			if err := rows.Scan(&a.Chain, &a.Seq, &a.Kind, &a.Hash, &at, &signature); err != nil {
				return err
			}
			a.At = fromMicros(at)
			// One that can't be read verifies as little as a wrong one.
			a.Signature, _ = base64.StdEncoding.DecodeString(signature)
			out = append(out, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit log's anchors: %w", err)
	}
	return out, nil
}

// TrimPoint implements audit.Store.
func (s *Store) TrimPoint(ctx context.Context, chain string, before time.Time, limit int) (h audit.Head, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		var first, newest, young int64
		err := tx.QueryRow(ctx, `SELECT COALESCE(MIN(seq), 0), COALESCE(MAX(seq), 0) FROM audit_records WHERE chain = ?`, chain).Scan(&first, &newest)
		if err != nil || first == newest {
			return err
		}
		// Of those that can go at most the first is young, or none is.
		most := min(first+int64(limit), newest)
		if err := tx.QueryRow(ctx, `SELECT COALESCE(MIN(seq), ?) FROM audit_records WHERE chain = ? AND seq < ? AND at >= ?`,
			most, chain, most, micros(before)).Scan(&young); err != nil {
			return err
		}
		h, err = auditHead(tx.QueryRow(ctx, `SELECT seq, hash, body FROM audit_records WHERE chain = ? AND seq < ? ORDER BY seq DESC LIMIT 1`, chain, young))
		return err
	})
	if err != nil {
		return audit.Head{}, fmt.Errorf("find what is old in the audit log: %w", err)
	}
	return h, nil
}

// TrimAudit implements audit.Store.
func (s *Store) TrimAudit(ctx context.Context, a audit.Anchor) error {
	err := s.update(ctx, func(tx *Tx) error {
		for _, table := range []string{"audit_records", "audit_anchors"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE chain = ? AND seq <= ?`, a.Chain, a.Seq); err != nil {
				return err
			}
		}
		return addAnchor(ctx, tx, a)
	})
	if err != nil {
		return fmt.Errorf("trim the audit log: %w", err)
	}
	return nil
}

const recordingColumns = `id, began, ended, actor, credential, holder, agent, service, namespace, pod, container, command, width, height, size, digest, cause`

// SaveRecording implements audit.RecordingStore.
func (s *Store) SaveRecording(ctx context.Context, r audit.Recording) error {
	command, err := json.Marshal(r.Command)
	if err != nil {
		return err
	}
	err = s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO recordings (`+recordingColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO NOTHING`,
			r.ID, micros(r.Began), micros(r.Ended), r.Actor, r.Credential, r.Holder, r.Agent, r.Service, r.Namespace, r.Pod, r.Container,
			string(command), r.Width, r.Height, r.Size, r.Digest, r.Cause)
		return err
	})
	if err != nil {
		return fmt.Errorf("save recording %s: %w", r.ID, err)
	}
	return nil
}

// Recording implements audit.RecordingStore.
func (s *Store) Recording(ctx context.Context, id string) (audit.Recording, error) {
	list, err := s.recordings(ctx, `id = ?`, id)
	if err == nil && len(list) == 0 {
		return audit.Recording{}, fmt.Errorf("%s: %w", id, audit.ErrNoRecording)
	}
	if err != nil {
		return audit.Recording{}, err
	}
	return list[0], nil
}

// Recordings implements audit.RecordingStore.
func (s *Store) Recordings(ctx context.Context, f audit.RecordingFilter) ([]audit.Recording, error) {
	where, args := []string{"1 = 1"}, []any{}
	for _, c := range []struct{ cond, value string }{{"actor = ?", f.Actor}, {"holder = ?", f.Holder}, {"agent = ?", f.Agent}, {"id < ?", f.Before}} {
		if c.value != "" {
			where, args = append(where, c.cond), append(args, c.value)
		}
	}
	return s.recordings(ctx, strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT ?`, append(args, f.Limit)...)
}

func (s *Store) recordings(ctx context.Context, where string, args ...any) (out []audit.Recording, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+recordingColumns+` FROM recordings WHERE `+where, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r audit.Recording
			var began, ended int64
			var command string
			if err := rows.Scan(&r.ID, &began, &ended, &r.Actor, &r.Credential, &r.Holder, &r.Agent, &r.Service, &r.Namespace, &r.Pod, &r.Container,
				&command, &r.Width, &r.Height, &r.Size, &r.Digest, &r.Cause); err != nil {
				return err
			}
			r.Began, r.Ended = fromMicros(began), fromMicros(ended)
			if err := json.Unmarshal([]byte(command), &r.Command); err != nil {
				return fmt.Errorf("command of %s: %w", r.ID, err)
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read recordings: %w", err)
	}
	return out, nil
}

// RemoveRecordings forgets the recordings that ended before a time. Their
// documents go with the next SweepBlobs.
func (s *Store) RemoveRecordings(ctx context.Context, before time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM recordings WHERE ended < ?`, micros(before))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove old recordings: %w", err)
	}
	return nil
}
