package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
)

// ErrSchema is returned by Ready where the database's schema is older than the
// one that this version works with, such as after a backup was restored
// beneath a running hub.
var ErrSchema = errors.New("the database's schema is older than this version needs; restart the hub, which migrates it")

// Ready reports why nothing can be stored: the database doesn't answer, takes
// no writes, or has another schema than New left.
func (s *Store) Ready(ctx context.Context) error {
	var have int64
	err := s.read.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version").Scan(&have)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if want := Schema(); have < want {
		return fmt.Errorf("schema %d, not %d: %w", have, want, ErrSchema)
	}
	// It changes no row, but only where rows can be changed.
	err = s.update(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, "UPDATE goose_db_version SET is_applied = is_applied WHERE id < 0")
		return err
	})
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// Schema is the version that New brings a database to.
var Schema = sync.OnceValue(func() (newest int64) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		panic(err) // the pattern is a good one
	}
	for _, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
})
