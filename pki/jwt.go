package pki

import (
	"container/list"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"reeve.dev/reeve/fleet"
)

// claims are those of a service token, as Birger has them.
type claims struct {
	Type                 string `json:"type"`
	Name                 string `json:"name"`
	Agent                string `json:"agent"`
	Purpose              string `json:"purpose"`
	Granted              int64  `json:"auth_time,omitempty"` // of a token from Renew: when the grant was issued
	jwt.RegisteredClaims        // the subject is the holder
}

// maxJWT bounds a token before it is looked at.
const maxJWT = 8 << 10

var errNoJWT = fmt.Errorf("service token: %w: not a JWT; get one with POST /api/v1/credentials/service", ErrMalformed)

// IssueServiceToken is NewServiceToken for a token without a holder.
func (ca *CA) IssueServiceToken(agent fleet.AgentName, typ fleet.ServiceType, name fleet.ServiceName, life time.Duration) (string, error) {
	return ca.NewServiceToken(Identity{Purpose: Service, Agent: agent, Type: typ, Name: string(name)}, life)
}

// NewServiceToken makes a JWT with which a caller reaches one service. Its
// claims are type, name, agent, purpose, exp, iat, jti and, where there is a
// holder, sub; it is signed with EdDSA.
func (ca *CA) NewServiceToken(id Identity, life time.Duration) (string, error) {
	c, err := newClaims(id, Service, life)
	if err != nil {
		return "", err
	}
	return ca.sign(c)
}

// newClaims are those of a token for a service, of a purpose.
func newClaims(id Identity, purpose Purpose, life time.Duration) (claims, error) {
	if err := id.Validate(); err != nil {
		return claims{}, err
	}
	if id.Purpose != Service {
		return claims{}, fmt.Errorf("service token: it can't be for purpose %q", id.Purpose)
	}
	if life <= 0 {
		return claims{}, fmt.Errorf("service token: its life must be more than 0")
	}
	now := time.Now()
	return claims{
		Type: string(id.Type), Name: id.Name, Agent: string(id.Agent), Purpose: string(purpose),
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   id.Holder,
			ID:        uuid.NewString(),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(life)),
		},
	}, nil
}

func (ca *CA) sign(c claims) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(ca.jwtKey)
}

// VerifyServiceToken reads who a JWT was issued to. The error wraps
// ErrMalformed, ErrForeign, ErrRevoked or ErrExpired. It remembers the tokens
// that it verified, since a signature's check costs as much as a whole
// forwarded request; the time and the deny list are looked at each time.
func (ca *CA) VerifyServiceToken(text string) (Credential, error) {
	if len(text) > maxJWT {
		return Credential{}, errNoJWT
	}
	key := sha256.Sum256([]byte(text))
	t, ok := ca.tokens.get(key)
	if !ok {
		c, err := ca.verifyJWT(text, Service)
		if err != nil {
			return Credential{}, err
		}
		t = verifiedToken{key, c}
		ca.tokens.put(t)
	}
	if !time.Now().Before(t.Expires) {
		return Credential{}, tokenExpired(t.Expires)
	}
	if err := ca.revocations.Check(t.Credential); err != nil {
		return Credential{}, err
	}
	return t.Credential, nil
}

func tokenExpired(at time.Time) error {
	return fmt.Errorf("service token: %w on %s; ask for a new one", ErrExpired, at.UTC().Format(time.RFC3339))
}

// verifyJWT reads a token of a purpose, and doesn't ask the deny list.
func (ca *CA) verifyJWT(text string, purpose Purpose) (Credential, error) {
	if strings.Count(text, ".") != 2 {
		return Credential{}, errNoJWT
	}
	var c claims
	_, err := jwt.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return ca.jwtKey.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	// The library's own text may quote the token: it is not passed on.
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Credential{}, tokenExpired(c.ExpiresAt.Time)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return Credential{}, fmt.Errorf("service token: %w: another hub's key signed it; ask for a new one", ErrForeign)
	case err != nil:
		return Credential{}, fmt.Errorf("service token: %w: not a JWT of this hub's; ask for a new one", ErrMalformed)
	}
	if c.Purpose != string(purpose) {
		return Credential{}, fmt.Errorf("service token: %w: its purpose is %q, and this takes %q", ErrMalformed, c.Purpose, purpose)
	}
	id := endpoint{Name: c.Name, Type: c.Type, Agent: c.Agent, Purpose: string(Service), Holder: c.Subject}.identity()
	if err := id.Validate(); err != nil {
		return Credential{}, fmt.Errorf("service token: %w: its claims name no service", ErrMalformed)
	}
	out := Credential{Identity: id, Kind: ByToken, ID: c.ID, Expires: c.ExpiresAt.Time}
	switch {
	case c.Granted != 0:
		out.Issued = time.Unix(c.Granted, 0)
	case c.IssuedAt != nil:
		out.Issued = c.IssuedAt.Time
	}
	return out, nil
}

// maxTokens bounds what tokenCache remembers: the tokens used last.
const maxTokens = 4096

// tokenCache is the service tokens whose signature is good. The zero value is
// ready.
type tokenCache struct {
	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*list.Element // guarded by mu
	order list.List                           // guarded by mu; of verifiedToken, the one used last in front
}

type verifiedToken struct {
	key [sha256.Size]byte
	Credential
}

func (c *tokenCache) get(key [sha256.Size]byte) (verifiedToken, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return verifiedToken{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(verifiedToken), true
}

func (c *tokenCache) put(t verifiedToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[t.key] != nil {
		return
	}
	if c.byKey == nil {
		c.byKey = map[[sha256.Size]byte]*list.Element{}
	}
	c.byKey[t.key] = c.order.PushFront(t)
	if c.order.Len() > maxTokens {
		delete(c.byKey, c.order.Remove(c.order.Back()).(verifiedToken).key)
	}
}
