package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
)

// seeAtOnce is how many agent processes one statement is about.
const seeAtOnce = 256

// SeeAgents notes that agent processes were there at a time.
func (s *Store) SeeAgents(ctx context.Context, peers []fleet.Peer, at time.Time) error {
	for some := range slices.Chunk(peers, seeAtOnce) {
		args := []any{micros(at), micros(at)}
		for _, p := range some {
			args = append(args, p.Agent, p.Instance)
		}
		err := s.update(ctx, func(tx *Tx) error {
			_, err := tx.Exec(ctx, `
				UPDATE agents SET last_seen = ? WHERE last_seen < ?
				AND (agent, instance) IN (VALUES (?, ?)`+strings.Repeat(`, (?, ?)`, len(some)-1)+`)`, args...)
			return err
		})
		if err != nil {
			return fmt.Errorf("see agents: %w", err)
		}
	}
	return nil
}
