package github

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Standing is how a hub sees the checks of an organisation's repositories.
type Standing struct {
	Status
	// Holder is the hub, and Saved when it said so.
	Holder string
	Saved  time.Time
}

// Standings keeps how each hub sees the checks, so that each can tell of all.
// Its methods may be called concurrently.
type Standings interface {
	// SaveGitHubStandings keeps what the hub holder says of each organisation in
	// place of what it said before; a time of completion isn't forgotten.
	SaveGitHubStandings(ctx context.Context, holder string, all []Status, now time.Time) error
	GitHubStandings(ctx context.Context) ([]Standing, error)
}

const (
	// standEvery is how often a hub saves how it sees the checks, and standFor how
	// long after the others one that says nothing more isn't listened to.
	// At least every standAtLeast it does, though nothing has changed.
	standEvery   = 15 * time.Second
	standAtLeast = 2 * time.Minute
	standFor     = 5 * time.Minute
	// sameWindow is how far the clocks of one limit's end may be apart.
	sameWindow = time.Minute
)

// stand saves how the checks stand until ctx ends.
func (r *Runner) stand(ctx context.Context) {
	var last []Status
	var saved time.Time
	save := func(ctx context.Context) {
		now, all := time.Now(), r.Status()
		if now.Sub(saved) < standAtLeast && reflect.DeepEqual(all, last) {
			return
		}
		err := r.cfg.Store.SaveGitHubStandings(ctx, r.cfg.Holder, all, now)
		if err == nil {
			last, saved = all, now
		} else if ctx.Err() == nil {
			r.log.WarnContext(ctx, "how the checks of repositories stand can't be kept; trying again", "error", err)
		}
	}
	tick := time.NewTicker(standEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			save(saving)
			return
		case <-r.stats.completed:
		case <-tick.C:
		}
		save(ctx)
	}
}

// Standing tells how each organisation stands, whichever hub checks it; none for
// a nil Runner. Requests are those of all hubs since each was started.
func (r *Runner) Standing(ctx context.Context) ([]Status, error) {
	if r == nil {
		return nil, nil
	}
	all, err := r.cfg.Store.GitHubStandings(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	kept := map[[2]string]time.Time{} // what a hub checked before it was started again
	all = slices.DeleteFunc(all, func(s Standing) bool {
		if s.Holder == r.cfg.Holder {
			kept[[2]string{s.Connection, s.Organisation}] = s.Completed
		}
		return s.Holder == r.cfg.Holder || r.connection(s.Connection) == nil
	})
	for _, s := range r.Status() {
		if at := kept[[2]string{s.Connection, s.Organisation}]; at.After(s.Completed) {
			s.Completed = at
		}
		all = append(all, Standing{s, r.cfg.Holder, now})
	}
	return together(all, now), nil
}

// together joins what several hubs say of one organisation.
func together(all []Standing, now time.Time) (out []Status) {
	newest := map[string]time.Time{} // by connection
	for _, s := range all {
		if s.Saved.After(newest[s.Connection]) {
			newest[s.Connection] = s.Saved
		}
	}
	at := map[[2]string]int{}
	listed := map[[2]string]bool{} // by a hub that still says something
	for _, s := range all {
		key := [2]string{s.Connection, strings.ToLower(s.Organisation)}
		fresh := newest[s.Connection].Sub(s.Saved) <= standFor
		listed[key] = listed[key] || fresh
		if !fresh {
			s.LimitStatus = LimitStatus{}
		}
		if !s.Until.After(now) {
			s.Until, s.Why = time.Time{}, ""
		}
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			s.Limits = slices.Clone(s.Limits)
			out = append(out, s.Status)
			continue
		}
		o := &out[i]
		if s.Completed.After(o.Completed) {
			o.Completed = s.Completed
		}
		if s.Until.After(o.Until) {
			o.Until, o.Why = s.Until, s.Why
		}
		o.Waits, o.Requests, o.Unchanged = o.Waits+s.Waits, o.Requests+s.Requests, o.Unchanged+s.Unchanged
		for _, l := range s.Limits {
			o.Limits = withLimit(o.Limits, l)
		}
	}
	out = slices.DeleteFunc(out, func(s Status) bool { return !listed[[2]string{s.Connection, strings.ToLower(s.Organisation)}] })
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(strings.Compare(a.Connection, b.Connection), strings.Compare(a.Organisation, b.Organisation))
	})
	return out
}

// withLimit adds what one hub knows of a limit: what was seen last holds, which
// is of a later period or, within one, has less left.
func withLimit(all []Limit, l Limit) []Limit {
	i := slices.IndexFunc(all, func(k Limit) bool { return k.Resource == l.Resource })
	switch {
	case i < 0:
		all = append(all, l)
		slices.SortFunc(all, func(a, b Limit) int { return strings.Compare(a.Resource, b.Resource) })
	case l.Reset.Sub(all[i].Reset).Abs() <= sameWindow && l.Remaining < all[i].Remaining, l.Reset.Sub(all[i].Reset) > sameWindow:
		all[i] = l
	}
	return all
}
