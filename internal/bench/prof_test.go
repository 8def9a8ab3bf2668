package main
import ("testing";"net/http";"net/http/httptest";"context";"time";"os";"fmt";"reeve.dev/reeve/tunnel")
func BenchmarkWay(b *testing.B) {
	service := httptest.NewTLSServer(http.HandlerFunc(serveBody))
	defer service.Close()
	which := os.Getenv("WAY")
	var w way
	if which == "floor" { w = twoProxies(service) } else { var err error; w, err = throughLink(service, tunnel.Carrier(which)); if err != nil { b.Fatal(err) } }
	defer w.close()
	path := os.Getenv("WPATH"); clients := 8; if path == "/small" { clients = 32 }
	for b.Loop() {
		l, err := w.load(context.Background(), clients, path, 2*time.Second)
		if err != nil { b.Fatal(err) }
		n := float64(len(l.took))
		if path == "/small" { b.ReportMetric(float64(l.cpu)/n/1e3, "cpuµs/req") } else { b.ReportMetric(float64(l.cpu)/(n*largeBody/1024), "cpuns/KiB") }
		fmt.Println(n/l.time.Seconds())
	}
}
