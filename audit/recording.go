package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Recording is what went over a caller's terminal, without the document.
type Recording struct {
	ID    string
	Began time.Time
	Ended time.Time
	// Actor, Credential, Holder, Agent and Service are those of a [Record].
	Actor, Credential, Holder string
	Agent, Service            string
	Namespace, Pod, Container string
	// Command is empty for an attach.
	Command []string
	// Width and Height are the terminal's at the beginning.
	Width, Height int
	// Size and Digest are the document's.
	Size   int64
	Digest string
	// Cause says what broke the session off; empty for an orderly end.
	Cause string
}

// ErrNoRecording: there is no recording of that id.
var ErrNoRecording = errors.New("no such recording")

// RecordingFilter says which recordings are asked for; what is empty lets all
// pass. They are listed with the newest first.
type RecordingFilter struct {
	Actor, Holder, Agent string
	Limit                int
	Before               string // an id
}

// RecordingStore keeps recordings. It is implemented in store.
type RecordingStore interface {
	// PutDocument keeps a document of at most limit bytes.
	PutDocument(r io.Reader, limit int64) (digest string, size int64, err error)
	// SaveRecording keeps a recording whose document is kept already. One that
	// is there with its id stays.
	SaveRecording(ctx context.Context, r Recording) error
	// Recording is the one of an id, or an error that wraps ErrNoRecording.
	Recording(ctx context.Context, id string) (Recording, error)
	Recordings(ctx context.Context, f RecordingFilter) ([]Recording, error)
	Document(digest string) (io.ReadCloser, error)
}

// Spool is the folder of the sessions that are being recorded.
type Spool struct {
	dir   string
	store RecordingStore
	most  int64
	log   *slog.Logger
}

// DefaultRecording is how long a recording may get, in bytes.
const DefaultRecording = 256 << 20

// ErrLong ends a session whose recording is as long as it may get.
var ErrLong = errors.New("the session's recording is as long as this hub allows (audit.recordings.maxBytes)")

// OpenSpool makes the folder if it isn't there, and stores what a process left
// in it that broke off.
func OpenSpool(ctx context.Context, dir string, store RecordingStore, most int64, log *slog.Logger) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, store: store, most: most, log: log}
	left, err := LeftRecordings(dir)
	if err != nil {
		return nil, err
	}
	for _, path := range left {
		if err := s.keep(ctx, path, errBroke); err != nil {
			log.ErrorContext(ctx, "recording that the hub left can't be stored, will retry at the next start", "file", path, "error", err)
		}
	}
	return s, nil
}

// LeftRecordings are the files in a spool's folder, of sessions that last, or of a
// process that broke off.
func LeftRecordings(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, "*"+suffix))
}

const suffix = ".cast"

var errBroke = errors.New("the hub broke off")

// Tape is one session that is being recorded. Its methods may be called
// concurrently.
type Tape struct {
	spool *Spool
	id    string

	mu      sync.Mutex
	file    *os.File // guarded by mu; nil after Close
	out     *bufio.Writer
	began   time.Time
	size    int64
	partial []byte // guarded by mu; a character's beginning
	err     error  // guarded by mu; of the first write that failed
}

// Begin begins the recording of a session. Of r, ID, Width, Height, Size and
// Digest are set by the spool.
func (s *Spool) Begin(r Recording) (*Tape, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	r.ID, r.Began = id.String(), time.Now().UTC()
	about, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, r.ID+suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	t := &Tape{spool: s, id: r.ID, file: f, out: bufio.NewWriter(f), began: r.Began}
	t.out.Write(append(about, '\n'))
	return t, t.out.Flush()
}

// ID is the recording's.
func (t *Tape) ID() string { return t.id }

// Output takes what the terminal shows. Its error ends the session: what isn't
// recorded mustn't happen.
func (t *Tape) Output(p []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A character may come in two pieces, which JSON can't hold.
	p = append(t.partial, p...)
	whole := len(p) - unfinished(p)
	t.partial = append([]byte(nil), p[whole:]...)
	if whole == 0 {
		return t.err
	}
	return t.event("o", string(p[:whole]))
}

// Resize takes a terminal's new size.
func (t *Tape) Resize(width, height int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.event("r", fmt.Sprintf("%dx%d", width, height))
}

// event is called with mu held.
func (t *Tape) event(code, data string) error {
	if t.err != nil {
		return t.err
	}
	if t.file == nil {
		return os.ErrClosed
	}
	line, err := json.Marshal([]any{json.Number(fmt.Sprintf("%.6f", time.Since(t.began).Seconds())), code, data})
	if err != nil {
		return err
	}
	if t.size += int64(len(line)) + 1; t.size > t.spool.most {
		t.err = ErrLong
		return t.err
	}
	t.out.Write(append(line, '\n'))
	// On the disk's way at once: a hub that is killed loses no more than the
	// system does.
	t.err = t.out.Flush()
	return t.err
}

