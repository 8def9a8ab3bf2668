package pki

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
)

// Kind is what a token is for.
type Kind string

// The kinds of token. API tokens are for programs and work until they expire
// or are revoked; a join token lets one agent enrol, once; a login token is
// the code of a one-time login link, and a session token is the cookie that
// it is exchanged for.
const (
	API     Kind = "api"
	Join    Kind = "join"
	Login   Kind = "login"
	Session Kind = "session"
)

// Lives of tokens where the caller has no other wish.
const (
	JoinLife    = time.Hour
	LoginLife   = 10 * time.Minute
	SessionLife = 12 * time.Hour
	// IssuedSessionLife is that of a session by an issuer, who is asked again
	// then whether somebody still is who he was: groups are told at no other time.
	IssuedSessionLife = time.Hour
)

var prefixes = map[Kind]string{API: "reeve", Join: "reeve-join", Login: "reeve-login", Session: "reeve-session"}

// Role is what the holder of an API, login or session token may do; each
// role includes those before it.
type Role string

// The roles, from least to most.
const (
	Viewer   Role = "viewer"   // read
	Scanner  Role = "scanner"  // and ask for and cancel scans
	Operator Role = "operator" // and change profiles, thresholds and what becomes of alerts
	Admin    Role = "admin"    // and everything else
)

var rank = map[Role]int{Viewer: 1, Scanner: 2, Operator: 3, Admin: 4}

// Allows reports whether r includes need.
func (r Role) Allows(need Role) bool { return rank[need] > 0 && rank[r] >= rank[need] }

// Validate reports whether r is a role.
func (r Role) Validate() error {
	if rank[r] == 0 {
		return fmt.Errorf("role %q: must be viewer, scanner, operator or admin", string(r))
	}
	return nil
}

// Token is a token as it is stored: without its secret.
type Token struct {
	ID   string
	Kind Kind
	// Name is for people: who or what holds the token.
	Name string
	// Agent is whom a join token is for, else empty.
	Agent fleet.AgentName
	// Rights are what its holder may do; a join token has none.
	Rights  Rights
	Hash    []byte // SHA-256 of the secret
	Created time.Time
	// Expires is zero for a token that doesn't.
	Expires time.Time
	// UsedAt is when a one-time token was used, else zero; UsedBy is the
	// fingerprint of the key that it was used for.
	UsedAt time.Time
	UsedBy string
	// Source is what a session, or the link to one, rests on: it is good as long
	// as that is; see VerifySource. The zero value is nothing else.
	Source Credential
}

// RestOn makes t good for no longer than source.
func (t *Token) RestOn(source Credential) {
	t.Source = source
	if !source.Expires.IsZero() && source.Expires.Before(t.Expires) {
		t.Expires = source.Expires
	}
}

// byIssuer begins the ids of credentials that an issuer of logins has made.
const byIssuer = "oidc:"

// IssuedTo is the credential of somebody whom an issuer vouches for.
func IssuedTo(p Person) Credential {
	return Credential{Kind: ByToken, ID: byIssuer + p.Subject, Issued: p.Issued, Expires: p.Expires}
}

