package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

var _ pki.TokenStore = (*Store)(nil)

// Agent is one agent process that joined at some time. Its registration is
// the latest, without what it was holding.
type Agent struct {
	fleet.Registration
	FirstSeen time.Time
	LastSeen  time.Time
}

// What is kept of the processes of one agent that were here before: an agent
// without a lasting folder is another process at each start.
const (
	maxInstances = 100
	instanceLife = 30 * 24 * time.Hour
)

// SaveAgent notes what an agent process said when it joined, and forgets those
// of the same agent that weren't seen for a month, or are too many.
func (s *Store) SaveAgent(ctx context.Context, r fleet.Registration, at time.Time) error {
	r.Holding = nil
	row, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("save agent %s: %w", r.Agent, err)
	}
	err = s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO agents (agent, instance, version, hostname, registration, first_seen, last_seen)
			VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (agent, instance) DO UPDATE SET
				version = excluded.version, hostname = excluded.hostname,
				registration = excluded.registration, last_seen = excluded.last_seen`,
			r.Agent, r.Instance, r.Version, r.Hostname, string(row), micros(at), micros(at))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			DELETE FROM agents WHERE agent = ? AND instance <> ? AND (last_seen < ? OR instance NOT IN (
				SELECT instance FROM agents WHERE agent = ? ORDER BY last_seen DESC, instance LIMIT ?))`,
			r.Agent, r.Instance, micros(at.Add(-instanceLife)), r.Agent, maxInstances)
		return err
	})
	if err != nil {
		return fmt.Errorf("save agent %s: %w", r.Agent, err)
	}
	return nil
}

// Agents lists every agent process that ever joined, by name, the one last
// seen first.
func (s *Store) Agents(ctx context.Context) ([]Agent, error) { return s.agents(ctx, "") }

// agents are those for which the conditions hold.
func (s *Store) agents(ctx context.Context, where string, args ...any) ([]Agent, error) {
	var out []Agent
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT registration, first_seen, last_seen FROM agents `+where+`
			ORDER BY agent, last_seen DESC, instance`, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				row         []byte
				first, last int64
			)
			if err := rows.Scan(&row, &first, &last); err != nil {
				return err
			}
			a := Agent{FirstSeen: fromMicros(first), LastSeen: fromMicros(last)}
			if err := json.Unmarshal(row, &a.Registration); err != nil {
				return err
			}
			out = append(out, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	return out, nil
}

// ScanTargets implements scan.Agents: what any process of an agent allows.
func (s *Store) ScanTargets(ctx context.Context, name fleet.AgentName) (map[fleet.AgentName][]string, error) {
	where, args := "", []any(nil)
	if name != "" {
		where, args = "WHERE agent = ?", []any{name}
	}
	agents, err := s.agents(ctx, where, args...)
	if err != nil {
		return nil, err
	}
	out := map[fleet.AgentName][]string{}
	for _, a := range agents {
		kinds := append(out[a.Agent], a.ScanTargets...)
		slices.Sort(kinds)
		out[a.Agent] = slices.Compact(kinds)
	}
	return out, nil
}

// CreateToken implements pki.TokenStore.
func (s *Store) CreateToken(ctx context.Context, t pki.Token) error {
	err := s.update(ctx, func(tx *Tx) error {
		rights, err := json.Marshal(t.Rights)
		if err != nil {
			return err
		}
		source, err := credentialColumn(t.Source)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO tokens (id, kind, name, agent, role, rights, hash, created, expires, used_at, used_by, source)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			t.ID, t.Kind, t.Name, t.Agent, t.Rights.Role(), string(rights), hex.EncodeToString(t.Hash),
			micros(t.Created), micros(t.Expires), micros(t.UsedAt), t.UsedBy, source)
		return err
	})
	if err != nil {
		return fmt.Errorf("create token %s: %w", t.ID, err)
	}
	return nil
}

const tokenColumns = `id, kind, name, agent, role, rights, hash, created, expires, used_at, used_by, source`

// credentialColumn is a credential as JSON, or nothing for none.
func credentialColumn(c pki.Credential) (string, error) {
	if c.ID == "" {
		return "", nil
	}
	text, err := json.Marshal(c)
	return string(text), err
}

func credentialOf(column string) (c pki.Credential, err error) {
	if column != "" {
		err = json.Unmarshal([]byte(column), &c)
	}
	return c, err
}

func scanToken(row interface{ Scan(...any) error }) (t pki.Token, err error) {
	var (
		role                   pki.Role
		rights, hash, source   string
		created, expires, used int64
	)
	err = row.Scan(&t.ID, &t.Kind, &t.Name, &t.Agent, &role, &rights, &hash, &created, &expires, &used, &t.UsedBy, &source)
	if err != nil {
		return t, err
	}
	if t.Source, err = credentialOf(source); err != nil {
		return t, fmt.Errorf("source: %w", err)
	}
	if rights != "" {
		err = json.Unmarshal([]byte(rights), &t.Rights)
	} else if role != "" { // from before tokens had limits
		t.Rights = role.Everywhere()
	}
	if err != nil {
		return t, fmt.Errorf("rights: %w", err)
	}
	t.Created, t.Expires, t.UsedAt = fromMicros(created), fromMicros(expires), fromMicros(used)
	t.Hash, err = hex.DecodeString(hash)
	return t, err
}

// TokenByID implements pki.TokenStore.
func (s *Store) TokenByID(ctx context.Context, id string) (t pki.Token, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		t, err = tokenByID(ctx, tx, id)
		return err
	})
	return t, err
}

func tokenByID(ctx context.Context, tx *Tx, id string) (pki.Token, error) {
	t, err := scanToken(tx.QueryRow(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return pki.Token{}, fmt.Errorf("token %q: %w", id, pki.ErrNoToken)
	}
	if err != nil {
		return pki.Token{}, fmt.Errorf("token %q: %w", id, err)
	}
	return t, nil
}

// UseToken implements pki.TokenStore.
func (s *Store) UseToken(ctx context.Context, id, by string, at time.Time) error {
	return s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `UPDATE tokens SET used_at = ?, used_by = ? WHERE id = ? AND used_at = 0`,
			micros(at), by, id))
		if err != nil {
			return fmt.Errorf("use token %q: %w", id, err)
		}
		if n == 1 {
			return nil
		}
		t, err := tokenByID(ctx, tx, id)
		if err != nil {
			return err
		}
		if t.UsedBy != by {
			return fmt.Errorf("token %q: %w on %s", id, pki.ErrUsed, t.UsedAt.Format(time.RFC3339))
		}
		return nil
	})
}

// ListTokens implements pki.TokenStore.
func (s *Store) ListTokens(ctx context.Context) ([]pki.Token, error) {
	var out []pki.Token
	err := s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+tokenColumns+` FROM tokens ORDER BY created DESC, id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			t, err := scanToken(rows)
			if err != nil {
				return err
			}
			out = append(out, t)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return out, nil
}

// RevokeToken implements pki.TokenStore.
func (s *Store) RevokeToken(ctx context.Context, id string) error {
	return s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `DELETE FROM tokens WHERE id = ?`, id))
		if err != nil {
			return fmt.Errorf("revoke token %q: %w", id, err)
		}
		if n == 0 {
			return fmt.Errorf("revoke token %q: %w", id, pki.ErrNoToken)
		}
		return nil
	})
}
