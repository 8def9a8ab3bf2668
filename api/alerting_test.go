package api_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/alert/verify"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

func alerting(t *testing.T, w *world) api.Alerting {
	t.Helper()
	keys, err := sign.Open(t.Context(), w.store, w.ca, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return api.Alerting{Runs: w.store, Silences: w.store, Keys: keys, Sinks: map[string]api.ConfiguredSink{"sink": {Type: "rpc"}}}
}

func TestAlertKeys(t *testing.T) {
	w := newWorld(t)
	known := func() verify.Keys {
		t.Helper()
		// Nobody needs a credential to read them.
		a := do(t, w.client(t, nil), "GET", w.url+"/api/v1/alert-keys", "")
		keys, err := verify.ParseKeys([]byte(a.text))
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("%d %s: %v", a.status, a.text, err)
		}
		return keys
	}
	if n := len(known()); n != 1 {
		t.Errorf("%d keys", n)
	}
	two := decode[page[api.AlertKey]](t, w.do(t, "POST", "/api/v1/alert-keys/rotate", ""), http.StatusOK).Items
	if len(two) != 2 || !two[0].Ends.IsZero() || two[1].Ends.IsZero() || len(known()) != 2 {
		t.Errorf("rotated: %+v", two)
	}
	if a := w.do(t, "POST", "/api/v1/alert-keys/rotate", ""); a.status != http.StatusConflict {
		t.Errorf("a third: %d %s", a.status, a.text)
	}
	if a := w.caller(t, pki.Right{Role: pki.Operator})("POST", "/alert-keys/"+two[0].ID+"/end", ""); a.status != http.StatusForbidden {
		t.Errorf("by an operator: %d %s", a.status, a.text)
	}
	one := decode[page[api.AlertKey]](t, w.do(t, "POST", "/api/v1/alert-keys/"+two[0].ID+"/end", ""), http.StatusOK).Items
	if len(one) != 1 || one[0].ID != two[1].ID || !one[0].Ends.IsZero() {
		t.Errorf("ended: %+v", one)
	}
	if a := w.do(t, "POST", "/api/v1/alert-keys/"+one[0].ID+"/end", ""); a.status != http.StatusNotFound {
		t.Errorf("the only one: %d %s", a.status, a.text)
	}
}

