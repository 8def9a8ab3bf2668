package storetest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/store"
)

// entries are n of a chain, each a minute after the other. Their hashes are
// as good as any: the store doesn't judge them.
func entries(chain string, first, n int64) []audit.Entry {
	var out []audit.Entry
	for seq := first; seq < first+n; seq++ {
		r := audit.Record{At: epoch.Add(time.Duration(seq) * time.Minute), Kind: audit.Request, Actor: "spiffe://reeve/x", Action: "get", Agent: "east", Status: 200}
		if seq%2 == 0 {
			r.Kind, r.Action, r.Agent, r.Status = audit.Change, "create-token", "", 201
		}
		out = append(out, audit.Entry{Chain: chain, Seq: seq, Body: `{"n":"` + strings.Repeat("ü", 3) + `"}`, Hash: "h", Index: r.Index()})
	}
	return out
}

func sequence(list []audit.Entry) (out []int64) {
	for _, e := range list {
		out = append(out, e.Seq)
	}
	return out
}

func auditLog(t *testing.T, open func(*testing.T) *store.Store) {
	t.Run("append", func(t *testing.T) {
		s, ctx := open(t), t.Context()
		if h, err := s.AuditHead(ctx, "a"); err != nil || h != (audit.Head{}) {
			t.Fatalf("head of nothing: %+v, %v", h, err)
		}
		all := entries("a", 1, 250) // more than one statement takes
		for _, list := range [][]audit.Entry{all[:200], all[200:], entries("b", 1, 3)} {
			if err := s.AppendAudit(ctx, list); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.AppendAudit(ctx, []audit.Entry{{Chain: "a", Seq: 251, Body: "{}", Hash: "h"}, all[249]}); err == nil {
			t.Error("a number was given twice")
		}
		if h, err := s.AuditHead(ctx, "a"); err != nil || h.Seq != 250 || h.Hash != "h" || h.Body != all[0].Body {
			t.Errorf("head: %+v, %v", h, err)
		}
		got, err := s.AuditEntries(ctx, "a", 100, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(all[100:], got); d != "" {
			t.Errorf("entries (-want +got):\n%s", d)
		}
		chains, err := s.AuditChains(ctx)
		if d := cmp.Diff([]string{"a", "b"}, chains); d != "" || err != nil {
			t.Errorf("chains: %v\n%s", err, d)
		}
	})
	t.Run("find", func(t *testing.T) {
		s, ctx := open(t), t.Context()
		for _, chain := range []string{"a", "b"} {
			if err := s.AppendAudit(ctx, entries(chain, 1, 6)); err != nil {
				t.Fatal(err)
			}
		}
		for name, tc := range map[string]struct {
			f    audit.Filter
			want []int64
		}{
			"kind":    {audit.Filter{Index: audit.Index{Kind: audit.Change}}, []int64{6, 6, 4, 4, 2, 2}},
			"agent":   {audit.Filter{Index: audit.Index{Agent: "east", Status: 200}, Since: epoch.Add(3 * time.Minute)}, []int64{5, 5, 3, 3}},
			"until":   {audit.Filter{Until: epoch.Add(2 * time.Minute)}, []int64{1, 1}},
			"nobody":  {audit.Filter{Index: audit.Index{Actor: "x"}}, nil},
			"between": {audit.Filter{Before: audit.Cursor{At: epoch.Add(2 * time.Minute), Chain: "b", Seq: 2}}, []int64{2, 1, 1}},
		} {
			tc.f.Limit = 100
			got, err := s.AuditRecords(ctx, tc.f)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, sequence(got)); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		}
	})
	t.Run("trim", func(t *testing.T) {
		s, ctx := open(t), t.Context()
		if err := s.AppendAudit(ctx, entries("a", 1, 10)); err != nil {
			t.Fatal(err)
		}
		anchor := func(seq int64, kind audit.AnchorKind) audit.Anchor {
			return audit.Anchor{Chain: "a", Seq: seq, Hash: "h", Kind: kind, At: epoch, Signature: []byte{1, 2, 3}}
		}
		for _, seq := range []int64{3, 7, 7} {
			if err := s.AddAnchor(ctx, anchor(seq, audit.Checkpoint)); err != nil {
				t.Fatal(err)
			}
		}
		for _, tc := range []struct {
			before time.Duration
			limit  int
			want   int64
		}{{0, 100, 0}, {5 * time.Minute, 100, 4}, {5 * time.Minute, 2, 2}, {time.Hour, 100, 9}} {
			h, err := s.TrimPoint(ctx, "a", epoch.Add(tc.before), tc.limit)
			if err != nil || h.Seq != tc.want {
				t.Errorf("before %v, at most %d: %d, %v; want %d", tc.before, tc.limit, h.Seq, err, tc.want)
			}
		}
		if err := s.TrimAudit(ctx, anchor(4, audit.Trim)); err != nil {
			t.Fatal(err)
		}
		got, err := s.AuditEntries(ctx, "a", 0, 100)
		if d := cmp.Diff([]int64{5, 6, 7, 8, 9, 10}, sequence(got)); d != "" || err != nil {
			t.Errorf("left: %v\n%s", err, d)
		}
		anchors, err := s.Anchors(ctx, "a")
		if d := cmp.Diff([]audit.Anchor{anchor(4, audit.Trim), anchor(7, audit.Checkpoint)}, anchors); d != "" || err != nil {
			t.Errorf("anchors: %v\n%s", err, d)
		}
		if h, err := s.TrimPoint(ctx, "none", epoch, 1); err != nil || h.Seq != 0 {
			t.Errorf("of no chain: %+v, %v", h, err)
		}
	})
	t.Run("a log", func(t *testing.T) { auditChain(t, open(t)) })
}

// auditChain writes by an audit.Log and verifies what is there.
func auditChain(t *testing.T, s *store.Store) {
	sign := func(m []byte) ([]byte, error) { return append([]byte("signed "), m...), nil }
	check := func(m, signature []byte) error {
		if string(signature) != "signed "+string(m) {
			return errors.New("not signed")
		}
		return nil
	}
	for range 2 { // the second goes on where the first ended
		log, clean, err := audit.Open(t.Context(), audit.Config{Store: s, Chain: "r1", Sign: sign, Logger: slog.New(slog.DiscardHandler)})
		if err != nil || !clean {
			t.Fatal(clean, err)
		}
		for range 700 {
			log.Add(audit.Record{Kind: audit.Request, Action: "get", Path: "/\x00\xff", Status: 200})
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		log.Run(ctx)
	}
	anchors, err := s.Anchors(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	v := audit.NewVerifier("r1", anchors, check)
	list, err := s.AuditEntries(t.Context(), "r1", 0, 5000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := v.Next(e); err != nil {
			t.Fatal(err)
		}
	}
	done, err := v.End()
	if err != nil || done.Records != 1402 || done.Anchored != 1402 {
		t.Errorf("verified %+v, %v", done, err)
	}
}

func recordings(t *testing.T, s *store.Store) {
	ctx := t.Context()
	digest, size, err := s.PutDocument(strings.NewReader("{}\n"), 100)
	if err != nil {
		t.Fatal(err)
	}
	r := audit.Recording{
		ID: "01a", Began: epoch, Ended: epoch.Add(time.Minute), Actor: "spiffe://reeve/x", Credential: "token/1", Holder: "ann", Agent: "east",
		Service: "kubernetes/cluster", Namespace: "shop", Pod: "web-0", Container: "web", Command: []string{"sh", "-c", "id"},
		Width: 80, Height: 24, Size: size, Digest: digest, Cause: "revoked",
	}
	later := r
	later.ID, later.Holder, later.Ended, later.Command = "01b", "bob", epoch.Add(time.Hour), nil
	for _, r := range []audit.Recording{r, later, {ID: "01a", Digest: "x"}} {
		if err := s.SaveRecording(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Recording(ctx, "01a")
	if d := cmp.Diff(r, got); d != "" || err != nil {
		t.Errorf("recording: %v\n%s", err, d)
	}
	if _, err := s.Recording(ctx, "01c"); !errors.Is(err, audit.ErrNoRecording) {
		t.Errorf("of no id: %v", err)
	}
	for _, tc := range []struct {
		f    audit.RecordingFilter
		want []audit.Recording
	}{
		{audit.RecordingFilter{Limit: 10}, []audit.Recording{later, r}},
		{audit.RecordingFilter{Limit: 10, Before: "01b"}, []audit.Recording{r}},
		{audit.RecordingFilter{Limit: 10, Holder: "bob", Agent: "east"}, []audit.Recording{later}},
		{audit.RecordingFilter{Limit: 10, Actor: "nobody"}, nil},
	} {
		list, err := s.Recordings(ctx, tc.f)
		if d := cmp.Diff(tc.want, list); d != "" || err != nil {
			t.Errorf("%+v: %v\n%s", tc.f, err, d)
		}
	}
	future := time.Now().Add(2 * store.SweepAge)
	sweep := func(want int) {
		t.Helper()
		if n, err := s.SweepBlobs(ctx, future); n != want || err != nil {
			t.Errorf("swept %d documents, want %d: %v", n, want, err)
		}
	}
	sweep(0)
	if err := s.RemoveRecordings(ctx, epoch.Add(2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	sweep(0) // the other one names it too
	if err := s.RemoveRecordings(ctx, epoch.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	sweep(1)
	if f, err := s.Document(digest); err == nil {
		io.Copy(io.Discard, f)
		f.Close()
		t.Error("the document is still there")
	}
}
