package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"golang.org/x/net/html"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/webhook"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/event"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/scantest"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
	"reeve.dev/reeve/web"
)

// hostile is what an agent or a target may say of itself.
const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}`

// members makes the store an api.Fleet in which east is connected.
type members struct{ *store.Store }

func (m members) Members(ctx context.Context) ([]api.Member, error) {
	agents, err := m.Agents(ctx)
	var out []api.Member
	for _, a := range agents {
		one := api.Member{Registration: a.Registration, FirstSeen: a.FirstSeen, LastSeen: a.LastSeen}
		if a.Agent == "east" {
			one.Session, one.Connected = "s", a.LastSeen
		}
		out = append(out, one)
	}
	return out, err
}

// world is the page on an API with a real store.
type world struct {
	http.Handler
	api   http.Handler
	dir   string
	store *store.Store
	queue *scan.Queue
	by    string              // who asks for scans
	role  map[pki.Role]string // tokens
}

var peer = fleet.Peer{Agent: "east", Instance: "i"}

func newWorld(t *testing.T, agents ...fleet.Registration) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), by: "token:" + hostile, role: map[pki.Role]string{}}
	logger := slog.New(slog.DiscardHandler)
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	if w.store, err = sqlite.Open(t.Context(), filepath.Join(w.dir, "db"), logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	for _, a := range agents {
		if err := w.store.SaveAgent(t.Context(), a, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	catalogue := scantest.Catalogue(t, w.store, scantest.Profile("p", "archive"))
	w.queue = scan.NewQueue(scan.Config{
		Store: w.store, Catalogue: catalogue, Agents: w.store,
		Connected: func(fleet.AgentName) bool { return true }, Logger: logger, Sinks: []string{"sink"},
		Outcome: func(s scan.Scan, v scan.Verdict) fleet.Outcome {
			return fleet.Outcome{Subject: s.Request.Target.Subject(), Policy: s.Request.Policy(), Pass: v.Outcome == scan.Passed, Run: string(s.ID), At: s.Finished}
		},
	})
	a := api.New(api.Config{
		Scans: w.queue, Catalogue: catalogue, Fleet: members{w.store}, Tokens: w.store, CA: ca,
		Insights: w.store, Outbox: w.store, Alerts: api.Alerting{Runs: w.store, Silences: w.store, Silenced: func() {}},
		Schedules: scan.NewSchedules(w.queue, w.store, logger),
		Events: event.New(event.Config{
			Store: w.store, Routes: []event.Route{{Name: hostile, Match: event.Match{Types: []string{hostile}}, Scan: event.Scan{Profile: hostile}}}, MaxPending: 100, Logger: logger,
		}),
		GitHub: func(context.Context) ([]github.Status, error) {
			return []github.Status{{Connection: "github", Organisation: hostile, LimitStatus: github.LimitStatus{
				Why: hostile, Until: time.Now().Add(time.Hour), Waits: 3, Requests: 40, Unchanged: 12,
				Limits: []github.Limit{{Resource: hostile, Limit: 5000, Remaining: 17, Reset: time.Now().Add(time.Hour)}},
			}}}, nil
		},
		Policies: policy.New(policy.Config{Policies: policies(t)}), PolicyStore: w.store, Records: w.store, Recordings: w.store, Revocations: w.store,
		Services:  []fleet.Service{{Type: "x-wiki", Name: "help", Annotations: map[string]string{"uiUrl": "https://wiki.example/", "description": hostile}}},
		Callbacks: webhook.Config{}, PublicURL: "https://hub", ServicesURL: "https://services", Version: "test", Logger: logger,
	})
	w.api = a
	mux := http.NewServeMux()
	mux.Handle("/", web.Handler(web.Config{API: a, Version: "v1.2.3", Logger: logger}))
	for _, p := range api.Paths {
		mux.Handle(p, a)
	}
	w.Handler = mux
	for _, role := range []pki.Role{pki.Viewer, pki.Scanner, pki.Admin} {
		tok, text, err := pki.NewToken(pki.Session, string(role), role.Everywhere(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.CreateToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
		w.role[role] = text
	}
	return w
}

// policies are those of the hub's configuration.
func policies(t *testing.T) (out []policy.Policy) {
	t.Helper()
	text := "- name: scans-pass\n  description: What runs meets its threshold\n  check: {scan: {profile: p}}\n  actions: [log]\n"
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func east() fleet.Registration {
	return fleet.Registration{Agent: "east", Instance: "i", Version: "v9", Hostname: "host-1", ScanTargets: []string{"k8s-container"}}
}

func (w *world) answer(t *testing.T, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

// view is a page as role sees it.
func (w *world) view(t *testing.T, role pki.Role, path string) view {
	t.Helper()
	return read(t, w.answer(t, "GET", path, "Cookie", "__Host-reeve-session="+w.role[role]))
}

// view is a page that was read as a browser reads it.
type view struct {
	status int
	doc    *html.Node
	text   string // of all elements, spaces folded
}

// read parses a page and checks what holds for every page: its headers, and
// that it has nothing that the policy forbids or that data could have made.
func read(t *testing.T, rec *httptest.ResponseRecorder) view {
	t.Helper()
	head := rec.Header()
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"} {
		if !strings.Contains(head.Get("Content-Security-Policy"), want) {
			t.Errorf("the policy lacks %s: %s", want, head.Get("Content-Security-Policy"))
		}
	}
	if head.Get("Content-Type") != "text/html; charset=utf-8" || head.Get("Cache-Control") != "no-store" || head.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header %v", head)
	}
	doc, err := html.Parse(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	v := view{status: rec.Code, doc: doc}
	var text strings.Builder
	ids := map[string]bool{}
	for n := range doc.Descendants() {
		if n.Type == html.TextNode {
			text.WriteString(n.Data + " ")
		}
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "style" || n.Data == "script" && (n.FirstChild != nil || !strings.HasPrefix(attr(n, "src"), "/assets/")) ||
			n.Data == "img" && !strings.HasPrefix(attr(n, "src"), "/assets/") {
			t.Errorf("the page has <%s %v>", n.Data, n.Attr)
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style", strings.Contains(a.Val, "ZgotmplZ"): // what a template refused
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			case a.Key == "href" && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "?") && !strings.HasPrefix(a.Val, "#") && !strings.HasPrefix(a.Val, "https://"):
				t.Errorf("a link leads to %s", a.Val)
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("the id %s is there twice", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			}
		}
	}
	v.text = strings.Join(strings.Fields(text.String()), " ")
	return v
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, key string) bool {
	for _, a := range n.Attr {
		if a.Key == key {
			return true
		}
	}
	return false
}

// all are the values of an attribute, in the page's order.
func (v view) all(key string) []string {
	var out []string
	for n := range v.doc.Descendants() {
		if has(n, key) {
			out = append(out, attr(n, key))
		}
	}
	return out
}

func (v view) has(key, value string) bool {
	for _, got := range v.all(key) {
		if got == value {
			return true
		}
	}
	return false
}

func (v view) wants(t *testing.T, status int, texts ...string) {
	t.Helper()
	if v.status != status {
		t.Fatalf("status %d, want %d: %s", v.status, status, v.text)
	}
	for _, want := range texts {
		if !strings.Contains(v.text, want) {
			t.Errorf("the page doesn't say %q: %s", want, v.text)
		}
	}
}

func (w *world) create(t *testing.T, thresholdName string) scan.Scan {
	t.Helper()
	s, err := w.queue.Create(t.Context(), scan.Request{
		Target: scan.Target{Agent: "east", Namespace: "default", Pod: "web-app", Container: "web"}, Profile: "p", Threshold: thresholdName, RequestedBy: w.by,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) lease(t *testing.T) *scan.Job {
	t.Helper()
	job, err := w.queue.Lease(t.Context(), peer, []string{"k8s-container"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// results are two controls, one failed and one passed, with hostile texts.
func results(t *testing.T) string {
	t.Helper()
	said, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"platform":{"name":%[1]s,"release":"1"},"version":"1","statistics":{},"profiles":[{"name":"p","title":%[1]s,"controls":[
		{"id":"one","title":"All is well","impact":0.7,"results":[{"status":"passed","code_desc":"Port 22 is expected not to be listening"}]},
		{"id":%[1]s,"title":%[1]s,"desc":%[1]s,"impact":1,"descriptions":[{"label":"fix","data":"mend it"}],
		 "results":[{"status":"failed","code_desc":%[1]s,"message":"Expected GREEN, got %[2]s","skip_message":%[1]s,"exception":%[1]s}]}]}]}`, said, "\\u003cscript\\u003e")
}

