package resource

import (
	"errors"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// tableClasses are the classes of InSpec's FilterTable, which turns rows of
// data into columns that can be filtered: passwd.where { uid == 0 }.users.
type tableClasses struct {
	module, factory, table, trace, catcher *ruby.Class
}

// column is one property of a table: the values of a field, or what a block
// makes of the table.
type column struct {
	name   string
	field  ruby.Value // Symbol or String, the key in a row
	simple bool       // flatten, uniq, compact
	block  *ruby.Proc
	native func(c *ruby.Call, t *ruby.Object, r *rows) (ruby.Value, error)
	// lazy fills a row's field when it is asked for: a block that is given the
	// row, what is sought and the table, or the name of a resource's method.
	lazy   *ruby.Proc
	lazyBy ruby.Value
}

// factory collects columns before they are installed on a class.
type factory struct {
	columns []column
	methods []string
}

// rows is a table: what is left of a resource's rows after filtering.
type rows struct {
	kind     *tableKind
	resource ruby.Value
	data     []*ruby.Hash
	criteria string
	filled   map[string]bool
}

// tableKind is what all tables of one resource class share.
type tableKind struct {
	class   *ruby.Class
	row     *ruby.Class // a Struct of the fields
	columns []column
	fields  []ruby.Value
}

// caught stands for the table of a resource that was skipped or failed.
type caught struct {
	resource ruby.Value
	err      *ruby.Exception
	skipped  bool
}

// traced is what a where block does with one field, for the table's title.
type traced struct {
	steps []traceStep
}

type traceStep struct {
	name string
	args []ruby.Value
	next *ruby.Object
}

func (s *Set) defineFilterTable() {
	in := s.in
	m := in.DefineModule(nil, "FilterTable")
	s.table = tableClasses{
		module: m, factory: in.DefineClass(m, "Factory", nil), table: in.DefineClass(m, "Table", nil),
		trace: in.DefineClass(m, "Trace", nil), catcher: in.DefineClass(m, "ExceptionCatcher", nil),
	}
	m.DefSingleton("create", func(c *ruby.Call) (ruby.Value, error) {
		return in.NewObject(s.table.factory, newFactory()), nil
	})
	s.table.factory.Def("initialize", func(c *ruby.Call) (ruby.Value, error) {
		c.Self.(*ruby.Object).Data = newFactory()
		return nil, nil
	})
	s.defineFactory()
	s.defineTable()
	s.defineTrace()
	s.defineCatcher()
}

func newFactory() *factory {
	f := &factory{methods: []string{"where", "entries", "raw_data"}}
	f.add(column{name: "exist?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }})
	f.add(column{name: "count", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return int64(len(r.data)), nil }})
	return f
}

// add ignores a name that is there already, as FilterTable does.
func (f *factory) add(col column) {
	for _, c := range f.columns {
		if c.name == col.name {
			return
		}
	}
	f.columns = append(f.columns, col)
}

func (s *Set) defineFactory() {
	k := s.table.factory
	register := func(c *ruby.Call) (ruby.Value, error) {
		f, ok := c.Self.(*ruby.Object).Data.(*factory)
		name, named := argString(c, 0)
		if !ok || !named {
			return nil, s.argumentError("a filter table needs the name of each property")
		}
		col := column{name: name, field: c.Args[0], block: c.Block}
		opts := options(c)
		if v, ok := opts.GetSym("field"); ok {
			col.field = v
		}
		if v, ok := opts.GetSym("style"); ok {
			col.simple = v == ruby.Symbol("simple")
		}
		if v, ok := opts.GetSym("lazy"); ok {
			col.lazy, _ = v.(*ruby.Proc)
		}
		if v, ok := opts.GetSym("lazy_instance"); ok {
			col.lazyBy = v
		}
		f.add(col)
		return c.Self, nil
	}
	for _, name := range []string{"register_column", "register_custom_property", "register_custom_matcher", "add"} {
		k.Def(name, register)
	}
	accessor := func(c *ruby.Call) (ruby.Value, error) {
		if f, ok := c.Self.(*ruby.Object).Data.(*factory); ok {
			if name, ok := argString(c, 0); ok {
				f.methods = append(f.methods, name)
			}
		}
		return c.Self, nil
	}
	k.Def("register_filter_method", accessor)
	k.Def("add_accessor", accessor)
	install := func(c *ruby.Call) (ruby.Value, error) {
		f, ok := c.Self.(*ruby.Object).Data.(*factory)
		class, isClass := c.Arg(0).(*ruby.Class)
		fetcher, named := argString(c, 1)
		if !ok || !isClass || !named {
			return nil, s.argumentError("install_filter_methods_on_resource needs a class and the name of a method")
		}
		return nil, s.install(class, f, func(self ruby.Value, _, _ string) (ruby.Value, error) {
			return s.in.Call(self, fetcher, nil, nil)
		})
	}
	k.Def("install_filter_methods_on_resource", install)
	k.Def("connect", install)
}

// filterTable gives a native resource class the columns of a table; fetch
// returns its rows.
func filterTable[T any](s *Set, k *ruby.Class, columns []column, fetch func(d T) ([]*ruby.Hash, error)) {
	filterTableBy(s, k, columns, func(d T, _, _ string) ([]*ruby.Hash, error) { return fetch(d) })
}

// filterTableBy is filterTable for a resource of many rows: where field isn't
// empty, fetch may leave out rows in which it is another text than value, as
// long as it returns any.
func filterTableBy[T any](s *Set, k *ruby.Class, columns []column, fetch func(d T, field, value string) ([]*ruby.Hash, error)) {
	f := newFactory()
	for _, col := range columns {
		f.add(col)
	}
	err := s.install(k, f, func(self ruby.Value, field, value string) (ruby.Value, error) {
		d, ok := self.(*ruby.Object).Data.(T)
		if !ok {
			return ruby.NewArray(), nil
		}
		data, err := fetch(d, field, value)
		if err != nil {
			return nil, err
		}
		list := ruby.NewArray()
		for _, row := range data {
			list.Elems = append(list.Elems, row)
		}
		return list, nil
	})
	if err != nil {
		panic("resource: " + k.Name + ": " + err.Error()) // the columns are ours
	}
}

// install defines the table's methods on a resource class. A resource that
// skips or fails when its rows are fetched gives a catcher, so that a chain of
// filters goes on to the place where that is reported.
func (s *Set) install(class *ruby.Class, f *factory, fetch func(self ruby.Value, field, value string) (ruby.Value, error)) error {
	kind := &tableKind{class: s.in.NewClass(s.table.table), columns: f.columns}
	var symbols []ruby.Value
	for _, col := range f.columns {
		if col.block == nil && col.native == nil {
			kind.fields = append(kind.fields, col.field)
			symbols = append(symbols, ruby.Symbol(s.in.ToS(col.field)))
		}
	}
	if len(symbols) > 0 {
		row, err := s.in.Call(s.in.Class("Struct"), "new", symbols, nil)
		if err != nil {
			return err
		}
		kind.row, _ = row.(*ruby.Class)
	}
	if kind.row != nil {
		s.defineRow(kind)
	}
	for _, col := range f.columns {
		kind.class.Def(col.name, func(c *ruby.Call) (ruby.Value, error) {
			return s.property(c, col)
		})
	}
	methods := f.methods
	texts := map[string]string{} // fields whose key is a text, by their column
	for _, col := range f.columns {
		methods = append(methods, col.name)
		if key, ok := col.field.(*ruby.String); ok && col.block == nil && col.native == nil && col.lazy == nil && col.lazyBy == nil {
			texts[col.name] = key.String()
		}
	}
	for _, name := range methods {
		class.Def(name, func(c *ruby.Call) (ruby.Value, error) {
			field, value := "", ""
			if want, ok := c.Arg(0).(*ruby.String); ok && len(c.Args) == 1 {
				field, value = texts[name], want.String()
			}
			list, err := fetch(c.Self, field, value)
			var raised *ruby.Exception
			if errors.As(err, &raised) && (raised.Class.Inherits(s.skipped) || raised.Class.Inherits(s.failed)) {
				return s.in.NewObject(s.table.catcher, &caught{class, raised, raised.Class.Inherits(s.skipped)}), nil
			}
			if err != nil {
				return nil, err
			}
			table := s.in.NewObject(kind.class, &rows{kind: kind, resource: c.Self, data: hashes(list), criteria: " with", filled: map[string]bool{}})
			return c.In.Call(table, name, c.Args, c.Block)
		})
	}
	return nil
}

// hashes returns the rows that a resource's method gave; rows may be objects
// that answer to [], such as an OpenStruct, when they have to_h.
func hashes(v ruby.Value) []*ruby.Hash {
	list, ok := v.(*ruby.Array)
	if !ok {
		return nil
	}
	data := make([]*ruby.Hash, 0, len(list.Elems))
	for _, e := range list.Elems {
		if h, ok := e.(*ruby.Hash); ok {
			data = append(data, h)
		}
	}
	return data
}

// defineRow gives the rows' Struct its title and its lazy fields.
func (s *Set) defineRow(kind *tableKind) {
	structToS := func(c *ruby.Call) (ruby.Value, error) { return str(c.In.Inspect(c.Self)), nil }
	kind.row.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		if o, ok := c.Self.(*ruby.Object); ok && ruby.Truthy(o.IVar("@criteria_string")) {
			return o.IVar("@criteria_string"), nil
		}
		return structToS(c)
	})
	for _, col := range kind.columns {
		if col.lazy == nil && col.lazyBy == nil {
			continue
		}
		field := ruby.Symbol(s.in.ToS(col.field))
		kind.row.Def(string(field), func(c *ruby.Call) (ruby.Value, error) {
			o := c.Self.(*ruby.Object)
			table, _ := o.IVar("@filter_table").(*ruby.Object)
			if table != nil {
				r := table.Data.(*rows)
				if !r.filled[string(field)] {
					if err := s.fill(table, r, col, nil); err != nil {
						return nil, err
					}
				}
				if len(r.data) > 0 {
					at, _ := o.IVar("@row").(*ruby.Hash)
					if at == nil {
						at = r.data[0]
					}
					v, _ := at.Get(col.field)
					return v, nil
				}
			}
			return c.In.Call(c.Self, "[]", []ruby.Value{field}, nil)
		})
	}
}

