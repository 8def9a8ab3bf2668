package target

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"sync"
	"time"
)

// ErrPending says that an answer isn't there yet. Only Session.Ahead's target
// returns it.
var ErrPending = errors.New("the target has not answered yet")

const (
	// maxCached bounds one answer that is kept for good.
	maxCached = 1 << 20
	// enough is how many questions are collected before the target, which has
	// nothing to do, is given them though more will come, and how many answers
	// before an evaluation ahead goes on by them though more will come.
	enough = 24
)

// Stats say what a session asked of its target.
type Stats struct {
	// Commands were run, Files are other questions that went to the target.
	Commands, Files int
	// RoundTrips is how many batches of questions were sent, one after
	// another; none where each command is a process of this machine.
	RoundTrips int
	// Waiting is how long someone waited while the target worked on an answer.
	Waiting time.Duration
}

// asker is a target that takes many questions at once and works off several
// side by side.
type asker interface {
	takes(q question) bool
	refuse(q question) error
	add(calls ...*call)
	answer(c *call) (any, error)
	setJobs(n int)
	roundTrips() int
}

// Session is what one run asks of a target. As in InSpec, each command and
// each look at a file happens once in it; what two ask at the same time is
// found out once, too. Large outputs aren't kept, nor is anything that a limit
// or a lost target cut short.
//
// What a run will ask can be found out by running it on Ahead's target first,
// or meanwhile: that target never waits. It answers what is known, notes what
// isn't, and returns ErrPending. So many questions can be on their way
// together, and when Target is asked the answers are there.
//
// The order in which a target is asked isn't the order of a profile, then.
// Commands that see processes run while no other does, and of those that take
// locks one at a time, so that no answer depends on it.
type Session struct {
	t    Target
	many asker // nil when t answers at once
	ctx  context.Context

	begun chan struct{} // closed when the first question is sent

	mu          sync.Mutex // guards what follows
	answers     map[question]*answer
	held        bool    // questions are collected
	queue       []*call // collected
	outstanding int     // questions on their way
	lights      int     // of those, the ones that don't take long
	fresh       int     // answers since Next returned
	next        bool    // someone is in Next
	news        chan struct{}
	stretch     *Stretch // of Ahead's target; nil outside
	stats       Stats
	alone       int       // questions on their way that don't go with others
	waiters     int       // goroutines without an answer
	since       time.Time // that someone waits for the target; zero while nobody does
}

// answer is to one question; value and err are set before done is closed.
type answer struct {
	ctx   context.Context // of the one who asked
	done  chan struct{}
	value any
	err   error
	quick bool // doesn't take long
	once  bool // is forgotten when it was asked for
}

// NewSession makes a session of t in which up to jobs commands run side by
// side. ctx ends what was asked ahead.
func NewSession(ctx context.Context, t Target, jobs int) *Session {
	s := &Session{t: t, ctx: ctx, answers: map[question]*answer{}, begun: make(chan struct{}), news: make(chan struct{}, 1)}
	if many, ok := t.(asker); ok {
		s.many = many
		many.setJobs(jobs)
	}
	return s
}

// Target is the session's target, which waits for answers.
func (s *Session) Target() Target { return &cache{Target: s.t, s: s} }

// Ahead is the target that never waits; false when there is nothing to gain,
// since t answers at once.
func (s *Session) Ahead() (Target, bool) {
	return &cache{Target: s.t, s: s, ahead: true}, s.many != nil
}

// Begun is closed when the first question is sent.
func (s *Session) Begun() <-chan struct{} { return s.begun }

// Hold begins to collect questions, of Target, too. They are sent when the
// target has nothing to do and there are enough of them.
func (s *Session) Hold() {
	s.mu.Lock()
	s.held = true
	s.mu.Unlock()
}

// Release sends what was collected. From now on a question is sent when no
// other is on its way, but for those that take long. It reports whether any
// answer is still to come.
func (s *Session) Release() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	s.send()
	return s.outstanding > 0
}

