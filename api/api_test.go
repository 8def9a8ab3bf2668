package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/webhook"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/event"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/scantest"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

// members makes the store an api.Fleet of agents that are all away.
type members struct{ *store.Store }

func (m members) Members(ctx context.Context) ([]api.Member, error) {
	agents, err := m.Agents(ctx)
	var out []api.Member
	for _, a := range agents {
		out = append(out, api.Member{Registration: a.Registration, FirstSeen: a.FirstSeen, LastSeen: a.LastSeen})
	}
	return out, err
}

// quarantine reads messages as agents send them.
type quarantine struct{ *insight.Service }

func (q quarantine) Requeue(ctx context.Context, agent fleet.AgentName, item insight.ItemID) error {
	return q.Service.Requeue(ctx, agent, item, lagoon.Decode)
}

// world is an API on a real store, behind TLS.
type world struct {
	*api.API
	url   string
	ca    *pki.CA
	store *store.Store
	queue *scan.Queue
	log   *bytes.Buffer
	admin *http.Client
}

func newWorld(t *testing.T, agents ...fleet.AgentName) *world {
	t.Helper()
	return newWorldWith(t, func(*api.Config) {}, agents...)
}

// newWorldWith lets change change the API's configuration.
func newWorldWith(t *testing.T, change func(*api.Config), agents ...fleet.AgentName) *world {
	t.Helper()
	w := &world{log: &bytes.Buffer{}}
	logger := slog.New(slog.NewTextHandler(w.log, nil))
	var err error
	if w.ca, err = pki.NewCA("test"); err != nil {
		t.Fatal(err)
	}
	if w.store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	for _, name := range agents {
		err := w.store.SaveAgent(t.Context(), fleet.Registration{
			Agent: name, Instance: "i", Version: "1", ScanTargets: []string{"k8s-container"},
			Services: []fleet.Service{{Type: "x-wiki", Name: "wiki"}},
		}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
	}
	catalogue := scantest.Catalogue(t, w.store, scantest.Profile("p", "archive"))
	w.queue = scan.NewQueue(scan.Config{
		Store: w.store, Catalogue: catalogue, Agents: w.store,
		Connected: func(fleet.AgentName) bool { return false }, Logger: logger, Sinks: []string{"sink"},
		Outcome: func(s scan.Scan, v scan.Verdict) fleet.Outcome {
			return fleet.Outcome{Subject: s.Request.Target.Subject(), Policy: s.Request.Policy(), Pass: v.Outcome == scan.Passed, Run: string(s.ID), At: s.Finished}
		},
	})
	conf, err := w.ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.NextProtos, conf.ClientAuth = []string{"h2", "http/1.1"}, tls.RequestClientCert
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + l.Addr().String()
	cfg := api.Config{
		Scans: w.queue, Catalogue: catalogue, Fleet: members{w.store}, Tokens: w.store, Revocations: w.store, CA: w.ca, Peers: w.ca.Peers(),
		Schedules: scan.NewSchedules(w.queue, w.store, logger),
		Events: event.New(event.Config{
			Store: w.store, Routes: []event.Route{{Name: "shop", Scan: event.Scan{Profile: "p"}}}, MaxPending: 100, Logger: logger,
		}),
		Insights: w.store, Quarantine: quarantine{insight.NewService(w.store, insight.Limits{}, logger)}, Deriver: deriver(w.store, logger), Exporter: nowhere{}, Outbox: w.store, Alerts: alerting(t, w), PolicyStore: w.store, Policies: policy.New(policy.Config{Logger: logger}), Records: w.store, Recordings: w.store, Callbacks: webhook.Config{}, PublicURL: w.url, ServicesURL: "https://services", Version: "test", Logger: logger,
	}
	change(&cfg)
	w.API = api.New(cfg)
	srv := &http.Server{Handler: w.API, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	w.admin = w.client(t, &pki.Identity{Purpose: pki.Control, Name: "root"})
	return w
}

// client has a certificate for id, or none.
func (w *world) client(t *testing.T, id *pki.Identity) *http.Client {
	t.Helper()
	if id == nil {
		return w.dialer(t, &tls.Config{RootCAs: w.ca.Pool()})
	}
	return w.clientOf(t, w.ca, *id, time.Hour)
}

// clientOf shows a certificate of ca whatever CAs the server names.
func (w *world) clientOf(t *testing.T, ca *pki.CA, id pki.Identity, life time.Duration) *http.Client {
	t.Helper()
	cert, key, err := ca.NewCredential(id, life)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return w.dialer(t, &tls.Config{RootCAs: w.ca.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &pair, nil
	}})
}

func (w *world) dialer(t *testing.T, conf *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// token is an API token, stored.
func (w *world) token(t *testing.T, role pki.Role, expires time.Time) (id, text string) {
	t.Helper()
	tok, text, err := pki.NewToken(pki.API, string(role), role.Everywhere(), 0)
	if err != nil {
		t.Fatal(err)
	}
	tok.Expires = expires
	if err := w.store.CreateToken(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	return tok.ID, text
}

type answer struct {
	status int
	header http.Header
	text   string
	// Of a problem:
	Title, Detail string
	Errors        []struct{ Location, Message, Pointer string }
}

func do(t *testing.T, c *http.Client, method, url, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if resp.StatusCode >= 400 && strings.HasPrefix(req.URL.Path, "/api") {
		if resp.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(text, &a) != nil || a.Title == "" || a.Detail == "" {
			t.Errorf("%s %s: %d isn't a problem: %s", method, url, resp.StatusCode, text)
		}
	}
	return a
}

func (w *world) do(t *testing.T, method, path, body string) answer {
	t.Helper()
	return do(t, w.admin, method, w.url+path, body)
}

func decode[T any](t *testing.T, a answer, status int) (v T) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.text)
	}
	if err := json.Unmarshal([]byte(a.text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

type page[T any] struct {
	Items []T
	Next  string
}

const goodScan = `{"target":{"namespace":"default","pod":"web-app","container":"web-container"},
	"scan":{"profile":"p","threshold":"moderate"},
	"options":{"timeout":300,"reportFormat":"json"},
	"callback":{"url":"https://ci-system.example.com/callbacks/scan-123","authentication":{"type":"bearer","token":"hush-hush"}}}`

func TestScans_lifeOfOne(t *testing.T) {
	w := newWorld(t, "east")
	made := w.do(t, "POST", "/api/v1/scans", goodScan)
	s := decode[api.Scan](t, made, http.StatusAccepted)
	if s.Status != scan.Queued || s.Target.Agent != "east" || s.Scan.Threshold != "moderate" || s.RequestedBy != "certificate:root" ||
		made.header.Get("Location") != s.Links.Self || !strings.Contains(s.Reason, "isn't connected") {
		t.Errorf("made %s", made.text)
	}
	if strings.Contains(made.text, "hush-hush") {
		t.Error("the answer repeats the callback's token")
	}
	if a := w.do(t, "GET", s.Links.Self+"/results", ""); a.status != http.StatusConflict || !strings.Contains(a.Detail, "queued") {
		t.Errorf("results of a queued scan: %d %s", a.status, a.text)
	}

	events := follow(t, w, s.Links.Events)
	if e := <-events; e.name != "progress" || e.scan.Status != scan.Queued {
		t.Errorf("first event %+v", e)
	}
	peer := fleet.Peer{Agent: "east", Instance: "i"}
	job, err := w.queue.Lease(t.Context(), peer, []string{"k8s-container"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.scan.Status != scan.Running || e.scan.Instance != "i" {
		t.Errorf("second event %+v", e)
	}
	if err := w.queue.Progress(t.Context(), peer, job.ID, job.Attempt, scan.Progress{Done: 1, Total: 1, Control: "one"}); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.scan.Progress.Done != 1 || e.scan.Progress.Control != "one" {
		t.Errorf("third event %+v", e)
	}
	doc := `{"platform":{"name":"x","release":"1"},"profiles":[{"name":"p","controls":[{"id":"one","impact":1,"results":[{"status":"failed","code_desc":"x"}]}]}],"version":"1","statistics":{}}`
	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(doc)); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.name != "done" || e.scan.Outcome != scan.Failed {
		t.Errorf("last event %+v", e)
	}
	if e, more := <-events; more {
		t.Errorf("another event after done: %+v", e)
	}

	s = decode[api.Scan](t, w.do(t, "GET", s.Links.Self, ""), http.StatusOK)
	if *s.Counts != (hdf.Counts{Failed: 1}) || len(s.Findings) == 0 || s.Links.Results == "" {
		t.Errorf("completed: %+v", s)
	}
	plain := w.do(t, "GET", s.Links.Results, "")
	if plain.text != doc || plain.header.Get("Content-Type") != "application/json" {
		t.Errorf("results %d %s", plain.status, plain.text)
	}
	for format, want := range map[string][2]string{
		"summary": {"application/json", `"failure_count": 1`},
		"sarif":   {"application/sarif+json", `"ruleId": "one"`},
		"junit":   {"application/xml", `classname="p.one"`},
		"csv":     {"text/csv; charset=utf-8", ",Failed,one,"},
		"html":    {"text/html; charset=utf-8", `<article class="failed">`},
		"oscal":   {"application/oscal+json", `"state": "not-satisfied"`},
		"ckl":     {"application/xml", "<STATUS>Open</STATUS>"},
	} {
		a := w.do(t, "GET", s.Links.Results+"?format="+format, "")
		if a.status != http.StatusOK || a.header.Get("Content-Type") != want[0] || !strings.Contains(a.text, want[1]) ||
			!strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("results as %s: %d %v %s", format, a.status, a.header, a.text)
		}
	}
	if a := w.do(t, "GET", s.Links.Results+"?format=docx", ""); a.status != http.StatusUnprocessableEntity {
		t.Errorf("results as docx: %d %s", a.status, a.text)
	}
	if a := w.do(t, "POST", s.Links.Self+"/cancel", ""); a.status != http.StatusConflict {
		t.Errorf("cancel of a completed scan: %d %s", a.status, a.text)
	}

	alerts := decode[page[api.Alert]](t, w.do(t, "GET", "/api/v1/alerts?run="+string(s.ID)+"&sink=sink", ""), http.StatusOK)
	if len(alerts.Items) != 1 || alerts.Items[0].State != alert.Pending || alerts.Items[0].Pass {
		t.Fatalf("alerts %+v", alerts)
	}
	path := "/api/v1/alerts/" + string(alerts.Items[0].ID)
	if al := decode[api.Alert](t, w.do(t, "POST", path+"/skip", ""), http.StatusOK); al.State != alert.Skipped {
		t.Errorf("skipped: %+v", al)
	}
	if al := decode[api.Alert](t, w.do(t, "POST", path+"/replay", ""), http.StatusOK); al.State != alert.Pending {
		t.Errorf("replayed: %+v", al)
	}
	if a := w.do(t, "POST", "/api/v1/alerts/none/skip", ""); a.status != http.StatusNotFound {
		t.Errorf("skip of no alert: %d", a.status)
	}
	sinks := decode[page[api.Sink]](t, w.do(t, "GET", "/api/v1/sinks", ""), http.StatusOK)
	if len(sinks.Items) != 2 || sinks.Items[1].Name != "sink" || sinks.Items[1].Pending != 1 {
		t.Errorf("sinks %+v", sinks)
	}
}

type sentEvent struct {
	name string
	scan api.Scan
}

// follow reads a stream of events until it ends.
func follow(t *testing.T, w *world, path string) <-chan sentEvent {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.admin.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	events := make(chan sentEvent)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		var e sentEvent
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e = sentEvent{name: value}
			case "data":
				if err := json.Unmarshal([]byte(value), &e.scan); err != nil {
					t.Error(err)
				}
				events <- e
			}
		}
	}()
	return events
}

