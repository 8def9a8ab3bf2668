package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Overflow is what happens when more records wait than there is room for.
type Overflow string

const (
	// Refuse forwards no request while there is no room: [Log.Ready] fails.
	Refuse Overflow = "refuse"
	// Spill writes records to the hub's log, and how many into the chain.
	Spill Overflow = "log"
)

// Config is what a Log is made of. Store, Chain and Sign are required.
type Config struct {
	Store Store
	// Chain names this replica's; nobody else may write to it.
	Chain string
	// Sign signs an anchor's message.
	Sign     func(message []byte) ([]byte, error)
	Overflow Overflow // empty: Refuse
	// Keep is how long records are kept; 0 is for ever.
	Keep time.Duration
	// Queue is how many records may wait; 0 is DefaultQueue.
	Queue int
	// Note is a file beside the store in which the newest anchor is kept, so that
	// who has the store alone can't take anchors away with what they are of;
	// empty: none.
	Note       string
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// DefaultQueue takes some 10 MB when it is full.
const DefaultQueue = 16384

// ErrFull says that no more records can be taken at present.
var ErrFull = errors.New("the audit log can't be written, and nothing is done that it wouldn't have")

const (
	batch  = 500
	linger = 50 * time.Millisecond // for others to come along
	// patience is how long a request waits for room.
	patience = 2 * time.Second
	maxRetry = 5 * time.Second
	lastTry  = 5 * time.Second // at the end

	// tallyEvery is for how long refusals are counted, of at most mostAlike kinds
	// beside those of callers who are known.
	tallyEvery = time.Minute
	mostAlike  = 1024

	anchorEvery   = 5 * time.Minute
	anchorRecords = 10_000
	trimEvery     = time.Hour
	trimBatch     = 5000
)

// Log writes one chain. Its methods may be called concurrently; Run, once,
// does the writing.
type Log struct {
	cfg Config

	mu    sync.Mutex
	queue []Record // guarded by mu
	// alike is the refusals of which one was recorded lately, by what they have in
	// common, with how many came since in Count. Guarded by mu.
	alike   map[string]Record
	spilled int           // guarded by mu; since the last Gap
	room    chan struct{} // guarded by mu; closed when there is room again
	wake    chan struct{} // has room for one

	// Of Run alone.
	head     Head
	anchored Head
	at       time.Time // of the newest anchor, or the start

	written  prometheus.Counter
	unstored prometheus.Counter
}

// Open finds the end of the chain. clean says that the log was closed in
// order, or never opened.
func Open(ctx context.Context, cfg Config) (_ *Log, clean bool, err error) {
	if cfg.Overflow == "" {
		cfg.Overflow = Refuse
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	l := &Log{
		cfg: cfg, alike: map[string]Record{}, wake: make(chan struct{}, 1), at: time.Now(),
		written:  prometheus.NewCounter(prometheus.CounterOpts{Name: "reeve_audit_records_total", Help: "Audit records that were stored."}),
		unstored: prometheus.NewCounter(prometheus.CounterOpts{Name: "reeve_audit_unstored_total", Help: "Audit records that are in the hub's log instead of the store."}),
	}
	if l.head, err = cfg.Store.AuditHead(ctx, cfg.Chain); err != nil {
		return nil, false, fmt.Errorf("audit: %w", err)
	}
	l.anchored = l.head
	clean = l.head.Seq == 0
	if r, err := ParseRecord(l.head.Body); err == nil {
		clean = r.Kind == Hub && r.Action == stopped
	}
	anchors, err := cfg.Store.Anchors(ctx, cfg.Chain)
	if err != nil {
		return nil, false, fmt.Errorf("audit: %w", err)
	}
	noted, err := l.noted(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("audit: %w", err)
	}
	if n := len(anchors); n > 0 {
		noted = max(noted, anchors[n-1].Seq)
	}
	if noted > l.head.Seq {
		cfg.Logger.ErrorContext(ctx, "the newest audit records are missing: somebody removed them, or the database is an old copy; see `reeve audit verify`",
			"chain", cfg.Chain, "newest", l.head.Seq, "anchored", noted)
		// Numbers that were used stay so.
		l.head.Seq = noted
	}
	if cfg.Registerer == nil {
		return l, clean, nil
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "reeve_audit_waiting", Help: "Audit records that wait to be stored."}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(len(l.queue))
	})
	for _, c := range []prometheus.Collector{l.written, l.unstored, waiting} {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, false, fmt.Errorf("audit: %w", err)
		}
	}
	return l, clean, nil
}

// stopped is the action of the last record of a log that was closed in order.
const stopped = "stop"

