// Package oidc knows people, and programs, by an OpenID Connect issuer, such as
// Keycloak, Dex, Entra ID, Okta or Google: a person logs in at the issuer and
// comes back with a code (the authorization code flow with PKCE, RFC 7636); a
// program sends an ID token that the issuer made for one of the audiences.
//
// What somebody may do follows from the groups in the token, by the rules of
// the [Config]. It is decided when the token comes: who is taken out of a group
// keeps a session, or a token, until its end, which is within the hour for
// sessions.
//
// The issuer is asked for nothing until somebody needs it, so a hub starts
// while it is away. Its keys are fetched again when a token names one that
// isn't known, at most once a second on average.
package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/time/rate"

	"reeve.dev/reeve/pki"
)

const (
	askTime   = 10 * time.Second
	maxAnswer = 1 << 20
	maxToken  = 16 << 10
	maxName   = 200
	maxGroups = 1000

	// askAgain is how long an issuer that was away isn't asked again what it
	// is: all who waited for its answer meanwhile get the same one.
	askAgain = time.Second
)

// Issuer is an issuer. It is safe for concurrent use.
type Issuer struct {
	cfg      Config
	callback string
	client   *http.Client

	mu     sync.Mutex
	found  *found    // guarded by mu, as are the next two; nil until the issuer has answered
	failed error     // why it didn't
	at     time.Time // when
}

// found is what the issuer says of itself.
type found struct {
	endpoint oauth2.Endpoint
	verifier *oidc.IDTokenVerifier // of any audience
}

// New makes an Issuer of a configuration that is valid. callback is the URL to
// which the issuer sends people back.
func New(cfg Config, callback string) (*Issuer, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("oidc.caFile: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("oidc.caFile: %s holds no certificate in PEM", cfg.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if _, err := cfg.secret(); err != nil {
		return nil, err
	}
	return &Issuer{
		cfg: cfg, callback: callback,
		client: &http.Client{Transport: &bounded{transport, rate.NewLimiter(1, 10)}, Timeout: askTime},
	}, nil
}

// Name is what people call it, for the page; empty where people can't log in.
func (i *Issuer) Name() string {
	if i.cfg.ClientID == "" {
		return ""
	}
	if i.cfg.Name != "" {
		return i.cfg.Name
	}
	u, err := url.Parse(i.cfg.Issuer)
	if err != nil {
		return i.cfg.Issuer
	}
	return u.Host
}

// bounded limits what is asked of the issuer, since callers whom nobody knows
// can have it asked for keys; and what is read of its answers.
type bounded struct {
	next  http.RoundTripper
	limit *rate.Limiter
}

var errTooOften = errors.New("it was asked too often just now")

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && !b.limit.Allow() {
		return nil, errTooOften
	}
	resp, err := b.next.RoundTrip(r)
	switch {
	case err != nil:
	case resp.StatusCode >= http.StatusInternalServerError:
		resp.Body.Close()
		return nil, fmt.Errorf("it answers %s", resp.Status)
	default:
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// away is the error of an issuer that can't be asked.
func (i *Issuer) away(err error) error {
	return fmt.Errorf("issuer %s: %w: %w", i.cfg.Issuer, pki.ErrIssuerAway, err)
}

func (i *Issuer) discover(ctx context.Context) (*found, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.found != nil {
		return i.found, nil
	}
	if i.failed != nil && time.Since(i.at) < askAgain {
		return nil, i.failed
	}
	// What keeps this context lives on.
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), i.client)
	p, err := oidc.NewProvider(ctx, i.cfg.Issuer)
	var said struct {
		Keys       string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err == nil {
		err = p.Claims(&said)
	}
	if err != nil {
		i.failed, i.at = i.away(err), time.Now()
		return nil, i.failed
	}
	i.found = &found{p.Endpoint(), oidc.NewVerifier(i.cfg.Issuer, keys{oidc.NewRemoteKeySet(ctx, said.Keys)}, &oidc.Config{
		SkipClientIDCheck: true, SupportedSigningAlgs: asymmetric(said.Algorithms),
	})}
	return i.found, nil
}

// asymmetric are those of an issuer's algorithms by which a token can be
// verified with its published keys.
func asymmetric(algorithms []string) []string {
	var known []string
	for _, a := range algorithms {
		switch a {
		case oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA:
			known = append(known, a)
		}
	}
	return known
}

