package scan

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/spool"
)

// Source is the hub as the Worker sees it. Besides errors of the way there,
// its methods return ErrNotFound, ErrFinished, ErrStale and ErrBadResult.
type Source interface {
	// Lease waits a while for a job and returns nil if none came.
	Lease(ctx context.Context, kinds []string, holding []ID) (*Job, error)
	Progress(ctx context.Context, id ID, attempt int, p Progress) error
	// Profile gives the archive of that digest; the caller checks it.
	Profile(ctx context.Context, digest string) (io.ReadCloser, error)
	// SendResults and SendFailure return nil once the hub has them durably.
	// Results are gzip-compressed.
	SendResults(ctx context.Context, id ID, attempt int, results io.Reader) error
	SendFailure(ctx context.Context, id ID, attempt int, reason string, transient bool) error
	SendTargets(ctx context.Context, id ID, attempt int, found []Target) error
}

// Opened is a target that is ready.
type Opened struct {
	Target target.Target
	// Entry says of a container in a cluster how it was entered.
	Entry *hdf.Entry
	// SBOM hands in a bill of materials of the target; nil where this can't be
	// done.
	SBOM func(context.Context) error
	// Release, unless it is nil, is called when the target is closed.
	Release func()
}

func (o Opened) close() {
	o.Target.Close()
	if o.Release != nil {
		o.Release()
	}
}

// EngineOptions are what a run is given besides the profile and the target.
type EngineOptions struct {
	Inputs map[string]any
	// Progress may be called by the engine at any time during the run.
	Progress func(Progress)
}

// Engine runs the profile in the archive file on a target. It returns soon
// after ctx is done. An error says that the profile couldn't be run at all.
type Engine func(ctx context.Context, archive string, t target.Target, opt EngineOptions) (*hdf.Results, error)

// WorkerConfig is what a Worker works with.
type WorkerConfig struct {
	Source Source
	// Spool holds what is finished until the hub has it. It is the worker's
	// own: nothing else is put there.
	Spool *spool.Spool
	// OpenTarget opens a job's target, which is of one of Kinds: those that the
	// agent's owner allows.
	OpenTarget func(context.Context, *Job) (Opened, error)
	// Select lists the containers that a selector chooses, at most
	// MaxSelected; nil: this worker can't.
	Select func(context.Context, Selector) ([]Target, error)
	Kinds  []string
	Engine Engine
	// CacheDir is where profiles are kept between scans.
	CacheDir string
	// Concurrency is how many scans run at a time; zero is 2.
	Concurrency int
	Logger      *slog.Logger
}

// The kinds of what a Worker puts in the spool.
const (
	kindResults = "scan-results"
	kindFailure = "scan-failure"
	kindFault   = "scan-fault" // a failure that is transient
	kindTargets = "scan-targets"
)

const (
	// reportEvery is the least time between two reports of progress, unless
	// the lease needs more; minBeat is the least that it can need.
	reportEvery = time.Second
	minBeat     = 100 * time.Millisecond
	minPause    = 500 * time.Millisecond
	maxPause    = 30 * time.Second
)

// Worker is the agent's half of scanning.
type Worker struct {
	cfg      WorkerConfig
	profiles *cache

	mu      sync.Mutex
	running map[ID]bool // guarded by mu
}

// NewWorker returns a worker. Its Run is called once.
func NewWorker(cfg WorkerConfig) (*Worker, error) {
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 2
	}
	profiles, err := openCache(cfg.CacheDir, cfg.Source.Profile)
	if err != nil {
		return nil, fmt.Errorf("scan worker: %w", err)
	}
	return &Worker{cfg: cfg, profiles: profiles, running: map[ID]bool{}}, nil
}

// Holding lists the scans that run here or whose result waits for the hub;
// the agent tells it when it joins.
func (w *Worker) Holding() []ID {
	// In this order a scan that goes from one to the other is in either.
	w.mu.Lock()
	held := make(map[ID]bool, len(w.running))
	for id := range w.running {
		held[id] = true
	}
	w.mu.Unlock()
	for _, it := range w.cfg.Spool.List() {
		if id, _, err := parseItem(it.ID); err == nil {
			held[id] = true
		}
	}
	ids := make([]ID, 0, len(held))
	for id := range held {
		ids = append(ids, id)
	}
	return ids
}

