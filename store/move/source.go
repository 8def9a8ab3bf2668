package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/blob"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/sqlite"
)

// source is the hub's own database, in one state, and its documents.
type source struct {
	dir       string
	db        *sql.DB
	tx        *sql.Tx
	documents *blob.Folder
}

// Check reports what keeps a folder from being the dataDir of a hub with a database
// of its own.
func Check(dir string) error {
	for _, name := range []string{"reeve.db", "blobs"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no %s: name the dataDir of a hub that had a database of its own", path)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func openSource(ctx context.Context, dir string) (_ *source, err error) {
	if err := Check(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "reeve.db")
	s := &source{dir: dir, documents: blob.At(filepath.Join(dir, "blobs"))}
	if s.db, err = sqlite.OpenReadOnly(path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.tx, err = s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), s.db.Close())
	}
	var have int64
	if err := s.tx.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version").Scan(&have); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), s.close())
	}
	switch want := store.Schema(); {
	case have > want:
		return nil, errors.Join(fmt.Errorf("%s: schema %d, this version knows %d: %w", path, have, want, store.ErrNewer), s.close())
	case have < want:
		return nil, errors.Join(fmt.Errorf("%s: schema %d, this version has %d: start this version's hub on it once, which brings it there, and stop it", path, have, want), s.close())
	}
	return s, nil
}

func (s *source) close() error { return errors.Join(s.tx.Rollback(), s.db.Close()) }

// sameTables reports which tables and columns aren't in both.
func (s *source) sameTables(ctx context.Context, tables []table) error {
	rows, err := s.tx.QueryContext(ctx, `
		SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version'`)
	if err != nil {
		return err
	}
	differ := map[string]bool{}
	err = eachRow(rows, func() error {
		var table, column string
		err := rows.Scan(&table, &column)
		differ[table+"."+column] = true
		return err
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		for _, c := range t.columns {
			if key := t.name + "." + c.name; differ[key] {
				delete(differ, key)
			} else {
				differ[key] = true
			}
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("only one of the databases has %q: somebody has changed its schema", slices.Sorted(maps.Keys(differ)))
	}
	return nil
}

func (s *source) count(ctx context.Context, t table) (n int, err error) {
	err = s.tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.quoted()).Scan(&n)
	return n, err
}

func (s *source) sum(ctx context.Context, t table) (sum, error) {
	rows, err := s.rows(ctx, t)
	if err != nil {
		return sum{}, err
	}
	for rows.Next() {
	}
	return rows.sum, rows.close()
}

func (s *source) rows(ctx context.Context, t table) (*sourceRows, error) {
	rows, err := s.tx.QueryContext(ctx, t.read())
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.name, err)
	}
	r := &sourceRows{rows: rows, table: t, each: func(int) {}}
	n := len(t.columns)
	r.read, r.values, r.encoded, r.into = make([]any, n), make([]any, n), make([][]byte, n), make([]any, n)
	for i := range r.read {
		r.into[i] = &r.read[i]
	}
	return r, nil
}

// sourceRows reads a table, as a [pgx.CopyFromSource], and sums it up.
type sourceRows struct {
	rows  *sql.Rows
	table table
	sum   sum
	each  func(n int) // called now and then
	err   error

	read, into []any
	values     []any
	encoded    [][]byte
}

// Next reads a row.
func (r *sourceRows) Next() bool {
	if r.err != nil || !r.rows.Next() {
		return false
	}
	if r.err = r.rows.Scan(r.into...); r.err != nil {
		return false
	}
	for i, c := range r.table.columns {
		if r.values[i], r.err = c.convert(r.read[i], postgres.Text); r.err != nil {
			return false
		}
		r.encoded[i] = encode(r.values[i])
	}
	r.sum.add(r.encoded)
	if r.sum.rows%1000 == 0 {
		r.each(r.sum.rows)
	}
	return true
}

// Values are those of the row.
func (r *sourceRows) Values() ([]any, error) { return r.values, nil }

// Err is why there are no more rows; nil at the end.
func (r *sourceRows) Err() error { return errors.Join(r.err, r.rows.Err()) }

func (r *sourceRows) close() error { return errors.Join(r.Err(), r.rows.Close()) }

// named are the digests that rows name.
func (s *source) named(ctx context.Context) (digests []blob.Digest, err error) {
	rows, err := s.tx.QueryContext(ctx, store.NamedDocuments())
	if err != nil {
		return nil, err
	}
	err = eachRow(rows, func() error {
		var d blob.Digest
		err := rows.Scan(&d)
		digests = append(digests, d)
		return err
	})
	return digests, err
}
