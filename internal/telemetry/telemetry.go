// Package telemetry makes a process's logger, and sends traces to an OpenTelemetry collector, as the
// standard variables of the environment say:
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes a tracer of the process called service, such as reeve-hub, and
// what ends it, sending what it still has. Both are nil, and nothing is done,
// unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
// names a collector and neither OTEL_SDK_DISABLED nor OTEL_TRACES_EXPORTER
// turns traces off. The protocol is http/protobuf or, with
// OTEL_EXPORTER_OTLP_PROTOCOL, grpc.
func Tracer(ctx context.Context, service, version string) (trace.Tracer, func(context.Context) error, error) {
	if !wanted() {
		return nil, nil, nil
	}
	var client otlptrace.Client
	switch p := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); p {
	case "http/protobuf":
		client = otlptracehttp.NewClient()
	case "grpc":
		client = otlptracegrpc.NewClient()
	default:
		return nil, nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL %q: it must be http/protobuf or grpc", p)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	// What is sampled OTEL_TRACES_SAMPLER says.
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return p.Tracer("reeve.dev/reeve"), p.Shutdown, nil
}

// sendTime bounds the sending of the last traces.
const sendTime = 5 * time.Second

// Traces sets t to what Tracer makes, if the environment asks for traces. end
// sends what is left.
func Traces(ctx context.Context, service, version string, t *trace.Tracer) (end func(), err error) {
	tracer, shutdown, err := Tracer(ctx, service, version)
	if err != nil || tracer == nil {
		return func() {}, err
	}
	*t = tracer
	return func() {
		// ctx is done by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTime)
		defer cancel()
		shutdown(ctx)
	}, nil
}

func wanted() bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}