// keys keep the error of keys that can't be fetched, which isn't the token's.
type keys struct{ oidc.KeySet }

type faultKey struct{}

func (k keys) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, jwt)
	var asked *url.Error
	if fault, ok := ctx.Value(faultKey{}).(*error); ok && errors.As(err, &asked) {
		*fault = err
	}
	return payload, err
}

// Attempt is a login under way. It stays in the browser that began it.
type Attempt struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
}

func (i *Issuer) oauth(f *found) (*oauth2.Config, error) {
	secret, err := i.cfg.secret()
	return &oauth2.Config{
		ClientID: i.cfg.ClientID, ClientSecret: secret, Endpoint: f.endpoint, RedirectURL: i.callback,
		Scopes: append([]string{oidc.ScopeOpenID}, i.cfg.Scopes...),
	}, err
}

// Begin begins a login: the browser is sent to the address and comes back to
// the callback. The error wraps pki.ErrIssuerAway.
func (i *Issuer) Begin(ctx context.Context) (address string, attempt []byte, err error) {
	f, err := i.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	conf, err := i.oauth(f)
	if err != nil {
		return "", nil, err
	}
	a := Attempt{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()}
	if attempt, err = json.Marshal(a); err != nil {
		return "", nil, err
	}
	return conf.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), attempt, nil
}

// Finish ends the login that attempt began, with what the issuer has the
// browser bring. The error wraps pki.ErrMalformed, ErrForeign, ErrExpired,
// ErrNoRights or ErrIssuerAway.
func (i *Issuer) Finish(ctx context.Context, attempt []byte, brought url.Values) (pki.Person, error) {
	var a Attempt
	if json.Unmarshal(attempt, &a) != nil || a.State == "" || a.Nonce == "" || a.Verifier == "" || brought.Get("state") != a.State {
		return pki.Person{}, fmt.Errorf("login: %w: another browser began it, or another login since; begin again", pki.ErrForeign)
	}
	if code := brought.Get("error"); code != "" {
		return pki.Person{}, fmt.Errorf("login: %w: the issuer refused it (%.100q, %.200q)", pki.ErrForeign, code, brought.Get("error_description"))
	}
	f, err := i.discover(ctx)
	if err != nil {
		return pki.Person{}, err
	}
	conf, err := i.oauth(f)
	if err != nil {
		return pki.Person{}, err
	}
	got, err := conf.Exchange(oidc.ClientContext(ctx, i.client), brought.Get("code"), oauth2.VerifierOption(a.Verifier))
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.Response.StatusCode < http.StatusInternalServerError:
		return pki.Person{}, fmt.Errorf("login: %w: the issuer doesn't take its code (%.100q, %.200q)", pki.ErrForeign, refused.ErrorCode, refused.ErrorDescription)
	case err != nil:
		return pki.Person{}, i.away(errors.New("the code can't be exchanged")) // err may hold it
	}
	text, _ := got.Extra("id_token").(string)
	return i.verify(ctx, f, text, []string{i.cfg.ClientID}, a.Nonce)
}

// Verify tells whose an ID token is that a program sent. The error is as that
// of Finish.
func (i *Issuer) Verify(ctx context.Context, token string) (pki.Person, error) {
	if len(i.cfg.Audiences) == 0 {
		return pki.Person{}, fmt.Errorf("ID token: %w: this hub takes none (oidc.audiences); use an API token", pki.ErrForeign)
	}
	f, err := i.discover(ctx)
	if err != nil {
		return pki.Person{}, err
	}
	return i.verify(ctx, f, token, i.cfg.Audiences, "")
}

