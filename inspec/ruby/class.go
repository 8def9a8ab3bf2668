package ruby

import "slices"

type visibility uint8

const (
	public visibility = iota
	private
	protected
)

var visibilityNames = [...]string{"public", "private", "protected"}

// method is one entry of a class's method table: exactly one of native, def,
// proc, getter and setter is set, or none for one that was undefined.
type method struct {
	name     string
	owner    *Class
	vis      visibility
	native   func(c *Call) (Value, error)
	min, max int // arguments of native; max < 0 is any number, min < 0 unchecked
	def      *defNode
	lex      *lexScope
	proc     *Proc
	getter   string
	setter   string
}

// Class is a Ruby class or module.
type Class struct {
	Name  string // full name, Outer::Inner; empty when anonymous
	Super *Class // nil for a module
	Outer *Class

	in       *Interp
	module   bool
	attached Value // for a singleton class: whose
	meta     *Class
	methods  map[string]*method
	order    []string // of definition
	consts   map[string]Value
	constOrd []string
	includes []*Class
	prepends []*Class
	ivars    ivars
	cvars    map[string]Value
	data     any
	frozen   bool
	addr     uint64

	missing func(c *Call, name string) (Value, error)
	respond func(v Value, name string) bool

	mro      []*Class
	mroAt    uint64
	cache    map[string]*method
	cacheAt  uint64
	isExcept bool
	noAlloc  bool // only Go code makes instances
}

// IsModule reports whether c is a module.
func (c *Class) IsModule() bool { return c.module }

// Interp returns the interpreter that c belongs to.
func (c *Class) Interp() *Interp { return c.in }

// Def defines a public instance method; a method of that name is replaced. fn
// checks its own arguments.
func (c *Class) Def(name string, fn func(c *Call) (Value, error)) { c.DefN(name, 0, -1, fn) }

// DefN is Def for a method that takes from min to max arguments (max < 0: any
// number); others raise ArgumentError.
func (c *Class) DefN(name string, min, max int, fn func(c *Call) (Value, error)) {
	m := c.in.newMethod()
	m.name, m.native, m.min, m.max = name, fn, min, max
	c.define(m)
}

// DefSingleton defines a method of c itself.
func (c *Class) DefSingleton(name string, fn func(c *Call) (Value, error)) {
	c.in.singletonClass(c).DefN(name, 0, -1, fn)
}

// DefMissing sets what is called for methods that instances of c don't have,
// and what decides respond_to? for those.
func (c *Class) DefMissing(fn func(c *Call, name string) (Value, error), respond func(v Value, name string) bool) {
	c.missing, c.respond = fn, respond
	c.in.epoch++
}

// Undef makes instances of c not respond to name, whatever an ancestor has.
func (c *Class) Undef(name string) { c.define(&method{name: name}) }

func (c *Class) define(m *method) {
	m.owner = c
	if c.methods == nil {
		n := sizes[c.Name]
		c.methods = make(map[string]*method, n)
		c.order = make([]string, 0, n)
	}
	if _, ok := c.methods[m.name]; !ok {
		c.order = append(c.order, m.name)
	}
	c.methods[m.name] = m
	c.in.epoch++
}

// sizes are about how many methods the larger core classes have.
var sizes = map[string]int{
	"String": 130, "Array": 85, "Kernel": 100, "Hash": 75, "Enumerable": 60, "Module": 56, "Numeric": 50,
	"Date": 50, "Time": 50, "Set": 45, "Pathname": 28, "IPAddr": 32, "REXML::Element": 28, "Enumerator::Lazy": 28,
}

// newMethod returns an entry for a method table; they are made by the block.
func (in *Interp) newMethod() *method {
	if len(in.spare) == 0 {
		in.spare = make([]method, 128)
	}
	m := &in.spare[0]
	in.spare = in.spare[1:]
	return m
}

func (m *method) undefined() bool {
	return m.native == nil && m.def == nil && m.proc == nil && m.getter == "" && m.setter == ""
}

// Const returns the constant name of c itself.
func (c *Class) Const(name string) (Value, bool) {
	v, ok := c.consts[name]
	return v, ok
}

