package api_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/transform"
	"reeve.dev/reeve/store"
)

// deriver is the hub's, with the shipped transforms.
func deriver(s *store.Store, logger *slog.Logger) *insight.Service {
	out := insight.NewService(s, insight.Limits{}, logger)
	out.DeriveFacts(transform.Default().Of)
	return out
}

func TestTransforms(t *testing.T) {
	w := newWorld(t)
	// They came before there were transforms.
	service := insight.NewService(w.store, insight.Limits{}, slog.New(slog.DiscardHandler))
	for i := range 3 {
		err := service.Accept(t.Context(), insight.Item{
			ID: insight.ItemID(fmt.Sprint(i)), Cluster: "edge", Environment: insight.Environment{Namespace: "shop"},
			Content: insight.Document{Kind: insight.KindSBOM, Service: fmt.Sprint("web-", i), Data: fmt.Appendf(nil,
				`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"rails","version":"7.%d"}]}`, i)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	facts := func() (names []string) {
		for _, f := range decode[page[api.Fact]](t, w.do(t, "GET", "/api/v1/insights/facts", ""), http.StatusOK).Items {
			names = append(names, f.Service+" "+f.Name+" "+f.Value)
		}
		return names
	}
	post := func(query, body string) api.DerivedPage {
		t.Helper()
		return decode[api.DerivedPage](t, w.do(t, "POST", "/api/v1/insights/transform"+query, body), http.StatusOK)
	}

	const file = `transforms: [{type: Package, lookupvalue: [{name: Version, value: '7.1'}], keyfact: true}]`
	body := fmt.Sprintf(`{"dryRun":true,"transforms":[%q]}`, file)
	var got []string
	pages := 0
	for next := ""; pages == 0 || next != ""; pages++ {
		p := post("?limit=2&before="+next, body)
		for _, d := range p.Items {
			got = append(got, fmt.Sprint(d.Service, " ", d.Changes))
		}
		next = p.Next
	}
	want := []string{"web-1 [{added insights:sbom:web-1 web-1 rails  7.1}]"}
	if diff := cmp.Diff(want, got); diff != "" || pages != 2 {
		t.Errorf("%d pages: %s", pages, diff)
	}
	if got := facts(); len(got) != 0 {
		t.Errorf("after a dry run: %q", got)
	}

	if p := post("?service=web-2", `{}`); p.Examined != 1 || len(p.Items) != 1 {
		t.Errorf("of one service: %+v", p)
	}
	if p := post("", `{}`); p.Examined != 3 || len(p.Items) != 2 {
		t.Errorf("of all, one of them made already: %+v", p)
	}
	if diff := cmp.Diff([]string{"web-0 Ruby on Rails 7.0", "web-1 Ruby on Rails 7.1", "web-2 Ruby on Rails 7.2"}, facts()); diff != "" {
		t.Error(diff)
	}

	for body, want := range map[string]string{
		fmt.Sprintf(`{"transforms":[%q]}`, file):                   "set dryRun",
		`{"dryRun":true,"transforms":["transforms: []","a: 1"]}`:   "body.transforms[1]",
		`{"dryRun":true,"transforms":["transforms: [{type: x}]"]}`: "transforms[0].type",
		`{"dryRun":"yes"}`: "body.dryRun",
	} {
		if a := w.do(t, "POST", "/api/v1/insights/transform", body); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.text, want) {
			t.Errorf("%s: %d %s", body, a.status, a.text)
		}
	}
}
