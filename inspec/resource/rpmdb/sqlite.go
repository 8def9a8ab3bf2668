package rpmdb

import (
	"encoding/binary"
	"strings"
)

// sqlite reads tables of a database (sqlite.org/fileformat2.html), with the
// pages that are in its write-ahead log.
type sqlite struct {
	db       []byte
	newer    map[uint32][]byte // pages of the log
	size     uint64            // of a page
	usable   uint64            // of it
	pages    uint64
	visited  []bool // pages of trees and of values: none belongs to two
	maxDepth int
}

// readSQLite reads the table Packages: a number and a header in each row.
func readSQLite(db, wal []byte) ([]header, error) {
	s, err := openSQLite(db, wal)
	if err != nil {
		return nil, err
	}
	var root uint32
	err = s.table(1, 0, func(_ uint64, columns []column) error {
		if len(columns) >= 4 && string(columns[0].data) == "table" && strings.EqualFold(string(columns[1].data), "Packages") {
			root = uint32(columns[3].number())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if root == 0 {
		return nil, bad("sqlite: it has no table Packages")
	}
	var headers []header
	err = s.table(root, 0, func(row uint64, columns []column) error {
		if len(columns) < 2 || columns[1].kind < 12 {
			return bad("sqlite: a row without a header")
		}
		headers = append(headers, header{uint32(row), columns[1].data})
		return nil
	})
	return headers, err
}

func openSQLite(db, wal []byte) (*sqlite, error) {
	be := binary.BigEndian
	if len(db) < 100 {
		return nil, bad("sqlite: it is cut short")
	}
	s := &sqlite{db: db, newer: map[uint32][]byte{}, size: uint64(be.Uint16(db[16:])), maxDepth: 20}
	if s.size == 1 {
		s.size = 64 << 10
	}
	if s.size < 512 || s.size&(s.size-1) != 0 || uint64(len(db)) < s.size {
		return nil, bad("sqlite: pages of %d bytes", s.size)
	}
	s.pages = uint64(len(db)) / s.size
	if err := s.log(wal); err != nil {
		return nil, err
	}
	first, err := s.page(1)
	if err != nil {
		return nil, err
	}
	// A file that is shorter than it says was cut; the number is right only
	// when the version that wrote it is that of the last change.
	if n := uint64(be.Uint32(first[28:])); be.Uint32(first[24:]) == be.Uint32(first[92:]) && n > s.pages {
		return nil, bad("sqlite: it has %d of %d pages", s.pages, n)
	}
	s.usable = s.size - uint64(first[20])
	if s.usable < 480 {
		return nil, bad("sqlite: pages of %d bytes", s.usable)
	}
	s.visited = make([]bool, s.pages+1)
	return s, nil
}

// log takes the pages of all transactions of the log that were committed. What
// follows the first frame that doesn't belong to it is of an older log.
func (s *sqlite) log(wal []byte) error {
	if len(wal) < 32 {
		return nil
	}
	be := binary.BigEndian
	var order binary.ByteOrder = binary.LittleEndian
	switch magic := be.Uint32(wal); {
	case magic == 0x377f0683:
		order = be
	case magic != 0x377f0682:
		return bad("sqlite: its log isn't one")
	}
	if uint64(be.Uint32(wal[8:])) != s.size {
		return bad("sqlite: its log has pages of another size")
	}
	var a, b uint32
	sum := func(data []byte) {
		for ; len(data) >= 8; data = data[8:] {
			a += order.Uint32(data) + b
			b += order.Uint32(data[4:]) + a
		}
	}
	sum(wal[:24])
	if a != be.Uint32(wal[24:]) || b != be.Uint32(wal[28:]) {
		return nil // sqlite takes no frame of such a log
	}
	salts, open := string(wal[16:24]), map[uint32][]byte{}
	for frames := wal[32:]; uint64(len(frames)) >= 24+s.size; frames = frames[24+s.size:] {
		page := frames[24:][:s.size]
		sum(frames[:8])
		sum(page)
		if string(frames[8:16]) != salts || a != be.Uint32(frames[16:]) || b != be.Uint32(frames[20:]) {
			break
		}
		open[be.Uint32(frames)] = page
		if total := be.Uint32(frames[4:]); total != 0 { // a commit
			for n, p := range open {
				s.newer[n] = p
			}
			clear(open)
			s.pages = uint64(total)
		}
	}
	if most := uint64(len(s.db)+len(wal)) / s.size; s.pages > most {
		return bad("sqlite: it has %d pages and says %d", most, s.pages)
	}
	return nil
}

func (s *sqlite) page(n uint32) ([]byte, error) {
	if p, ok := s.newer[n]; ok {
		return p, nil
	}
	if n == 0 || uint64(n) > s.pages || uint64(n)*s.size > uint64(len(s.db)) {
		return nil, bad("sqlite: there is no page %d", n)
	}
	return s.db[uint64(n-1)*s.size:][:s.size], nil
}

// once is page, for one that belongs to one tree or value alone.
func (s *sqlite) once(n uint32) ([]byte, error) {
	p, err := s.page(n)
	if err != nil {
		return nil, err
	}
	if uint64(n) > s.pages || s.visited[n] {
		return nil, bad("sqlite: page %d belongs to two", n)
	}
	s.visited[n] = true
	return p, nil
}

// table calls row with each row of the tree below page n, in order.
func (s *sqlite) table(n uint32, depth int, row func(id uint64, columns []column) error) error {
	page, err := s.once(n)
	if err != nil {
		return err
	}
	head := page
	if n == 1 {
		head = page[100:]
	}
	interior := head[0] == 5
	if !interior && head[0] != 13 || depth > s.maxDepth {
		return bad("sqlite: page %d is no part of a table", n)
	}
	cells, at := uint64(binary.BigEndian.Uint16(head[3:])), 8
	if interior {
		at = 12
	}
	if uint64(at)+cells*2 > uint64(len(head)) {
		return bad("sqlite: page %d has %d cells", n, cells)
	}
	for i := range cells {
		offset := uint64(binary.BigEndian.Uint16(head[uint64(at)+i*2:]))
		if offset+4 > s.usable {
			return bad("sqlite: cell %d of page %d", i, n)
		}
		cell := page[offset:s.usable]
		if interior {
			if err := s.table(binary.BigEndian.Uint32(cell), depth+1, row); err != nil {
				return err
			}
			continue
		}
		size, k := varint(cell)
		id, m := varint(cell[k:])
		if k == 0 || m == 0 {
			return bad("sqlite: cell %d of page %d", i, n)
		}
		payload, err := s.payload(cell[k+m:], size)
		if err != nil {
			return err
		}
		columns, err := record(payload)
		if err != nil {
			return err
		}
		if err := row(id, columns); err != nil {
			return err
		}
	}
	if interior {
		return s.table(binary.BigEndian.Uint32(head[8:]), depth+1, row)
	}
	return nil
}

// payload is a row's bytes, of which cell holds the first.
func (s *sqlite) payload(cell []byte, size uint64) ([]byte, error) {
	if size > uint64(len(s.db))+uint64(len(s.newer))*s.size {
		return nil, bad("sqlite: a row of %d bytes", size)
	}
	local := size
	if most, least := s.usable-35, (s.usable-12)*32/255-23; size > most {
		if local = least + (size-least)%(s.usable-4); local > most {
			local = least
		}
	}
	if local > uint64(len(cell)) {
		return nil, bad("sqlite: a row is cut short")
	}
	if local == size {
		return cell[:size], nil
	}
	if local+4 > uint64(len(cell)) {
		return nil, bad("sqlite: a row is cut short")
	}
	out := append(make([]byte, 0, size), cell[:local]...)
	for next := binary.BigEndian.Uint32(cell[local:]); uint64(len(out)) < size; {
		page, err := s.once(next)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(page)
		out = append(out, page[4:min(s.usable, 4+size-uint64(len(out)))]...)
	}
	return out, nil
}

// column is a value of a row: its serial type and its bytes.
type column struct {
	kind uint64
	data []byte
}

func (c column) number() uint64 {
	switch c.kind {
	case 8:
		return 0
	case 9:
		return 1
	}
	var n uint64
	for _, b := range c.data {
		n = n<<8 | uint64(b)
	}
	return n
}

// record takes a row apart.
func record(payload []byte) ([]column, error) {
	size, n := varint(payload)
	if n == 0 || size > uint64(len(payload)) || size < uint64(n) {
		return nil, bad("sqlite: a row's head")
	}
	head, data := payload[n:size], payload[size:]
	var columns []column
	for len(head) > 0 {
		kind, n := varint(head)
		if n == 0 {
			return nil, bad("sqlite: a row's head")
		}
		head = head[n:]
		var length uint64
		switch {
		case kind <= 4:
			length = kind
		case kind == 5:
			length = 6
		case kind <= 7:
			length = 8
		case kind >= 12:
			length = (kind - 12) / 2
		}
		if length > uint64(len(data)) {
			return nil, bad("sqlite: a row is cut short")
		}
		columns = append(columns, column{kind, data[:length]})
		data = data[length:]
	}
	return columns, nil
}

// varint reads a number of up to nine bytes; n is zero when it is cut short.
func varint(b []byte) (v uint64, n int) {
	for i := 0; i < len(b) && i < 9; i++ {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
