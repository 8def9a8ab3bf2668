package audit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/audit"
)

var (
	public, private, _ = ed25519.GenerateKey(nil)
	errSignature       = errors.New("another key's")
)

func sign(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil }

func check(m, signature []byte) error {
	if !ed25519.Verify(public, m, signature) {
		return errSignature
	}
	return nil
}

// memory is a store that can be made to fail. What the real ones do is
// store/storetest's.
type memory struct {
	audit.Store
	mu      sync.Mutex
	entries []audit.Entry
	anchors []audit.Anchor
	fail    error
	// lost says that a failing append has stored all the same.
	lost bool
}

func (m *memory) AppendAudit(_ context.Context, list []audit.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil || m.lost {
		m.entries = append(m.entries, list...)
	}
	return m.fail
}

func (m *memory) AuditHead(context.Context, string) (audit.Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.entries) == 0 {
		return audit.Head{}, nil
	}
	e := m.entries[len(m.entries)-1]
	return audit.Head{Seq: e.Seq, Hash: e.Hash, Body: e.Body}, nil
}

func (m *memory) AuditEntries(_ context.Context, _ string, after int64, limit int) (list []audit.Entry, err error) {
	for _, e := range m.entries {
		if e.Seq > after && len(list) < limit {
			list = append(list, e)
		}
	}
	return list, nil
}

func (m *memory) Anchors(context.Context, string) ([]audit.Anchor, error) { return m.anchors, nil }

func (m *memory) AddAnchor(_ context.Context, a audit.Anchor) error {
	m.anchors = append(m.anchors, a)
	return nil
}

func (m *memory) AuditChains(context.Context) ([]string, error) { return []string{"r"}, nil }

func (m *memory) TrimPoint(_ context.Context, _ string, before time.Time, _ int) (audit.Head, error) {
	h := audit.Head{}
	for _, e := range m.entries[:len(m.entries)-1] {
		if !e.Index.At.Before(before) {
			break
		}
		h = audit.Head{Seq: e.Seq, Hash: e.Hash}
	}
	return h, nil
}

func (m *memory) TrimAudit(_ context.Context, a audit.Anchor) error {
	m.entries = slices.DeleteFunc(m.entries, func(e audit.Entry) bool { return e.Seq <= a.Seq })
	m.anchors = append(slices.DeleteFunc(m.anchors, func(o audit.Anchor) bool { return o.Seq <= a.Seq }), a)
	return nil
}

func (m *memory) set(fail error, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail, m.lost = fail, lost
}

