// Package postgres opens the hub's database in PostgreSQL, which several
// replicas of the hub share. What one replica changes wakes the others by
// LISTEN and NOTIFY.
//
// Transactions run at READ COMMITTED and lock the rows that they are about to
// change; those that only read see one state (REPEATABLE READ). Where two
// still get in each other's way, PostgreSQL ends one, and it is run again.
//
// Texts sort and compare by their bytes, as in SQLite, whatever the
// database's collation is: each column has the collation C. A text can't hold
// NUL or what isn't UTF-8; both become U+FFFD.
package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/blob"
)

// Config says which database, and where the documents lie.
type Config struct {
	// URL is postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full, or any
	// other form that libpq takes.
	URL string
	// Password is asked before each connection is made; nil takes the URL's,
	// or that of ~/.pgpass.
	Password func() (string, error)
	// Connections is how many this replica may have at a time, beside the
	// one by which it listens; 0 means DefaultConnections.
	Connections int
	// Documents is a folder that all replicas share. In its place, Bucket is
	// an s3:// URL, as blob.OpenBucket has it; what is put there is collected
	// in Scratch first, a folder of this replica's own.
	Documents       string
	Bucket, Scratch string
}

// DefaultConnections is a replica's share of PostgreSQL's usual hundred.
const DefaultConnections = 20

// Open connects to the database, brings it to the newest schema and returns
// the store on it. Several replicas may do so at the same time.
func Open(ctx context.Context, cfg Config, logger *slog.Logger) (*store.Store, error) {
	conf, before, err := cfg.connection()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, migrationTries))
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	db := stdlib.OpenDB(*conf, stdlib.OptionBeforeConnect(before), stdlib.OptionAfterConnect(prepare))
	if cfg.Connections == 0 {
		cfg.Connections = DefaultConnections
	}
	db.SetMaxOpenConns(cfg.Connections)
	db.SetMaxIdleConns(cfg.Connections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	l := &listener{self: rand.Text(), conf: conf, before: before, log: logger}
	blobs, err := OpenDocuments(ctx, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("documents: %w", err), db.Close())
	}
	// It listens before anybody can wait.
	first, err := l.connect(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("postgres: %w", err), blobs.Close(), db.Close())
	}
	s, err := store.New(ctx, store.Config{
		Dialect: store.Dialect{
			Goose: goose.DialectPostgres, Locker: locker, Schema: schema, View: sql.LevelRepeatableRead,
			Numbered: true, Text: Text, ForUpdate: " FOR UPDATE", SkipLocked: " FOR UPDATE SKIP LOCKED",
			Lock:     "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))",
			Announce: "SELECT pg_notify('" + channel + "', '" + l.self + " ' || ?)",
			Again:    again,
			TooLong:  tooLong,
		},
		Write: db, Read: db, Blobs: blobs, Logger: logger,
		Listen: func(ctx context.Context, heard func(string)) { l.run(ctx, first, heard) },
	})
	if err != nil {
		closeConn(ctx, first)
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return s, nil
}

// connection is how connections are made, and what is called before each.
func (cfg Config) connection() (*pgx.ConnConfig, func(context.Context, *pgx.ConnConfig) error, error) {
	conf, err := pgx.ParseConfig(cfg.URL) // its errors hold no password
	if err != nil {
		return nil, nil, err
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = connectTime
	}
	if conf.RuntimeParams["application_name"] == "" {
		conf.RuntimeParams["application_name"] = "reeve-hub"
	}
	return conf, func(_ context.Context, c *pgx.ConnConfig) (err error) {
		if cfg.Password != nil {
			c.Password, err = cfg.Password()
		}
		return err
	}, nil
}

// Connect makes one connection to the database, beside the store.
func Connect(ctx context.Context, cfg Config) (*pgx.Conn, error) {
	conf, before, err := cfg.connection()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if err := before(ctx, conf); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	c, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return c, nil
}

// OpenDocuments opens where the documents lie.
func OpenDocuments(ctx context.Context, cfg Config) (blob.Documents, error) {
	if cfg.Bucket != "" {
		return blob.OpenBucket(ctx, cfg.Bucket, cfg.Scratch)
	}
	return blob.Open(cfg.Documents)
}

const (
	connectTime = 10 * time.Second
	// migrationLock is the advisory lock of migrations: "reeve" in ASCII.
	migrationLock = 0x7265657665
	// migrationTries is how often, each second, a replica asks for it.
	migrationTries = 600
	channel        = "reeve"
)

// prepare lets PostgreSQL give up for a replica that froze or was cut off in
// the middle of a transaction, whose locks would stop the others.
func prepare(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "SET idle_in_transaction_session_timeout = '30s'")
	return err
}

var (
	textType = regexp.MustCompile(`\bTEXT\b`)
	blobType = regexp.MustCompile(`\bBLOB\b`)
)

func schema(migration string) string {
	return blobType.ReplaceAllString(textType.ReplaceAllString(migration, `TEXT COLLATE "C"`), "BYTEA")
}

// Text is the text that the database holds in place of s.
func Text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// again: the transaction couldn't be put in an order with another one, each
// waited for the other, both wrote the same new row, or one forgot the row that
// the other's refers to.
func again(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains([]string{"40001", "40P01", "23505", "23503"}, e.Code)
}

// tooLong: an index takes a third of a page (program_limit_exceeded).
func tooLong(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "54000"
}

// listener hears what the other replicas announce.
type listener struct {
	self   string // what its own announcements begin with
	conf   *pgx.ConnConfig
	before func(context.Context, *pgx.ConnConfig) error
	log    *slog.Logger
}

const (
	// quiet is how long nothing may be heard before the connection is tried.
	quiet    = 20 * time.Second
	maxRetry = 5 * time.Second
)

// run listens by c until ctx ends, and connects again when it must.
func (l *listener) run(ctx context.Context, c *pgx.Conn, heard func(topic string)) {
	for {
		err := l.listen(ctx, c, heard)
		closeConn(ctx, c)
		if ctx.Err() != nil {
			return
		}
		l.log.WarnContext(ctx, "other replicas aren't heard; until then this one looks now and then", "error", err)
		if c = l.again(ctx); c == nil {
			return
		}
		l.log.InfoContext(ctx, "other replicas are heard again")
		heard("") // of what was announced meanwhile
	}
}

// again connects as soon as it can; nil when ctx ends.
func (l *listener) again(ctx context.Context) *pgx.Conn {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, maxRetry) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + mathrand.N(wait/2)):
		}
		if c, err := l.connect(ctx); err == nil {
			return c
		}
	}
}

func (l *listener) connect(ctx context.Context) (*pgx.Conn, error) {
	conf := l.conf.Copy()
	if err := l.before(ctx, conf); err != nil {
		return nil, err
	}
	c, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	if _, err := c.Exec(ctx, "LISTEN "+channel); err != nil {
		closeConn(ctx, c)
		return nil, err
	}
	return c, nil
}

func closeConn(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	c.Close(ctx)
}

func (l *listener) listen(ctx context.Context, c *pgx.Conn, heard func(topic string)) error {
	for {
		n, err := notification(ctx, c)
		switch {
		case err == nil:
			if from, topic, _ := strings.Cut(n.Payload, " "); from != l.self {
				heard(topic)
			}
		case ctx.Err() != nil, !pgconn.Timeout(err):
			return err
		default:
			if err := ping(ctx, c); err != nil {
				return err
			}
		}
	}
}

func notification(ctx context.Context, c *pgx.Conn) (*pgconn.Notification, error) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	return c.WaitForNotification(ctx)
}

func ping(ctx context.Context, c *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	return c.Ping(ctx)
}
