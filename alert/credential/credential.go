// Package credential is how a hub shows a receiver of alerts who it is: by a
// client certificate (TLS), or by a token that one of several ways gives.
//
// A way has a name in the configuration. Ways are the ones known here; a
// program of one's own can hand New others besides:
//
//	google          Google's application default credentials: a service
//	                account's key, workload identity, the metadata server
//	oauth2          the client credentials of OAuth 2.0 (RFC 6749, 4.4)
//	token-exchange  a token for another one (RFC 8693)
//	jwt-file        a JSON Web Token in a file that something renews, such as
//	                Kubernetes' projected tokens
//	token-file      any other token in a file
//
// Tokens are sent over TLS only. They are kept until shortly before they end,
// and forgotten when a receiver refuses one. No error of this package has a
// token or secret in it, nor what a token endpoint answered beyond its code.
package credential

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is the credential of one sink. Type is a way's name; empty: none.
type Config struct {
	Type string `yaml:"type"`
	// TokenURL, ClientID, ClientSecretFile and Scopes are for oauth2 and, if
	// it wants them, token-exchange; Scopes for google too.
	TokenURL         string   `yaml:"tokenURL"`
	ClientID         string   `yaml:"clientID"`
	ClientSecretFile string   `yaml:"clientSecretFile"`
	Scopes           []string `yaml:"scopes"`
	// CAFile is what the token endpoint's certificate is verified with; empty:
	// the system's.
	CAFile string `yaml:"caFile"`
	// Audience is whom the token is for. With it google gives an ID token, as
	// Cloud Run and IAP want it, and else an access token.
	Audience string `yaml:"audience"`
	// File holds the token of jwt-file and token-file, the one that
	// token-exchange gives away and, for google, the credentials' JSON; there
	// empty means where Google's libraries look.
	File string `yaml:"file"`
	// SubjectTokenType and RequestedTokenType are those of token-exchange; the
	// default is a JWT for an access token.
	SubjectTokenType   string `yaml:"subjectTokenType"`
	RequestedTokenType string `yaml:"requestedTokenType"`
}

// Token is a bearer token. Expires is zero if that isn't known.
type Token struct {
	Value   string
	Expires time.Time
}

// Fetch gets a token.
type Fetch func(ctx context.Context) (Token, error)

// Factory makes a way of a configuration, or says which key of it is wrong.
type Factory func(Config) (Fetch, error)

// Ways are factories by the name of the way.
type Ways map[string]Factory

// Known are the ways of this package.
func Known() Ways {
	return Ways{"google": googleADC, "oauth2": clientCredentials, "token-exchange": tokenExchange, "jwt-file": jwtFile, "token-file": tokenFile}
}

// Source gives tokens. It is safe for concurrent use. A nil one gives none.
type Source struct {
	fetch Fetch

	turn chan struct{} // held by who fetches

	mu    sync.Mutex
	token Token // guarded by mu
}

// New returns the source of a configuration; nil if it has no type.
func (w Ways) New(c Config) (*Source, error) {
	if c.Type == "" {
		return nil, nil
	}
	factory, ok := w[c.Type]
	if !ok {
		return nil, fmt.Errorf("credential.type %q: it must be one of %s", c.Type, strings.Join(slices.Sorted(maps.Keys(w)), ", "))
	}
	fetch, err := factory(c)
	if err != nil {
		return nil, fmt.Errorf("credential.%w", err)
	}
	return &Source{fetch: fetch, turn: make(chan struct{}, 1)}, nil
}

// early is how long before its end a token isn't used any more, and unknown
// how long one is whose end nobody told.
const (
	early   = 30 * time.Second
	unknown = time.Minute
)

// Token returns a token that is valid now. Of several callers one fetches it.
func (s *Source) Token(ctx context.Context) (string, error) {
	if s == nil {
		return "", nil
	}
	if t, ok := s.kept(); ok {
		return t, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if t, ok := s.kept(); ok {
		return t, nil
	}
	t, err := s.fetch(ctx)
	if err != nil {
		return "", fmt.Errorf("no token: %w", err)
	}
	if !sendable(t.Value) {
		return "", errors.New("no token: what was given can't be sent in a header")
	}
	if t.Expires.IsZero() {
		t.Expires = time.Now().Add(unknown + early)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = t
	return t.Value, nil
}

func (s *Source) kept() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token.Value, s.token.Value != "" && time.Until(s.token.Expires) > early
}

// Refused is told that a receiver didn't take a token: it isn't used again.
func (s *Source) Refused(token string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token.Value == token {
		s.token = Token{}
	}
}

// maxToken is more than any header takes.
const maxToken = 32 << 10

func sendable(token string) bool {
	return token != "" && len(token) <= maxToken && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}
