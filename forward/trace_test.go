package forward_test

import (
	"net/http"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

// TestForward_traceparent: without a tracer the caller's header passes as it
// is; with one the hub's span is the parent of what the service sees, in the
// caller's trace.
func TestForward_traceparent(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	seen := make(chan string, 1)
	service := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Traceparent") })
	call := func(b *bench) string {
		r := request(t, "GET", b.URL, nil)
		r.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
		do(t, b.client, r)
		return <-seen
	}
	if got, want := call(start(t, service)), "00-"+trace+"-"+parent+"-01"; got != want {
		t.Errorf("without traces: %q, want %q", got, want)
	}

	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	got := call(start(t, service, func(o *forwardtest.Options) {
		o.Access = func(c *forward.HubConfig) { c.Tracer = tracer }
	}))
	ended := spans.Started() // its end comes after the caller's
	if len(ended) != 1 {
		t.Fatalf("%d spans, want 1", len(ended))
	}
	s := ended[0]
	if s.SpanContext().TraceID().String() != trace || s.Parent().SpanID().String() != parent || s.Name() != "forward x-web" {
		t.Errorf("span %q of trace %s, parent %s", s.Name(), s.SpanContext().TraceID(), s.Parent().SpanID())
	}
	if !strings.HasPrefix(got, "00-"+trace+"-"+s.SpanContext().SpanID().String()) {
		t.Errorf("the service got %q, want the hub's span %s", got, s.SpanContext().SpanID())
	}
}
