package lagoon

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ErrToken means that a token isn't one of ours: missing, malformed, made
// with another secret, or expired. Its wrapped error says which.
var ErrToken = errors.New("insights token refused")

// Namespace is what a token says of its bearer.
type Namespace struct {
	Name            string
	EnvironmentID   string
	ProjectName     string
	EnvironmentName string
}

// NewToken makes the token of a namespace: a JWT, HS256, that ends at end, or
// never if that is zero.
func NewToken(secret []byte, ns Namespace, end time.Time) (string, error) {
	claims := jwt.MapClaims{
		"Namespace":       ns.Name,
		"EnvironmentId":   ns.EnvironmentID,
		"ProjectName":     ns.ProjectName,
		"EnvironmentName": ns.EnvironmentName,
	}
	if !end.IsZero() {
		claims["exp"] = end.Unix()
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
}

// TokenEnd is when a token ends; zero for one that doesn't, and for what isn't
// one.
func TokenEnd(token string) time.Time {
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		return time.Time{}
	}
	end, err := claims.GetExpirationTime()
	if err != nil || end == nil {
		return time.Time{}
	}
	return end.Time
}

// ParseToken verifies the value of an Authorization header, with "Bearer "
// before the token or without, by any of the secrets. Every error is an
// ErrToken, and none holds the token.
func ParseToken(header string, secrets ...[]byte) (Namespace, error) {
	var first error
	for _, secret := range secrets {
		ns, err := parseToken(secret, header)
		if err == nil {
			return ns, nil
		}
		if first == nil {
			first = err
		}
	}
	return Namespace{}, first
}

func parseToken(secret []byte, header string) (Namespace, error) {
	token := strings.TrimSpace(header)
	if len(token) > 7 && strings.EqualFold(token[:7], "bearer ") {
		token = strings.TrimSpace(token[7:])
	}
	if token == "" {
		return Namespace{}, fmt.Errorf("%w: there is none in the header Authorization", ErrToken)
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims,
		func(*jwt.Token) (any, error) { return secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithJSONNumber())
	if err != nil {
		return Namespace{}, fmt.Errorf("%w: %s", ErrToken, reason(err))
	}
	var ns Namespace
	for claim, field := range map[string]*string{
		"Namespace":       &ns.Name,
		"EnvironmentId":   &ns.EnvironmentID,
		"ProjectName":     &ns.ProjectName,
		"EnvironmentName": &ns.EnvironmentName,
	} {
		v, ok := claims[claim]
		if !ok {
			return Namespace{}, fmt.Errorf("%w: unable to find key '%s' in valid token", ErrToken, claim)
		}
		*field = fmt.Sprint(v)
	}
	return ns, nil
}

// reason keeps to fixed texts, since the library's can quote the token.
func reason(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "it has expired; use the one in the Secret " + TokenSecret + " of the namespace"
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return "it isn't valid yet"
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "it isn't a JWT"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return "it wasn't signed with this agent's secret by HS256; use the one in the Secret " + TokenSecret + " of the namespace"
	}
	return "its claims are invalid"
}