// fill asks for a lazy column once.
func (s *Set) fill(table *ruby.Object, r *rows, col column, sought ruby.Value) error {
	name := s.in.ToS(col.field)
	if r.filled[name] || col.lazy == nil && col.lazyBy == nil {
		return nil
	}
	for _, row := range r.data {
		if _, there := row.Get(col.field); there {
			continue
		}
		var err error
		if sym, ok := col.lazyBy.(ruby.Symbol); ok {
			_, err = s.in.Call(r.resource, string(sym), []ruby.Value{row, sought, table}, nil)
		} else if proc, ok := col.lazyBy.(*ruby.Proc); ok {
			_, err = s.in.Yield(proc, row, sought, r.resource)
		} else {
			_, err = s.in.Yield(col.lazy, row, sought, table)
		}
		if err != nil {
			return err
		}
	}
	r.filled[name] = true
	return nil
}

// property is a call of a column: its values, or the table filtered by it.
func (s *Set) property(c *ruby.Call, col column) (ruby.Value, error) {
	table := c.Self.(*ruby.Object)
	r := table.Data.(*rows)
	switch {
	case col.native != nil:
		return col.native(c, table, r)
	case col.block != nil:
		return c.In.Yield(col.block, table, c.Arg(0))
	case len(c.Args) > 0 || c.Block != nil:
		conditions := ruby.NewHash()
		if len(c.Args) > 0 {
			conditions.Set(col.field, c.Args[0])
		}
		return s.where(table, r, conditions, c.Block)
	}
	if err := s.fill(table, r, col, nil); err != nil {
		return nil, err
	}
	values := ruby.NewArray()
	for _, row := range r.data {
		v, _ := row.Get(col.field)
		values.Elems = append(values.Elems, v)
	}
	if !col.simple {
		return values, nil
	}
	var out ruby.Value = values
	var err error
	for _, step := range []string{"flatten", "uniq", "compact"} {
		if out, err = c.In.Call(out, step, nil, nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Set) defineTable() {
	k := s.table.table
	get := func(c *ruby.Call) (*ruby.Object, *rows) {
		o := c.Self.(*ruby.Object)
		return o, o.Data.(*rows)
	}
	k.Def("where", func(c *ruby.Call) (ruby.Value, error) {
		o, r := get(c)
		conditions, isHash := c.Arg(0).(*ruby.Hash)
		if len(c.Args) > 0 && !isHash {
			return o, nil
		}
		if conditions == nil {
			conditions = ruby.NewHash()
		}
		if conditions.Len() == 0 && c.Block == nil {
			return o, nil
		}
		return s.where(o, r, conditions, c.Block)
	})
	k.Def("entries", func(c *ruby.Call) (ruby.Value, error) {
		o, r := get(c)
		title := str(c.In.ToS(r.resource) + r.criteria + " one entry")
		list := ruby.NewArray()
		for _, row := range r.data {
			e, err := s.row(o, r, row, title)
			if err != nil {
				return nil, err
			}
			list.Elems = append(list.Elems, e)
		}
		return list, nil
	})
	data := func(c *ruby.Call) (ruby.Value, error) {
		_, r := get(c)
		list := ruby.NewArray()
		for _, row := range r.data {
			list.Elems = append(list.Elems, row)
		}
		return list, nil
	}
	k.Def("params", data)
	k.Def("raw_data", data)
	k.Def("resource", func(c *ruby.Call) (ruby.Value, error) { _, r := get(c); return r.resource, nil })
	k.Def("resource_instance", func(c *ruby.Call) (ruby.Value, error) { _, r := get(c); return r.resource, nil })
	k.Def("criteria_string", func(c *ruby.Call) (ruby.Value, error) { _, r := get(c); return str(r.criteria), nil })
	toS := func(c *ruby.Call) (ruby.Value, error) {
		_, r := get(c)
		return str(c.In.ToS(r.resource) + r.criteria), nil
	}
	k.Def("to_s", toS)
	k.Def("inspect", toS)
}

// row makes the object that a where block runs in, and that entries lists.
func (s *Set) row(table *ruby.Object, r *rows, row *ruby.Hash, title ruby.Value) (ruby.Value, error) {
	if r.kind.row == nil {
		return row, nil
	}
	values := make([]ruby.Value, len(r.kind.fields))
	for i, f := range r.kind.fields {
		values[i], _ = row.Get(f)
	}
	v, err := s.in.Call(r.kind.row, "new", values, nil)
	if err != nil {
		return nil, err
	}
	if o, ok := v.(*ruby.Object); ok {
		o.SetIVar("@criteria_string", title)
		o.SetIVar("@filter_table", table)
		o.SetIVar("@row", row)
	}
	return v, nil
}

// where filters a table by a hash of fields and by a block.
func (s *Set) where(table *ruby.Object, r *rows, conditions *ruby.Hash, block *ruby.Proc) (ruby.Value, error) {
	out := &rows{kind: r.kind, resource: r.resource, data: r.data, criteria: r.criteria, filled: r.filled}
	err := conditions.Each(func(key, want ruby.Value) error {
		field, col, ok := s.field(r, key)
		if !ok {
			return s.argumentError("'%s' is not a recognized criterion - expected one of %s'", s.decorate(key), s.fieldNames(r))
		}
		if col != nil {
			if err := s.fill(table, r, *col, want); err != nil {
				return err
			}
		}
		out.criteria += " " + s.in.ToS(key) + " == " + s.in.Inspect(want)
		var kept []*ruby.Hash
		for _, row := range out.data {
			v, there := row.Get(field)
			if !there {
				continue
			}
			match, err := s.matches(v, want)
			if err != nil {
				return err
			}
			if match {
				kept = append(kept, row)
			}
		}
		out.data = kept
		return nil
	})
	if err != nil {
		return nil, err
	}
	if block != nil {
		var kept []*ruby.Hash
		for _, row := range out.data {
			self, err := s.row(table, r, row, str(""))
			if err != nil {
				return nil, err
			}
			keep, err := s.in.InstanceExec(self, block)
			if err != nil {
				return nil, err
			}
			if ruby.Truthy(keep) {
				kept = append(kept, row)
			}
		}
		out.data = kept
		trace := &traced{}
		_, err := s.in.InstanceExec(s.in.NewObject(s.table.trace, trace), block)
		var raised *ruby.Exception
		if err != nil && !errors.As(err, &raised) {
			return nil, err
		}
		out.criteria += s.words(trace)
	}
	return s.in.NewObject(r.kind.class, out), nil
}

// field finds the row key that a criterion names, as a symbol or a string.
func (s *Set) field(r *rows, key ruby.Value) (ruby.Value, *column, bool) {
	name := s.in.ToS(key)
	for i, col := range r.kind.columns {
		if (col.lazy != nil || col.lazyBy != nil) && s.in.ToS(col.field) == name {
			return col.field, &r.kind.columns[i], true
		}
	}
	if len(r.data) == 0 {
		return key, nil, true
	}
	for _, row := range r.data {
		for _, k := range row.Keys() {
			if s.in.ToS(k) == name {
				return k, nil, true
			}
		}
	}
	return nil, nil, false
}

func (s *Set) fieldNames(r *rows) string {
	var names []string
	seen := map[string]bool{}
	for _, row := range r.data {
		for _, k := range row.Keys() {
			if n := s.decorate(k); !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	return strings.Join(names, ", ")
}

func (s *Set) decorate(key ruby.Value) string {
	switch key := key.(type) {
	case ruby.Symbol:
		return ":" + string(key)
	case *ruby.String:
		return key.String() + " (String)"
	}
	return s.in.ToS(key)
}

// matches compares a row's value with what where asks for: a number also with
// a text that is that number, a regular expression with the text of anything.
func (s *Set) matches(v, want ruby.Value) (bool, error) {
	switch want := want.(type) {
	case int64:
		if v == nil {
			return false, nil
		}
		if n, ok := v.(int64); ok {
			return n == want, nil
		}
		if text, ok := v.(*ruby.String); ok {
			n, ok := wholeNumber(text.String())
			return ok && n == want, nil
		}
		return false, nil
	case float64:
		if f, ok := v.(float64); ok {
			return f == want, nil
		}
		if text, ok := v.(*ruby.String); ok {
			f, ok := decimal(text.String())
			return ok && f == want, nil
		}
		return false, nil
	case *ruby.Regexp:
		if _, ok := v.(*ruby.Regexp); ok {
			return s.in.Equal(v, want), nil
		}
		return s.in.CaseEq(want, str(s.in.ToS(v)))
	}
	return s.in.CaseEq(want, v)
}

func (s *Set) defineTrace() {
	k := s.table.trace
	step := func(c *ruby.Call, name string) (ruby.Value, error) {
		t := c.Self.(*ruby.Object).Data.(*traced)
		next := s.in.NewObject(k, &traced{})
		t.steps = append(t.steps, traceStep{name, c.Args, next})
		return next, nil
	}
	for _, op := range []string{"==", "!=", ">=", ">", "<=", "<", "=~", "!~"} {
		k.Def(op, func(c *ruby.Call) (ruby.Value, error) { return step(c, op) })
	}
	k.DefMissing(step, func(ruby.Value, string) bool { return false })
}

// words writes a trace as FilterTable's titles do.
func (s *Set) words(t *traced) string {
	if len(t.steps) == 0 {
		return ""
	}
	parts := make([]string, len(t.steps))
	for i, st := range t.steps {
		next := s.words(st.next.Data.(*traced))
		switch len(st.args) {
		case 0:
			parts[i] = st.name + next
		case 1:
			parts[i] = st.name + " " + s.in.Inspect(st.args[0]) + next
		default:
			var args []string
			for _, a := range st.args {
				args = append(args, s.in.Inspect(a))
			}
			parts[i] = st.name + "(" + strings.Join(args, ", ") + ")" + next
		}
	}
	return " " + strings.Join(parts, " ")
}

func (s *Set) defineCatcher() {
	k := s.table.catcher
	get := func(c *ruby.Call) *caught { return c.Self.(*ruby.Object).Data.(*caught) }
	k.Def("resource_skipped?", func(c *ruby.Call) (ruby.Value, error) { return get(c).skipped, nil })
	k.Def("resource_failed?", func(c *ruby.Call) (ruby.Value, error) { return !get(c).skipped, nil })
	k.Def("resource_exception_message", func(c *ruby.Call) (ruby.Value, error) { return str(get(c).err.Message), nil })
	toS := func(c *ruby.Call) (ruby.Value, error) {
		return str(c.In.ToS(get(c).resource) + " (" + get(c).err.Message + ")"), nil
	}
	k.Def("to_s", toS)
	k.Def("inspect", toS)
	k.Def("to_ary", func(c *ruby.Call) (ruby.Value, error) {
		v, err := toS(c)
		return ruby.NewArray(v), err
	})
	k.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) { return c.Self, nil },
		func(ruby.Value, string) bool { return true })
}
