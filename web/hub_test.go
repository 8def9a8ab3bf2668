package web_test

import (
	"archive/zip"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/pki"
)

// startHub runs a hub and an agent, as their processes would, and answers the
// hub and a handler through which a browser reaches it.
func startHub(t *testing.T) (*hub.Hub, http.Handler) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	track := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(track.Close)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hc := hub.Defaults()
	if err := yaml.Unmarshal(fmt.Appendf(nil, `
policies:
- name: scans-pass
  check: {scan: {profile: gated}}
  actions: [log]
events:
  routes:
  - name: deployed
    match: {types: [app.deployed]}
    scan: {profile: container-baseline, agent: east}
insights:
  dependencyTrack: {url: %q, apiKeyFile: %q, insecure: true}
`, track.URL, file("key", "k")), &hc); err != nil {
		t.Fatal(err)
	}
	hc.DataDir, hc.CADir = filepath.Join(dir, "hub"), filepath.Join(dir, "ca")
	hc.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	if _, err := pki.Init(hc.CADir, "test"); err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hc, "v1.2.3", quiet)
	if err != nil {
		t.Fatal(err)
	}
	token, text, err := h.CA().NewJoinToken("east", time.Hour)
	if err == nil {
		err = h.Tokens().CreateToken(t.Context(), token)
	}
	if err != nil {
		t.Fatal(err)
	}
	ac := agent.Defaults()
	ac.Hub.URL, ac.DataDir, ac.Metrics = "https://"+h.Addrs().API.String(), filepath.Join(dir, "agent"), ""
	ac.Hub.JoinTokenFile = file("token", text)
	ac.Scan.Targets = []string{"local"}
	a, err := agent.New(ac, "v1.2.3", quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- h.Run(ctx) }()
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	to, err := url.Parse(ac.Hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.CA().Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return h, &httputil.ReverseProxy{
		Transport: transport, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
	}
}