func (w *world) complete(t *testing.T) {
	t.Helper()
	job := w.lease(t)
	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(results(t))); err != nil {
		t.Fatal(err)
	}
}

func TestFleet(t *testing.T) {
	a := east()
	a.Annotations = map[string]string{"description": hostile, "docs": "https://docs.example/", "team": "javascript:alert(1)"}
	a.Services = []fleet.Service{
		{Type: "x-argo", Name: "cd", Annotations: map[string]string{"uiUrl": "https://argo.example/", "description": "delivers"}},
		{Type: "x-evil", Name: "ui", Annotations: map[string]string{"uiUrl": "javascript:alert(1)"}},
		{Type: "x-bare", Name: "one"},
	}
	w := newWorld(t, a, fleet.Registration{Agent: "west", Instance: "j", Version: "v8"})
	w.create(t, "")
	w.complete(t)
	v := w.view(t, pki.Viewer, "/")
	v.wants(t, 200, "east connected", hostile, "x-argo/cd delivers Open", "x-evil/ui x-bare/one", "host-1 v9", "west away", "default/web-app/web", "1 failed 1 passed", "sink 1 the oldest", "viewer", "v1.2.3")
	if !v.has("href", "https://argo.example/") || !v.has("href", "https://docs.example/") {
		t.Errorf("links %v", v.all("href"))
	}

	empty := newWorld(t)
	empty.view(t, pki.Viewer, "/").wants(t, 200, "No agent has joined yet", "Nothing has been scanned yet", "No alert has been made yet")
}

