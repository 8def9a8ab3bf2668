package api_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/insight"
)

// nowhere is the exporter of a hub without one.
type nowhere struct{}

func (nowhere) Export(context.Context, iter.Seq2[[]insight.DocumentRecord, error]) (int, error) {
	return 0, insight.Invalidf("this hub exports SBOMs nowhere")
}

func TestExports(t *testing.T) {
	w := newWorld(t)
	var list []insight.Export
	for i := range 3 {
		list = append(list, insight.Export{
			Destination: insight.Destination{Project: fmt.Sprint("shop/web-", i), Version: "main"}, Cluster: "edge",
			Environment: insight.Environment{Namespace: fmt.Sprint("shop-", i)}, Service: "web", Digest: "sha256:1",
		})
	}
	if err := w.store.QueueExports(t.Context(), list, time.Now()); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"": 3, "?state=waiting": 3, "?state=sent": 0, "?namespace=shop-1": 1, "?agent=other": 0, "?limit=2": 2} {
		if got := decode[page[api.Export]](t, w.do(t, "GET", "/api/v1/insights/exports"+query, ""), http.StatusOK).Items; len(got) != want {
			t.Errorf("%q: %+v, want %d", query, got, want)
		}
	}
	if a := w.do(t, "POST", "/api/v1/insights/exports", `{}`); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.text, "nowhere") {
		t.Errorf("export to nowhere: %d %s", a.status, a.text)
	}
}