func (m *memory) records(t *testing.T) (out []audit.Record) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		r, err := audit.ParseRecord(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func open(t *testing.T, m *memory, change func(*audit.Config)) *audit.Log {
	t.Helper()
	cfg := audit.Config{Store: m, Chain: "r", Sign: sign, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	l, _, err := audit.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// once runs a log that ends as soon as it has written what it has.
func once(t *testing.T, l *audit.Log) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	l.Run(ctx)
}

func verify(m *memory) (audit.Verified, error) {
	v := audit.NewVerifier("r", m.anchors, check)
	for _, e := range m.entries {
		if err := v.Next(e); err != nil {
			return audit.Verified{}, err
		}
	}
	return v.End()
}

// TestVerifier_Tampered changes a good chain in every way that a database
// allows, and names the record where it shows.
func TestVerifier_Tampered(t *testing.T) {
	fill := func(t *testing.T) *memory {
		m := &memory{}
		for range 3 { // three anchors: 5, 10, 15
			l := open(t, m, nil)
			for i := range 4 {
				l.Add(audit.Record{Kind: audit.Request, Action: "get", Path: fmt.Sprint("/", i), Status: 200})
			}
			once(t, l)
		}
		return m
	}
	if v, err := verify(fill(t)); err != nil || v.Records != 15 || v.Anchored != 15 || v.First != 1 || v.Last != 15 {
		t.Fatalf("good chain: %+v, %v", v, err)
	}
	rewrite := func(m *memory, from int) { // with right hashes, as who knows how would
		fresh := &memory{}
		w := open(t, fresh, nil)
		for _, e := range m.entries {
			r, _ := audit.ParseRecord(e.Body)
			if e.Seq == int64(from) {
				r.Path = "/other"
			}
			w.Add(r)
		}
		once(t, w)
		for i := range m.entries {
			m.entries[i] = fresh.entries[i]
		}
	}
	for name, tc := range map[string]struct {
		change func(*memory)
		seq    int64
	}{
		"a body":                   {func(m *memory) { m.entries[6].Body = strings.Replace(m.entries[6].Body, "200", "404", 1) }, 7},
		"a hash":                   {func(m *memory) { m.entries[6].Hash = m.entries[5].Hash }, 7},
		"what it is found by":      {func(m *memory) { m.entries[6].Index.Status = 404 }, 7},
		"one is gone":              {func(m *memory) { m.entries = slices.Delete(m.entries, 6, 7) }, 7},
		"two change places":        {func(m *memory) { m.entries[6], m.entries[7] = m.entries[7], m.entries[6] }, 7},
		"one is twice":             {func(m *memory) { m.entries = slices.Insert(m.entries, 7, m.entries[6]) }, 7},
		"the beginning is gone":    {func(m *memory) { m.entries = m.entries[5:] }, 5},
		"the end is gone":          {func(m *memory) { m.entries = m.entries[:12] }, 13},
		"all is gone":              {func(m *memory) { m.entries = nil }, 1},
		"all is rewritten from 7":  {func(m *memory) { rewrite(m, 7) }, 10},
		"an anchor's signature":    {func(m *memory) { m.anchors[1].Signature[0] ^= 1 }, 10},
		"an anchor becomes a trim": {func(m *memory) { m.anchors[0].Kind = audit.Trim; m.entries = m.entries[5:] }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			m := fill(t)
			tc.change(m)
			_, err := verify(m)
			var b *audit.Broken
			if !errors.As(err, &b) || b.Seq != tc.seq {
				t.Errorf("%v, want broken at %d", err, tc.seq)
			}
		})
	}
}

func TestLog_trims_what_is_old(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		old := open(t, m, nil)
		old.Add(audit.Record{Kind: audit.Request, Action: "get"})
		once(t, old)
		time.Sleep(24 * time.Hour)
		young := open(t, m, nil)
		young.Add(audit.Record{Kind: audit.Request, Action: "list"})
		once(t, young)
		time.Sleep(time.Hour)
		once(t, open(t, m, func(c *audit.Config) { c.Keep = 12 * time.Hour }))
		v, err := verify(m)
		if want := (audit.Verified{Chain: "r", Records: 3, First: 3, Last: 5, Hash: v.Hash, Anchored: 5}); err != nil || v != want {
			t.Errorf("%+v, %v; want %+v", v, err, want)
		}
		m.entries = m.entries[1:]
		var b *audit.Broken
		if _, err := verify(m); !errors.As(err, &b) || b.Seq != 3 {
			t.Errorf("the first that stayed is gone: %v", err)
		}
	})
}

func TestLog_end_is_cut_off(t *testing.T) {
	m := &memory{}
	once(t, open(t, m, nil))
	l := open(t, m, nil)
	l.Add(audit.Record{Kind: audit.Request})
	once(t, l)
	m.entries = m.entries[:1]
	var out bytes.Buffer
	once(t, open(t, m, func(c *audit.Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) }))
	if !strings.Contains(out.String(), "newest audit records are missing") {
		t.Errorf("the log doesn't tell: %s", &out)
	}
	var b *audit.Broken
	if _, err := verify(m); !errors.As(err, &b) || b.Seq != 2 {
		t.Errorf("%v, want broken at 2", err)
	}
}

