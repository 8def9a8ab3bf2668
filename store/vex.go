package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/insight"
)

// PutStatements replaces the statements of a document, by its digest.
func (s *Store) PutStatements(ctx context.Context, document insight.Digest, statements []insight.Statement, at time.Time) error {
	err := s.update(ctx, func(tx *Tx) error {
		if err := putStatements(ctx, tx, document, statements, at); err != nil {
			return err
		}
		return markPolicies(ctx, tx, "", "")
	})
	if err != nil {
		return fmt.Errorf("statements of %s: %w", document, err)
	}
	return nil
}

func putStatements(ctx context.Context, tx *Tx, document insight.Digest, statements []insight.Statement, at time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM vex_statements WHERE document = ?`, document); err != nil {
		return err
	}
	const columns = 10
	var rows []any
	for i, st := range statements {
		made := st.Made
		if made.IsZero() {
			made = at
		}
		for n, name := range slices.Compact(slices.Sorted(slices.Values(st.Names))) {
			rows = append(rows, fmt.Sprintf("%s/%d.%d", document, i, n), document, name, string(st.Subject), st.Component,
				string(st.Status), st.Justification, st.Detail, st.Author, micros(made))
		}
	}
	for part := range slices.Chunk(rows, columns*batch) {
		err := insertMany(ctx, tx, `INSERT INTO vex_statements (id, document, vulnerability, subject, component, status, justification, detail, author, made) VALUES `, columns, part)
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveStatements forgets the statements of a document; insight.ErrNotFound
// where it made none.
func (s *Store) RemoveStatements(ctx context.Context, document insight.Digest) error {
	var n int64
	err := s.update(ctx, func(tx *Tx) (err error) {
		n, err = affected(tx.Exec(ctx, `DELETE FROM vex_statements WHERE document = ?`, document))
		if err != nil {
			return err
		}
		return markPolicies(ctx, tx, "", "")
	})
	if err == nil && n == 0 {
		err = insight.ErrNotFound
	}
	return err
}

// Statements lists what was said of vulnerabilities, of that one which q.Q
// names where it does, the latest first.
func (s *Store) Statements(ctx context.Context, q insight.Query) (out []insight.StatementRecord, err error) {
	var f filter
	equal(&f, "vulnerability", q.Q)
	err = s.rows(ctx, `SELECT document, vulnerability, subject, component, status, justification, detail, author, made FROM vex_statements`,
		f, "made DESC, id", q, func(rows *sql.Rows) error {
			r, err := scanStatement(rows)
			out = append(out, r)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list statements: %w", err)
	}
	return out, nil
}

func scanStatement(rows *sql.Rows) (r insight.StatementRecord, err error) {
	var made int64
	err = rows.Scan(&r.Document, &r.Vulnerability, &r.Subject, &r.Component, &r.Status, &r.Justification, &r.Detail, &r.Author, &made)
	r.Made = fromMicros(made)
	return r, err
}

// said finds what statements say of findings.
type said struct {
	of       map[string][]insight.StatementRecord // by vulnerability, the latest first
	aliases  map[string][]string                  // of entries, as far as statements name them
	products map[int64]insight.Product            // by document
	purls    map[int64]string                     // by component
}

// readSaid reads all statements on these findings; nil where there are none.
func readSaid(ctx context.Context, tx *Tx, findings map[int64][]foundProblem) (*said, error) {
	rows, err := tx.Query(ctx, `SELECT document, vulnerability, subject, component, status, justification, detail, author, made FROM vex_statements ORDER BY made DESC, id`)
	if err != nil {
		return nil, err
	}
	s := &said{of: map[string][]insight.StatementRecord{}, aliases: map[string][]string{}, products: map[int64]insight.Product{}, purls: map[int64]string{}}
	err = eachRow(rows, func() error {
		r, err := scanStatement(rows)
		s.of[r.Vulnerability] = append(s.of[r.Vulnerability], r)
		return err
	})
	if err != nil || len(s.of) == 0 {
		return nil, err
	}
	rows, err = tx.Query(ctx, `SELECT alias, entry FROM osv_aliases WHERE alias IN (SELECT vulnerability FROM vex_statements)`)
	if err != nil {
		return nil, err
	}
	err = eachRow(rows, func() error {
		var alias, entry string
		err := rows.Scan(&alias, &entry)
		s.aliases[entry] = append(s.aliases[entry], alias)
		return err
	})
	if err != nil {
		return nil, err
	}
	var told []int64
	for id, of := range findings {
		if slices.ContainsFunc(of, func(f foundProblem) bool { return len(s.names(f)) > 0 }) {
			told = append(told, id)
		}
	}
	slices.Sort(told)
	components, err := componentsByID(ctx, tx, told)
	for _, c := range components {
		s.purls[c.id] = c.PURL
	}
	return s, err
}

// names are those of a finding's vulnerability that statements know.
func (s *said) names(f foundProblem) (out []string) {
	for _, name := range append([]string{f.entry, f.cve}, s.aliases[f.entry]...) {
		if len(s.of[name]) > 0 && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// readProducts reads what documents are about.
func (s *said) readProducts(ctx context.Context, tx *Tx, documents []int64) error {
	for part := range slices.Chunk(documents, batch) {
		var args []any
		rows, err := tx.Query(ctx, `SELECT id, digest, image, summary FROM insight_documents WHERE id IN (`+list(part, &args)+`)`, args...)
		if err != nil {
			return err
		}
		err = eachRow(rows, func() error {
			var id int64
			var p insight.Product
			var summary string
			if err := rows.Scan(&id, &p.Document, &p.Image, &summary); err != nil {
				return err
			}
			var sum documentSummary
			err := json.Unmarshal([]byte(summary), &sum)
			p.Serial, p.Name, p.Version = strings.ToLower(sum.SerialNumber), sum.SubjectName, sum.SubjectVersion
			s.products[id] = p
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// on is the latest statement on a finding in a document; nil where there is
// none.
func (s *said) on(document int64, f foundProblem) *insight.StatementRecord {
	if s == nil {
		return nil
	}
	var last *insight.StatementRecord
	for _, name := range s.names(f) {
		for i, r := range s.of[name] {
			if r.Covers(s.products[document], s.purls[f.component]) {
				if last == nil || r.Made.After(last.Made) {
					last = &s.of[name][i]
				}
				break
			}
		}
	}
	return last
}
