package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"reeve.dev/reeve/fleet"
)

// EnrollPath is where a hub answers Enroll, RenewPath where it answers
// Enroller.Direct.
const (
	EnrollPath = "/agent/v1/enroll"
	RenewPath  = "/agent/v1/renew"
)

// The files of an agent's directory. identityFile holds key and chain
// together, so that they change together.
const (
	identityFile = "identity.pem"
	pendingFile  = "enroll-key.pem"
)

// Enroller keeps an agent's key and certificate in its data directory. It is
// safe for concurrent use.
type Enroller struct {
	dir     string
	agent   fleet.AgentName
	pool    *x509.CertPool
	current atomic.Pointer[tls.Certificate]
}

// Enroll makes a key in dir, has it certified by the hub at hubURL with a
// join token, and saves the certificate. It verifies that the hub holds the
// CA that the token names before it sends anything. agent is the name that
// the caller expects; empty takes the token's. The error wraps ErrMalformed,
// ErrForeign, ErrExpired, ErrUsed or ErrWrongAgent where it is for good; any
// other may be tried again, with the same token.
func Enroll(ctx context.Context, hubURL, token, dir string, agent fleet.AgentName) (*Enroller, error) {
	p, err := parseToken(Join, token)
	if err != nil {
		return nil, err
	}
	u, err := parseHub(hubURL)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := pendingKey(dir)
	if err != nil {
		return nil, err
	}
	csr, err := newCSR(key)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The agent knows no CA yet; pinned verifies in the usual check's place.
		InsecureSkipVerify: true,
		VerifyConnection:   pinned(p.pin, u.Hostname()),
	}
	chain, err := requestCertificate(ctx, u.JoinPath(EnrollPath), conf, enrollRequest{Token: strings.TrimSpace(token), Agent: agent, CSR: string(csr)})
	if err != nil {
		return nil, fmt.Errorf("enrol at %s: %w", u.Host, err)
	}
	e, err := save(dir, key, chain, p.pin, agent)
	if err != nil {
		return nil, fmt.Errorf("enrol at %s: %w", u.Host, err)
	}
	return e, os.Remove(filepath.Join(dir, pendingFile))
}

// pendingKey is the key of an enrolment that isn't finished, from the last
// attempt if there was one: the token is bound to it once the hub saw it.
func pendingKey(dir string) (crypto.Signer, error) {
	path := filepath.Join(dir, pendingFile)
	if b, err := os.ReadFile(path); err == nil {
		if key, err := parseKey(b); err == nil {
			return key, nil
		}
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	b, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, b)
}

func parseHub(hubURL string) (*url.URL, error) {
	u, err := url.Parse(hubURL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("hub URL: must be https://HOST:PORT, without user or password")
	}
	return u, nil
}

func requestCertificate(ctx context.Context, u *url.URL, conf *tls.Config, body enrollRequest) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf}
	defer tr.CloseIdleConnections()
	client := &http.Client{
		Transport: tr, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		err = ue.Err
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusalOf(resp.StatusCode, answer)
	}
	var out enrollAnswer
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("the hub's answer is not what this version expects: %w", err)
	}
	return []byte(out.Certificate), nil
}

// JoinVerify is what an agent that has only a join token takes for its hub, at
// host: for [tls.Config.VerifyConnection].
func JoinVerify(token, host string) (func(tls.ConnectionState) error, error) {
	p, err := parseToken(Join, token)
	if err != nil {
		return nil, err
	}
	return pinned(p.pin, host), nil
}

// pinned accepts a server whose chain leads to the CA with the given pin and
// whose certificate is for host.
func pinned(pin, host string) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		for _, c := range cs.PeerCertificates {
			if pinOf(c) != pin || !c.IsCA {
				continue
			}
			pool := x509.NewCertPool()
			pool.AddCert(c)
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
			return err
		}
		return fmt.Errorf("join token: %w: the server doesn't hold the CA that the token names; check the hub's URL, or ask that hub for a token", ErrForeign)
	}
}

