package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store/blob"
)

// ErrNewer is returned by New for a database that a newer Reeve has written.
var ErrNewer = errors.New("the database was written by a newer version of reeve; run that version or restore a backup")

//go:embed migrations/*.sql
var migrations embed.FS

// Dialect is what differs between the databases. What is left out isn't
// needed where transactions that change something run one after the other.
type Dialect struct {
	Goose goose.Dialect
	// Locker lets one replica migrate at a time.
	Locker lock.SessionLocker
	// Schema translates a migration.
	Schema func(string) string
	// View is the isolation in which a transaction that only reads sees one
	// state.
	View sql.IsolationLevel
	// Numbered says that placeholders are written $1, $2 … and not ?.
	Numbered bool
	// Text makes a text one that the database can hold.
	Text func(string) string
	// ForUpdate ends a query whose rows are locked until the transaction's
	// end, and SkipLocked one that leaves out what is locked already.
	ForUpdate, SkipLocked string
	// Lock is a statement that waits for the lock that its one argument
	// names, until the transaction's end.
	Lock string
	// Announce is a statement that tells the other replicas the topic that
	// is its one argument, when the transaction is committed.
	Announce string
	// Again reports whether a transaction failed only because of another one
	// at the same time, and may be run anew.
	Again func(error) bool
	// TooLong reports whether a transaction failed only because a text is too
	// long for an index.
	TooLong func(error) bool
	// OneWriter says that transactions that change something run one after
	// the other: those that come at the same time are committed together.
	OneWriter bool
}

// Config is what a Store works with. It owns the databases, and Blobs, from
// New on.
type Config struct {
	Dialect Dialect
	// Write is used for every transaction that changes something, Read for
	// the rest; they may be the same.
	Write, Read *sql.DB
	Blobs       blob.Documents
	// Listen calls heard with each topic that another replica announced, and with
	// "" when it may have missed some, until ctx ends. It is nil where there
	// are no replicas.
	Listen func(ctx context.Context, heard func(topic string))
	Logger *slog.Logger
}

// Store is the hub's database. Its methods may be called concurrently.
type Store struct {
	dialect Dialect
	write   *sql.DB
	writer  *writer // nil unless there is only one
	read    *sql.DB
	blobs   blob.Documents
	log     *slog.Logger
	known   known
	sinks   lasting[[]alert.SinkStatus]

	allEnds     []string                       // see TellAllEnds
	judgeErrors func(scan.Scan) []fleet.Result // see JudgeErrors
	backlog     *backlog                       // see LimitAlerts
	tellsGone   func(sink string) bool         // see TellGone
	sbomsFrom   []fleet.Scope                  // see SBOMsFrom; not nil

	stop      context.CancelFunc // ends listening
	listening sync.WaitGroup

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
		sinks:   newLasting[[]alert.SinkStatus](),
		waiting: map[string]chan struct{}{},

		sbomsFrom: []fleet.Scope{},
		tellsGone: func(string) bool { return true },
	}
	if s.dialect.OneWriter {
		s.writer = &writer{db: s.write}
	}
	listen, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", err), s.Close())
	}
	if cfg.Listen != nil {
		s.listening.Go(func() { cfg.Listen(listen, s.heard) })
	}
	return s, nil
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if s.dialect.Schema != nil {
		files = translated{files, s.dialect.Schema}
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.dialect.Locker != nil {
		options = append(options, goose.WithSessionLocker(s.dialect.Locker))
	}
	p, err := goose.NewProvider(s.dialect.Goose, s.write, files, options...)
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

// translated is a folder whose files are translated as they are opened.
type translated struct {
	fs.FS
	translate func(string) string
}

func (t translated) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return translatedFile{strings.NewReader(t.translate(string(text))), info}, nil
}

type translatedFile struct {
	io.Reader
	info fs.FileInfo
}

func (f translatedFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f translatedFile) Close() error               { return nil }

// Close closes the databases. No method may be called afterwards.
func (s *Store) Close() error {
	s.stop()
	s.listening.Wait()
	err := errors.Join(s.write.Close(), s.blobs.Close())
	if s.read != s.write {
		err = errors.Join(err, s.read.Close())
	}
	return err
}

