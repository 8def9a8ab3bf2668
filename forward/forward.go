package forward

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"reeve.dev/reeve/fleet"
)

// ServiceHeader names the service, as type/name, on the way from the hub to
// the agent. A caller's own header of that name, and any other that begins
// with Reeve-, is taken off.
const ServiceHeader = "Reeve-Service"

// tokenHeader is where Birger's callers may put their token.
const tokenHeader = "X-Opsmx-Token"

// hubCookies is how the names of the hub's own cookies begin. Browsers don't
// keep cookies of one host's ports apart: without a filter a service would be
// shown the session of whoever opens it in the browser that the hub's page is
// open in, and could put another one in its place.
const hubCookies = "__Host-reeve-"

var (
	// ErrUnauthenticated says that a request has no credential or a bad one.
	// What wraps it is shown to the caller.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrNoCredential is an ErrUnauthenticated of a caller without any
	// credential, whom a rule may still let in.
	ErrNoCredential = fmt.Errorf("%w: no credential", ErrUnauthenticated)
	// ErrForbidden says that a credential is good but not for this. What
	// wraps it is shown to the caller.
	ErrForbidden = errors.New("not allowed")
	// ErrUnknownAgent says that no agent of that name ever joined.
	ErrUnknownAgent = errors.New("unknown agent")
	// ErrAgentAway says that the agent has no link at present.
	ErrAgentAway = errors.New("agent isn't connected")
)

// Caller is who sends a request, and the service that it is for: the one that
// the credential is for, unless the server name chose another.
type Caller struct {
	// Name is the credential's SPIFFE id, ID tells it from others of that name
	// (certificate/SERIAL or token/JTI), and Holder is whom it was made out to,
	// where that is known. None of them is a secret.
	Name   string
	ID     string
	Holder string
	// Credential is the Authenticator's own, for [HubConfig.Watch]; it must be
	// comparable.
	Credential any
	// Agent is empty for a credential that isn't for a service.
	Agent   fleet.AgentName
	Type    fleet.ServiceType
	Service fleet.ServiceName
}

// Authenticator finds out who sends a request. It returns an error that wraps
// [ErrUnauthenticated] or [ErrForbidden], with the latter also the caller as
// far as it is known; any other is a fault of the hub, and only logged.
type Authenticator func(*http.Request) (Caller, error)

// Token finds the token in a request: in X-Opsmx-Token, else as the Bearer of
// Authorization, else as the password of Basic, whose user name is ignored.
func Token(r *http.Request) (token string, ok bool) {
	if t := r.Header.Get(tokenHeader); t != "" {
		return t, true
	}
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		t := strings.TrimSpace(rest)
		return t, t != ""
	}
	_, password, ok := r.BasicAuth()
	return password, ok && password != ""
}

// proxies are headers by which a proxy tells a server where a request came
// from, or had been sent to.
var proxies = []string{"forwarded", "x-real-ip", "x-original-url", "x-rewrite-url"}

// scrubTrailer is scrub for a trailer, which must not hold what concerns the
// request's frame, way or sender at all (RFC 9110, 6.5.1): some servers don't
// tell it from the header.
func scrubTrailer(h http.Header) {
	scrub(h)
	for name := range h {
		if !httpguts.ValidTrailerHeader(name) || name == "Cookie" || strings.HasPrefix(name, "Impersonate-") {
			delete(h, name)
		}
	}
}

// scrub takes off a request what is Reeve's, or claims to be a proxy's.
func scrub(h http.Header) {
	for name := range h {
		is := func(other string) bool { return len(name) == len(other) && begins(name, other) }
		if begins(name, "reeve-") || begins(name, "x-forwarded-") || slices.ContainsFunc(proxies, is) {
			delete(h, name)
		}
	}
	h.Del("Authorization")
	h.Del(tokenHeader)
	withoutTokenProtocol(h)
	withoutHubCookies(h)
	// HTTP/2 in clear text would hide from here on which paths are asked for.
	// A server may ignore an Upgrade, so the request goes on without it.
	for proto := range strings.SplitSeq(h.Get("Upgrade"), ",") {
		if strings.EqualFold(strings.TrimSpace(proto), "h2c") {
			h.Del("Upgrade")
			h.Del("Connection")
			h.Del("Http2-Settings")
		}
	}
}

// begins reports whether a header's name begins so, in lower case. CGI and its
// heirs don't tell _ from -, and some of them no other sign either.
func begins(name, with string) bool {
	if len(name) < len(with) {
		return false
	}
	for i := range len(with) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			c = '-'
		}
		if c != with[i] {
			return false
		}
	}
	return true
}

// tokenProtocol begins the WebSocket subprotocol in which Kubernetes takes a
// token from browsers.
const tokenProtocol = "base64url.bearer.authorization.k8s.io."

// withoutTokenProtocol takes a caller's token off a WebSocket's request.
func withoutTokenProtocol(h http.Header) {
	const key = "Sec-Websocket-Protocol"
	lines := h[key]
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, tokenProtocol) }) {
		return
	}
	var kept []string
	for _, line := range lines {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.TrimSpace(p); !strings.HasPrefix(p, tokenProtocol) {
				kept = append(kept, p)
			}
		}
	}
	h.Del(key)
	if len(kept) > 0 {
		h.Set(key, strings.Join(kept, ", "))
	}
}

// withoutHubCookies takes the hub's cookies off a request.
func withoutHubCookies(h http.Header) {
	lines := h["Cookie"]
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, hubCookies) }) {
		return
	}
	var kept []string
	for _, line := range lines {
		for c := range strings.SplitSeq(line, ";") {
			if c = strings.TrimSpace(c); c != "" && !strings.HasPrefix(c, hubCookies) {
				kept = append(kept, c)
			}
		}
	}
	h.Del("Cookie")
	if len(kept) > 0 {
		h.Set("Cookie", strings.Join(kept, "; "))
	}
}

// ofItsOwn takes off a service's answer what it says to a browser of more than
// itself: of the hub's page, which is on the same host, and of the services
// beside it. A cookie for a whole domain becomes one for the name that was
// called, as it is with a domain of the service's own, which no browser would
// take here. Alt-Svc would lead past the hub, and Strict-Transport-Security is
// for all ports of a host, and for the names beneath it.
func ofItsOwn(h http.Header) {
	h.Del("Alt-Svc")
	h.Del("Strict-Transport-Security")
	h.Del("Clear-Site-Data")
	cookies := h["Set-Cookie"]
	if len(cookies) == 0 {
		return
	}
	if cookies = slices.DeleteFunc(cookies, setsHubCookie); len(cookies) == 0 {
		h.Del("Set-Cookie")
		return
	}
	for i, c := range cookies {
		parts := strings.Split(c, ";")
		attributes := slices.DeleteFunc(parts[1:], func(a string) bool {
			name, _, _ := strings.Cut(a, "=")
			return strings.EqualFold(strings.TrimSpace(name), "domain")
		})
		cookies[i] = strings.Join(parts[:1+len(attributes)], ";")
	}
	h["Set-Cookie"] = cookies
}

// setsHubCookie reports whether a Set-Cookie sets one of the hub's. A cookie
// without a name comes back as its value alone, which may look like one.
func setsHubCookie(v string) bool { return strings.HasPrefix(strings.TrimLeft(v, "= \t"), hubCookies) }
