// Package rpmdbtest makes databases of rpm's for tests.
package rpmdbtest

import (
	"encoding/binary"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/resource/rpmdb"
)

// Header is a package's header as rpm stores it, with fill bytes of another
// tag.
func Header(p rpmdb.Package, fill int) []byte {
	be := binary.BigEndian
	var entries, data []byte
	add := func(tag uint32, text string) {
		for _, v := range []uint32{tag, 6, uint32(len(data)), 1} {
			entries = be.AppendUint32(entries, v)
		}
		data = append(data, text+"\x00"...)
	}
	add(1000, p.Name)
	add(1001, p.Version)
	add(1002, p.Release)
	add(1005, strings.Repeat("x", fill))
	add(1022, p.Arch)
	out := be.AppendUint32(nil, uint32(len(entries)/16))
	out = be.AppendUint32(out, uint32(len(data)))
	return slices.Concat(out, entries, data)
}

// NDB is a database in rpm's own form: slots in the first page, then headers in
// blocks. The packages' headers have the sizes of fill, as far as there are
// some; the last installed stands first.
func NDB(all []rpmdb.Package, fill ...int) []byte {
	le := binary.LittleEndian
	db := make([]byte, 4096)
	copy(db, "RpmP")
	le.PutUint32(db[12:], 1)
	for at := 32; at < 4096; at += 16 {
		copy(db[at:], "Slot")
	}
	for i, p := range all {
		size := 0
		if i < len(fill) {
			size = fill[i]
		}
		slot, data := db[32+16*(len(all)-1-i):], Header(p, size)
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(db)/16))
		head := le.AppendUint32([]byte("BlbS"), uint32(i+1))
		head = le.AppendUint32(le.AppendUint32(head, 0), uint32(len(data)))
		db = append(append(db, head...), data...)
		db = append(db, make([]byte, 16-len(db)%16)...)
	}
	return db
}
