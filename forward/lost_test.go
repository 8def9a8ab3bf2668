package forward_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
	"reeve.dev/reeve/tunnel"
)

// brokenLink is the way to every agent, and fails.
type brokenLink struct{ err error }

func (l brokenLink) RoundTrip(*http.Request) (*http.Response, error) { return nil, l.err }

func (l brokenLink) Transport(fleet.AgentName) (http.RoundTripper, error) { return l, nil }

// Whoever gets a 502 is told what became of the carrier, and no address of the
// network.
func TestHub_says_why_a_link_broke(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"full":      {fmt.Errorf("the peer's: %w", tunnel.ErrFull), "as many requests under way as it takes; try again later"},
		"frozen":    {&tunnel.LostError{Cause: fmt.Errorf("%w for 18s", tunnel.ErrFrozen)}, "its end, or the network between, didn't answer any more"},
		"closed":    {&tunnel.LostError{Cause: fmt.Errorf("%w: read tcp 10.1.2.3:8443->10.9.8.7:41234: connection reset by peer", tunnel.ErrPeerClosed)}, "closed the connection"},
		"drained":   {&tunnel.LostError{Cause: tunnel.ErrDrained}, "was given up for another"},
		"this side": {&tunnel.LostError{Cause: tunnel.ErrClosed}, "this side closed the connection"},
		"another":   {fmt.Errorf("read tcp 10.1.2.3:8443: %w", context.DeadlineExceeded), "broke before the service answered; try again"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := forward.NewHub(forward.HubConfig{
				Links: brokenLink{tt.err},
				Authenticate: func(*http.Request) (forward.Caller, error) {
					return forward.Caller{Name: "one", Agent: forwardtest.AgentName, Type: "x-web", Service: "main"}, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
			r.TLS = &tls.ConnectionState{}
			h.ServeHTTP(w, r)
			status := http.StatusBadGateway
			if errors.Is(tt.err, tunnel.ErrFull) {
				status = http.StatusServiceUnavailable
			}
			if body := w.Body.String(); w.Code != status || (w.Header().Get("Retry-After") != "") != (status == 503) || !strings.Contains(body, tt.want) || strings.Contains(body, "10.") {
				t.Errorf("%d %s; want %q", w.Code, body, tt.want)
			}
		})
	}
}
