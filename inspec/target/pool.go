package target

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"sync"
)

// What may be asked of a target.
const (
	opRun      = "run"
	opStat     = "stat"
	opLstat    = "lstat"
	opRead     = "read"
	opList     = "list"
	opReadlink = "readlink"
)

// A question is one thing that is asked of a target: a command, or something
// about a path.
type question struct {
	op, what string
	limit    int64 // of opRead
}

// A call is a question under way. Whoever works on it sets result or err and
// calls answered, once.
type call struct {
	question
	ctx      context.Context
	kind     kind
	result   CommandResult
	err      error
	answered func(*call)
	members  []*call // of several looks at files in one
	parts    []*call // of several commands in one
	apart    bool    // is no longer to be put together with others
}

func newCall(ctx context.Context, q question) (*call, chan struct{}) {
	done := make(chan struct{})
	return &call{question: q, ctx: ctx, answered: func(*call) { close(done) }}, done
}

// kind says what may run beside a command, and how it is to be scheduled.
type kind int

const (
	light   kind = iota
	heavy        // takes long: started early, and not all of them at once
	holder       // takes a lock that others of its kind would find taken
	watcher      // sees processes, and must not see those of other commands
	kinds
)

// The words by which a command is known. A word too many costs some time; one
// that is missing could change an answer.
var (
	watches  = regexp.MustCompile(`\b(ps|pgrep|pidof|pkill|pstree|top|htop|lsof|fuser|vmstat|initctl)\b|(^|[^.\w])service\s|/proc/[*?\[0-9$]|/proc([^/\w]|$)`)
	locks    = regexp.MustCompile(`\b(ip6?tables[-a-z0-9]*|ufw|nft|yum|dnf|microdnf|tdnf|zypper|apt|apt-get|apt-mark|aptitude|pacman|apk|snap|semanage|semodule|authselect|aide|lvs|vgs|pvs|subscription-manager|needs-restarting)\b`)
	searches = regexp.MustCompile(`^(find|e?grep\b.*\s-\w*[rR])`)
	narrow   = regexp.MustCompile(`^(find( +-[LHP])?|e?grep .*)( +/(etc|run)/[\w.*?-]\S*)+( |$)|^find +/\S+ +-maxdepth +1 `) // of searches: what has little to look at
	lasts    = regexp.MustCompile(`\b(find|for|while|rpm -V\w*|rpm --verify|debsums|dpkg -V|aide|openssl|grep -\w*[rR]\w*|du)\b`)
)

func kindOf(q question) kind {
	switch {
	case q.op != opRun:
		return light
	case q.what != "ps --help" && watches.MatchString(q.what):
		return watcher
	case onlyLooks(q) && (!searches.MatchString(q.what) || narrow.MatchString(q.what)):
		return light // what takes locks or long is but a word in it
	case locks.MatchString(q.what):
		return holder
	case lasts.MatchString(q.what):
		return heavy
	}
	return light
}

// weight guesses how long a command takes that takes long: a program run for
// each of many files longest, then a look at all of them.
func (c *call) weight() int {
	switch {
	case loops.MatchString(c.what):
		return 2
	case wide.MatchString(c.what):
		return 1
	}
	return 0
}

var (
	loops = regexp.MustCompile(`\b(for|while|xargs)\b`)
	wide  = regexp.MustCompile(`find( +-[LHP])? +('?\{\}'?|/|/(usr|lib|var|bin|opt|home)\S*)( |$)|rpm -V|rpm --verify|debsums|dpkg -V`)
)

// quick reports whether the answer to q is worth waiting for before others are
// asked.
func quick(q question) bool {
	k := kindOf(q)
	return k == light || k == heavy && (&call{question: q}).weight() == 0
}

// A lane works off calls one after another.
type lane interface {
	// do returns when each of calls was answered.
	do(calls []*call)
	close() error
}