// save verifies a chain that the hub sent for key and keeps both. want is the
// agent's name, or empty for any.
func save(dir string, key crypto.Signer, chainPEM []byte, pin string, want fleet.AgentName) (*Enroller, error) {
	kp, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	data := append(kp, chainPEM...)
	e, err := parseIdentity(dir, data)
	if err != nil {
		return nil, fmt.Errorf("the hub's answer: %w", err)
	}
	ca := e.current.Load().Certificate[1]
	if c, err := x509.ParseCertificate(ca); err != nil || pinOf(c) != pin {
		return nil, fmt.Errorf("the hub's answer: %w: its CA is another one", ErrForeign)
	}
	if want != "" && e.agent != want {
		return nil, fmt.Errorf("the hub's answer: %w: %q, not %q", ErrWrongAgent, e.agent, want)
	}
	return e, writeFile(filepath.Join(dir, identityFile), data)
}

// Load reads what Enroll saved in dir. The error wraps fs.ErrNotExist for an
// agent that has yet to enrol. With ErrExpired the Enroller comes too: it may
// still be renewed, by Direct.
func Load(dir string) (*Enroller, error) {
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	e, err := parseIdentity(dir, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if end := e.NotAfter(); time.Now().After(end) {
		return e, fmt.Errorf("certificate of agent %q: %w on %s; make a new join token and enrol again", e.agent, ErrExpired, end.Format(time.RFC3339))
	}
	return e, nil
}

// parseIdentity reads a key, its certificate and the CA that signed it.
func parseIdentity(dir string, data []byte) (*Enroller, error) {
	key, err := parseKey(data)
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(data)
	if err != nil {
		return nil, err
	}
	leaf, root := chain[0], chain[len(chain)-1]
	id, err := IdentityOf(leaf)
	switch {
	case err != nil:
		return nil, err
	case id.Purpose != Agent:
		return nil, fmt.Errorf("%w: a certificate for %s, not for an agent", ErrMalformed, id)
	case !samePublicKey(leaf.PublicKey, key):
		return nil, fmt.Errorf("%w: the certificate is for another key", ErrMalformed)
	case len(chain) != 2 || leaf.CheckSignatureFrom(root) != nil:
		return nil, fmt.Errorf("%w: the certificate isn't followed by the CA that signed it", ErrMalformed)
	}
	e := &Enroller{dir: dir, agent: id.Agent, pool: x509.NewCertPool()}
	e.pool.AddCert(root)
	e.current.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw, root.Raw}, PrivateKey: key, Leaf: leaf})
	return e, nil
}

// Agent is the name that the certificate carries.
func (e *Enroller) Agent() fleet.AgentName { return e.agent }

// NotAfter is when the present certificate expires.
func (e *Enroller) NotAfter() time.Time { return e.current.Load().Leaf.NotAfter }

// TLSConfig is for connections to the hub. Each handshake shows the newest
// certificate.
func (e *Enroller) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    e.pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := *e.current.Load()
			// The hub has the CA, and would keep another for each carrier.
			cert.Certificate = cert.Certificate[:1]
			return &cert, nil
		},
	}
}

// Renew gets a certificate for a new key by send, which carries a request
// (PEM) to the hub and brings the certificate (PEM) back, and saves both.
func (e *Enroller) Renew(ctx context.Context, send func(ctx context.Context, csr []byte) ([]byte, error)) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := newCSR(key)
	if err != nil {
		return err
	}
	chain, err := send(ctx, csr)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(e.current.Load().Certificate[1])
	if err != nil {
		return err
	}
	next, err := save(e.dir, key, chain, pinOf(root), e.agent)
	if err != nil {
		return err
	}
	e.current.Store(next.current.Load())
	return nil
}

