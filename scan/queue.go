package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/internal/near"
)

// Store keeps scans. Each method is one transaction and returns nil only
// once its change is durable. Now is given by the caller, so that one clock
// decides.
type Store interface {
	BatchStore
	HistoryStore
	// CreateScan keeps the scan and its request's Key, if it has one. It
	// returns ErrKeyUsed, and keeps nothing, where the caller has a scan by
	// that name already.
	CreateScan(ctx context.Context, s Scan) error
	// ScanByKey returns the scan that was created with k; ErrNotFound if
	// there is none, ErrKeyUsed if it was for another request.
	ScanByKey(ctx context.Context, k Key, now time.Time) (Scan, error)
	// OpenByKey lists the scans that aren't finished of those that a caller
	// has keys for, by id, after one.
	OpenByKey(ctx context.Context, caller string, after ID, limit int) ([]Keyed, error)
	// Scan returns ErrNotFound if there is none.
	Scan(ctx context.Context, id ID) (Scan, error)
	Scans(ctx context.Context, f Filter) ([]Scan, error)
	// LeaseScan gives the queued scan that is next of those that the taker
	// may have, now running under its lease, or ErrNotFound. Next is what has
	// the highest priority; among those each caller has its turn, however
	// many it has queued.
	LeaseScan(ctx context.Context, t Taker, now time.Time) (Scan, error)
	// RenewLease extends the lease of an attempt and notes its progress. A
	// scan that was queued again after the lease ran out is running again,
	// if nobody has taken it since. It returns ErrNotFound, ErrFinished or
	// ErrStale.
	RenewLease(ctx context.Context, r Renewal, now time.Time) error
	// FinishScan moves a scan to a final state, and in the same transaction
	// enqueues its outcomes for every sink, and its callback; or, where f has
	// a Retry, to the queue again. It returns ErrNotFound, ErrFinished or
	// ErrStale.
	FinishScan(ctx context.Context, f Finish, now time.Time) error
	// ReleaseScans queues the scans again that an agent process leases but
	// doesn't hold, and extends the leases of those that it does, at most to
	// their deadlines.
	ReleaseScans(ctx context.Context, h Holder, now time.Time) error
	// ExpireScans acts on every lease and deadline that has passed and
	// returns how many scans it changed.
	ExpireScans(ctx context.Context, maxAttempts int, queueFor time.Duration, now time.Time) (int, error)
	// MayReadProfile reports whether a scan of that agent names the digest.
	MayReadProfile(ctx context.Context, agent fleet.AgentName, digest string) (bool, error)

	// PutDocument keeps what r gives and returns its digest and size. It is
	// ErrBadResult if that is over limit.
	PutDocument(r io.Reader, limit int64) (digest string, size int64, err error)
	Document(digest string) (io.ReadCloser, error)
	// HasDocument reports whether a document is kept, and sees to it that it
	// stays until the caller has named it.
	HasDocument(digest string) (bool, error)

	// ScanQueued and ScanChanged return channels that are closed when, in
	// this process, a scan is queued for that agent or that scan changes.
	ScanQueued(agent fleet.AgentName) <-chan struct{}
	ScanChanged(id ID) <-chan struct{}
}

// Taker is an agent process that asks for work.
type Taker struct {
	Agent    fleet.AgentName
	Instance fleet.InstanceID
	// Kinds are the kinds of target that it takes.
	Kinds []string
	// Holding are scans that it has already; it isn't given them again.
	Holding  []ID
	LeaseFor time.Duration
	// Grace is how long past its timeout a run may go on before the hub
	// gives it up.
	Grace time.Duration
}

// Renewal is a report of progress.
type Renewal struct {
	ID       ID
	Agent    fleet.AgentName
	Instance fleet.InstanceID
	Attempt  int
	Progress Progress
	LeaseFor time.Duration
}

// Holder is an agent process that has just joined.
type Holder struct {
	Agent    fleet.AgentName
	Instance fleet.InstanceID
	Holding  []ID
	LeaseFor time.Duration

	MaxAttempts int
	QueueFor    time.Duration
}

