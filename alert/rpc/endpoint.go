package rpc

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/internal/public"
)

// EndpointSink begins the names of the sinks that are endpoints which
// somebody else than the operator has chosen, such as a repository's file; the
// rest is HOST:PORT.
const EndpointSink = "endpoint:"

// Endpoints are patterns of HOST:PORT that the operator lets others choose; *
// stands for any text.
type Endpoints []string

// Validate reports a pattern that isn't one.
func (e Endpoints) Validate() error {
	for _, p := range e {
		if host, port, err := net.SplitHostPort(p); err != nil || host == "" || port == "" {
			return fmt.Errorf("%q: it must be HOST:PORT, such as *.example.com:443", p)
		}
	}
	return nil
}

// Permit reports why an endpoint may not be chosen. Its address is judged at
// each connection besides.
func (e Endpoints) Permit(endpoint string) error {
	host, port, err := net.SplitHostPort(endpoint)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/?#@% ") {
		return fmt.Errorf("rpcEndpoint %q: it must be HOST:PORT, such as sink.example.com:443", endpoint)
	}
	if addr, err := netip.ParseAddr(host); err == nil && !public.Is(addr) {
		return fmt.Errorf("rpcEndpoint %q: %w", endpoint, public.ErrPrivate)
	}
	for _, p := range e {
		if fleet.Match(p, strings.ToLower(endpoint)) {
			return nil
		}
	}
	return fmt.Errorf("rpcEndpoint %q: the hub's operator doesn't allow it; it has to be among alerts.endpoints of the hub's configuration", endpoint)
}
