package target

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A remote is a root filesystem that ServeFiles looks at where it lies, for a
// place that has no shell. The questions of a batch are one message, so that a
// scan takes as few round trips as by a shell:
//
//	→ {"questions": [{"id": 1, "op": "stat", "path": "/etc/passwd"}, …]}
//	← {"id": 1, "info": {…}}
//	← {"id": 2, "errno": 2}
//
// Before each message stands its length, four bytes, the highest first. Answers
// come in any order; the end of the questions ends the server.
type remote struct {
	*pool
	uri      string
	way      *wire
	platform func() (Platform, error)
}

type wireQuestions struct {
	Questions []wireQuestion `json:"questions"`
}

type wireQuestion struct {
	ID    uint64 `json:"id"`
	Op    string `json:"op"`
	Path  string `json:"path"`
	Limit int64  `json:"limit,omitempty"`
}

type wireAnswer struct {
	ID    uint64    `json:"id"`
	Info  *FileInfo `json:"info,omitempty"`
	Data  []byte    `json:"data,omitempty"`
	Names []string  `json:"names,omitempty"`
	Text  string    `json:"text,omitempty"`
	// Errno or Error says why there is no answer; TooLong, that it has more
	// bytes than the question's limit.
	Errno   int    `json:"errno,omitempty"`
	Error   string `json:"error,omitempty"`
	TooLong bool   `json:"tooLong,omitempty"`
}

const (
	// maxFrame bounds one message: the largest file, in base64, and its frame.
	maxFrame = MaxOutput/3*4 + 4096
	// readWithin bounds one look at a file, since some wait when they are read.
	readWithin = 30 * time.Second
	// silence is how long a server that was asked may answer nothing.
	silence = 2 * readWithin
)

// NewRemote makes a target of the streams to a ServeFiles. Nothing is run on
// it. The streams are the target's from then on; their Stderr isn't read.
func NewRemote(uri string, s Streams) Target {
	t := &remote{uri: uri, way: &wire{uri: uri, s: s, under: map[uint64]*call{}, ended: make(chan struct{})}}
	t.pool = newPool(t.way, nil)
	t.platform = sync.OnceValues(func() (Platform, error) { return detect(context.Background(), t) })
	go t.way.read()
	return t
}

func (t *remote) URI() string                                { return t.uri }
func (t *remote) Platform(context.Context) (Platform, error) { return t.platform() }
func (t *remote) Close() error                               { return t.close() }

func (t *remote) Run(context.Context, string) (CommandResult, error) {
	return CommandResult{}, ErrNoCommands
}

func (t *remote) Stat(ctx context.Context, path string, follow bool) (FileInfo, error) {
	q := question{op: opLstat, what: path}
	if follow {
		q.op = opStat
	}
	return remoteAnswer[FileInfo](ctx, t, q)
}

func (t *remote) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	return remoteAnswer[[]byte](ctx, t, question{op: opRead, what: path, limit: limit})
}

func (t *remote) ReadDir(ctx context.Context, path string) ([]string, error) {
	return remoteAnswer[[]string](ctx, t, question{op: opList, what: path})
}

func (t *remote) Readlink(ctx context.Context, path string) (string, error) {
	return remoteAnswer[string](ctx, t, question{op: opReadlink, what: path})
}

func remoteAnswer[T any](ctx context.Context, t *remote, q question) (T, error) {
	v, err := t.answer(t.ask(ctx, q))
	value, _ := v.(T)
	return value, err
}

// takes reports that commands, which are refused, don't take the way.
func (t *remote) takes(q question) bool { return q.op != opRun }

func (t *remote) refuse(question) error { return nil }

func (t *remote) roundTrips() int { return int(t.way.trips.Load()) }

func (t *remote) answer(c *call) (any, error) {
	if c.err != nil {
		return nil, c.err
	}
	var a wireAnswer
	if err := json.Unmarshal(c.result.Stdout, &a); err != nil {
		return nil, pathError(c.verb(), c.what, fmt.Errorf("the answer is malformed: %w", err))
	}
	switch {
	case a.TooLong:
		return nil, &OutputError{What: "file " + c.what, Limit: c.limit}
	case a.Errno != 0:
		return nil, pathError(c.verb(), c.what, syscall.Errno(a.Errno))
	case a.Error != "":
		return nil, pathError(c.verb(), c.what, errors.New(a.Error))
	}
	switch c.op {
	case opRead:
		return a.Data, nil
	case opList:
		return a.Names, nil
	case opReadlink:
		return a.Text, nil
	}
	if a.Info == nil {
		return nil, pathError(c.verb(), c.what, errors.New("the answer is empty"))
	}
	return *a.Info, nil
}

// wire is the one lane of a remote.
type wire struct {
	uri   string
	s     Streams
	trips atomic.Int64
	once  sync.Once
	ended chan struct{} // closed when nothing more can come

	mu     sync.Mutex // guards what follows
	last   uint64
	under  map[uint64]*call // nil once the way is lost
	silent *time.Timer      // of the batch under way
}

