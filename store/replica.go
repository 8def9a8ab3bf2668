package store

import (
	"context"
	"fmt"
	"time"

	"reeve.dev/reeve/fleet"
)

// Replica is one process of the hub, of several that share the database.
type Replica struct {
	ID string
	// Address is the host and port where the other replicas reach it.
	Address string
	Version string
	Started time.Time
	// Expires is when it counts as gone, unless it says before that it is
	// there.
	Expires time.Time
}

// ReplicaLink is a link of an agent process to a replica.
type ReplicaLink struct {
	fleet.Peer
	Remote    string
	Connected time.Time
}

// HeldLink is a link and who holds it.
type HeldLink struct {
	ReplicaLink
	Replica Replica
}

// SaveReplica notes that a replica is there. fresh says that it wasn't known,
// and so no link of its is.
func (s *Store) SaveReplica(ctx context.Context, r Replica) (fresh bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		n, err := affected(tx.Exec(ctx, `UPDATE replicas SET address = ?, version = ?, started = ?, expires = ? WHERE id = ?`,
			r.Address, r.Version, micros(r.Started), micros(r.Expires), r.ID))
		if fresh = err == nil && n == 0; !fresh {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO replicas (id, address, version, started, expires) VALUES (?, ?, ?, ?, ?)`,
			r.ID, r.Address, r.Version, micros(r.Started), micros(r.Expires))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("note that replica %s is there: %w", r.ID, err)
	}
	return fresh, nil
}

// RemoveReplicas forgets a replica, and those whose time had passed before;
// with their links.
func (s *Store) RemoveReplicas(ctx context.Context, id string, before time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM replicas WHERE id = ? OR expires < ?`, id, micros(before))
		return err
	})
	if err != nil {
		return fmt.Errorf("forget replica %s: %w", id, err)
	}
	return nil
}

// ChangeLinks notes which links of a replica, which SaveReplica has noted,
// came and went.
func (s *Store) ChangeLinks(ctx context.Context, replica string, up []ReplicaLink, down []fleet.Peer) error {
	err := s.update(ctx, func(tx *Tx) error {
		for _, p := range down {
			if _, err := tx.Exec(ctx, `DELETE FROM replica_links WHERE replica = ? AND agent = ? AND instance = ? AND session = ?`,
				replica, p.Agent, p.Instance, p.Session); err != nil {
				return err
			}
		}
		for _, l := range up {
			if _, err := tx.Exec(ctx, `
				INSERT INTO replica_links (replica, agent, instance, session, remote, connected) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (replica, agent, instance) DO UPDATE SET
					session = excluded.session, remote = excluded.remote, connected = excluded.connected`,
				replica, l.Agent, l.Instance, l.Session, l.Remote, micros(l.Connected)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note the links of replica %s: %w", replica, err)
	}
	return nil
}

// LinksOf answers the links of an agent, or of all agents if it is empty, at
// replicas that are there; and whether the agent ever joined.
func (s *Store) LinksOf(ctx context.Context, agent fleet.AgentName, now time.Time) (links []HeldLink, joined bool, err error) {
	where, args := "r.expires > ?", []any{micros(now)}
	if agent != "" {
		where, args = where+" AND l.agent = ?", append(args, agent)
	}
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT l.agent, l.instance, l.session, l.remote, l.connected, r.id, r.address, r.version, r.started, r.expires
			FROM replica_links l JOIN replicas r ON r.id = l.replica
			WHERE `+where+` ORDER BY l.agent, l.instance, l.connected DESC`, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var h HeldLink
			var connected, started, expires int64
			if err := rows.Scan(&h.Agent, &h.Instance, &h.Session, &h.Remote, &connected,
				&h.Replica.ID, &h.Replica.Address, &h.Replica.Version, &started, &expires); err != nil {
				return err
			}
			h.Connected, h.Replica.Started, h.Replica.Expires = fromMicros(connected), fromMicros(started), fromMicros(expires)
			links = append(links, h)
		}
		if err := rows.Err(); err != nil || len(links) > 0 || agent == "" {
			joined = len(links) > 0
			return err
		}
		rows.Close()
		var n int
		err = tx.QueryRow(ctx, `SELECT COUNT(*) FROM agents WHERE agent = ?`, agent).Scan(&n)
		joined = n > 0
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("look up the links of agent %q: %w", agent, err)
	}
	return links, joined, nil
}

// Replicas lists the replicas that are there.
func (s *Store) Replicas(ctx context.Context, now time.Time) (out []Replica, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, address, version, started, expires FROM replicas WHERE expires > ? ORDER BY id`, micros(now))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r Replica
			var started, expires int64
			if err := rows.Scan(&r.ID, &r.Address, &r.Version, &started, &expires); err != nil {
				return err
			}
			r.Started, r.Expires = fromMicros(started), fromMicros(expires)
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	return out, nil
}
