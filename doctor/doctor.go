// Package doctor finds out why a hub can't be reached, or why a service can't
// be called: step by step, as a connection is made, so that the first step
// that fails is the one to mend. Each finding says what to do.
package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"reeve.dev/reeve/tunnel"
)

// Level says how bad a finding is.
type Level string

const (
	OK Level = "ok"
	// Warning is what works, but not as well as it could, or not for long.
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is the outcome of one check.
type Finding struct {
	// Check is config, proxy, dns, connect, tls, clock, carrier, api, version or
	// service.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// What was found, Why it matters, and what to Do; Do is empty for OK. Why is
	// left to Explain.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	Do   string `json:"do,omitempty"`
}

var why = map[string]string{
	"config":  "nothing else can be checked, or begin to run, before it is right",
	"proxy":   "everything goes to the hub by the proxy that the environment names, if it names one",
	"dns":     "the hub, or the proxy on the way to it, is found by its name",
	"connect": "agents and people call the hub, and it calls nobody: without this connection there is none",
	"tls":     "only the hub's own CA vouches for the hub; whoever else ends TLS could read and change everything",
	"clock":   "certificates and tokens are good from one moment to another, by the clock of whoever looks at them",
	"carrier": "the agent's link is carried by one of these; without any it can't join",
	"api":     "the hub answers those whom it knows, and each as far as their role goes",
	"version": "a hub knows nothing of what came with a later version",
	"service": "calls are forwarded with a credential that the agent alone has",
}

// Explain has each finding say why its check matters.
func Explain(list []Finding) []Finding {
	for i := range list {
		list[i].Why = why[list[i].Check]
	}
	return list
}

// Hub is how somebody reaches a hub.
type Hub struct {
	URL string
	// Roots are whom a hub's certificate may be of; nil: whom the system
	// trusts. Verify, if it is there, takes their place.
	Roots  *x509.CertPool
	Verify func(tls.ConnectionState) error
	// CA is what the hub's CA is called, for people.
	CA string
	// Proxy chooses the proxy, as in http.Transport; nil reads the
	// environment.
	Proxy func(*http.Request) (*url.URL, error)
	// Client is what an agent shows; nil: no carrier is tried.
	Client *tls.Config
	// Carriers are those that the agent tries, in its order.
	Carriers []tunnel.Carrier
}

const (
	stepTime = 10 * time.Second
	// smallSkew is what clocks may differ by; beyond largeSkew certificates
	// and tokens that are new aren't taken.
	smallSkew = 30 * time.Second
	largeSkew = 5 * time.Minute
	// maxHead bounds the head of an answer.
	maxHead = 64 << 10
)

// report gathers findings.
type report struct{ list []Finding }

func (r *report) ok(check, what string, args ...any) {
	r.list = append(r.list, Finding{Check: check, Level: OK, What: fmt.Sprintf(what, args...)})
}

func (r *report) add(level Level, check, do, what string, args ...any) {
	r.list = append(r.list, Finding{Check: check, Level: level, What: fmt.Sprintf(what, args...), Do: do})
}

// Check checks the way to a hub, as far as it goes.
func (h Hub) Check(ctx context.Context) []Finding {
	r := &report{}
	u, err := url.Parse(h.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		r.add(Problem, "config", "give https://HOST:PORT of the hub's API port", "%q isn't the URL of a hub", h.URL)
		return r.list
	}
	if h.Proxy == nil {
		h.Proxy = http.ProxyFromEnvironment
	}
	conn := h.connect(ctx, r, u)
	if conn == nil {
		return r.list
	}
	defer conn.Close()
	secure := h.secure(ctx, r, u, conn)
	if secure == nil {
		return r.list
	}
	clock(ctx, r, u, secure)
	if h.Client != nil {
		h.carriers(ctx, r)
	}
	return r.list
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// connect makes the connection, through a proxy if there is one.
func (h Hub) connect(ctx context.Context, r *report, u *url.URL) net.Conn {
	proxy, err := h.Proxy(&http.Request{URL: u, Header: http.Header{}})
	if err != nil {
		r.add(Problem, "proxy", "set HTTPS_PROXY to http://HOST:PORT", "the environment names a proxy that isn't a URL")
		return nil
	}
	if proxy == nil {
		r.ok("proxy", "none: the environment names no proxy for %s", u.Hostname())
		if !resolve(ctx, r, u.Hostname(), "set the name in DNS, or use one that is; in a pod see /etc/resolv.conf and the network policies for DNS") {
			return nil
		}
		conn, err := dial(ctx, hostPort(u))
		if err != nil {
			r.add(Problem, "connect", connectHint(err, "the hub is up and listens there (listen.api)"), "no connection to %s: %v", hostPort(u), err)
			return nil
		}
		r.ok("connect", "%s answers", hostPort(u))
		return conn
	}
	if proxy.Scheme != "http" && proxy.Scheme != "https" {
		r.add(Problem, "proxy", "set HTTPS_PROXY to a proxy that takes CONNECT, as http://HOST:PORT", "the proxy is of the kind %q", proxy.Scheme)
		return nil
	}
	if !resolve(ctx, r, proxy.Hostname(), "correct the proxy's name in HTTPS_PROXY, or except the hub with NO_PROXY="+u.Hostname()) {
		return nil
	}
	conn, err := dial(ctx, hostPort(proxy))
	if err == nil && proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
	}
	if err != nil {
		r.add(Problem, "proxy", "correct HTTPS_PROXY, or except the hub with NO_PROXY="+u.Hostname(), "the proxy %s doesn't answer: %v", proxy.Redacted(), err)
		return nil
	}
	status, err := tunnelBy(ctx, conn, proxy, hostPort(u))
	switch {
	case err != nil:
		r.add(Problem, "proxy", "see the proxy's log", "the proxy %s breaks off on CONNECT: %v", proxy.Redacted(), err)
	case status == http.StatusProxyAuthRequired:
		r.add(Problem, "proxy", "put a user and a password that the proxy knows into HTTPS_PROXY, as http://USER:PASSWORD@HOST:PORT", "the proxy %s wants credentials, or others", proxy.Redacted())
	case status != http.StatusOK:
		r.add(Problem, "proxy", "have the proxy allow CONNECT to "+hostPort(u), "the proxy %s answers %d to CONNECT %s", proxy.Redacted(), status, hostPort(u))
	default:
		r.ok("proxy", "%s connects to %s", proxy.Redacted(), hostPort(u))
		return conn
	}
	conn.Close()
	return nil
}

func resolve(ctx context.Context, r *report, host, do string) bool {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		r.add(Problem, "dns", do, "%s can't be resolved: %v", host, err)
		return false
	}
	r.ok("dns", "%s is %s", host, strings.Join(found, ", "))
	return true
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: stepTime}).DialContext(ctx, "tcp", address)
	if err == nil {
		conn.SetDeadline(time.Now().Add(3 * stepTime))
	}
	return conn, err
}