// SetConst sets a constant. An anonymous class gets its name by it.
func (c *Class) SetConst(name string, v Value) {
	if c.consts == nil {
		c.consts = map[string]Value{}
	}
	if _, ok := c.consts[name]; !ok {
		c.constOrd = append(c.constOrd, name)
	}
	c.consts[name] = v
	if k, ok := v.(*Class); ok && k.Name == "" && k.attached == nil {
		k.Name = qualified(c, name)
		k.Outer = c
	}
}

func qualified(outer *Class, name string) string {
	if outer == nil || outer == outer.in.cObject {
		return name
	}
	return outer.in.className(outer) + "::" + name
}

// Include mixes module m into c.
func (c *Class) Include(m *Class) {
	for _, k := range c.ancestors() {
		if k == m {
			return
		}
	}
	c.includes = append(c.includes, m)
	c.in.epoch++
}

// ancestors is the order of method lookup, c first unless it has prepends.
func (c *Class) ancestors() []*Class {
	if c.mro != nil && c.mroAt == c.in.epoch {
		return c.mro
	}
	var out []*Class
	seen := map[*Class]bool{}
	var addModule func(m *Class)
	addModule = func(m *Class) {
		if seen[m] {
			return
		}
		seen[m] = true
		for i := len(m.prepends) - 1; i >= 0; i-- {
			addModule(m.prepends[i])
		}
		out = append(out, m)
		for i := len(m.includes) - 1; i >= 0; i-- {
			addModule(m.includes[i])
		}
	}
	for k := c; k != nil; k = k.Super {
		addModule(k)
	}
	c.mro, c.mroAt = out, c.in.epoch
	return out
}

// Beyond lists the public methods that an instance of c has and one of base
// hasn't, sorted; open is true where it answers to other names, too.
func (c *Class) Beyond(base *Class) (names []string, open bool) {
	of := base.ancestors()
	for _, k := range c.ancestors() {
		if slices.Contains(of, k) {
			continue
		}
		open = open || k.missing != nil
		for name := range k.methods {
			if m := c.find(name); m != nil && m.vis == public && base.find(name) == nil {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), open
}

// find returns the method that an instance of c runs for name, nil when there
// is none.
func (c *Class) find(name string) *method {
	for c.Super != nil && len(c.methods) == 0 && len(c.includes) == 0 && len(c.prepends) == 0 {
		c = c.Super // as for most describe blocks
	}
	if c.cacheAt != c.in.epoch || c.cache == nil {
		c.cache, c.cacheAt = map[string]*method{}, c.in.epoch
	} else if m, ok := c.cache[name]; ok {
		return m
	}
	var found *method
	for _, k := range c.ancestors() {
		if m, ok := k.methods[name]; ok {
			if !m.undefined() {
				found = m
			}
			break
		}
	}
	c.cache[name] = found
	return found
}

// findAfter returns the method that super in a method of owner runs.
func (c *Class) findAfter(owner *Class, name string) *method {
	past := false
	for _, k := range c.ancestors() {
		if past {
			if m, ok := k.methods[name]; ok {
				if m.undefined() {
					return nil
				}
				return m
			}
		}
		if k == owner {
			past = true
		}
	}
	return nil
}

func (c *Class) findMissing() func(c *Call, name string) (Value, error) {
	for _, k := range c.ancestors() {
		if k.missing != nil {
			return k.missing
		}
	}
	return nil
}

// Inherits reports whether c is k, descends from it, or includes it.
func (c *Class) Inherits(k *Class) bool {
	if c == k {
		return true
	}
	if !k.module {
		for s := c.Super; s != nil; s = s.Super {
			if s == k {
				return true
			}
		}
		return false
	}
	for _, a := range c.ancestors() {
		if a == k {
			return true
		}
	}
	return false
}

// Methods returns the names of the public methods that c itself defines, in
// order of definition.
func (c *Class) Methods() []string {
	var names []string
	for _, n := range c.order {
		if m := c.methods[n]; m.vis != private && !m.undefined() {
			names = append(names, n)
		}
	}
	return names
}