// Finish is the end of a scan.
type Finish struct {
	ID ID
	// Agent and Attempt say whose end it is; Attempt 0 is the hub's own
	// decision. An attempt's error counts only while it is the latest.
	Agent   fleet.AgentName
	Attempt int
	Status  Status
	Reason  string
	// Retry is there for an error that another attempt may not have.
	Retry *Retry
	// The rest is of completed scans.
	Verdict      Verdict
	ResultDigest string
	ResultSize   int64
	Outcomes     []fleet.Outcome
	// Results are what policies come to by it.
	Results []fleet.Result
	// Sinks are the names of the sinks that each outcome is told to.
	Sinks []string
}

// Retry says when an attempt is made again, unless it was the last.
type Retry struct {
	MaxAttempts int
	At          time.Time
	// QueueFor is how long it may wait then.
	QueueFor time.Duration
}

// Agents knows the agents that ever joined.
type Agents interface {
	// ScanTargets gives the kinds of target that each agent allows; those of
	// one agent alone, if it is there, where name isn't empty.
	ScanTargets(ctx context.Context, name fleet.AgentName) (map[fleet.AgentName][]string, error)
}

// The limits that hold unless a Config says otherwise.
const (
	DefaultLeaseFor    = time.Minute
	DefaultMaxAttempts = 3
	DefaultQueueFor    = time.Hour
	DefaultTimeout     = 5 * time.Minute
	MaxTimeout         = time.Hour
	// MaxResults is the most bytes that a results document may have,
	// maxProfiles and maxControls the most of these: far more than anyone
	// has, and few enough to be judged in no time.
	MaxResults  = 128 << 20
	maxProfiles = 1000
	maxControls = 100_000
	// judges is how many documents are in memory at a time.
	judges = 2

	// After a fault around it an attempt waits for retryFirst, and each time
	// for twice as long, up to retryMost.
	retryFirst = 5 * time.Second
	retryMost  = 5 * time.Minute

	grace = time.Minute
	// pollEvery is how often a waiting lease looks for work that another
	// replica has queued.
	pollEvery = 15 * time.Second
)

// Config is what a Queue works with. The durations and MaxAttempts have
// defaults.
type Config struct {
	Store     Store
	Catalogue *Catalogue
	Agents    Agents
	// Connected reports whether an agent has a link now; it only serves to
	// tell a person what a queued scan waits for.
	Connected func(fleet.AgentName) bool
	// Outcome words what a completed scan came to.
	Outcome func(Scan, Verdict) fleet.Outcome
	// Policies tells what policies come to by a completed scan; nil: nothing.
	Policies func(context.Context, Judged) []fleet.Result
	// Sinks are the names of the sinks that every outcome is told to, and
	// MoreSinks those besides that the outcome of a scan is; nil: none.
	Sinks     []string
	MoreSinks func(Scan) []string
	Logger    *slog.Logger

	LeaseFor    time.Duration
	MaxAttempts int
	QueueFor    time.Duration
	Timeout     time.Duration
}

// Judged is a scan that completes.
type Judged struct {
	Scan    Scan
	Verdict Verdict
	Results *hdf.Results
	// Threshold holds the results against a threshold of the catalogue, and tells
	// which of its bounds aren't met.
	Threshold func(name string) ([]string, error)
}

// Queue is the hub's half of scanning. Its methods may be called
// concurrently, and by several hubs on one store.
type Queue struct {
	cfg     Config
	judging chan struct{} // has room for as many as may be judged at a time
}

