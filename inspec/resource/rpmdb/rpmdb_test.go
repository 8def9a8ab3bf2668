package rpmdb_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"reeve.dev/reeve/inspec/resource/rpmdb"
	"reeve.dev/reeve/inspec/resource/rpmdb/rpmdbtest"
)

// sizes of headers: within a page, and over several.
var sizes = []int{10, 300, 5000, 70000, 0, 900}

func packages() []rpmdb.Package {
	var all []rpmdb.Package
	for i := range sizes {
		all = append(all, rpmdb.Package{Name: fmt.Sprint("p", i), Version: fmt.Sprint("1.", i), Release: "2.el9", Arch: "x86_64"})
	}
	return all
}

// sqliteDB is a database that sqlite writes, and the log beside it: the first
// packages are in the database, the rest in the log alone.
func sqliteDB(t testing.TB) (db, wal []byte) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	conn, err := sql.Open("sqlite", name+"?_pragma=journal_mode(wal)&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetMaxOpenConns(1)
	run := func(q string, args ...any) {
		if _, err := conn.Exec(q, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE TABLE 'Name' (key TEXT NOT NULL, hnum INTEGER NOT NULL)")
	run("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
	for i, p := range packages() {
		if i == 3 {
			run("PRAGMA wal_checkpoint(TRUNCATE)")
		}
		run("INSERT INTO Packages (hnum, blob) VALUES (?, ?)", i+1, rpmdbtest.Header(p, sizes[i]))
	}
	if db, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	if wal, err = os.ReadFile(name + "-wal"); err != nil {
		t.Fatal(err)
	}
	return db, wal
}

func ndb(all []rpmdb.Package) []byte { return rpmdbtest.NDB(all, sizes...) }

// bdb writes Berkeley DB's hash, of pages of 4096 bytes: one of entries, and
// those of the values.
func bdb(all []rpmdb.Package, order binary.ByteOrder) []byte {
	const size = 4096
	page := func(kind byte) []byte {
		p := make([]byte, size)
		p[25] = kind
		return p
	}
	meta, hash := page(8), page(13)
	order.PutUint32(meta[12:], 0x061561)
	order.PutUint32(meta[20:], size)
	pages := [][]byte{meta, hash}
	n, end := 0, size
	entry := func(b []byte) {
		end -= len(b)
		copy(hash[end:], b)
		order.PutUint16(hash[26+2*n:], uint16(end))
		n++
		order.PutUint16(hash[20:], uint16(n))
	}
	number := func(kind byte, pad int, numbers ...int) []byte {
		b := append([]byte{kind}, make([]byte, pad)...)
		for _, v := range numbers {
			b = append(b, 0, 0, 0, 0)
			order.PutUint32(b[len(b)-4:], uint32(v))
		}
		return b
	}
	entry(number(1, 0, 0))
	entry(number(1, 0, len(all)))
	for i, p := range all {
		data := rpmdbtest.Header(p, sizes[i])
		entry(number(1, 0, i+1))
		if len(data) < 400 {
			entry(append([]byte{1}, data...))
			continue
		}
		entry(number(3, 3, len(pages), len(data)))
		for len(data) > 0 {
			p := page(7)
			k := copy(p[26:], data)
			data = data[k:]
			order.PutUint16(p[22:], uint16(k))
			if len(data) > 0 {
				order.PutUint32(p[16:], uint32(len(pages)+1))
			}
			pages = append(pages, p)
		}
	}
	order.PutUint32(meta[32:], uint32(len(pages)-1))
	return bytes.Join(pages, nil)
}

func TestRead(t *testing.T) {
	db, wal := sqliteDB(t)
	for _, c := range []struct {
		name    string
		db, wal []byte
		want    []rpmdb.Package
	}{
		{"sqlite with a log", db, wal, packages()},
		{"sqlite without its log", db, nil, packages()[:3]},
		{"sqlite with a log that ends in a transaction", db, wal[:len(wal)-100], packages()[:5]},
		{"ndb", ndb(packages()), nil, packages()},
		{"bdb", bdb(packages(), binary.LittleEndian), nil, packages()},
		{"bdb of another machine", bdb(packages(), binary.BigEndian), nil, packages()},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := rpmdb.Read(c.db, c.wal)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestRead_Damaged shows that a part of a database is never taken for all.
func TestRead_Damaged(t *testing.T) {
	db, _ := sqliteDB(t)
	for name, whole := range map[string][]byte{"sqlite": db, "ndb": ndb(packages()), "bdb": bdb(packages(), binary.LittleEndian)} {
		for _, cut := range []int{len(whole) / 2, len(whole) - 4000, 60, 14} {
			if got, err := rpmdb.Read(whole[:max(cut, 0)], nil); !errors.Is(err, rpmdb.ErrFormat) {
				t.Errorf("%s cut to %d bytes: %v, %v", name, cut, got, err)
			}
		}
	}
	if _, err := rpmdb.Read(nil, nil); !errors.Is(err, rpmdb.ErrFormat) {
		t.Errorf("nothing: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	db, wal := sqliteDB(f)
	f.Add(db, wal)
	f.Add(ndb(packages()[:2]), []byte(nil))
	f.Add(bdb(packages()[:3], binary.LittleEndian), []byte(nil))
	f.Fuzz(func(_ *testing.T, db, wal []byte) { _, _ = rpmdb.Read(db, wal) })
}