// Next is Release and Hold, with a wait between them for answers to go on by:
// for enough of them, or those that there are when the target has nothing more
// to do, but for what takes long.
func (s *Session) Next(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next = true; !s.goOn() {
		s.held = false
		if s.lights == 0 {
			s.send()
		}
	}
	for s.next && ctx.Err() == nil {
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	s.next = false
}

// goOn ends Next, if there is one, when there are answers to go on by, so that
// what follows from them is asked together. mu is held.
func (s *Session) goOn() bool {
	if !s.next || s.fresh == 0 || s.fresh < enough && s.lights > 0 {
		return false
	}
	s.next, s.held, s.fresh = false, true, 0
	select {
	case s.news <- struct{}{}:
	default:
	}
	return true
}

// A Guess is how an evaluation on Ahead's target goes on where the answer isn't
// there: with ErrPending, or as if there were no such file, or nothing in it,
// or the command had failed.
type Guess int

// The ways to guess. After the first guess nothing is asked any more but what
// changes nothing on the target and costs little.
const (
	NoGuess    Guess = iota
	GuessFiles       // then only files are looked at
	GuessLooks       // and commands run that only look
	Guessed          // GuessLooks, a guess having been made before
)

// A Stretch is a part of an evaluation on Ahead's target, such as a control.
type Stretch struct {
	s       *Session
	how     Guess
	guesses int
	missing []*answer
}

// Begin begins a stretch in which it is guessed so; End ends it. They don't
// nest: outside any stretch nothing is guessed.
func (s *Session) Begin(how Guess) *Stretch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stretch = &Stretch{s: s, how: how}
	return s.stretch
}

// End ends the stretch and reports whether anything in it is a guess.
func (t *Stretch) End() (guessed bool) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.stretch = nil
	return t.guesses > 0
}

// mayAsk reports whether a command may be run for an evaluation that perhaps
// goes by a guess.
func (t *Stretch) mayAsk(q question) bool {
	switch {
	case t.guesses == 0 && t.how != Guessed:
		return true
	case t.how == GuessFiles:
		return false
	}
	return onlyLooks(q) || t.how == GuessLooks && onlyFinds.MatchString(q.what)
}

// News reports whether anything that was missing is known by now, and nothing
// is missing any more but what takes long.
func (t *Stretch) News() bool {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	soon := func(a *answer) bool { return a.quick && !a.known() }
	return slices.ContainsFunc(t.missing, (*answer).known) && !slices.ContainsFunc(t.missing, soon)
}

// looks are commands that change nothing and don't take long, whoever may want
// to know: some programs that read, and what they say put through filters.
var looks = func() *regexp.Regexp {
	const words = `(?:[^;&|<>$()'"\n` + "`" + `]|'[^']*'|"[^"$\\` + "`" + `]*")*`
	return regexp.MustCompile(`^(?:systemctl (?:show|is-active|is-enabled) |type |rpm -qi? |/sbin/sysctl -q -n |id |getent |LC_ALL=C chage -l |find /(?:etc|home|root|run)\S* |ls |cat |stat |grep |egrep |head |readlink )` +
		words + `(?:\| ?(?:grep|egrep|wc|sort|uniq|cut|head|tail|tr) ` + words + `)*$`)
}()

// onlyFinds are searches of any size that print names. A control that makes
// one for each of several places is seldom one that makes none.
var onlyFinds = regexp.MustCompile(`^find(?: +-[LHP])?(?: +[\w/.][\w./-]*)+(?: +(?:!|-not|\\[()]|-o|-a|-xdev|-mount|-xautofs|-nouser|-nogroup|-print0?|-(?:type|perm|user|group|uid|gid|i?name|fstype|maxdepth|mindepth) +(?:'[^']*'|[\w./+-]+)))*(?: *2> ?/dev/null)?$`)

