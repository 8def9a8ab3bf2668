package target

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ShellConfig is how a target made of a shell's streams behaves.
type ShellConfig struct {
	// URI names the target.
	URI string
	// Timeout bounds each command; zero means CommandTimeout.
	Timeout time.Duration
	// Hello bounds how long the shell may take to answer at first; zero means
	// 30 seconds.
	Hello time.Duration
	// Close ends what provides the streams; afterwards reads from them must
	// return. It may be nil.
	Close func() error
	// More opens another shell in the same place, so that commands can run
	// side by side; nil when there is but one.
	More func(ctx context.Context) (Streams, error)
	// Gathered says that the shells were started by Gathering: what they write
	// comes in few pieces.
	Gathered bool
	// Refuse says why a command, or a path, can't be answered truly by these
	// shells; nil for those that can. It may be nil.
	Refuse func(what string) error
}

// Gathering is a command for a POSIX shell that gives one whose standard output
// and error are gathered by dd where there is one, for a way on which each write
// costs: of a hundred small answers one message is made.
//
// Nothing is lost by it: dd passes on every full block, and where an answer is
// due the block is filled up (reeve_flush).
const Gathering = `command -v dd >/dev/null || exec /bin/sh
{ { /bin/sh -s gathered 2>&1 >&4 4>&- 5>&- 6>&- | dd ibs=4096 obs=3584 >&6 2>/dev/null 4>&- 5>&- 6>&-; } 4>&1 | dd ibs=4096 obs=3584 >&5 2>/dev/null 5>&- 6>&-; } 5>&1 6>&2`

// Streams are those of one shell.
type Streams struct {
	Stdin          io.Writer
	Stdout, Stderr io.Reader
	Close          func() error // as ShellConfig.Close
}

// shells is a target of one or several shells in the same place.
type shells struct {
	*pool
	uri      string
	gathered bool
	refusal  func(what string) error
	platform func() (Platform, error)
	mu       sync.Mutex
	all      []*shell // guarded by mu; all that were ever opened
}

// shell is one /bin/sh that reads commands from its standard input.
//
// Flow. The shell itself never runs what it is asked to: for each batch it
// starts a subshell in the background, which works off the questions one after
// another, and after each writes a frame:
//
//	stdout: LF marker SP sequence SP status LF
//	stderr: LF marker SP sequence LF, of commands alone
//
// A command is run by a /bin/sh of its own with empty standard input. Looks at
// files are functions of the subshell, which fork for no more than stat, head
// and readlink; all that a batch wants to have stat'ed is one question, and so
// are the files to be read.
//
// The marker is random, so no output holds it by accident. What lies before a
// frame is the command's output, byte for byte. The shell's own standard error
// is /dev/null, since shells comment there on processes that died; it keeps
// the real one for the commands as descriptor 3. Each command is exec'd in a
// subshell because dash redirects itself around a plain one.
//
// Because the shell stays free to read, a command that runs too long can be
// ended through the same stream: reeve_abort kills the batch with all its
// descendants and writes "marker abort" to both streams. The command that was
// meant gets its error, and what else was in the batch is sent again.
//
// Where output is gathered (Gathering), a batch fills up the last block when it
// is done, and the shell does so when it is told to: while a batch lasts, that
// is after flushAfter, and then less often. The filling is a frame too,
//
//	LF marker SP pad SP x… LF
//
// that may come in the middle of a command's output, and is taken out again: it
// is one write of less than PIPE_BUF, which nothing divides.
//
// One goroutine (loop) owns all state; two read the streams and one writes.
type shell struct {
	cfg      ShellConfig
	marker   []byte // LF, 32 hexadecimal digits, SP
	calls    chan []*call
	events   chan event
	lines    chan string
	closing  chan struct{}
	ended    chan struct{} // closed when loop is over; err is set before
	err      error
	once     sync.Once
	closeErr error
	trips    atomic.Int64 // batches sent
}

// event is what a reader or the writer reports to the loop.
type event struct {
	stream int // 0 stdout, 1 stderr, 2 stdin
	words  []string
	data   []byte
	over   bool  // more than MaxOutput bytes came without a frame
	err    error // the stream ended
}

// batchSize bounds how many commands are under way in one subshell.
const batchSize = 64

// flushAfter and flushMost bound how long an answer may lie gathered while
// others are worked on.
const (
	flushAfter = 50 * time.Millisecond
	flushMost  = time.Second
)