// Direct is a way for Renew that needs no link: to the hub's API port, where
// the certificate is taken for some time after it has expired.
func (e *Enroller) Direct(hubURL string) func(ctx context.Context, csr []byte) ([]byte, error) {
	return func(ctx context.Context, csr []byte) ([]byte, error) {
		u, err := parseHub(hubURL)
		if err != nil {
			return nil, err
		}
		chain, err := requestCertificate(ctx, u.JoinPath(RenewPath), e.TLSConfig(), enrollRequest{CSR: string(csr)})
		if bad := (*tls.CertificateVerificationError)(nil); errors.As(err, &bad) {
			err = fmt.Errorf("the hub's certificate isn't from the CA that this agent joined: %w: %w", ErrForeign, err)
		}
		if err != nil {
			return nil, fmt.Errorf("renew at %s: %w", u.Host, err)
		}
		return chain, nil
	}
}

// RenewLoop renews at two thirds of the certificate's life, and after an
// error again with growing pauses, until ctx ends.
func (e *Enroller) RenewLoop(ctx context.Context, logger *slog.Logger, send func(ctx context.Context, csr []byte) ([]byte, error)) {
	const minPause, maxPause = 10 * time.Second, 10 * time.Minute
	pause := minPause
	wait := time.Until(renewAt(e.current.Load().Leaf))
	for {
		t := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		err := e.Renew(ctx, send)
		if err == nil {
			logger.InfoContext(ctx, "certificate renewed", "agent", e.agent, "expires", e.NotAfter())
			// Not at once, whatever this machine's clock makes of it.
			pause, wait = minPause, max(minPause, time.Until(renewAt(e.current.Load().Leaf)))
			continue
		}
		if ctx.Err() != nil {
			return
		}
		wait = pause/2 + rand.N(pause/2)
		pause = min(2*pause, maxPause)
		logger.WarnContext(ctx, "certificate is not renewed", "agent", e.agent, "expires", e.NotAfter(), "retry", wait, "error", err)
	}
}

// maxAnswer and maxRequest bound what either side of an enrolment reads.
const (
	maxAnswer  = 64 << 10
	maxRequest = 32 << 10
)

// The wire: JSON both ways. A refusal is a problem (RFC 9457) whose code says
// which sentinel it is.
type (
	enrollRequest struct {
		Token string          `json:"token,omitempty"` // not for a renewal
		Agent fleet.AgentName `json:"agent,omitempty"`
		CSR   string          `json:"csr"`
	}
	enrollAnswer struct {
		Certificate string `json:"certificate"`
	}
	refusal struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code,omitempty"`
		Detail string `json:"detail"`
	}
)

var refusals = []struct {
	err    error
	code   string
	status int
}{
	{ErrMalformed, "malformed", http.StatusUnprocessableEntity},
	{ErrForeign, "foreign", http.StatusUnauthorized},
	{ErrExpired, "expired", http.StatusUnauthorized},
	{ErrUsed, "used", http.StatusConflict},
	{ErrWrongAgent, "wrong-agent", http.StatusForbidden},
	{ErrNoCertificate, "no-certificate", http.StatusUnauthorized},
	{ErrTooOften, "too-often", http.StatusTooManyRequests},
}

// remoteError is a hub's refusal, as the agent sees it.
type remoteError struct {
	detail string
	kind   error
}

func (e *remoteError) Error() string { return e.detail }
func (e *remoteError) Unwrap() error { return e.kind }

func refusalOf(status int, body []byte) error {
	var r refusal
	if err := json.Unmarshal(body, &r); err != nil || r.Detail == "" {
		return fmt.Errorf("the hub answered %d %s", status, http.StatusText(status))
	}
	for _, known := range refusals {
		if known.code == r.Code {
			return &remoteError{r.Detail, known.err}
		}
	}
	return &remoteError{r.Detail, nil}
}

// EnrollHandler answers Enroll at a hub. life is that of the certificates.
func (ca *CA) EnrollHandler(store TokenStore, life time.Duration, logger *slog.Logger) http.Handler {
	return certify(logger, "agent enrolled", func(r *http.Request, req enrollRequest) (fleet.AgentName, []byte, error) {
		t, chain, err := ca.enroll(r.Context(), store, req, life)
		return t.Agent, chain, err
	})
}