// Who has the database alone removes the anchors with what they are of, or
// makes a chain of his own up to them.
func TestLog_end_is_cut_off_with_its_anchors(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*memory)
		logged string
		broken int64
	}{
		"cut off": {func(m *memory) { m.entries, m.anchors = m.entries[:1], m.anchors[:1] }, "newest audit records are missing", 2},
		"another": {func(m *memory) { m.entries[1].Hash = m.entries[0].Hash }, "were changed in the database", 2},
		"nothing": {func(*memory) {}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			m, note := &memory{}, filepath.Join(t.TempDir(), "anchor")
			with := func(w io.Writer) *audit.Log {
				return open(t, m, func(c *audit.Config) { c.Note, c.Logger = note, slog.New(slog.NewTextHandler(w, nil)) })
			}
			once(t, with(io.Discard))
			once(t, with(io.Discard))
			tt.change(m)
			var out bytes.Buffer
			once(t, with(&out))
			if !strings.Contains(out.String(), tt.logged) || tt.logged == "" && strings.Contains(out.String(), "ERROR") {
				t.Errorf("logged: %s", &out)
			}
			var b *audit.Broken
			if _, err := verify(m); tt.broken > 0 && (!errors.As(err, &b) || b.Seq != tt.broken) || tt.broken == 0 && err != nil {
				t.Errorf("%v, want broken at %d", err, tt.broken)
			}
		})
	}
	note := filepath.Join(t.TempDir(), "anchor")
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	m := &memory{}
	once(t, open(t, m, func(c *audit.Config) { c.Note, c.Logger = note, slog.New(slog.NewTextHandler(&out, nil)) }))
	if _, err := verify(m); err != nil || !strings.Contains(out.String(), "can't be read") {
		t.Errorf("a note that was lost: %v, logged: %s", err, &out)
	}
}

