package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	scanlink "reeve.dev/reeve/scan/link"
)

const (
	queueAgents = 500
	queueBurst  = 1000
	queueRate   = 100 // a second
	// queueScan is how long a scan takes: as a container's with a few hundred
	// controls does.
	queueScan = 200 * time.Millisecond
)

// queueing asks a hub, which is a process of its own with SQLite, for many
// scans: 1,000 at once while the agents are away, and again while they are at
// work, and then 100 a second. The agents are in this process;
// in the place of the engine they have one result, which they send each time.
func queueing(ctx context.Context, opt options, report *Report) error {
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
	defer func() { h.kill() }()
	load, err := newLoad(ctx, dir, h.url, ca)
	if err != nil {
		return err
	}
	agents := newFleet(ca, options{agents: queueAgents, links: 1})
	agents.job = load.run
	if err := agents.identities(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer agents.running.Wait()
	defer stop()
	// The agents join, and go away: what is asked for then waits.
	joined, leave := context.WithCancel(ctx)
	agents.start(joined, h.url)
	_, err = agents.all(ctx, time.Now(), time.Minute)
	leave()
	agents.running.Wait()
	if err != nil {
		return err
	}
	burst := func(what string, bar float64) error {
		before, err := h.cpu()
		if err != nil {
			return err
		}
		began := time.Now()
		var asking sync.WaitGroup
		for range queueBurst {
			asking.Go(func() { load.ask(ctx, time.Now()) })
		}
		asking.Wait()
		took := time.Since(began)
		after, err := h.cpu()
		if err != nil {
			return err
		}
		row := Row{Name: fmt.Sprintf("%d scans asked for at once, %s: all queued after", queueBurst, what), Value: took.Seconds(), Unit: "s"}
		if bar > 0 {
			row.Peer, row.PeerValue, row.Bar = "bar", bar, 1
		}
		report.Add(row, Row{Name: "… hub's CPU until then", Value: (after - before).Seconds(), Unit: "s"})
		return nil
	}
	time.Sleep(2 * time.Second) // that they leave takes the hub a while
	if err := burst("agents away", 1); err != nil {
		return err
	}
	began := time.Now()
	agents.start(ctx, h.url)
	if err := load.finish(ctx, queueBurst); err != nil {
		return err
	}
	report.Add(Row{Name: fmt.Sprintf("… done by %d agents that come back, none lost and none twice, after", queueAgents), Value: time.Since(began).Seconds(), Unit: "s"})
	if err := burst("agents at work", 0); err != nil {
		return err
	}
	if err := load.finish(ctx, 2*queueBurst); err != nil {
		return err
	}

	few, err := resident(h.cmd.Process.Pid)
	if err != nil {
		return err
	}
	before, err := h.cpu()
	if err != nil {
		return err
	}
	load.latencies = nil
	var asking sync.WaitGroup
	began = time.Now()
	for n := range opt.scans - 2*queueBurst {
		// Each has its time, whether or not those before it are answered.
		due := began.Add(time.Duration(n) * time.Second / queueRate)
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		asking.Go(func() { load.ask(ctx, due) })
	}
	asking.Wait()
	took := time.Since(began)
	if err := load.finish(ctx, opt.scans); err != nil {
		return err
	}
	many, err := resident(h.cmd.Process.Pid)
	if err != nil {
		return err
	}
	after, err := h.cpu()
	if err != nil {
		return err
	}
	slices.Sort(load.latencies)
	at := func(p float64) float64 {
		return float64(load.latencies[int(p*float64(len(load.latencies)-1))].Microseconds()) / 1000
	}
	report.Add(
		Row{Name: fmt.Sprintf("%d agents: scans", queueAgents), Value: float64(len(load.latencies)) / took.Seconds(), Unit: "/s", Peer: "asked", PeerValue: queueRate, Bar: 0.99, More: true},
		Row{Name: "POST /scans, half are answered within", Value: at(0.5), Unit: "ms"},
		Row{Name: "POST /scans, 99 of 100", Value: at(0.99), Unit: "ms", Peer: "bar", PeerValue: 50, Bar: 1},
		Row{Name: "hub's CPU for each scan", Value: 1000 * (after - before).Seconds() / float64(len(load.latencies)), Unit: "ms"},
		Row{Name: fmt.Sprintf("hub's memory after %d scans", opt.scans), Value: many, Unit: "MiB", Peer: fmt.Sprintf("after %d", 2*queueBurst), PeerValue: few, Bar: 1.25},
	)
	return nil
}

// load asks for scans and counts what becomes of them.
type load struct {
	url    string
	client *http.Client
	result []byte // packed

	mu        sync.Mutex
	latencies []time.Duration // guarded by mu
	asked     map[scan.ID]int // guarded by mu; how often each was done
	next      int             // guarded by mu
	err       error           // guarded by mu; the first
}

func newLoad(ctx context.Context, dir, url string, ca *pki.CA) (*load, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca", "control.pem"), filepath.Join(dir, "ca", "control-key.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertPEM())
	root, err := smallRoot(dir)
	if err != nil {
		return nil, err
	}
	results, err := engineAlone(ctx, root)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if err := errors.Join(json.NewEncoder(w).Encode(results), w.Close()); err != nil {
		return nil, err
	}
	l := &load{
		url: url, result: packed.Bytes(), asked: map[scan.ID]int{},
		client: &http.Client{Transport: &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}},
		}},
	}
	// Its one connection: 1,000 requests without one would make 1,000.
	var page struct{}
	return l, l.call(ctx, http.MethodGet, "/scans?limit=1", "", &page)
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// ask asks for a scan that was due at a time.
func (l *load) ask(ctx context.Context, due time.Time) {
	l.mu.Lock()
	n := l.next
	l.next++
	l.mu.Unlock()
	body := fmt.Sprintf(`{"target":{"agent":%q,"namespace":"shop","pod":"web-%d","container":"app"},"scan":{"profile":%q,"threshold":"moderate"}}`, agentName(n%queueAgents), n, benchProfile)
	var made struct{ ID scan.ID }
	if err := l.call(ctx, http.MethodPost, "/scans", body, &made); err != nil {
		l.failed(err)
		return
	}
	took := time.Since(due)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latencies = append(l.latencies, took)
	l.asked[made.ID] += 0
}

