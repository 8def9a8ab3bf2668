package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

// asks makes scans of a caller.
func asks(t *testing.T, s *store.Store, caller string, p scan.Priority, n int) {
	t.Helper()
	for range n {
		c := newScan("edge")
		c.Request.RequestedBy, c.Request.Priority = caller, p
		create(t, s, c)
	}
}

// takesTurns: a caller with many scans doesn't hold up another with few, and
// what has a higher priority comes first whoever asked.
func takesTurns(t *testing.T, s *store.Store) {
	asks(t, s, "many", scan.Normal, 5)
	var got []string
	served := func(n int) {
		for range n {
			got = append(got, leaseScan(t, s, epoch).Request.RequestedBy)
		}
	}
	served(1)
	asks(t, s, "few", scan.Normal, 2)
	asks(t, s, "later", scan.Low, 1)
	asks(t, s, "urgent", scan.High, 1)
	served(4)
	asks(t, s, "few", scan.Normal, 1)
	served(4)
	const want = "many urgent many few many few many few many"
	if d := cmp.Diff(want, strings.Join(got, " ")); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

// triesAgain: a fault around a scan has it made again, not at once and not for
// ever; an error of the scan itself is final.
func triesAgain(t *testing.T, s *store.Store) {
	c := newScan("edge")
	create(t, s, c)
	fault := func(attempt int, at time.Time) {
		t.Helper()
		err := s.FinishScan(t.Context(), scan.Finish{
			ID: c.ID, Agent: "edge", Attempt: attempt, Status: scan.Error, Reason: "no route",
			Retry: &scan.Retry{MaxAttempts: attempts, At: at.Add(time.Minute), QueueFor: queueFor},
		}, at)
		if err != nil {
			t.Fatal(err)
		}
	}
	leaseScan(t, s, epoch)
	fault(1, epoch)
	again := get(t, s, c.ID)
	wantStatus(t, again, scan.Queued)
	if !again.NotBefore.Equal(epoch.Add(time.Minute)) || !again.Expires.Equal(epoch.Add(time.Minute+queueFor)) || !strings.Contains(again.Reason, "no route") {
		t.Errorf("tried again: %+v", again)
	}
	_, err := s.LeaseScan(t.Context(), taker("edge", "i1"), epoch.Add(59*time.Second))
	wantErr(t, "too early", err, scan.ErrNotFound)
	if second := leaseScan(t, s, epoch.Add(time.Minute)); second.Attempt != 2 || !second.NotBefore.IsZero() {
		t.Errorf("second attempt: %+v", second)
	}
	fault(2, epoch.Add(2*time.Minute))
	if end := get(t, s, c.ID); end.Status != scan.Error || !strings.Contains(end.Reason, "no route; given up after 2 attempts") {
		t.Errorf("after the last: %s, %s", end.Status, end.Reason)
	}
}

func newBatch(agents ...fleet.AgentName) scan.Batch {
	b := scan.Batch{ID: scan.BatchID(scan.NewID()), RequestedBy: "token:ci", Created: epoch}
	for _, a := range agents {
		c := newScan(a)
		c.Request.Target = scan.Target{Agent: a, Namespace: "shop"}
		c.Request.RequestedBy, c.Request.Priority = "token:ci", scan.Normal
		c.Batch, c.Selector = b.ID, &scan.Selector{Namespace: "shop", Labels: "app=web"}
		c.Request.Callback = &scan.Callback{URL: "https://ci.example/1", Type: "bearer", Token: "secret"}
		b.Selections = append(b.Selections, c)
	}
	return b
}

// batches: a selection is leased by who can select, leads to scans once, and
// all of it can be cancelled.
func batches(t *testing.T, s *store.Store) {
	b := newBatch("edge", "core")
	key := scan.Key{Caller: "token:ci", Name: "b", Digest: "d"}
	if err := s.CreateBatch(t.Context(), b, key); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the same key", s.CreateBatch(t.Context(), newBatch("edge"), key), scan.ErrKeyUsed)
	if again, err := s.BatchByKey(t.Context(), key, epoch); err != nil || again.ID != b.ID || len(again.Selections) != 2 {
		t.Errorf("by key: %v, %v", again, err)
	}
	_, err := s.LeaseScan(t.Context(), taker("edge", "i1"), epoch)
	wantErr(t, "an agent that can't select", err, scan.ErrNotFound)
	who := taker("edge", "i1")
	who.Kinds = append(who.Kinds, scan.KindSelector)
	leased, err := s.LeaseScan(t.Context(), who, epoch)
	if err != nil || leased.Selector == nil || *leased.Selector != *b.Selections[0].Selector {
		t.Fatalf("leased %+v, %v", leased, err)
	}
	var found []scan.Scan
	for i := range 3 {
		c := leased
		c.ID, c.Status, c.Selector, c.Attempt, c.Started, c.Lease = scan.NewID(), scan.Queued, nil, 0, time.Time{}, scan.Lease{}
		c.Request.Target.Pod, c.Request.Target.Container = fmt.Sprint("web-", i), "app"
		found = append(found, c)
	}
	end := scan.Finish{ID: leased.ID, Agent: "edge", Attempt: 1, Status: scan.Completed, Reason: "3 found"}
	theirs := end
	theirs.Agent = "core"
	wantErr(t, "another agent", s.ExpandScan(t.Context(), theirs, found, epoch), scan.ErrNotFound)
	wantErr(t, "expand", s.ExpandScan(t.Context(), end, found, epoch), nil)
	wantErr(t, "expand again", s.ExpandScan(t.Context(), end, found, epoch), scan.ErrFinished)
	list, err := s.Scans(t.Context(), scan.Filter{Batch: b.ID})
	if err != nil || len(list) != 3 {
		t.Fatalf("%d scans, %v", len(list), err)
	}
	if d := cmp.Diff(found[2], list[0]); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}
	if cb := list[0].Request.Callback; cb == nil || cb.Token != "secret" {
		t.Errorf("its callback: %+v", cb)
	}
	one := leaseScan(t, s, epoch)
	if err := s.FinishScan(t.Context(), completed(one.ID, 1), epoch); err != nil {
		t.Fatal(err)
	}
	n, err := s.CancelBatch(t.Context(), b.ID, "enough", epoch)
	if err != nil || n != 3 {
		t.Errorf("cancelled %d, %v; want two scans and the other selection", n, err)
	}
	got, err := s.Batch(t.Context(), b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[scan.Status]int{scan.Completed: 1, scan.Cancelled: 2}, got.Scans); d != "" || got.Outcomes[scan.Failed] != 1 {
		t.Errorf("counts %v (-want +got):\n%s", got.Outcomes, d)
	}
	for _, sel := range got.Selections {
		if !sel.Status.Final() {
			t.Errorf("selection at %s is %s", sel.Request.Target.Agent, sel.Status)
		}
	}
	_, err = s.Batch(t.Context(), "none")
	wantErr(t, "no batch", err, scan.ErrNoBatch)
	_, err = s.CancelBatch(t.Context(), "none", "", epoch)
	wantErr(t, "cancel no batch", err, scan.ErrNoBatch)
}