// Run leases and runs scans and ships what is finished until ctx is done,
// and returns its cause when all has ended. A scan that is cut short by that
// leaves nothing: the hub has it made again.
func (w *Worker) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		if err := w.cfg.Spool.Drain(ctx, w.ship); ctx.Err() == nil {
			w.cfg.Logger.ErrorContext(ctx, "scan results stay on the disk: the spool can't be drained", "error", err)
		}
	})
	slots := make(chan struct{}, w.cfg.Concurrency)
	pause := minPause
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		job, err := w.cfg.Source.Lease(ctx, w.kinds(), w.Holding())
		if job == nil {
			<-slots
			if err == nil {
				pause = minPause
				continue
			}
			w.cfg.Logger.DebugContext(ctx, "no work from the hub", "error", err)
			sleep(ctx, rand.N(pause))
			pause = min(2*pause, maxPause)
			continue
		}
		pause = minPause
		w.hold(job.ID, true)
		running.Go(func() {
			defer func() { <-slots }()
			defer w.hold(job.ID, false)
			w.run(ctx, job)
		})
	}
}

// kinds are those of the jobs that the worker takes.
func (w *Worker) kinds() []string {
	if w.cfg.Select == nil || !slices.Contains(w.cfg.Kinds, KindContainer) {
		return w.cfg.Kinds
	}
	return append(slices.Clone(w.cfg.Kinds), KindSelector)
}

func (w *Worker) hold(id ID, held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if held {
		w.running[id] = true
	} else {
		delete(w.running, id)
	}
}

// errTaken is the cause with which a run ends that the hub doesn't want.
var errTaken = errors.New("the hub doesn't want this scan any more")

// run makes one scan and puts what came of it in the spool. It keeps the
// lease until then, also while the spool is full.
func (w *Worker) run(ctx context.Context, job *Job) {
	log := w.cfg.Logger.With("scan", job.ID, "attempt", job.Attempt, "target", job.Target.String(), "profile", job.Profile)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := newReporter()
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer cancel(nil)
	reporting.Go(func() { w.report(ctx, job, r, cancel) })

	log.InfoContext(ctx, "scan begins")
	item := document(job, w.scan(ctx, job, r.set))
	if ctx.Err() != nil && item.kind != kindResults {
		log.WarnContext(ctx, "scan given up", "cause", context.Cause(ctx))
		return
	}
	err := w.keep(ctx, item)
	if errors.Is(err, spool.ErrTooLarge) {
		item = document(job, made{err: fmt.Errorf("results can't be kept: %w", err)})
		err = w.keep(ctx, item)
	}
	if err != nil {
		log.ErrorContext(ctx, "scan's result is lost", "error", err)
		return
	}
	log.InfoContext(ctx, "scan ends", "kind", item.kind)
}

// made is what came of a job: results, or what was selected, or an error.
type made struct {
	results *hdf.Results
	found   []Target
	err     error
}

// transient is an error of what is around a scan.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// Transient marks an error of what is around a scan, such as an API server
// that doesn't answer: another attempt may not have it.
func Transient(err error) error { return transient{err} }

// scan opens the target and runs the profile within the job's time. A panic
// on the way is an error of this scan, not the end of the agent.
func (w *Worker) scan(ctx context.Context, job *Job, progress func(Progress)) (m made) {
	ctx, cancel := context.WithTimeoutCause(ctx, job.Timeout, fmt.Errorf("timed out after %v", job.Timeout))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			w.cfg.Logger.ErrorContext(ctx, "scan panicked", "scan", job.ID, "panic", p, "stack", string(debug.Stack()))
			m = made{err: fmt.Errorf("the scan engine failed inside: %v", p)}
		}
		if m.err != nil && ctx.Err() != nil {
			m.err = context.Cause(ctx)
		}
	}()
	// The hub asks this too, but the owner's word is kept here.
	if kind := job.kind(); !slices.Contains(w.cfg.Kinds, kind) {
		return made{err: fmt.Errorf("this agent's owner doesn't allow targets of the kind %q (setting scan.targets)", kind)}
	}
	if job.Selector != nil {
		found, err := w.cfg.Select(ctx, *job.Selector)
		return made{found: found, err: err}
	}
	archive, err := w.profiles.get(ctx, job.ProfileDigest)
	if err != nil {
		err = fmt.Errorf("profile %s: %w", job.Profile, err)
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, errWrongContent) {
			err = Transient(err)
		}
		return made{err: err}
	}
	opened, err := w.cfg.OpenTarget(ctx, job)
	if err != nil {
		return made{err: err}
	}
	defer opened.close()
	results, err := w.cfg.Engine(ctx, archive, opened.Target, EngineOptions{Inputs: job.Inputs, Progress: progress})
	// What an interrupted run has judged isn't the profile's verdict.
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		results.Entry = opened.Entry
	}
	if job.SBOM && ctx.Err() == nil {
		if err := w.sbom(ctx, opened); err != nil {
			w.cfg.Logger.ErrorContext(ctx, "no SBOM is handed in", "scan", job.ID, "target", job.Target.String(), "error", err)
		}
	}
	return made{results: results, err: err}
}

