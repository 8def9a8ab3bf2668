package ruby

// hashLinear is the number of entries up to which a Hash is searched in order.
const hashLinear = 8

type hashEntry struct {
	key, value Value
	hk         any // comparable form of key
	deleted    bool
}

// Hash is a Ruby hash: it keeps the order of insertion and compares keys with
// eql?. The zero value is an empty hash.
type Hash struct {
	entries []hashEntry
	index   map[any]int
	live    int
	frozen  bool
	byID    bool
	kw      bool // keyword arguments of a call
	walks   int  // Each calls under way, during which entries stay in place

	Default     Value
	DefaultProc *Proc
	*ext
}

// NewHash returns a hash of the pairs: key, value, key, value, …
func NewHash(pairs ...Value) *Hash {
	h := &Hash{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// Len returns the number of entries.
func (h *Hash) Len() int { return h.live }

func (h *Hash) find(hk any) int {
	if h.index != nil {
		if i, ok := h.index[hk]; ok {
			return i
		}
		return -1
	}
	for i := range h.entries {
		if e := &h.entries[i]; !e.deleted && e.hk == hk {
			return i
		}
	}
	return -1
}

// Get returns the value of key and whether there is one. It knows nothing of
// defaults.
func (h *Hash) Get(key Value) (Value, bool) {
	if i := h.find(h.hashKey(key)); i >= 0 {
		return h.entries[i].value, true
	}
	return nil, false
}

// GetSym returns the value of the symbol, or else of the string, name.
func (h *Hash) GetSym(name string) (Value, bool) {
	if v, ok := h.Get(Symbol(name)); ok {
		return v, true
	}
	return h.Get(NewString(name))
}

// Set stores value under key. A string key is copied and frozen, as Ruby does.
func (h *Hash) Set(key, value Value) {
	hk := h.hashKey(key)
	if i := h.find(hk); i >= 0 {
		h.entries[i].value = value
		return
	}
	if s, ok := key.(*String); ok && !s.frozen && !h.byID {
		key = &String{s: s.s, frozen: true}
	}
	h.entries = append(h.entries, hashEntry{key: key, value: value, hk: hk})
	h.live++
	if h.index != nil {
		h.index[hk] = len(h.entries) - 1
	} else if len(h.entries) > hashLinear {
		h.reindex()
	}
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

func (h *Hash) reindex() {
	h.index = nil
	if len(h.entries) > hashLinear {
		h.index = make(map[any]int, 2*len(h.entries))
		for i := range h.entries {
			if !h.entries[i].deleted {
				h.index[h.entries[i].hk] = i
			}
		}
	}
}

// Delete removes key and returns its value and whether it was there.
func (h *Hash) Delete(key Value) (Value, bool) {
	i := h.find(h.hashKey(key))
	if i < 0 {
		return nil, false
	}
	v := h.entries[i].value
	if h.index != nil {
		delete(h.index, h.entries[i].hk)
	}
	h.entries[i] = hashEntry{deleted: true}
	h.live--
	if h.walks == 0 && len(h.entries) > 32 && h.live < len(h.entries)/2 {
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