// NewShell makes a target of a POSIX shell that reads from stdin and writes to
// stdout and stderr. It returns once the shell has answered. The streams are
// the target's from then on.
func NewShell(ctx context.Context, stdin io.Writer, stdout, stderr io.Reader, cfg ShellConfig) (Target, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = CommandTimeout
	}
	if cfg.Hello == 0 {
		cfg.Hello = 30 * time.Second
	}
	first, err := startShell(ctx, stdin, stdout, stderr, cfg)
	if err != nil {
		return nil, err
	}
	t := &shells{uri: cfg.URI, gathered: cfg.Gathered, refusal: cfg.Refuse, all: []*shell{first}}
	var more func(ctx context.Context) (lane, error)
	if cfg.More != nil {
		more = func(ctx context.Context) (lane, error) { return t.another(ctx, cfg) }
	}
	t.pool = newPool(first, more)
	t.far = cfg.Gathered
	t.platform = sync.OnceValues(func() (Platform, error) { return detect(context.Background(), t) })
	return t, nil
}

func (t *shells) another(ctx context.Context, cfg ShellConfig) (lane, error) {
	streams, err := cfg.More(ctx)
	if err != nil {
		return nil, err
	}
	cfg.Close = streams.Close
	s, err := startShell(ctx, streams.Stdin, streams.Stdout, streams.Stderr, cfg)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, s)
	return s, nil
}

// setJobs opens a quarter fewer shells where what they write is gathered: on
// such a way another one costs as much as thirty commands.
func (t *shells) setJobs(n int) {
	if t.gathered {
		n -= n / 4
	}
	t.pool.setJobs(n)
}

func (t *shells) URI() string                                { return t.uri }
func (t *shells) Platform(context.Context) (Platform, error) { return t.platform() }
func (t *shells) Close() error                               { return t.close() }

func (t *shells) Run(ctx context.Context, cmd string) (CommandResult, error) {
	return answerOf[CommandResult](t, ctx, question{op: opRun, what: cmd})
}

func answerOf[T any](t *shells, ctx context.Context, q question) (T, error) {
	if err := t.refuse(q); err != nil {
		var none T
		return none, err
	}
	v, err := t.answer(t.ask(ctx, q))
	value, _ := v.(T)
	return value, err
}

// roundTrips is how many batches the shell that got most of them was sent:
// those follow one another, while other shells work beside it.
func (t *shells) roundTrips() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := int64(0)
	for _, s := range t.all {
		most = max(most, s.trips.Load())
	}
	return int(most)
}

