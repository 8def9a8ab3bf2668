package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/internal/chromium"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store/sqlite"
)

const (
	pageControls = 2000
	// The bars of a result of so many controls.
	pagePaint = 300 // ms
	pageKey   = 50  // ms
	pageSize  = 250 // KB
)

// paging opens a large result in Chromium, as somebody who was let in would, and
// types into its filter. Of each figure the least of some rounds counts, since
// browsers do other things, too; of the keys the slowest is told.
func paging(ctx context.Context, opt options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := pki.Init(filepath.Join(dir, "ca"), "bench")
	if err != nil {
		return err
	}
	id, err := largeResult(ctx, filepath.Join(dir, "hub"))
	if err != nil {
		return err
	}
	h, err := startHub(ctx, dir, 0)
	if err != nil {
		return err
	}
	defer h.kill()
	l, err := newCaller(ctx, dir, h.url, ca)
	if err != nil {
		return err
	}
	var link struct{ URL string }
	if err := l.call(ctx, http.MethodPost, "/login-links", `{"name":"bench","role":"viewer"}`, &link); err != nil {
		return err
	}
	origin, _, _ := strings.Cut(link.URL, "/login") // the session is of its host

	browser := filepath.Join(dir, "browser")
	if err := os.Mkdir(browser, 0o700); err != nil {
		return err
	}
	ctx, stop, err := chromium.Open(ctx, browser)
	if errors.Is(err, chromium.ErrNone) {
		fmt.Fprintf(os.Stderr, "the page isn't measured: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer stop()
	if err := chromedp.Do(ctx, chromedp.Navigate(link.URL), chromedp.Click(chromedp.CSS("button"))); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := chromium.Until(ctx, `document.querySelector('nav[aria-label=Views]')`); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	var paints, slowest []float64
	var keys [][]float64
	size := 0
	for range max(opt.rounds, 7) {
		if err := chromedp.Do(ctx, chromedp.Navigate(origin+"/scans/"+string(id))); err != nil {
			return err
		}
		paint, err := chromedp.Run(ctx, chromedp.Evaluate[float64](firstPaint, chromedp.EvalAwaitPromise))
		if err != nil {
			return err
		}
		paints = append(paints, paint)
		took, err := chromedp.Run(ctx, chromedp.Evaluate[[]float64](typing, chromedp.EvalAwaitPromise))
		if err != nil {
			return err
		}
		keys = append(keys, took)
		if size == 0 { // the assets come with the first
			if size, err = chromedp.Run(ctx, chromedp.Evaluate[int](wholePage)); err != nil {
				return err
			}
		}
	}
	for k := range keys[0] {
		one := make([]float64, len(keys))
		for i := range keys {
			one[i] = keys[i][k]
		}
		slowest = append(slowest, slices.Min(one))
	}
	name := fmt.Sprintf("a result of %d controls in Chromium", pageControls)
	report.Add(
		Row{Name: name + ": first paint", Value: slices.Min(paints), Unit: "ms", Peer: "bar", PeerValue: pagePaint, Bar: 1},
		Row{Name: "… a key in its filter, the slowest", Value: slices.Max(slowest), Unit: "ms", Peer: "bar", PeerValue: pageKey, Bar: 1},
		Row{Name: "… the whole page, compressed", Value: float64(size) / 1000, Unit: "KB", Peer: "bar", PeerValue: pageSize, Bar: 1},
	)
	return nil
}

// What is measured in the page.
const (
	firstPaint = `new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()[0].startTime)).observe({ type: 'paint', buffered: true }))`
	wholePage  = `[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].reduce((n, e) => n + e.encodedBodySize, 0)`
	typing     = `(async () => {
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
	})()`
)

// largeResult puts a completed scan into a hub's database.
func largeResult(ctx context.Context, dir string) (id scan.ID, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	db, err := sqlite.Open(ctx, filepath.Join(dir, "reeve.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	controls := make([]map[string]any, pageControls)
	families := []string{"AC-2 (1)", "AC-6 (9)", "AU-12 c", "CM-6 b", "CM-7 a", "IA-5 (1) (a)", "SC-8", "SC-13", "SI-2 c"}
	for i := range controls {
		status := []string{"passed", "passed", "passed", "failed", "passed", "skipped", "passed"}[i%7]
		controls[i] = map[string]any{
			"id": fmt.Sprintf("SV-%06d", 257000+i), "title": fmt.Sprintf("The file of application %d must have the mode that its owner gave it", i), "impact": []float64{0.3, 0.5, 0.5, 0.7, 0.9}[i%5],
			"desc":         strings.Repeat("Remote access without a session limit lets one account take what others need. ", 6),
			"descriptions": []map[string]string{{"label": "check", "data": "Look at the file and its mode."}, {"label": "fix", "data": "chmod 0600 the file, then restart the service."}},
			"tags":         map[string]any{"nist": []string{families[i%len(families)]}, "cci": []string{"CCI-000366"}}, "refs": []any{}, "code": "control 'x' do\nend",
			"results": []map[string]any{{"status": status, "code_desc": fmt.Sprintf("File /etc/app/%d.conf mode is expected to cmp == \"0600\"", i), "run_time": 0.001, "start_time": "2026-11-20T10:00:00Z"}},
		}
	}
	text, err := json.Marshal(map[string]any{
		"platform": map[string]string{"name": "debian", "release": "12"}, "version": "6", "statistics": map[string]any{},
		"profiles": []map[string]any{{"name": "p", "title": "Linux baseline", "version": "1.0.0", "sha256": "", "supports": []any{}, "attributes": []any{}, "groups": []any{}, "controls": controls}},
	})
	if err != nil {
		return "", err
	}
	digest, size, err := db.PutDocument(bytes.NewReader(text), scan.MaxResults)
	if err != nil {
		return "", err
	}
	now := time.Now()
	s := scan.Scan{
		ID: scan.NewID(), Status: scan.Queued, Created: now, Expires: now.Add(time.Hour), ProfileDigest: "sha256:profile",
		Request: scan.Request{Target: scan.Target{Agent: "east", Namespace: "shop", Pod: "web", Container: "app"}, Profile: benchProfile, Timeout: time.Minute, RequestedBy: "bench"},
	}
	if err := db.CreateScan(ctx, s); err != nil {
		return "", err
	}
	return s.ID, db.FinishScan(ctx, scan.Finish{
		ID: s.ID, Status: scan.Completed, ResultDigest: digest, ResultSize: size,
		Verdict: scan.Verdict{Outcome: scan.Failed, Counts: hdf.Counts{Passed: 1428, Failed: 286, Skipped: 286}},
	}, now)
}