func TestAlertRuns(t *testing.T) {
	w := newWorld(t)
	outcome := func(run, repo string) fleet.Outcome {
		return fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: repo}, Policy: "p", Run: run, At: time.Now()}
	}
	for _, e := range []alert.Emit{
		{Run: "r1", Source: "policy:p", Expected: 2, Done: true, Emissions: []alert.Emission{{Outcome: outcome("r1", "a"), Sinks: []string{"sink"}}, {Outcome: outcome("r1", "b"), Sinks: []string{"sink"}}}},
		{Run: "r2", Source: "github:acme", Expected: 2, Done: true, Note: "b answered 500", Emissions: []alert.Emission{{Outcome: outcome("r2", "a")}}},
	} {
		if err := w.store.Emit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	list := func(query string) (ids []string) {
		t.Helper()
		for _, r := range decode[page[api.AlertRun]](t, w.do(t, "GET", "/api/v1/alert-runs"+query, ""), http.StatusOK).Items {
			ids = append(ids, fmt.Sprintf("%s %d/%d %v %s", r.ID, r.Emitted, r.Expected, r.Complete, r.Note))
		}
		return ids
	}
	r1, r2 := "r1 2/2 true ", "r2 1/2 false b answered 500"
	for query, want := range map[string][]string{"": {r2, r1}, "?incomplete=true": {r2}, "?source=policy:p": {r1}, "?before=r2": {r1}, "?limit=1": {r2}} {
		if got := list(query); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if r := decode[api.AlertRun](t, w.do(t, "GET", "/api/v1/alert-runs/r1", ""), http.StatusOK); r.Alerts[alert.Pending] != 2 {
		t.Errorf("%+v", r)
	}
	if a := w.do(t, "GET", "/api/v1/alert-runs/none", ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.text)
	}
	id := alert.NewID(outcome("r1", "a"), "sink")
	if al := decode[api.Alert](t, w.do(t, "GET", "/api/v1/alerts/"+string(id), ""), http.StatusOK); al.Run != "r1" || al.State != alert.Pending {
		t.Errorf("%+v", al)
	}
	// Who sees a part of the fleet sees the alerts of its scans alone.
	if a := w.caller(t, limited(pki.Viewer, "shop"))("GET", "/alerts/"+string(id), ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestSilences(t *testing.T) {
	w := newWorld(t)
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	made := decode[api.Silence](t, w.do(t, "POST", "/api/v1/silences", `{"owner":"acme","until":"`+until+`","comment":"moving"}`), http.StatusCreated)
	if made.ID == "" || made.Owner != "acme" || made.CreatedBy == "" {
		t.Errorf("%+v", made)
	}
	list := func() []api.Silence {
		t.Helper()
		return decode[page[api.Silence]](t, w.do(t, "GET", "/api/v1/silences", ""), http.StatusOK).Items
	}
	if all := list(); len(all) != 1 || all[0].ID != made.ID {
		t.Errorf("%+v", all)
	}
	for body, want := range map[string]int{
		`{"until":"` + until + `","comment":"all"}`:                        http.StatusUnprocessableEntity,
		`{"owner":"a","until":"2020-01-01T00:00:00Z","comment":"past"}`:    http.StatusUnprocessableEntity,
		`{"owner":"a","until":"2100-01-01T00:00:00Z","comment":"forever"}`: http.StatusUnprocessableEntity,
		`{"owner":"a","until":"` + until + `","comment":""}`:               http.StatusUnprocessableEntity,
		`{"owner":"a","until":"tomorrow","comment":"x"}`:                   http.StatusUnprocessableEntity,
		`{"owner":7,"until":"` + until + `","comment":"x"}`:                http.StatusUnprocessableEntity,
	} {
		if a := w.do(t, "POST", "/api/v1/silences", body); a.status != want {
			t.Errorf("%s: %d %s", body, a.status, a.text)
		}
	}
	if a := w.caller(t, pki.Right{Role: pki.Scanner})("POST", "/silences", `{"owner":"acme","until":"`+until+`","comment":"x"}`); a.status != http.StatusForbidden {
		t.Errorf("by a scanner: %d", a.status)
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if a := w.do(t, "DELETE", "/api/v1/silences/"+made.ID, ""); a.status != want {
			t.Errorf("%d, want %d: %s", a.status, want, a.text)
		}
	}
	if all := list(); len(all) != 0 {
		t.Errorf("left %+v", all)
	}
}

func TestSinks_pause(t *testing.T) {
	w := newWorld(t)
	o := fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "a"}, Policy: "p", Run: "r", At: time.Now()}
	if err := w.store.Emit(t.Context(), alert.Emit{Run: "r", Source: "x", Emissions: []alert.Emission{{Outcome: o, Sinks: []string{"remedy:deny"}}}}); err != nil {
		t.Fatal(err)
	}
	sinks := func() (out []string) {
		t.Helper()
		for _, s := range decode[page[api.Sink]](t, w.do(t, "GET", "/api/v1/sinks", ""), http.StatusOK).Items {
			out = append(out, fmt.Sprintf("%s %s %d %v", s.Name, s.Type, s.Pending, s.PausedBy != ""))
		}
		return out
	}
	if got, want := fmt.Sprint(sinks()), "[remedy:deny  1 false sink rpc 0 false]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, name := range []string{"sink", "remedy:deny"} {
		if s := decode[api.Sink](t, w.do(t, "POST", "/api/v1/sinks/"+name+"/pause", ""), http.StatusOK); s.PausedBy == "" {
			t.Errorf("%+v", s)
		}
	}
	decode[api.Sink](t, w.do(t, "POST", "/api/v1/sinks/sink/resume", ""), http.StatusOK)
	if got, want := fmt.Sprint(sinks()), "[remedy:deny  1 true sink rpc 0 false]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a := w.do(t, "POST", "/api/v1/sinks/none/pause", ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := w.caller(t, limited(pki.Operator, "shop"))("POST", "/sinks/sink/pause", ""); a.status != http.StatusForbidden {
		t.Errorf("by the operator of a part: %d %s", a.status, a.text)
	}
}