// acts is what lets a program that reads do something else, or much.
var acts = regexp.MustCompile(`\s-(exec|ok|delete|fprint|fls)|^\S+ .*-\w*[rR].*\s/(usr|var|lib|proc|sys)?/?(\s|$)`)

func onlyLooks(q question) bool {
	return looks.MatchString(q.what) && !acts.MatchString(q.what)
}

// guess is what an evaluation goes on with where a, the answer to q, isn't
// there; a is nil when q wasn't asked. mu is held.
func (s *Session) guess(q question, a *answer) (any, error) {
	t := s.stretch
	if t == nil {
		return nil, ErrPending
	}
	if a != nil {
		t.missing = append(t.missing, a)
	}
	t.guesses++
	switch {
	case t.how == NoGuess:
		return nil, ErrPending
	case q.op == opRun:
		return CommandResult{ExitStatus: 1}, nil
	case q.op == opRead:
		return []byte{}, nil // few profiles expect that nothing can be read
	}
	return nil, pathError(q.verb(), q.what, fs.ErrNotExist)
}

// Stats says what was asked so far.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	if s.many != nil {
		stats.RoundTrips = s.many.roundTrips()
	}
	return stats
}

// send hands over what was collected. mu is held.
func (s *Session) send() {
	if len(s.queue) == 0 {
		return
	}
	for _, c := range s.queue {
		s.outstanding++
		if quick(c.question) {
			s.lights++
		}
	}
	s.many.add(s.queue...)
	s.queue = nil
	if !s.sent() {
		close(s.begun)
	}
	s.clock()
}

func (s *Session) sent() bool {
	select {
	case <-s.begun:
		return true
	default:
		return false
	}
}

// put asks q, which nobody has asked before. mu is held.
func (s *Session) put(ctx context.Context, q question) *answer {
	a := &answer{ctx: ctx, done: make(chan struct{})}
	s.answers[q] = a
	if q.op == opRun {
		s.stats.Commands++
	} else {
		s.stats.Files++
	}
	if s.many == nil || !s.many.takes(q) {
		return a
	}
	if err := s.many.refuse(q); err != nil {
		s.settle(q, a, nil, err)
		return a
	}
	a.quick = quick(q)
	s.queue = append(s.queue, &call{question: q, ctx: ctx, answered: func(c *call) {
		v, err := s.many.answer(c)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.outstanding--
		if a.quick {
			s.lights--
		}
		s.settle(q, a, v, err)
		s.fresh++
		s.goOn()
		s.sendIdle()
		s.clock()
	}})
	s.sendIdle()
	return a
}

// sendIdle sends what was collected when the target has nothing to do, but for
// what takes long. mu is held.
func (s *Session) sendIdle() {
	if s.lights == 0 && (!s.held || len(s.queue) >= enough) {
		s.send()
	}
}

// settle makes the answer known. mu is held.
func (s *Session) settle(q question, a *answer, v any, err error) {
	a.value, a.err = v, err
	if errors.Is(err, ErrNoCommands) {
		s.stats.Commands--
	}
	var pathErr *fs.PathError
	if keep := err == nil || errors.Is(err, ErrNoCommands) || errors.As(err, &pathErr); !keep || size(v) > maxCached {
		a.once = true
	}
	close(a.done)
}

func size(v any) int {
	switch v := v.(type) {
	case CommandResult:
		return len(v.Stdout) + len(v.Stderr)
	case []byte:
		return len(v)
	case []string:
		return 64 * len(v)
	}
	return 0
}

