package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"reeve.dev/reeve/store/postgres"
)

// ErrNotEmpty is returned for a target in which there are other rows than the
// source's.
var ErrNotEmpty = errors.New("the database isn't empty")

// Config says from where to where.
type Config struct {
	// From is the folder with reeve.db and the documents.
	From string
	To   postgres.Config
	// WithoutMissing moves the rows though documents that they name aren't in
	// the source.
	WithoutMissing bool
	// Progress is told of what is under way, and how much of it is done; nil:
	// nobody is.
	Progress func(what string, done, total int)
	Logger   *slog.Logger
}

// Report says what is in the target now.
type Report struct {
	// Already says that it was before.
	Already   bool      `json:"already"`
	Tables    []Table   `json:"tables"`
	Documents Documents `json:"documents"`
}

// Documents counts those that rows name.
type Documents struct {
	Copied  int `json:"copied"`
	There   int `json:"there"` // before
	Missing int `json:"missing"`
}

// Move moves everything. An error says what to do, and that call again is safe.
func Move(ctx context.Context, cfg Config) (r Report, err error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string, int, int) {}
	}
	from, err := openSource(ctx, cfg.From)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, from.close()) }()

	to, err := postgres.Connect(ctx, cfg.To)
	if err != nil {
		return r, err
	}
	defer to.Close(context.WithoutCancel(ctx))
	tables, err := targetTables(ctx, to)
	if err != nil {
		return r, err
	}
	filled, err := notEmpty(ctx, to, tables)
	if err != nil {
		return r, err
	}
	if len(filled) > 0 { // it stays as it is: it may be another hub's, of an earlier version
		if err := from.sameTables(ctx, tables); err != nil {
			return r, fmt.Errorf("%w (there are rows in %s): name an empty one: %w", ErrNotEmpty, strings.Join(filled, ", "), err)
		}
		return alreadyThere(ctx, cfg, from, to, tables, filled)
	}
	// The store itself brings the database to the schema.
	s, err := postgres.Open(ctx, cfg.To, cfg.Logger)
	if err != nil {
		return r, err
	}
	if err := s.Close(); err != nil {
		return r, err
	}
	if tables, err = targetTables(ctx, to); err != nil {
		return r, err
	}
	if err := from.sameTables(ctx, tables); err != nil {
		return r, err
	}
	if r.Documents, err = copyDocuments(ctx, cfg, from); err != nil {
		return r, err
	}
	r.Tables, err = copyRows(ctx, cfg, from, to, tables)
	return r, err
}

// alreadyThere compares what is in the target with the source, which an earlier
// call may have moved.
func alreadyThere(ctx context.Context, cfg Config, from *source, to *pgx.Conn, tables []table, filled []string) (r Report, err error) {
	other := fmt.Errorf("%w, and what is in it isn't what is in %s (there are rows in %s): name an empty one",
		ErrNotEmpty, cfg.From, strings.Join(filled, ", "))
	r.Already = true
	for _, t := range tables {
		rows, err := from.count(ctx, t)
		if err != nil {
			return r, err
		}
		var have int
		if err := to.QueryRow(ctx, "SELECT COUNT(*) FROM "+t.quoted()).Scan(&have); err != nil {
			return r, err
		}
		if have != rows {
			return r, other
		}
	}
	for _, t := range tables {
		want, err := from.sum(ctx, t)
		if err != nil {
			return r, err
		}
		have, err := targetSum(ctx, to, t)
		if err != nil {
			return r, err
		}
		if want != have {
			return r, other
		}
		r.Tables = append(r.Tables, have.table(t))
	}
	r.Documents, err = copyDocuments(ctx, cfg, from)
	return r, err
}

// copyRows copies all tables in one transaction.
func copyRows(ctx context.Context, cfg Config, from *source, to *pgx.Conn, tables []table) (done []Table, err error) {
	tx, err := to.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // does nothing after Commit
	var names []string
	for _, t := range tables {
		names = append(names, t.quoted())
	}
	// Whoever else writes waits, and what it wrote is seen from here on.
	if _, err := tx.Exec(ctx, "LOCK TABLE "+strings.Join(names, ", ")+" IN EXCLUSIVE MODE"); err != nil {
		return nil, err
	}
	if filled, err := notEmpty(ctx, to, tables); err != nil || len(filled) > 0 {
		return nil, errors.Join(err, fmt.Errorf("%w: somebody writes to it (%s); stop its hubs", ErrNotEmpty, strings.Join(filled, ", ")))
	}
	indexes, err := dropIndexes(ctx, tx)
	if err != nil {
		return nil, err
	}
	var sums []sum
	for _, t := range tables {
		total, err := from.count(ctx, t)
		if err != nil {
			return nil, err
		}
		rows, err := from.rows(ctx, t)
		if err != nil {
			return nil, err
		}
		rows.each = func(n int) { cfg.Progress(t.name, n, total) }
		_, err = tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columnNames(), rows)
		if err := errors.Join(rows.close(), err); err != nil {
			return nil, refused(t, err)
		}
		sums = append(sums, rows.sum)
	}
	for i, create := range indexes {
		cfg.Progress("indexes", i, len(indexes))
		if _, err := tx.Exec(ctx, create); err != nil {
			return nil, refused(table{name: create}, err)
		}
	}
	for i, t := range tables {
		cfg.Progress("compare", i, len(tables))
		have, err := targetSum(ctx, to, t)
		if err != nil {
			return nil, err
		}
		if have != sums[i] {
			return nil, fmt.Errorf("table %s: %d rows of the sum %x were sent, %d of %x came: nothing was moved",
				t.name, sums[i].rows, sums[i].of, have.rows, have.of)
		}
		done = append(done, have.table(t))
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("commit (call again: it tells whether all is there): %w", err)
	}
	// Until it is, queries may take a wrong way.
	cfg.Progress("statistics", 0, 1)
	if _, err := to.Exec(ctx, "ANALYZE "+strings.Join(names, ", ")); err != nil {
		cfg.Logger.WarnContext(ctx, "everything is moved, but the database has no statistics yet: run ANALYZE", "error", err)
	}
	return done, nil
}

