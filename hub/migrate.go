package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/store/move"
)

// Migration says what Migrate does beside what the configuration says.
type Migration struct {
	// From is the dataDir of a hub with a database of its own.
	From string
	// WithoutMissing and Progress are as in [move.Config].
	WithoutMissing bool
	Progress       func(what string, done, total int)
}

// Migrate takes the data of a hub with a database of its own, which doesn't run,
// to the database and the documents that cfg names.
func Migrate(ctx context.Context, cfg Config, m Migration, logger *slog.Logger) (r move.Report, err error) {
	if err := cfg.Validate(); err != nil {
		return r, err
	}
	if cfg.Database.URL == "" {
		return r, errors.New("database.url is missing in the configuration: it names the PostgreSQL database to go to")
	}
	if err := move.Check(m.From); err != nil { // where the lock would leave a file
		return r, err
	}
	unlock, err := lock(m.From)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	left, err := audit.LeftRecordings(recordingsIn(m.From))
	if err != nil {
		return r, err
	}
	if len(left) > 0 {
		return r, fmt.Errorf("in %s recordings are left of sessions (%d) that the hub was killed in: start it once, which stores them, and end it", filepath.Dir(left[0]), len(left))
	}
	return move.Move(ctx, move.Config{
		From: m.From, To: cfg.postgres(), WithoutMissing: m.WithoutMissing, Progress: m.Progress, Logger: logger,
	})
}