// gated is a profile of two controls; the second ends when somebody has opened
// the gate.
func gated(t *testing.T, gate string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gated.zip")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(out)
	for name, text := range map[string]string{
		"inspec.yml": "name: gated\ntitle: A gate\nversion: 1.0.0\n",
		"controls/a.rb": `control 'first' do
  impact 0.7
  title 'There is a root'
  describe file('/') do
    it { should be_directory }
  end
end
`,
		"controls/b.rb": fmt.Sprintf("control 'gate' do\n  impact 0.5\n  title 'The gate is open'\n  describe command(%q) do\n    its('stdout') { should cmp 'shut' }\n  end\nend\n", "cat "+gate),
	} {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// choose fills in fields by their selectors, and gives them to the page as a
// person's typing would.
func (b *tab) fill(form string, fields map[string]string) {
	b.t.Helper()
	for name, value := range fields {
		b.set(fmt.Sprintf("%s [name='%s']", form, name), value)
	}
}

// reveal opens what is folded by its summary.
func (b *tab) reveal(summary string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf("[...document.querySelectorAll('summary')].find((s) => s.textContent === %q).click() || true", summary))
}

// TestBrowser_hub is what a person does on a hub as it is run, with an agent
// that scans this machine.
func TestBrowser_hub(t *testing.T) {
	t.Parallel()
	h, proxy := startHub(t)
	b := openBrowser(t, proxy)
	b.login(h.Tokens(), pki.Admin)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	const submit = " button.main"

	// A profile is uploaded; what is none is refused.
	b.open("/profiles")
	broken := filepath.Join(t.TempDir(), "broken.zip")
	if err := os.WriteFile(broken, []byte("PK no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{broken}))
	b.click("[data-upload]" + submit)
	b.until("!document.querySelector('[data-upload] [data-problem]').hidden")
	b.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{gated(t, gate)}))
	b.click("[data-upload]" + submit)
	b.until("location.pathname === '/profiles/gated'")
	b.says("There is a root", "The gate is open")

	// A threshold is stored, and not over what another one stored meanwhile.
	b.open("/thresholds/new")
	b.click("form[data-form]" + submit)
	b.says("It is missing.")
	b.fill("form", map[string]string{"name": "open", "text": "compliance:\n  min: 50\n"})
	b.click("form[data-form]" + submit)
	b.until("location.pathname === '/thresholds/open'")
	eval[bool](b, `fetch('/api/v1/thresholds/open', { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ text: 'compliance:\n  min: 60\n' }) }).then((r) => r.ok)`)
	b.fill("form", map[string]string{"text": "compliance:\n  min: 40\n"})
	b.click("form[data-form]" + submit)
	b.until("!document.querySelector('form[data-form] [data-problem]').hidden")
	if got := eval[string](b, "document.querySelector('textarea').value"); !strings.Contains(got, "min: 40") {
		t.Errorf("what was typed is now %q", got)
	}

	// A scan of this machine, live.
	b.open("/scans?new=1")
	b.until("document.querySelector('[name=\"target.agent\"] option').textContent.includes('local')")
	b.fill("form", map[string]string{"target.uri": "local:", "scan.profile": "gated", "scan.threshold": "open"})
	b.click("form[data-form]" + submit)
	b.says("running", "of 2 controls")
	scan := eval[string](b, "location.pathname")
	opened, err := os.OpenFile(gate, os.O_WRONLY, 0) // once somebody reads it
	if err == nil {
		_, err = opened.WriteString("open")
	}
	if err == nil {
		err = opened.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	b.says("completed", "failed", "The gate is open", "Why the threshold isn't met")
	if n := eval[int](b, "document.querySelectorAll('.control').length"); n != 2 {
		t.Errorf("%d controls", n)
	}
	for _, format := range eval[[]string](b, `Promise.all([...document.querySelectorAll('.export a')].map((a) => fetch(a.href).then((r) => r.ok ? '' : a.href + ': ' + r.status)))`) {
		if format != "" {
			t.Error(format)
		}
	}
	b.open("/")
	b.says("1 fail", "local:")

	// A schedule: a mistake is named where it was made, and the rest stays.
	b.open("/schedules")
	b.reveal("Schedule…")
	b.fill("form", map[string]string{"name": "nightly", "cron": "at night", "timeZone": "Europe/Berlin", "target.agent": "east", "target.uri": "local:", "scan.profile": "gated"})
	b.click("form[data-form]" + submit)
	b.until("document.querySelector('#e-cron').textContent && document.activeElement.name === 'cron'")
	if got := eval[string](b, "document.querySelector('[name=timeZone]').value"); got != "Europe/Berlin" {
		t.Errorf("what was typed is now %q", got)
	}
	b.fill("form", map[string]string{"cron": "0 3 * * *"})
	b.click("form[data-form]" + submit)
	b.until("location.pathname === '/schedules/nightly'")
	b.says("local:", "0 3 * * *", "It hasn't run yet")
	b.click("[data-post$=pause]")
	b.says("suspended", "Resume")
	b.click("[data-post$=resume]")
	b.says("Pause")
	b.accessible("/schedules/nightly")

	// It is changed in its place: what the form doesn't show stays, and who was
	// faster isn't written over.
	b.open("/schedules/nightly")
	b.reveal("Change…")
	b.accessible("a schedule that is changed")
	b.picture("schedule")
	put := `fetch('/api/v1/schedules/nightly', { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({
		cron: '0 3 * * *', timeZone: 'Europe/Berlin', jitter: 60, missed: 'skip', target: { agent: 'east', uri: 'local:' },
		scan: { profile: 'gated@1.0.0', inputs: { a: [1] } }, options: { timeout: 90, priority: 'high' } }) }).then((r) => r.status)`
	if status := eval[int](b, put); status != http.StatusOK {
		t.Fatalf("changed beside the page: %d", status)
	}
	b.fill("form[data-match]", map[string]string{"cron": "0 5 * * *"})
	b.click("form[data-match]" + submit)
	b.until("!document.querySelector('form[data-match] [data-problem]').hidden")
	b.open("/schedules/nightly")
	b.reveal("Change…")
	b.fill("form[data-match]", map[string]string{"cron": "0 5 * * *", "jitter": "120"})
	b.click("form[data-match]" + submit)
	b.until("document.querySelector('#schedule')?.innerText.includes('0 5 * * *')")
	got := eval[map[string]any](b, `fetch('/api/v1/schedules/nightly').then((r) => r.json()).then(({ $schema, next, created, createdBy, ...rest }) => rest)`)
	want := map[string]any{
		"name": "nightly", "cron": "0 5 * * *", "timeZone": "Europe/Berlin", "jitter": 120.0, "missed": "skip", "target": map[string]any{"agent": "east", "uri": "local:"},
		"profile": "gated@1.0.0", "inputs": map[string]any{"a": []any{1.0}}, "timeout": 90.0, "priority": "high", "method": "auto",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the schedule (-want +got):\n%s", diff)
	}

	// Another of its name isn't put in its place.
	b.open("/schedules")
	b.reveal("Schedule…")
	b.fill("form", map[string]string{"name": "nightly", "cron": "0 4 * * *", "target.agent": "east", "target.uri": "local:", "scan.profile": "gated"})
	b.click("form[data-form]" + submit)
	b.says("there is one already")
	if got := eval[string](b, "document.querySelector('[name=cron]').value"); got != "0 4 * * *" {
		t.Errorf("what was typed is now %q", got)
	}
	b.open("/schedules")
	b.says("nightly", "Europe/Berlin")
	b.accessible("/schedules")
	b.click("[data-method=DELETE]")
	b.says("Nothing is scanned by a schedule yet")

	// An event leads to a scan, and one that can't be read is told with why.
	eval[bool](b, `Promise.all([
		{ id: '1', type: 'app.deployed', source: 'ci', specversion: '1.0', data: { agent: 'east', image: 'shop/web:1' } },
		{ id: '2', type: 'app.built', source: 'ci', specversion: '1.0', data: { agent: 'east' } },
	].map((e) => fetch('/api/v1/events', { method: 'POST', headers: { 'Content-Type': 'application/cloudevents+json' }, body: JSON.stringify(e) }))).then(() => true)`)
	b.open("/events")
	b.says("app.deployed", "app.built", "unrouted", "container-baseline")
	b.until("!document.querySelector('#list').innerText.includes('pending')")
	b.accessible("/events")
	b.click("#list tbody a")
	b.says("As it was sent", `"specversion": "1.0"`)
	b.accessible("an event")

	// Statements on vulnerabilities.
	b.open("/insights/vex")
	vex := filepath.Join(t.TempDir(), "vex.json")
	for text, says := range map[string]string{
		`{"@context": `: "",
		`{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/1", "author": "Security", "timestamp": "2026-11-20T10:00:00Z", "version": 1,
		  "statements": [{"vulnerability": {"name": "CVE-2024-3094"}, "products": [{"@id": "pkg:deb/debian/xz-utils"}], "status": "not_affected", "justification": "vulnerable_code_not_present"}]}`: "not affected",
	} {
		if err := os.WriteFile(vex, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{vex}))
		b.click("[data-upload]" + submit)
		if says == "" {
			b.until("!document.querySelector('[data-problem]').hidden")
			continue
		}
		b.says(says, "vulnerable code not present", "Security")
		b.accessible("/insights/vex")
		b.click("#list [data-method=DELETE]")
		b.says("Nothing is said.")
	}

	b.open("/insights/exports")
	b.click("[data-post$=exports]")
	b.says("There are no such exports")
	b.accessible("/insights/exports")

	// A silence.
	b.open("/alerts")
	b.reveal("Silence…")
	b.fill("form[data-form]", map[string]string{"owner": "east/*"})
	b.click("form[data-form]" + submit)
	b.until("document.querySelector('form[data-form] [aria-invalid]') || !document.querySelector('form[data-form] [data-problem]').hidden")
	b.fill("form[data-form]", map[string]string{"comment": "moved on Friday"})
	b.click("form[data-form]" + submit)
	b.says("moved on Friday", "in 7 h")
	b.accessible("/alerts")
	b.click("[data-post*=silences]")
	b.until("!document.body.innerText.includes('moved on Friday')")

	// What a namespace says of a policy.
	b.open("/policies")
	b.reveal("Override in a namespace…")
	b.fill("form", map[string]string{"namespace": "shop", "text": "scans-pas:\n  optOut: true\n"})
	b.click("form" + submit)
	b.until("!document.querySelector('[data-problem]').hidden || document.querySelector('#e-text').textContent")
	b.fill("form", map[string]string{"text": "scans-pass:\n  optOut: true\n"})
	b.click("form" + submit)
	b.says("Overrides by namespaces", "east/shop", "optOut: true")
	b.click("a[href*='namespace=shop']")
	b.until("document.querySelector('textarea')?.value.includes('optOut: true')")
	b.accessible("an override")
	b.fill("form", map[string]string{"text": "scans-pass:\n  optOut: false\n"})
	b.click("form" + submit)
	b.until("location.search === '' && document.body?.innerText.includes('optOut: false')")
	b.click("[data-post*=overrides]")
	b.until("!document.body.innerText.includes('Overrides by namespaces')")

	// A token, which is good until it is revoked.
	b.open("/people")
	b.reveal("API token…")
	b.fill("details[open] form", map[string]string{"name": "pipeline", "role": "scanner", "namespaces": "shop, team-*"})
	b.click("details[open] form" + submit)
	b.until("document.getElementById('made-token').textContent.startsWith('reeve_')")
	who := `fetch('/api/v1/whoami', { credentials: 'omit', headers: { Authorization: 'Bearer ' + document.getElementById('made-token').textContent } }).then((r) => r.status)`
	if status := eval[int](b, who); status != http.StatusOK {
		t.Errorf("the token: %d", status)
	}
	b.says("shop, team-*")
	eval[bool](b, "[...document.querySelectorAll('#list tr')].find((r) => r.innerText.includes('pipeline')).querySelector('button').click() || true")
	b.until("!document.getElementById('list').innerText.includes('pipeline')")
	if status := eval[int](b, who); status != http.StatusUnauthorized {
		t.Errorf("the revoked token: %d", status)
	}

	for _, path := range []string{"/github", "/audit/recordings", scan} {
		b.open(path)
		b.accessible(path)
	}
}
