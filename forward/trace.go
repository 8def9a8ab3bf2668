package forward

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"reeve.dev/reeve/fleet"
)

// tracer makes one span of each request at the hub and one at the agent, which
// carry on the caller's trace, by traceparent (W3C), to the service. Without
// one the caller's own header passes as it is.
type tracer struct{ trace.Tracer }

// span is nil where there are no traces.
type span struct{ trace.Span }

var traceContext propagation.TraceContext

func (t tracer) begin(r *http.Request, name string, attributes ...attribute.KeyValue) (*http.Request, *span) {
	ctx := traceContext.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, s := t.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	s.SetAttributes(attribute.String("http.request.method", r.Method))
	return r.WithContext(ctx), &span{s}
}

// forward begins the hub's span.
func (t tracer) forward(r *http.Request, c Caller) (*http.Request, *span) {
	if t.Tracer == nil {
		return r, nil
	}
	return t.begin(r, "forward "+string(c.Type),
		attribute.String("reeve.agent", string(c.Agent)), attribute.String("reeve.service", target(c.Type, c.Service)),
		attribute.String("reeve.caller", c.who()))
}

// serve begins the agent's span.
func (t tracer) serve(r *http.Request, typ fleet.ServiceType, name fleet.ServiceName) (*http.Request, *span) {
	if t.Tracer == nil {
		return r, nil
	}
	return t.begin(r, "serve "+string(typ), attribute.String("reeve.service", target(typ, name)))
}

func (s *span) end(x *exchange) {
	if s == nil {
		return
	}
	s.SetAttributes(attribute.Int("http.response.status_code", x.status),
		attribute.Int64("reeve.bytes.received", x.received.Load()), attribute.Int64("reeve.bytes.sent", x.sent.Load()))
	if x.upstream > 0 {
		s.SetAttributes(attribute.Float64("reeve.upstream.seconds", x.upstream.Seconds()))
	}
	if x.err != nil {
		s.RecordError(x.err)
		s.SetStatus(codes.Error, x.err.Error())
	} else if x.status >= 500 {
		s.SetStatus(codes.Error, http.StatusText(x.status))
	}
	s.End()
}

// propagate has the next one carry on the trace of r.
func propagate(r *http.Request) {
	if trace.SpanContextFromContext(r.Context()).IsValid() {
		traceContext.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
	}
}