// Ready waits a moment for room for a record, and answers an error that wraps
// ErrFull if there is none. It is asked before something is done.
func (l *Log) Ready(ctx context.Context) error {
	if l.cfg.Overflow == Spill {
		return nil
	}
	l.mu.Lock()
	if len(l.queue) < l.cfg.Queue {
		l.mu.Unlock()
		return nil
	}
	if l.room == nil {
		l.room = make(chan struct{})
	}
	room := l.room
	l.mu.Unlock()
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wait.C:
		return ErrFull
	}
}

// Add takes a record of what was done. It doesn't wait.
func (l *Log) Add(r Record) {
	if r.At.IsZero() {
		r.At = time.Now()
	}
	r = r.clean() // what waits takes no more than it will
	l.mu.Lock()
	if key := l.refusal(r); key != "" {
		before, ok := l.alike[key]
		if ok {
			r.Count = before.Count + 1
			l.alike[key] = r
			l.mu.Unlock()
			return
		}
		l.alike[key] = Record{}
	}
	if l.cfg.Overflow == Spill && len(l.queue) >= l.cfg.Queue {
		l.spilled++
		l.mu.Unlock()
		l.spill(r)
		return
	}
	l.queue = append(l.queue, r)
	first := len(l.queue) == 1
	l.mu.Unlock()
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// refusal is by what refusals are counted together; empty for what is recorded
// each by itself. It is called with mu held.
func (l *Log) refusal(r Record) string {
	full := len(l.queue) >= l.cfg.Queue
	nobody := r.Status == 401 || r.Status == 403 && r.Credential == ""
	refused := r.Status >= 400 && r.Error != "" || r.Kind == Change && r.Status == 403
	switch r.Status {
	case 400, 499, 502, 504: // something of it may have been done
		refused = false
	}
	if r.Kind != Request && r.Kind != Change || !nobody && r.Status != 429 && !(full && refused) {
		return ""
	}
	who := r.Credential + "\n" + r.Actor
	if nobody {
		// Nobody vouches for what such a caller says; where it is, is all.
		if who, _, _ = net.SplitHostPort(r.Remote); full || len(l.alike) >= mostAlike {
			who = "everybody" // else many addresses could fill the memory
		}
	}
	return strconv.Itoa(r.Status) + "\n" + who + "\n" + r.Agent + "\n" + r.Service
}

// tally has what was counted recorded, and forgets what didn't come again.
func (l *Log) tally() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, r := range l.alike {
		if r.Count == 0 {
			delete(l.alike, key)
			continue
		}
		l.queue = append(l.queue, r)
		l.alike[key] = Record{}
	}
}

// spill writes a record to the hub's log, whole.
func (l *Log) spill(r Record) {
	l.unstored.Inc()
	body, err := r.clean().body()
	l.cfg.Logger.Error("audit record isn't stored but only here", "record", body, "error", err)
}

// take removes up to a batch of what waits.
func (l *Log) take() (list []Record, spilled int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), batch)
	list, l.queue = l.queue[:n:n], l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	if l.room != nil && len(l.queue) < l.cfg.Queue {
		close(l.room)
		l.room = nil
	}
	spilled, l.spilled = l.spilled, 0
	return list, spilled
}

// Run writes what comes, until ctx ends; and then what is left, a record that
// it has ended, and an anchor.
func (l *Log) Run(ctx context.Context) {
	anchor := time.NewTicker(anchorEvery)
	defer anchor.Stop()
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	tally := time.NewTicker(tallyEvery)
	defer tally.Stop()
	l.trimAll(ctx)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.wake:
			select {
			case <-ctx.Done():
			case <-time.After(linger):
			}
			l.drain(ctx)
		case <-tally.C:
			l.tally()
			l.drain(ctx)
		case <-anchor.C:
			l.anchor(ctx)
		case <-trim.C:
			l.trimAll(ctx)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTry)
	defer cancel()
	l.tally()
	l.Add(Record{Kind: Hub, Action: stopped})
	l.drain(last)
	l.anchor(last)
}

// drain writes until nothing waits. What can't be written by the end of ctx
// stays in the queue, unless ctx has a deadline: then it goes to the log.
func (l *Log) drain(ctx context.Context) {
	_, last := ctx.Deadline()
	for {
		list, spilled := l.take()
		if spilled > 0 {
			list = append(list, Record{At: time.Now(), Kind: Gap, Action: "spill", Count: spilled})
		}
		if len(list) == 0 {
			return
		}
		if l.write(ctx, list) {
			if l.head.Seq-l.anchored.Seq >= anchorRecords {
				l.anchor(ctx)
			}
			continue
		}
		if !last {
			l.mu.Lock()
			l.queue = append(list, l.queue...)
			l.mu.Unlock()
			return
		}
		for _, r := range list {
			l.spill(r)
		}
	}
}