// pool spreads calls over up to jobs lanes of one target. More lanes than the
// first are opened when there is work for them; a target that gives no more
// is worked through those that there are.
type pool struct {
	first lane // that the target began with
	far   bool // each batch is a long way
	open  func(ctx context.Context) (lane, error)
	ctx   context.Context // of what is opened; ended by close
	stop  context.CancelFunc
	wg    sync.WaitGroup // what is being opened

	mu      sync.Mutex // guards what follows
	jobs    int
	opening int
	lanes   []lane
	idle    []lane
	waiting [kinds][]*call
	busy    [kinds]int // lanes at work, by kind
	closed  bool
}

func newPool(first lane, open func(ctx context.Context) (lane, error)) *pool {
	p := &pool{first: first, open: open, jobs: 1, lanes: []lane{first}, idle: []lane{first}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// setJobs bounds how many commands run side by side.
func (p *pool) setJobs(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != nil {
		p.jobs = max(1, n)
	}
}

// add takes calls and returns at once.
func (p *pool) add(calls ...*call) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		for _, c := range calls {
			if c.kind = kindOf(c.question); p.jobs == 1 {
				c.kind = light // one after another in any case
			}
			p.waiting[c.kind] = append(p.waiting[c.kind], c)
		}
		for k := range p.waiting[:watcher] {
			if p.jobs > 1 && len(p.waiting[k]) > 1 {
				p.waiting[k] = merged(p.waiting[k], func(calls []*call) { p.add(calls...) })
			}
		}
		// A target is done when its longest command is: that begins first.
		slices.SortStableFunc(p.waiting[heavy], func(a, b *call) int { return b.weight() - a.weight() })
		p.dispatch()
	}
	p.mu.Unlock()
	if closed {
		go abandon(calls)
	}
}

func abandon(calls []*call) {
	for _, c := range calls {
		c.err = ErrClosed
		c.answered(c)
	}
}

// ask takes one call and waits for its answer.
func (p *pool) ask(ctx context.Context, q question) *call {
	c, done := newCall(ctx, q)
	p.add(c)
	select {
	case <-done:
	case <-ctx.Done():
		p.mu.Lock()
		i := slices.IndexFunc(p.waiting[c.kind], func(w *call) bool { return w == c || slices.Contains(w.parts, c) })
		if i >= 0 {
			given := p.waiting[c.kind][i]
			p.waiting[c.kind] = slices.Delete(p.waiting[c.kind], i, i+1)
			p.mu.Unlock()
			given.err = context.Cause(ctx) // also its other parts', which have the same context
			given.answered(given)
		} else {
			p.mu.Unlock()
		}
		<-done // its lane sees to it
	}
	return c
}

// dispatch gives work to idle lanes. mu is held.
func (p *pool) dispatch() {
	for !p.closed && len(p.idle) > 0 {
		k, calls := p.next()
		if calls == nil {
			return
		}
		l := p.idle[0]
		p.idle = p.idle[1:]
		p.busy[k]++
		go p.work(l, k, calls)
	}
	more := 0
	for k := range p.waiting[:watcher] {
		more += len(p.waiting[k])
	}
	for ; !p.closed && more > 0 && len(p.lanes)+p.opening < p.jobs; more-- {
		p.opening++
		p.wg.Go(p.another)
	}
}

// next takes what an idle lane is to do out of what is waiting. Where the way is
// far and no other lane is free, what is quick and the next lock go along.
func (p *pool) next() (kind, []*call) {
	k, calls := p.pick()
	if !p.far || len(calls) == 0 || k == watcher || len(p.idle) > 1 || calls[0].kind == heavy && calls[0].weight() > 0 {
		return k, calls
	}
	with := p.waiting[light]
	p.waiting[light] = nil
	quick := slices.IndexFunc(p.waiting[heavy], func(c *call) bool { return c.weight() == 0 })
	if quick >= 0 {
		with = append(with, p.waiting[heavy][quick:]...)
		p.waiting[heavy] = p.waiting[heavy][:quick]
	}
	if k != holder && p.busy[holder] == 0 && len(p.waiting[holder]) > 0 {
		k, with = holder, append(with, p.waiting[holder]...)
		p.waiting[holder] = nil
	}
	if k == holder && calls[0].kind == holder {
		return k, append(with, calls...) // who waits for a lock comes last
	}
	return k, append(calls, with...)
}