// Large answers are compressed for who takes that; the page reads the API in
// process, and plain.
func TestAPI_compresses(t *testing.T) {
	w := newWorld(t, "east")
	get := func(coding string) answer {
		return do(t, w.admin, "GET", w.url+"/openapi.json", "", "Accept-Encoding", coding)
	}
	plain, zipped := get("gzip;q=0"), get("br, gzip;q=0.5")
	z, err := gzip.NewReader(strings.NewReader(zipped.text))
	if err != nil {
		t.Fatal(err)
	}
	if inflated, err := io.ReadAll(z); err != nil || string(inflated) != plain.text || len(zipped.text) > len(plain.text)/5 {
		t.Errorf("%d bytes in %d, of %d, %v", len(inflated), len(zipped.text), len(plain.text), err)
	}
	if a := do(t, w.admin, "POST", w.url+"/api/v1/tokens", `{"kind":"join","agent":"a"}`, "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "" {
		t.Error("a secret is compressed together with what the caller sent")
	}
}

func TestScans_idempotencyKey(t *testing.T) {
	w := newWorld(t, "east")
	ask := func(c *http.Client, key, body string, header ...string) answer {
		return do(t, c, "POST", w.url+"/api/v1/scans", body, append(header, "Idempotency-Key", key)...)
	}
	first := decode[api.Scan](t, ask(w.admin, "k", goodScan), http.StatusAccepted)
	spaced := strings.ReplaceAll(goodScan, ",", " ,\n ")
	again := ask(w.admin, "k", spaced)
	if s := decode[api.Scan](t, again, http.StatusAccepted); s.ID != first.ID || again.header.Get("Location") != first.Links.Self {
		t.Errorf("the same request made %s, and not %s again", s.ID, first.ID)
	}
	if a := ask(w.admin, "k", strings.Replace(goodScan, "300", "299", 1)); a.status != 422 || a.Errors[0].Location != "header.Idempotency-Key" {
		t.Errorf("another request by the same key: %d %s", a.status, a.text)
	}
	if a := ask(w.admin, strings.Repeat("k", 300), goodScan); a.status != 422 || a.Errors[0].Location != "header.Idempotency-Key" {
		t.Errorf("an endless key: %d %s", a.status, a.text)
	}
	_, token := w.token(t, pki.Scanner, time.Time{})
	for name, other := range map[string]answer{
		"another key":    ask(w.admin, "l", goodScan),
		"no key":         w.do(t, "POST", "/api/v1/scans", goodScan),
		"another caller": ask(w.client(t, nil), "k", goodScan, "Authorization", "Bearer "+token),
	} {
		if s := decode[api.Scan](t, other, http.StatusAccepted); s.ID == first.ID {
			t.Errorf("%s: the same scan", name)
		}
	}
	// A refused request keeps nothing: it can be put right under its key.
	if a := ask(w.admin, "m", strings.Replace(goodScan, `"profile":"p"`, `"profile":"q"`, 1)); a.status != 422 {
		t.Errorf("an unknown profile: %d %s", a.status, a.text)
	}
	decode[api.Scan](t, ask(w.admin, "m", goodScan), http.StatusAccepted)
	if list := decode[page[api.Scan]](t, w.do(t, "GET", "/api/v1/scans", ""), http.StatusOK); len(list.Items) != 5 {
		t.Errorf("%d scans, want 5", len(list.Items))
	}
}

