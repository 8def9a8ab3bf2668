// Package rpmdb reads rpm's database of installed packages without rpm, from
// the bytes of its file: in the forms sqlite (rpm 4.16 and later), ndb (SUSE)
// and bdb, Berkeley DB's hash (before). Of a package it reads what tells it
// apart: name, version, release and architecture.
//
// The bytes are untrusted: whatever doesn't fit is an error, never a shorter
// list, and no structure in them leads to more work or memory than their own
// size.
package rpmdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Package is an installed package.
type Package struct{ Name, Version, Release, Arch string }

// ErrFormat says that the bytes aren't a database of rpm's.
var ErrFormat = errors.New("not an rpm database")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// header is a package's header and the number that rpm gave it.
type header struct {
	number uint32
	blob   []byte
}

// Read lists the packages of a database in the order in which they were
// installed. wal is the content of the file that sqlite keeps beside its own
// (rpmdb.sqlite-wal), nil when there is none.
func Read(db, wal []byte) ([]Package, error) {
	var headers []header
	var err error
	switch {
	case bytes.HasPrefix(db, []byte("SQLite format 3\x00")):
		headers, err = readSQLite(db, wal)
	case bytes.HasPrefix(db, []byte("RpmP")):
		headers, err = readNDB(db)
	case len(db) >= 16 && (binary.LittleEndian.Uint32(db[12:]) == bdbMagic || binary.BigEndian.Uint32(db[12:]) == bdbMagic):
		headers, err = readBDB(db)
	default:
		err = bad("none of the forms that rpm writes")
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(headers, func(a, b header) int { return int(int64(a.number) - int64(b.number)) })
	packages := make([]Package, 0, len(headers))
	for _, h := range headers {
		p, err := parseHeader(h.blob)
		if err != nil {
			return nil, fmt.Errorf("package %d: %w", h.number, err)
		}
		packages = append(packages, p)
	}
	return packages, nil
}

// The tags of a header that are read, and the type of a text (rpm's
// lib/rpmtag.h).
const (
	tagName    = 1000
	tagVersion = 1001
	tagRelease = 1002
	tagArch    = 1022
	typeString = 6
)

// parseHeader reads a header as it is stored: the number of entries and the
// bytes of data, then the entries (tag, type, offset, count), then the data.
func parseHeader(b []byte) (Package, error) {
	var p Package
	if len(b) < 8 {
		return p, bad("a header of %d bytes", len(b))
	}
	entries, size := uint64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
	if 8+entries*16+size > uint64(len(b)) {
		return p, bad("a header is cut short")
	}
	data := b[8+entries*16:][:size]
	for i := range entries {
		e := b[8+i*16:]
		var to *string
		switch binary.BigEndian.Uint32(e) {
		case tagName:
			to = &p.Name
		case tagVersion:
			to = &p.Version
		case tagRelease:
			to = &p.Release
		case tagArch:
			to = &p.Arch
		default:
			continue
		}
		offset := uint64(binary.BigEndian.Uint32(e[8:]))
		if binary.BigEndian.Uint32(e[4:]) != typeString || offset > size {
			return p, bad("a header's text lies outside of it")
		}
		text, _, ended := bytes.Cut(data[offset:], []byte{0})
		if !ended {
			return p, bad("a header's text has no end")
		}
		*to = string(text)
	}
	if p.Name == "" {
		return p, bad("a header without a name")
	}
	return p, nil
}

// NDB, rpm's own form (lib/backend/ndb/rpmpkg.c): pages of slots, which say
// where a header begins, in blocks of 16 bytes.
const (
	ndbSlot  = 'S' | 'l'<<8 | 'o'<<16 | 't'<<24
	ndbBlob  = 'B' | 'l'<<8 | 'b'<<16 | 'S'<<24
	ndbPage  = 4096
	ndbBlock = 16
)

func readNDB(db []byte) ([]header, error) {
	le := binary.LittleEndian
	if len(db) < 32 {
		return nil, bad("ndb: it is cut short")
	}
	if v := le.Uint32(db[4:]); v != 0 {
		return nil, bad("ndb: version %d", v)
	}
	end := uint64(le.Uint32(db[12:])) * ndbPage
	if end > uint64(len(db)) {
		return nil, bad("ndb: it is cut short")
	}
	var headers []header
	for at := uint64(32); at+16 <= end; at += 16 {
		slot := db[at:]
		number := le.Uint32(slot[4:])
		if le.Uint32(slot) != ndbSlot {
			return nil, bad("ndb: no slot at byte %d", at)
		}
		if number == 0 {
			continue
		}
		begin := uint64(le.Uint32(slot[8:])) * ndbBlock
		if begin+16 > uint64(len(db)) {
			return nil, bad("ndb: package %d lies outside of it", number)
		}
		blob := db[begin:]
		size := uint64(le.Uint32(blob[12:]))
		if le.Uint32(blob) != ndbBlob || le.Uint32(blob[4:]) != number || 16+size > uint64(len(blob)) {
			return nil, bad("ndb: package %d isn't where it should be", number)
		}
		headers = append(headers, header{number, blob[16:][:size]})
	}
	return headers, nil
}

// Berkeley DB's hash (dbinc/db_page.h): every page of the type hash holds keys
// and values in turn, and a value as large as a header lies on pages of its
// own, each naming the next.
const (
	bdbMagic     = 0x061561
	bdbHeader    = 26 // of each page
	bdbMeta      = 8  // types of pages
	bdbUnsorted  = 2
	bdbHash      = 13
	bdbOverflow  = 7
	bdbInline    = 1 // types of entries
	bdbElsewhere = 3
)

func readBDB(db []byte) ([]header, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(db[12:]) != bdbMagic {
		order = binary.BigEndian
	}
	if len(db) < 72 || db[25] != bdbMeta {
		return nil, bad("bdb: no hash")
	}
	if db[24] != 0 {
		return nil, bad("bdb: it is encrypted")
	}
	size := uint64(order.Uint32(db[20:]))
	if size < 512 || size > 64<<10 || size&(size-1) != 0 {
		return nil, bad("bdb: pages of %d bytes", size)
	}
	if last := uint64(order.Uint32(db[32:])); (last+1)*size > uint64(len(db)) {
		return nil, bad("bdb: it is cut short")
	}
	pages := uint64(len(db)) / size
	used := make([]bool, pages) // by values: no page belongs to two
	var headers []header
	for n := uint64(1); n < pages; n++ {
		page := db[n*size:][:size]
		if page[25] != bdbUnsorted && page[25] != bdbHash {
			continue
		}
		entries := uint64(order.Uint16(page[20:]))
		if bdbHeader+entries*2 > size {
			return nil, bad("bdb: page %d has %d entries", n, entries)
		}
		entry := func(i uint64) ([]byte, error) {
			begin, end := uint64(order.Uint16(page[bdbHeader+i*2:])), size
			if i > 0 {
				end = uint64(order.Uint16(page[bdbHeader+i*2-2:]))
			}
			if begin >= end || end > size {
				return nil, bad("bdb: entry %d of page %d", i, n)
			}
			return page[begin:end], nil
		}
		for i := uint64(0); i+1 < entries; i += 2 {
			key, err := entry(i)
			if err != nil {
				return nil, err
			}
			value, err := entry(i + 1)
			if err != nil {
				return nil, err
			}
			if key[0] != bdbInline || len(key) != 5 {
				return nil, bad("bdb: a key of page %d is no number", n)
			}
			number := order.Uint32(key[1:])
			switch {
			case number == 0: // says which number was given last
			case value[0] == bdbInline:
				headers = append(headers, header{number, value[1:]})
			case value[0] == bdbElsewhere && len(value) >= 12:
				blob, err := bdbValue(db, order, size, used, uint64(order.Uint32(value[4:])), uint64(order.Uint32(value[8:])))
				if err != nil {
					return nil, fmt.Errorf("package %d: %w", number, err)
				}
				headers = append(headers, header{number, blob})
			default:
				return nil, bad("bdb: a value of page %d has the type %d", n, value[0])
			}
		}
	}
	return headers, nil
}

func bdbValue(db []byte, order binary.ByteOrder, size uint64, used []bool, n, length uint64) ([]byte, error) {
	var blob []byte
	for n != 0 {
		if n >= uint64(len(used)) || used[n] {
			return nil, bad("bdb: page %d isn't there, or holds two values", n)
		}
		used[n] = true
		page := db[n*size:][:size]
		there := uint64(order.Uint16(page[22:]))
		if page[25] != bdbOverflow || bdbHeader+there > size {
			return nil, bad("bdb: page %d holds no value", n)
		}
		blob = append(blob, page[bdbHeader:][:there]...)
		n = uint64(order.Uint32(page[16:]))
	}
	if uint64(len(blob)) != length {
		return nil, bad("bdb: a value of %d bytes, not of %d", len(blob), length)
	}
	return blob, nil
}
