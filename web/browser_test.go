package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/internal/chromium"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/web"
)

var screenshots = flag.String("screenshots", "", "`folder` to put pictures of the views in, such as ../docs/images")

// within bounds a step that a browser makes; none takes a second on a machine
// that is idle.
const within = time.Minute

// tab is one browser for a test. All that it asks for is of the test's
// own server.
type tab struct {
	t      *testing.T
	ctx    context.Context
	server *httptest.Server
	// handler is what the server has now; down cuts every connection.
	handler atomic.Value
	down    atomic.Bool

	mu     sync.Mutex
	faults []string // what the console says of the page
}

type handled struct{ http.Handler }

// openBrowser starts a browser and a server of w.
func openBrowser(t *testing.T, w http.Handler) *tab {
	t.Helper()
	ctx, stop, err := chromium.Open(t.Context(), t.TempDir())
	switch {
	case errors.Is(err, chromium.ErrNone):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(stop) // it is gone before its folder is
	b := &tab{t: t, ctx: ctx}
	b.handler.Store(handled{w})
	b.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if b.down.Load() {
			panic(http.ErrAbortHandler)
		}
		b.handler.Load().(handled).ServeHTTP(rw, r)
	}))
	b.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
	})
	go func() {
		for m := range chromedp.Console(b.ctx) {
			if m.IsException() || m.Type == "error" && m.Source != "network" {
				b.mu.Lock()
				b.faults = append(b.faults, m.String())
				b.mu.Unlock()
			}
		}
	}()
	go func() {
		for range chromedp.Events(b.ctx, page.JavascriptDialogOpening) {
			chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}
	}()
	return b
}

type step = chromedp.Action[chromedp.Void]

// do makes steps.
func (b *tab) do(steps ...step) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	b.check(chromedp.Do(ctx, steps...))
}

// check ends the test if a step went wrong, or the page says so in the console.
func (b *tab) check(err error) {
	b.t.Helper()
	if err != nil {
		body, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.href + ' ' + document.body.innerText"))
		b.t.Fatalf("%v; the page: %.2000s", err, body)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.faults) > 0 {
		b.t.Fatalf("the console: %s", strings.Join(b.faults, "\n"))
	}
}

// call makes a call of the browser's protocol.
func call[P, R any](b *tab, c cdp.Command[P, R], params P) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, c, params)
	b.check(err)
}

func (b *tab) open(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	for range 3 {
		err := chromedp.Do(ctx, chromedp.Navigate(b.server.URL+path))
		if err != nil && strings.Contains(err.Error(), "ERR_NETWORK_CHANGED") {
			continue // other tests make networks of their own meanwhile
		}
		b.check(err)
		return
	}
	b.t.Fatal("the machine's networks change all the time")
}

// until waits for a condition of the page, in JavaScript, or of the page that
// comes after it.
func (b *tab) until(condition string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	b.check(chromium.Until(ctx, condition))
}

// says waits for a text in the page.
func (b *tab) says(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		quoted, err := json.Marshal(text)
		if err != nil {
			b.t.Fatal(err)
		}
		b.until("document.body?.innerText.includes(" + string(quoted) + ")")
	}
}

// eval is what an expression comes to.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	b.check(err)
	return v
}

// login opens a login link and presses its button, as a person does.
func (b *tab) login(tokens pki.TokenStore, role pki.Role) {
	b.t.Helper()
	tok, text, err := pki.NewToken(pki.Login, "auditor", role.Everywhere(), pki.LoginLife)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := tokens.CreateToken(b.t.Context(), tok); err != nil {
		b.t.Fatal(err)
	}
	b.open("/login?code=" + text)
	b.says("Log in to Reeve")
	b.click("button")
	b.until("document.querySelector('nav[aria-label=Views]')")
	b.says("auditor")
}