// startShell takes the streams, and closes them when no shell answers.
func startShell(ctx context.Context, stdin io.Writer, stdout, stderr io.Reader, cfg ShellConfig) (*shell, error) {
	var random [16]byte
	rand.Read(random[:])
	s := &shell{
		cfg:     cfg,
		marker:  []byte("\n" + hex.EncodeToString(random[:]) + " "),
		calls:   make(chan []*call),
		events:  make(chan event),
		lines:   make(chan string, 4),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go s.read(0, stdout)
	go s.read(1, stderr)
	go s.write(stdin)
	if err := s.hello(ctx); err != nil {
		close(s.ended)
		s.close()
		return nil, err
	}
	go s.loop()
	return s, nil
}

// do hands calls to the loop, which always answers, also when a context ends
// or the stream does.
func (s *shell) do(calls []*call) {
	var wg sync.WaitGroup
	wg.Add(len(calls))
	for _, c := range calls {
		answered := c.answered
		c.answered = func(c *call) {
			c.answered = answered
			answered(c)
			wg.Done()
		}
	}
	select {
	case s.calls <- calls:
	case <-s.ended:
		for _, c := range calls {
			c.err = s.err
			c.answered(c)
		}
	}
	wg.Wait()
}

// close ends the shell, with the command that is still running in it, and
// waits for what was started here.
func (s *shell) close() error {
	s.once.Do(func() {
		select {
		case s.lines <- "reeve_abort; exit\n":
		default: // the writer is stuck
		}
		close(s.closing)
		if s.cfg.Close != nil {
			s.closeErr = s.cfg.Close()
		}
	})
	<-s.ended
	return s.closeErr
}

// preamble readies the shell. reeve_tree finds the batch and its descendants in
// /proc by the kernel's lists of children or, where it keeps none, by the
// parents of all processes, with builtins alone. reeve_abort stops them until no
// new one has come, kills them, and waits until each is dead or a zombie: one
// that is still dying could write after the abort was announced. reeve_mine
// makes sure that the batch's process is still the batch, not a stranger that
// was given its number later.
const preamble = `exec 3>&2 2>/dev/null
reeve_p=
reeve_tree() {
reeve_t=$reeve_p reeve_n=$reeve_p
while [ -n "$reeve_n" ]; do
reeve_c=
if [ -e /proc/$$/task/$$/children ]; then
for reeve_i in $reeve_n; do
for reeve_f in /proc/$reeve_i/task/*/children; do
reeve_l=
{ read -r reeve_l <"$reeve_f"; } 2>/dev/null
reeve_c="$reeve_c $reeve_l"
done
done
else
for reeve_f in /proc/[0-9]*/stat; do
{ read -r reeve_l <"$reeve_f"; } 2>/dev/null || continue
reeve_i=${reeve_l%% *}
set -- ${reeve_l##*) }
case " $reeve_n " in *" $2 "*) reeve_c="$reeve_c $reeve_i";; esac
done
fi
set -- $reeve_c
reeve_c=$*
reeve_n=$reeve_c reeve_t="$reeve_t $reeve_c"
done
}
reeve_mine() {
[ -e /proc/$$/stat ] || return 0
{ read -r reeve_l </proc/$reeve_p/stat; } 2>/dev/null || return 1
set -- ${reeve_l##*) }
[ "$2" = "$$" ]
}
reeve_abort() {
[ -n "$reeve_p" ] && reeve_mine || return
reeve_o=
while reeve_tree; [ "$reeve_t" != "$reeve_o" ]; do
kill -STOP $reeve_t
reeve_o=$reeve_t
done
kill -9 $reeve_t
for reeve_i in $reeve_t; do
while { read -r reeve_l </proc/$reeve_i/stat; } 2>/dev/null; do
set -- ${reeve_l##*) }
case $1 in Z|X) break;; esac
done
done
wait
}
reeve_flush() { :; }
if [ "$1" = gathered ]; then
reeve_x=xxxxxxx
for reeve_i in 1 2 3 4 5 6 7 8 9; do reeve_x=$reeve_x$reeve_x; done
reeve_flush() {
printf %s "$reeve_x"
printf %s "$reeve_x" >&3
}
fi
` + fileFunctions

func (s *shell) hello(ctx context.Context) error {
	mark := strings.TrimSpace(string(s.marker))
	// What comes back as it was sent shows a frame that a shell only keeps.
	s.lines <- fmt.Sprintf("reeve_e='\n%s echo\n'\n", mark) + preamble + fmt.Sprintf("reeve_x='\n%s pad '$reeve_x'\n'\nprintf '\\n%s hello\\n'; printf '\\n%s hello\\n' >&3; reeve_flush\n", mark, mark, mark)
	timer := time.NewTimer(s.cfg.Hello)
	defer timer.Stop()
	var said [2]bool
	var text []byte
	fail := func(reason string) error {
		return &LostError{URI: s.cfg.URI, Reason: reason, Stderr: short(strings.TrimSpace(string(text)))}
	}
	for !said[0] || !said[1] {
		select {
		case ev := <-s.events:
			if ev.stream == 1 {
				text = append(text, ev.data...)
			}
			switch {
			case ev.err != nil:
				// What the shell said last may still be on its way.
				select {
				case last := <-s.events:
					if last.stream == 1 {
						text = append(text, last.data...)
					}
				case <-time.After(time.Second):
				}
				return fail("the command ended before it gave a shell; it must start a POSIX shell that reads its standard input, such as docker exec -i NAME sh")
			case ev.over:
				return fail("the command wrote much but gave no shell")
			case len(ev.words) == 1 && ev.words[0] == "echo":
				return fail("the command writes back what it is sent, as a terminal does and a program that is no shell; it must start a POSIX shell that reads its standard input, without a terminal, such as docker exec -i NAME sh")
			case len(ev.words) == 1 && ev.words[0] == "hello":
				said[ev.stream] = true
			}
		case <-timer.C:
			return fail(fmt.Sprintf("no shell answered within %v; the command must start a POSIX shell that reads its standard input, without a terminal", s.cfg.Hello))
		case <-ctx.Done():
			return fmt.Errorf("target %s: %w", s.cfg.URI, context.Cause(ctx))
		}
	}
	return nil
}

// read cuts a stream at its frames.
func (s *shell) read(stream int, r io.Reader) {
	var buf []byte
	from, over := 0, false
	chunk := make([]byte, 64<<10)
	for {
		n, err := r.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for {
			i := bytes.Index(buf[from:], s.marker)
			if i < 0 {
				from = max(0, len(buf)-len(s.marker)+1)
				break
			}
			i += from
			rest := buf[i+len(s.marker):]
			eol := bytes.IndexByte(rest, '\n')
			if eol < 0 {
				from = i
				break
			}
			if bytes.HasPrefix(rest, []byte("pad ")) {
				buf, from = append(buf[:i], rest[eol+1:]...), i
				continue
			}
			words := strings.Fields(string(rest[:eol]))
			if !s.send(event{stream: stream, words: words, data: bytes.Clone(buf[:i])}) {
				return
			}
			buf, from, over = append([]byte(nil), rest[eol+1:]...), 0, false
		}
		if keep := len(buf) - from; len(buf) > MaxOutput+keep {
			if !over && !s.send(event{stream: stream, over: true}) {
				return
			}
			buf, from, over = append([]byte(nil), buf[from:]...), 0, true
		}
		if err != nil {
			s.send(event{stream: stream, data: buf, err: err})
			return
		}
	}
}

func (s *shell) write(w io.Writer) {
	for {
		select {
		case text := <-s.lines:
			if _, err := io.WriteString(w, text); err != nil {
				s.send(event{stream: 2, err: err})
				return
			}
		case <-s.closing:
			select {
			case text := <-s.lines:
				io.WriteString(w, text) // nobody is left to hear of an error
			default:
			}
			if c, ok := w.(io.Closer); ok {
				c.Close()
			}
			return
		}
	}
}

func (s *shell) send(ev event) bool {
	select {
	case s.events <- ev:
		return true
	case <-s.closing:
		return false
	case <-s.ended:
		return false
	}
}

// abort is a batch that is being ended because of one call.
type abort struct {
	call *call
	err  error
	seen [2]bool
}

// loop holds what is waiting and what was sent. sent[0] is the oldest call
// without its frames; have says before which call of sent each stream is.
func (s *shell) loop() {
	var (
		waiting []*call
		sent    []*call
		have    [2]int
		seq     int // of sent[0]
		ending  *abort
		since   *call // the call that the timer runs for
		pause   time.Duration
	)
	timer, tick := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	timer.Stop()
	tick.Stop()
	flush := func(after time.Duration) {
		if pause = min(after, flushMost, s.cfg.Timeout/4); s.cfg.Gathered {
			tick.Reset(pause)
		}
	}
	finish := func(c *call, err error) {
		if c.members == nil {
			c.err = err
			c.answered(c)
			return
		}
		waiting = append(waiting, c.resolve(err)...)
	}
	lost := func(err error) {
		s.err = err
		close(s.ended)
		for _, c := range append(sent, waiting...) {
			for _, m := range append(c.members, c) {
				if m.answered != nil {
					finish(m, err)
				}
			}
		}
	}
	for {
		if len(sent) == 0 && ending == nil && len(waiting) > 0 {
			n := min(len(waiting), batchSize)
			batch := waiting[:n:n]
			waiting = waiting[n:]
			batch = slices.DeleteFunc(batch, func(c *call) bool {
				over := c.ctx.Err() != nil
				if over {
					finish(c, context.Cause(c.ctx))
				}
				return over
			})
			if sent = together(batch); len(sent) > 0 {
				s.trips.Add(1)
				s.lines <- s.script(sent, seq)
				flush(flushAfter)
			}
			continue
		}
		var cancelled <-chan struct{}
		switch {
		case ending != nil:
		case len(sent) == 0:
			timer.Stop()
			since = nil
		default:
			if since != sent[0] {
				since = sent[0]
				timer.Reset(s.cfg.Timeout)
			}
			cancelled = sent[0].ctx.Done()
		}
		stop := func(c *call, err error) {
			ending = &abort{call: c, err: err}
			timer.Reset(10 * time.Second)
			mark := strings.TrimSpace(string(s.marker))
			s.lines <- fmt.Sprintf("reeve_abort; printf '\\n%s abort\\n'; printf '\\n%s abort\\n' >&3; reeve_flush\n", mark, mark)
		}

		select {
		case calls := <-s.calls:
			waiting = append(waiting, calls...)
		case <-s.closing:
			lost(ErrClosed)
			return
		case <-timer.C:
			if ending != nil {
				lost(&LostError{URI: s.cfg.URI, Reason: "a command could not be ended: " + ending.err.Error()})
				return
			}
			stop(sent[0], &TimeoutError{Command: sent[0].what, After: s.cfg.Timeout})
		case <-tick.C:
			if len(sent) > 0 && ending == nil {
				s.lines <- "reeve_flush\n"
				flush(2 * pause)
			}
		case <-cancelled:
			stop(sent[0], context.Cause(sent[0].ctx))
		case ev := <-s.events:
			switch {
			case ev.err != nil:
				lost(&LostError{URI: s.cfg.URI, Reason: "its shell ended", Stderr: stderrTail(ev)})
				return
			case ev.over:
				if i := frameOf(ev.stream, sent, have); ending == nil && i < len(sent) {
					stop(sent[i], &OutputError{What: fmt.Sprintf("command %q", short(sent[i].what)), Limit: MaxOutput})
				}
			case len(ev.words) == 1 && ev.words[0] == "abort":
				if ending != nil {
					ending.seen[ev.stream] = true
				}
			default:
				i := frameOf(ev.stream, sent, have)
				if !record(ev, sent, i, seq) {
					lost(&LostError{URI: s.cfg.URI, Reason: "its answers are out of step; a process that a command left behind may be writing to the stream"})
					return
				}
				have[ev.stream] = i + 1
				flush(flushAfter)
			}
		}

		for len(sent) > 0 && have[0] > 0 && (have[1] > 0 || sent[0].op != opRun) {
			finish(sent[0], nil)
			sent, seq = sent[1:], seq+1
			have[0]--
			have[1] = max(0, have[1]-1)
		}
		if ending != nil && ending.seen[0] && ending.seen[1] {
			again := make([]*call, 0, len(sent)+len(waiting))
			for _, c := range sent {
				if c == ending.call {
					finish(c, ending.err)
				} else {
					again = append(again, c)
				}
			}
			seq += len(sent)
			waiting, sent, have, ending, since = append(again, waiting...), nil, [2]int{}, nil, nil
		}
	}
}

// frameOf is the index of the call that the next frame of a stream ends.
func frameOf(stream int, sent []*call, have [2]int) int {
	i := have[stream]
	for stream == 1 && i < len(sent) && sent[i].op != opRun {
		i++
	}
	return i
}

// record takes one frame into the call sent[i] that it ends.
func record(ev event, sent []*call, i, seq int) bool {
	if i >= len(sent) || len(ev.words) != 2-ev.stream || ev.words[0] != strconv.Itoa(seq+i) {
		return false
	}
	if ev.stream == 1 {
		sent[i].result.Stderr = ev.data
		return true
	}
	status, err := strconv.Atoi(ev.words[1])
	sent[i].result.Stdout, sent[i].result.ExitStatus = ev.data, status
	return err == nil
}

func stderrTail(ev event) string {
	if ev.stream != 1 {
		return ""
	}
	return short(strings.TrimSpace(string(ev.data)))
}

// script is what the shell reads to work off calls, numbered from seq.
func (s *shell) script(calls []*call, seq int) string {
	mark := strings.TrimSpace(string(s.marker))
	var b strings.Builder
	b.WriteString("(\n")
	for i, c := range calls {
		if c.op == opRun {
			fmt.Fprintf(&b, "(exec /bin/sh -c %s </dev/null 2>&3 3>&-)\n", Quote(c.what))
		} else {
			fmt.Fprintf(&b, "%s </dev/null 3>&-\n", c.function())
		}
		fmt.Fprintf(&b, "printf '\\n%s %d %%d\\n' $?", mark, seq+i)
		if c.op == opRun {
			fmt.Fprintf(&b, "; printf '\\n%s %d\\n' >&3", mark, seq+i)
		}
		if i+1 == len(calls) || c.ctx != calls[i+1].ctx {
			b.WriteString("\nreeve_flush")
		}
		b.WriteString("\n")
	}
	b.WriteString(") & reeve_p=$!\n")
	return b.String()
}

// Quote writes s as one word for a POSIX shell.
func Quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// openShell starts command, the caller's own words for this machine's shell,
// and takes its streams.
func openShell(ctx context.Context, uri, command string) (Target, error) {
	if strings.TrimSpace(command) == "" {
		return nil, fmt.Errorf("target %q: the command is missing; write one that gives a shell, such as shell:docker exec -i NAME sh", uri)
	}
	more := func(context.Context) (Streams, error) { return startCommand(command) }
	first, err := more(ctx)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", uri, err)
	}
	return NewShell(ctx, first.Stdin, first.Stdout, first.Stderr, ShellConfig{URI: uri, Close: first.Close, More: more})
}

func startCommand(command string) (Streams, error) {
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return Streams{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Streams{}, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return Streams{}, err
	}
	if err := cmd.Start(); err != nil {
		return Streams{}, err
	}
	return Streams{Stdin: stdin, Stdout: stdout, Stderr: stderr, Close: func() error {
		// A client such as docker's must carry the shell's last line over
		// before it may be killed.
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var late bool
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
			late = true
		}
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if late {
			<-ended // its status says only that it was killed
		}
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return err
	}}, nil
}
