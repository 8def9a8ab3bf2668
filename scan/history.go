package scan

import (
	"context"
	"fmt"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
)

// Series is what is scanned again and again: one target by one profile, of
// whatever version, and one threshold. Without an agent it is that of whichever
// agent; without a profile that of all profiles and thresholds.
type Series struct {
	Target    Target
	Profile   string
	Threshold string
}

// Series is what s is one scan of.
func (s Scan) Series() Series {
	return Series{Target: s.Request.Target, Profile: s.Request.Profile, Threshold: s.Request.Threshold}
}

// HistoryStore knows what was scanned before.
type HistoryStore interface {
	// Latest lists the last completed scan of each series, the newest first.
	Latest(ctx context.Context, f LatestFilter) ([]Scan, error)
	// Posture counts the series that f chooses by the outcome of their last
	// completed scan, at the end of each day of f; of the last one, so far. A
	// series all of whose scans are forgotten counts until then.
	Posture(ctx context.Context, f PostureFilter) ([]Posture, error)
}

// PostureDays is how many days the posture of is known, at least.
const PostureDays = 400

// PostureFilter chooses series, as LatestFilter does, and days: so many, until
// that of Until (UTC).
type PostureFilter struct {
	Agent     fleet.AgentName
	Namespace string
	Within    []fleet.Scope
	Until     time.Time
	Days      int
	// ByAgent counts those of each agent for themselves, by its name.
	ByAgent bool
}

// Posture is how many series stood how, the oldest day first. Agent is empty
// unless it is asked for by agents.
type Posture struct {
	Agent fleet.AgentName
	Days  []PostureDay
}

// PostureDay is one day of a Posture; At is its beginning.
type PostureDay struct {
	At             time.Time
	Passed, Failed int
}

// LatestFilter chooses series; the zero value of a member chooses all. Before
// is the id at which the last page ended.
type LatestFilter struct {
	Agent     fleet.AgentName
	Namespace string
	Profile   string
	Outcome   Outcome
	// Within, unless it is nil, leaves those out that are in none of it.
	Within []fleet.Scope
	Before ID
	Limit  int
}

// Latest tells how everything stood when it was last scanned: the last
// completed scan of each series, the newest first.
func (q *Queue) Latest(ctx context.Context, f LatestFilter) ([]Scan, error) {
	scans, err := q.cfg.Store.Latest(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list what was scanned last: %w", err)
	}
	return scans, nil
}

// Posture is how the series stood that f chooses. Without any it is one that
// counts nothing, or by agents none.
func (q *Queue) Posture(ctx context.Context, f PostureFilter) ([]Posture, error) {
	found, err := q.cfg.Store.Posture(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("count how targets stood: %w", err)
	}
	return found, nil
}

// History lists the completed scans of f's Series that f chooses, the newest
// first. What is no target is an *InvalidError.
func (q *Queue) History(ctx context.Context, f Filter) ([]Scan, error) {
	series := *f.Series
	series.Target = series.Target.plain()
	if err := series.Target.validate(); err != nil {
		return nil, err
	}
	f.Series = &series
	scans, err := q.cfg.Store.Scans(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", series.Target, err)
	}
	return scans, nil
}

// Previous is the completed scan of the same series before s, or ErrNotFound.
func (q *Queue) Previous(ctx context.Context, s Scan) (Scan, error) {
	series := s.Series()
	found, err := q.cfg.Store.Scans(ctx, Filter{Series: &series, Before: s.ID, Limit: 1})
	switch {
	case err != nil:
		return Scan{}, fmt.Errorf("the scan before %s: %w", s.ID, err)
	case len(found) == 0:
		return Scan{}, fmt.Errorf("there is no completed scan of the same target, profile and threshold before %s: %w", s.ID, ErrNotFound)
	}
	return found[0], nil
}

// Compare holds the results of a scan against those of an earlier one. It is
// ErrNoResult if either has none.
func (q *Queue) Compare(ctx context.Context, before, after Scan) (Comparison, error) {
	select {
	case q.judging <- struct{}{}:
		defer func() { <-q.judging }()
	case <-ctx.Done():
		return Comparison{}, context.Cause(ctx)
	}
	var docs [2]*hdf.Results
	for i, s := range []Scan{before, after} {
		if s.ResultDigest == "" {
			return Comparison{}, fmt.Errorf("scan %s is %s: %w", s.ID, s.Status, ErrNoResult)
		}
		var err error
		if docs[i], err = q.document(s.ResultDigest); err != nil {
			return Comparison{}, fmt.Errorf("results of scan %s: %w", s.ID, err)
		}
		docs[i].Seal()
	}
	return Compare(docs[0], docs[1]), nil
}