// ask answers q.
func (s *Session) ask(ctx context.Context, q question) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		a, known := s.answers[q]
		if !known {
			if a = s.put(ctx, q); !s.sent() {
				s.send() // or the target would have nothing to do
			}
			if s.many == nil || !s.many.takes(q) {
				s.alone++
				s.wait()
				s.mu.Unlock()
				v, err := direct(ctx, s.t, q)
				s.mu.Lock()
				s.alone--
				s.waited()
				s.settle(q, a, v, err)
			}
		}
		if !a.known() {
			s.wait()
			s.mu.Unlock()
			select {
			case <-a.done:
			case <-ctx.Done():
			}
			s.mu.Lock()
			s.waited()
		}
		if (a.once || !a.known()) && s.answers[q] == a {
			delete(s.answers, q)
		}
		switch {
		case !a.known():
			return nil, context.Cause(ctx)
		case a.err != nil && known && a.ctx.Err() != nil && ctx.Err() == nil:
			if s.answers[q] == a {
				delete(s.answers, q)
			}
			continue // the one who asked gave up
		}
		return a.value, a.err
	}
}

func (a *answer) known() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// wait and waited say that someone waits for an answer. mu is held.
func (s *Session) wait()   { s.waiters++; s.clock() }
func (s *Session) waited() { s.waiters--; s.clock() }

// clock counts the time in which someone waits and the target works: what is
// collected isn't on its way yet, so an evaluation ahead is no waiting. mu is
// held, and the counts have just changed.
func (s *Session) clock() {
	waiting := s.waiters > 0 && s.outstanding+s.alone > 0
	switch {
	case waiting && s.since.IsZero():
		s.since = time.Now()
	case !waiting && !s.since.IsZero():
		s.stats.Waiting += time.Since(s.since)
		s.since = time.Time{}
	}
}

// askAhead answers what is known. A command with a time limit of its own is
// left to the one who means it.
func (s *Session) askAhead(ctx context.Context, q question) (any, error) {
	if s.many == nil || !s.many.takes(q) {
		return s.ask(ctx, q)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.answers[q]
	if a == nil {
		own, limited := ctx.Deadline()
		if all, ok := s.ctx.Deadline(); limited && (!ok || own.Before(all)) {
			return s.guess(q, nil)
		}
		if t := s.stretch; t != nil && q.op == opRun && !t.mayAsk(q) {
			return s.guess(q, nil)
		}
		a = s.put(s.ctx, q)
	}
	if !a.known() {
		return s.guess(q, a)
	}
	return a.value, a.err
}

// Cache is the target of a session of its own, without anything ahead; one
// that belongs to a session is returned as it is.
func Cache(t Target) Target {
	if c, ok := t.(*cache); ok {
		return c
	}
	return NewSession(context.Background(), t, 1).Target()
}

// cache is a session's target.
type cache struct {
	Target
	s     *Session
	ahead bool
}

func answered[T any](c *cache, ctx context.Context, q question) (T, error) {
	ask := c.s.ask
	if c.ahead {
		ask = c.s.askAhead
	}
	v, err := ask(ctx, q)
	value, _ := v.(T)
	return value, err
}

// direct asks t itself.
func direct(ctx context.Context, t Target, q question) (any, error) {
	switch q.op {
	case opRun:
		return t.Run(ctx, q.what)
	case opStat, opLstat:
		return t.Stat(ctx, q.what, q.op == opStat)
	case opRead:
		return t.ReadFile(ctx, q.what, q.limit)
	case opList:
		return t.ReadDir(ctx, q.what)
	}
	return t.Readlink(ctx, q.what)
}

func (c *cache) Run(ctx context.Context, cmd string) (CommandResult, error) {
	return answered[CommandResult](c, ctx, question{op: opRun, what: cmd})
}

func (c *cache) Stat(ctx context.Context, path string, follow bool) (FileInfo, error) {
	q := question{op: opLstat, what: path}
	if follow {
		q.op = opStat
	}
	return answered[FileInfo](c, ctx, q)
}

func (c *cache) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	return answered[[]byte](c, ctx, question{op: opRead, what: path, limit: limit})
}

func (c *cache) ReadDir(ctx context.Context, path string) ([]string, error) {
	return answered[[]string](c, ctx, question{op: opList, what: path})
}

func (c *cache) Readlink(ctx context.Context, path string) (string, error) {
	return answered[string](c, ctx, question{op: opReadlink, what: path})
}
