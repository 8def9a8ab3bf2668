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
	Type    string `json:"type"`
	Name    string `json:"name"`
	Agent   string `json:"agent"`
	Purpose string `json:"purpose"`
	jwt.RegisteredClaims
}

// maxJWT bounds a token before it is looked at.
const maxJWT = 8 << 10

var errNoJWT = fmt.Errorf("service token: %w: not a JWT; get one with POST /api/v1/credentials/service", ErrMalformed)

// IssueServiceToken makes a JWT with which a caller reaches one service. Its
// claims are type, name, agent, purpose, exp, iat and jti; it is signed with
// EdDSA.
func (ca *CA) IssueServiceToken(agent fleet.AgentName, typ fleet.ServiceType, name fleet.ServiceName, life time.Duration) (string, error) {
	id := Identity{Purpose: Service, Agent: agent, Type: typ, Name: string(name)}
	if err := id.Validate(); err != nil {
		return "", err
	}
	if life <= 0 {
		return "", fmt.Errorf("service token: its life must be more than 0")
	}
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		Type: string(typ), Name: string(name), Agent: string(agent), Purpose: string(Service),
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        uuid.NewString(),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(life)),
		},
	})
	return t.SignedString(ca.jwtKey)
}

// VerifyServiceToken reads who a JWT was issued to. The error wraps
// ErrMalformed, ErrForeign or ErrExpired. It remembers the tokens that it
// verified, since a signature's check costs as much as a whole forwarded
// request; the time is looked at each time.
func (ca *CA) VerifyServiceToken(text string) (Identity, error) {
	if len(text) > maxJWT {
		return Identity{}, errNoJWT
	}
	key := sha256.Sum256([]byte(text))
	if t, ok := ca.tokens.get(key); ok {
		if !time.Now().Before(t.expires) {
			return Identity{}, tokenExpired(t.expires)
		}
		return t.id, nil
	}
	id, expires, err := ca.verifyServiceToken(text)
	if err == nil {
		ca.tokens.put(verifiedToken{key, id, expires})
	}
	return id, err
}

func tokenExpired(at time.Time) error {
	return fmt.Errorf("service token: %w on %s; ask for a new one", ErrExpired, at.UTC().Format(time.RFC3339))
}

func (ca *CA) verifyServiceToken(text string) (id Identity, expires time.Time, err error) {
	if strings.Count(text, ".") != 2 {
		return Identity{}, time.Time{}, errNoJWT
	}
	var c claims
	_, err = jwt.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return ca.jwtKey.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	// The library's own text may quote the token: it is not passed on.
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Identity{}, time.Time{}, tokenExpired(c.ExpiresAt.Time)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return Identity{}, time.Time{}, fmt.Errorf("service token: %w: another hub's key signed it; ask for a new one", ErrForeign)
	case err != nil:
		return Identity{}, time.Time{}, fmt.Errorf("service token: %w: not a JWT of this hub's; ask for a new one", ErrMalformed)
	}
	id = endpoint{Name: c.Name, Type: c.Type, Agent: c.Agent, Purpose: c.Purpose}.identity()
	if err := id.Validate(); err != nil || id.Purpose != Service {
		return Identity{}, time.Time{}, fmt.Errorf("service token: %w: its claims name no service", ErrMalformed)
	}
	return id, c.ExpiresAt.Time, nil
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
	key     [sha256.Size]byte
	id      Identity
	expires time.Time
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