func (b *tab) typeInto(selector, text string) {
	b.t.Helper()
	b.set(selector, "")
	b.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

func (b *tab) set(selector, value string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf("(() => { document.querySelector(%q).value = %q; return true; })()", selector, value))
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// picture keeps a picture of what is on the screen, if pictures are wanted.
func (b *tab) picture(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	b.check(err)
	img, err := png.Decode(bytes.NewReader(shot))
	b.check(err)
	file, err := os.Create(filepath.Join(*screenshots, name+".png"))
	b.check(err)
	b.check((&png.Encoder{CompressionLevel: png.BestCompression}).Encode(file, img))
	b.check(file.Close())
}

// many is a result of n controls. What changes with round is which of them
// fail.
func many(t *testing.T, n, round int) string {
	t.Helper()
	families := []string{"AC-2 (1)", "AC-6 (9)", "AU-12 c", "CM-6 b", "CM-7 a", "IA-5 (1) (a)", "SC-8", "SC-13", "SI-2 c"}
	titles := []string{
		"The operating system must limit the number of concurrent sessions", "SSH must not allow empty passwords",
		"Audit records must be made for every use of the mount command", "The kernel must restrict access to its log",
		"Passwords must have at least 15 characters", "Only approved ciphers may be used by the SSH server",
		"Packages must be verified by their signatures", "Core dumps must be disabled",
	}
	controls := make([]map[string]any, n)
	for i := range controls {
		status, message := "passed", ""
		switch {
		case (i+round)%7 == 3:
			status, message = "failed", fmt.Sprintf("expected: 0600\n     got: 0644 (/etc/app/%d.conf)", i)
		case i%11 == 5:
			status = "skipped"
		}
		controls[i] = map[string]any{
			"id": fmt.Sprintf("SV-%06d", 257000+i), "title": titles[i%len(titles)], "impact": []float64{0.3, 0.5, 0.5, 0.7, 0.9}[i%5],
			"desc":         strings.Repeat("Remote access without a session limit lets one account take what others need. ", 6),
			"descriptions": []map[string]string{{"label": "check", "data": "Look at the file and its mode."}, {"label": "fix", "data": "chmod 0600 the file, then restart the service."}},
			"tags":         map[string]any{"nist": []string{families[i%len(families)]}, "cci": []string{"CCI-000366"}}, "refs": []any{}, "code": "control 'x' do\nend",
			"results": []map[string]any{{"status": status, "code_desc": fmt.Sprintf("File /etc/app/%d.conf mode is expected to cmp == \"0600\"", i), "message": message, "run_time": 0.001, "start_time": "2026-11-20T10:00:00Z"}},
		}
	}
	controls[0]["waiver_data"] = map[string]any{"justification": "replaced in March", "expiration_date": "2027-03-31"}
	text, err := json.Marshal(map[string]any{
		"platform": map[string]string{"name": "debian", "release": "12"}, "version": "6", "statistics": map[string]any{},
		"profiles": []map[string]any{{"name": "p", "title": "Linux baseline", "version": "1.0.0", "sha256": "", "supports": []any{}, "attributes": []any{}, "groups": []any{}, "controls": controls}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (w *world) completeWith(t *testing.T, text string) {
	t.Helper()
	job := w.lease(t)
	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// deadLetter has the worker deliver what there is to a sink that refuses it.
func (w *world) deadLetter(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	worker := alert.NewWorker(alert.Config{Store: w.store, Sinks: map[string]alert.Sink{"sink": refusing{}}, Holder: "test", Logger: slog.New(slog.DiscardHandler)})
	go func() { done <- worker.Run(ctx) }()
	for {
		pending, err := w.store.Alerts(t.Context(), alert.Filter{State: alert.Pending, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(pending) == 0 {
			break
		}
	}
	stop()
	<-done
}

// past is of two weeks in which some targets were scanned, and mended.
func (w *world) past(t *testing.T) {
	t.Helper()
	for n := range 12 {
		for day := n; day < 14; day += 4 {
			at := time.Now().AddDate(0, 0, day-14)
			s := scan.Scan{
				ID: scan.NewID(), Status: scan.Queued, Created: at, Expires: at.Add(time.Hour), ProfileDigest: "sha256:profile",
				Request: scan.Request{
					Target:  scan.Target{Agent: []fleet.AgentName{"east", "west"}[n%2], Namespace: "shop", Pod: fmt.Sprint("cart-", n), Container: "app"},
					Profile: "p", Threshold: "strict", Timeout: time.Minute, RequestedBy: w.by,
				},
			}
			v := scan.Verdict{Outcome: scan.Failed, Compliance: 50 + 3*day, Counts: hdf.Counts{Passed: 20, Failed: 14 - day}}
			if day+n > 11 {
				v = scan.Verdict{Outcome: scan.Passed, Compliance: 100, Counts: hdf.Counts{Passed: 34}}
			}
			err := w.store.CreateScan(t.Context(), s)
			if err == nil {
				err = w.store.FinishScan(t.Context(), scan.Finish{ID: s.ID, Status: scan.Completed, Verdict: v}, at)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// furnished is a world that has something in each view.
func furnished(t *testing.T) (*world, scan.ID) {
	t.Helper()
	a := east()
	a.Annotations = map[string]string{"description": "Production in Frankfurt", "docs": "https://docs.example/east"}
	a.Services = []fleet.Service{
		{Type: "kubernetes", Name: "cluster", Annotations: map[string]string{"description": "The cluster's API"}},
		{Type: "x-argo", Name: "cd", Annotations: map[string]string{"uiUrl": "https://argo.example/", "description": "Deliveries"}},
	}
	w := newWorld(t, a, fleet.Registration{Agent: "west", Instance: "j", Version: "v8", Hostname: "host-2"})
	w.by = "oidc:auditor@example.com"
	w.past(t)
	w.create(t, "")
	w.completeWith(t, many(t, 60, 0))
	w.create(t, "strict")
	w.completeWith(t, many(t, 60, 0))
	last := w.create(t, "strict")
	w.completeWith(t, many(t, 60, 1))
	w.deadLetter(t)
	env := insight.Environment{ID: 3, Project: "shop", Name: "main", Namespace: "shop-main"}
	service := insight.NewService(w.store, insight.Limits{}, slog.New(slog.DiscardHandler))
	for i, c := range []insight.Content{
		insight.Facts{{Name: "php-version", Value: "8.4.1", Source: "insights:image:nginx"}},
		insight.Problems{
			{Identifier: "CVE-2024-3094", Source: "osv", Severity: "CRITICAL", AssociatedPackage: "xz-utils", Version: "5.6.0", FixedVersion: "5.6.2", Links: "https://osv.dev/CVE-2024-3094", Service: "nginx"},
			{Identifier: "CVE-2025-1111", Source: "osv", Severity: "LOW", AssociatedPackage: "zlib", Version: "1.3", Service: "nginx"},
		},
		insight.Document{Kind: insight.KindSBOM, Service: "nginx", Data: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{"component":{"type":"container","name":"shop/nginx","version":"7"}},
			"components":[{"type":"library","name":"zlib","version":"1.2","purl":"pkg:deb/debian/zlib@1.2"}]}`)},
		insight.Document{Kind: insight.KindSBOM, Service: "nginx", Data: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{"component":{"type":"container","name":"shop/nginx","version":"8"}},
			"components":[{"type":"library","name":"zlib","version":"1.3","purl":"pkg:deb/debian/zlib@1.3"},{"type":"library","name":"openssl","version":"3.5","purl":"pkg:deb/debian/openssl@3.5"}]}`)},
	} {
		if err := service.Accept(t.Context(), insight.Item{ID: insight.ItemID(fmt.Sprint(i)), Cluster: "east", Environment: env, Content: c}); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Quarantine(t.Context(), insight.Poison{Cluster: "east", Item: "bad", Reason: "the SBOM is cut off"}); err != nil {
		t.Fatal(err)
	}
	return w, last.ID
}

// TestBrowser is what a person does, in a real browser.
func TestBrowser(t *testing.T) {
	w, last := furnished(t)
	b := openBrowser(t, w)
	b.login(w.store, pki.Admin)

	// A scan goes live.
	s := w.create(t, "")
	b.open("/scans/" + string(s.ID))
	b.says("queued")
	job := w.lease(t)
	if err := w.queue.Progress(t.Context(), peer, job.ID, job.Attempt, scan.Progress{Done: 1, Total: 2, Control: "one"}); err != nil {
		t.Fatal(err)
	}
	b.says("running", "1 of 2 controls; last one")
	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(results(t))); err != nil {
		t.Fatal(err)
	}
	b.says("completed", "2 shown")

	// A filter is in the address, and looks into what isn't shown yet.
	b.open("/scans/" + string(last))
	b.do(chromedp.KeyEvent("/"))
	b.until("document.activeElement.name === 'q'")
	b.typeInto("input[name=q]", "app/23.conf")
	b.until("document.getElementById('shown').textContent === '1'")
	b.until("location.search === '?q=app%2F23.conf'")
	b.open("/scans/" + string(last) + "?q=app%2F23.conf")
	b.until("document.getElementById('shown').textContent === '1'")
	eval[bool](b, "document.querySelector('.control:not([hidden]) > summary').focus() || true")
	b.do(chromedp.KeyEvent("\r")) // by the keyboard, as everything can be
	b.says("0644 (/etc/app/23.conf)", "chmod 0600 the file")
	eval[bool](b, "(document.querySelector('form[data-controls]').scrollIntoView(), true)")
	b.picture("control")
	b.open("/scans/" + string(last))
	b.click(".pills label:nth-of-type(2)")
	b.until("[...document.querySelectorAll('.control')].every((c) => c.hidden === (c.dataset.status !== 'failed'))")

	b.click("a[href$=compare]")
	b.says("What has changed", "Still failing")
	b.until("document.querySelectorAll('h2 .count')[1].textContent !== '0'")

	// A dead letter is delivered again.
	b.open("/alerts?state=dead")
	b.says("unknown owner", "Replay")
	before := eval[int](b, "document.querySelectorAll('button[data-post$=replay]').length")
	b.click("button[data-post$=replay]")
	b.until(fmt.Sprintf("document.querySelectorAll('button[data-post$=replay]').length === %d", before-1))

	b.open("/insights/runs")
	b.typeInto("input[name=of]", "openssl\n")
	b.says("pkg:deb/debian/openssl@3.5", "shop-main")

	// A kubeconfig is made and copied.
	_, err := chromedp.CallBrowser(b.ctx, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "clipboard-read"}, Setting: browser.PermissionSettingGranted, Origin: b.server.URL,
	})
	b.check(err)
	b.open("/services")
	b.click("button[data-type=kubernetes]")
	b.typeInto("input[name=holder]", "auditor")
	b.click("[data-make]")
	b.says("kind: Config")
	b.click("[data-copy=made]")
	b.says("Copied.")
	copied := eval[string](b, "navigator.clipboard.readText()")
	for _, want := range []string{`current-context: "east-cluster"`, "client-key-data: LS0tLS1C", `server: "https://services`} {
		if !strings.Contains(copied, want) {
			t.Errorf("the kubeconfig lacks %s: %s", want, copied)
		}
	}

	// A threshold is tried before it is stored.
	b.open("/thresholds/new")
	b.set("select[name=scan]", string(last))
	b.click("[data-try]")
	b.says("It isn't met", "compliance is")
	b.typeInto("textarea", "compliance:\n  min: 1\n")
	b.click("[data-try]")
	b.says("It is met")
	b.typeInto("textarea", "complaince:\n  min: 1\n")
	b.click("[data-try]")
	b.says("line 1")
}

// pictured are the views that documents show, beside those of TestBrowser.
var pictured = []string{"fleet", "fleet-dark", "result", "insights", "history"}

// axe is axe-core, or empty where it isn't there.
var axe = sync.OnceValue(func() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(cache, "reeve-test", "axe-core-4.14.1", "axe.min.js"))
	if err != nil {
		return ""
	}
	return string(text)
})

// rules holds the page against rules of axe-core.
func (b *tab) rules(what, options string) {
	b.t.Helper()
	if axe() == "" {
		b.t.Skip("there is no axe-core; `make deps` fetches it")
	}
	if !eval[bool](b, "'axe' in window") {
		eval[bool](b, axe()+"; true")
	}
	type violation struct {
		ID, Help string
		Nodes    []string
	}
	found := eval[[]violation](b, `axe.run(document, `+options+`).then((r) => r.violations.map((v) => ({ ID: v.id, Help: v.help, Nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 300)) })))`)
	for _, v := range found {
		b.t.Errorf("%s: %s: %s: %q", what, v.ID, v.Help, v.Nodes)
	}
}

// accessible holds the page against WCAG 2.2 AA as far as a program can judge
// that: axe-core's rules in light and in dark, each control reached and left by
// the keyboard and seen to have the focus, and all there in a window of 320
// pixels without scrolling sideways.
func (b *tab) accessible(what string) {
	b.t.Helper()
	b.rules(what, `{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }`)
	b.dark(func() { b.rules(what+" in dark", `{ runOnly: { type: 'rule', values: ['color-contrast'] } }`) })
	b.walk(what)
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 320, Height: 640, DeviceScaleFactor: 1})
	if wide := eval[[]string](b, `document.documentElement.scrollWidth <= 320 ? [] : [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 320).slice(0, 5).map((e) => e.outerHTML.slice(0, 200))`); len(wide) > 0 {
		b.t.Errorf("%s is wider than a small screen: %q", what, wide)
	}
	call(b, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
	b.until("innerWidth > 320")
	b.drawn()
}

// drawn waits until the page is where it says that it is.
func (b *tab) drawn() {
	b.t.Helper()
	eval[bool](b, "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
}

func (b *tab) dark(then func()) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
	then()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
}

// walk goes through the page by the tabulator key, once around or fourscore
// steps far.
func (b *tab) walk(what string) {
	b.t.Helper()
	eval[bool](b, `(() => {
		document.activeElement.blur();
		window.scrollTo(0, 0);
		getSelection().removeAllRanges();
		window.walked = [];
		window.unseen = [];
		document.addEventListener('focusin', ({ target }) => {
			walked.push(target);
			const outlined = (e) => e && getComputedStyle(e).outlineStyle !== 'none';
			if (!outlined(target) && !outlined(target.nextElementSibling)) unseen.push(target.outerHTML.slice(0, 200));
		});
		return true;
	})()`)
	const part, most = 20, 80
	for pressed := 0; ; pressed += part {
		if eval[bool](b, "walked.includes(walked[0], 1) && walked.some((e) => e.matches('.skip'))") {
			break // around
		}
		if pressed == most {
			if seen := eval[int](b, "new Set(walked).size"); seen < most-1 {
				b.t.Errorf("%s: after %d steps by the keyboard only %d places were reached, last %s", what, most, seen, eval[string](b, "walked.at(-1).outerHTML.slice(0, 200)"))
			}
			break
		}
		b.do(chromedp.KeyEvent(strings.Repeat("\t", part)))
	}
	if unseen := eval[[]string](b, "[...new Set(unseen)]"); len(unseen) > 0 {
		b.t.Errorf("%s: nothing shows that these have the focus: %q", what, unseen)
	}
}

// TestBrowser_accessible is each view, by anybody.
func TestBrowser_accessible(t *testing.T) {
	t.Parallel()
	w, last := furnished(t)
	b := openBrowser(t, w)
	b.open("/")
	b.accessible("login")
	b.login(w.store, pki.Admin)
	for name, path := range map[string]string{
		"fleet": "/", "targets": "/targets", "history": "/targets/history?agent=east&namespace=default&pod=web-app&container=web&profile=p&threshold=strict",
		"scans": "/scans?new=1", "result": "/scans/" + string(last), "finding": "/scans/" + string(last) + "/controls/0", "compare": "/scans/" + string(last) + "/compare",
		"policy": "/policies/scans-pass", "insights": "/insights", "runs": "/insights/runs?of=zlib", "new": "/insights/new",
		"diff":       "/insights/diff?from=east/shop-main&to=east/shop-main/nginx",
		"alert-runs": "/alerts/runs", "profiles": "/profiles", "profile": "/profiles/p", "threshold": "/thresholds/strict",
		"services": "/services", "audit": "/audit", "people": "/people", "api": "/docs", "problem": "/nothing",
	} {
		b.open(path)
		if slices.Contains(pictured, name) {
			b.picture(name)
		}
		if slices.Contains(pictured, name+"-dark") {
			b.dark(func() { b.picture(name + "-dark") })
		}
		b.accessible(path)
	}
}

// TestBrowser_badInput: what goes wrong is said, with what to do, and nothing
// that was typed is lost.
func TestBrowser_badInput(t *testing.T) {
	t.Parallel()
	w, _ := furnished(t)
	b := openBrowser(t, w)
	b.login(w.store, pki.Scanner)

	b.open("/scans?new=1")
	b.typeInto("input[name='target.pod']", "half-typed")
	drop := func(text string) {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		eval[bool](b, `(() => {
			const data = new DataTransfer();
			data.items.add(new File([`+string(quoted)+`], 'result.json'));
			document.querySelector('main').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
			return true;
		})()`)
	}
	for text, want := range map[string]string{
		`{"profiles": [`:                  "it is cut off",
		`name,status`:                     "the file isn't JSON: at byte 2",
		`{"apiVersion": "v1"}`:            "Heimdall Data Format",
		`{"version":"1","profiles":[]}`:   "no controls",
		many(t, 3, 0)[:500] + "\x00 rest": "the file isn't JSON",
	} {
		drop(text)
		b.says(want)
	}
	drop(many(t, 3, 0))
	b.says("Linux baseline 1.0.0", "3 shown")
	b.until("!document.querySelector('[data-file] [data-problem]').offsetParent")

	// The hub is of another version, then can't be reached, then doesn't know the
	// login any more.
	typed := func(want string) {
		t.Helper()
		if got := eval[string](b, `document.querySelector("input[name='target.pod']").value`); got != want {
			t.Errorf("what was typed is %q", got)
		}
	}
	newer := http.NewServeMux()
	newer.Handle("/", web.Handler(web.Config{API: w.api, Version: "v2", Logger: slog.New(slog.DiscardHandler)}))
	newer.Handle("/api/", w.api)
	b.handler.Store(handled{newer})
	eval[bool](b, "refresh().then(() => true)")
	b.says("The hub is of another version now. Reload the page")
	typed("half-typed")
	b.handler.Store(handled{w})

	b.down.Store(true)
	b.click("button.main")
	b.says("The hub can't be reached at the moment. Try again; nothing that you typed is lost.")
	typed("half-typed")
	b.down.Store(false)
	call(b, network.ClearBrowserCookies, cdp.Empty{})
	b.click("button.main")
	b.says("Your login has ended. Open a new login link in another tab")
	typed("half-typed")

	// A member that is wrong is named where it was typed.
	b.login(w.store, pki.Scanner)
	b.open("/scans?new=1")
	b.typeInto("input[name='target.pod']", "Not_A_Pod")
	b.click("button.main")
	b.until("document.querySelector('[aria-invalid]') === document.activeElement")

	// So it is with each other form.
	b.login(w.store, pki.Admin)
	for path, form := range map[string]struct{ reveal, field, submit string }{
		"/alerts":         {"Silence…", "form[data-form] [name=comment]", "form[data-form] button.main"},
		"/schedules":      {"Schedule…", "[name=cron]", "form[data-form] button.main"},
		"/policies":       {"Override in a namespace…", "[name=text]", "form[data-form] button.main"},
		"/people":         {"API token…", "[name=expiresIn]", "[open] button.main"},
		"/thresholds/new": {"", "[name=text]", "form[data-form] button.main"},
		"/services":       {"", "[name=holder]", "[data-make]"},
	} {
		b.open(path)
		if form.reveal != "" {
			b.reveal(form.reveal)
		}
		if path == "/services" {
			b.click("button[data-type=kubernetes]")
		}
		for _, name := range []string{"name", "namespace"} {
			eval[bool](b, fmt.Sprintf("document.querySelectorAll('[name=%s]').forEach((e) => e.value = 'half') || true", name))
		}
		b.set(form.field, "half-typed")
		b.handler.Store(handled{newer})
		eval[bool](b, "refresh().then(() => true)")
		b.says("The hub is of another version now. Reload the page")
		b.handler.Store(handled{w})
		for _, step := range []struct {
			wrong func()
			says  string
		}{
			{func() { b.down.Store(true) }, "The hub can't be reached at the moment. Try again"},
			{func() { b.down.Store(false); call(b, network.ClearBrowserCookies, cdp.Empty{}) }, "Your login has ended. Open a new login link in another tab"},
		} {
			step.wrong()
			b.click(form.submit)
			b.says(step.says)
			if got := eval[string](b, fmt.Sprintf("document.querySelector(%q).value", form.field)); got != "half-typed" {
				t.Errorf("%s: what was typed is %q", path, got)
			}
		}
		b.login(w.store, pki.Admin)
	}

	// The connection is lost while a scan runs, and comes back.
	s := w.create(t, "")
	job := w.lease(t)
	b.open("/scans/" + string(s.ID))
	b.says("running")
	b.down.Store(true)
	b.server.CloseClientConnections()
	b.says("The hub can't be reached at the moment. It is tried again; the scan goes on without this page.")
	b.down.Store(false)
	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(results(t))); err != nil {
		t.Fatal(err)
	}
	b.says("completed", "2 shown")
	b.until("document.getElementById('notice').hidden")
}

// TestBrowser_clicks: what is pressed is what was pointed at, wherever the page
// was scrolled to, and while the view is fetched anew.
func TestBrowser_clicks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, east())
	s := w.create(t, "")
	w.completeWith(t, many(t, 300, 0))
	w.deadLetter(t)
	b := openBrowser(t, w)
	b.login(w.store, pki.Admin)
	mouse := func(event input.DispatchMouseEventType, at []float64) {
		t.Helper()
		call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: event, X: at[0], Y: at[1], Button: "left", ClickCount: 1})
	}
	middle := func(selector string) []float64 {
		t.Helper()
		return eval[[]float64](b, fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.scrollIntoView({ block: 'center' }); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, selector))
	}
	b.open("/scans/" + string(s.ID))
	for n := 0; n < 300; n += 29 {
		row := fmt.Sprintf("#c%d", n)
		at := middle(row + " > summary")
		mouse("mousePressed", at)
		mouse("mouseReleased", at)
		if !eval[bool](b, fmt.Sprintf("document.querySelector(%q).open", row)) {
			t.Errorf("a click on control %d wasn't heard", n)
		}
		b.until(fmt.Sprintf("!document.querySelector('%s > .body')", row)) // it grows, once
	}

	// A silence comes while a button is down: the list is drawn anew after it.
	b.open("/alerts")
	eval[bool](b, "(document.querySelector('#list a').focus(), window.link = document.activeElement, true)")
	before := eval[int](b, "document.querySelectorAll('[data-post$=replay]').length")
	b.drawn()
	at := middle("[data-post$=pause]")
	mouse("mousePressed", at)
	silence := alert.Silence{ID: "s", Comment: "while it is pressed", CreatedBy: "x", Created: time.Now(), Until: time.Now().Add(time.Hour)}
	if err := w.store.AddSilence(t.Context(), silence); err != nil {
		t.Fatal(err)
	}
	eval[bool](b, "(window.refreshed = refresh(), true)")
	b.until("performance.getEntriesByType('resource').some((e) => e.name === location.href && e.responseEnd)")
	mouse("mouseReleased", at)
	b.says("paused", "while it is pressed")
	eval[bool](b, "refreshed.then(() => true)")
	if !eval[bool](b, "link.isConnected") {
		t.Error("a link that is still there was made anew")
	}
	if d := cmp.Diff(before, eval[int](b, "document.querySelectorAll('[data-post$=replay]').length")); d != "" {
		t.Error(d)
	}

	// Of what the browser's own menu swallows the page hears no end.
	call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: "mousePressed", X: at[0], Y: at[1], Button: "right", ClickCount: 1})
	silence.ID, silence.Comment = "t", "behind a menu"
	if err := w.store.AddSilence(t.Context(), silence); err != nil {
		t.Fatal(err)
	}
	eval[bool](b, "refresh().then(() => true)")
	b.says("behind a menu")
}

