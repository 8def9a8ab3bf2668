package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrLimited means that GitHub's rate limit leaves a request no place within
// the time that it may wait.
var ErrLimited = errors.New("GitHub's rate limit is used up")

const (
	// tries is how often a request is made that GitHub fails to answer, and
	// limitTries one that it refuses because there were too many.
	tries      = 3
	limitTries = 12
	// maxLimitWait is a little more than the hour after which the primary limit
	// begins anew.
	maxLimitWait = 65 * time.Minute
	// After a secondary limit that doesn't say for how long, GitHub asks for a
	// minute at least, and longer each time.
	secondaryWait = time.Minute
	maxRefusal    = 64 << 10
	maxRetryAfter = 24 * 60 * 60 // seconds
	maxResources  = 32
	// After a secondary limit, requests keep to the pace that GitHub documents
	// (900 points a minute, of which a read costs one) for as long.
	documentedPace = 900.0 / 60
	pacedFor       = time.Hour
)

// Limit is what is left of a rate limit of GitHub's.
type Limit struct {
	// Resource is what it is for: core, graphql, search …
	Resource  string
	Limit     int
	Remaining int
	Reset     time.Time
}

// LimitStatus is how an account stands by GitHub's limits.
type LimitStatus struct {
	Limits []Limit
	// Until is when requests go on that wait now, and Why what they wait for;
	// zero if none need to.
	Until time.Time
	Why   string
	// Waits counts how often requests had to wait, Requests those that were
	// sent, and Unchanged those of them that cost nothing (304).
	Waits, Requests, Unchanged int64
}

// limits is a transport that keeps to what GitHub allows one account, and
// repeats what may be repeated. All requests of the account go through it.
type limits struct {
	next http.RoundTripper
	log  *slog.Logger

	mu    sync.Mutex // guards the rest
	known map[string]Limit
	until time.Time // the secondary limit's end
	why   string
	pace  *rate.Limiter
	paced time.Time // until when the pace is kept
	stats struct{ waits, requests, unchanged int64 }
}

func newLimits(next http.RoundTripper, log *slog.Logger) *limits {
	return &limits{next: next, log: log, known: map[string]Limit{}, pace: rate.NewLimiter(documentedPace, 4*int(documentedPace))}
}

// status tells how the account stands.
func (l *limits) status() LimitStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LimitStatus{Waits: l.stats.waits, Requests: l.stats.requests, Unchanged: l.stats.unchanged}
	for _, k := range l.known {
		s.Limits = append(s.Limits, k)
	}
	slices.SortFunc(s.Limits, func(a, b Limit) int { return strings.Compare(a.Resource, b.Resource) })
	if l.until.After(time.Now()) {
		s.Until, s.Why = l.until, l.why
	}
	return s
}

func (l *limits) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	var failed, limited int
	for {
		if err := l.ready(ctx, resource(req)); err != nil {
			return nil, err
		}
		within, cancel := context.WithTimeout(ctx, timeFor(req))
		attempt := req.Clone(within)
		if failed+limited > 0 && req.Body != nil {
			body, err := req.GetBody()
			if err != nil {
				cancel()
				return nil, err
			}
			attempt.Body = body
		}
		resp, err := l.next.RoundTrip(attempt)
		l.observe(resp)
		var again bool
		switch {
		case err == nil && l.refused(resp, limited):
			limited++
			again = limited < limitTries
		case ctx.Err() == nil && (err != nil || resp.StatusCode >= 500) && idempotent(req):
			failed++
			if again = failed < tries; again {
				again = pause(ctx, time.Second<<(failed-1)/2+rand.N(time.Second<<(failed-1)/2)) == nil
			}
		}
		if !again {
			if err != nil {
				cancel()
				return nil, err
			}
			resp.Body = ending{resp.Body, cancel}
			return resp, nil
		}
		if resp != nil {
			drain(resp)
		}
		cancel()
	}
}

// timeFor bounds one attempt, with the reading of its answer.
func timeFor(req *http.Request) time.Duration {
	if strings.Contains(req.URL.Path, "/tarball/") {
		return archiveTime
	}
	return requestTime
}

// ending is an answer's body that ends its attempt.
type ending struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (e ending) Close() error {
	defer e.cancel()
	return e.ReadCloser.Close()
}

// idempotent leaves out what may have been carried out and would be twice. Of
// GraphQL only queries are used.
func idempotent(req *http.Request) bool {
	return req.Method != http.MethodPost || resource(req) == "graphql"
}