func connectHint(err error, up string) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "a firewall seems to drop it: allow outgoing connections to this port, or set HTTPS_PROXY"
	}
	return "see whether " + up + ", and whether a firewall forbids the connection"
}

// tunnelBy asks a proxy for a connection to address.
func tunnelBy(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (status int, err error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	// What follows is TLS, in which the client speaks first: nothing of it can
	// be in the reader.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHead)), req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// secure judges the certificate that comes. The handshake takes any, so that
// it can be said whose it is.
func (h Hub) secure(ctx context.Context, r *report, u *url.URL, below net.Conn) *tls.Conn {
	conn := tls.Client(below, &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, NextProtos: []string{"http/1.1"}}) // only looked at
	if err := conn.HandshakeContext(ctx); err != nil {
		r.add(Problem, "tls", "see whether "+hostPort(u)+" is the hub's API port (listen.api), and whether something between breaks TLS off", "there is no TLS: %v", err)
		return nil
	}
	state := conn.ConnectionState()
	leaf := state.PeerCertificates[0]
	err := h.verify(state, u.Hostname())
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil && state.Version < tls.VersionTLS13:
		r.add(Problem, "tls", "let TLS 1.3 through", "the hub is reached by %s only, and agents need TLS 1.3; something between ends TLS", tls.VersionName(state.Version))
		return nil
	case err == nil:
		r.ok("tls", "the certificate is of %s, and good until %s", issuer(leaf), leaf.NotAfter.Format(time.DateOnly))
		return conn
	case errors.As(err, &name):
		r.add(Problem, "tls", fmt.Sprintf("reach the hub by a name that its certificate has (%s), or add %s to names in the hub's configuration", strings.Join(leaf.DNSNames, ", "), u.Hostname()),
			"the certificate isn't for %s", u.Hostname())
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.add(Problem, "clock", "set this machine's clock (NTP); if it is right, restart the hub, which renews its certificate", "the certificate is good from %s to %s, and here it is %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
	case errors.As(err, &unknown) && h.CA == "" && h.Verify == nil:
		r.add(Problem, "tls", "give the hub's own CA (ca.pem of reeve ca init) by --ca or REEVE_CA; if that isn't "+issuer(leaf)+", something between intercepts TLS, and must except "+u.Hostname(),
			"the certificate that comes is issued by %s, which this machine doesn't trust", issuer(leaf))
	case errors.As(err, &unknown) || h.Verify != nil:
		r.add(Problem, "tls", fmt.Sprintf("except %s from TLS inspection at the proxy or firewall; the agents' certificates can't pass it. If nothing inspects TLS, this is another hub, or the CA that you gave is another hub's", u.Hostname()),
			"the certificate that comes is issued by %s, and not by the hub's CA (%s): something between intercepts TLS", issuer(leaf), h.CA)
	default:
		r.add(Problem, "tls", "see the certificate: openssl s_client -connect "+hostPort(u), "the certificate isn't good: %v", err)
	}
	return nil
}

func (h Hub) verify(state tls.ConnectionState, host string) error {
	if h.Verify != nil {
		return h.Verify(state)
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: h.Roots, Intermediates: between})
	return err
}