// TestBrowser_print: a result that is printed has all of each control.
func TestBrowser_print(t *testing.T) {
	t.Parallel()
	w, last := furnished(t)
	b := openBrowser(t, w)
	b.login(w.store, pki.Viewer)
	b.open("/scans/" + string(last) + "?full=1")
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	shown := eval[string](b, "document.body.innerText")
	for _, want := range []string{"Controls", "0644 (/etc/app/23.conf)", "chmod 0600 the file", "replaced in March"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q isn't printed", want)
		}
	}
	for _, not := range []string{"Log out", "Compare", "Policies", "shown"} {
		if strings.Contains(shown, not) {
			t.Errorf("%q is printed", not)
		}
	}
	pdf, err := chromedp.Run(b.ctx, chromedp.PrintToPDF())
	b.check(err)
	if pages := bytes.Count(pdf, []byte("/Type /Page\n")) + bytes.Count(pdf, []byte("/Type /Page ")); pages < 5 {
		t.Errorf("60 controls are on %d pages", pages)
	}
}

// TestBrowser_large is a result of 2,000 controls. Its figures are printed,
// since they are this machine's; what is asserted is the page's size.
func TestBrowser_large(t *testing.T) {
	w := newWorld(t, east())
	s := w.create(t, "")
	w.completeWith(t, many(t, 2000, 0))
	b := openBrowser(t, w)
	b.login(w.store, pki.Viewer)
	const paint = `new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()[0].startTime)).observe({ type: 'paint', buffered: true }))`
	var first []float64
	for range 7 {
		b.open("/scans/" + string(s.ID))
		first = append(first, eval[float64](b, paint))
	}
	size := eval[int](b, `[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].reduce((n, e) => n + e.encodedBodySize, 0)`)
	keys := eval[[]float64](b, `(async () => {
		const field = document.querySelector('input[name=q]');
		const took = [];
		for (const text of ['a', 'ap', 'app', 'app/', 'app/1', 'app/19', 'app/199', 'app/1999', 'app/199', 'app', '']) {
			const began = performance.now();
			field.value = text;
			field.dispatchEvent(new Event('input', { bubbles: true }));
			await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)));
			took.push(performance.now() - began);
		}
		return took;
	})()`)
	b.typeInto("input[name=q]", "app/1999.conf")
	b.until("document.getElementById('shown').textContent === '1'")
	t.Logf("first paint %.0f ms, keys %.0f ms, whole page %d KB compressed", first, keys, size>>10)
	if size == 0 || size > 250<<10 {
		t.Errorf("the page has %d bytes", size)
	}
	if d := cmp.Diff(2000, eval[int](b, "document.querySelectorAll('.control').length")); d != "" {
		t.Error(d)
	}
}
