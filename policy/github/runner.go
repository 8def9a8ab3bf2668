package github

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v89/github"
	"github.com/google/uuid"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/policy"
)

// Task is that an organisation, or one repository of it, is to be checked.
type Task struct {
	// Connection is the name of the GitHub connection.
	Connection string
	Owner      string
	// Repo is empty for all repositories of the owner.
	Repo string
	// Cause is why, such as clock or push.
	Cause string
	Due   time.Time
	// Stamp changes with each mark; see Work.
	Stamp string
}

// Work keeps what is to be checked, so that neither a webhook nor a cycle is
// lost with a hub, and of several hubs one does it. Its methods may be called
// concurrently.
type Work interface {
	// MarkGitHub has t.Owner or t.Repo checked at t.Due, or earlier if it was to be.
	// Unless anew, what is there already stays as it is.
	MarkGitHub(ctx context.Context, t Task, anew bool) error
	// LeaseGitHub gives tasks of a connection that are due and that nobody holds,
	// and says when the next one is due; zero: none waits. lease is never used
	// again.
	LeaseGitHub(ctx context.Context, connection, lease string, now, until time.Time, limit int) ([]Task, time.Time, error)
	// ExtendGitHub prolongs a lease; false if it is another's by now.
	ExtendGitHub(ctx context.Context, t Task, lease string, until time.Time) (bool, error)
	// SettleGitHub ends a lease. The task is due again at next; if that is zero it
	// is done with. One that was marked since it was leased stays due.
	SettleGitHub(ctx context.Context, t Task, lease string, next time.Time) error
	// GitHubMarked returns a channel that is closed when this process marks a task.
	GitHubMarked() <-chan struct{}
}

// Store is what a Runner keeps things in.
type Store interface {
	policy.Recorder
	Responses
	Standings
	Work
}

// RunnerConfig is what a Runner works with. Store, Holder and Logger are needed.
type RunnerConfig struct {
	Connections []Config
	Store       Store
	// Sinks are those that actions name; IssueSink is that of the action issue
	// by a connection.
	Sinks     policy.Sinks
	IssueSink func(connection string) string
	// EndpointSink is the sink of an organisation's own rpcEndpoint. An error says
	// why the operator doesn't let alerts go there.
	EndpointSink func(endpoint string) (string, error)
	// Holder names this hub among those on the same database.
	Holder string
	Logger *slog.Logger
	// Transport makes the requests; nil is the usual way.
	Transport http.RoundTripper
}

// Runner checks the repositories of organisations again and again, and when a
// webhook says that something changed.
type Runner struct {
	cfg   RunnerConfig
	log   *slog.Logger
	conns []*connection
	stats *stats
	// settings are those for issues, which are made later.
	settings settingsKept
}

const (
	leaseFor = 2 * time.Minute
	// discoverEvery is how often it is asked who has installed the App, at least.
	discoverEvery = 10 * time.Minute
	// pollEvery is how often it is looked for what other hubs marked.
	pollEvery = 15 * time.Second
	// retryAfterFault is when a cycle is tried again that couldn't begin.
	retryAfterFault = 5 * time.Minute
	maxTasks        = 32 // of a connection at once; some may wait for their limit
	webhookDelay    = 2 * time.Second
)

// NewRunner prepares a Runner; Run starts it.
func NewRunner(cfg RunnerConfig) (*Runner, error) {
	r := &Runner{cfg: cfg, log: cfg.Logger, stats: newStats()}
	for _, c := range cfg.Connections {
		conn, err := connect(c, cfg.Transport, cfg.Logger.With("github", c.Name))
		if err != nil {
			return nil, fmt.Errorf("github %s: %w", c.Name, err)
		}
		r.conns = append(r.conns, conn)
	}
	return r, nil
}

// Close ends idle connections.
func (r *Runner) Close() error {
	for _, c := range r.conns {
		c.close()
	}
	return nil
}

// permit says why alerts may not go to an organisation's own endpoint.
func (r *Runner) permit(endpoint string) error {
	_, err := r.cfg.EndpointSink(endpoint)
	return err
}

func (r *Runner) connection(name string) *connection {
	for _, c := range r.conns {
		if c.cfg.Name == name {
			return c
		}
	}
	return nil
}

// Run checks until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, c := range r.conns {
		all.Go(func() { r.serve(ctx, c) })
	}
	all.Go(func() { r.stand(ctx) })
	all.Wait()
	return nil
}