// RenewHandler answers Enroller.Direct at a hub: it certifies a new key of an
// agent that shows its certificate, up to grace after that has expired.
func (ca *CA) RenewHandler(peers *Peers, life, grace time.Duration, logger *slog.Logger) http.Handler {
	return certify(logger, "certificate renewed", func(r *http.Request, req enrollRequest) (fleet.AgentName, []byte, error) {
		held, _, err := peers.within(r.TLS, grace)
		if err != nil {
			return "", nil, err
		}
		if held.Purpose != Agent {
			return "", nil, fmt.Errorf("client certificate: %w: it is %s, not an agent's", ErrForeign, held)
		}
		chain, err := ca.IssueAgent([]byte(req.CSR), held.Agent, life)
		if err == nil {
			err = ca.revocations.CheckNow(r.Context(), held)
		}
		return held.Agent, chain, err
	})
}

// certify reads a request, has it answered and logs what came of it.
func certify(logger *slog.Logger, done string, answer func(*http.Request, enrollRequest) (fleet.AgentName, []byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			refuse(w, refusal{Status: http.StatusMethodNotAllowed, Detail: "this path takes only POST"})
			return
		}
		var req enrollRequest
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
		dec.DisallowUnknownFields()
		err := dec.Decode(&req)
		if err != nil {
			// The decoder's text may quote the token.
			err = fmt.Errorf("enrolment request: %w: it must be JSON with token, csr and no other member than agent", ErrMalformed)
		}
		var agent fleet.AgentName
		var chain []byte
		if err == nil {
			agent, chain, err = answer(r, req)
		}
		log := logger.With("agent", agent, "remote", r.RemoteAddr)
		for _, known := range refusals {
			if errors.Is(err, known.err) {
				log.WarnContext(r.Context(), "certificate refused", "error", err)
				refuse(w, refusal{Status: known.status, Code: known.code, Detail: err.Error()})
				return
			}
		}
		if err != nil {
			log.ErrorContext(r.Context(), "certificate not made", "error", err)
			refuse(w, refusal{Status: http.StatusInternalServerError, Detail: "the hub couldn't do it; its log says why. Try again later."})
			return
		}
		log.InfoContext(r.Context(), done)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(enrollAnswer{string(chain)})
	})
}

func (ca *CA) enroll(ctx context.Context, store TokenStore, req enrollRequest, life time.Duration) (Token, []byte, error) {
	// The token comes first: who has none shall cost the hub little.
	t, err := VerifyToken(ctx, store, Join, req.Token)
	if err != nil {
		return Token{}, nil, err
	}
	pub, err := csrKey([]byte(req.CSR))
	if err != nil {
		return t, nil, err
	}
	if req.Agent != "" && req.Agent != t.Agent {
		return t, nil, fmt.Errorf("join token %s: %w: it is for %q, not for %q; ask for one for this agent", t.ID, ErrWrongAgent, t.Agent, req.Agent)
	}
	by, err := keyFingerprint(pub)
	if err != nil {
		return t, nil, err
	}
	if err := store.UseToken(ctx, t.ID, by, time.Now().UTC().Truncate(time.Second)); errors.Is(err, ErrUsed) {
		return t, nil, fmt.Errorf("join token %s: %w; ask for a new one, and if this agent never joined, find out who did", t.ID, ErrUsed)
	} else if err != nil {
		return t, nil, err
	}
	id := Identity{Purpose: Agent, Agent: t.Agent}
	chain, err := ca.issue(pub, id, life, x509.ExtKeyUsageClientAuth, nil)
	if err == nil {
		// Whoever holds the key of an agent that was taken back may hold its token,
		// too, which works again for that key.
		err = ca.revocations.CheckNow(ctx, Credential{Identity: id, Kind: ByToken, ID: t.ID, Issued: t.Created})
	}
	return t, chain, err
}

func refuse(w http.ResponseWriter, r refusal) {
	r.Title = http.StatusText(r.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(r.Status)
	json.NewEncoder(w).Encode(r)
}