func TestScan_fromItsBeginningToItsEnd(t *testing.T) {
	w := newWorld(t, east())
	s := w.create(t, "strict")
	path := "/scans/" + string(s.ID)
	w.view(t, pki.Viewer, path).wants(t, 200, "default/web-app/web queued", hostile)

	job := w.lease(t)
	if err := w.queue.Progress(t.Context(), peer, job.ID, job.Attempt, scan.Progress{Done: 1, Total: 2, Control: hostile}); err != nil {
		t.Fatal(err)
	}
	v := w.view(t, pki.Scanner, path)
	v.wants(t, 200, "running", "1 of 2 controls; last "+hostile)
	if d := cmp.Diff([]string{"/api/v1/scans/" + string(s.ID) + "/events"}, v.all("data-events")); d != "" {
		t.Error(d)
	}
	if !v.has("data-post", "/api"+"/v1/scans/"+string(s.ID)+"/cancel") {
		t.Error("a scanner can't cancel")
	}
	if v := w.view(t, pki.Viewer, path); len(v.all("data-post")) != 1 { // to log out
		t.Errorf("a viewer may %v", v.all("data-post"))
	}

	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(results(t))); err != nil {
		t.Fatal(err)
	}
	v = w.view(t, pki.Viewer, path)
	v.wants(t, 200, "completed failed", "Why the threshold isn't met", "All 2", "failed 1", "passed 1", "error 0", "2 shown",
		"one All is well high 0.7", "critical 1", "What was found")
	w.view(t, pki.Viewer, path+"/controls/0").wants(t, 200, hostile, "Expected GREEN, got <script>", "fix mend it")
	w.view(t, pki.Viewer, path+"/controls/1").wants(t, 200, "one", "Port 22 is expected not to be listening")
	w.view(t, pki.Viewer, path+"?full=1").wants(t, 200, "Port 22 is expected not to be listening", "Expected GREEN, got <script>", "fix mend it")
	part := w.answer(t, "GET", path+"/controls/1", "Cookie", "__Host-reeve-session="+w.role[pki.Viewer], "Reeve-Part", "1")
	if got := part.Body.String(); !strings.Contains(got, "not to be listening") || strings.Contains(got, "<html") {
		t.Errorf("the part is %s", got)
	}
	if len(v.all("data-events")) != 0 {
		t.Error("a page of a scan that is over waits for events")
	}
	results := "/api/v1/scans/" + string(s.ID) + "/results"
	for _, href := range []string{results, results + "?format=html", results + "?format=sarif"} {
		if !v.has("href", href) {
			t.Errorf("no link to %s", href)
		}
	}
	if !v.has("download", "scan-"+string(s.ID)+".sarif") {
		t.Error("a download has no name")
	}
	if d := cmp.Diff([]string{"failed", "passed"}, v.all("data-status")); d != "" {
		t.Errorf("order of the controls: %s", d)
	}

	for query, shown := range map[string][]string{
		"":                            {"failed", "passed"},
		"?status=failed":              {"failed"},
		"?status=error":               nil,
		"?q=+LISTENING":               {"passed"},
		"?q=all+is+well&status=error": nil,
		"?q=expected":                 {"failed", "passed"},
		"?q=green":                    {"failed"},
		"?q=" + url.QueryEscape("<script>alert(1)"): {"failed"},
	} {
		var got []string
		v := w.view(t, pki.Viewer, path+query)
		for n := range v.doc.Descendants() {
			if has(n, "data-status") && !has(n, "hidden") {
				got = append(got, attr(n, "data-status"))
			}
		}
		if d := cmp.Diff(shown, got); d != "" {
			t.Errorf("%s: %s", query, d)
		}
		v.wants(t, 200, fmt.Sprintf("%d shown", len(shown)))
	}
}

