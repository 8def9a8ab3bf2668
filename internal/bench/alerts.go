package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store/sqlite"
)

const (
	alertKeys  = 1000
	alertsEach = 20
)

// alerts delivers alerts of many keys from SQLite to an AlertSink on loopback,
// over TLS and signed: alone, and beside a sink that never answers.
func alerts(ctx context.Context, opt options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := pki.Init(filepath.Join(dir, "ca"), "bench")
	if err != nil {
		return err
	}
	tls := credential.TLS{CAFile: filepath.Join(dir, "ca", "ca.pem")}
	var rates, beside, cpu []float64
	for n := range opt.rounds {
		for _, dead := range []bool{false, true} {
			began := cpuTime()
			took, err := deliverAll(ctx, filepath.Join(dir, fmt.Sprintf("%d-%v.db", n, dead)), ca, tls, dead)
			if err != nil {
				return err
			}
			rate := alertKeys * alertsEach / took.Seconds()
			if dead {
				beside = append(beside, rate)
				continue
			}
			rates = append(rates, rate)
			cpu = append(cpu, (cpuTime()-began).Seconds()*1e6/(alertKeys*alertsEach))
		}
	}
	for _, all := range [][]float64{rates, beside, cpu} {
		slices.Sort(all)
	}
	half := len(rates) / 2
	report.Add(
		Row{Name: fmt.Sprintf("alerts delivered, signed, from SQLite to a gRPC sink, over %d keys", alertKeys), Value: rates[half], Unit: "/s", Peer: "bar", PeerValue: 3000, Bar: 1, More: true},
		Row{Name: "… CPU of each, with enqueueing and the sink's", Value: cpu[half], Unit: "µs"},
		Row{Name: "… beside a sink that never answers", Value: beside[half], Unit: "/s", Peer: "alone", PeerValue: rates[half], Bar: 0.8, More: true},
	)
	return nil
}

// deliverAll is how long it takes until a healthy sink has all alerts.
func deliverAll(ctx context.Context, path string, ca *pki.CA, tls credential.TLS, dead bool) (time.Duration, error) {
	quiet := slog.New(slog.DiscardHandler)
	s, err := sqlite.Open(ctx, path, quiet)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	ring, err := sign.Open(ctx, s, ca, quiet)
	if err != nil {
		return 0, err
	}
	names := []string{"healthy"}
	if dead {
		names = append(names, "dead")
	}
	for run := range alertsEach {
		e := alert.Emit{Run: fmt.Sprint(run), Source: "bench", Done: true}
		for key := range alertKeys {
			e.Emissions = append(e.Emissions, alert.Emission{Sinks: names, Outcome: fleet.Outcome{
				Subject: fleet.Subject{Owner: "edge/shop", Repo: fmt.Sprint("web-", key)}, Policy: "container-baseline/moderate", Run: e.Run,
				Details: "container-baseline failed: of 40 controls 37 passed, 3 failed, 0 were skipped and 0 could not be judged.", At: time.Now(),
			}})
		}
		if err := s.Emit(ctx, e); err != nil {
			return 0, err
		}
	}

	conf, err := ca.ServerTLS(nil)
	if err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	all := make(chan struct{})
	var got atomic.Int64
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)))
	rpc.Register(server, func(context.Context, rpc.Received) error {
		if got.Add(1) == alertKeys*alertsEach {
			close(all)
		}
		return nil
	})
	go server.Serve(l)
	defer server.Stop()
	healthy, err := rpc.New(rpc.Config{Endpoint: l.Addr().String(), TLS: tls, Sign: ring.Envelope})
	if err != nil {
		return 0, err
	}
	defer healthy.Close()
	sinks := map[string]alert.Sink{"healthy": healthy}
	if dead {
		sinks["dead"] = deadSink{}
	}
	ctx, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	began := time.Now()
	failed := make(chan error, 1)
	working.Go(func() {
		w := alert.NewWorker(alert.Config{Store: s, Sinks: sinks, Holder: "bench", Logger: quiet, Grace: time.Millisecond})
		failed <- w.Run(ctx)
	})
	select {
	case <-all:
		return time.Since(began), nil
	case err := <-failed:
		return 0, fmt.Errorf("the worker ended: %w", err)
	case <-time.After(2 * time.Minute):
		return 0, fmt.Errorf("only %d alerts arrived", got.Load())
	}
}

// deadSink never answers.
type deadSink struct{}

func (deadSink) Deliver(ctx context.Context, _ alert.Alert) error {
	<-ctx.Done()
	return ctx.Err()
}