// serve does the tasks of a connection.
func (r *Runner) serve(ctx context.Context, c *connection) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, maxTasks)
	ended := make(chan struct{}, 1)
	var discover time.Time
	for ctx.Err() == nil {
		marked := r.cfg.Store.GitHubMarked() // before looking, so that none is missed
		now := time.Now()
		wait := pollEvery
		if !now.Before(discover) {
			discover = now.Add(discoverEvery)
			if err := r.discover(ctx, c); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "who is to be checked can't be told; trying again", "error", err)
				discover = now.Add(time.Minute)
			}
		}
		if free := maxTasks - len(slots); free > 0 {
			lease := uuid.NewString()
			tasks, next, err := r.cfg.Store.LeaseGitHub(ctx, c.cfg.Name, lease, now, now.Add(leaseFor), free)
			if err != nil && ctx.Err() == nil {
				c.log.ErrorContext(ctx, "repositories to check can't be leased; trying again", "error", err)
			}
			for _, t := range tasks {
				slots <- struct{}{}
				running.Go(func() {
					r.do(ctx, c, t, lease)
					<-slots
					select {
					case ended <- struct{}{}:
					default:
					}
				})
			}
			if !next.IsZero() {
				wait = min(wait, time.Until(next))
			}
		}
		timer := time.NewTimer(max(min(wait, time.Until(discover)), time.Millisecond))
		select {
		case <-ctx.Done():
		case <-marked:
		case <-ended:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// discover has each organisation that may be checked checked.
func (r *Runner) discover(ctx context.Context, c *connection) error {
	all, err := c.open(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := r.cfg.Store.MarkGitHub(ctx, Task{Connection: c.cfg.Name, Owner: a.login, Cause: "clock", Due: time.Now()}, false); err != nil {
			return err
		}
	}
	return nil
}

// do carries out a task and settles it.
func (r *Runner) do(ctx context.Context, c *connection, t Task, lease string) {
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	held := make(chan struct{})
	var holding sync.WaitGroup
	holding.Go(func() { r.hold(ctx, t, lease, held, lost) })
	err := r.check(ctx, c, t)
	close(held)
	holding.Wait()
	if errors.Is(context.Cause(ctx), errLeaseLost) {
		c.log.WarnContext(ctx, "another hub goes on with the check", "organisation", t.Owner)
		return
	}
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var next time.Time
	switch now := time.Now(); {
	case ctx.Err() != nil:
		next = t.Due // the hub stops; another one, or the next start, does it
	case errors.Is(err, policy.ErrRunOver):
		next = now // a whole cycle began meanwhile
	case errors.Is(err, ErrNoAccount):
		if next, err = r.left(ctx, c, t, now); err != nil {
			c.log.ErrorContext(ctx, "what becomes of the checks of an organisation can't be told; trying again", "organisation", t.Owner, "error", err)
			next = now.Add(retryAfterFault)
		} else if next.IsZero() {
			c.log.InfoContext(ctx, "not checked any more", "organisation", t.Owner)
		}
	case err != nil:
		c.log.ErrorContext(ctx, "the repositories weren't checked; trying again", "organisation", t.Owner, "repository", t.Repo, "error", err)
		next = now.Add(min(retryAfterFault, c.cfg.interval()))
	case t.Repo == "":
		next = now.Add(c.cfg.interval())
	}
	if err := r.cfg.Store.SettleGitHub(settling, t, lease, next); err != nil {
		c.log.ErrorContext(ctx, "a check's end can't be recorded; it will be repeated", "organisation", t.Owner, "error", err)
	}
}

// leftFor is how long an organisation is without the App before it counts as gone:
// the App may have been replaced, or be installed anew at once.
const leftFor = time.Hour

// left ends what stands of an organisation that has uninstalled the App, and only
// then: not while it can't be told, nor if it is suspended or the configuration
// leaves it out. It says when that is to be looked at again; zero: not.
func (r *Runner) left(ctx context.Context, c *connection, t Task, now time.Time) (again time.Time, err error) {
	if c.app == nil || t.Repo != "" {
		return time.Time{}, nil
	}
	all, err := r.cfg.Store.GitHubStandings(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var name string
	var seen time.Time
	for _, s := range all {
		switch {
		case !strings.EqualFold(s.Organisation, t.Owner):
		case s.Connection != c.cfg.Name && r.connection(s.Connection) != nil:
			return time.Time{}, nil // it is checked by another connection
		case s.Connection == c.cfg.Name && s.Saved.After(seen):
			name, seen = s.Organisation, s.Saved
		}
	}
	if name == "" {
		return time.Time{}, nil
	}
	if there, err := c.installed(ctx, t.Owner); err != nil || there {
		return time.Time{}, err
	}
	if until := seen.Add(leftFor); until.After(now) {
		return until, nil
	}
	run := policy.Run{ID: policy.NewRunID(), Source: Source(name), Cause: "uninstalled", Whole: true, Holder: r.cfg.Holder, Began: now}
	if err := r.cfg.Store.BeginPolicyRun(ctx, run); err != nil {
		return time.Time{}, err
	}
	return time.Time{}, r.cfg.Store.EndPolicyRun(ctx, run.ID, "", now)
}

var errLeaseLost = errors.New("the lease was lost")

// hold prolongs a lease until held is closed.
func (r *Runner) hold(ctx context.Context, t Task, lease string, held <-chan struct{}, lost context.CancelCauseFunc) {
	until := time.Now().Add(leaseFor)
	tick := time.NewTicker(leaseFor / 4)
	defer tick.Stop()
	for {
		select {
		case <-held:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next := time.Now().Add(leaseFor)
		mine, err := r.cfg.Store.ExtendGitHub(ctx, t, lease, next)
		switch {
		case err == nil && mine:
			until = next
		case err == nil || time.Now().After(until):
			lost(errLeaseLost)
			return
		}
	}
}

// Source is the source of the runs of an organisation's checks.
func Source(owner string) string { return "github/" + owner }

// check makes one cycle: of all repositories, or of one.
func (r *Runner) check(ctx context.Context, c *connection, t Task) error {
	a, err := c.of(ctx, t.Owner)
	if err != nil {
		return err
	}
	whole := t.Repo == ""
	if whole {
		if err := r.cfg.Store.AbandonPolicyRuns(ctx, Source(a.login), "", "it was begun anew", time.Now()); err != nil {
			return err
		}
	}
	m, err := recall(ctx, r.cfg.Store, c.cfg.Name, orgScope(a))
	if err != nil {
		return err
	}
	cy := &cycle{
		Runner: r, conn: c, acct: a, whole: whole,
		run: policy.Run{ID: policy.NewRunID(), Source: Source(a.login), Cause: t.Cause, Whole: whole, Holder: r.cfg.Holder, Began: time.Now()},
	}
	var repos []*gh.Repository
	org, err := readOrg(ctx, a, m, r.permit)
	if err == nil {
		repos, err = cy.list(ctx, m, t.Repo)
	}
	if err != nil {
		return cy.fault(ctx, err)
	}
	cy.org = org
	cy.security = newSecurityLoader(a, repos)
	cy.tags = &tagLoader{m: m, turn: newTurn(), byRef: map[string]map[string]string{}}
	cy.scores = newScores(c.cfg.Scorecard, c.base)
	err = cy.judge(ctx, repos)
	if whole {
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := m.save(saving, r.cfg.Store, time.Now()); err != nil {
			c.log.WarnContext(ctx, "what GitHub answered can't be kept; it will be asked for again", "organisation", a.login, "error", err)
		}
	}
	return err
}

// cycle is one check of an organisation's repositories, or of one.
type cycle struct {
	*Runner
	conn     *connection
	acct     *account
	org      *orgFiles
	security *securityLoader
	tags     *tagLoader
	scores   *scores
	run      policy.Run
	whole    bool

	mu       sync.Mutex // guards the rest
	recorded int
	fatal    error // ends the cycle
}

// list are the repositories that the cycle is about.
func (c *cycle) list(ctx context.Context, m *memory, repo string) ([]*gh.Repository, error) {
	ctx = remembering(ctx, m)
	if c.whole {
		return c.acct.repositories(ctx)
	}
	one, _, err := c.acct.client.Repositories.Get(remembering(ctx, nil), c.acct.login, repo)
	if status(err) == http.StatusNotFound {
		return nil, nil // it is gone, and the next whole cycle forgets it
	}
	if err != nil {
		return nil, plain(err)
	}
	if !strings.EqualFold(one.GetOwner().GetLogin(), c.acct.login) {
		return nil, nil // GitHub led to where it was moved
	}
	return []*gh.Repository{one}, nil
}

// fault records a cycle that couldn't begin.
func (c *cycle) fault(ctx context.Context, err error) error {
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if e := c.cfg.Store.BeginPolicyRun(recording, c.run); e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err, c.cfg.Store.EndPolicyRun(recording, c.run.ID, "it could not begin: "+err.Error(), time.Now()))
}

// judge checks the repositories, several at once, and records each as it is
// done with. The fault of one is its own.
func (c *cycle) judge(ctx context.Context, repos []*gh.Repository) error {
	c.run.Expected = c.foreseen(repos)
	if err := c.cfg.Store.BeginPolicyRun(ctx, c.run); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if c.whole {
		if err := c.record(ctx, c.configuration()); err != nil {
			return c.end(ctx, err)
		}
	}
	work := make(chan *gh.Repository)
	var workers sync.WaitGroup
	for range min(c.conn.cfg.concurrency(), max(len(repos), 1)) {
		workers.Go(func() {
			for repo := range work {
				if err := c.one(ctx, repo); err != nil {
					c.mu.Lock()
					if c.fatal == nil {
						c.fatal = err
					}
					c.mu.Unlock()
					stop()
				}
			}
		})
	}
	for _, repo := range repos {
		select {
		case work <- repo:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	workers.Wait()
	c.mu.Lock()
	err := c.fatal
	c.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	return c.end(ctx, err)
}

// end ends the run; with an error it stays truncated.
func (c *cycle) end(ctx context.Context, err error) error {
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	c.mu.Lock()
	n := c.recorded
	c.mu.Unlock()
	reason := ""
	if err != nil {
		reason = "it was cut short: " + err.Error()
	} else if e := c.cfg.Store.ExpectResults(ending, c.run.ID, n); e != nil {
		err = e
	}
	if e := c.cfg.Store.EndPolicyRun(ending, c.run.ID, reason, time.Now()); e != nil {
		err = errors.Join(err, e)
	}
	if err == nil && c.whole {
		c.stats.complete(c.conn.cfg.Name, c.acct.login)
		c.conn.log.InfoContext(ctx, "repositories checked", "organisation", c.acct.login, "run", c.run.ID, "results", n, "took", time.Since(c.run.Began).Round(time.Millisecond))
	}
	return err
}

// foreseen is how many results the organisation's own files lead to, as far as
// that can be told before the repositories' are read.
func (c *cycle) foreseen(repos []*gh.Repository) (n int) {
	bot, _ := c.org.resolve(botFile, nil, nil)
	var opts []options
	for _, p := range policies {
		settings := p.defaults()
		o, _ := c.org.resolve(p.file, nil, settings)
		opts = append(opts, byGroups(settings, o))
	}
	for _, repo := range repos {
		if !bot.enabled(repo) {
			continue
		}
		for _, o := range opts {
			if o.enabled(repo) {
				n++
			}
		}
	}
	if c.whole {
		n++ // the configuration's own
	}
	return n
}

// byGroups: the policy GitHub Actions is on wherever the bot is, as soon as it
// has groups of rules.
func byGroups(settings rule, o options) options {
	if a, ok := settings.(*actions); ok {
		return options{org: optConfig{OptOutStrategy: a.active()}}
	}
	return o
}

// The names under which it is recorded whether files of configuration can be
// understood.
const (
	orgConfigPolicy  = "Organisation Configuration"
	repoConfigPolicy = "Repository Configuration"
)

// configuration is how the organisation's own files stand.
func (c *cycle) configuration() []fleet.Result {
	repo := c.org.repo
	if repo == "" {
		repo = orgRepo
	}
	return []fleet.Result{c.configured(orgConfigPolicy, repo, c.org.problems, "")}
}

func (c *cycle) configured(name, repo string, problems []Problem, unknown string) fleet.Result {
	o := fleet.Outcome{Subject: fleet.Subject{Owner: c.acct.login, Repo: repo}, Policy: name, Run: string(c.run.ID), At: time.Now(), Pass: len(problems) == 0, Details: "All that the files say is understood."}
	if len(problems) > 0 {
		var texts []string
		for _, p := range problems {
			texts = append(texts, p.String())
			c.conn.log.Warn("configuration that can't be understood", "organisation", c.acct.login, "file", p.File, "layer", string(p.Layer), "line", p.Line, "key", p.Key, "problem", p.Text)
		}
		o.Details = "The files of Allstar's configuration have mistakes. What they are about is checked as if they weren't there; no check is turned off by them.\n\n- " + strings.Join(texts, "\n- ") + "\n"
	}
	return fleet.Result{Outcome: o, Unknown: unknown}
}

// one checks a repository and records what came of it. An error ends the cycle:
// nothing can be recorded, or it is to stop.
func (c *cycle) one(ctx context.Context, info *gh.Repository) error {
	results, err := c.results(ctx, info)
	if err != nil {
		return err
	}
	return c.record(ctx, results)
}

// record keeps results; it tries until it can, or the run is another's.
func (c *cycle) record(ctx context.Context, results []fleet.Result) error {
	if len(results) == 0 {
		return nil
	}
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		err := c.cfg.Store.RecordResults(ctx, c.run.ID, results, time.Now())
		if err == nil {
			break
		}
		if errors.Is(err, policy.ErrRunOver) || ctx.Err() != nil {
			return err
		}
		c.conn.log.WarnContext(ctx, "results can't be recorded; trying again", "organisation", c.acct.login, "error", err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recorded += len(results)
	for _, r := range results {
		c.stats.count(c.conn.cfg.Name, r)
	}
	return nil
}

// results checks a repository.
func (c *cycle) results(ctx context.Context, info *gh.Repository) (out []fleet.Result, err error) {
	if !c.possible(info) {
		return nil, nil
	}
	m, err := recall(ctx, c.cfg.Store, c.conn.cfg.Name, repoScope(c.acct, info))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := m.save(context.WithoutCancel(ctx), c.cfg.Store, time.Now()); err != nil {
			c.conn.log.WarnContext(ctx, "what GitHub answered can't be kept; it will be asked for again", "repository", info.GetFullName(), "error", err)
		}
	}()
	ctx = remembering(ctx, m)
	r := &repository{Repository: info, acct: c.acct, conn: c.conn, bot: &botSettings{}, security: c.security, tags: c.tags, scores: c.scores}
	files, err := c.files(ctx, m, r)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return c.unread(r, err), nil
	}
	problems := files.problems
	bot, more := c.org.resolve(botFile, files, r.bot)
	problems = append(problems, more...)
	c.settings.keep(settingsKey(c.conn.cfg.Name, c.acct.login, info.GetName()), *r.bot)
	on := bot.enabled(info)
	for _, p := range policies {
		settings := p.defaults()
		opts, more := c.org.resolve(p.file, files, settings)
		problems = append(problems, more...)
		if a, ok := settings.(*actions); ok {
			if on && opts.broken[OrgLayer] && !a.active() {
				out = append(out, c.result(r, p.name, settings, verdict{}, unjudged("the organisation's %s can't be understood", p.file), nil))
			}
		}
		opts = byGroups(settings, opts)
		if !on || !opts.enabled(info) {
			continue
		}
		v, err := c.safely(ctx, r, p.name, settings)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		out = append(out, c.result(r, p.name, settings, v, err, &problems))
	}
	if hasFiles(files) || len(problems) > 0 {
		out = append(out, c.configured(repoConfigPolicy, info.GetName(), problems, ""))
	}
	return out, nil
}

func hasFiles(f *repoFiles) bool {
	for _, l := range f.layers {
		if len(l.docs)+len(l.broken) > 0 {
			return true
		}
	}
	return false
}

// possible reports whether a repository can have a check at all, whatever its
// own files say, so that they needn't be read otherwise.
func (c *cycle) possible(info *gh.Repository) bool {
	could := func(o options) bool {
		if o.enabled(info) {
			return true
		}
		return !o.org.OptOutStrategy && (!o.org.DisableRepoOverride || !c.org.whole || c.org.entries[info.GetName()] == "dir")
	}
	bot, _ := c.org.resolve(botFile, nil, nil)
	if !could(bot) {
		return false
	}
	for _, p := range policies {
		settings := p.defaults()
		o, _ := c.org.resolve(p.file, nil, settings)
		if a, ok := settings.(*actions); ok {
			if a.active() || o.broken[OrgLayer] {
				return true
			}
		} else if could(o) {
			return true
		}
	}
	return false
}

// files reads the configuration for a repository.
func (c *cycle) files(ctx context.Context, m *memory, r *repository) (*repoFiles, error) {
	root, err := r.list(ctx, r.GetDefaultBranch(), "")
	if err != nil {
		return nil, err
	}
	ctx, err = r.contents(ctx, r.GetDefaultBranch())
	if err != nil {
		return nil, err
	}
	return c.org.readRepo(ctx, m, r.GetName(), root)
}

// unread is what a repository comes to whose own files can't be read: none of
// the checks that the organisation wants could be made.
func (c *cycle) unread(r *repository, err error) []fleet.Result {
	reason := "the repository can't be read: " + err.Error()
	c.conn.log.Warn("a repository can't be checked", "repository", r.full(), "error", err)
	out := []fleet.Result{c.configured(repoConfigPolicy, r.GetName(), nil, reason)}
	bot, _ := c.org.resolve(botFile, nil, nil)
	for _, p := range policies {
		settings := p.defaults()
		o, _ := c.org.resolve(p.file, nil, settings)
		if bot.enabled(r.Repository) && byGroups(settings, o).enabled(r.Repository) {
			out = append(out, c.result(r, p.name, settings, verdict{}, errors.New(reason), nil))
		}
	}
	return out
}

// safely judges by one rule, and mends what may be mended. A panic is the fault
// of that rule on that repository.
func (c *cycle) safely(ctx context.Context, r *repository, name string, rule rule) (v verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.conn.log.ErrorContext(ctx, "panic in a check", "repository", r.full(), "policy", name, "panic", p, "stack", string(debug.Stack()))
			err = errors.New("an internal error; the hub's log has more")
		}
	}()
	v, err = rule.judge(ctx, r)
	f, can := rule.(fixer)
	if err != nil || v.pass || rule.action() != actFix || !can {
		return v, err
	}
	done, err := f.fix(ctx, r)
	if err != nil {
		v.text += "\nIt could not be mended: " + err.Error() + "\n"
		c.conn.log.WarnContext(ctx, "a repository can't be mended", "repository", r.full(), "policy", name, "error", err)
	}
	if len(done) == 0 {
		return v, nil
	}
	c.conn.log.InfoContext(ctx, "mended a repository", "repository", r.full(), "policy", name, "done", done)
	after := &repository{Repository: r.Repository, acct: r.acct, conn: r.conn, bot: r.bot, security: r.security, tags: r.tags, scores: r.scores}
	again, err := rule.judge(ctx, after)
	if err != nil {
		return v, nil
	}
	again.text = "It was mended: " + strings.Join(done, "; ") + ".\n" + again.text
	return again, nil
}

// result is what a rule came to, and whom that is told.
func (c *cycle) result(r *repository, name string, settings rule, v verdict, err error, problems *[]Problem) fleet.Result {
	act := settings.action()
	out := fleet.Result{Outcome: fleet.Outcome{
		Subject: fleet.Subject{Owner: c.acct.login, Repo: r.GetName()}, Policy: name, Pass: v.pass, Details: v.text, Run: string(c.run.ID), At: time.Now(),
	}}
	if err != nil {
		out.Unknown = err.Error()
		out.Outcome.Details = "It could not be judged: " + err.Error()
		c.conn.log.Warn("a policy can't be judged", "repository", r.full(), "policy", name, "error", err)
		return out
	}
	sinks, err := c.sinks(r, act, v.pass)
	if err != nil {
		c.conn.log.Warn("an outcome can't be told as its action says", "repository", r.full(), "policy", name, "error", err)
		if problems != nil {
			*problems = append(*problems, Problem{Layer: RepoLayer, File: r.full() + ": " + name, Key: "action", Text: err.Error()})
		}
	}
	out.Sinks = sinks
	level := slog.LevelDebug
	if act == actLog {
		level = slog.LevelInfo
	}
	c.conn.log.Log(context.Background(), level, "policy checked", "repository", r.full(), "policy", name, "passed", v.pass, "action", act)
	return out
}

// sinks are those that an action leads to. Issues are closed by a pass also
// where the action mends by itself.
func (c *cycle) sinks(r *repository, act string, pass bool) ([]string, error) {
	switch {
	case act == actLog:
		return nil, nil
	case act == actIssue, act == actFix && pass:
		return []string{c.cfg.IssueSink(c.conn.cfg.Name)}, nil
	case act == actFix:
		return nil, nil
	case act == actRPC && r.bot.RPCEndpoint != "":
		sink, err := c.cfg.EndpointSink(r.bot.RPCEndpoint)
		if err != nil {
			return nil, fmt.Errorf("rpcEndpoint: %w", err)
		}
		return []string{sink}, nil
	case act == actRPC && len(c.conn.cfg.RPC) > 0:
		return c.conn.cfg.RPC, nil
	}
	a, err := policy.ParseAction(act)
	if err != nil {
		return nil, err
	}
	sink, err := c.cfg.Sinks.Resolve(a)
	if err != nil || sink == "" {
		return nil, err
	}
	return []string{sink}, nil
}