func (l *load) call(ctx context.Context, method, path, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, l.url+"/api/v1"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	return json.Unmarshal(data, into)
}

// run is an agent that does a scan.
func (l *load) run(ctx context.Context, hub *scanlink.Client, j *scan.Job) {
	err := hub.Progress(ctx, j.ID, j.Attempt, scan.Progress{Done: 1, Total: 2, Control: "one"})
	select {
	case <-time.After(queueScan):
	case <-ctx.Done():
		return
	}
	if err == nil {
		err = hub.SendResults(ctx, j.ID, j.Attempt, bytes.NewReader(l.result))
	}
	if err != nil && ctx.Err() == nil {
		l.failed(err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[j.ID]++
}

// finish waits until all that was asked for is done, and holds the hub's list
// against it.
func (l *load) finish(ctx context.Context, want int) error {
	began := time.Now()
	for {
		l.mu.Lock()
		err, done := l.err, 0
		for _, n := range l.asked {
			done += min(n, 1)
			if n > 1 {
				err = fmt.Errorf("a scan was made %d times", n)
			}
		}
		l.mu.Unlock()
		if err != nil {
			return err
		}
		if done == want {
			break
		}
		if time.Since(began) > time.Minute {
			return fmt.Errorf("%d of %d scans are done after a minute", done, want)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	kept := map[scan.ID]bool{}
	for before := ""; ; {
		var p struct {
			Items []struct {
				ID      scan.ID
				Status  scan.Status
				Attempt int
			}
			Next string
		}
		if err := l.call(ctx, http.MethodGet, "/scans?limit=500&before="+url.QueryEscape(before), "", &p); err != nil {
			return err
		}
		for _, s := range p.Items {
			if _, ok := l.asked[s.ID]; !ok || s.Status != scan.Completed || s.Attempt != 1 || kept[s.ID] {
				return fmt.Errorf("scan %s: %s, attempt %d", s.ID, s.Status, s.Attempt)
			}
			kept[s.ID] = true
		}
		if before = p.Next; before == "" {
			break
		}
	}
	if len(kept) != want {
		return fmt.Errorf("the hub has %d scans of %d", len(kept), want)
	}
	return nil
}
