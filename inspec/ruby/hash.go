package ruby

import (
	"hash/maphash"
	"math/bits"
	"slices"
)

// hashLinear is the number of entries up to which a Hash is searched in order.
const hashLinear = 8

type hashEntry struct {
	key, value Value
	sum        uint32 // hash of key
	deleted    bool
}

// Hash is a Ruby hash: it keeps the order of insertion and compares keys with
// eql?. The zero value is an empty hash.
type Hash struct {
	entries []hashEntry
	index   []int32 // open addressing: 1 + the entry, 0 where there is none
	live    int32
	walks   int32 // Each calls under way, during which entries stay in place
	frozen  bool
	byID    bool
	kw      bool // keyword arguments of a call

	Default     Value
	DefaultProc *Proc
	*ext
}

// NewHash returns a hash of the pairs: key, value, key, value, …
func NewHash(pairs ...Value) *Hash {
	h := &Hash{entries: make([]hashEntry, 0, len(pairs)/2)}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// Grow makes room for n more entries.
func (h *Hash) Grow(n int) { h.entries = slices.Grow(h.entries, n) }

// SetText is Set with a string as key.
func (h *Hash) SetText(key string, value Value) { h.Set(&String{s: key, frozen: true}, value) }

// Len returns the number of entries.
func (h *Hash) Len() int { return int(h.live) }

// hashSeed keeps a profile from choosing keys that collide.
var hashSeed = maphash.MakeSeed()

// sum is the hash of a key.
func (h *Hash) sum(key Value) uint32 {
	if !h.byID {
		switch k := key.(type) {
		case *String:
			return uint32(maphash.String(hashSeed, k.s))
		case Symbol:
			return ^uint32(maphash.String(hashSeed, string(k)))
		}
	}
	return uint32(maphash.Comparable(hashSeed, h.hashKey(key)))
}

// same reports whether two keys with the same hash are one.
func (h *Hash) same(a, b Value) bool {
	if !h.byID {
		switch a := a.(type) {
		case *String:
			b, ok := b.(*String)
			return ok && a.s == b.s
		case Symbol:
			b, ok := b.(Symbol)
			return ok && a == b
		}
	}
	return h.hashKey(a) == h.hashKey(b)
}

// find returns the entry of key, or -1.
func (h *Hash) find(key Value, sum uint32) int {
	return h.locate(sum, func(k Value) bool { return h.same(k, key) })
}

// locate returns the entry of the key with that hash that is, or -1.
func (h *Hash) locate(sum uint32, is func(k Value) bool) int {
	if h.index == nil {
		for i := range h.entries {
			if e := &h.entries[i]; e.sum == sum && !e.deleted && is(e.key) {
				return i
			}
		}
		return -1
	}
	mask := uint32(len(h.index) - 1)
	for at := sum & mask; h.index[at] != 0; at = (at + 1) & mask {
		i := int(h.index[at]) - 1
		if e := &h.entries[i]; e.sum == sum && !e.deleted && is(e.key) {
			return i
		}
	}
	return -1
}

// Get returns the value of key and whether there is one. It knows nothing of
// defaults.
func (h *Hash) Get(key Value) (Value, bool) {
	if h.live == 0 {
		return nil, false
	}
	return h.entry(h.find(key, h.sum(key)))
}

func (h *Hash) entry(i int) (Value, bool) {
	if i < 0 {
		return nil, false
	}
	return h.entries[i].value, true
}

// GetSym returns the value of the symbol, or else of the string, name.
func (h *Hash) GetSym(name string) (Value, bool) {
	if v, ok := h.Get(Symbol(name)); ok {
		return v, true
	}
	sum := uint32(maphash.String(hashSeed, name))
	return h.entry(h.locate(sum, func(k Value) bool { s, ok := k.(*String); return ok && s.s == name }))
}

// Set stores value under key. A string key is copied and frozen, as Ruby does.
func (h *Hash) Set(key, value Value) {
	sum := h.sum(key)
	if i := h.find(key, sum); i >= 0 {
		h.entries[i].value = value
		return
	}
	if s, ok := key.(*String); ok && !s.frozen && !h.byID {
		key = &String{s: s.s, frozen: true}
	}
	if cap(h.entries) == 0 {
		h.entries = make([]hashEntry, 0, 4)
	}
	h.entries = append(h.entries, hashEntry{key: key, value: value, sum: sum})
	h.live++
	if n := len(h.entries); n > hashLinear {
		if 2*n > len(h.index) {
			h.reindex()
		} else {
			h.link(n - 1)
		}
	}
}

func (h *Hash) link(i int) {
	mask := uint32(len(h.index) - 1)
	at := h.entries[i].sum & mask
	for h.index[at] != 0 {
		at = (at + 1) & mask
	}
	h.index[at] = int32(i + 1)
}

func (h *Hash) compact() {
	live := h.entries[:0]
	for _, e := range h.entries {
		if !e.deleted {
			live = append(live, e)
		}
	}
	clear(h.entries[len(live):])
	h.entries = live
	h.reindex()
}

// reindex builds an index that is at most a quarter full.
func (h *Hash) reindex() {
	h.index = nil
	if len(h.entries) > hashLinear {
		h.index = make([]int32, 1<<bits.Len(uint(4*len(h.entries)-1)))
		for i := range h.entries {
			h.link(i)
		}
	}
}

// Delete removes key and returns its value and whether it was there.
func (h *Hash) Delete(key Value) (Value, bool) {
	i := h.find(key, h.sum(key))
	if i < 0 {
		return nil, false
	}
	v := h.entries[i].value
	h.entries[i] = hashEntry{sum: h.entries[i].sum, deleted: true}
	h.live--
	if h.walks == 0 && len(h.entries) > 32 && h.Len() < len(h.entries)/2 {
		h.compact()
	}
	return v, true
}

func (h *Hash) clear() { h.entries, h.index, h.live = nil, nil, 0 }

// Each calls fn for each entry in order until fn returns an error, which it
// returns. The hash may be changed meanwhile; entries added are visited.
func (h *Hash) Each(fn func(key, value Value) error) error {
	h.walks++
	defer func() { h.walks-- }()
	for i := 0; i < len(h.entries); i++ {
		if e := h.entries[i]; !e.deleted {
			if err := fn(e.key, e.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// Keys returns the keys in order.
func (h *Hash) Keys() []Value {
	keys := make([]Value, 0, h.live)
	for i := range h.entries {
		if !h.entries[i].deleted {
			keys = append(keys, h.entries[i].key)
		}
	}
	return keys
}

// Values returns the values in order.
func (h *Hash) Values() []Value {
	vals := make([]Value, 0, h.live)
	for i := range h.entries {
		if !h.entries[i].deleted {
			vals = append(vals, h.entries[i].value)
		}
	}
	return vals
}

func (h *Hash) copyEntries(from *Hash) {
	h.entries = append([]hashEntry(nil), from.entries...)
	h.live, h.byID = from.live, from.byID
	h.compact()
}