func TestLog_refusals_are_counted_together(t *testing.T) {
	m := &memory{}
	l := open(t, m, nil)
	for i := range 100 {
		l.Add(audit.Record{Kind: audit.Request, Status: 401, Remote: fmt.Sprintf("192.0.2.%d:%d", i%2, i)})
		l.Add(audit.Record{Kind: audit.Request, Status: 429, Credential: "token/1", Agent: "east"})
		l.Add(audit.Record{Kind: audit.Request, Status: 403, Credential: "token/1", Error: "a rule"})
		l.Add(audit.Record{Kind: audit.Change, Status: 403, Remote: "192.0.2.1:1"})
	}
	once(t, l)
	counts := map[int][]int{}
	for _, r := range m.records(t) {
		counts[r.Status] = append(counts[r.Status], r.Count)
	}
	slices.Sort(counts[403])
	slices.Sort(counts[401])
	want := map[int][]int{401: {0, 0, 49, 49}, 429: {0, 99}, 403: append(make([]int, 101), 99), 0: {0}}
	if d := cmp.Diff(want, counts); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// However many addresses refusals come from, they are few records.
func TestLog_refusals_from_everywhere(t *testing.T) {
	m := &memory{}
	l := open(t, m, nil)
	path := strings.Repeat("x", 100_000)
	for i := range 20_000 {
		l.Add(audit.Record{Kind: audit.Request, Status: 401, Remote: fmt.Sprintf("[2001:db8::%x]:443", i), Path: path})
	}
	once(t, l)
	var refusals, size int
	list := m.records(t)
	for _, r := range list {
		if r.Status == 401 {
			refusals += max(r.Count, 1)
			size += len(r.Path)
		}
	}
	if refusals != 20_000 || len(list) > 1100 || size > 1100*4<<10 {
		t.Errorf("%d refusals in %d records, with %d bytes of paths", refusals, len(list), size)
	}
}

// TestLog_full shows both rules of what happens when the database is away.
func TestLog_full(t *testing.T) {
	away := errors.New("the database is away")
	t.Run("refuse", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{fail: away}
			l := open(t, m, func(c *audit.Config) { c.Queue = 3 })
			ctx, stop := context.WithCancel(t.Context())
			var run sync.WaitGroup
			run.Go(func() { l.Run(ctx) })
			l.Add(audit.Record{Kind: audit.Request, Path: "0"})
			synctest.Wait()
			time.Sleep(time.Second) // the writer holds that one
			for i := 1; i <= 4; i++ {
				l.Add(audit.Record{Kind: audit.Request, Path: fmt.Sprint(i)})
			}
			if err := l.Ready(ctx); !errors.Is(err, audit.ErrFull) {
				t.Errorf("a full log is ready: %v", err)
			}
			for range 100 { // who is refused because of it comes again
				l.Add(audit.Record{Kind: audit.Request, Path: "refused", Status: 503, Credential: "token/1", Error: audit.ErrFull.Error()})
				l.Add(audit.Record{Kind: audit.Change, Path: "refused", Status: 403, Credential: "token/2"})
			}
			for range 2 { // each that was under way may have been done
				l.Add(audit.Record{Kind: audit.Request, Path: "broken", Status: 502, Credential: "token/1", Error: "the link broke"})
			}
			m.set(nil, false)
			for l.Ready(ctx) != nil {
			}
			stop()
			run.Wait()
			var paths []string
			for _, r := range m.records(t) {
				if r.Count == 99 {
					r.Path = "counted"
				}
				paths = append(paths, r.Path)
			}
			if d := cmp.Diff([]string{"0", "1", "2", "3", "4", "refused", "refused", "broken", "broken", "counted", "counted", ""}, paths); d != "" {
				t.Errorf("records (-want +got):\n%s", d)
			}
		})
	})
	t.Run("log", func(t *testing.T) {
		m := &memory{}
		var out bytes.Buffer
		l := open(t, m, func(c *audit.Config) {
			c.Queue, c.Overflow, c.Logger = 2, audit.Spill, slog.New(slog.NewTextHandler(&out, nil))
		})
		for i := range 5 {
			l.Add(audit.Record{Kind: audit.Request, Path: fmt.Sprint("/", i)})
		}
		if err := l.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		for _, path := range []string{"/2", "/3"} {
			if !strings.Contains(out.String(), path) {
				t.Errorf("the log lacks %s: %s", path, &out)
			}
		}
		m.set(nil, false)
		once(t, l)
		gap := 0
		for _, r := range m.records(t) {
			if r.Kind == audit.Gap {
				gap += r.Count
			}
		}
		if gap != 4 { // and the record of the end
			t.Errorf("the chain tells of %d records that are elsewhere, want 4", gap)
		}
	})
}

// TestLog_commit_unknown: the connection broke after the commit.
func TestLog_commit_unknown(t *testing.T) {
	m := &memory{fail: errors.New("connection reset"), lost: true}
	l := open(t, m, nil)
	l.Add(audit.Record{Kind: audit.Request})
	once(t, l)
	if v, err := verify(m); err != nil || v.Records != 2 {
		t.Errorf("%+v, %v; want each record once", v, err)
	}
}

func TestLog_ends_while_the_store_is_away(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := open(t, &memory{fail: errors.New("away")}, func(c *audit.Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		l.Add(audit.Record{Kind: audit.Request, Path: "/last"})
		once(t, l)
		if !strings.Contains(out.String(), "/last") {
			t.Errorf("the record is nowhere: %s", &out)
		}
	})
}

// documents is a RecordingStore in memory.
type documents struct {
	fail  error
	saved []audit.Recording
	texts map[string]string
}

func (d *documents) PutDocument(r io.Reader, limit int64) (string, int64, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit))
	if err = errors.Join(err, d.fail); err != nil {
		return "", 0, err
	}
	digest := fmt.Sprint(len(d.texts))
	d.texts[digest] = string(text)
	return digest, int64(len(text)), nil
}

func (d *documents) SaveRecording(_ context.Context, r audit.Recording) error {
	d.saved = append(d.saved, r)
	return nil
}