// pick takes what goes first. A lane gets several at a time, since to hand out each by itself would cost the way to
// the target each time; fewer when little is left, so that all end together.
func (p *pool) pick() (kind, []*call) {
	if p.busy[watcher] > 0 {
		return 0, nil
	}
	take := func(k kind, n int) (kind, []*call) {
		n = min(n, len(p.waiting[k]))
		calls := p.waiting[k][:n:n]
		p.waiting[k] = p.waiting[k][n:]
		return k, calls
	}
	share := func(k kind, parts int) int { return (len(p.waiting[k]) + parts - 1) / parts }
	lights, heavies := len(p.waiting[light]), len(p.waiting[heavy])
	switch {
	case len(p.lanes) == 1 && lights > 0:
		return take(light, lights) // what is asked next depends on them
	case len(p.waiting[holder]) > 0 && p.busy[holder] == 0:
		return take(holder, len(p.waiting[holder]))
	case heavies > 0 && (lights == 0 || p.busy[heavy]+p.busy[holder] < p.mayLast()):
		switch p.waiting[heavy][0].weight() {
		case 2:
			return take(heavy, 1)
		case 1:
			return take(heavy, max(2, share(heavy, p.jobs)))
		}
		return take(heavy, max(16, share(heavy, p.jobs)))
	case lights > 0:
		return take(light, max(24, share(light, max(1, p.jobs-p.busy[heavy]-p.busy[holder]))))
	case len(p.waiting[watcher]) > 0 && p.busy == [kinds]int{} && len(p.waiting[holder]) == 0:
		return take(watcher, len(p.waiting[watcher]))
	}
	return 0, nil
}

// mayLast is how many lanes may be at what takes long while there is something
// else: half of them, and all but one for what takes longest. Those that are
// still being opened don't count. mu is held.
func (p *pool) mayLast() int {
	if p.waiting[heavy][0].weight() > 1 {
		return max(1, len(p.lanes)-1)
	}
	return max(1, len(p.lanes)/2)
}

// work has a lane do calls. What an additional lane leaves undone because it
// was lost is done by another one.
func (p *pool) work(l lane, k kind, calls []*call) {
	var again []*call
	var mu sync.Mutex
	for _, c := range calls {
		if l == p.first {
			break
		}
		answered := c.answered
		c.answered = func(c *call) {
			var lost *LostError
			if errors.As(c.err, &lost) {
				c.err, c.result, c.answered = nil, CommandResult{}, answered
				mu.Lock()
				again = append(again, c)
				mu.Unlock()
				return
			}
			answered(c)
		}
	}
	l.do(calls)
	p.mu.Lock()
	p.busy[k]--
	if len(again) > 0 {
		p.lanes = slices.DeleteFunc(p.lanes, func(x lane) bool { return x == l })
		p.jobs = len(p.lanes)
		p.waiting[k] = append(p.waiting[k], again...)
	} else {
		p.idle = append(p.idle, l)
	}
	p.dispatch()
	p.mu.Unlock()
	if len(again) > 0 {
		l.close()
	}
}

// another opens one more lane.
func (p *pool) another() {
	l, err := p.open(p.ctx)
	p.mu.Lock()
	p.opening--
	switch {
	case err != nil:
		p.jobs = max(1, len(p.lanes)+p.opening)
	case p.closed:
	default:
		p.lanes, p.idle = append(p.lanes, l), append(p.idle, l)
		l = nil
		p.dispatch()
	}
	p.mu.Unlock()
	if err == nil && l != nil {
		l.close()
	}
}

// close ends all lanes; what waits is answered with ErrClosed.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	lanes := p.lanes
	var left []*call
	for k := range p.waiting {
		left = append(left, p.waiting[k]...)
		p.waiting[k] = nil
	}
	p.mu.Unlock()
	p.stop()
	abandon(left)
	errs := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, l := range lanes {
		wg.Go(func() { errs[i] = l.close() })
	}
	wg.Wait()
	p.wg.Wait()
	return errors.Join(errs...)
}