func TestScans_badRequests(t *testing.T) {
	two := newWorld(t, "east", "west")
	one := newWorld(t, "east")
	none := newWorld(t)
	edit := func(old, new string) string {
		if !strings.Contains(goodScan, old) {
			t.Fatalf("%q isn't in the request", old)
		}
		return strings.Replace(goodScan, old, new, 1)
	}
	for name, tc := range map[string]struct {
		w        *world
		body     string
		status   int
		location string
		says     string
	}{
		"no JSON":            {one, `{"target":`, 400, "body", "unexpected end"},
		"empty":              {one, ``, 400, "", "body is required"},
		"unknown member":     {one, edit(`"pod":"web-app"`, `"pod":"web-app","podd":"x"`), 422, "body.target.podd", "unexpected property"},
		"wrong type":         {one, edit(`"web-app"`, `7`), 422, "body.target.pod", "expected string"},
		"missing pod":        {one, edit(`"pod":"web-app",`, ``), 422, "body.target.pod", "is missing"},
		"bad pod":            {one, edit(`web-app`, `Web/App`), 422, "body.target.pod", "lower-case"},
		"pod and URI":        {one, edit(`"pod":"web-app"`, `"pod":"web-app","uri":"dir:/"`), 422, "body.target.uri", "one or the other"},
		"another kind":       {one, `{"target":{"uri":"dir:/"},"scan":{"profile":"p"}}`, 422, "body.target.uri", "doesn't allow"},
		"missing profile":    {one, edit(`"profile":"p",`, ``), 422, "body.scan.profile", "profile"},
		"unknown profile":    {one, edit(`"profile":"p"`, `"profile":"q"`), 422, "body.scan.profile", "there are: p"},
		"unknown threshold":  {one, edit(`moderate`, `lax`), 422, "body.scan.threshold", "moderate, strict"},
		"unknown agent":      {two, edit(`"pod":`, `"agent":"north","pod":`), 422, "body.target.agent", "east, west"},
		"which agent":        {two, goodScan, 422, "body.target.agent", "east, west"},
		"no agent at all":    {none, goodScan, 422, "body.target.agent", "no agent has joined"},
		"endless timeout":    {one, edit(`300`, `86400`), 422, "body.options.timeout", "3600"},
		"unknown format":     {one, edit(`"json"`, `"yaml"`), 422, "body.options.reportFormat", "json"},
		"unknown auth":       {one, edit(`bearer`, `magic`), 422, "body.callback.authentication.type", "bearer"},
		"callback no URL":    {one, edit(`https://ci-system.example.com/callbacks/scan-123`, `ftp://x/`), 422, "body.callback.url", "https"},
		"callback inside":    {one, edit(`ci-system.example.com`, `169.254.169.254`), 422, "body.callback.url", "private"},
		"secret of bad type": {one, edit(`"hush-hush"`, `["hush-hush"]`), 422, "body.callback.authentication.token", "expected string"},
		"secret cut off":     {one, goodScan[:strings.Index(goodScan, "hush-hush")+9], 400, "body", "unexpected end"},
		"too large":          {one, `{"x":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "", "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			a := tc.w.do(t, "POST", "/api/v1/scans", tc.body)
			if a.status != tc.status {
				t.Fatalf("%d %s; want %d", a.status, a.text, tc.status)
			}
			if !strings.Contains(a.text, tc.says) {
				t.Errorf("%s doesn't say %q", a.text, tc.says)
			}
			if tc.location != "" && (len(a.Errors) == 0 || a.Errors[0].Location != tc.location) {
				t.Errorf("%s; want the location %s", a.text, tc.location)
			}
			if strings.Contains(a.text, "hush-hush") {
				t.Errorf("the problem repeats a secret: %s", a.text)
			}
		})
	}
	for _, w := range []*world{one, two, none} {
		if list := decode[page[api.Scan]](t, w.do(t, "GET", "/api/v1/scans", ""), http.StatusOK); len(list.Items) != 0 {
			t.Errorf("a bad request made %+v", list.Items)
		}
		if strings.Contains(w.log.String(), "hush-hush") {
			t.Error("the log holds a secret")
		}
	}
}

func TestScans_pages(t *testing.T) {
	w := newWorld(t, "east")
	var want []scan.ID
	for range 5 {
		want = append([]scan.ID{decode[api.Scan](t, w.do(t, "POST", "/api/v1/scans", goodScan), http.StatusAccepted).ID}, want...)
	}
	var got []scan.ID
	next, pages := "", 0
	for ; pages == 0 || next != ""; pages++ {
		p := decode[page[api.Scan]](t, w.do(t, "GET", "/api/v1/scans?limit=2&before="+next, ""), http.StatusOK)
		for _, s := range p.Items {
			got = append(got, s.ID)
		}
		next = p.Next
	}
	if d := cmp.Diff(want, got); d != "" || pages != 3 {
		t.Errorf("%d pages; %s", pages, d)
	}
	if a := w.do(t, "POST", "/api/v1/scans/"+string(want[0])+"/cancel", ""); a.status != http.StatusOK {
		t.Errorf("cancel: %d %s", a.status, a.text)
	}
	p := decode[page[api.Scan]](t, w.do(t, "GET", "/api/v1/scans?status=cancelled&agent=east", ""), http.StatusOK)
	if len(p.Items) != 1 || p.Items[0].ID != want[0] || !strings.Contains(p.Items[0].Reason, "certificate:root") {
		t.Errorf("cancelled: %+v", p.Items)
	}
}

func TestAPI_unknownPaths(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/api/v1/nothing", 404},
		{"GET", "/nothing", 404},
		{"PUT", "/api/v1/scans", 405},
		{"GET", "/api/v1/scans/x", 404},
		{"GET", "/api/v1/scans/x/events", 404},
		{"GET", "/api/v1/scans/00000000-0000-7000-8000-000000000000", 404},
		{"GET", "/api/v1/profiles/q", 404},
		{"GET", "/api/v1/thresholds/q", 404},
		{"GET", "/api/v1/insights/sboms/sha256:x", 404},
		{"DELETE", "/api/v1/tokens/none", 404},
		{"GET", "/api/v1/scans?statuz=queued", 422},
		{"GET", "/api/v1/scans?status=lost", 422},
		{"GET", "/api/v1/scans?limit=0", 422},
		{"GET", "/api/v1/insights/facts?before=x", 422},
	} {
		if a := w.do(t, tc.method, tc.path, ""); a.status != tc.status {
			t.Errorf("%s %s: %d %s; want %d", tc.method, tc.path, a.status, a.text, tc.status)
		}
	}
	if a := w.do(t, "PUT", "/api/v1/scans", ""); !strings.Contains(a.header.Get("Allow"), "POST") {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	if a := do(t, w.client(t, nil), "GET", w.url+"/openapi.json", ""); a.status != 200 || !strings.Contains(a.text, `"openapi":"3.1`) {
		t.Errorf("openapi.json: %d", a.status)
	}
}

func TestAPI_whoMay(t *testing.T) {
	w := newWorld(t, "east")
	bare := w.client(t, nil)
	_, viewer := w.token(t, pki.Viewer, time.Time{})
	_, scanner := w.token(t, pki.Scanner, time.Time{})
	_, admin := w.token(t, pki.Admin, time.Time{})
	_, expired := w.token(t, pki.Admin, time.Now().Add(-time.Second))
	revokedID, revoked := w.token(t, pki.Admin, time.Time{})
	if a := w.do(t, "DELETE", "/api/v1/tokens/"+revokedID, ""); a.status != http.StatusNoContent {
		t.Fatalf("revoke: %d %s", a.status, a.text)
	}
	join, joinText, err := w.ca.NewJoinToken("east", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.CreateToken(t.Context(), join); err != nil {
		t.Fatal(err)
	}
	agent := w.client(t, &pki.Identity{Purpose: pki.Agent, Agent: "east"})
	other, err := pki.NewCA("other")
	if err != nil {
		t.Fatal(err)
	}
	stranger := w.clientOf(t, other, pki.Identity{Purpose: pki.Control, Name: "root"}, time.Hour)
	late := w.clientOf(t, w.ca, pki.Identity{Purpose: pki.Control, Name: "root"}, -time.Second)
	service := w.client(t, &pki.Identity{Purpose: pki.Service, Agent: "east", Type: "x-wiki", Name: "wiki"})

	for name, tc := range map[string]struct {
		client            *http.Client
		token             string
		read, scan, admin int
		says              string
	}{
		"nobody":             {bare, "", 401, 401, 401, "no credential"},
		"viewer":             {bare, viewer, 200, 403, 403, "needs the role"},
		"scanner":            {bare, scanner, 200, 202, 403, "needs the role admin"},
		"admin":              {bare, admin, 200, 202, 200, ""},
		"control":            {w.admin, "", 200, 202, 200, ""},
		"token over cert":    {w.admin, viewer, 200, 403, 403, "token:viewer"},
		"expired":            {bare, expired, 401, 401, 401, "expired"},
		"revoked":            {bare, revoked, 401, 401, 401, "revoked"},
		"garbage":            {bare, "reeve_x", 401, 401, 401, "copy it whole"},
		"a join token":       {bare, joinText, 401, 401, 401, "malformed"},
		"an agent's cert":    {agent, "", 403, 403, 403, "purpose control"},
		"a service's cert":   {service, "", 403, 403, 403, "purpose control"},
		"wrong secret":       {bare, admin[:len(admin)-4] + "aaaa", 401, 401, 401, "not known"},
		"another CA's cert":  {stranger, "", 401, 401, 401, "another CA"},
		"an expired cert":    {late, "", 401, 401, 401, "expired on"},
		"session as a token": {bare, strings.Replace(admin, "reeve_", "reeve-session_", 1), 401, 401, 401, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			if tc.token != "" {
				header = []string{"Authorization", "Bearer " + tc.token}
			}
			got := [3]int{}
			var last answer
			for i, r := range [][3]string{{"GET", "/api/v1/agents"}, {"POST", "/api/v1/scans", goodScan}, {"GET", "/api/v1/tokens"}} {
				last = do(t, tc.client, r[0], w.url+r[1], r[2], header...)
				got[i] = last.status
				if last.status == 401 && last.header.Get("WWW-Authenticate") == "" {
					t.Error("401 without WWW-Authenticate")
				}
			}
			if want := [3]int{tc.read, tc.scan, tc.admin}; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			if !strings.Contains(last.text, tc.says) {
				t.Errorf("%s doesn't say %q", last.text, tc.says)
			}
			if parts := strings.Split(tc.token, "_"); len(parts) > 2 && strings.Contains(last.text+w.log.String(), parts[2]) {
				t.Error("answer or log hold the token's secret")
			}
		})
	}
}

func TestAPI_login(t *testing.T) {
	w := newWorld(t, "east")
	link := decode[api.LoginLink](t, w.do(t, "POST", "/api/v1/login-links", `{"name":"ann","role":"scanner"}`), http.StatusCreated)
	browser := w.client(t, nil)
	var err error
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	code := link.URL[strings.Index(link.URL, "code=")+5:]
	login := func(c *http.Client, code, site string) answer {
		return do(t, c, "POST", w.url+"/login", url.Values{"code": {code}}.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", site)
	}
	// A chat's preview, twice, and a site that would have a browser act as
	// somebody else.
	for _, method := range []string{"HEAD", "GET"} {
		if a := do(t, browser, method, link.URL, ""); a.status != http.StatusOK || a.header.Get("Set-Cookie") != "" || method == "GET" && !strings.Contains(a.text, "<b>ann</b>") {
			t.Errorf("%s of the link: %d %s", method, a.status, a.text)
		}
	}
	if a := login(browser, code, "cross-site"); a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a login that another site starts: %d %s", a.status, a.text)
	}
	in := login(browser, code, "same-origin")
	cookie := in.header.Get("Set-Cookie")
	if in.status != http.StatusSeeOther || in.header.Get("Location") != "/" {
		t.Fatalf("login: %d %s", in.status, in.text)
	}
	for _, want := range []string{"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie lacks %s: %s", want, cookie)
		}
	}
	who := decode[api.Caller](t, do(t, browser, "GET", w.url+"/api/v1/whoami", ""), http.StatusOK)
	if who.Name != "ann" || who.Role != pki.Scanner || who.By != "session" {
		t.Errorf("whoami: %+v", who)
	}
	if a := do(t, browser, "POST", w.url+"/api/v1/scans", goodScan, "Sec-Fetch-Site", "same-origin"); a.status != http.StatusAccepted {
		t.Errorf("a scan from the page: %d %s", a.status, a.text)
	}
	if a := do(t, browser, "POST", w.url+"/api/v1/scans", goodScan, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
		t.Errorf("a scan from another site: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "POST", w.url+"/api/v1/scans", goodScan, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
		t.Errorf("a scan from another site, with a certificate: %d %s", a.status, a.text)
	}

	other := w.client(t, nil)
	for name, code := range map[string]string{"second use": code, "none": "", "endless": strings.Repeat("x", 1<<20)} {
		if a := login(other, code, "none"); a.status != http.StatusUnauthorized || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	for name, url := range map[string]string{
		"second use": link.URL,
		"no code":    w.url + "/login",
		"forged":     w.url + "/login?code=" + code[:len(code)-3] + "aaa",
	} {
		if a := do(t, other, "GET", url, ""); a.status != http.StatusUnauthorized || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d", name, a.status)
		}
	}

	if a := do(t, browser, "POST", w.url+"/api/v1/logout", ""); a.status != http.StatusNoContent {
		t.Errorf("logout: %d %s", a.status, a.text)
	}
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	if left := browser.Jar.Cookies(u); len(left) != 0 {
		t.Errorf("cookies after the logout: %v", left)
	}
	value := strings.TrimPrefix(strings.Split(cookie, ";")[0], "__Host-reeve-session=")
	if a := do(t, other, "GET", w.url+"/api/v1/whoami", "", "Cookie", "__Host-reeve-session="+value); a.status != http.StatusUnauthorized {
		t.Errorf("the session after the logout: %d", a.status)
	}
	if strings.Contains(w.log.String(), code) || strings.Contains(w.log.String(), value) {
		t.Error("the log holds a secret")
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct{ body, location string }{
		"no kind":         {`{}`, "body.kind"},
		"unknown kind":    {`{"kind":"x"}`, "body.kind"},
		"join, no agent":  {`{"kind":"join"}`, "body.agent"},
		"join, bad agent": {`{"kind":"join","agent":"A_B"}`, "body.agent"},
		"join with role":  {`{"kind":"join","agent":"a","role":"admin"}`, "body.role"},
		"API, no name":    {`{"kind":"api","role":"admin"}`, "body.name"},
		"API, no role":    {`{"kind":"api","name":"ci"}`, "body.role"},
		"API, bad role":   {`{"kind":"api","name":"ci","role":"king"}`, "body.role"},
		"API with agent":  {`{"kind":"api","name":"ci","role":"admin","agent":"a"}`, "body.agent"},
		"bad life":        {`{"kind":"join","agent":"a","expiresIn":"soon"}`, "body.expiresIn"},
		"no life":         {`{"kind":"join","agent":"a","expiresIn":"0s"}`, "body"},
	} {
		if a := w.do(t, "POST", "/api/v1/tokens", tc.body); a.status != 422 || a.Errors[0].Location != tc.location {
			t.Errorf("%s: %d %s; want the location %s", name, a.status, a.text, tc.location)
		}
	}
	made := decode[struct{ ID, Token, Role string }](t, w.do(t, "POST", "/api/v1/tokens", `{"kind":"api","name":"ci","role":"viewer","expiresIn":"1h30m"}`), http.StatusCreated)
	if a := do(t, w.client(t, nil), "GET", w.url+"/api/v1/whoami", "", "Authorization", "Bearer "+made.Token); a.status != 200 || !strings.Contains(a.text, `"ci"`) {
		t.Errorf("whoami by the token: %d %s", a.status, a.text)
	}
	list := w.do(t, "GET", "/api/v1/tokens", "")
	tokens := decode[page[api.Token]](t, list, http.StatusOK)
	if len(tokens.Items) != 1 || tokens.Items[0].ID != made.ID || tokens.Items[0].Expires.Sub(tokens.Items[0].Created) != 90*time.Minute {
		t.Errorf("tokens: %s", list.text)
	}
	if strings.Contains(list.text, strings.Split(made.Token, "_")[2]) {
		t.Error("the list holds a secret")
	}
}

func TestCredentials(t *testing.T) {
	w := newWorld(t, "east")
	for name, tc := range map[string]struct{ body, location string }{
		"bad agent":       {`{"agent":"A","type":"kubernetes","name":"n","kind":"token"}`, "body.agent"},
		"bad type":        {`{"agent":"a","type":"K","name":"n","kind":"token"}`, "body.type"},
		"bad name":        {`{"agent":"a","type":"kubernetes","name":"-","kind":"token"}`, "body.name"},
		"bad CSR":         {`{"agent":"east","type":"x-wiki","name":"wiki","kind":"certificate","csr":"x"}`, "body.csr"},
		"odd CSR":         {`{"agent":"east","type":"x-wiki","name":"wiki","kind":"token","csr":"x"}`, "body.csr"},
		"no such agent":   {`{"agent":"west","type":"x-wiki","name":"wiki","kind":"token"}`, "body.agent"},
		"no such service": {`{"agent":"east","type":"x-wiki","name":"n","kind":"token"}`, "body.name"},
	} {
		if a := w.do(t, "POST", "/api/v1/credentials/service", tc.body); a.status != 422 || a.Errors[0].Location != tc.location {
			t.Errorf("%s: %d %s; want the location %s", name, a.status, a.text, tc.location)
		}
	}
	if a := w.do(t, "POST", "/api/v1/credentials/service", `{"agent":"east","type":"x-wiki","name":"n","kind":"token"}`); !strings.Contains(a.text, "it offers: x-wiki/wiki") {
		t.Errorf("an unknown service: %s", a.text)
	}
	if a := w.do(t, "POST", "/api/v1/credentials/service", `{"agent":"west","type":"x-wiki","name":"n","kind":"token"}`); !strings.Contains(a.text, "there are: east") {
		t.Errorf("an unknown agent: %s", a.text)
	}
	decode[api.Credential](t, w.do(t, "POST", "/api/v1/credentials/service", `{"agent":"east","type":"x-wiki","name":"wiki","kind":"token"}`), http.StatusCreated)
	long := decode[api.Credential](t, w.do(t, "POST", "/api/v1/credentials/service", `{"agent":"east","type":"x-wiki","name":"wiki","kind":"certificate","expiresIn":"1000000h"}`), http.StatusCreated)
	if time.Until(long.Expires) > pki.CALife {
		t.Errorf("a certificate said to be good until %v", long.Expires)
	}
	made := decode[api.Credential](t, w.do(t, "POST", "/api/v1/credentials/service", `{"agent":"a","type":"kubernetes","name":"n","holder":"alice","kind":"token","expiresIn":"1h","force":true}`), http.StatusCreated)
	cred, err := w.ca.VerifyServiceToken(made.Token)
	if want := (pki.Identity{Purpose: pki.Service, Agent: "a", Type: "kubernetes", Name: "n", Holder: "alice"}); err != nil || cred.Identity != want || cred.ID != made.ID {
		t.Errorf("the token is for %+v, %v", cred, err)
	}
	if made.URL != "https://services" || made.Username != "n.a" || time.Until(made.Expires) > time.Hour {
		t.Errorf("made %+v", made)
	}
}

func TestInsights(t *testing.T) {
	w := newWorld(t, "east")
	env := insight.Environment{ID: 3, Project: "shop", Name: "main"}
	for i, c := range []insight.Content{
		insight.Facts{{Name: "php", Value: "8.4", Source: "s"}, {Name: "drupal", Value: "11", Source: "s"}, {Name: "go", Value: "1.26", Source: "s"}},
		insight.Problems{{Identifier: "CVE-1", Source: "s", Severity: "HIGH", SeverityScore: 0.8}},
	} {
		it := insight.Item{ID: insight.ItemID(fmt.Sprint(i)), Cluster: "east", Environment: env, Content: c}
		if _, err := w.store.ApplyInsight(t.Context(), it, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	first := decode[page[api.Fact]](t, w.do(t, "GET", "/api/v1/insights/facts?project=shop&limit=2", ""), http.StatusOK)
	rest := decode[page[api.Fact]](t, w.do(t, "GET", "/api/v1/insights/facts?project=shop&limit=2&before="+first.Next, ""), http.StatusOK)
	var names []string
	for _, f := range append(first.Items, rest.Items...) {
		names = append(names, f.Name)
	}
	if d := cmp.Diff([]string{"drupal", "go", "php"}, names); d != "" || rest.Next != "" || rest.Items[0].Agent != "east" || rest.Items[0].EnvironmentID != 3 {
		t.Errorf("facts %+v %+v: %s", first, rest, d)
	}
	problems := decode[page[api.Problem]](t, w.do(t, "GET", "/api/v1/insights/problems?identifier=CVE-1", ""), http.StatusOK)
	if len(problems.Items) != 1 || problems.Items[0].Severity != "HIGH" || problems.Items[0].Environment != "main" {
		t.Errorf("problems %+v", problems)
	}
	for _, path := range []string{"/insights/facts?project=other", "/insights/sboms", "/insights/images", "/insights/quarantine", "/components?q=php"} {
		if p := decode[page[any]](t, w.do(t, "GET", "/api/v1"+path, ""), http.StatusOK); p.Items == nil || len(p.Items) != 0 {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

func TestCatalogueAndFleet(t *testing.T) {
	w := newWorld(t, "east", "west")
	if p := decode[page[api.Profile]](t, w.do(t, "GET", "/api/v1/profiles", ""), http.StatusOK); len(p.Items) != 1 || p.Items[0].Controls[0].ID != "one" {
		t.Errorf("profiles %+v", p)
	}
	if p := decode[api.Profile](t, w.do(t, "GET", "/api/v1/profiles/p", ""), http.StatusOK); p.Name != "p" || p.Version != "1.0.0" {
		t.Errorf("profile %+v", p)
	}
	if p := decode[page[api.Threshold]](t, w.do(t, "GET", "/api/v1/thresholds", ""), http.StatusOK); len(p.Items) != 2 || p.Items[1].Name != "strict" {
		t.Errorf("thresholds %+v", p)
	}
	if th := decode[api.Threshold](t, w.do(t, "GET", "/api/v1/thresholds/moderate", ""), http.StatusOK); !strings.Contains(th.Text, "compliance") {
		t.Errorf("threshold %+v", th)
	}
	if p := decode[page[api.Agent]](t, w.do(t, "GET", "/api/v1/agents", ""), http.StatusOK); len(p.Items) != 2 || p.Items[0].Name != "east" || p.Items[0].Connected {
		t.Errorf("agents %+v", p)
	}
	if p := decode[page[api.AgentService]](t, w.do(t, "GET", "/api/v1/services", ""), http.StatusOK); len(p.Items) != 2 || p.Items[1].Agent != "west" || p.Items[1].Type != "x-wiki" {
		t.Errorf("services %+v", p)
	}
}