// TellAllEnds has sinks told of scans that end without a verdict, too: in error
// or cancelled. It is called before the store is used.
func (s *Store) TellAllEnds(sinks []string) { s.allEnds = sinks }

// JudgeErrors has recorded what policies come to by each scan that ends in
// error. It is called before the store is used; judge doesn't use the store.
func (s *Store) JudgeErrors(judge func(scan.Scan) []fleet.Result) { s.judgeErrors = judge }

// SBOMsFrom says whose SBOMs and image inspects count for an image wherever it
// runs. Those of other places count in their own namespace or environment alone.
// It is called before the store is used.
func (s *Store) SBOMsFrom(places []fleet.Scope) { s.sbomsFrom = append([]fleet.Scope{}, places...) }

// TellGone says which sinks are told that a subject isn't checked any more; the
// others have no word for it. It is called before the store is used.
func (s *Store) TellGone(is func(sink string) bool) { s.tellsGone = is }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.read.PingContext(ctx) }

// Tx is one transaction. Placeholders are written ? in every dialect.
type Tx struct {
	tx      *sql.Tx
	dialect Dialect
	shared  bool // with other transactions: see writer
	topics  []string
}

// context is what a statement runs with.
func (t *Tx) context(ctx context.Context) context.Context {
	if t.shared {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// Exec runs a statement.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(t.context(ctx), t.dialect.rebind(query), t.dialect.clean(args)...)
}

// Query runs a query; the caller closes the rows before the next statement.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(t.context(ctx), t.dialect.rebind(query), t.dialect.clean(args)...)
}

// QueryRow runs a query of at most one row.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(t.context(ctx), t.dialect.rebind(query), t.dialect.clean(args)...)
}

// Lock keeps others that ask for the same name waiting until this transaction
// has ended. What is read after it sees what they did before.
func (t *Tx) Lock(ctx context.Context, name string) error {
	if t.dialect.Lock == "" {
		return nil
	}
	_, err := t.Exec(ctx, t.dialect.Lock, name)
	return err
}

// Notify wakes who waits for the topic, at each replica, once the transaction
// is durable, and not otherwise.
func (t *Tx) Notify(topic string) {
	if !slices.Contains(t.topics, topic) {
		t.topics = append(t.topics, topic)
	}
}

// attempts is how often a transaction is run that others at the same time
// make fail.
const attempts = 10

// update runs f in a transaction that may change something, and commits it
// if f returns nil. In SQLite such transactions run one after the other; where
// they don't, f may be run several times, so it sets what it answers anew.
func (s *Store) update(ctx context.Context, f func(*Tx) error) error {
	if s.writer != nil {
		t := &Tx{dialect: s.dialect, shared: true}
		err := s.writer.do(ctx, func(tx *sql.Tx) error {
			t.tx = tx
			return f(t)
		})
		if err == nil {
			s.tell(t.topics)
		}
		return err
	}
	for n := 1; ; n++ {
		err := s.inTx(ctx, s.write, nil, f)
		if err == nil || s.dialect.Again == nil || n == attempts || !s.dialect.Again(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(time.Duration(n) * 5 * time.Millisecond)):
		}
	}
}

// view runs f in a transaction that sees one state and changes nothing.
func (s *Store) view(ctx context.Context, f func(*Tx) error) error {
	return s.inTx(ctx, s.read, &sql.TxOptions{Isolation: s.dialect.View, ReadOnly: true}, f)
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
	if s.dialect.Announce != "" {
		for _, topic := range t.topics {
			if _, err := t.Exec(ctx, s.dialect.Announce, topic); err != nil {
				return fmt.Errorf("announce: %w", err)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.tell(t.topics)
	return nil
}

func (s *Store) tell(topics []string) {
	for _, topic := range topics {
		s.notify(topic)
	}
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

// heard is notify for what replicas announce; "" wakes everybody.
func (s *Store) heard(topic string) {
	if topic != "" {
		s.notify(topic)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, c := range s.waiting {
		close(c)
		delete(s.waiting, topic)
	}
}

// clean makes every text among args one that the database can hold.
func (d Dialect) clean(args []any) []any {
	if d.Text == nil {
		return args
	}
	out := make([]any, len(args))
	for i, a := range args {
		if v := reflect.ValueOf(a); v.Kind() == reflect.String {
			a = d.Text(v.String())
		}
		out[i] = a
	}
	return out
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