func (i *Issuer) verify(ctx context.Context, f *found, text string, audiences []string, nonce string) (pki.Person, error) {
	if len(text) > maxToken || strings.Count(text, ".") != 2 {
		return pki.Person{}, fmt.Errorf("ID token: %w: it isn't a JWT", pki.ErrMalformed)
	}
	var fault error
	token, err := f.verifier.Verify(context.WithValue(ctx, faultKey{}, &fault), text)
	var late *oidc.TokenExpiredError
	switch {
	case fault != nil:
		return pki.Person{}, i.away(fault)
	case errors.As(err, &late):
		return pki.Person{}, fmt.Errorf("ID token: %w on %s; get a new one", pki.ErrExpired, late.Expiry.UTC().Format(time.RFC3339))
	case err != nil:
		return pki.Person{}, fmt.Errorf("ID token: %w: the issuer %s didn't make it as it is", pki.ErrForeign, i.cfg.Issuer)
	case !anyAudience(token.Audience, audiences):
		return pki.Person{}, fmt.Errorf("ID token: %w: it is for another audience; it must be for %s", pki.ErrForeign, strings.Join(audiences, " or "))
	case nonce != "" && token.Nonce != nonce:
		return pki.Person{}, fmt.Errorf("ID token: %w: it is of another login", pki.ErrForeign)
	}
	return i.person(token)
}

func anyAudience(has, wanted []string) bool {
	for _, h := range has {
		for _, w := range wanted {
			if h == w {
				return true
			}
		}
	}
	return false
}

// person reads the claims.
func (i *Issuer) person(token *oidc.IDToken) (pki.Person, error) {
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return pki.Person{}, fmt.Errorf("ID token: %w: its claims can't be read", pki.ErrMalformed)
	}
	p := pki.Person{Subject: token.Subject, Issued: token.IssuedAt, Expires: token.Expiry}
	if err := json.Unmarshal(claim(claims, i.cfg.NameClaim), &p.Name); err != nil || p.Name == "" || len(p.Name) > maxName || !printable(p.Name) {
		return pki.Person{}, fmt.Errorf("ID token: %w: its claim %q holds no name; set oidc.nameClaim, or have the issuer add it (oidc.scopes)", pki.ErrMalformed, i.cfg.NameClaim)
	}
	// An address that nobody has verified may be anybody's.
	if verified, ok := claims["email_verified"]; i.cfg.NameClaim == "email" && ok && string(verified) != "true" && string(verified) != `"true"` {
		return pki.Person{}, fmt.Errorf("ID token: %w: the issuer hasn't verified its email address", pki.ErrForeign)
	}
	groups, err := texts(claim(claims, i.cfg.GroupsClaim))
	if err != nil {
		return pki.Person{}, fmt.Errorf("ID token: %w: its claim %q isn't a list of groups", pki.ErrMalformed, i.cfg.GroupsClaim)
	}
	if p.Rights = i.cfg.rights(p.Name, groups); len(p.Rights) == 0 && elsewhere(claims, i.cfg.GroupsClaim) {
		return pki.Person{}, fmt.Errorf("%s: %w: the issuer left out the groups, because there are too many for a token; have it tell only those that are assigned to this application, or application roles (oidc.groupsClaim: roles)", p.Name, pki.ErrNoRights)
	}
	if len(p.Rights) == 0 {
		return pki.Person{}, fmt.Errorf("%s: %w: neither the name nor a group is in the hub's oidc.roles", p.Name, pki.ErrNoRights)
	}
	return p, nil
}

// claim finds a claim by its name, whatever that holds, or by its path through
// objects, such as Keycloak's realm_access.roles.
func claim(claims map[string]json.RawMessage, path string) json.RawMessage {
	if v, ok := claims[path]; ok {
		return v
	}
	name, rest, nested := strings.Cut(path, ".")
	var inner map[string]json.RawMessage
	if !nested || json.Unmarshal(claims[name], &inner) != nil {
		return nil
	}
	return claim(inner, rest)
}

// elsewhere reports whether the issuer says that a claim is to be had elsewhere
// (OpenID Connect Core 5.6.2), as Entra ID does of more than 200 groups. It isn't
// fetched: that takes rights at the issuer, and its address is the token's.
func elsewhere(claims map[string]json.RawMessage, name string) bool {
	var names map[string]json.RawMessage
	return json.Unmarshal(claims["_claim_names"], &names) == nil && names[name] != nil || string(claims["hasgroups"]) == "true"
}

// texts reads a list of texts, one text, or nothing.
func texts(claim json.RawMessage) (list []string, err error) {
	if len(claim) == 0 {
		return nil, nil
	}
	var one string
	if json.Unmarshal(claim, &one) == nil {
		return []string{one}, nil
	}
	if err := json.Unmarshal(claim, &list); err != nil {
		return nil, err
	}
	if len(list) > maxGroups {
		return nil, fmt.Errorf("there are more than %d", maxGroups)
	}
	return list, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}
