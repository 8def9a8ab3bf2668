package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/tunnel"
)

const (
	smallBody = 1 << 10
	largeBody = 16 << 20
	hugeBody  = 10 << 30
)

// way is a path that requests take: client, two proxies and the service are
// in this process, with TLS on each hop.
type way struct {
	name    string
	carrier tunnel.Carrier // empty: none
	url     string
	client  *http.Client
	close   func()
}

// figures are what is measured of a way.
type figures struct {
	p50, p99 float64 // µs, 1 KiB, one client
	rate     float64 // requests per second, 1 KiB, 32 clients
	cost     float64 // µs of CPU per request, in the same measurement
	speed    float64 // MB/s, 8 × 16 MiB at once
	cpu      float64 // ns of CPU per KiB, in the same measurement
}

// forwarding holds a request through hub and agent against the floor of any
// tunnel: the same through two httputil.ReverseProxy in a row, which need no
// tunnel because they can reach each other.
func forwarding(ctx context.Context, opt options, report *Report) error {
	service := httptest.NewTLSServer(http.HandlerFunc(serveBody))
	defer service.Close()
	floor := twoProxies(service)
	defer floor.close()
	ways := []way{floor}
	for _, c := range tunnel.DefaultCarriers {
		w, err := throughLink(service, c)
		if err != nil {
			return err
		}
		defer w.close()
		ways = append(ways, w)
	}
	// In turns, so that a machine that changes its speed changes all alike.
	all := make([][]figures, len(ways))
	for range opt.rounds {
		for i, w := range ways {
			f, err := measure(ctx, w, opt.each)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			all[i] = append(all[i], f)
		}
	}
	base := middle(all[0])
	for i, w := range ways[1:] {
		f := middle(all[i+1])
		add := func(name, unit string, value, peer, bar float64, more bool) {
			report.Add(Row{Name: w.name + ": " + name, Value: value, Unit: unit, Peer: floor.name, PeerValue: peer, Bar: bar, More: more})
		}
		speed := 0.85
		if w.carrier == tunnel.WebSocket {
			speed = 0.8 // a frame more, and a mask
		}
		add("1 KiB p50, 1 client", "µs", f.p50, base.p50, 1.15, false)
		add("1 KiB p99, 1 client", "µs", f.p99, base.p99, 0, false)
		add("1 KiB, 32 clients", "requests/s", f.rate, base.rate, 0.9, true)
		add("1 KiB, CPU", "µs/request", f.cost, base.cost, 0, false)
		add("8 × 16 MiB", "MB/s", f.speed, base.speed, speed, true)
		add("8 × 16 MiB, CPU", "ns/KiB", f.cpu, base.cpu, 1.25, false)
	}
	return nil
}

func serveBody(w http.ResponseWriter, r *http.Request) {
	n := smallBody
	switch r.URL.Path {
	case "/large":
		n = largeBody
	case "/huge":
		n = hugeBody
	case "/upload":
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(n))
	for n > 0 {
		k, err := w.Write(zeros[:min(n, len(zeros))])
		if err != nil {
			return
		}
		n -= k
	}
}

var zeros [64 << 10]byte

func twoProxies(service *httptest.Server) way {
	far := proxyTo(service)
	near := proxyTo(far)
	client := near.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	client.Transport.(*http.Transport).DisableCompression = true
	return way{"two ReverseProxy in a row", "", near.URL, client, func() {
		near.Close()
		far.Close()
	}}
}

// proxyTo is a ReverseProxy as one would set it up by hand for speed.
func proxyTo(next *httptest.Server) *httptest.Server {
	to, err := url.Parse(next.URL)
	if err != nil {
		panic(err) // httptest's own
	}
	return httptest.NewTLSServer(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(to) },
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: next.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs},
			MaxIdleConnsPerHost: 128,
			DisableCompression:  true,
		},
		BufferPool: &bufferPool{},
	})
}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return p[:]
	}
	return make([]byte, 32<<10)
}
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

func throughLink(service *httptest.Server, carrier tunnel.Carrier) (way, error) {
	dir, err := os.MkdirTemp("", "reeve-bench")
	if err != nil {
		return way{}, err
	}
	defer os.RemoveAll(dir)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600); err != nil {
		return way{}, err
	}
	rig, err := forwardtest.Start(forwardtest.Options{
		Carrier:   carrier,
		Upstreams: []forward.Upstream{{Type: "x-web", Name: "main", URL: service.URL, CAFile: ca}},
	})
	if err != nil {
		return way{}, err
	}
	client, err := rig.Client(pki.Identity{Purpose: pki.Service, Agent: forwardtest.AgentName, Type: "x-web", Name: "main"})
	if err != nil {
		rig.Close()
		return way{}, err
	}
	return way{"link by " + string(carrier), carrier, rig.URL, client, func() {
		client.CloseIdleConnections()
		rig.Close()
	}}, nil
}

// measure takes three measurements of about the given length.
func measure(ctx context.Context, w way, each time.Duration) (f figures, err error) {
	if _, err = w.load(ctx, 32, "/small", each/10); err != nil { // warm
		return f, err
	}
	one, err := w.load(ctx, 1, "/small", each)
	if err != nil {
		return f, err
	}
	slices.Sort(one.took)
	f.p50 = float64(one.took[len(one.took)/2]) / 1e3
	f.p99 = float64(one.took[len(one.took)*99/100]) / 1e3
	many, err := w.load(ctx, 32, "/small", each)
	if err != nil {
		return f, err
	}
	f.rate = float64(len(many.took)) / many.time.Seconds()
	f.cost = float64(many.cpu) / 1e3 / float64(len(many.took))
	large, err := w.load(ctx, 8, "/large", each)
	if err != nil {
		return f, err
	}
	bytes := float64(len(large.took)) * largeBody
	f.speed = bytes / 1e6 / large.time.Seconds()
	f.cpu = float64(large.cpu) / (bytes / 1024)
	return f, nil
}

type loaded struct {
	took      []time.Duration // of each request
	time, cpu time.Duration
}

// load has clients ask for path until the time is over, and lets each finish
// its last request.
func (w way) load(ctx context.Context, clients int, path string, length time.Duration) (loaded, error) {
	runtime.GC()
	var l loaded
	var mu sync.Mutex // guards l.took
	var failed atomic.Pointer[error]
	cpu, began := cpuTime(), time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			var took []time.Duration
			buf := make([]byte, 64<<10)
			for time.Since(began) < length || len(took) == 0 {
				at := time.Now()
				if err := w.get(ctx, path, buf); err != nil {
					failed.Store(&err)
					return
				}
				took = append(took, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			l.took = append(l.took, took...)
		})
	}
	wg.Wait()
	l.time, l.cpu = time.Since(began), cpuTime()-cpu
	if err := failed.Load(); err != nil {
		return l, *err
	}
	return l, nil
}

func (w way) get(ctx context.Context, path string, buf []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || n != resp.ContentLength {
		return fmt.Errorf("answer %s with %d bytes of %d", resp.Status, n, resp.ContentLength)
	}
	return nil
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// middle takes the median of each figure.
func middle(all []figures) figures {
	of := func(get func(figures) float64) float64 {
		v := make([]float64, len(all))
		for i, f := range all {
			v[i] = get(f)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return figures{
		p50:   of(func(f figures) float64 { return f.p50 }),
		p99:   of(func(f figures) float64 { return f.p99 }),
		rate:  of(func(f figures) float64 { return f.rate }),
		cost:  of(func(f figures) float64 { return f.cost }),
		speed: of(func(f figures) float64 { return f.speed }),
		cpu:   of(func(f figures) float64 { return f.cpu }),
	}
}
