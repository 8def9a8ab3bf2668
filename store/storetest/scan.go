package storetest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

const (
	leaseFor = time.Minute
	queueFor = time.Hour
	timeout  = 5 * time.Minute
	grace    = time.Minute
	attempts = 2
)

var scanTests = map[string]func(*testing.T, *store.Store){
	"keeps a scan whole":                        keepsWhole,
	"lists by page":                             listsByPage,
	"lists what is in a part of the fleet":      listsWithin,
	"creates once by key":                       createsOnce,
	"leases in order and by kind":               leasesInOrder,
	"leases to one of many":                     leasesToOne,
	"keeps a lease by its renewal":              renews,
	"finishes once":                             finishesOnce,
	"takes a result after the lease":            takesLateResult,
	"takes the result of an earlier attempt":    takesEarlierResult,
	"ignores the error of an earlier attempt":   ignoresEarlierError,
	"gives up after the last attempt":           givesUp,
	"gives up what waits too long":              givesUpWaiting,
	"ends a run that doesn't":                   endsOverdue,
	"frees what a restarted agent doesn't hold": releases,
	"keeps what is held beyond the deadline":    holdsBeyondTheDeadline,
	"takes turns":                               takesTurns,
	"tries again after a fault":                 triesAgain,
	"keeps batches":                             batches,
	"cancels":                                   cancels,
	"tells the callback and forgets its secret": callsBack,
	"keeps nothing of a finish that fails":      finishIsOne,
	"shows a profile only to its agents":        guardsProfiles,
	"sweeps documents that no scan names":       sweeps,
	"forgets scans":                             forgetsScans,
	"forgets many scans":                        forgetsMany,
	"forgets batches":                           forgetsBatches,
	"keeps what has a young key":                keepsYoungKeys,
	"knows the history":                         knowsHistory,
	"knows the posture":                         knowsPosture,
	"lists what is open by key":                 listsOpen,
}

func newScan(agent fleet.AgentName) scan.Scan {
	return scan.Scan{
		ID: scan.NewID(),
		Request: scan.Request{
			Target:  scan.Target{Agent: agent, Namespace: "shop", Pod: "web-1", Container: "app"},
			Profile: "container-baseline", Timeout: timeout, Priority: scan.Normal,
		},
		Status: scan.Queued, Created: epoch, Expires: epoch.Add(queueFor),
		ProfileDigest: "sha256:profile",
	}
}

// createsOnce: what a key names is created once, for a day, even when many ask
// at a time; and another caller's key of the same name is another key.
func createsOnce(t *testing.T, s *store.Store) {
	key := scan.Key{Caller: "token:ci", Name: "k", Digest: "one"}
	if _, err := s.ScanByKey(t.Context(), key, epoch); !errors.Is(err, scan.ErrNotFound) {
		t.Errorf("a new key: %v", err)
	}
	var mu sync.Mutex
	var made []scan.ID
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c := newScan("a")
			c.Request.Key = key
			err := s.CreateScan(t.Context(), c)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, c.ID)
			} else if !errors.Is(err, scan.ErrKeyUsed) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if scans, err := s.Scans(t.Context(), scan.Filter{}); len(made) != 1 || len(scans) != 1 || err != nil {
		t.Fatalf("%d made, %d there, %v", len(made), len(scans), err)
	}
	if c, err := s.ScanByKey(t.Context(), key, epoch.Add(time.Hour)); err != nil || c.ID != made[0] {
		t.Errorf("again: %s, %v; want %s", c.ID, err, made[0])
	}
	other := key
	other.Digest = "two"
	if _, err := s.ScanByKey(t.Context(), other, epoch); !errors.Is(err, scan.ErrKeyUsed) {
		t.Errorf("another request: %v", err)
	}
	theirs := other
	theirs.Caller = "token:other"
	if _, err := s.ScanByKey(t.Context(), theirs, epoch); !errors.Is(err, scan.ErrNotFound) {
		t.Errorf("another caller: %v", err)
	}
	later := epoch.Add(scan.KeyLife)
	if _, err := s.ScanByKey(t.Context(), key, later); !errors.Is(err, scan.ErrNotFound) {
		t.Errorf("a day later: %v", err)
	}
	c := newScan("a")
	c.Request.Key, c.Created = other, later
	create(t, s, c)
}

