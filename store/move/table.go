package move

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Table is a table that was moved.
type Table struct {
	Name string `json:"name"`
	Rows int    `json:"rows"`
	// Sum is the same wherever the same rows are, in whatever order.
	Sum string `json:"sum"`
}

// table is what both databases have. Names are those of Reeve's migrations.
type table struct {
	name    string
	columns []column
}

type column struct {
	name string
	kind string // as PostgreSQL names types
}

func (t table) quoted() string { return pgx.Identifier{t.name}.Sanitize() }

func (t table) columnNames() (names []string) {
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	return names
}

// read is a query that both databases take.
func (t table) read() string {
	var columns []string
	for _, name := range t.columnNames() {
		columns = append(columns, pgx.Identifier{name}.Sanitize())
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + t.quoted()
}

// sum is the number of rows, and the sum of their hashes modulo 2²⁵⁶.
type sum struct {
	rows int
	of   [4]uint64
}

// add adds a row of values as PostgreSQL sends them, nil for NULL.
func (s *sum) add(values [][]byte) {
	h := sha256.New()
	var length [8]byte
	for _, v := range values {
		n := int64(len(v))
		if v == nil {
			n = -1
		}
		binary.BigEndian.PutUint64(length[:], uint64(n))
		h.Write(length[:])
		h.Write(v)
	}
	var digest [sha256.Size]byte
	h.Sum(digest[:0])
	var carry uint64
	for i := range s.of {
		s.of[i], carry = bits.Add64(s.of[i], binary.LittleEndian.Uint64(digest[8*i:]), carry)
	}
	s.rows++
}

func (s sum) table(t table) Table {
	var of [32]byte
	for i, n := range s.of {
		binary.LittleEndian.PutUint64(of[8*i:], n)
	}
	return Table{Name: t.name, Rows: s.rows, Sum: hex.EncodeToString(of[:])}
}

// convert is a value of SQLite's as the column has it.
func (c column) convert(v any, text func(string) string) (any, error) {
	switch c.kind {
	case "bigint":
		if v, ok := v.(int64); ok {
			return v, nil
		}
	case "double precision":
		switch v := v.(type) {
		case float64:
			return v, nil
		case int64:
			return float64(v), nil
		}
	case "text":
		switch v := v.(type) {
		case string:
			return text(v), nil
		case []byte:
			return text(string(v)), nil
		}
	case "bytea":
		switch v := v.(type) {
		case string:
			return []byte(v), nil
		case []byte:
			return v, nil
		}
	}
	if v == nil {
		return nil, nil
	}
	return nil, fmt.Errorf("column %s: it holds a %T, and should a %s", c.name, v, c.kind)
}

// encode is a value as PostgreSQL sends it.
func encode(v any) []byte {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(nil, uint64(v))
	case float64:
		return binary.BigEndian.AppendUint64(nil, math.Float64bits(v))
	case string:
		return append([]byte{}, v...)
	case []byte:
		return append([]byte{}, v...) // not nil, which is NULL
	}
	return nil
}