// sbom hands in an SBOM. The scan is none the worse without it, also where what
// the target holds makes it panic.
func (w *Worker) sbom(ctx context.Context, of Opened) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it failed inside: %v\n%s", p, debug.Stack())
		}
	}()
	if of.SBOM == nil {
		return errors.New("this agent makes none: run `reeve agent`, built without the tag nosbom")
	}
	return of.SBOM(ctx)
}

// spooled is a document for the spool.
type spooled struct {
	id   string
	kind string
	body []byte
}

// document makes what tells the hub.
func document(job *Job, m made) spooled {
	it := spooled{id: itemID(job.ID, job.Attempt), kind: kindResults}
	if m.err == nil && job.Selector != nil {
		it.kind = kindTargets
		if it.body, m.err = json.Marshal(m.found); m.err == nil {
			return it
		}
	}
	if m.err == nil {
		if it.body, m.err = compress(m.results); m.err == nil {
			return it
		}
	}
	it.kind, it.body = kindFailure, []byte(cut(m.err.Error()))
	if t := (transient{}); errors.As(m.err, &t) {
		it.kind = kindFault
	}
	return it
}

func compress(results *hdf.Results) ([]byte, error) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(zip).Encode(results), zip.Close()); err != nil {
		return nil, fmt.Errorf("encode results: %w", err)
	}
	return b.Bytes(), nil
}

// keep puts a document in the spool, as soon as there is room.
func (w *Worker) keep(ctx context.Context, it spooled) error {
	for {
		// A finished scan is kept even if the agent is going down.
		err := w.cfg.Spool.Put(context.WithoutCancel(ctx), it.id, it.kind, bytes.NewReader(it.body))
		if !errors.Is(err, spool.ErrFull) || ctx.Err() != nil {
			return err
		}
		w.cfg.Logger.WarnContext(ctx, "scan's result waits for room in the spool", "error", err)
		sleep(ctx, maxPause)
	}
}

// ship sends one document to the hub.
func (w *Worker) ship(ctx context.Context, it spool.Item) error {
	id, attempt, err := parseItem(it.ID)
	if err != nil {
		return spool.Permanent(err)
	}
	body, err := it.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	switch it.Kind {
	case kindResults:
		err = w.cfg.Source.SendResults(ctx, id, attempt, body)
	case kindFailure, kindFault:
		var text []byte
		if text, err = io.ReadAll(body); err == nil {
			err = w.cfg.Source.SendFailure(ctx, id, attempt, string(text), it.Kind == kindFault)
		}
	case kindTargets:
		var found []Target
		if err := json.NewDecoder(body).Decode(&found); err != nil {
			return spool.Permanent(err)
		}
		err = w.cfg.Source.SendTargets(ctx, id, attempt, found)
	default:
		return spool.Permanent(fmt.Errorf("unknown kind %q", it.Kind))
	}
	switch {
	case errors.Is(err, ErrFinished), errors.Is(err, ErrStale):
		w.cfg.Logger.InfoContext(ctx, "the hub has no use for a scan's result", "scan", id, "attempt", attempt, "reason", err)
		return nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrBadResult):
		return spool.Permanent(err)
	}
	return err
}

// reporter holds the latest progress of a run.
type reporter struct {
	mu      sync.Mutex
	latest  Progress      // guarded by mu
	changed chan struct{} // has room for one
}

func newReporter() *reporter { return &reporter{changed: make(chan struct{}, 1)} }

func (r *reporter) set(p Progress) {
	r.mu.Lock()
	r.latest = p
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *reporter) get() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest
}

// report tells the hub how far the run is, and so keeps the lease. A hub
// that doesn't answer stops nothing; one that doesn't want the scan does.
func (w *Worker) report(ctx context.Context, job *Job, r *reporter, cancel context.CancelCauseFunc) {
	every := max(job.LeaseFor/3, minBeat)
	beat := time.NewTicker(every)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
		case <-r.changed:
		case <-ctx.Done():
			return
		}
		err := w.cfg.Source.Progress(ctx, job.ID, job.Attempt, r.get())
		switch {
		case errors.Is(err, ErrFinished), errors.Is(err, ErrStale), errors.Is(err, ErrNotFound):
			cancel(fmt.Errorf("%w: %w", errTaken, err))
			return
		case err != nil && ctx.Err() == nil:
			w.cfg.Logger.DebugContext(ctx, "progress not reported", "scan", job.ID, "error", err)
		}
		sleep(ctx, min(reportEvery, every))
	}
}

func itemID(id ID, attempt int) string { return string(id) + "." + strconv.Itoa(attempt) }

func parseItem(s string) (ID, int, error) {
	text, number, _ := strings.Cut(s, ".")
	id, err := ParseID(text)
	if err != nil {
		return "", 0, err
	}
	attempt, err := strconv.Atoi(number)
	if err != nil {
		return "", 0, fmt.Errorf("attempt %q of scan %s is no number", number, id)
	}
	return id, attempt, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
