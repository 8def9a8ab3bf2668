package e2e

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collected is a span as a collector has it, with the process that made it.
type collected struct {
	service string
	*v1.Span
}

// newCollector takes traces by OTLP over HTTP.
func newCollector(t *testing.T) (url string, spans *locked[collected]) {
	spans = &locked[collected]{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var m collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &m)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, "not what a collector takes", http.StatusBadRequest)
			return
		}
		for _, rs := range m.GetResourceSpans() {
			service := ""
			for _, a := range rs.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					service = a.GetValue().GetStringValue()
				}
			}
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spans.add(collected{service, s})
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, spans
}

// traces follows one call from its caller through hub and agent to the
// service, by what a collector is told.
func (w *world) traces(t *testing.T) {
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	token := w.credential(t, "x-web", "web", "token", "1h")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: w.trust()}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, w.serve+"/traced", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	req.Header.Set("Traceparent", "00-"+trace+"-"+caller+"-01")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	var hub, agent collected
	w.await(t, "the spans of hub and agent", func() (bool, error) {
		for _, s := range w.spans.all() {
			switch {
			case hex.EncodeToString(s.GetTraceId()) != trace:
			case s.service == "reeve-hub":
				hub = s
			case s.service == "reeve-agent":
				agent = s
			}
		}
		return hub.Span != nil && agent.Span != nil, nil
	})
	if hub.GetName() != "forward x-web" || hex.EncodeToString(hub.GetParentSpanId()) != caller {
		t.Errorf("the hub's span: %v", hub.Span)
	}
	if agent.GetName() != "serve x-web" || !slices.Equal(agent.GetParentSpanId(), hub.GetSpanId()) {
		t.Errorf("the agent's span: %v", agent.Span)
	}
	if hub.GetStartTimeUnixNano() > agent.GetStartTimeUnixNano() || hub.GetKind() != v1.Span_SPAN_KIND_SERVER {
		t.Errorf("%v and %v", hub.Span, agent.Span)
	}
	if got, want := w.traceparents.all(), "00-"+trace+"-"+hex.EncodeToString(agent.GetSpanId())+"-01"; !slices.Contains(got, want) {
		t.Errorf("the service got %q, not %s", got, want)
	}
}