// write stores records, as often as it must, until ctx ends.
func (l *Log) write(ctx context.Context, list []Record) bool {
	entries := make([]Entry, 0, len(list))
	h := l.head
	for _, r := range list {
		e, err := seal(l.cfg.Chain, h, r)
		if err != nil { // no record holds what JSON can't
			l.cfg.Logger.Error("audit record can't be written", "error", err)
			continue
		}
		entries, h = append(entries, e), e.head()
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, maxRetry) {
		err := l.cfg.Store.AppendAudit(ctx, entries)
		if err != nil {
			// Whether a broken connection came before the commit or after it
			// only the database knows.
			if now, look := l.cfg.Store.AuditHead(ctx, l.cfg.Chain); look == nil && now.Seq == h.Seq && now.Hash == h.Hash {
				err = nil
			}
		}
		if err == nil {
			l.head = h
			l.written.Add(float64(len(entries)))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		l.cfg.Logger.ErrorContext(ctx, "audit records can't be stored, will retry", "records", len(list), "again", pause, "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func (l *Log) anchor(ctx context.Context) {
	if l.head.Seq == l.anchored.Seq {
		return
	}
	a, err := l.sign(l.cfg.Chain, l.head, Checkpoint)
	if err == nil {
		err = l.cfg.Store.AddAnchor(ctx, a)
	}
	if err != nil {
		l.cfg.Logger.ErrorContext(ctx, "audit chain can't be anchored, will retry", "error", err)
		return
	}
	l.anchored = l.head
	note := Note{a.Chain, a.Seq, a.Hash}
	l.cfg.Logger.InfoContext(ctx, "audit chain anchored", "anchor", note.String())
	if l.cfg.Note == "" {
		return
	}
	next := l.cfg.Note + ".new"
	if err = os.WriteFile(next, []byte(note.String()+"\n"), 0o600); err == nil {
		err = os.Rename(next, l.cfg.Note)
	}
	if err != nil {
		l.cfg.Logger.ErrorContext(ctx, "audit chain's anchor isn't noted beside the database, will retry at the next", "error", err)
	}
}

// noted is the number of the record that the file of Config.Note names, if it is
// of this chain; else 0. That the store has another one in its place is only
// logged.
func (l *Log) noted(ctx context.Context) (seq int64, err error) {
	if l.cfg.Note == "" {
		return 0, nil
	}
	text, err := os.ReadFile(l.cfg.Note)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := ParseNote(strings.TrimSpace(string(text)))
	if err != nil { // as after a power failure: no reason not to start
		l.cfg.Logger.ErrorContext(ctx, "the note of the newest audit anchor can't be read, and isn't held against the database", "file", l.cfg.Note, "error", err)
		return 0, nil
	}
	if n.Chain != l.cfg.Chain {
		return 0, nil
	}
	there, err := l.cfg.Store.AuditEntries(ctx, n.Chain, n.Seq-1, 1)
	if err != nil {
		return 0, err
	}
	for _, e := range there {
		if err := n.Holds(e); err != nil {
			l.cfg.Logger.ErrorContext(ctx, "audit records were changed in the database", "expected", n.String(), "error", err)
		}
	}
	return n.Seq, nil
}

func (l *Log) sign(chain string, h Head, kind AnchorKind) (Anchor, error) {
	a := Anchor{Chain: chain, Seq: h.Seq, Hash: h.Hash, Kind: kind, At: time.Now().UTC().Truncate(time.Microsecond)}
	var err error
	a.Signature, err = l.cfg.Sign(a.Message())
	return a, err
}

// trimAll removes what is too old of every chain, also of replicas that are
// gone.
func (l *Log) trimAll(ctx context.Context) {
	if l.cfg.Keep == 0 {
		return
	}
	chains, err := l.cfg.Store.AuditChains(ctx)
	for _, chain := range chains {
		if err == nil {
			err = l.trim(ctx, chain, time.Now().Add(-l.cfg.Keep))
		}
	}
	if err != nil && ctx.Err() == nil {
		l.cfg.Logger.ErrorContext(ctx, "old audit records can't be removed, will retry", "error", err)
	}
}

func (l *Log) trim(ctx context.Context, chain string, before time.Time) error {
	for {
		h, err := l.cfg.Store.TrimPoint(ctx, chain, before, trimBatch)
		if err != nil || h.Seq == 0 {
			return err
		}
		a, err := l.sign(chain, h, Trim)
		if err != nil {
			return err
		}
		if err := l.cfg.Store.TrimAudit(ctx, a); err != nil {
			return err
		}
		l.cfg.Logger.InfoContext(ctx, "old audit records removed", "chain", chain, "until", a.Seq, "hash", a.Hash)
	}
}
