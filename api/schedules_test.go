package api_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

const scheduleBody = `{"cron":"0 3 * * *","timeZone":"Europe/Berlin","selector":{"agents":["east"],"namespace":"shop"},"scan":{"profile":"p","threshold":"strict"},"options":{"priority":"low","timeout":60},"jitter":600}`

func TestSchedules(t *testing.T) {
	w := newWorld(t, "east", "west")
	const at = "/api/v1/schedules"
	a := w.do(t, "PUT", at+"/nightly", scheduleBody)
	got := decode[api.Schedule](t, a, http.StatusCreated)
	if got.Name != "nightly" || got.Next.IsZero() || got.Jitter != 600 || got.Missed != "once" || got.Selector.Namespace != "shop" ||
		got.Target != nil || got.Priority != "low" || got.Timeout != 60 || a.header.Get("Location") != at+"/nightly" {
		t.Errorf("created: %s", a.text)
	}
	one := `{"cron":"@daily","target":{"agent":"east","namespace":"shop","pod":"web","container":"app"},"scan":{"profile":"p"},"suspended":true}`
	if got := decode[api.Schedule](t, w.do(t, "PUT", at+"/nightly", one), http.StatusOK); !got.Next.IsZero() || got.Target.Pod != "web" || got.Selector != nil {
		t.Errorf("replaced: %+v", got)
	}
	if got := decode[page[api.Schedule]](t, w.do(t, "GET", at, ""), http.StatusOK); len(got.Items) != 1 {
		t.Errorf("list: %+v", got)
	}
	if got := decode[page[api.ScheduleRun]](t, w.do(t, "GET", at+"/nightly/runs", ""), http.StatusOK); len(got.Items) != 0 {
		t.Errorf("runs: %+v", got)
	}
	for _, path := range []string{at + "/none", at + "/none/runs", at + "/nightly?agent=east"} {
		if a := w.do(t, "GET", path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
	for i, status := range []int{http.StatusNoContent, http.StatusNotFound} {
		if a := w.do(t, "DELETE", at+"/nightly", ""); a.status != status {
			t.Errorf("delete %d: %d %s", i, a.status, a.text)
		}
	}
}

// Each member wrong in turn: the answer names it, and nothing is stored.
func TestSchedules_badInput(t *testing.T) {
	w := newWorld(t, "east")
	for name, tc := range map[string]struct{ old, new, location string }{
		"cron":           {"0 3 * * *", "at noon", "body.cron"},
		"no cron":        {`"cron":"0 3 * * *",`, "", "body.cron"},
		"time zone":      {"Europe/Berlin", "Europe/Atlantis", "body.timeZone"},
		"jitter":         {`"jitter":600`, `"jitter":-1`, "body.jitter"},
		"missed":         {`"jitter":600`, `"missed":"twice"`, "body.missed"},
		"agent":          {`"east"`, `"north"`, "body.selector.agents[0]"},
		"namespace":      {`"shop"`, `"Shop"`, "body.selector.namespace"},
		"profile":        {`"p"`, `"q"`, "body.scan.profile"},
		"threshold":      {`"strict"`, `"lax"`, "body.scan.threshold"},
		"timeout":        {`"timeout":60`, `"timeout":-1`, "body.options.timeout"},
		"priority":       {`"low"`, `"urgent"`, "body.options.priority"},
		"callback":       {`"jitter":600`, `"callback":{"url":"https://ci.example/1"}`, "body.callback"},
		"no target":      {`"selector":{"agents":["east"],"namespace":"shop"},`, ``, "body.target"},
		"two targets":    {`"jitter":600`, `"target":{"agent":"east","uri":"dir:/"}`, "body.selector"},
		"unknown member": {`"jitter":600`, `"colour":"red"`, "body.colour"},
	} {
		a := w.do(t, "PUT", "/api/v1/schedules/s", strings.Replace(scheduleBody, tc.old, tc.new, 1))
		if a.status != http.StatusUnprocessableEntity || len(a.Errors) != 1 || a.Errors[0].Location != tc.location {
			t.Errorf("%s: %d %s; want an error at %s", name, a.status, a.text, tc.location)
		}
	}
	if a := w.do(t, "PUT", "/api/v1/schedules/a%20b", scheduleBody); a.status != http.StatusUnprocessableEntity || a.Errors[0].Location != "body.name" {
		t.Errorf("name: %d %s", a.status, a.text)
	}
	if got := decode[page[api.Schedule]](t, w.do(t, "GET", "/api/v1/schedules", ""), http.StatusOK); len(got.Items) != 0 {
		t.Errorf("stored: %+v", got)
	}
}

// Who is operator in a part of the fleet changes and sees schedules of that
// part, and can't take over another's by its name.
func TestSchedules_rights(t *testing.T) {
	w := newWorld(t, "east", "west")
	decode[api.Schedule](t, w.do(t, "PUT", "/api/v1/schedules/theirs", strings.Replace(scheduleBody, `"shop"`, `"bank"`, 1)), http.StatusCreated)
	decode[api.Schedule](t, w.do(t, "PUT", "/api/v1/schedules/fleet", strings.Replace(scheduleBody, `"agents":["east"],`, ``, 1)), http.StatusCreated)
	part := w.caller(t, limited(pki.Operator, "shop"))
	if a := part("PUT", "/schedules/mine", scheduleBody); a.status != http.StatusCreated {
		t.Errorf("its own: %d %s", a.status, a.text)
	}
	for name, standing := range map[string]bool{"mine": false, "theirs": true} {
		if c, err := w.store.Schedule(t.Context(), "", name); err != nil || c.Request.Standing != standing {
			t.Errorf("%s asks standing questions: %v, %v; it should: %v", name, c.Request.Standing, err, standing)
		}
	}
	for name, tc := range map[string]struct{ method, path, body string }{
		"another namespace":  {"PUT", "/schedules/new", strings.Replace(scheduleBody, `"shop"`, `"bank"`, 1)},
		"another agent":      {"PUT", "/schedules/new", strings.Replace(scheduleBody, `"east"`, `"west"`, 1)},
		"every agent":        {"PUT", "/schedules/new", strings.Replace(scheduleBody, `"agents":["east"],`, ``, 1)},
		"taken over":         {"PUT", "/schedules/theirs", scheduleBody},
		"deleted":            {"DELETE", "/schedules/theirs", ""},
		"of the whole fleet": {"DELETE", "/schedules/fleet", ""},
	} {
		if a := part(tc.method, tc.path, tc.body); a.status != http.StatusForbidden || !strings.Contains(a.text, "operator") {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if got := decode[page[api.Schedule]](t, part("GET", "/schedules", ""), http.StatusOK); len(got.Items) != 1 || got.Items[0].Name != "mine" {
		t.Errorf("it sees %+v", got.Items)
	}
	if a := part("GET", "/schedules/theirs", ""); a.status != http.StatusNotFound {
		t.Errorf("another's: %d %s", a.status, a.text)
	}
	scanner := w.caller(t, limited(pki.Scanner, "shop"))
	if a := scanner("PUT", "/schedules/new", scheduleBody); a.status != http.StatusForbidden {
		t.Errorf("by a scanner: %d %s", a.status, a.text)
	}
}

// A schedule is judged by what its maker may do now: who lost his token, or his
// rights, doesn't go on scanning by it.
func TestSchedules_makers(t *testing.T) {
	w := newWorld(t, "east", "west")
	made := decode[struct{ ID, Token string }](t, w.do(t, "POST", "/api/v1/tokens", `{"kind":"api","name":"ops","role":"operator"}`), http.StatusCreated)
	put := do(t, w.client(t, nil), "PUT", w.url+"/api/v1/schedules/s", scheduleBody, "Authorization", "Bearer "+made.Token)
	decode[api.Schedule](t, put, http.StatusCreated)
	judge := func(change func(*scan.Schedule)) string {
		t.Helper()
		c, err := w.store.Schedule(t.Context(), "", "s")
		if err != nil {
			t.Fatal(err)
		}
		change(&c)
		refused, err := w.MayStillMake(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return refused
	}
	same := func(*scan.Schedule) {}
	if got := judge(same); got != "" {
		t.Errorf("at first: %s", got)
	}
	if got := judge(func(c *scan.Schedule) { c.Maker = nil }); got != "" {
		t.Errorf("one from before makers were kept: %s", got)
	}
	less := func(c *scan.Schedule) { c.Maker = bytes.Replace(c.Maker, []byte("operator"), []byte("scanner"), 1) }
	if got := judge(less); !strings.Contains(got, "needs the role operator") {
		t.Errorf("with fewer rights: %q", got)
	}
	if a := w.do(t, "DELETE", "/api/v1/tokens/"+made.ID, ""); a.status != http.StatusNoContent {
		t.Fatal(a.text)
	}
	if got := judge(same); !strings.Contains(got, "token:ops made it") || !strings.Contains(got, "revoked") {
		t.Errorf("after the token was revoked: %q", got)
	}
	c, err := w.store.Schedule(t.Context(), "", "s")
	if err == nil {
		err = w.store.PauseSchedule(t.Context(), c, "its maker left")
	}
	if err != nil {
		t.Fatal(err)
	}
	got := decode[api.Schedule](t, w.do(t, "GET", "/api/v1/schedules/s", ""), http.StatusOK)
	if !got.Suspended || got.Paused != "its maker left" || !got.Next.IsZero() {
		t.Errorf("paused: %+v", got)
	}
	if got := decode[api.Schedule](t, w.do(t, "PUT", "/api/v1/schedules/s", scheduleBody), http.StatusOK); got.Paused != "" || got.Suspended || got.Next.IsZero() {
		t.Errorf("saved by somebody who may: %+v", got)
	}
}

// A pause is no making: the schedule goes on by its maker's rights, and for what
// they count, whoever pauses and resumes it. Only one whose maker may not make it
// any more gets another.
func TestSchedules_paused(t *testing.T) {
	w := newWorld(t, "east", "west")
	const at = "/api/v1/schedules/s"
	decode[api.Schedule](t, w.do(t, "PUT", at, scheduleBody), http.StatusCreated)
	stored := func() scan.Schedule {
		t.Helper()
		c, err := w.store.Schedule(t.Context(), "", "s")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	made := stored()
	part, other := w.caller(t, limited(pki.Operator, "shop")), w.caller(t, limited(pki.Operator, "bank"))
	for _, verb := range []string{"pause", "resume"} {
		if a := other("POST", "/schedules/s/"+verb, ""); a.status != http.StatusForbidden {
			t.Errorf("%s by who may not: %d %s", verb, a.status, a.text)
		}
		if a := part("POST", "/schedules/none/"+verb, ""); a.status != http.StatusNotFound {
			t.Errorf("%s of none: %d %s", verb, a.status, a.text)
		}
	}
	for range 2 { // again, it is so already
		if got := decode[api.Schedule](t, part("POST", "/schedules/s/pause", ""), http.StatusOK); !got.Suspended || !got.Next.IsZero() {
			t.Errorf("paused: %+v", got)
		}
	}
	if got := decode[api.Schedule](t, part("POST", "/schedules/s/resume", ""), http.StatusOK); got.Suspended || got.Next.IsZero() {
		t.Errorf("resumed: %+v", got)
	}
	if d := cmp.Diff(made, stored()); d != "" {
		t.Errorf("after a pause (-as it was made +now):\n%s", d)
	}

	if err := w.store.PauseSchedule(t.Context(), made, "its maker left"); err != nil {
		t.Fatal(err)
	}
	if got := decode[api.Schedule](t, part("POST", "/schedules/s/pause", ""), http.StatusOK); got.Paused != "its maker left" {
		t.Errorf("paused twice: %+v", got)
	}
	decode[api.Schedule](t, part("POST", "/schedules/s/resume", ""), http.StatusOK)
	if c := stored(); c.Paused != "" || c.Request.Standing || c.CreatedBy != "token:ci" || bytes.Equal(c.Maker, made.Maker) {
		t.Errorf("resumed by another: %+v", c)
	}
}

// What somebody else changed meanwhile isn't overwritten unseen.
func TestSchedules_preconditions(t *testing.T) {
	w := newWorld(t, "east")
	const at = "/api/v1/schedules/s"
	put := func(name, value string) answer {
		return do(t, w.admin, "PUT", w.url+at, scheduleBody, name, value, "Content-Type", "application/json")
	}
	if a := put("If-Match", "*"); a.status != http.StatusPreconditionFailed {
		t.Errorf("in place of none: %d %s", a.status, a.text)
	}
	first := put("If-None-Match", "*")
	if first.status != http.StatusCreated {
		t.Fatalf("new: %d %s", first.status, first.text)
	}
	if a := put("If-None-Match", "*"); a.status != http.StatusPreconditionFailed || !strings.Contains(a.text, "there is one already") {
		t.Errorf("new again: %d %s", a.status, a.text)
	}
	tag := first.header.Get("ETag")
	if a := w.do(t, "GET", at, ""); a.header.Get("ETag") != tag {
		t.Errorf("read: %s, want %s", a.header.Get("ETag"), tag)
	}
	w.do(t, "POST", at+"/pause", "")
	if a := put("If-Match", tag); a.status != http.StatusPreconditionFailed {
		t.Errorf("in place of one that was paused: %d %s", a.status, a.text)
	}
	w.do(t, "POST", at+"/resume", "")
	if a := put("If-Match", tag); a.status != http.StatusOK || a.header.Get("ETag") == tag {
		t.Errorf("replaced: %d %s", a.status, a.text)
	}
	if a := put("If-Match", tag); a.status != http.StatusPreconditionFailed {
		t.Errorf("replaced by what another has replaced: %d %s", a.status, a.text)
	}
}
