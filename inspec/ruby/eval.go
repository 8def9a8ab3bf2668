package ruby

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// frame is the state of one call of a method, block, class body or file.
type frame struct {
	in     *Interp
	self   Value
	vars   []Value
	up     *frame // of a block: where it was made
	home   *frame // the method's, class body's or file's
	prog   *Program
	lex    *lexScope
	proc   *Proc // of a block: which
	lambda bool
	kept   bool // a block was made in it, which may outlive it

	// Of a home only:
	meth       *method
	args       []Value
	block      *Proc
	match      *MatchData // $~
	vis        visibility // of methods defined from here on
	moduleFunc bool
	done       bool
}

// frame returns a frame with room for that many variables. One that wasn't used
// before counts as memory: calls within calls may have many variables each.
func (in *Interp) frame(vars int) (*frame, error) {
	n := len(in.frames)
	if n == 0 {
		if err := in.charge(frameSize + 16*vars); err != nil {
			return nil, err
		}
		return &frame{in: in, vars: make([]Value, vars)}, nil
	}
	fr := in.frames[n-1]
	if cap(fr.vars) < vars {
		if err := in.charge(16 * vars); err != nil {
			return nil, err
		}
	}
	in.frames = in.frames[:n-1]
	fr.in, fr.vars = in, slices.Grow(fr.vars, vars)[:vars]
	return fr, nil
}

// leave takes back a frame that was left, to be used again, unless a block may
// still see it.
func (in *Interp) leave(fr *frame) {
	if fr.kept || cap(fr.vars) > maxFrameVars || len(in.frames) == maxFrames {
		return
	}
	clear(fr.vars)
	*fr = frame{vars: fr.vars[:0]}
	in.frames = append(in.frames, fr)
}

const (
	frameSize    = 256 // bytes, about
	maxFrames    = 64  // that wait to be used again
	maxFrameVars = 256 // of one that does
)

// blockOf is the block b where it stands in fr.
func (fr *frame) blockOf(b *blockNode) *Proc {
	fr.kept = true
	return &Proc{body: b, fr: fr, self: fr.self}
}

// lexScope says in which class code stands: where def defines, and where
// constants are looked for.
type lexScope struct {
	class       *Class // nil: the singleton class of of, made when needed
	of          Value
	outer       *lexScope
	transparent bool // instance_exec and the like: constants aren't looked for here
}

func (l *lexScope) target(in *Interp) (*Class, error) {
	if l.class == nil {
		k, err := in.singleton(l.of)
		if err != nil {
			return nil, err
		}
		l.class = k
	}
	return l.class, nil
}

// Jumps travel as errors to where they end.
type (
	returnJump struct {
		home  *frame
		value Value
	}
	breakJump struct {
		proc  *Proc
		value Value
	}
	nextJump struct{ value Value }
	loopJump struct { // break or next of a while loop
		next  bool
		value Value
	}
	retryJump struct{}
	throwJump struct{ tag, value Value }
)

func (*returnJump) Error() string { return "unexpected return" }
func (*breakJump) Error() string  { return "break from proc-closure" }
func (*nextJump) Error() string   { return "unexpected next" }
func (*loopJump) Error() string   { return "unexpected break" }
func (*retryJump) Error() string  { return "unexpected retry" }
func (*throwJump) Error() string  { return "uncaught throw" }

// errStop ends an iteration early, without being an error.
var errStop = errors.New("stop")

func (n literal) eval(*frame) (Value, error)    { return n.v, nil }
func (*selfNode) eval(fr *frame) (Value, error) { return fr.self, nil }
func (*methodName) eval(fr *frame) (Value, error) {
	if m := fr.home.meth; m != nil {
		return Symbol(m.name), nil
	}
	return nil, nil
}

func (n *strNode) eval(fr *frame) (Value, error) {
	fr.in.owe(32)
	return &String{s: n.s, frozen: n.frozen}, nil
}

func (n *dstrNode) eval(fr *frame) (Value, error) {
	s, err := evalParts(fr, n.parts)
	if err != nil {
		return nil, err
	}
	fr.in.owe(32 + len(s)) // the builder's room, too
	return NewString(s), nil
}

