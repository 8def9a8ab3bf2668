package telemetry_test

import (
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"reeve.dev/reeve/internal/telemetry"
)

// receiver is what a collector takes spans by.
type receiver struct {
	collector.UnimplementedTraceServiceServer

	mu    sync.Mutex
	spans []string // guarded by mu; each as service, version, span and key
}

func (r *receiver) take(req *collector.ExportTraceServiceRequest, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		about := map[string]string{}
		for _, a := range rs.GetResource().GetAttributes() {
			about[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				r.spans = append(r.spans, strings.Join([]string{about["service.name"], about["service.version"], s.GetName(), key}, " "))
			}
		}
	}
}

func (r *receiver) Export(ctx context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	r.take(req, strings.Join(md.Get("x-key"), ","))
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	data, err := io.ReadAll(body)
	var m collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(data, &m)
	}
	if err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "not what a collector takes", http.StatusBadRequest)
		return
	}
	r.take(&m, req.Header.Get("X-Key"))
	w.Header().Set("Content-Type", "application/x-protobuf")
	answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
	w.Write(answer)
}

func overHTTP(t *testing.T, r *receiver) string {
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return srv.URL
}

func overGRPC(t *testing.T, r *receiver) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, r)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return "http://" + l.Addr().String()
}

func TestTracer(t *testing.T) {
	for name, tt := range map[string]struct {
		listen func(*testing.T, *receiver) string
		env    map[string]string
	}{
		"by HTTP":                {overHTTP, nil},
		"by HTTP, compressed":    {overHTTP, map[string]string{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}},
		"by gRPC":                {overGRPC, map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}},
		"by gRPC, traces' alone": {overGRPC, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}},
	} {
		t.Run(name, func(t *testing.T) {
			var r receiver
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", tt.listen(t, &r))
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20key")
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			tracer, end, err := telemetry.Tracer(t.Context(), "reeve-hub", "1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			_, span := tracer.Start(t.Context(), "GET kubernetes/api")
			span.End()
			if err := end(t.Context()); err != nil { // sends what it still has
				t.Fatal(err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.spans) != 1 || r.spans[0] != "reeve-hub 1.2.3 GET kubernetes/api a key" {
				t.Errorf("the collector got %q", r.spans)
			}
		})
	}
}

func TestTracer_off(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"no collector":  {},
		"SDK disabled":  {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		"exporter none": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			if tracer, end, err := telemetry.Tracer(t.Context(), "reeve-hub", "1"); tracer != nil || end != nil || err != nil {
				t.Errorf("got %v, %v", tracer, err)
			}
		})
	}
}

func TestTracer_unknown_protocol(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	if _, _, err := telemetry.Tracer(t.Context(), "reeve-hub", "1"); err == nil || !strings.Contains(err.Error(), "http/protobuf or grpc") {
		t.Errorf("got %v", err)
	}
}
