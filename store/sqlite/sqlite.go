// Package sqlite opens the hub's embedded database: one file in WAL mode
// with full syncs, so that a commit survives the loss of power, written by
// one connection and read by several. Documents lie in the folder blobs
// beside the file.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/blob"
)

const readers = 4

// Open opens the database at path, made with mode 0600 if it isn't there,
// brings it to the newest schema and returns the store on it.
func Open(ctx context.Context, path string, logger *slog.Logger) (*store.Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	blobs, err := blob.Open(filepath.Join(filepath.Dir(path), "blobs"))
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	// A write transaction takes the lock as it begins: one that took it
	// later could be refused halfway.
	write, err := open(path, locking("immediate"), 1)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", path, err)
	}
	read, err := open(path, locking("deferred"), readers)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %s: %w", path, err), write.Close())
	}
	s, err := store.New(ctx, store.Config{
		Dialect: store.Dialect{Goose: goose.DialectSQLite3, OneWriter: true},
		Write:   write,
		Read:    read,
		Blobs:   blobs,
		Logger:  logger,
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", path, err)
	}
	return s, nil
}

// create makes the file beforehand, since SQLite would make it readable to
// all; its journals take the file's mode.
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// OpenReadOnly opens the database at path for whoever reads it beside the store,
// and leaves it as it is.
func OpenReadOnly(path string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return open(path, url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", "cache_size(-4000)"}}, 1)
}

// locking is how a store works with its file, and when a transaction locks it.
func locking(when string) url.Values {
	return url.Values{
		"_txlock": {when},
		"_pragma": {
			"busy_timeout(10000)",
			"journal_mode(WAL)",
			"synchronous(FULL)",
			"foreign_keys(1)",
			"cache_size(-4000)",
		},
	}
}

func open(path string, how url.Values, conns int) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: how.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}