func create(t *testing.T, s *store.Store, c scan.Scan) scan.Scan {
	t.Helper()
	if err := s.CreateScan(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, s *store.Store, id scan.ID) scan.Scan {
	t.Helper()
	c, err := s.Scan(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func taker(agent fleet.AgentName, instance fleet.InstanceID) scan.Taker {
	return scan.Taker{Agent: agent, Instance: instance, Kinds: []string{scan.KindContainer}, LeaseFor: leaseFor, Grace: grace}
}

func leaseScan(t *testing.T, s *store.Store, at time.Time) scan.Scan {
	t.Helper()
	c, err := s.LeaseScan(t.Context(), taker("edge", "i1"), at)
	if err != nil {
		t.Fatalf("lease: %v", err)
	}
	return c
}

func expire(t *testing.T, s *store.Store, at time.Time) int {
	t.Helper()
	n, err := s.ExpireScans(t.Context(), attempts, queueFor, at)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func completed(id scan.ID, attempt int) scan.Finish {
	return scan.Finish{
		ID: id, Agent: "edge", Attempt: attempt, Status: scan.Completed,
		Verdict:      scan.Verdict{Outcome: scan.Failed, Counts: hdf.Counts{Passed: 3, Failed: 1}, Findings: []string{"too bad"}},
		ResultDigest: "sha256:result", ResultSize: 10,
		Outcomes: []fleet.Outcome{{
			Subject: fleet.Subject{Owner: "edge/shop", Repo: "web-1/app"}, Policy: "container-baseline",
			Run: string(id), At: epoch, Details: fmt.Sprint("attempt ", attempt),
		}},
		Sinks: []string{"soc"},
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func wantStatus(t *testing.T, c scan.Scan, want scan.Status) {
	t.Helper()
	if c.Status != want {
		t.Errorf("scan is %s (%s), want %s", c.Status, c.Reason, want)
	}
}

func alertsOf(t *testing.T, s *store.Store, id scan.ID) []alert.Alert {
	t.Helper()
	list, err := s.Alerts(t.Context(), alert.Filter{Run: string(id)})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// listsOpen: of a caller's keys those whose scans aren't finished, page by page.
func listsOpen(t *testing.T, s *store.Store) {
	var want []scan.Keyed
	for i, caller := range []string{"agent:edge", "agent:edge", "agent:edge", "agent:core", ""} {
		c := newScan("edge")
		if caller != "" {
			c.Request.Key = scan.Key{Caller: caller, Name: fmt.Sprint("uid", i)}
		}
		create(t, s, c)
		if i == 1 {
			wantErr(t, "cancel", s.FinishScan(t.Context(), scan.Finish{ID: c.ID, Status: scan.Cancelled}, epoch), nil)
		} else if caller == "agent:edge" {
			want = append(want, scan.Keyed{ID: c.ID, Key: c.Request.Key.Name})
		}
	}
	var got []scan.Keyed
	after := scan.ID("")
	for {
		page, err := s.OpenByKey(t.Context(), "agent:edge", after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got, after = append(got, page...), page[0].ID
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("open (-want +got):\n%s", d)
	}
}

func keepsWhole(t *testing.T, s *store.Store) {
	c := newScan("edge")
	c.Request.Threshold = "strict"
	c.Request.Inputs = map[string]any{"n": int64(1), "f": 1.5, "list": []any{"a", int64(2)}}
	c.Request.Callback = &scan.Callback{URL: "https://ci.example/1", Type: "basic", Username: "u", Password: "p"}
	c.Request.RequestedBy, c.Request.Priority, c.Request.Method = "token ci", scan.Low, scan.Ephemeral
	c.Request.SBOM = true
	c.Request.Standing, c.Request.Actions = true, []string{"log", "fix/deny"}
	c.ProfileVersion, c.Progress.Total, c.ThresholdDigest = "1.2.3", 17, "sha256:threshold"
	create(t, s, c)
	if d := cmp.Diff(c, get(t, s, c.ID)); d != "" {
		t.Errorf("queued (-want +got):\n%s", d)
	}
	leased := leaseScan(t, s, epoch.Add(time.Second))
	c.Status, c.Attempt, c.Started, c.Expires = scan.Running, 1, epoch.Add(time.Second), epoch.Add(time.Second+timeout+grace)
	c.Lease = scan.Lease{Instance: "i1", Expires: epoch.Add(time.Second + leaseFor)}
	if d := cmp.Diff(c, leased); d != "" {
		t.Errorf("leased (-want +got):\n%s", d)
	}
	f := completed(c.ID, 1)
	f.Verdict.Entry = hdf.Entry{Method: "ephemeral", Reason: "it was asked for"}
	if err := s.FinishScan(t.Context(), f, epoch.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	c.Entry = f.Verdict.Entry
	c.Status, c.Outcome, c.Finished, c.Lease.Expires = scan.Completed, scan.Failed, epoch.Add(2*time.Second), time.Time{}
	c.Progress, c.Counts, c.Findings = scan.Progress{Done: 4, Total: 4}, hdf.Counts{Passed: 3, Failed: 1}, []string{"too bad"}
	c.ResultDigest, c.ResultSize = "sha256:result", 10
	c.Request.Callback.Password = ""
	if d := cmp.Diff(c, get(t, s, c.ID)); d != "" {
		t.Errorf("completed (-want +got):\n%s", d)
	}
	_, err := s.Scan(t.Context(), scan.NewID())
	wantErr(t, "unknown scan", err, scan.ErrNotFound)
}

func listsByPage(t *testing.T, s *store.Store) {
	var ids []scan.ID
	for i := range 5 {
		ids = append(ids, create(t, s, newScan([]fleet.AgentName{"edge", "core"}[i%2])).ID)
	}
	list := func(f scan.Filter) (out []scan.ID) {
		t.Helper()
		scans, err := s.Scans(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range scans {
			out = append(out, c.ID)
		}
		return out
	}
	leaseScan(t, s, epoch)
	for _, test := range []struct {
		what string
		f    scan.Filter
		want []scan.ID
	}{
		{"all", scan.Filter{}, []scan.ID{ids[4], ids[3], ids[2], ids[1], ids[0]}},
		{"first page", scan.Filter{Limit: 2}, []scan.ID{ids[4], ids[3]}},
		{"second page", scan.Filter{Limit: 2, Before: ids[3]}, []scan.ID{ids[2], ids[1]}},
		{"an agent's", scan.Filter{Agent: "core"}, []scan.ID{ids[3], ids[1]}},
		{"running", scan.Filter{Status: scan.Running}, []scan.ID{ids[0]}},
	} {
		if d := cmp.Diff(test.want, list(test.f)); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.what, d)
		}
	}
}

func leasesInOrder(t *testing.T, s *store.Store) {
	first, dir, second := newScan("edge"), newScan("edge"), newScan("edge")
	dir.Request.Target = scan.Target{Agent: "edge", URI: "dir:/"}
	for _, c := range []scan.Scan{first, dir, second} {
		create(t, s, c)
	}
	create(t, s, newScan("core"))
	for _, want := range []scan.ID{first.ID, second.ID} {
		if got := leaseScan(t, s, epoch).ID; got != want {
			t.Errorf("leased %s, want %s", got, want)
		}
	}
	_, err := s.LeaseScan(t.Context(), taker("edge", "i1"), epoch)
	wantErr(t, "a kind that isn't allowed", err, scan.ErrNotFound)
	holder := taker("edge", "i1")
	holder.Kinds, holder.Holding = []string{"dir"}, []scan.ID{dir.ID}
	_, err = s.LeaseScan(t.Context(), holder, epoch)
	wantErr(t, "what the taker holds", err, scan.ErrNotFound)
	holder.Holding, holder.Kinds = nil, nil
	_, err = s.LeaseScan(t.Context(), holder, epoch)
	wantErr(t, "no kinds", err, scan.ErrNotFound)
}

func leasesToOne(t *testing.T, s *store.Store) {
	const scans = 10
	for range scans {
		create(t, s, newScan("edge"))
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		taken = map[scan.ID]int{}
	)
	for i := range 4 {
		all.Go(func() {
			for {
				c, err := s.LeaseScan(t.Context(), taker("edge", fleet.InstanceID(fmt.Sprint(i))), epoch)
				if errors.Is(err, scan.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				taken[c.ID]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(taken) != scans {
		t.Errorf("%d of %d scans were leased", len(taken), scans)
	}
	for id, n := range taken {
		if n != 1 {
			t.Errorf("scan %s was leased %d times", id, n)
		}
	}
}

func renewal(id scan.ID, attempt int) scan.Renewal {
	return scan.Renewal{
		ID: id, Agent: "edge", Instance: "i1", Attempt: attempt, LeaseFor: leaseFor,
		Progress: scan.Progress{Done: 2, Total: 9, Control: "c-2"},
	}
}

func renews(t *testing.T, s *store.Store) {
	ctx := t.Context()
	c := create(t, s, newScan("edge"))
	wantErr(t, "before the lease", s.RenewLease(ctx, renewal(c.ID, 1), epoch), scan.ErrNotFound)
	leaseScan(t, s, epoch)
	if err := s.RenewLease(ctx, renewal(c.ID, 1), epoch.Add(50*time.Second)); err != nil {
		t.Fatal(err)
	}
	if n := expire(t, s, epoch.Add(100*time.Second)); n != 0 {
		t.Errorf("%d scans expired though the lease was renewed", n)
	}
	if d := cmp.Diff(renewal(c.ID, 1).Progress, get(t, s, c.ID).Progress); d != "" {
		t.Errorf("progress (-want +got):\n%s", d)
	}
	other := renewal(c.ID, 1)
	other.Agent = "core"
	wantErr(t, "another agent", s.RenewLease(ctx, other, epoch), scan.ErrNotFound)
	other = renewal(c.ID, 1)
	other.Instance = "i2"
	wantErr(t, "another process", s.RenewLease(ctx, other, epoch), scan.ErrStale)

	// The lease runs out, but nobody takes the scan before its agent is back.
	at := epoch.Add(time.Hour)
	if n := expire(t, s, at); n != 1 {
		t.Fatalf("%d scans expired, want 1", n)
	}
	wantStatus(t, get(t, s, c.ID), scan.Queued)
	if err := s.RenewLease(ctx, renewal(c.ID, 1), at); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, get(t, s, c.ID), scan.Running)
	if n := expire(t, s, at.Add(leaseFor/2)); n != 0 {
		t.Errorf("%d scans expired right after the agent came back", n)
	}

	// Somebody takes it.
	expire(t, s, at.Add(leaseFor))
	if c := leaseScan(t, s, at.Add(leaseFor)); c.Attempt != 2 {
		t.Errorf("attempt is %d, want 2", c.Attempt)
	}
	wantErr(t, "an earlier attempt", s.RenewLease(ctx, renewal(c.ID, 1), at), scan.ErrStale)
}

func finishesOnce(t *testing.T, s *store.Store) {
	ctx := t.Context()
	c := create(t, s, newScan("edge"))
	leaseScan(t, s, epoch)
	changed := s.ScanChanged(c.ID)
	var done, refused int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			err := s.FinishScan(ctx, completed(c.ID, 1), epoch)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case errors.Is(err, scan.ErrFinished):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if done != 1 || refused != 3 {
		t.Errorf("%d finished it and %d were refused, want 1 and 3", done, refused)
	}
	if n := len(alertsOf(t, s, c.ID)); n != 1 {
		t.Errorf("%d alerts, want 1", n)
	}
	select {
	case <-changed:
	default:
		t.Error("whoever waits for the scan wasn't told")
	}
	wantErr(t, "an error after it", s.FinishScan(ctx, scan.Finish{ID: c.ID, Agent: "edge", Attempt: 1, Status: scan.Error}, epoch), scan.ErrFinished)
	wantErr(t, "cancel after it", s.FinishScan(ctx, scan.Finish{ID: c.ID, Status: scan.Cancelled}, epoch), scan.ErrFinished)
	wantErr(t, "progress after it", s.RenewLease(ctx, renewal(c.ID, 1), epoch), scan.ErrFinished)
	wantStatus(t, get(t, s, c.ID), scan.Completed)
}

func takesLateResult(t *testing.T, s *store.Store) {
	c := create(t, s, newScan("edge"))
	leaseScan(t, s, epoch)
	expire(t, s, epoch.Add(2*leaseFor))
	wantStatus(t, get(t, s, c.ID), scan.Queued)
	if err := s.FinishScan(t.Context(), completed(c.ID, 1), epoch.Add(3*leaseFor)); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, get(t, s, c.ID), scan.Completed)
	_, err := s.LeaseScan(t.Context(), taker("edge", "i1"), epoch.Add(3*leaseFor))
	wantErr(t, "lease of it", err, scan.ErrNotFound)
}

func takesEarlierResult(t *testing.T, s *store.Store) {
	ctx := t.Context()
	c := create(t, s, newScan("edge"))
	leaseScan(t, s, epoch)
	expire(t, s, epoch.Add(2*leaseFor))
	leaseScan(t, s, epoch.Add(2*leaseFor))
	wantErr(t, "an attempt that never was", s.FinishScan(ctx, completed(c.ID, 3), epoch), scan.ErrNotFound)
	foreign := completed(c.ID, 1)
	foreign.Agent = "core"
	wantErr(t, "another agent", s.FinishScan(ctx, foreign, epoch), scan.ErrNotFound)
	if err := s.FinishScan(ctx, completed(c.ID, 1), epoch.Add(3*leaseFor)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the later attempt", s.FinishScan(ctx, completed(c.ID, 2), epoch.Add(3*leaseFor)), scan.ErrFinished)
	list := alertsOf(t, s, c.ID)
	if len(list) != 1 || list[0].Outcome.Details != "attempt 1" {
		t.Errorf("alerts: %+v, want one of attempt 1", list)
	}
}

func ignoresEarlierError(t *testing.T, s *store.Store) {
	c := create(t, s, newScan("edge"))
	leaseScan(t, s, epoch)
	expire(t, s, epoch.Add(2*leaseFor))
	leaseScan(t, s, epoch.Add(2*leaseFor))
	failed := scan.Finish{ID: c.ID, Agent: "edge", Attempt: 1, Status: scan.Error, Reason: "pod is gone"}
	wantErr(t, "error of attempt 1", s.FinishScan(t.Context(), failed, epoch), scan.ErrStale)
	failed.Attempt = 2
	if err := s.FinishScan(t.Context(), failed, epoch.Add(2*leaseFor)); err != nil {
		t.Fatal(err)
	}
	got := get(t, s, c.ID)
	wantStatus(t, got, scan.Error)
	if got.Reason != "pod is gone" || got.Outcome != "" {
		t.Errorf("reason %q, outcome %q", got.Reason, got.Outcome)
	}
}

func givesUp(t *testing.T, s *store.Store) {
	c := create(t, s, newScan("edge"))
	at := epoch
	for range attempts {
		leaseScan(t, s, at)
		at = at.Add(2 * leaseFor)
		expire(t, s, at)
	}
	got := get(t, s, c.ID)
	wantStatus(t, got, scan.Error)
	if !strings.Contains(got.Reason, "agent edge") || !strings.Contains(got.Reason, "2 attempts") {
		t.Errorf("reason %q names neither the agent nor the attempts", got.Reason)
	}
}

func givesUpWaiting(t *testing.T, s *store.Store) {
	c := create(t, s, newScan("edge"))
	if n := expire(t, s, epoch.Add(queueFor-time.Second)); n != 0 {
		t.Errorf("%d expired too early", n)
	}
	if n := expire(t, s, epoch.Add(queueFor)); n != 1 {
		t.Errorf("%d expired, want 1", n)
	}
	got := get(t, s, c.ID)
	wantStatus(t, got, scan.Error)
	if !strings.Contains(got.Reason, "edge") {
		t.Errorf("reason %q doesn't name the agent", got.Reason)
	}
	_, err := s.LeaseScan(t.Context(), taker("edge", "i1"), epoch.Add(queueFor))
	wantErr(t, "lease of it", err, scan.ErrNotFound)
}

func endsOverdue(t *testing.T, s *store.Store) {
	c := create(t, s, newScan("edge"))
	leaseScan(t, s, epoch)
	at := epoch
	for at.Before(epoch.Add(timeout + grace)) {
		wantStatus(t, get(t, s, c.ID), scan.Running)
		if err := s.RenewLease(t.Context(), renewal(c.ID, 1), at); err != nil {
			t.Fatal(err)
		}
		at = at.Add(leaseFor / 2)
		expire(t, s, at)
	}
	got := get(t, s, c.ID)
	wantStatus(t, got, scan.Error)
	if !strings.Contains(got.Reason, "timed out") {
		t.Errorf("reason %q doesn't say that it timed out", got.Reason)
	}
}

func releases(t *testing.T, s *store.Store) {
	ctx := t.Context()
	held, lost := create(t, s, newScan("edge")), create(t, s, newScan("edge"))
	other := create(t, s, newScan("edge"))
	leaseScan(t, s, epoch)
	leaseScan(t, s, epoch)
	if _, err := s.LeaseScan(ctx, taker("edge", "i2"), epoch); err != nil {
		t.Fatal(err)
	}
	queued := s.ScanQueued("edge")
	at := epoch.Add(leaseFor / 2)
	h := scan.Holder{Agent: "edge", Instance: "i1", Holding: []scan.ID{held.ID}, LeaseFor: leaseFor, MaxAttempts: attempts, QueueFor: queueFor}
	if err := s.ReleaseScans(ctx, h, at); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, get(t, s, held.ID), scan.Running)
	wantStatus(t, get(t, s, lost.ID), scan.Queued)
	wantStatus(t, get(t, s, other.ID), scan.Running)
	select {
	case <-queued:
	default:
		t.Error("whoever waits for work wasn't told")
	}
	if got := get(t, s, held.ID).Lease.Expires; !got.Equal(at.Add(leaseFor)) {
		t.Errorf("the held scan's lease ends %v, want %v", got, at.Add(leaseFor))
	}
	if c := leaseScan(t, s, at); c.ID != lost.ID || c.Attempt != 2 {
		t.Errorf("leased %s at attempt %d, want the lost one again", c.ID, c.Attempt)
	}
	// It was lost as often as it may be.
	if err := s.ReleaseScans(ctx, h, at); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, get(t, s, lost.ID), scan.Error)
}

// A result that waits in its agent's spool beyond the deadline isn't lost:
// holding it keeps the lease up to the deadline only, so that the scan is
// queued then, and not given up as one that still runs.
func holdsBeyondTheDeadline(t *testing.T, s *store.Store) {
	c := create(t, s, newScan("edge"))
	leased := leaseScan(t, s, epoch)
	late := leased.Expires.Add(-time.Second)
	h := scan.Holder{Agent: "edge", Instance: "i1", Holding: []scan.ID{c.ID}, LeaseFor: leaseFor, MaxAttempts: attempts, QueueFor: queueFor}
	for _, at := range []time.Time{late, late.Add(2 * time.Second)} {
		if err := s.ReleaseScans(t.Context(), h, at); err != nil {
			t.Fatal(err)
		}
	}
	if n := expire(t, s, late.Add(3*time.Second)); n != 1 {
		t.Fatalf("%d scans changed, want 1", n)
	}
	wantStatus(t, get(t, s, c.ID), scan.Queued)
	if err := s.FinishScan(t.Context(), completed(c.ID, 1), late.Add(leaseFor)); err != nil {
		t.Errorf("the result is refused: %v", err)
	}
}

func cancels(t *testing.T, s *store.Store) {
	ctx := t.Context()
	c := create(t, s, newScan("edge"))
	cancel := scan.Finish{ID: c.ID, Status: scan.Cancelled, Reason: "cancelled by ci"}
	leaseScan(t, s, epoch)
	if err := s.FinishScan(ctx, cancel, epoch); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "progress", s.RenewLease(ctx, renewal(c.ID, 1), epoch), scan.ErrFinished)
	wantErr(t, "result", s.FinishScan(ctx, completed(c.ID, 1), epoch), scan.ErrFinished)
	if n := len(alertsOf(t, s, c.ID)); n != 0 {
		t.Errorf("%d alerts of a cancelled scan", n)
	}
	cancel.ID = scan.NewID()
	wantErr(t, "unknown scan", s.FinishScan(ctx, cancel, epoch), scan.ErrNotFound)
}

func callsBack(t *testing.T, s *store.Store) {
	c := newScan("edge")
	c.Request.Callback = &scan.Callback{URL: "https://ci.example/1", Type: "bearer", Token: "hush"}
	create(t, s, c)
	leaseScan(t, s, epoch)
	if err := s.FinishScan(t.Context(), completed(c.ID, 1), epoch.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	leased, err := s.LeaseAlerts(t.Context(), alert.LeaseRequest{
		Sink: alert.CallbackSink, Holder: "h", Token: "t", Limit: 10, Now: time.Now().Add(time.Minute), Until: time.Now().Add(time.Hour),
	})
	if err != nil || len(leased.Alerts) != 1 {
		t.Fatalf("leased %+v, %v; want the callback", leased, err)
	}
	want := &alert.Callback{
		URL: "https://ci.example/1", Auth: alert.Auth{Type: alert.Bearer, Token: "hush"},
		Scan: string(c.ID), Status: "completed", Outcome: "failed",
		Counts: hdf.Counts{Passed: 3, Failed: 1}, Finished: epoch.Add(time.Second),
	}
	if d := cmp.Diff(want, leased.Alerts[0].Callback); d != "" {
		t.Errorf("callback (-want +got):\n%s", d)
	}
	if got := get(t, s, c.ID).Request.Callback; got.Token != "" || got.URL != "https://ci.example/1" {
		t.Errorf("the scan's callback is %+v, want it without its token", got)
	}
}

// finishIsOne makes the last step of a finish fail: an outcome without a
// subject has no place in the outbox.
func finishIsOne(t *testing.T, s *store.Store) {
	c := create(t, s, newScan("edge"))
	leaseScan(t, s, epoch)
	changed := s.ScanChanged(c.ID)
	f := completed(c.ID, 1)
	f.Outcomes = append(f.Outcomes, fleet.Outcome{Run: string(c.ID)})
	wantErr(t, "finish", s.FinishScan(t.Context(), f, epoch), alert.ErrUnnamed)
	wantStatus(t, get(t, s, c.ID), scan.Running)
	if n := len(alertsOf(t, s, c.ID)); n != 0 {
		t.Errorf("%d alerts of a finish that failed", n)
	}
	select {
	case <-changed:
		t.Error("told of a change that wasn't")
	default:
	}
	if err := s.FinishScan(t.Context(), completed(c.ID, 1), epoch); err != nil {
		t.Errorf("again: %v", err)
	}
}

func guardsProfiles(t *testing.T, s *store.Store) {
	create(t, s, newScan("edge"))
	for agent, want := range map[fleet.AgentName]bool{"edge": true, "core": false} {
		got, err := s.MayReadProfile(t.Context(), agent, "sha256:profile")
		if err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", agent, got, err, want)
		}
	}
	digest, size, err := s.PutDocument(strings.NewReader("a document"), 10)
	if err != nil || size != 10 {
		t.Fatalf("put: %d bytes, %v", size, err)
	}
	r, err := s.Document(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "a document" {
		t.Errorf("got %q, %v", b, err)
	}
	_, _, err = s.PutDocument(strings.NewReader("a document"), 9)
	wantErr(t, "a document over the limit", err, scan.ErrBadResult)
}

func sweeps(t *testing.T, s *store.Store) {
	put := func(text string) string {
		t.Helper()
		d, _, err := s.PutDocument(strings.NewReader(text), 100)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	profile, result, orphan := put("profile"), put("result"), put("orphan")
	c := newScan("edge")
	c.ProfileDigest = profile
	create(t, s, c)
	leaseScan(t, s, epoch)
	f := completed(c.ID, 1)
	f.ResultDigest = result
	if err := s.FinishScan(t.Context(), f, epoch); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		now  time.Time
		want int
	}{{time.Now(), 0}, {time.Now().Add(store.SweepAge + time.Minute), 1}} {
		if n, err := s.SweepBlobs(t.Context(), test.now); err != nil || n != test.want {
			t.Errorf("removed %d, %v; want %d", n, err, test.want)
		}
	}
	for digest, want := range map[string]bool{profile: true, result: true, orphan: false} {
		r, err := s.Document(digest)
		if err == nil {
			r.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", digest, err)
		}
	}
}