// NewQueue returns a queue on cfg's store.
func NewQueue(cfg Config) *Queue {
	if cfg.LeaseFor == 0 {
		cfg.LeaseFor = DefaultLeaseFor
	}
	if cfg.MaxAttempts == 0 {
		cfg.MaxAttempts = DefaultMaxAttempts
	}
	if cfg.QueueFor == 0 {
		cfg.QueueFor = DefaultQueueFor
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	return &Queue{cfg: cfg, judging: make(chan struct{}, judges)}
}

// Create queues a scan. A request that can't be met is an *InvalidError and
// changes nothing. A request without an agent is for the only one there is.
// One that repeats another gives the scan that there is for it; one with the
// key of another is ErrKeyUsed.
func (q *Queue) Create(ctx context.Context, r Request) (Scan, error) {
	if r.Key == (Key{}) {
		return q.create(ctx, r)
	}
	s, err := q.repeated(ctx, r)
	if errors.Is(err, ErrNotFound) {
		s, err = q.create(ctx, r)
		if errors.Is(err, ErrKeyUsed) { // a moment ago; by this request, or another?
			s, err = q.repeated(ctx, r)
		}
	}
	return s, err
}

func (q *Queue) repeated(ctx context.Context, r Request) (Scan, error) {
	s, err := q.cfg.Store.ScanByKey(ctx, r.Key, time.Now())
	if err != nil {
		return Scan{}, fmt.Errorf("scan by key: %w", err)
	}
	if err := r.permit(s.Request.Target); err != nil {
		return Scan{}, err
	}
	return q.explain(s), nil
}

// permitted are those of agents where the request may go, and why not to the
// others.
func (r Request) permitted(agents []fleet.AgentName) (names []fleet.AgentName, refused error) {
	for _, name := range agents {
		t := r.Target
		t.Agent = name
		if err := r.permit(t); err != nil {
			refused = err
		} else {
			names = append(names, name)
		}
	}
	return names, refused
}

func (r Request) permit(t Target) error {
	if r.Permit == nil {
		return nil
	}
	return r.Permit(t)
}

func (q *Queue) create(ctx context.Context, r Request) (Scan, error) {
	r.Target = r.Target.plain()
	if err := r.Target.validate(); err != nil {
		return Scan{}, err
	}
	if err := q.fillAgent(ctx, &r); err != nil {
		return Scan{}, err
	}
	if err := q.validateRun(&r); err != nil {
		return Scan{}, err
	}
	profile, threshold, err := q.pin(ctx, r)
	if err != nil {
		return Scan{}, err
	}
	s := q.newScan(r, profile, threshold, storeTime())
	if err := q.cfg.Store.CreateScan(ctx, s); err != nil {
		return Scan{}, fmt.Errorf("create scan: %w", err)
	}
	return q.explain(s), nil
}

func (q *Queue) newScan(r Request, p Profile, threshold string, now time.Time) Scan {
	s := Scan{
		ID:       NewID(),
		Status:   Queued,
		Created:  now,
		Expires:  now.Add(q.cfg.QueueFor),
		Progress: Progress{Total: len(p.Controls)},

		ProfileVersion:  p.Version,
		ProfileDigest:   p.Digest,
		ThresholdDigest: threshold,
	}
	if wait := r.Spread.of(r.Target.Agent); wait > 0 {
		s.NotBefore, s.Expires = now.Add(wait), s.Expires.Add(wait)
	}
	r.Permit, r.Spread = nil, Spread{}
	s.Request = r
	return s
}

// pin finds the profile and the digest of the threshold that r names, and
// keeps both as they are now.
func (q *Queue) pin(ctx context.Context, r Request) (Profile, string, error) {
	p, err := q.cfg.Catalogue.Profile(ctx, r.Profile)
	if errors.Is(err, ErrNoProfile) {
		err = invalid("scan.profile", "%v", err)
	}
	if err == nil {
		err = q.cfg.Catalogue.keep(p.Digest, p.Archive)
	}
	if err != nil || r.Threshold == "" {
		return p, "", err
	}
	t, err := q.cfg.Catalogue.Threshold(ctx, r.Threshold)
	if errors.Is(err, ErrNoThreshold) {
		err = invalid("scan.threshold", "%v", err)
	}
	if err == nil {
		err = q.cfg.Catalogue.keep(t.Digest, t.Text)
	}
	return p, t.Digest, err
}

// fillAgent checks the agent that r names, or names the only one. Who may not
// scan the target isn't told which agents there are.
func (q *Queue) fillAgent(ctx context.Context, r *Request) error {
	name := r.Target.Agent
	if name != "" {
		if err := r.permit(r.Target); err != nil {
			return err
		}
	}
	// One of many is found by itself: to read of all takes much longer.
	agents, err := q.cfg.Agents.ScanTargets(ctx, name)
	if err == nil && len(agents) == 0 && name != "" {
		agents, err = q.cfg.Agents.ScanTargets(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	if len(agents) == 0 {
		return invalid("target.agent", "no agent has joined yet; make a join token and start one")
	}
	names, refused := r.permitted(slices.Sorted(maps.Keys(agents)))
	switch {
	case len(names) == 0:
		return refused
	case name == "" && len(names) == 1:
		r.Target.Agent = names[0]
	case name == "":
		return invalid("target.agent", "is missing, and there are several agents: %s", near.Some(names))
	case !slices.Contains(names, name):
		return invalid("target.agent", "there is no agent %q; %s", name, near.Instead(name, names))
	}
	if kinds := agents[r.Target.Agent]; !slices.Contains(kinds, r.Target.Kind()) {
		field := "target.uri"
		if r.Target.URI == "" {
			field = "target"
		}
		return invalid(field, "agent %s doesn't allow targets of the kind %q; it allows: %s (its owner's setting scan.targets)",
			r.Target.Agent, r.Target.Kind(), join(kinds))
	}
	return nil
}

func (q *Queue) validateRun(r *Request) error {
	switch {
	case r.Timeout == 0:
		r.Timeout = q.cfg.Timeout
	case r.Timeout < time.Second || r.Timeout > MaxTimeout:
		return invalid("options.timeout", "must be between 1 and %d seconds", int(MaxTimeout.Seconds()))
	}
	switch r.Priority {
	case "":
		r.Priority = Normal
	case High, Normal, Low:
	default:
		return invalid("options.priority", "%q is unknown; use high, normal or low", r.Priority)
	}
	if r.SBOM && r.Target.Kind() != KindContainer {
		return invalid("options.sbom", "an SBOM is handed in of containers of a cluster; make one of another target with `reeve sbom`")
	}
	switch r.Method {
	case "", Auto:
	case Exec, Ephemeral, Sidecar:
		if r.Target.Kind() != KindContainer {
			return invalid("options.method", "%q is a way into a container of a cluster; leave it out for other targets", r.Method)
		}
	default:
		return invalid("options.method", "%q is unknown; use auto, exec, ephemeral or sidecar", r.Method)
	}
	return r.Callback.validate()
}

// Get returns one scan, or ErrNotFound.
func (q *Queue) Get(ctx context.Context, id ID) (Scan, error) {
	s, err := q.cfg.Store.Scan(ctx, id)
	if err != nil {
		return Scan{}, fmt.Errorf("scan %s: %w", id, err)
	}
	return q.explain(s), nil
}

// List returns the scans that f chooses.
func (q *Queue) List(ctx context.Context, f Filter) ([]Scan, error) {
	scans, err := q.cfg.Store.Scans(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list scans: %w", err)
	}
	for i := range scans {
		scans[i] = q.explain(scans[i])
	}
	return scans, nil
}

// explain says of a queued scan what it waits for.
func (q *Queue) explain(s Scan) Scan {
	agent := s.Request.Target.Agent
	if s.Status != Queued {
		return s
	}
	wait := fmt.Sprintf("waits for agent %s, which isn't connected; given up at %s", agent, s.Expires.UTC().Format(time.RFC3339))
	switch {
	case !q.cfg.Connected(agent):
	case s.NotBefore.After(time.Now()):
		wait = "begins at " + s.NotBefore.UTC().Format(time.RFC3339)
		if s.Attempt > 0 {
			wait = "is tried again at " + s.NotBefore.UTC().Format(time.RFC3339)
		}
	default:
		wait = fmt.Sprintf("waits for its turn at agent %s, which runs as many at a time as its owner's setting scan.jobs says", agent)
	}
	if s.Reason != "" {
		wait = s.Reason + "; " + wait
	}
	s.Reason = wait
	return s
}

// Results gives the results document of a completed scan, or ErrNoResult.
// The caller closes it.
func (q *Queue) Results(ctx context.Context, id ID) (io.ReadCloser, error) {
	s, err := q.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.ResultDigest == "" {
		return nil, fmt.Errorf("scan %s is %s: %w", id, s.Status, ErrNoResult)
	}
	return q.cfg.Store.Document(s.ResultDigest)
}

// Changed returns a channel that is closed when the scan changes. Take the
// channel first and look at the scan second. Another hub's changes don't
// close it, so look again now and then.
func (q *Queue) Changed(id ID) <-chan struct{} { return q.cfg.Store.ScanChanged(id) }

// Cancel ends a scan that isn't finished, and returns it. A running one is
// cancelled at once; its agent learns of it by the answer to its next report.
func (q *Queue) Cancel(ctx context.Context, id ID, by string) (Scan, error) {
	reason := "cancelled"
	if by != "" {
		reason = "cancelled by " + by
	}
	err := q.cfg.Store.FinishScan(ctx, Finish{ID: id, Status: Cancelled, Reason: reason}, time.Now())
	if err != nil {
		return Scan{}, fmt.Errorf("cancel scan %s: %w", id, err)
	}
	return q.Get(ctx, id)
}

// Lease gives the peer its next job. It waits for one until ctx is done, and
// then returns nil and no error. Holding is all that the peer has: what was
// leased to it besides, in an answer that didn't arrive, is queued again.
func (q *Queue) Lease(ctx context.Context, peer fleet.Peer, kinds []string, holding []ID) (*Job, error) {
	var err error
	apart(func() { err = q.release(ctx, peer.Agent, peer.Instance, holding) })
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	t := Taker{
		Agent: peer.Agent, Instance: peer.Instance, Kinds: kinds, Holding: holding,
		LeaseFor: q.cfg.LeaseFor, Grace: grace,
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		queued := q.cfg.Store.ScanQueued(peer.Agent)
		var job *Job
		apart(func() { job, err = q.leaseNow(ctx, t) })
		switch {
		case err == nil:
			return job, nil
		case ctx.Err() != nil:
			return nil, nil
		case !errors.Is(err, ErrNotFound):
			return nil, fmt.Errorf("lease a scan: %w", err)
		}
		select {
		case <-queued:
		case <-poll.C:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (q *Queue) leaseNow(ctx context.Context, t Taker) (*Job, error) {
	s, err := q.cfg.Store.LeaseScan(ctx, t, time.Now())
	if err != nil {
		return nil, err
	}
	q.cfg.Logger.InfoContext(ctx, "scan leased", "scan", s.ID, "agent", t.Agent, "attempt", s.Attempt)
	return q.job(s), nil
}

// apart calls f in a goroutine of its own. To ask the database takes much of a
// stack, and each agent has a lease that holds its stack until there is work.
// What f panics with the caller does, whose request is all that ends of it.
func apart(f func()) {
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		f()
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
}

func (q *Queue) job(s Scan) *Job {
	return &Job{
		ID: s.ID, Attempt: s.Attempt, Target: s.Request.Target,
		Profile: s.Request.Profile, ProfileDigest: s.ProfileDigest,
		Inputs: s.Request.Inputs, Timeout: s.Request.Timeout, Method: s.Request.Method, SBOM: s.Request.SBOM, Selector: s.Selector, LeaseFor: q.cfg.LeaseFor,
	}
}

// Profile gives the archive of a profile that a scan of the peer needs.
func (q *Queue) Profile(ctx context.Context, peer fleet.Peer, digest string) (io.ReadCloser, error) {
	ok, err := q.cfg.Store.MayReadProfile(ctx, peer.Agent, digest)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", digest, err)
	}
	if !ok {
		return nil, fmt.Errorf("profile %s: no scan of agent %s needs it: %w", digest, peer.Agent, ErrNotFound)
	}
	return q.cfg.Store.Document(digest)
}

// Progress notes how far the peer's attempt is and extends its lease. After
// ErrNotFound, ErrFinished and ErrStale the peer stops the run.
func (q *Queue) Progress(ctx context.Context, peer fleet.Peer, id ID, attempt int, p Progress) error {
	err := q.cfg.Store.RenewLease(ctx, Renewal{
		ID: id, Agent: peer.Agent, Instance: peer.Instance, Attempt: attempt,
		Progress: Progress{Done: max(p.Done, 0), Total: max(p.Total, 0), Control: cut(p.Control)},
		LeaseFor: q.cfg.LeaseFor,
	}, time.Now())
	if err != nil {
		return fmt.Errorf("progress of scan %s: %w", id, err)
	}
	return nil
}

// Complete takes the results of an attempt, of an earlier one too as long as
// the scan isn't finished. It returns nil once they and all that follows
// from them are durable. Results that can't be read put the scan in error
// and are ErrBadResult.
func (q *Queue) Complete(ctx context.Context, peer fleet.Peer, id ID, attempt int, results io.Reader) error {
	s, err := q.cfg.Store.Scan(ctx, id)
	if err == nil {
		err = s.takes(peer, attempt)
	}
	if err == nil && s.Selector != nil {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("complete scan %s: %w", id, err)
	}
	digest, size, err := q.cfg.Store.PutDocument(results, MaxResults)
	now := time.Now()
	s.Status, s.Attempt, s.Finished = Completed, attempt, now
	var verdict Verdict
	var policies []fleet.Result
	if err == nil {
		verdict, policies, err = q.verdict(ctx, s, digest)
	}
	if errors.Is(err, ErrBadResult) {
		// The refusal is final only once the scan's end is.
		if ferr := q.Fail(ctx, peer, id, attempt, err.Error(), false); ferr != nil {
			return ferr
		}
	}
	if err != nil {
		return fmt.Errorf("judge scan %s: %w", id, err)
	}
	s.Outcome, s.Counts = verdict.Outcome, verdict.Counts
	outcome := q.cfg.Outcome(s, verdict)
	err = q.cfg.Store.FinishScan(ctx, Finish{
		ID: id, Agent: peer.Agent, Attempt: attempt, Status: Completed,
		Verdict: verdict, ResultDigest: digest, ResultSize: size,
		Outcomes: []fleet.Outcome{outcome}, Sinks: q.sinks(s), Results: policies,
	}, now)
	if err != nil {
		return fmt.Errorf("complete scan %s: %w", id, err)
	}
	q.cfg.Logger.InfoContext(ctx, "scan completed", "scan", id, "agent", peer.Agent, "outcome", verdict.Outcome,
		"passed", verdict.Counts.Passed, "failed", verdict.Counts.Failed, "errors", verdict.Counts.Error)
	return nil
}

// sinks are the names of those that the outcome of s is told to.
func (q *Queue) sinks(s Scan) []string {
	if q.cfg.MoreSinks == nil {
		return q.cfg.Sinks
	}
	return slices.Concat(q.cfg.Sinks, q.cfg.MoreSinks(s))
}

// takes says early what FinishScan will say, before anything is kept.
func (s Scan) takes(peer fleet.Peer, attempt int) error {
	switch {
	case s.Request.Target.Agent != peer.Agent, attempt < 1, attempt > s.Attempt:
		return ErrNotFound
	case s.Status.Final():
		return ErrFinished
	}
	return nil
}

// verdict judges the kept document: what is told is what is kept.
func (q *Queue) verdict(ctx context.Context, s Scan, digest string) (v Verdict, policies []fleet.Result, err error) {
	select {
	case q.judging <- struct{}{}:
		defer func() { <-q.judging }()
	case <-ctx.Done():
		return v, nil, context.Cause(ctx)
	}
	doc, err := q.document(digest)
	if err != nil {
		return v, nil, err
	}
	doc.Seal()
	if s.Request.Threshold == "" {
		v = judge(doc, false, nil)
	} else {
		findings, err := q.cfg.Catalogue.check(ctx, s.Request.Threshold, s.ThresholdDigest, doc)
		if err != nil {
			return v, nil, err
		}
		v = judge(doc, true, findings)
	}
	if q.cfg.Policies != nil {
		policies = q.cfg.Policies(ctx, Judged{Scan: s, Verdict: v, Results: doc, Threshold: func(name string) ([]string, error) {
			t, err := q.cfg.Catalogue.Threshold(ctx, name)
			if err != nil {
				return nil, err
			}
			return q.cfg.Catalogue.check(ctx, t.Name, t.Digest, doc)
		}})
	}
	return v, policies, nil
}

// document reads kept results. ErrBadResult is for what is wrong with them;
// an error of the disk isn't the agent's fault.
func (q *Queue) document(digest string) (*hdf.Results, error) {
	r, err := q.cfg.Store.Document(digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	disk := &reader{r: r}
	doc, err := hdf.Decode(disk)
	if disk.err != nil {
		return nil, disk.err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadResult, err)
	}
	controls := 0
	for _, p := range doc.Profiles {
		controls += len(p.Controls)
	}
	if len(doc.Profiles) > maxProfiles || controls > maxControls {
		return nil, fmt.Errorf("%w: %d profiles with %d controls; at most %d and %d are judged",
			ErrBadResult, len(doc.Profiles), controls, maxProfiles, maxControls)
	}
	return doc, nil
}

// reader keeps the error with which r failed.
type reader struct {
	r   io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// Fail takes the reason for which an attempt could not be made. A transient
// one is a fault around the scan, not of it: it is tried again, after a while.
func (q *Queue) Fail(ctx context.Context, peer fleet.Peer, id ID, attempt int, reason string, transient bool) error {
	if attempt < 1 {
		return fmt.Errorf("fail scan %s: %w", id, ErrNotFound)
	}
	reason = cut(reason)
	now := time.Now()
	f := Finish{ID: id, Agent: peer.Agent, Attempt: attempt, Status: Error, Reason: reason}
	if transient {
		wait := min(retryFirst<<min(attempt-1, 10), retryMost)
		f.Retry = &Retry{MaxAttempts: q.cfg.MaxAttempts, At: now.Add(wait + rand.N(wait/2)), QueueFor: q.cfg.QueueFor}
	}
	if err := q.cfg.Store.FinishScan(ctx, f, now); err != nil {
		return fmt.Errorf("fail scan %s: %w", id, err)
	}
	q.cfg.Logger.WarnContext(ctx, "scan could not be made", "scan", id, "agent", peer.Agent, "reason", reason, "transient", transient)
	return nil
}

// Release is called when an agent process joins: what it was running when it
// was last here and doesn't hold any more is queued again at once.
func (q *Queue) Release(ctx context.Context, agent fleet.AgentName, instance fleet.InstanceID, holding []string) error {
	ids := make([]ID, len(holding))
	for i, id := range holding {
		ids[i] = ID(id)
	}
	return q.release(ctx, agent, instance, ids)
}

func (q *Queue) release(ctx context.Context, agent fleet.AgentName, instance fleet.InstanceID, holding []ID) error {
	h := Holder{
		Agent: agent, Instance: instance, Holding: holding,
		LeaseFor: q.cfg.LeaseFor, MaxAttempts: q.cfg.MaxAttempts, QueueFor: q.cfg.QueueFor,
	}
	if err := q.cfg.Store.ReleaseScans(ctx, h, time.Now()); err != nil {
		return fmt.Errorf("release the scans of agent %s: %w", agent, err)
	}
	return nil
}

// Run acts on leases and deadlines that pass, until ctx is done. It begins
// after the time of one lease, so that agents find the way back to a hub that
// was down before it takes their scans from them.
func (q *Queue) Run(ctx context.Context) error {
	wait := q.cfg.LeaseFor
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wait = q.cfg.LeaseFor / 4
		n, err := q.cfg.Store.ExpireScans(ctx, q.cfg.MaxAttempts, q.cfg.QueueFor, time.Now())
		if err != nil && ctx.Err() == nil {
			q.cfg.Logger.ErrorContext(ctx, "cannot look for expired leases, will retry", "error", err)
		}
		if n > 0 {
			q.cfg.Logger.WarnContext(ctx, "leases or deadlines of scans have passed", "scans", n)
		}
	}
}

func join[S ~string](list []S) string {
	if len(list) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}