// VerifySource tells whether a credential is still good on which something rests
// that was made with it. The error wraps ErrForeign or ErrExpired, or is the
// store's own. The zero value is good.
func VerifySource(ctx context.Context, store TokenStore, revoked *Revocations, c Credential) error {
	if c.ID == "" {
		return nil
	}
	if err := revoked.Check(c); err != nil {
		return err
	}
	if c.Kind != ByToken || strings.HasPrefix(c.ID, byIssuer) {
		return nil
	}
	t, err := store.TokenByID(ctx, c.ID)
	switch {
	case errors.Is(err, ErrNoToken):
		return fmt.Errorf("token %s: %w: it was revoked", c.ID, ErrForeign)
	case err != nil:
		return fmt.Errorf("look up token %s: %w", c.ID, err)
	case !t.Expires.IsZero() && !time.Now().Before(t.Expires):
		return fmt.Errorf("token %s: %w on %s", c.ID, ErrExpired, t.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// TokenStore keeps tokens. It is implemented in store.
type TokenStore interface {
	CreateToken(ctx context.Context, t Token) error
	// TokenByID answers ErrNoToken for an unknown id.
	TokenByID(ctx context.Context, id string) (Token, error)
	// UseToken marks a one-time token used, in one atomic step. It succeeds
	// for exactly one value of by, and for that one again, so that an answer
	// that was lost can be repeated; any other gets ErrUsed. An unknown id
	// gets ErrNoToken.
	UseToken(ctx context.Context, id, by string, at time.Time) error
	// ListTokens lists every token, newest first.
	ListTokens(ctx context.Context) ([]Token, error)
	// RevokeToken removes a token at once; ErrNoToken if it isn't there.
	RevokeToken(ctx context.Context, id string) error
}

// NewToken makes a token with a new id and secret, to be stored, and the text
// to hand out, which can't be had again. life 0 means that it doesn't expire.
func NewToken(kind Kind, name string, rights Rights, life time.Duration) (Token, string, error) {
	if kind != Join {
		if err := rights.Validate(); err != nil {
			return Token{}, "", err
		}
	}
	id, secret := rand.Text()[:10], rand.Text()+rand.Text()[:6] // 50 and 160 bits
	id, secret = strings.ToLower(id), strings.ToLower(secret)
	hash := sha256.Sum256([]byte(secret))
	// Whole seconds, which any store keeps as they are.
	now := time.Now().UTC().Truncate(time.Second)
	t := Token{ID: id, Kind: kind, Name: name, Rights: rights, Hash: hash[:], Created: now}
	if life > 0 {
		t.Expires = now.Add(life)
	}
	return t, prefixes[kind] + "_" + id + "_" + secret, nil
}

// NewJoinToken makes a one-time token with which agent can enrol within life.
func (ca *CA) NewJoinToken(agent fleet.AgentName, life time.Duration) (Token, string, error) {
	if err := agent.Validate(); err != nil {
		return Token{}, "", err
	}
	if life <= 0 {
		return Token{}, "", fmt.Errorf("join token: its life must be more than 0")
	}
	t, text, err := NewToken(Join, "join "+string(agent), nil, life)
	if err != nil {
		return Token{}, "", err
	}
	t.Agent = agent
	return t, text + "_" + ca.Pin(), nil
}

// Sweep removes the tokens that expired before the given time; until then
// they are there to be seen.
func Sweep(ctx context.Context, store TokenStore, before time.Time) error {
	tokens, err := store.ListTokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Expires.IsZero() || !t.Expires.Before(before) {
			continue
		}
		if err := store.RevokeToken(ctx, t.ID); err != nil && !errors.Is(err, ErrNoToken) {
			return err
		}
	}
	return nil
}

// presented is a token as it arrives.
type presented struct {
	kind   Kind
	id     string
	secret string
	pin    string // of a join token
}

// String keeps the secret out of anything that prints p.
func (p presented) String() string { return prefixes[p.kind] + "_" + p.id + "_…" }

func parseToken(kind Kind, text string) (presented, error) {
	want := 3
	if kind == Join {
		want = 4
	}
	parts := strings.Split(strings.TrimSpace(text), "_")
	if len(parts) != want || parts[0] != prefixes[kind] || !is32(parts[1], 10) || !is32(parts[2], 32) || (kind == Join && !is32(parts[3], 52)) {
		return presented{}, fmt.Errorf("%s token: %w: copy it whole, from %s_ to its last character", kind, ErrMalformed, prefixes[kind])
	}
	p := presented{kind: kind, id: parts[1], secret: parts[2]}
	if kind == Join {
		p.pin = parts[3]
	}
	return p, nil
}

// is32 reports whether s is n characters of lower-case base 32.
func is32(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// VerifyToken finds the token of a kind that text names and checks its secret
// and its time. The error wraps ErrMalformed, ErrForeign or ErrExpired, or is
// the store's own. It doesn't look at UsedAt: call UseToken for that.
func VerifyToken(ctx context.Context, store TokenStore, kind Kind, text string) (Token, error) {
	p, err := parseToken(kind, text)
	if err != nil {
		return Token{}, err
	}
	t, err := store.TokenByID(ctx, p.id)
	if err != nil && !errors.Is(err, ErrNoToken) {
		return Token{}, fmt.Errorf("look up token %s: %w", p, err)
	}
	// An unknown id takes the same steps as a wrong secret.
	hash := sha256.Sum256([]byte(p.secret))
	if subtle.ConstantTimeCompare(hash[:], t.Hash) != 1 || t.Kind != kind {
		return Token{}, fmt.Errorf("token %s: %w: it was revoked, or another hub made it; ask for a new one", p, ErrForeign)
	}
	if !t.Expires.IsZero() && !time.Now().Before(t.Expires) {
		return Token{}, fmt.Errorf("token %s: %w on %s; ask for a new one", p, ErrExpired, t.Expires.UTC().Format(time.RFC3339))
	}
	return t, nil
}
