package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"

	"reeve.dev/reeve/store/blob"
)

// ErrNewer is returned by New for a database that a newer Reeve has written.
var ErrNewer = errors.New("the database was written by a newer version of reeve; run that version or restore a backup")

//go:embed migrations/*.sql
var migrations embed.FS

// Dialect is what differs between the databases.
type Dialect struct {
	Goose goose.Dialect
	// Numbered says that placeholders are written $1, $2 … and not ?.
	Numbered bool
}

// Config is what a Store works with. It owns the databases from New on.
type Config struct {
	Dialect Dialect
	// Write is used for every transaction that changes something, Read for
	// the rest; they may be the same.
	Write, Read *sql.DB
	Blobs       *blob.Folder
	Logger      *slog.Logger
}

// Store is the hub's database. Its methods may be called concurrently.
type Store struct {
	dialect Dialect
	write   *sql.DB
	read    *sql.DB
	blobs   *blob.Folder
	log     *slog.Logger

	mu      sync.Mutex
	waiting map[string]chan struct{} // guarded by mu; by topic, closed by notify
}

// New brings the database to the newest schema and returns the store on it.
// On an error it has closed the databases.
func New(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{
		dialect: cfg.Dialect,
		write:   cfg.Write,
		read:    cfg.Read,
		blobs:   cfg.Blobs,
		log:     cfg.Logger,
		waiting: map[string]chan struct{}{},
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", err), s.Close())
	}
	return s, nil
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(s.dialect.Goose, s.write, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have > want {
		return fmt.Errorf("schema %d, this version knows %d: %w", have, want, ErrNewer)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate from schema %d to %d: %w", have, want, err)
	}
	if len(done) > 0 {
		s.log.InfoContext(ctx, "migrated the database", "from", have, "to", want)
	}
	return nil
}

// Close closes the databases. No method may be called afterwards.
func (s *Store) Close() error {
	err := s.write.Close()
	if s.read != s.write {
		err = errors.Join(err, s.read.Close())
	}
	return err
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.read.PingContext(ctx) }

// Tx is one transaction. Placeholders are written ? in every dialect.
type Tx struct {
	tx      *sql.Tx
	dialect Dialect
	after   []func()
}

// Exec runs a statement.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(ctx, t.dialect.rebind(query), args...)
}

// Query runs a query; the caller closes the rows before the next statement.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, t.dialect.rebind(query), args...)
}

// QueryRow runs a query of at most one row.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(ctx, t.dialect.rebind(query), args...)
}

// OnCommit has f called once the transaction is durable, and not otherwise.
func (t *Tx) OnCommit(f func()) { t.after = append(t.after, f) }

// update runs f in a transaction that may change something, and commits it
// if f returns nil. In SQLite such transactions run one after the other.
func (s *Store) update(ctx context.Context, f func(*Tx) error) error {
	return s.inTx(ctx, s.write, nil, f)
}

// view runs f in a transaction that sees one state and changes nothing.
func (s *Store) view(ctx context.Context, f func(*Tx) error) error {
	return s.inTx(ctx, s.read, &sql.TxOptions{ReadOnly: true}, f)
}

func (s *Store) inTx(ctx context.Context, db *sql.DB, opt *sql.TxOptions, f func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, opt)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // does nothing after Commit
	t := &Tx{tx: tx, dialect: s.dialect}
	if err := f(t); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	for _, after := range t.after {
		after()
	}
	return nil
}

// wait returns a channel that is closed at the next notify of topic. A
// caller takes the channel first and looks at the database second, so that
// it misses nothing. Another replica's changes don't notify: callers poll
// besides, at leisure.
func (s *Store) wait(topic string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.waiting[topic]
	if !ok {
		c = make(chan struct{})
		s.waiting[topic] = c
	}
	return c
}

func (s *Store) notify(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.waiting[topic]; ok {
		close(c)
		delete(s.waiting, topic)
	}
}

// rebind turns each ? into the dialect's placeholder. A query holds no other
// question mark.
func (d Dialect) rebind(query string) string {
	if !d.Numbered {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, rest, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = rest
	}
}

// micros is how a time is stored; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// affected is the number of rows that a statement changed.
func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