func (w *wire) do(calls []*call) {
	var wg sync.WaitGroup
	wg.Add(len(calls))
	asked := wireQuestions{Questions: make([]wireQuestion, len(calls))}
	w.mu.Lock()
	lost := w.under == nil
	// The server is in a pod that may be hostile, and some ask with no end of
	// their own.
	w.silent = time.AfterFunc(silence, w.cut)
	defer w.silent.Stop()
	for i, c := range calls {
		w.last++
		id := w.last
		// Whoever gives up is answered; what comes later is nobody's.
		stop := context.AfterFunc(c.ctx, func() { w.settle(id, func(c *call) { c.err = context.Cause(c.ctx) }) })
		answered := c.answered
		c.answered = func(c *call) {
			stop()
			c.answered = answered
			answered(c)
			wg.Done()
		}
		asked.Questions[i] = wireQuestion{ID: id, Op: c.op, Path: c.what, Limit: c.limit}
		if !lost {
			w.under[id] = c
		}
	}
	w.mu.Unlock()
	if lost {
		for _, c := range calls {
			c.err = w.lost()
			c.answered(c)
		}
	} else if err := writeFrame(w.s.Stdin, asked); err != nil {
		w.end()
	}
	w.trips.Add(1)
	wg.Wait()
}

func (w *wire) settle(id uint64, set func(*call)) {
	w.mu.Lock()
	c := w.under[id]
	delete(w.under, id)
	if c != nil {
		w.silent.Reset(silence)
	}
	w.mu.Unlock()
	if c != nil {
		set(c)
		c.answered(c)
	}
}

func (w *wire) read() {
	defer close(w.ended)
	defer w.end()
	r := bufio.NewReaderSize(w.s.Stdout, 64<<10)
	for {
		data, err := readFrame(r)
		if err != nil {
			return
		}
		var a struct {
			ID uint64 `json:"id"`
		}
		if json.Unmarshal(data, &a) != nil {
			return
		}
		w.settle(a.ID, func(c *call) { c.result.Stdout = data })
	}
}

// end answers what is under way, and what will be asked, with a LostError.
func (w *wire) end() {
	w.mu.Lock()
	under := w.under
	w.under = nil
	w.mu.Unlock()
	for _, c := range under {
		c.err = w.lost()
		c.answered(c)
	}
}

// cut ends a way on which nothing comes, and a write that nobody takes.
func (w *wire) cut() {
	w.end()
	w.once.Do(func() { w.s.Close() })
}

func (w *wire) lost() error {
	return &LostError{URI: w.uri, Reason: "the connection to the scanner beside it ended"}
}

func (w *wire) close() (err error) {
	w.once.Do(func() { err = w.s.Close() })
	<-w.ended
	return err
}

// ServeFiles answers a NewRemote's questions about the root filesystem at dir
// until in ends. Process self, as it is called there, is whom /proc/self leads
// to.
func ServeFiles(ctx context.Context, dir string, self int, in io.Reader, out io.Writer) error {
	f, err := openFiles(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	f.self = self
	r, w := bufio.NewReader(in), bufio.NewWriterSize(out, 64<<10)
	for {
		data, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var asked wireQuestions
		if err := json.Unmarshal(data, &asked); err != nil {
			return fmt.Errorf("question is malformed: %w", err)
		}
		for _, q := range asked.Questions {
			begin := time.Now()
			err := writeFrame(w, f.wireAnswer(ctx, q))
			if errors.Is(err, errFrame) {
				err = writeFrame(w, wireAnswer{ID: q.ID, Error: err.Error()})
			}
			if err == nil && time.Since(begin) > time.Second {
				err = w.Flush() // who asked must not take this for silence
			}
			if err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

func (f *files) wireAnswer(ctx context.Context, q wireQuestion) wireAnswer {
	ctx, cancel := context.WithTimeoutCause(ctx, readWithin, fmt.Errorf("no answer within %v", readWithin))
	defer cancel()
	a := wireAnswer{ID: q.ID}
	var err error
	switch q.Op {
	case opStat, opLstat:
		a.Info = new(FileInfo)
		*a.Info, err = f.Stat(ctx, q.Path, q.Op == opStat)
	case opRead:
		a.Data, err = f.ReadFile(ctx, q.Path, min(q.Limit, MaxOutput))
	case opList:
		a.Names, err = f.ReadDir(ctx, q.Path)
	case opReadlink:
		a.Text, err = f.Readlink(ctx, q.Path)
	default:
		err = fmt.Errorf("unknown question %q", q.Op)
	}
	if err == nil {
		return a
	}
	a = wireAnswer{ID: q.ID}
	var number syscall.Errno
	var long *OutputError
	switch {
	case errors.As(err, &long):
		a.TooLong = true
	case errors.As(err, &number) && number != 0:
		a.Errno = int(number)
	case errors.Is(err, fs.ErrNotExist):
		a.Errno = int(syscall.ENOENT)
	default:
		a.Error = plain(err).Error()
	}
	return a
}

var errFrame = errors.New("a message is too long")

func writeFrame(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data) > maxFrame {
		return fmt.Errorf("%w: %d bytes, of %d allowed", errFrame, len(data), maxFrame)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data))), data...))
	return err
}

// readFrame answers io.EOF where the stream ends between two frames.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes, of %d allowed", errFrame, n, maxFrame)
	}
	// Memory grows with what comes, not with what is announced.
	data, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(data) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}