func (*documents) Recording(context.Context, string) (audit.Recording, error) {
	return audit.Recording{}, audit.ErrNoRecording
}

func (*documents) Recordings(context.Context, audit.RecordingFilter) ([]audit.Recording, error) {
	return nil, nil
}

func (d *documents) Document(digest string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(d.texts[digest])), nil
}

func spool(t *testing.T, dir string, d *documents, most int64) *audit.Spool {
	t.Helper()
	if d.texts == nil {
		d.texts = map[string]string{}
	}
	s, err := audit.OpenSpool(t.Context(), dir, d, most, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, d := t.TempDir(), &documents{}
		tape, err := spool(t, dir, d, 1<<20).Begin(audit.Recording{Actor: "ann", Agent: "east", Namespace: "shop", Pod: "web-0", Container: "web", Command: []string{"sh", "-i"}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		e := []byte("é")
		for _, step := range []func() error{
			func() error { return tape.Output([]byte("$ ")) },
			func() error { return tape.Resize(120, 40) },
			func() error { return tape.Output(append([]byte("caf"), e[0])) }, // a character in two pieces
			func() error { return tape.Output(append(e[1:], '\r', '\n', 0xff)) },
			func() error { return tape.Resize(100, 30) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond)
		}
		if err := tape.Close(t.Context(), errors.New("revoked")); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"version":2,"width":120,"height":40,"timestamp":%d,"duration":6,"command":"sh -i","title":"east shop/web-0/web"}`, began.Unix()) + `
[0.000000,"o","$ "]
[1.500000,"r","120x40"]
[3.000000,"o","caf"]
[4.500000,"o","é\r\n\ufffd"]
[6.000000,"r","100x30"]
`
		if diff := cmp.Diff(want, d.texts["0"]); diff != "" {
			t.Errorf("document (-want +got):\n%s", diff)
		}
		got := d.saved[0]
		if got.ID != tape.ID() || got.Width != 120 || got.Cause != "revoked" || got.Size != int64(len(want)) || !got.Ended.Equal(began.Add(6*time.Second)) {
			t.Errorf("recording: %+v", got)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		if err := tape.Output([]byte("x")); err == nil {
			t.Error("it takes more after its end")
		}
	})
}

func TestTape_as_long_as_it_may_get(t *testing.T) {
	d := &documents{}
	tape, err := spool(t, t.TempDir(), d, 100).Begin(audit.Recording{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tape.Output(bytes.Repeat([]byte("x"), 200)); !errors.Is(err, audit.ErrLong) {
		t.Errorf("%v, want %v", err, audit.ErrLong)
	}
	if err := tape.Close(t.Context(), nil); err != nil || len(d.saved) != 1 || d.saved[0].Cause != audit.ErrLong.Error() {
		t.Errorf("%v, %+v", err, d.saved)
	}
}

// TestSpool_salvages what a hub that was killed left, but for a line that it
// was about to write.
func TestSpool_salvages(t *testing.T) {
	dir, d := t.TempDir(), &documents{}
	tape, err := spool(t, dir, d, 1000).Begin(audit.Recording{Agent: "east"})
	if err != nil {
		t.Fatal(err)
	}
	if err := tape.Output([]byte("seen")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, tape.ID()+".cast"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, `[1.5,"o","ha`)
	f.Close()
	d.fail = errors.New("the disk is full")
	spool(t, dir, d, 1000) // keeps the file
	d.fail = nil
	spool(t, dir, d, 1000)
	if len(d.saved) != 1 || d.saved[0].ID != tape.ID() || d.saved[0].Cause != "the hub broke off" {
		t.Fatalf("saved: %+v", d.saved)
	}
	if text := d.texts["0"]; strings.Count(text, "\n") != 2 || !strings.Contains(text, `"seen"`) || strings.Contains(text, "ha") {
		t.Errorf("document: %s", text)
	}
}