// unfinished is how many bytes at p's end begin a character that isn't whole.
func unfinished(p []byte) int {
	for i := 1; i <= min(len(p), utf8.UTFMax-1); i++ {
		if b := p[len(p)-i]; utf8.RuneStart(b) {
			if utf8.FullRune(p[len(p)-i:]) {
				return 0
			}
			return i
		}
	}
	return 0
}

// Close ends the recording and stores it. cause is what broke the session off,
// if something did.
func (t *Tape) Close(ctx context.Context, cause error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	if len(t.partial) > 0 {
		t.event("o", string(t.partial))
	}
	if cause == nil {
		cause = t.err
	}
	err := errors.Join(t.out.Flush(), t.file.Sync(), t.file.Close())
	path := t.file.Name()
	t.file = nil
	if kept := t.spool.keep(ctx, path, cause); kept != nil {
		return fmt.Errorf("recording %s stays in %s until the hub's next start: %w", t.id, path, errors.Join(err, kept))
	}
	return nil
}

// maxAbout is far above the longest description of a session.
const maxAbout = 1 << 20

// keep stores the recording in a file of the spool, and removes that.
func (s *Spool) keep(ctx context.Context, path string, cause error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	about, err := readLine(in, maxAbout)
	var r Recording
	if err == nil {
		err = json.Unmarshal(about, &r)
	}
	if err != nil {
		return fmt.Errorf("its first line: %w", err)
	}
	if r.Width, r.Height, r.Ended, err = s.survey(path, r.Began); err != nil {
		return err
	}
	if cause != nil {
		r.Cause = cause.Error()
	}
	head, err := header(r)
	if err != nil {
		return err
	}
	body := io.MultiReader(strings.NewReader(head), &wholeLines{in: in})
	if r.Digest, r.Size, err = s.store.PutDocument(body, s.most+maxAbout); err != nil {
		return err
	}
	if err := s.store.SaveRecording(ctx, r); err != nil {
		return err
	}
	return os.Remove(path)
}

// header is the first line of an asciicast v2:
// https://docs.asciinema.org/manual/asciicast/v2/.
func header(r Recording) (string, error) {
	where := r.Agent + " " + r.Namespace + "/" + r.Pod
	if r.Container != "" {
		where += "/" + r.Container
	}
	h := struct {
		Version   int     `json:"version"`
		Width     int     `json:"width"`
		Height    int     `json:"height"`
		Timestamp int64   `json:"timestamp"`
		Duration  float64 `json:"duration,omitempty"`
		Command   string  `json:"command,omitempty"`
		Title     string  `json:"title"`
	}{2, r.Width, r.Height, r.Began.Unix(), r.Ended.Sub(r.Began).Seconds(), strings.Join(r.Command, " "), where}
	line, err := json.Marshal(h)
	return string(line) + "\n", err
}

// The size of a terminal that never says one.
const (
	usualWidth  = 80
	usualHeight = 24
)

// survey finds the terminal's first size, and when the last event was. The
// events are ours; a last line that was cut off doesn't count.
func (s *Spool) survey(path string, began time.Time) (width, height int, ended time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, time.Time{}, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	ended = began
	if _, err := readLine(in, maxAbout); err != nil {
		return 0, 0, time.Time{}, err
	}
	for {
		line, err := readLine(in, int(s.most)+maxAbout)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, 0, time.Time{}, err
		}
		var at float64
		var code, data string
		if err := json.Unmarshal(line, &[]any{&at, &code, &data}); err != nil {
			return 0, 0, time.Time{}, fmt.Errorf("an event: %w", err)
		}
		ended = began.Add(time.Duration(at * float64(time.Second)))
		if code == "r" && width == 0 {
			if _, err := fmt.Sscanf(data, "%dx%d", &width, &height); err != nil {
				return 0, 0, time.Time{}, fmt.Errorf("a size: %w", err)
			}
		}
	}
	if width == 0 {
		width, height = usualWidth, usualHeight
	}
	return width, height, ended, nil
}

var errLongLine = errors.New("a line is too long")

// readLine reads a line of at most most bytes, with its end; io.EOF says that
// no whole one is left.
func readLine(in *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > most {
			return nil, errLongLine
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// wholeLines leaves out a last line that was cut off.
type wholeLines struct {
	in   *bufio.Reader
	line []byte
}

func (w *wholeLines) Read(p []byte) (int, error) {
	for len(w.line) == 0 {
		line, err := readLine(w.in, 1<<30)
		if err != nil {
			return 0, err
		}
		w.line = line
	}
	n := copy(p, w.line)
	w.line = w.line[n:]
	return n, nil
}