// refused says what PostgreSQL couldn't take.
func refused(t table, err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "54000" { // program_limit_exceeded
		return fmt.Errorf("%s: a text in it is longer than an index of PostgreSQL takes: nothing was moved: %w", t.name, err)
	}
	return fmt.Errorf("%s: nothing was moved: %w", t.name, err)
}

// dropIndexes drops those that no constraint needs, since rows come quicker
// without, and answers the statements that make them again.
func dropIndexes(ctx context.Context, tx pgx.Tx) (create []string, err error) {
	rows, err := tx.Query(ctx, `
		SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
		JOIN pg_class c ON c.oid = i.indexrelid
		WHERE c.relnamespace = current_schema()::regnamespace
			AND NOT EXISTS (SELECT 1 FROM pg_constraint n WHERE n.conindid = i.indexrelid)
		ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	var drop, name, definition string
	_, err = pgx.ForEachRow(rows, []any{&name, &definition}, func() error {
		drop += ", " + name
		create = append(create, definition)
		return nil
	})
	if err != nil || len(create) == 0 {
		return nil, err
	}
	_, err = tx.Exec(ctx, "DROP INDEX "+strings.TrimPrefix(drop, ", "))
	return create, err
}

// notEmpty names the tables that have rows.
func notEmpty(ctx context.Context, to *pgx.Conn, tables []table) (filled []string, err error) {
	for _, t := range tables {
		var some bool
		if err := to.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM "+t.quoted()+")").Scan(&some); err != nil {
			return nil, err
		}
		if some {
			filled = append(filled, t.name)
		}
	}
	return filled, nil
}

// targetTables are the target's, those first that others refer to.
func targetTables(ctx context.Context, to *pgx.Conn) (tables []table, err error) {
	rows, err := to.Query(ctx, `
		SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c
		JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
		WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' AND c.table_name <> 'goose_db_version'
		ORDER BY c.table_name, c.ordinal_position`)
	if err != nil {
		return nil, err
	}
	var name string
	var col column
	_, err = pgx.ForEachRow(rows, []any{&name, &col.name, &col.kind}, func() error {
		if n := len(tables); n == 0 || tables[n-1].name != name {
			tables = append(tables, table{name: name})
		}
		last := &tables[len(tables)-1]
		last.columns = append(last.columns, col)
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows, err = to.Query(ctx, `
		SELECT r.relname, f.relname FROM pg_constraint n JOIN pg_class r ON r.oid = n.conrelid JOIN pg_class f ON f.oid = n.confrelid
		WHERE n.contype = 'f' AND n.connamespace = current_schema()::regnamespace`)
	if err != nil {
		return nil, err
	}
	refers := map[string][]string{}
	var of, target string
	_, err = pgx.ForEachRow(rows, []any{&of, &target}, func() error {
		refers[of] = append(refers[of], target)
		return nil
	})
	return inOrder(tables, refers), err
}

// inOrder puts the tables first that others refer to.
func inOrder(tables []table, refers map[string][]string) (ordered []table) {
	by := map[string]table{}
	for _, t := range tables {
		by[t.name] = t
	}
	put := map[string]bool{}
	var add func(t table)
	add = func(t table) {
		if put[t.name] {
			return
		}
		put[t.name] = true
		for _, name := range refers[t.name] {
			add(by[name])
		}
		ordered = append(ordered, t)
	}
	for _, t := range tables {
		add(t)
	}
	return ordered
}

// targetSum reads a table of the target.
func targetSum(ctx context.Context, to *pgx.Conn, t table) (s sum, err error) {
	rows, err := to.Query(ctx, t.read(), pgx.QueryResultFormats{pgx.BinaryFormatCode})
	if err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		s.add(rows.RawValues()) // as encode has them
	}
	return s, rows.Err()
}

// eachRow is how rows of the source are read, and closed.
func eachRow(rows *sql.Rows, f func() error) error {
	for rows.Next() {
		if err := f(); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}
