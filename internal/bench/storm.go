package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store/sqlite"
)

const (
	stormEvents = 10_000
	// stormLinks are the connections that they come by.
	stormLinks = 20

	historyScans   = 200_000
	historyTargets = 20_000
)

// storm sends a hub, which is a process of its own with SQLite, as many events as
// one can, each in a request of its own; those that it takes must be kept, each
// once.
func storm(ctx context.Context, _ options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := pki.Init(filepath.Join(dir, "ca"), "bench")
	if err != nil {
		return err
	}
	h, err := startHub(ctx, dir, 0)
	if err != nil {
		return err
	}
	defer h.kill()
	var senders []*load
	for range stormLinks {
		l, err := newCaller(ctx, dir, h.url, ca)
		if err != nil {
			return err
		}
		senders = append(senders, l)
	}
	quiet, err := resident(h.cmd.Process.Pid)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	taken, refused := map[string]bool{}, 0
	var most float64
	var all sync.WaitGroup
	began := time.Now()
	for i := range stormEvents {
		all.Go(func() {
			id := fmt.Sprint("e", i)
			err := senders[i%stormLinks].call(ctx, http.MethodPost, "/events", fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"//bench","type":"container.deployed",
				"data":{"agent":"edge","namespace":"shop","pod":"web-%d","container":"app","image":"r.example/web:1","imageDigest":"sha256:%064x"}}`, id, i, i), &struct{}{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				taken[id] = true
			case strings.Contains(err.Error(), "429") || strings.Contains(err.Error(), "503"):
				refused++
			default:
				senders[0].failed(err)
			}
			if i%1000 == 0 {
				if now, err := resident(h.cmd.Process.Pid); err == nil {
					most = max(most, now)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	if senders[0].err != nil {
		return senders[0].err
	}
	kept := map[string]bool{}
	for before := ""; ; {
		var p struct {
			Items []struct{ Name string }
			Next  string
		}
		if err := senders[0].call(ctx, http.MethodGet, "/events?source=//bench&limit=500&before="+url.QueryEscape(before), "", &p); err != nil {
			return err
		}
		for _, e := range p.Items {
			if kept[e.Name] {
				return fmt.Errorf("event %s is there twice", e.Name)
			}
			kept[e.Name] = true
		}
		if before = p.Next; before == "" {
			break
		}
	}
	for id := range taken {
		if !kept[id] {
			return fmt.Errorf("event %s was taken and is lost", id)
		}
	}
	if len(taken)+refused != stormEvents || len(kept) != len(taken) {
		return fmt.Errorf("of %d events %d were taken and %d refused; %d are kept", stormEvents, len(taken), refused, len(kept))
	}
	report.Add(
		Row{Name: fmt.Sprintf("%d events at once, each by itself: all answered after", stormEvents), Value: took.Seconds(), Unit: "s"},
		Row{Name: "… taken and kept, none lost and none twice", Value: float64(len(taken)), Unit: ""},
		Row{Name: "… refused, to come again", Value: float64(refused), Unit: ""},
		Row{Name: "… hub's memory at most", Value: most, Unit: "MiB", Peer: "before", PeerValue: quiet},
	)
	return nil
}

// newCaller is a load that has nothing to hand in.
func newCaller(ctx context.Context, dir, url string, ca *pki.CA) (*load, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca", "control.pem"), filepath.Join(dir, "ca", "control-key.pem"))
	if err != nil {
		return nil, err
	}
	l := &load{url: url, client: &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}},
	}}}
	return l, l.call(ctx, http.MethodGet, "/scans?limit=1", "", &struct{}{})
}

// history asks a hub with many scans how the targets stand.
func history(ctx context.Context, opt options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := pki.Init(filepath.Join(dir, "ca"), "bench")
	if err != nil {
		return err
	}
	if err := scanned(ctx, filepath.Join(dir, "hub")); err != nil {
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
	for _, q := range []struct{ name, path string }{
		{"GET /targets", "/targets"},
		{"… of one agent", "/targets?agent=edge-7"},
		{"… that failed", "/targets?outcome=failed"},
		{"GET /posture", "/posture"},
		{"… by agents", "/posture?by=agent"},
		{"GET /targets/history", "/targets/history?agent=edge-7&namespace=shop&pod=web-7&container=app"},
	} {
		var times []float64
		for range max(opt.rounds, 7) {
			began := time.Now()
			if err := l.call(ctx, http.MethodGet, q.path, "", &struct{}{}); err != nil {
				return err
			}
			times = append(times, ms(time.Since(began)))
		}
		report.Add(Row{Name: fmt.Sprintf("%s, with %d scans of %d targets", q.name, historyScans, historyTargets), Value: slices.Min(times), Unit: "ms", Peer: "bar", PeerValue: 50, Bar: 1})
	}
	return nil
}

// scanned fills a hub's database.
func scanned(ctx context.Context, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	db, err := sqlite.Open(ctx, filepath.Join(dir, "reeve.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	now := time.Now().UTC().Truncate(time.Microsecond)
	var all sync.WaitGroup
	errs := make(chan error, 64)
	for worker := range cap(errs) {
		all.Go(func() {
			for i := worker; i < historyScans; i += cap(errs) {
				n := i % historyTargets
				c := scan.Scan{
					ID: scan.NewID(), Status: scan.Queued, Created: now, Expires: now.Add(time.Hour), ProfileDigest: "sha256:profile",
					Request: scan.Request{
						Target:  scan.Target{Agent: fleet.AgentName(fmt.Sprint("edge-", n%100)), Namespace: "shop", Pod: fmt.Sprint("web-", n), Container: "app"},
						Profile: benchProfile, Timeout: time.Minute, RequestedBy: "bench",
					},
				}
				outcome := []scan.Outcome{scan.Passed, scan.Passed, scan.Failed}[i%3]
				err := db.CreateScan(ctx, c)
				if err == nil {
					err = db.FinishScan(ctx, scan.Finish{ID: c.ID, Status: scan.Completed, Verdict: scan.Verdict{Outcome: outcome, Counts: hdf.Counts{Passed: 90, Failed: 10}}}, now.AddDate(0, 0, i*30/historyScans-29))
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}