func TestScan_damagedResults(t *testing.T) {
	w := newWorld(t, east())
	s := w.create(t, "")
	w.complete(t)
	err := filepath.WalkDir(filepath.Join(w.dir, "blobs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Truncate(path, 10)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.view(t, pki.Viewer, "/scans/"+string(s.ID)).wants(t, 500, "its log says why")
}

func TestScans(t *testing.T) {
	w := newWorld(t, east())
	first := w.create(t, "")
	w.complete(t)
	for range 50 {
		w.create(t, "")
	}
	v := w.view(t, pki.Scanner, "/scans")
	v.wants(t, 200, "Next page", "p 1.0.0", "none: all must pass or be skipped", "moderate", "strict", "east: k8s-container")
	if strings.Contains(v.text, "First page") || v.has("href", "/scans/"+string(first.ID)) {
		t.Error("the first page has what is for the second")
	}
	for _, field := range []string{"target.agent", "target.namespace", "target.pod", "target.container", "target.uri", "scan.profile", "scan.threshold"} {
		if !v.has("name", field) {
			t.Errorf("the form lacks %s", field)
		}
	}
	var next string
	for _, href := range v.all("href") {
		if strings.HasPrefix(href, "?before=") {
			next = href
		}
	}
	v = w.view(t, pki.Viewer, "/scans"+next)
	v.wants(t, 200, "First page")
	if !v.has("href", "/scans/"+string(first.ID)) || strings.Contains(v.text, "Next page") {
		t.Errorf("second page %q: %s", next, v.text)
	}
	if v.has("name", "target.pod") {
		t.Error("a viewer is offered a scan")
	}
	v = w.view(t, pki.Viewer, "/scans?status=completed&agent=east")
	if rows := strings.Count(v.text, "web-app"); rows != 1 {
		t.Errorf("%d completed scans: %s", rows, v.text)
	}
	w.view(t, pki.Viewer, "/scans?agent=nowhere").wants(t, 200, "There are no such scans")
}

func TestInsights(t *testing.T) {
	w := newWorld(t, east())
	env := insight.Environment{ID: 3, Project: "shop", Name: "main", Namespace: "shop-main"}
	service := insight.NewService(w.store, insight.Limits{}, slog.New(slog.DiscardHandler))
	var facts insight.Facts
	for i := range 30 {
		facts = append(facts, insight.Fact{Name: fmt.Sprintf("fact-%02d", i), Value: hostile, Source: "s"})
	}
	for i, c := range []insight.Content{
		facts,
		insight.Problems{
			{Identifier: "CVE-1", Source: "s", Severity: "HIGH", AssociatedPackage: "zlib", Version: "1", FixedVersion: "2", Links: "https://cve.example/1", Description: hostile},
			{Identifier: "CVE-2", Source: "s", Links: "javascript:alert(1)"},
		},
		insight.Document{Kind: insight.KindSBOM, Service: "nginx", Data: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{"component":{"type":"container","name":"shop/nginx","version":"7"}},
			"components":[{"type":"library","name":"zlib","version":"1.3","purl":"pkg:deb/debian/zlib@1.3"},{"type":"library","name":"openssl","version":"3.5"}]}`)},
	} {
		if err := service.Accept(t.Context(), insight.Item{ID: insight.ItemID(fmt.Sprint(i)), Cluster: "east", Environment: env, Content: c}); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Quarantine(t.Context(), insight.Poison{Cluster: "east", Item: "bad", Reason: hostile}); err != nil {
		t.Fatal(err)
	}
	v := w.view(t, pki.Viewer, "/insights")
	v.wants(t, 200, "shop/nginx 7 2 east / shop-main", "CVE-1", "HIGH", "zlib 1 fixed in 2", "CVE-2", "fact-00", "shop", "What couldn't be taken", "bad east "+hostile, "More")
	if strings.Contains(v.text, "fact-25") || !v.has("href", "https://cve.example/1") || !v.has("href", "/insights?list=facts") {
		t.Errorf("links %v in %s", v.all("href"), v.text)
	}
	w.view(t, pki.Viewer, "/insights?list=facts&agent=east").wants(t, 200, "fact-29")
	var sbom string
	for _, href := range v.all("href") {
		if strings.HasPrefix(href, "/insights?sbom=") {
			sbom = href
		}
	}
	w.view(t, pki.Viewer, sbom).wants(t, 200, "Packages of one SBOM", "zlib", "openssl")
	v = w.view(t, pki.Viewer, "/insights?q=zlib&agent=east")
	v.wants(t, 200, "Packages that match", "pkg:deb/debian/zlib@1.3", "nginx")
	if strings.Contains(v.text, "openssl 3.5") || strings.Contains(v.text, "fact-00") {
		t.Errorf("found too much: %s", v.text)
	}
	w.view(t, pki.Viewer, "/insights?q="+url.QueryEscape(hostile)).wants(t, 200, "No current SBOM lists such a package", hostile)
	newWorld(t).view(t, pki.Viewer, "/insights").wants(t, 200, "No agent has sent an SBOM yet", "No problem is known", "No fact is known")
}

// refusing is a sink that takes nothing.
type refusing struct{}

func (refusing) Deliver(context.Context, alert.Alert) error {
	return &alert.Error{Class: alert.Permanent, Err: errors.New("unknown owner " + hostile)}
}

func TestAlerts(t *testing.T) {
	w := newWorld(t, east())
	s := w.create(t, "")
	w.complete(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	worker := alert.NewWorker(alert.Config{Store: w.store, Sinks: map[string]alert.Sink{"sink": refusing{}}, Holder: "test", Logger: slog.New(slog.DiscardHandler)})
	go func() { done <- worker.Run(ctx) }()
	var dead []alert.Alert
	for len(dead) == 0 {
		var err error
		if dead, err = w.store.Alerts(t.Context(), alert.Filter{State: alert.Dead, Limit: 2}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-done

	v := w.view(t, pki.Admin, "/alerts?state=dead&sink=sink")
	v.wants(t, 200, "east/default", "web-app/web", "dead", "unknown owner "+hostile, "Replay", "Skip")
	if !v.has("href", "/scans/"+string(s.ID)) {
		t.Error("the alert doesn't lead to its scan")
	}
	if v := w.view(t, pki.Scanner, "/alerts"); strings.Contains(v.text, "Replay") {
		t.Error("one who isn't an administrator is offered to replay")
	}
	for _, post := range v.all("data-post") {
		if !strings.HasPrefix(post, "/api/v1/alerts/") {
			continue
		}
		for site, status := range map[string]int{"cross-site": 403, "same-origin": 200} {
			rec := w.answer(t, "POST", post, "Cookie", "__Host-reeve-session="+w.role[pki.Admin], "Sec-Fetch-Site", site)
			if rec.Code != status {
				t.Errorf("%s from %s: %d %s", post, site, rec.Code, rec.Body)
			}
		}
	}
	w.view(t, pki.Viewer, "/alerts?state=skipped").wants(t, 200, "skipped")
	w.view(t, pki.Viewer, "/alerts?state=delivered").wants(t, 200, "There are no such alerts")
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, east())
	for _, path := range []string{
		"/", "/scans", "/scans/x", "/insights", "/alerts", "/targets", "/policies", "/profiles", "/services", "/audit", "/people", "/nothing",
		"/schedules", "/schedules/nightly", "/events", "/events/1", "/insights/vex", "/insights/exports", "/github", "/audit/recordings", "/audit/recordings/r",
	} {
		v := read(t, w.answer(t, "GET", path))
		v.wants(t, 401, "Log in", "reeve demo", "REEVE_HUB=https://example.com ", "reeve login")
		if strings.Contains(v.text, "Your login has ended") || strings.Contains(v.text, "Fleet") {
			t.Errorf("%s: %s", path, v.text)
		}
	}
	read(t, w.answer(t, "GET", "/scans", "Cookie", "__Host-reeve-session="+w.role[pki.Admin][:20])).wants(t, 401, "Your login has ended")
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/nothing": {404, "no such page"},
		"/scans/x": {404, "UUID"},
		"/scans/01a20073-a698-7910-b811-90d5f730e373":            {404, "not found"},
		"/scans/..%2Fagents":                                     {404, "UUID"},
		"/scans?status=lost":                                     {422, "query.status"},
		"/scans/01a20073-a698-7910-b811-90d5f730e373/controls/0": {404, "not found"},
		"/profiles/nothing":                                      {404, "nothing"},
		"/policies/nothing":                                      {404, "nothing"},
		"/thresholds/nothing":                                    {404, "nothing"},
		"/targets/history":                                       {404, "names no target"},
		"/insights/diff?from=x&to=y":                             {422, "AGENT/NAMESPACE"},
		"/insights/new?since=yesterday":                          {422, "since"},
		"/audit":                                                 {403, "admin"},
		"/people":                                                {403, "admin"},
		"/audit/recordings":                                      {403, "admin"},
		"/audit/recordings/r":                                    {403, "admin"},
		"/schedules/nothing":                                     {404, "no such schedule"},
		"/events/nothing":                                        {404, "event not found"},
		"/events?state=lost":                                     {422, "query.state"},
		"/insights/exports?state=lost":                           {422, "query.state"},
		"/thresholds/new?from=nothing":                           {404, "nothing"},
		"/policies?agent=east&namespace=A_B":                     {422, "namespace"},
		"/alerts?state=lost":                                     {422, "query.state"},
		"/insights?list=facts&before=x":                          {422, "before"},
	} {
		w.view(t, pki.Viewer, path).wants(t, want.status, want.says, "Fleet")
	}
}

func TestAssets(t *testing.T) {
	w := newWorld(t)
	v := read(t, w.answer(t, "GET", "/"))
	got := map[string]string{}
	for _, p := range append(v.all("href"), v.all("src")...) {
		if !strings.HasPrefix(p, "/assets/") {
			continue
		}
		rec := w.answer(t, "GET", p)
		if rec.Code != 200 || rec.Body.Len() == 0 || !strings.Contains(rec.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", p, rec.Code, rec.Header())
		}
		got[filepath.Ext(p)], _, _ = strings.Cut(rec.Header().Get("Content-Type"), ";")
	}
	if d := cmp.Diff(map[string]string{".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}, got); d != "" {
		t.Error(d)
	}
}

// within is a token of a viewer of one namespace.
func (w *world) within(t *testing.T, namespace string) string {
	t.Helper()
	tok, text, err := pki.NewToken(pki.Session, "guest", pki.Rights{{Role: pki.Viewer, Scope: fleet.Scope{Namespaces: []string{namespace}}}}, time.Hour)
	if err == nil {
		err = w.store.CreateToken(t.Context(), tok)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestScan_rights: a result that the page keeps is still seen only by whom the
// API shows it.
func TestScan_rights(t *testing.T) {
	w := newWorld(t, east())
	s := w.create(t, "")
	w.complete(t)
	stranger, owner := w.within(t, "other"), w.within(t, "default")
	for _, path := range []string{"", "/controls/0", "/texts", "/compare"} {
		path = "/scans/" + string(s.ID) + path
		if rec := w.answer(t, "GET", path, "Cookie", "__Host-reeve-session="+owner); rec.Code != 200 {
			t.Errorf("%s: its owner gets %d", path, rec.Code)
		}
		rec := w.answer(t, "GET", path, "Cookie", "__Host-reeve-session="+stranger)
		if rec.Code != 404 || strings.Contains(rec.Body.String(), "listening") {
			t.Errorf("%s: a stranger gets %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := w.answer(t, "GET", "/scans/"+string(s.ID)+"/texts"); rec.Code != 401 {
		t.Errorf("nobody gets %d", rec.Code)
	}
}

// TestViews_rights: who may read in a namespace sees in each view what is of it,
// and nothing of another one.
func TestViews_rights(t *testing.T) {
	w := newWorld(t, east())
	ctx, now := t.Context(), time.Now().UTC().Truncate(time.Microsecond)
	for _, namespace := range []string{"shop", "bank"} {
		secret := "secret-of-" + namespace
		target := scan.Target{Agent: "east", Namespace: namespace, Pod: secret, Container: "app"}
		_, err := w.queue.Create(ctx, scan.Request{Target: target, Profile: "p", RequestedBy: "x", Timeout: time.Minute})
		if err == nil {
			_, err = w.store.SaveSchedule(ctx, scan.Schedule{Name: namespace, Cron: "@daily", Request: scan.Request{Target: target, Profile: "p"}, Created: now, Next: now.Add(time.Hour)}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.complete(t)
		events, err := event.Decode(event.Message{ContentType: event.StructuredType, Body: fmt.Appendf(nil,
			`{"specversion":"1.0","id":%[1]q,"source":"ci","type":"x","subject":%[1]q,"data":{"agent":"east","namespace":%[2]q}}`, secret, namespace)})
		if err == nil {
			events[0].ID = event.ID("event-" + namespace)
			_, err = w.store.AddEvents(ctx, [][]event.Event{events}, 10)
		}
		if err == nil {
			_, err = w.store.PutPolicyLayer(ctx, policy.Layer{Place: policy.Place{Agent: "east", Namespace: namespace}, Text: secret, By: "x", At: now}, nil)
		}
		if err == nil {
			err = w.store.AddSilence(ctx, alert.Silence{ID: namespace, Owner: "east/" + namespace, Comment: secret, CreatedBy: "x", Created: now, Until: now.Add(time.Hour)})
		}
		if err == nil {
			err = w.store.QueueExports(ctx, []insight.Export{{
				Destination: insight.Destination{Project: secret}, Cluster: "east", Environment: insight.Environment{Namespace: namespace}, Digest: "sha256:3",
			}}, now)
		}
		if err == nil {
			err = w.store.SaveRecording(ctx, audit.Recording{ID: namespace, Began: now, Ended: now, Actor: "x", Agent: "east", Namespace: namespace, Pod: secret, Digest: "sha256:2"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	shop := w.within(t, "shop")
	for path, sees := range map[string]bool{
		"/": true, "/scans": true, "/targets": true, "/schedules": true, "/schedules/shop": true, "/schedules/bank": false, "/events": true,
		"/policies": true, "/insights/exports": true, "/insights": false, "/insights/vex": false, "/insights/runs?of=x": false,
		"/insights/new": false, "/alerts": true, "/alerts/runs": false, "/github": false, "/services": false, "/profiles": false,
		"/audit": false, "/audit/recordings": false, "/audit/recordings/shop": false, "/people": false, "/policies?agent=east&namespace=bank": true,
		"/targets/history?agent=east&namespace=bank&pod=secret-of-bank&container=app": false,
	} {
		text := w.answer(t, "GET", path, "Cookie", "__Host-reeve-session="+shop).Body.String()
		if strings.Contains(text, "The hub couldn") || strings.Contains(text, "secret-of-shop") != sees {
			t.Errorf("%s: a reader of shop should see what is of it: %v\n%s", path, sees, text)
		}
		if asked := strings.Contains(path, "secret-of-bank"); !asked && strings.Contains(text, "secret-of-bank") || asked && !strings.Contains(text, "no completed scan") {
			t.Errorf("%s: a reader of shop sees what is of bank:\n%s", path, text)
		}
	}
}

// TestViews_hostile: what agents, targets and callers say is text in each view.
func TestViews_hostile(t *testing.T) {
	a := east()
	a.Services = []fleet.Service{{Type: "x-evil", Name: "ui", Annotations: map[string]string{"uiUrl": "javascript:alert(1)", hostile: hostile}}}
	w := newWorld(t, a)
	w.create(t, "")
	w.complete(t)
	s := w.create(t, "")
	w.complete(t)
	q := url.QueryEscape(hostile)
	for path, want := range map[string]string{
		"/scans/" + string(s.ID) + "/compare":               hostile,
		"/scans/" + string(s.ID) + "?full=1&by=file&q=" + q: hostile,
		"/services":                           hostile,
		"/targets?profile=" + q:               "No such target has been scanned",
		"/targets/history?uri=dir:/" + q:      "no completed scan",
		"/insights/runs?of=" + q:              "Nothing that is known runs it",
		"/audit?actor=" + q:                   "There are no such records",
		"/alerts/runs?source=" + q:            "There are no such runs",
		"/policies/scans-pass?verdict=failed": "There are no such subjects",
		"/targets":                            "50 %",
		"/targets/history?namespace=default&pod=web-app&container=web": "since the one before",
		"/profiles/p":     "p 1.0.0",
		"/thresholds/new": "New threshold",
		"/people":         "Revoke",
	} {
		w.view(t, pki.Admin, path).wants(t, 200, want)
	}
	for path, not := range map[string]string{"/profiles": "Upload", "/thresholds/strict": "Save", "/services": "Credential…", "/alerts": "Pause"} {
		if v := w.view(t, pki.Viewer, path); strings.Contains(v.text, not) {
			t.Errorf("a viewer is offered to %s: %s", not, v.text)
		}
	}
}

// TestViews_said: what callers and agents said is text in the views of it, too.
func TestViews_said(t *testing.T) {
	w := newWorld(t, east())
	w.by = "x"
	ctx, now := t.Context(), time.Now()
	put := func(path, body string) {
		t.Helper()
		r := httptest.NewRequestWithContext(ctx, "PUT", "/api/v1"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Cookie", "__Host-reeve-session="+w.role[pki.Admin])
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code/100 != 2 {
			t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	quoted, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	put("/schedules/nightly", fmt.Sprintf(`{"cron":"0 3 * * *","jitter":60,"target":{"agent":"east","namespace":"shop","pod":"web","container":"app"},
		"scan":{"profile":"p","threshold":"strict","inputs":{"x":%s}},"options":{"method":"exec","sbom":true}}`, quoted))
	events, err := event.Decode(event.Message{ContentType: event.StructuredType, Body: fmt.Appendf(nil, `{"specversion":"1.0","id":%[1]s,"source":"ci","type":"x","subject":%[1]s,"data":{"agent":"east"}}`, quoted)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.AddEvents(ctx, [][]event.Event{events}, 10); err != nil {
		t.Fatal(err)
	}
	statement := insight.Statement{Vulnerability: "CVE-1", Names: []string{"CVE-1"}, Status: insight.NotAffected, Justification: hostile, Detail: hostile, Author: hostile, Made: now}
	if err := w.store.PutStatements(ctx, "sha256:1", []insight.Statement{statement}, now); err != nil {
		t.Fatal(err)
	}
	layer := policy.Layer{Place: policy.Place{Agent: "east", Namespace: "shop"}, Text: hostile, By: hostile, At: now}
	if _, err := w.store.PutPolicyLayer(ctx, layer, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.store.PutInventory(ctx, "east", insight.Inventory{Policies: map[string]string{"bank": hostile}}, now); err != nil {
		t.Fatal(err)
	}
	if err := w.store.AddSilence(ctx, alert.Silence{ID: "s", Owner: hostile, Comment: hostile, CreatedBy: hostile, Created: now, Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	recording := audit.Recording{ID: "r", Began: now, Ended: now, Actor: hostile, Agent: "east", Namespace: "shop", Pod: "web", Command: []string{hostile}, Cause: hostile, Digest: "sha256:2"}
	if err := w.store.SaveRecording(ctx, recording); err != nil {
		t.Fatal(err)
	}
	for _, e := range []insight.Export{
		{State: insight.ExportWaiting, Attempts: 2, Next: now.Add(time.Minute), Reason: hostile},
		{State: insight.ExportSent, Ended: now},
		{State: insight.ExportRefused, Ended: now, Reason: hostile},
	} {
		e.Destination = insight.Destination{Project: string(e.State) + "-" + hostile, Version: hostile}
		e.Cluster, e.Environment, e.Service, e.Digest, e.Queued = "east", insight.Environment{Namespace: "shop"}, hostile, "sha256:3", now.UTC().Truncate(time.Microsecond)
		if err := w.store.QueueExports(ctx, []insight.Export{e}, e.Queued); err != nil {
			t.Fatal(err)
		}
		if err := w.store.PutExport(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	for path, wants := range map[string][]string{
		"/schedules":                          {"nightly", "shop/web/app east", "Pause", "Remove"},
		"/schedules/nightly":                  {"spread over 60 s", "It hasn't run yet"},
		"/events":                             {hostile, "types " + hostile},
		"/insights/vex":                       {"CVE-1", "not affected", hostile, "Forget"},
		"/alerts":                             {hostile, "End"},
		"/policies":                           {hostile, "Change", "east/bank", "the namespace's annotation", "in its cluster"},
		"/github":                             {hostile, "not yet", "waits, goes on", hostile + ": 17 of 5000", "40 12 unchanged, 3 waits"},
		"/insights/exports":                   {"sent-" + hostile, "next try", "2 so far", hostile, "Send all"},
		"/insights/exports?state=refused":     {"refused-" + hostile, hostile},
		"/audit/recordings":                   {hostile, "Play", "Download"},
		"/audit/recordings/r":                 {hostile, "Play", "Download"},
		"/thresholds/new?from=strict":         {"New threshold", "compliance: min: 90", "Save"},
		"/policies?agent=east&namespace=shop": {hostile},
	} {
		w.view(t, pki.Admin, path).wants(t, 200, wants...)
	}
	for path, not := range map[string][]string{
		"/schedules": {"Schedule…", "Pause"}, "/schedules/nightly": {"Pause"}, "/insights/vex": {"Forget", "Upload"}, "/alerts": {"Silence…", "End"},
		"/policies": {"Override in", "Change"}, "/insights/exports": {"Send all"}, "/thresholds/strict": {"begin a new one"},
	} {
		v := w.view(t, pki.Viewer, path)
		for _, n := range not {
			if strings.Contains(v.text, n) {
				t.Errorf("a viewer is offered %q at %s", n, path)
			}
		}
	}
}

// TestGiven: what a browser sends to be looked at isn't taken from another
// site, nor from nobody, nor without end.
func TestGiven(t *testing.T) {
	w := newWorld(t, east())
	post := func(body, site, cookie string) (int, string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/results", strings.NewReader(body))
		r.Header.Set("Sec-Fetch-Site", site)
		r.Header.Set("Reeve-Part", "1")
		r.Header.Set("Cookie", "__Host-reeve-session="+cookie)
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		return rec.Code, rec.Body.String()
	}
	viewer := w.role[pki.Viewer]
	for name, c := range map[string]struct {
		body, site, cookie string
		status             int
		says               string
	}{
		"a result":           {results(t), "same-origin", viewer, 200, "All is well"},
		"from another site":  {results(t), "cross-site", viewer, 403, "Another site"},
		"from nobody":        {results(t), "same-origin", "", 401, "login has ended"},
		"of another kind":    {`[1]`, "same-origin", viewer, 422, "Heimdall Data Format"},
		"controls of a list": {`{"version":"1","profiles":[{"controls":{}}]}`, "same-origin", viewer, 422, "Heimdall Data Format"},
		"without end":        {`{"version":"` + strings.Repeat("x", 65<<20), "same-origin", viewer, 422, "larger than 64 MiB"},
	} {
		if status, body := post(c.body, c.site, c.cookie); status != c.status || !strings.Contains(body, c.says) || strings.Contains(body, "<html") {
			t.Errorf("%s: %d %.500s", name, status, body)
		}
	}
}