func issuer(c *x509.Certificate) string {
	if name := c.Issuer.String(); name != "" {
		return fmt.Sprintf("%q", name)
	}
	return "an unnamed issuer"
}

// clock compares this machine's clock with the hub's.
func clock(ctx context.Context, r *report, u *url.URL, conn *tls.Conn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String()+"/openapi.json", nil)
	if err == nil {
		req.Header.Set("Connection", "close")
		err = req.Write(conn)
	}
	began := time.Now()
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHead)), req)
	}
	if err != nil {
		r.add(Problem, "api", "see the hub's log, and whether what is between passes HTTP", "the hub doesn't answer HTTP: %v", err)
		return
	}
	resp.Body.Close()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		r.add(Warning, "clock", "see whether this is a hub", "the answer has no Date to compare the clock with")
		return
	}
	// Date has whole seconds, cut off.
	skew := began.Add(time.Since(began) / 2).Sub(theirs.Add(time.Second / 2)).Round(time.Second)
	what := fmt.Sprintf("this machine's clock is %v ahead of the hub's", skew)
	if skew < 0 {
		what = fmt.Sprintf("this machine's clock is %v behind the hub's", -skew)
	}
	const do = "set both clocks (NTP): certificates and tokens are good from a moment on"
	switch abs := max(skew, -skew); {
	case abs > largeSkew:
		r.add(Problem, "clock", do, "%s", what)
	case abs > smallSkew:
		r.add(Warning, "clock", do, "%s", what)
	default:
		r.ok("clock", "it agrees with the hub's")
	}
}

// carriers tries each way of carrying a link.
func (h Hub) carriers(ctx context.Context, r *report) {
	var works []tunnel.Carrier
	failed := map[tunnel.Carrier]error{}
	for _, c := range h.Carriers {
		s, err := tunnel.Dial(ctx, tunnel.DialConfig{URL: h.URL, TLS: h.Client, Carriers: []tunnel.Carrier{c}, Proxy: h.Proxy, Timeout: stepTime})
		if err != nil {
			failed[c] = err
			continue
		}
		s.Close()
		works = append(works, c)
	}
	hints := map[tunnel.Carrier]string{
		tunnel.WebSocket: "let WebSockets through at the proxy or load balancer (Upgrade: websocket, and no time limit for idle ones)",
		tunnel.RawTLS:    "let TLS through to the hub without ending it, or leave alpn out of hub.carriers",
	}
	for _, c := range h.Carriers {
		err, bad := failed[c]
		switch {
		case !bad:
			r.ok("carrier", "%s works", c)
		case len(works) > 0:
			r.add(Warning, "carrier", hints[c], "%s doesn't work, so that the agent falls back to %s: %v", c, works[0], err)
		default:
			r.add(Problem, "carrier", hints[c], "%s doesn't work: %v", c, err)
		}
	}
}