// resource is the limit that a request counts against, unless the answer says
// otherwise.
func resource(req *http.Request) string {
	switch path := req.URL.Path; {
	case strings.HasSuffix(path, "/graphql"):
		return "graphql"
	case strings.Contains(path, "/search/"):
		return "search"
	}
	return "core"
}

// ready waits until a request may be made.
func (l *limits) ready(ctx context.Context, resource string) error {
	for {
		wait, why := l.wait(resource)
		if wait <= 0 {
			break
		}
		if wait > maxLimitWait {
			return fmt.Errorf("%w until %s: %s", ErrLimited, time.Now().Add(wait).UTC().Format(time.RFC3339), why)
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrLimited, why, err)
		}
	}
	l.mu.Lock()
	paced := l.paced.After(time.Now())
	l.mu.Unlock()
	if paced {
		return l.pace.Wait(ctx)
	}
	return nil
}

func (l *limits) wait(resource string) (time.Duration, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if wait := l.until.Sub(now); wait > 0 {
		return wait, l.why
	}
	if k, ok := l.known[resource]; ok && k.Remaining == 0 && k.Reset.After(now) {
		return k.Reset.Sub(now), "all " + strconv.Itoa(k.Limit) + " requests an hour for " + resource + " are used up"
	}
	return 0, ""
}

// observe notes what an answer says of the limits.
func (l *limits) observe(resp *http.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.requests++
	if resp == nil {
		return
	}
	if resp.StatusCode == http.StatusNotModified {
		l.stats.unchanged++
	}
	limit, err := strconv.Atoi(resp.Header.Get("X-Ratelimit-Limit"))
	remaining, err2 := strconv.Atoi(resp.Header.Get("X-Ratelimit-Remaining"))
	reset, err3 := strconv.ParseInt(resp.Header.Get("X-Ratelimit-Reset"), 10, 64)
	if errors.Join(err, err2, err3) != nil {
		return
	}
	k := Limit{Resource: resp.Header.Get("X-Ratelimit-Resource"), Limit: limit, Remaining: max(remaining, 0), Reset: local(resp, time.Unix(reset, 0))}
	if k.Resource == "" {
		k.Resource = resource(resp.Request)
	}
	old, seen := l.known[k.Resource]
	if !seen && len(l.known) >= maxResources {
		return
	}
	l.known[k.Resource] = k
	if k.Remaining == 0 && !(seen && old.Remaining == 0) {
		l.stats.waits++
		l.log.Warn("GitHub's rate limit is used up; requests wait", "resource", k.Resource, "limit", k.Limit, "until", k.Reset.UTC().Truncate(time.Second))
	}
}

// local is a time of GitHub's clock by ours, as far as the answer tells.
func local(resp *http.Response, at time.Time) time.Time {
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return time.Now().Add(at.Sub(date))
	}
	return at
}

// refused reports whether GitHub refused a request because there were too many,
// and has the next ones wait. What it reads of the answer it puts back.
func (l *limits) refused(resp *http.Response, before int) bool {
	if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusTooManyRequests {
		return false
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	now := time.Now()
	after, hasAfter := retryAfter(resp)
	var until time.Time
	var why string
	switch {
	case hasAfter:
		until, why = now.Add(after), "GitHub asked to wait (Retry-After)"
	case resp.Header.Get("X-Ratelimit-Remaining") == "0" && resp.Header.Get("X-Ratelimit-Reset") != "":
		return true // wait knows until when
	case resp.StatusCode == http.StatusTooManyRequests, strings.Contains(strings.ToLower(string(body)), "secondary rate limit"), bytes.Contains(body, []byte("abuse")), resp.Header.Get("X-Ratelimit-Remaining") == "0":
		until, why = now.Add(secondaryWait<<min(before, 4)), "GitHub's secondary rate limit"
	default:
		return false // it is forbidden, and will be
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.until) {
		l.until, l.why = until, why
		l.stats.waits++
		l.log.Warn("GitHub limits the requests; they wait", "until", until.UTC().Truncate(time.Second), "reason", why)
	}
	l.paced = now.Add(pacedFor)
	return true
}

func retryAfter(resp *http.Response) (time.Duration, bool) {
	v := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s >= 0 {
		return time.Duration(min(s, maxRetryAfter)) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return time.Until(local(resp, at)), true
	}
	return 0, false
}

// turn is a lock that is held over requests: who waits for it can give up.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) leave() { <-t }

// pause waits unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// drain has the connection used again, unless much is left to read.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxRefusal)
	resp.Body.Close()
}
