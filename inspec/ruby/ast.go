package ruby

// node is an expression. eval returns its value, or an *Exception, a jump or a
// *LimitError.
type node interface {
	eval(fr *frame) (Value, error)
}

type (
	literal struct{ v Value } // nil, true, false, numbers, symbols

	selfNode struct{}

	strNode struct {
		s      string
		frozen bool
	}
	dstrNode struct{ parts []node } // "a#{b}"
	dsymNode struct{ parts []node } // :"a#{b}"

	regexNode struct {
		parts  []node
		source string // when there is no interpolation
		opts   regexpOptions
		line   int
	}

	arrayNode struct{ elems []node } // may hold splatNodes
	splatNode struct{ v node }

	pairNode struct{ key, value node } // key nil: **value
	hashNode struct {
		pairs []pairNode
		kw    bool // without braces, as arguments
	}

	rangeNode struct {
		lo, hi node
		excl   bool
		line   int
	}

	lvar struct {
		name       string
		slot, hops int // hops blocks outwards
	}
	ivarNode struct{ name string }
	gvarNode struct{ name string }
	cvarNode struct {
		name string
		line int
	}
	constNode struct {
		scope node // nil: lexical
		top   bool // ::Name
		name  string
		line  int
	}

	asgnNode struct{ target, value node }
	// opAsgnNode is target op= value; op is also "||" and "&&".
	opAsgnNode struct {
		target node
		op     string
		value  node
		line   int
	}
	mlhsNode struct {
		targets []node // one may be a splatNode
		splat   int    // its index, or -1
	}
	masgnNode struct {
		left  *mlhsNode
		value node
	}

	callNode struct {
		recv     node // nil: self
		name     string
		args     []node
		splat    bool // an argument is a splatNode
		block    *blockNode
		blockArg node // &arg
		safe     bool // &.
		vcall    bool // a bare name that may have been meant as a variable
		paren    bool
		line     int
	}
	// matchNode is /(?<a>…)/ =~ x, which sets locals.
	matchNode struct {
		call   *callNode
		locals []*lvar
	}
	superNode struct {
		args     []node
		bare     bool // super: the method's own arguments
		splat    bool
		block    *blockNode
		blockArg node
		line     int
	}
	yieldNode struct {
		args  []node
		splat bool
		line  int
	}
	blockGiven struct{}

	lambdaNode struct{ block *blockNode }

	andNode     struct{ l, r node }
	orNode      struct{ l, r node }
	notNode     struct{ v node }
	definedNode struct{ v node }

	ifNode    struct{ cond, then, els node }
	whileNode struct {
		cond, body node
		until      bool
		doFirst    bool // begin … end while
		line       int
	}
	forNode struct {
		target node
		iter   node
		body   node
		line   int
	}
	whenClause struct {
		conds []node
		body  node
	}
	caseNode struct {
		subject node
		whens   []whenClause
		els     node
		line    int
	}

	rescueClause struct {
		classes []node
		target  node
		body    node
	}
	beginNode struct {
		body    node
		rescues []rescueClause
		els     node
		ensure  node
	}
	seqNode struct{ stmts []node }

	returnNode struct{ v node }
	breakNode  struct {
		v      node
		inLoop bool
	}
	nextNode struct {
		v      node
		inLoop bool
	}
	retryNode struct{}

	defNode struct {
		singleton node
		name      string
		params    *params
		body      node
		nvars     int
		prog      *Program
		line      int
	}
	classNode struct {
		path   *constNode
		super  node
		body   node
		nvars  int
		module bool
		line   int
	}
	sclassNode struct {
		of    node
		body  node
		nvars int
	}
	aliasNode struct {
		to, from string
		line     int
	}
	undefNode   struct{ names []string }
	unsupported struct {
		what string
		line int
	}

	methodName struct{} // __method__
)

type param struct {
	name string
	slot int
	sub  *mlhsNode // (a, b)
}

type optParam struct {
	name  string
	slot  int
	value node
}

type kwParam struct {
	name     string
	slot     int
	value    node
	required bool
}

type params struct {
	req    []param
	opt    []optParam
	rest   int // slot, or -1; restNone for a * without a name
	post   []param
	kws    []kwParam
	kwrest int
	block  int
	// comma is set for |a, |, which spreads an array though there is one
	// parameter.
	comma bool

	hasRest, hasKwrest bool
}

func (p *params) required() int { return len(p.req) + len(p.post) }

func (p *params) arity() int {
	n := p.required()
	for _, k := range p.kws {
		if k.required {
			if len(p.opt) == 0 && !p.hasRest {
				return n + 1
			}
			break
		}
	}
	if len(p.opt) > 0 || p.hasRest {
		return -n - 1
	}
	return n
}

type blockNode struct {
	params     *params // nil: none
	body       node
	nvars      int
	prog       *Program
	line       int
	endLine    int
	start, end int
	simple     int // number of plain required parameters in slots 0…, or -1
}

// Program is a parsed source file. It may be run any number of times, by any
// Interp, also at the same time.
type Program struct {
	File  string
	src   string
	lines []int
	nvars int
	body  node
}

// Source returns the text of the lines from start to end, both included and
// counted from 1.
func (p *Program) Source(start, end int) string {
	start, end = max(start, 1), min(end, len(p.lines))
	if start > end {
		return ""
	}
	to := len(p.src)
	if end < len(p.lines) {
		to = p.lines[end]
	}
	return p.src[p.lines[start-1]:to]
}
