package alert_test

import (
	"context"
	"fmt"
	"testing"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/rpc"
)

// BenchmarkWorker delivers alerts of 1,000 keys from SQLite to a healthy
// AlertSink on loopback over TLS, durably on both sides of each delivery.
func BenchmarkWorker(b *testing.B) {
	s := fresh(b)
	var repos []string
	for i := range 1000 {
		repos = append(repos, fmt.Sprintf("repo-%d", i))
	}
	enqueue(b, s, (b.N+999)/1000, repos, []string{"grpc"})
	got := newLedger(b.N)
	ca := newCA(b)
	recv := listen(b, ca, "127.0.0.1:0", func(_ context.Context, r rpc.Received) error { got.take(r); return nil })
	sink := sinkAt(b, ca, recv.addr)
	b.ResetTimer()
	stop := start(b, alert.Config{Store: s, Sinks: map[string]alert.Sink{"grpc": sink}})
	<-got.all
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "alerts/s")
	stop()
}
