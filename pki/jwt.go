package pki

import (
	"errors"
	"fmt"
	"strings"
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

// maxJWT bounds a token before it is parsed.
const maxJWT = 8 << 10

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
// ErrMalformed, ErrForeign or ErrExpired.
func (ca *CA) VerifyServiceToken(text string) (Identity, error) {
	if len(text) > maxJWT || strings.Count(text, ".") != 2 {
		return Identity{}, fmt.Errorf("service token: %w: not a JWT; get one with POST /api/v1/credentials/service", ErrMalformed)
	}
	var c claims
	_, err := jwt.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return ca.jwtKey.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	// The library's own text may quote the token: it is not passed on.
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Identity{}, fmt.Errorf("service token: %w on %s; ask for a new one", ErrExpired, c.ExpiresAt.UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return Identity{}, fmt.Errorf("service token: %w: another hub's key signed it; ask for a new one", ErrForeign)
	case err != nil:
		return Identity{}, fmt.Errorf("service token: %w: not a JWT of this hub's; ask for a new one", ErrMalformed)
	}
	id := endpoint{Name: c.Name, Type: c.Type, Agent: c.Agent, Purpose: c.Purpose}.identity()
	if err := id.Validate(); err != nil || id.Purpose != Service {
		return Identity{}, fmt.Errorf("service token: %w: its claims name no service", ErrMalformed)
	}
	return id, nil
}
