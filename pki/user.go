package pki

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// UserLife is for how long a sealed user name can be opened.
const UserLife = 15 * time.Minute

const (
	userIssuer = "reeve-user"
	maxUser    = 1 << 10
)

// userClaims are those of a sealed user name, as Birger has them. What a
// service token must claim isn't among them, so neither passes for the other.
type userClaims struct {
	User string `json:"u"`
	jwt.RegisteredClaims
}

// SealUser makes a token of the name of a user of Spinnaker, which only this
// CA can make, for [UserLife].
func (ca *CA) SealUser(name string) (string, error) {
	if name == "" || len(name) > maxUser {
		return "", fmt.Errorf("user name: %w: it must have 1 to %d bytes", ErrMalformed, maxUser)
	}
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodEdDSA, userClaims{User: name, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: userIssuer, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(UserLife)),
	}}).SignedString(ca.jwtKey)
}

// OpenUser answers the name that SealUser was given. The error wraps
// ErrMalformed, ErrForeign or ErrExpired.
func (ca *CA) OpenUser(sealed string) (string, error) {
	if len(sealed) > maxJWT {
		return "", fmt.Errorf("user name: %w: it isn't sealed", ErrMalformed)
	}
	var c userClaims
	_, err := jwt.ParseWithClaims(sealed, &c, func(*jwt.Token) (any, error) { return ca.jwtKey.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(userIssuer), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", fmt.Errorf("user name: %w", ErrExpired)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return "", fmt.Errorf("user name: %w", ErrForeign)
	case err != nil || c.User == "":
		return "", fmt.Errorf("user name: %w: it isn't sealed", ErrMalformed)
	}
	return c.User, nil
}