func evalParts(fr *frame, parts []node) (string, error) {
	var b strings.Builder
	for _, p := range parts {
		var s string
		if lit, ok := p.(*strNode); ok {
			s = lit.s
		} else {
			v, err := p.eval(fr)
			if err != nil {
				return "", err
			}
			if s, err = fr.in.toS(v); err != nil {
				return "", err
			}
		}
		if err := fr.in.charge(len(s)); err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func (n *dsymNode) eval(fr *frame) (Value, error) {
	s, err := evalParts(fr, n.parts)
	return Symbol(s), err
}

func (n *regexNode) eval(fr *frame) (Value, error) {
	src := n.source
	if n.parts != nil {
		var b strings.Builder
		for _, p := range n.parts {
			if lit, ok := p.(*strNode); ok {
				b.WriteString(lit.s)
				continue
			}
			v, err := p.eval(fr)
			if err != nil {
				return nil, err
			}
			if re, ok := v.(*Regexp); ok {
				b.WriteString(re.embedded())
				continue
			}
			s, err := fr.in.toS(v)
			if err != nil {
				return nil, err
			}
			if err := fr.in.charge(len(s)); err != nil {
				return nil, err
			}
			b.WriteString(s)
		}
		src = b.String()
	}
	fr.at(n.line)
	return fr.in.regexp(src, n.opts)
}

func (fr *frame) at(line int) {
	fr.in.line = line
	if fr.prog != nil {
		fr.in.file = fr.prog.File
	}
}

// evalArgs evaluates arguments or elements, spreading splats.
func evalArgs(fr *frame, nodes []node, splat bool) ([]Value, error) {
	if len(nodes) == 0 {
		return nil, nil
	}
	args := make([]Value, 0, len(nodes))
	for _, n := range nodes {
		if splat {
			if s, ok := n.(*splatNode); ok {
				v, err := s.v.eval(fr)
				if err != nil {
					return nil, err
				}
				elems, err := fr.in.splat(v)
				if err != nil {
					return nil, err
				}
				if err := fr.in.charge(16 * len(elems)); err != nil {
					return nil, err
				}
				args = append(args, elems...)
				continue
			}
		}
		v, err := n.eval(fr)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	return args, nil
}

// splat is the elements of *v.
func (in *Interp) splat(v Value) ([]Value, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case *Array:
		return v.Elems, nil
	case *Hash, *Range:
		return in.elements(v)
	case *Object:
		if in.respondTo(v, "to_a", true) {
			return in.elements(v)
		}
	}
	return []Value{v}, nil
}

func (n *arrayNode) eval(fr *frame) (Value, error) {
	if err := fr.in.charge(48 + 16*len(n.elems)); err != nil {
		return nil, err
	}
	elems, err := evalArgs(fr, n.elems, true)
	if err != nil {
		return nil, err
	}
	return &Array{Elems: elems}, nil
}

func (n *splatNode) eval(fr *frame) (Value, error) {
	v, err := n.v.eval(fr)
	if err != nil {
		return nil, err
	}
	elems, err := fr.in.splat(v)
	return &Array{Elems: append([]Value(nil), elems...)}, err
}

func (n *hashNode) eval(fr *frame) (Value, error) {
	if err := fr.in.charge(64 + 80*len(n.pairs)); err != nil {
		return nil, err
	}
	h := &Hash{kw: n.kw}
	if len(n.pairs) > 0 {
		h.Grow(len(n.pairs))
	}
	for _, p := range n.pairs {
		if err := p.eval(fr, h); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// eval adds the pair, or the pairs of a **hash, to h.
func (p pairNode) eval(fr *frame, h *Hash) error {
	var k Value
	switch key := p.key.(type) {
	case nil:
	case *strNode:
		k = &String{s: key.s, frozen: true}
	default:
		var err error
		if k, err = key.eval(fr); err != nil {
			return err
		}
	}
	v, err := p.value.eval(fr)
	if err != nil {
		return err
	}
	if p.key != nil {
		h.Set(k, v)
		return nil
	}
	switch v := v.(type) {
	case nil:
		return nil
	case *Hash:
		if err := fr.in.charge(80 * v.Len()); err != nil {
			return err
		}
		return v.Each(func(k, v Value) error { h.Set(k, v); return nil })
	}
	return fr.in.noConversion(v, "Hash")
}

func (n *rangeNode) eval(fr *frame) (Value, error) {
	lo, err := n.lo.eval(fr)
	if err != nil {
		return nil, err
	}
	var hi Value
	if n.hi != nil {
		if hi, err = n.hi.eval(fr); err != nil {
			return nil, err
		}
	}
	fr.at(n.line)
	return fr.in.newRange(lo, hi, n.excl)
}

func (in *Interp) newRange(lo, hi Value, excl bool) (Value, error) {
	if lo != nil && hi != nil {
		if _, ok, err := in.Compare(lo, hi); err != nil {
			return nil, err
		} else if !ok {
			return nil, in.Raise(in.eArgument, "bad value for range")
		}
	}
	return &Range{lo, hi, excl}, nil
}

func (n *lvar) eval(fr *frame) (Value, error) {
	for h := n.hops; h > 0; h-- {
		fr = fr.up
	}
	return fr.vars[n.slot], nil
}

func (n *ivarNode) eval(fr *frame) (Value, error) {
	v, _ := fr.in.ivarGet(fr.self, n.name)
	return v, nil
}

// ivarsOf returns the instance variables of v: to be changed if make is set,
// else nil where there are none.
func (in *Interp) ivarsOf(v Value, make bool) *ivars {
	var e **ext
	switch v := v.(type) {
	case *Object:
		if make {
			return v.own()
		}
		return &v.ivars
	case *Class:
		return &v.ivars
	case *Exception:
		return &v.ivars
	case *String:
		e = &v.ext
	case *Array:
		e = &v.ext
	case *Hash:
		e = &v.ext
	default:
		return nil
	}
	if *e == nil {
		if !make {
			return nil
		}
		*e = &ext{}
	}
	return &(*e).ivars
}

func (in *Interp) ivarGet(v Value, name string) (Value, bool) {
	if iv := in.ivarsOf(v, false); iv != nil {
		return iv.get(name)
	}
	return nil, false
}

func (in *Interp) ivarSet(v Value, name string, x Value) error {
	iv := in.ivarsOf(v, true)
	if iv == nil || in.frozen(v) {
		return in.frozenError(v)
	}
	n := 48
	if *iv == nil {
		n = 160
	}
	if err := in.charge(n); err != nil {
		return err
	}
	iv.set(name, x)
	return nil
}

func (n *gvarNode) eval(fr *frame) (Value, error) {
	switch n.name {
	case "$~":
		if fr.home.match == nil {
			return nil, nil
		}
		return fr.home.match, nil
	case "$!":
		if k := len(fr.in.errors); k > 0 {
			return fr.in.errors[k-1], nil
		}
		return nil, nil
	case "$&", "$`", "$'", "$+":
		m := fr.home.match
		if m == nil {
			return nil, nil
		}
		switch n.name {
		case "$&":
			return m.group(0), nil
		case "$`":
			return NewString(m.pre()), nil
		case "$'":
			return NewString(m.post()), nil
		}
		for i := m.groups() - 1; i > 0; i-- {
			if g := m.group(i); g != nil {
				return g, nil
			}
		}
		return nil, nil
	}
	if c := n.name[1]; c >= '1' && c <= '9' {
		i := 0
		for _, d := range n.name[1:] {
			i = min(i*10+int(d-'0'), 1000)
		}
		if fr.home.match == nil {
			return nil, nil
		}
		return fr.home.match.group(i), nil
	}
	return fr.in.globals[n.name], nil
}

// cvarHome returns the class that class variables of code in fr belong to.
func (fr *frame) cvarHome() *Class {
	for l := fr.lex; l != nil; l = l.outer {
		if !l.transparent && l.class != nil {
			if k, ok := l.class.attached.(*Class); ok {
				return k
			}
			return l.class
		}
	}
	return fr.in.cObject
}

func (n *cvarNode) eval(fr *frame) (Value, error) {
	k := fr.cvarHome()
	for _, a := range k.ancestors() {
		if v, ok := a.cvars[n.name]; ok {
			return v, nil
		}
	}
	fr.at(n.line)
	return nil, fr.in.Raise(fr.in.eName, "uninitialized class variable %s in %s", n.name, fr.in.className(k))
}

func (n *constNode) eval(fr *frame) (Value, error) {
	in := fr.in
	switch {
	case n.top:
		if v, ok := in.cObject.consts[n.name]; ok {
			return v, nil
		}
		fr.at(n.line)
		return in.constMissing(in.cObject, n.name)
	case n.scope != nil:
		s, err := n.scope.eval(fr)
		if err != nil {
			return nil, err
		}
		fr.at(n.line)
		k, ok := s.(*Class)
		if !ok {
			return nil, in.Raise(in.eType, "%s is not a class/module", in.Inspect(s))
		}
		if v, ok := in.constIn(k, n.name); ok {
			return v, nil
		}
		if k != in.cObject {
			return nil, in.noConst(k, n.name)
		}
		return in.constMissing(k, n.name)
	}
	var cref *Class
	for l := fr.lex; l != nil; l = l.outer {
		if l.transparent || l.class == nil {
			continue
		}
		if cref == nil {
			cref = l.class
		}
		if v, ok := l.class.consts[n.name]; ok {
			return v, nil
		}
	}
	if cref == nil {
		cref = in.cObject
	}
	if v, ok := in.constIn(cref, n.name); ok {
		return v, nil
	}
	if v, ok := in.cObject.consts[n.name]; ok {
		return v, nil
	}
	fr.at(n.line)
	return in.constMissing(cref, n.name)
}

// constIn looks for a constant in k and its ancestors.
func (in *Interp) constIn(k *Class, name string) (Value, bool) {
	for _, a := range k.ancestors() {
		if a == in.cObject && k != in.cObject {
			break
		}
		if v, ok := a.consts[name]; ok {
			return v, true
		}
	}
	return nil, false
}

// constMissing is what a constant is that neither k nor Object has.
func (in *Interp) constMissing(k *Class, name string) (Value, error) {
	if v, ok, err := in.autoload(name); ok || err != nil {
		return v, err
	}
	if hostly[name] {
		return nil, in.Raise(in.eSecurity, "%s is not available to a profile", name)
	}
	return nil, in.noConst(k, name)
}

func (in *Interp) noConst(k *Class, name string) error {
	if m := in.dispatchClass(k).find("const_missing"); m != nil {
		return in.Raise(in.eName, "const_missing is not supported")
	}
	e := in.Raise(in.eName, "%s", "uninitialized constant "+qualified(k, name)).(*Exception)
	e.Name, e.Receiver = name, k
	return e
}

func (n *asgnNode) eval(fr *frame) (Value, error) {
	switch t := n.target.(type) {
	case *lvar:
		v, err := n.value.eval(fr)
		if err != nil {
			return nil, err
		}
		t.set(fr, v)
		return v, nil
	case *callNode:
		recv, args, err := t.place(fr)
		if err != nil {
			return nil, err
		}
		v, err := n.value.eval(fr)
		if err != nil {
			return nil, err
		}
		return v, t.store(fr, recv, args, v)
	}
	v, err := n.value.eval(fr)
	if err != nil {
		return nil, err
	}
	return v, assign(fr, n.target, v)
}

func (n *lvar) set(fr *frame, v Value) {
	for h := n.hops; h > 0; h-- {
		fr = fr.up
	}
	fr.vars[n.slot] = v
}

// place evaluates the receiver and index of a target.
func (n *callNode) place(fr *frame) (recv Value, args []Value, err error) {
	recv = fr.self
	if n.recv != nil {
		if recv, err = n.recv.eval(fr); err != nil {
			return nil, nil, err
		}
	}
	args, err = evalArgs(fr, n.args, n.splat)
	return recv, args, err
}

func (n *callNode) store(fr *frame, recv Value, args []Value, v Value) error {
	if n.safe && recv == nil {
		return nil
	}
	fr.at(n.line)
	_, self := n.recv.(*selfNode)
	_, err := fr.in.send(fr, recv, n.name+"=", append(args[:len(args):len(args)], v), nil, self || n.recv == nil)
	return err
}

func assign(fr *frame, target node, v Value) error {
	in := fr.in
	switch t := target.(type) {
	case *lvar:
		t.set(fr, v)
	case *ivarNode:
		return in.ivarSet(fr.self, t.name, v)
	case *gvarNode:
		in.globals[t.name] = v
	case *cvarNode:
		k := fr.cvarHome()
		for _, a := range k.ancestors() {
			if _, ok := a.cvars[t.name]; ok {
				a.cvars[t.name] = v
				return nil
			}
		}
		if k.cvars == nil {
			k.cvars = map[string]Value{}
		}
		k.cvars[t.name] = v
	case *constNode:
		k, err := fr.constHome(t)
		if err != nil {
			return err
		}
		k.SetConst(t.name, v)
	case *callNode:
		recv, args, err := t.place(fr)
		if err != nil {
			return err
		}
		return t.store(fr, recv, args, v)
	case *mlhsNode:
		elems, err := in.spread(v)
		if err != nil {
			return err
		}
		return t.assign(fr, elems)
	case *splatNode:
		return assign(fr, t.v, v)
	}
	return nil
}

// constHome returns the class that a constant is assigned in.
func (fr *frame) constHome(n *constNode) (*Class, error) {
	if n.top {
		return fr.in.cObject, nil
	}
	if n.scope != nil {
		s, err := n.scope.eval(fr)
		if err != nil {
			return nil, err
		}
		k, ok := s.(*Class)
		if !ok {
			return nil, fr.in.Raise(fr.in.eType, "%s is not a class/module", fr.in.Inspect(s))
		}
		return k, nil
	}
	for l := fr.lex; l != nil; l = l.outer {
		if !l.transparent && l.class != nil {
			return l.class, nil
		}
	}
	return fr.in.cObject, nil
}

// spread is the elements of the right side of a multiple assignment.
func (in *Interp) spread(v Value) ([]Value, error) {
	switch v := v.(type) {
	case *Array:
		return v.Elems, nil
	case *Object:
		if in.respondTo(v, "to_ary", true) {
			a, err := in.send(nil, v, "to_ary", nil, nil, true)
			if err != nil {
				return nil, err
			}
			if a, ok := a.(*Array); ok {
				return a.Elems, nil
			}
		}
	}
	return []Value{v}, nil
}

func (n *mlhsNode) assign(fr *frame, elems []Value) error {
	get := func(i int) Value {
		if i >= 0 && i < len(elems) {
			return elems[i]
		}
		return nil
	}
	if n.splat < 0 {
		for i, t := range n.targets {
			if err := assign(fr, t, get(i)); err != nil {
				return err
			}
		}
		return nil
	}
	after := len(n.targets) - n.splat - 1
	from := min(n.splat, len(elems))
	to := max(from, len(elems)-after)
	for i, t := range n.targets[:n.splat] {
		if err := assign(fr, t, get(i)); err != nil {
			return err
		}
	}
	if s := n.targets[n.splat].(*splatNode); s.v != nil {
		if err := fr.in.charge(16 * (to - from)); err != nil {
			return err
		}
		if err := assign(fr, s.v, &Array{Elems: append([]Value(nil), elems[from:to]...)}); err != nil {
			return err
		}
	}
	for i, t := range n.targets[n.splat+1:] {
		if err := assign(fr, t, get(to+i)); err != nil {
			return err
		}
	}
	return nil
}

func (n *mlhsNode) eval(*frame) (Value, error) { return nil, nil }

func (n *masgnNode) eval(fr *frame) (Value, error) {
	v, err := n.value.eval(fr)
	if err != nil {
		return nil, err
	}
	elems, err := fr.in.spread(v)
	if err != nil {
		return nil, err
	}
	// a, b = b, a: the right side is complete before the first assignment.
	if _, literal := n.value.(*arrayNode); !literal {
		elems = append([]Value(nil), elems...)
	}
	return v, n.left.assign(fr, elems)
}

func (n *opAsgnNode) eval(fr *frame) (Value, error) {
	var get func() (Value, error)
	var set func(v Value) error
	switch t := n.target.(type) {
	case *callNode:
		recv, args, err := t.place(fr)
		if err != nil {
			return nil, err
		}
		if t.safe && recv == nil {
			return nil, nil
		}
		_, self := t.recv.(*selfNode)
		get = func() (Value, error) {
			fr.at(n.line)
			return fr.in.send(fr, recv, t.name, args, nil, self || t.recv == nil)
		}
		set = func(v Value) error { return t.store(fr, recv, args, v) }
	default:
		get = func() (Value, error) { return t.eval(fr) }
		set = func(v Value) error { return assign(fr, t, v) }
		if n.op == "||" {
			get = func() (Value, error) {
				if d, err := defined(fr, t); d == "" || err != nil {
					return nil, err
				}
				return t.eval(fr)
			}
		}
	}
	old, err := get()
	if err != nil {
		return nil, err
	}
	switch n.op {
	case "||":
		if Truthy(old) {
			return old, nil
		}
	case "&&":
		if !Truthy(old) {
			return old, nil
		}
	}
	v, err := n.value.eval(fr)
	if err != nil {
		return nil, err
	}
	if n.op != "||" && n.op != "&&" {
		fr.at(n.line)
		if v, err = fr.in.binop(fr, n.op, old, v); err != nil {
			return nil, err
		}
	}
	return v, set(v)
}

// binop is a.op(b), with the common cases inline.
func (in *Interp) binop(fr *frame, op string, a, b Value) (Value, error) {
	if x, ok := a.(int64); ok {
		if y, ok := b.(int64); ok {
			switch op {
			case "+":
				if s := x + y; (s > x) == (y > 0) {
					return s, nil
				}
			case "-":
				if s := x - y; (s < x) == (y > 0) {
					return s, nil
				}
			case "*":
				if x > math.MinInt32 && x < math.MaxInt32 && y > math.MinInt32 && y < math.MaxInt32 {
					return x * y, nil
				}
			case "<":
				return x < y, nil
			case ">":
				return x > y, nil
			case "<=":
				return x <= y, nil
			case ">=":
				return x >= y, nil
			case "==":
				return x == y, nil
			}
		}
	}
	return in.send(fr, a, op, []Value{b}, nil, false)
}

func (n *callNode) eval(fr *frame) (Value, error) {
	in := fr.in
	recv := fr.self
	var err error
	if n.recv != nil {
		if recv, err = n.recv.eval(fr); err != nil {
			return nil, err
		}
		if n.safe && recv == nil {
			return nil, nil
		}
	}
	all := n.recv == nil
	if !all {
		_, all = n.recv.(*selfNode)
	}
	if len(n.args) == 1 && !n.splat && n.block == nil && n.blockArg == nil && n.recv != nil {
		arg, err := n.args[0].eval(fr)
		if err != nil {
			return nil, err
		}
		fr.at(n.line)
		if a, ok := recv.(int64); ok {
			return in.binop(fr, n.name, a, arg)
		}
		return in.send(fr, recv, n.name, []Value{arg}, nil, all)
	}
	args, err := evalArgs(fr, n.args, n.splat)
	if err != nil {
		return nil, err
	}
	var blk *Proc
	switch {
	case n.block != nil:
		blk = fr.blockOf(n.block)
	case n.blockArg != nil:
		v, err := n.blockArg.eval(fr)
		if err != nil {
			return nil, err
		}
		if blk, err = in.toProc(v); err != nil {
			return nil, err
		}
	}
	fr.at(n.line)
	var v Value
	if n.vcall {
		v, err = in.vcall(fr, recv, n.name)
	} else {
		v, err = in.send(fr, recv, n.name, args, blk, all)
	}
	if err != nil && n.block != nil {
		if b, ok := err.(*breakJump); ok && b.proc == blk {
			return b.value, nil
		}
	}
	return v, err
}

func (n *matchNode) eval(fr *frame) (Value, error) {
	at, err := n.call.eval(fr)
	if err != nil {
		return nil, err
	}
	for _, l := range n.locals {
		var v Value
		if m := fr.home.match; at != nil && m != nil {
			v, _ = m.named(l.name)
		}
		l.set(fr, v)
	}
	return at, nil
}

// vcall calls a method by a bare name; when there is none, the message allows
// for a variable having been meant.
func (in *Interp) vcall(fr *frame, recv Value, name string) (Value, error) {
	k := in.dispatchClass(recv)
	if m := k.find(name); m != nil {
		return in.invoke(fr, m, recv, name, nil, nil)
	}
	return in.missing(fr, k, recv, name, nil, nil, "undefined local variable or method")
}

func (in *Interp) send(fr *frame, recv Value, name string, args []Value, blk *Proc, all bool) (Value, error) {
	k := in.dispatchClass(recv)
	m := k.find(name)
	if m == nil {
		return in.missing(fr, k, recv, name, args, blk, "undefined method")
	}
	if m.vis != public && !all {
		if m.vis == private && !strings.HasSuffix(name, "=") || m.vis == protected && (fr == nil || !in.IsA(fr.self, m.owner)) {
			return in.missing(fr, k, recv, name, args, blk, visibilityNames[m.vis]+" method")
		}
	}
	return in.invoke(fr, m, recv, name, args, blk)
}

// missing is what happens when recv has no method name: method_missing of
// Ruby or Go, or an error that begins with what.
func (in *Interp) missing(fr *frame, k *Class, recv Value, name string, args []Value, blk *Proc, what string) (Value, error) {
	if m := k.find("method_missing"); m != nil && m.native == nil {
		return in.invoke(fr, m, recv, "method_missing", append([]Value{Symbol(name)}, args...), blk)
	}
	if fn := k.findMissing(); fn != nil {
		if err := in.step(); err != nil {
			return nil, err
		}
		return fn(&Call{In: in, Self: recv, Args: args, Block: blk, Name: name, File: in.file, Line: in.line, fr: fr}, name)
	}
	return nil, in.noMethod(what, recv, name)
}

// NoMethod returns the NoMethodError of recv not having a method name. Go code
// of DefMissing returns it for a name that it doesn't know.
func (in *Interp) NoMethod(recv Value, name string) error {
	return in.noMethod("undefined method", recv, name)
}

func (in *Interp) noMethod(what string, recv Value, name string) error {
	class := in.eNoMethod
	if strings.Contains(what, "variable") {
		class = in.eName
	}
	suffix := ""
	if strings.HasPrefix(what, "private") || strings.HasPrefix(what, "protected") {
		suffix = " called"
	}
	e := in.Raise(class, "%s", what+" `"+name+"'"+suffix+" for "+in.describeReceiver(recv)).(*Exception)
	e.Receiver, e.Name = recv, name
	return e
}

func (in *Interp) describeReceiver(v Value) string {
	switch v := v.(type) {
	case nil:
		return "nil:NilClass"
	case *Class:
		if v.module {
			return in.className(v) + ":Module"
		}
		return in.className(v) + ":Class"
	case *Object:
		if v == in.main {
			return "main:Object"
		}
	}
	d := in.Inspect(v)
	if strings.HasPrefix(d, "#") {
		return d
	}
	return d + ":" + in.className(in.ClassOf(v))
}

// large tells values that a method in Go may be busy with for so long that the
// clock is looked at for each.
func large(v Value) bool {
	switch v := v.(type) {
	case *String:
		return len(v.s) > 1<<16
	case *Array:
		return len(v.Elems) > 1<<13
	}
	return false
}

func (in *Interp) invoke(fr *frame, m *method, recv Value, name string, args []Value, blk *Proc) (Value, error) {
	if err := in.step(); err != nil {
		return nil, err
	}
	switch {
	case m.native != nil:
		if m.min >= 0 && (len(args) < m.min || m.max >= 0 && len(args) > m.max) {
			return nil, in.arityError(len(args), m.min, m.max)
		}
		if len(in.stack) >= in.limits.Depth {
			return nil, &LimitError{Limit: "depth"}
		}
		if large(recv) || len(args) > 0 && large(args[0]) {
			if err := in.check(); err != nil {
				return nil, err
			}
		}
		c := in.call()
		in.stack = append(in.stack, stackEntry{in.file, in.line, name})
		*c = Call{In: in, Self: recv, Args: args, Block: blk, Name: name, File: in.file, Line: in.line, fr: fr}
		v, err := m.native(c)
		*c = Call{}
		in.stack = in.stack[:len(in.stack)-1]
		if s, ok := v.(*String); ok && len(s.s) > 1024 && v != recv && (name == "inspect" || name == "to_s") {
			in.owe(len(s.s))
		}
		if in.owe(size(v)); in.memory > in.limits.Memory && err == nil {
			return nil, &LimitError{Limit: "memory"}
		}
		return v, err
	case m.def != nil:
		return in.callDef(m, recv, args, blk)
	case m.proc != nil:
		p := *m.proc
		p.lambda = true
		if p.native != nil {
			c := &Call{In: in, Self: recv, Args: args, Block: blk, Name: name, File: in.file, Line: in.line, fr: fr}
			v, err := p.native(c)
			in.owe(size(v))
			return v, err
		}
		return in.callBody(&p, recv, nil, args, blk, m)
	case m.getter != "":
		if len(args) > 0 {
			return nil, in.arityError(len(args), 0, 0)
		}
		v, _ := in.ivarGet(recv, m.getter)
		return v, nil
	case m.setter != "":
		if len(args) != 1 {
			return nil, in.arityError(len(args), 1, 1)
		}
		return args[0], in.ivarSet(recv, m.setter, args[0])
	}
	return nil, in.noMethod("undefined method", recv, name)
}

// call is the Call for a method that is about to be put on the stack. There is
// one for each depth: it is the method's until it returns.
func (in *Interp) call() *Call {
	depth := len(in.stack)
	for len(in.calls) <= depth {
		in.calls = append(in.calls, nil)
	}
	if in.calls[depth] == nil {
		in.calls[depth] = &Call{}
	}
	return in.calls[depth]
}

func (in *Interp) arityError(given, least, most int) error {
	want := fmt.Sprint(least)
	switch {
	case most < 0:
		want += "+"
	case most > least:
		want = fmt.Sprintf("%d..%d", least, most)
	}
	return in.Raise(in.eArgument, "wrong number of arguments (given %d, expected %s)", given, want)
}

func (in *Interp) callDef(m *method, recv Value, args []Value, blk *Proc) (Value, error) {
	if len(in.stack) >= in.limits.Depth {
		return nil, &LimitError{Limit: "depth"}
	}
	d := m.def
	fr, err := in.frame(d.nvars)
	if err != nil {
		return nil, err
	}
	fr.self, fr.home, fr.prog, fr.lex, fr.meth, fr.args, fr.block = recv, fr, d.prog, m.lex, m, args, blk
	file, line := in.file, in.line
	in.stack = append(in.stack, stackEntry{file, line, m.name})
	var v Value
	if err = in.bind(fr, d.params, args, true); err == nil {
		v, err = d.body.eval(fr)
	}
	in.stack = in.stack[:len(in.stack)-1]
	in.file, in.line = file, line
	fr.done = true
	if r, ok := err.(*returnJump); ok && r.home == fr {
		v, err = r.value, nil
	}
	in.leave(fr)
	return v, err
}

// callBlock calls blk with self. lex, unless nil, is where def in it defines;
// pass is the block that it is given itself.
func (in *Interp) callBlock(blk *Proc, self Value, lex *lexScope, args []Value, pass *Proc) (Value, error) {
	if err := in.step(); err != nil {
		return nil, err
	}
	if blk.native != nil {
		return blk.native(&Call{In: in, Self: self, Args: args, Block: pass, Name: blk.name, File: in.file, Line: in.line})
	}
	return in.callBody(blk, self, lex, args, pass, nil)
}

// callBody evaluates the body of blk; m is set when define_method made it a
// method.
func (in *Interp) callBody(blk *Proc, self Value, lex *lexScope, args []Value, pass *Proc, m *method) (Value, error) {
	if len(in.stack) >= in.limits.Depth {
		return nil, &LimitError{Limit: "depth"}
	}
	b, up := blk.body, blk.fr
	fr, err := in.frame(b.nvars)
	if err != nil {
		return nil, err
	}
	fr.self, fr.up, fr.home, fr.prog, fr.lex, fr.proc, fr.lambda = self, up, up.home, b.prog, up.lex, blk, blk.lambda
	if lex != nil {
		lex.outer = up.lex
		fr.lex = lex
	}
	if m != nil {
		fr.home = fr
		fr.meth, fr.args, fr.block = m, args, pass
	}
	file, line := in.file, in.line
	in.stack = append(in.stack, stackEntry{file, line, "block"})
	switch {
	case b.simple < 0 || blk.lambda:
		err = in.bindBlock(fr, b, args, blk.lambda, pass)
	case b.simple == 1:
		if len(args) > 0 {
			fr.vars[0] = args[0]
		}
	case b.simple > 1:
		if len(args) == 1 {
			if args, err = in.spread(args[0]); err != nil {
				break
			}
		}
		copy(fr.vars[:b.simple], args)
	}
	var v Value
	if err == nil {
		v, err = b.body.eval(fr)
	}
	in.stack = in.stack[:len(in.stack)-1]
	in.file, in.line = file, line
	switch j := err.(type) {
	case *nextJump:
		v, err = j.value, nil
	case *returnJump:
		if j.home == fr {
			v, err = j.value, nil
		}
	case *breakJump:
		if blk.lambda && j.proc == blk {
			v, err = j.value, nil
		}
	}
	in.leave(fr)
	return v, err
}

func (in *Interp) bindBlock(fr *frame, b *blockNode, args []Value, strict bool, pass *Proc) error {
	p := b.params
	if p == nil {
		if strict && len(args) > 0 {
			return in.arityError(len(args), 0, 0)
		}
		return nil
	}
	if !strict && len(args) == 1 {
		n := len(p.req) + len(p.opt) + len(p.post)
		if n > 1 || n == 1 && p.hasRest || p.comma || n == 1 && len(p.kws) > 0 {
			elems, err := in.spread(args[0])
			if err != nil {
				return err
			}
			args = elems
		}
	}
	if p.block >= 0 && pass != nil {
		fr.vars[p.block] = pass
	}
	return in.bind(fr, p, args, strict)
}

// bind assigns arguments to parameters. A block that isn't strict takes too
// many or too few.
func (in *Interp) bind(fr *frame, p *params, args []Value, strict bool) error {
	required := p.required()
	var kw *Hash
	if (len(p.kws) > 0 || p.hasKwrest) && len(args) > required {
		if h, ok := args[len(args)-1].(*Hash); ok && (h.kw || symbolKeys(h)) {
			kw = h
			args = args[:len(args)-1]
		}
	}
	n := len(args)
	if strict {
		if n < required || !p.hasRest && n > required+len(p.opt) {
			most := required + len(p.opt)
			if p.hasRest {
				most = -1
			}
			return in.arityError(n, required, most)
		}
	}
	i := 0
	take := func(q param) error {
		var v Value
		if i < len(args) {
			v = args[i]
		}
		i++
		fr.vars[q.slot] = v
		if q.sub == nil {
			return nil
		}
		elems, err := in.spread(v)
		if err != nil {
			return err
		}
		return q.sub.assign(fr, elems)
	}
	for _, q := range p.req {
		if err := take(q); err != nil {
			return err
		}
	}
	spare := n - required
	for _, o := range p.opt {
		if spare > 0 {
			fr.vars[o.slot] = args[i]
			i++
			spare--
			continue
		}
		v, err := o.value.eval(fr)
		if err != nil {
			return err
		}
		fr.vars[o.slot] = v
	}
	if p.hasRest {
		k := max(spare, 0)
		if err := in.charge(16 * k); err != nil {
			return err
		}
		fr.vars[p.rest] = &Array{Elems: append([]Value(nil), args[i:i+k]...)}
		i += k
	}
	for _, q := range p.post {
		if err := take(q); err != nil {
			return err
		}
	}
	if p.block >= 0 && fr.block != nil && fr.home == fr {
		fr.vars[p.block] = fr.block
	}
	if len(p.kws) == 0 && !p.hasKwrest {
		return nil
	}
	return in.bindKeywords(fr, p, kw, strict)
}

func symbolKeys(h *Hash) bool {
	for i := range h.entries {
		if _, ok := h.entries[i].key.(Symbol); !ok && !h.entries[i].deleted {
			return false
		}
	}
	return true
}

func (in *Interp) bindKeywords(fr *frame, p *params, kw *Hash, strict bool) error {
	if kw == nil {
		kw = &Hash{}
	}
	used := 0
	var missing []string
	for _, k := range p.kws {
		if v, ok := kw.Get(Symbol(k.name)); ok {
			fr.vars[k.slot] = v
			used++
			continue
		}
		if k.required {
			missing = append(missing, ":"+k.name)
			continue
		}
		v, err := k.value.eval(fr)
		if err != nil {
			return err
		}
		fr.vars[k.slot] = v
	}
	if len(missing) > 0 {
		s := ""
		if len(missing) > 1 {
			s = "s"
		}
		return in.Raise(in.eArgument, "missing keyword%s: %s", s, strings.Join(missing, ", "))
	}
	if !p.hasKwrest && used == kw.Len() {
		return nil
	}
	rest := &Hash{}
	var unknown []string
	_ = kw.Each(func(key, v Value) error {
		for _, k := range p.kws {
			if key == Symbol(k.name) {
				return nil
			}
		}
		rest.Set(key, v)
		unknown = append(unknown, in.Inspect(key))
		return nil
	})
	if p.hasKwrest {
		fr.vars[p.kwrest] = rest
	} else if strict {
		s := ""
		if len(unknown) > 1 {
			s = "s"
		}
		return in.Raise(in.eArgument, "unknown keyword%s: %s", s, strings.Join(unknown, ", "))
	}
	return nil
}

func (n *superNode) eval(fr *frame) (Value, error) {
	in := fr.in
	home := fr.home
	if home.meth == nil {
		return nil, in.Raise(in.eRuntime, "super called outside of method")
	}
	var args []Value
	var err error
	if n.bare {
		args = zsuperArgs(home)
	} else if args, err = evalArgs(fr, n.args, n.splat); err != nil {
		return nil, err
	}
	blk := home.block
	switch {
	case n.block != nil:
		blk = fr.blockOf(n.block)
	case n.blockArg != nil:
		v, err := n.blockArg.eval(fr)
		if err != nil {
			return nil, err
		}
		if blk, err = in.toProc(v); err != nil {
			return nil, err
		}
	}
	fr.at(n.line)
	m := in.dispatchClass(fr.self).findAfter(home.meth.owner, home.meth.name)
	if m == nil {
		if home.meth.name == "respond_to_missing?" {
			return false, nil
		}
		if k := in.dispatchClass(fr.self); k.findMissing() != nil && home.meth.name != "method_missing" {
			return k.findMissing()(&Call{In: in, Self: fr.self, Args: args, Block: blk, Name: home.meth.name, File: in.file, Line: in.line, fr: fr}, home.meth.name)
		}
		return nil, in.Raise(in.eNoMethod, "%s", "super: no superclass method `"+home.meth.name+"' for "+in.describeReceiver(fr.self))
	}
	v, err := in.invoke(fr, m, fr.self, home.meth.name, args, blk)
	if b, ok := err.(*breakJump); ok && n.block != nil && b.proc == blk {
		return b.value, nil
	}
	return v, err
}

// zsuperArgs are the arguments of a bare super: the method's parameters as
// they are now.
func zsuperArgs(home *frame) []Value {
	var p *params
	if d := home.meth.def; d != nil {
		p = d.params
	}
	if p == nil {
		return home.args
	}
	var args []Value
	for _, q := range p.req {
		args = append(args, home.vars[q.slot])
	}
	for _, o := range p.opt {
		args = append(args, home.vars[o.slot])
	}
	if p.hasRest {
		if a, ok := home.vars[p.rest].(*Array); ok {
			args = append(args, a.Elems...)
		}
	}
	for _, q := range p.post {
		args = append(args, home.vars[q.slot])
	}
	if len(p.kws) > 0 || p.hasKwrest {
		h := &Hash{}
		for _, k := range p.kws {
			h.Set(Symbol(k.name), home.vars[k.slot])
		}
		if p.hasKwrest {
			if r, ok := home.vars[p.kwrest].(*Hash); ok {
				_ = r.Each(func(k, v Value) error { h.Set(k, v); return nil })
			}
		}
		if h.Len() > 0 {
			args = append(args, h)
		}
	}
	return args
}

func (n *yieldNode) eval(fr *frame) (Value, error) {
	args, err := evalArgs(fr, n.args, n.splat)
	if err != nil {
		return nil, err
	}
	fr.at(n.line)
	if fr.home.block == nil {
		return nil, fr.in.Raise(fr.in.eLocalJump, "no block given (yield)")
	}
	return fr.in.Yield(fr.home.block, args...)
}

func (*blockGiven) eval(fr *frame) (Value, error) { return fr.home.block != nil, nil }

func (n *lambdaNode) eval(fr *frame) (Value, error) {
	p := fr.blockOf(n.block)
	p.lambda = true
	return p, nil
}

func (n *andNode) eval(fr *frame) (Value, error) {
	v, err := n.l.eval(fr)
	if err != nil || !Truthy(v) {
		return v, err
	}
	return n.r.eval(fr)
}

func (n *orNode) eval(fr *frame) (Value, error) {
	v, err := n.l.eval(fr)
	if err != nil || Truthy(v) {
		return v, err
	}
	return n.r.eval(fr)
}

func (n *notNode) eval(fr *frame) (Value, error) {
	v, err := n.v.eval(fr)
	if err != nil {
		return nil, err
	}
	return !Truthy(v), nil
}

func (n *definedNode) eval(fr *frame) (Value, error) {
	d, err := defined(fr, n.v)
	if d == "" || err != nil {
		return nil, err
	}
	return NewString(d), nil
}

func defined(fr *frame, n node) (string, error) {
	in := fr.in
	// An exception in what is asked about means that it isn't defined.
	try := func(n node) (Value, bool, error) {
		v, err := n.eval(fr)
		var e *Exception
		if errors.As(err, &e) {
			return nil, false, nil
		}
		return v, err == nil, err
	}
	switch n := n.(type) {
	case *lvar:
		return "local-variable", nil
	case *ivarNode:
		if _, ok := in.ivarGet(fr.self, n.name); !ok {
			return "", nil
		}
		return "instance-variable", nil
	case *gvarNode:
		if v, _ := n.eval(fr); v == nil {
			if _, ok := in.globals[n.name]; !ok {
				return "", nil
			}
		}
		return "global-variable", nil
	case *cvarNode:
		if _, ok, err := try(n); !ok {
			return "", err
		}
		return "class variable", nil
	case *constNode:
		if _, ok, err := try(n); !ok {
			return "", err
		}
		return "constant", nil
	case *callNode:
		recv := fr.self
		if n.recv != nil {
			v, ok, err := try(n.recv)
			if !ok {
				return "", err
			}
			recv = v
		}
		if !in.respondTo(recv, n.name, n.recv == nil) {
			return "", nil
		}
		return "method", nil
	case *selfNode:
		return "self", nil
	case literal:
		switch n.v {
		case nil:
			return "expression", nil
		case true:
			return "true", nil
		case false:
			return "false", nil
		}
	case *asgnNode, *opAsgnNode, *masgnNode:
		return "assignment", nil
	case *yieldNode:
		if fr.home.block == nil {
			return "", nil
		}
		return "yield", nil
	case *superNode:
		if m := fr.home.meth; m == nil || in.dispatchClass(fr.self).findAfter(m.owner, m.name) == nil {
			return "", nil
		}
		return "super", nil
	}
	return "expression", nil
}

func (n *ifNode) eval(fr *frame) (Value, error) {
	for {
		v, err := n.cond.eval(fr)
		if err != nil {
			return nil, err
		}
		next := n.els
		if Truthy(v) {
			next = n.then
		}
		if next == nil {
			return nil, nil
		}
		if elsif, ok := next.(*ifNode); ok {
			n = elsif
			continue
		}
		return next.eval(fr)
	}
}

func (n *whileNode) eval(fr *frame) (Value, error) {
	for first := n.doFirst; ; first = false {
		if err := fr.in.step(); err != nil {
			return nil, err
		}
		if !first {
			v, err := n.cond.eval(fr)
			if j, ok := err.(*loopJump); ok && !j.next {
				return j.value, nil
			}
			if err != nil {
				return nil, err
			}
			if Truthy(v) == n.until {
				return nil, nil
			}
		}
		if _, err := n.body.eval(fr); err != nil {
			j, ok := err.(*loopJump)
			if !ok {
				return nil, err
			}
			if !j.next {
				return j.value, nil
			}
		}
	}
}

func (n *forNode) eval(fr *frame) (Value, error) {
	list, err := n.iter.eval(fr)
	if err != nil {
		return nil, err
	}
	fr.at(n.line)
	err = fr.in.iterate(list, func(v Value) error {
		if err := fr.in.step(); err != nil {
			return err
		}
		if err := assign(fr, n.target, v); err != nil {
			return err
		}
		_, err := n.body.eval(fr)
		if j, ok := err.(*loopJump); ok && j.next {
			return nil
		}
		return err
	})
	if j, ok := err.(*loopJump); ok {
		return j.value, nil
	}
	return list, err
}

func (n *caseNode) eval(fr *frame) (Value, error) {
	in := fr.in
	var subject Value
	var err error
	if n.subject != nil {
		if subject, err = n.subject.eval(fr); err != nil {
			return nil, err
		}
	}
	for i := range n.whens {
		w := &n.whens[i]
		for _, c := range w.conds {
			s, splat := c.(*splatNode)
			if splat {
				c = s.v
			}
			v, err := c.eval(fr)
			if err != nil {
				return nil, err
			}
			patterns := []Value{v}
			if splat {
				if patterns, err = in.splat(v); err != nil {
					return nil, err
				}
			}
			for _, p := range patterns {
				ok := Truthy(p)
				if n.subject != nil {
					if ok, err = in.caseEq(fr, p, subject); err != nil {
						return nil, err
					}
				}
				if ok {
					return w.body.eval(fr)
				}
			}
		}
	}
	if n.els != nil {
		return n.els.eval(fr)
	}
	return nil, nil
}

func (n *seqNode) eval(fr *frame) (v Value, err error) {
	for _, s := range n.stmts {
		if fr.in.skipped != nil && fr.in.skips(s) {
			continue
		}
		if v, err = s.eval(fr); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Skip has statements not evaluated that call one of these without a receiver,
// with nothing but texts and other values that are written out.
func (in *Interp) Skip(words ...string) {
	in.skipped = map[string]bool{}
	for _, w := range words {
		in.skipped[w] = true
	}
}

func (in *Interp) skips(s node) bool {
	n, ok := s.(*callNode)
	return ok && n.recv == nil && n.block == nil && n.blockArg == nil && in.skipped[n.name] && !slices.ContainsFunc(n.args, computed)
}

// computed reports whether n is more than a value that is written out.
func computed(n node) bool {
	switch n := n.(type) {
	case literal, *strNode:
		return false
	case *arrayNode:
		return slices.ContainsFunc(n.elems, computed)
	case *hashNode:
		return slices.ContainsFunc(n.pairs, func(p pairNode) bool { return p.key == nil || computed(p.key) || computed(p.value) })
	}
	return true
}

func (n *beginNode) eval(fr *frame) (Value, error) {
	v, err := n.protected(fr)
	if n.ensure != nil {
		var limit *LimitError
		if errors.As(err, &limit) {
			return v, err
		}
		if _, eerr := n.ensure.eval(fr); eerr != nil {
			return nil, eerr
		}
	}
	return v, err
}

func (n *beginNode) protected(fr *frame) (Value, error) {
	in := fr.in
	for {
		depth := len(in.stack)
		v, err := n.body.eval(fr)
		if err == nil {
			if n.els != nil {
				return n.els.eval(fr)
			}
			return v, nil
		}
		in.stack = in.stack[:depth]
		e, ok := err.(*Exception)
		if !ok {
			if errors.As(err, new(*LimitError)) || IsControlFlow(err) {
				return nil, err
			}
			errors.As(err, &e)
		}
		r, merr := n.rescuing(fr, e)
		if merr != nil {
			return nil, merr
		}
		if r == nil {
			return nil, err
		}
		in.errors = append(in.errors, e)
		n := len(in.errors)
		if r.target != nil {
			err = assign(fr, r.target, e)
		} else {
			err = nil
		}
		v = nil
		if err == nil && r.body != nil {
			v, err = r.body.eval(fr)
		}
		in.errors = in.errors[:n-1]
		if _, retry := err.(*retryJump); retry {
			if err := in.step(); err != nil {
				return nil, err
			}
			continue
		}
		return v, err
	}
}

// rescuing returns the clause that takes e, nil when none does.
func (n *beginNode) rescuing(fr *frame, e *Exception) (*rescueClause, error) {
	in := fr.in
	for i := range n.rescues {
		r := &n.rescues[i]
		if len(r.classes) == 0 {
			if e.Class.Inherits(in.eStandard) {
				return r, nil
			}
			continue
		}
		classes, err := evalArgs(fr, r.classes, true)
		if err != nil {
			return nil, err
		}
		for _, c := range classes {
			if _, ok := c.(*Class); !ok {
				return nil, in.Raise(in.eType, "class or module required for rescue clause")
			}
			ok, err := in.caseEq(fr, c, e)
			if err != nil {
				return nil, err
			}
			if ok {
				return r, nil
			}
		}
	}
	return nil, nil
}

func evalOr(fr *frame, n node) (Value, error) {
	if n == nil {
		return nil, nil
	}
	return n.eval(fr)
}

func (n *returnNode) eval(fr *frame) (Value, error) {
	v, err := evalOr(fr, n.v)
	if err != nil {
		return nil, err
	}
	f := fr
	for f.proc != nil && !f.lambda && f.up != nil {
		f = f.up
	}
	if f.done {
		return nil, fr.in.Raise(fr.in.eLocalJump, "unexpected return")
	}
	return nil, &returnJump{f, v}
}

func (n *breakNode) eval(fr *frame) (Value, error) {
	v, err := evalOr(fr, n.v)
	if err != nil {
		return nil, err
	}
	if n.inLoop {
		return nil, &loopJump{value: v}
	}
	if fr.proc == nil {
		return nil, fr.in.Raise(fr.in.eLocalJump, "break from proc-closure")
	}
	return nil, &breakJump{fr.proc, v}
}

func (n *nextNode) eval(fr *frame) (Value, error) {
	v, err := evalOr(fr, n.v)
	if err != nil {
		return nil, err
	}
	if n.inLoop {
		return nil, &loopJump{next: true}
	}
	return nil, &nextJump{v}
}

func (*retryNode) eval(*frame) (Value, error) { return nil, &retryJump{} }

func (n *defNode) eval(fr *frame) (Value, error) {
	in := fr.in
	m := &method{name: n.name, def: n, lex: fr.lex}
	if n.singleton != nil {
		v, err := n.singleton.eval(fr)
		if err != nil {
			return nil, err
		}
		k, err := in.singleton(v)
		if err != nil {
			return nil, err
		}
		k.define(m)
		return Symbol(n.name), nil
	}
	k, err := fr.lex.target(in)
	if err != nil {
		return nil, err
	}
	if fr.home == fr || fr.lex == fr.home.lex {
		m.vis = fr.home.vis
	}
	if n.name == "initialize" || n.name == "respond_to_missing?" || n.name == "initialize_copy" {
		m.vis = private
	}
	if k == in.cObject {
		m.vis = public
	}
	k.define(m)
	if fr.home.moduleFunc {
		s := *m
		s.vis = public
		in.singletonClass(k).define(&s)
	}
	return Symbol(n.name), nil
}

func (n *classNode) eval(fr *frame) (Value, error) {
	in := fr.in
	outer, err := fr.constHome(n.path)
	if err != nil {
		return nil, err
	}
	var super *Class
	if n.super != nil {
		v, err := n.super.eval(fr)
		if err != nil {
			return nil, err
		}
		ok := false
		if super, ok = v.(*Class); !ok || super.module {
			fr.at(n.line)
			return nil, in.Raise(in.eType, "superclass must be a Class (%s given)", in.className(in.ClassOf(v)))
		}
	}
	fr.at(n.line)
	existing, found := outer.consts[n.path.name]
	if !found && n.path.scope == nil && outer != in.cObject && outer.attached != nil {
		// In a file that is evaluated for an object, class reopens what is
		// there at top level, as class String does.
		existing, found = in.cObject.consts[n.path.name]
		if k, ok := existing.(*Class); ok && super != nil && k.Super != super {
			found = false
		}
	}
	var k *Class
	if found {
		ok := false
		if k, ok = existing.(*Class); !ok || k.module != n.module {
			what := "class"
			if n.module {
				what = "module"
			}
			return nil, in.Raise(in.eType, "%s is not a %s", n.path.name, what)
		}
		if super != nil && k.Super != super {
			return nil, in.Raise(in.eType, "superclass mismatch for class %s", k.Name)
		}
	} else {
		if super == in.cClass && super != nil {
			return nil, in.Raise(in.eType, "can't make subclass of Class")
		}
		k = in.newClass(super, n.module)
		outer.SetConst(n.path.name, k)
		if !n.module {
			if err := in.inherited(fr, k); err != nil {
				return nil, err
			}
		}
	}
	return fr.classBody(k, n.body, n.nvars, n.line, "<class:"+n.path.name+">")
}

// inherited calls the hook of k's superclass.
func (in *Interp) inherited(fr *frame, k *Class) error {
	if m := in.metaOf(k.Super).find("inherited"); m != nil {
		_, err := in.invoke(fr, m, k.Super, "inherited", []Value{k}, nil)
		return err
	}
	return nil
}

func (fr *frame) classBody(k *Class, body node, nvars, line int, name string) (Value, error) {
	in := fr.in
	inner := &frame{in: in, self: k, prog: fr.prog, lex: &lexScope{class: k, outer: fr.lex}, vars: make([]Value, nvars)}
	if k.attached != nil {
		inner.self = k
	}
	inner.home = inner
	return in.enter(fr.prog.File, line, name, func() (Value, error) { return body.eval(inner) })
}

func (n *sclassNode) eval(fr *frame) (Value, error) {
	v, err := n.of.eval(fr)
	if err != nil {
		return nil, err
	}
	k, err := fr.in.singleton(v)
	if err != nil {
		return nil, err
	}
	return fr.classBody(k, n.body, n.nvars, fr.in.line, "singleton class")
}

func (n *aliasNode) eval(fr *frame) (Value, error) {
	if strings.HasPrefix(n.to, "$") {
		return nil, nil
	}
	k, err := fr.lex.target(fr.in)
	if err != nil {
		return nil, err
	}
	fr.at(n.line)
	return nil, fr.in.alias(k, n.to, n.from)
}

func (in *Interp) alias(k *Class, to, from string) error {
	m := k.find(from)
	if m == nil && k.module {
		m = in.cObject.find(from)
	}
	if m == nil {
		what := "class"
		if k.module {
			what = "module"
		}
		return in.Raise(in.eName, "undefined method `%s' for %s `%s'", from, what, in.className(k))
	}
	// The copy keeps its name and owner, by which super goes on from there.
	c := *m
	if k.methods == nil {
		k.methods = map[string]*method{}
	}
	if _, ok := k.methods[to]; !ok {
		k.order = append(k.order, to)
	}
	k.methods[to] = &c
	in.epoch++
	return nil
}

func (n *undefNode) eval(fr *frame) (Value, error) {
	k, err := fr.lex.target(fr.in)
	if err != nil {
		return nil, err
	}
	for _, name := range n.names {
		k.Undef(name)
	}
	return nil, nil
}

func (n *unsupported) eval(fr *frame) (Value, error) {
	fr.at(n.line)
	return nil, fr.in.Raise(fr.in.eSecurity, "%s is not available to a profile", n.what)
}

// toProc is the block that &v passes.
func (in *Interp) toProc(v Value) (*Proc, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case *Proc:
		return v, nil
	case Symbol:
		name := string(v)
		return &Proc{lambda: true, arity: -2, name: name, native: func(c *Call) (Value, error) {
			if len(c.Args) == 0 {
				return nil, in.Raise(in.eArgument, "no receiver given")
			}
			return in.send(c.fr, c.Args[0], name, c.Args[1:], c.Block, false)
		}}, nil
	}
	if in.respondTo(v, "to_proc", true) {
		p, err := in.send(nil, v, "to_proc", nil, nil, true)
		if err != nil {
			return nil, err
		}
		if p, ok := p.(*Proc); ok {
			return p, nil
		}
	}
	return nil, in.Raise(in.eType, "wrong argument type %s (expected Proc)", in.className(in.ClassOf(v)))
}
