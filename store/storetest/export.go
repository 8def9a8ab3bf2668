package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/store"
)

// exports: an SBOM is queued where it is stored, and what waits is the latest of
// its destination.
func exports(t *testing.T, s *store.Store) {
	hour := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }
	receive := func(n int, digest, project string) {
		t.Helper()
		it := insight.Item{
			ID: insight.ItemID(fmt.Sprint(n)), Cluster: "edge", Environment: insight.Environment{Namespace: "shop-main", Project: "shop", Name: "main"},
			Content: insight.Document{Kind: insight.KindSBOM, Service: project, Build: fmt.Sprint("b", n)},
		}
		p := &insight.Parsed{Digest: insight.Digest(digest), SBOM: &insight.SBOM{}, Export: &insight.Destination{Project: project, Version: "main"}}
		if _, err := s.ApplyInsight(t.Context(), it, p, hour(n)); err != nil {
			t.Fatal(err)
		}
	}
	due := func(n, limit int) []insight.Export {
		t.Helper()
		out, err := s.DueExports(t.Context(), hour(n), limit)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	names := func(list []insight.Export) (out []string) {
		for _, e := range list {
			out = append(out, fmt.Sprint(e.Project, " ", e.Digest, " ", e.Attempts))
		}
		return out
	}
	expect := func(got []insight.Export, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, names(got)); diff != "" {
			t.Error(diff)
		}
	}
	put := func(e insight.Export) {
		t.Helper()
		if err := s.PutExport(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}

	queued := s.ExportsQueued()
	receive(1, "sha256:1", "web")
	<-queued
	receive(2, "sha256:2", "api")
	expect(due(1, 9), "web sha256:1 0")
	list := due(2, 9)
	expect(list, "web sha256:1 0", "api sha256:2 0")
	expect(due(2, 1), "web sha256:1 0")

	// A later SBOM takes the place of one that is on its way.
	receive(3, "sha256:3", "web")
	web := list[0]
	web.State, web.Ended = insight.ExportSent, hour(3)
	put(web)
	expect(due(3, 9), "api sha256:2 0", "web sha256:3 0")

	web, api := due(3, 9)[1], due(3, 9)[0]
	web.State, web.Attempts, web.Next, web.Ended = insight.ExportSent, 1, time.Time{}, hour(4)
	api.Attempts, api.Next, api.Reason = 1, hour(6), "down"
	put(web)
	put(api)
	expect(due(5, 9))
	expect(due(6, 9), "api sha256:2 1")
	receive(7, "sha256:3", "web") // as it is there already
	expect(due(7, 9), "api sha256:2 1")
	api.State, api.Next, api.Ended, api.Reason = insight.ExportRefused, time.Time{}, hour(7), "no"
	put(api)
	backlog, err := s.ExportBacklog(t.Context())
	if diff := cmp.Diff(insight.ExportBacklog{Refused: 1}, backlog); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	refused, err := s.Exports(t.Context(), insight.Query{Project: "shop"}, insight.ExportRefused)
	if diff := cmp.Diff([]insight.Export{api}, refused); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}

	// Asked for, all go again; what waits keeps its place.
	again, err := s.Exports(t.Context(), insight.Query{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if err := s.QueueExports(t.Context(), again, hour(8+n)); err != nil {
			t.Fatal(err)
		}
	}
	expect(due(9, 9), "api sha256:2 0", "web sha256:3 0")
	backlog, err = s.ExportBacklog(t.Context())
	if diff := cmp.Diff(insight.ExportBacklog{Waiting: 2, Oldest: hour(8)}, backlog); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
}
