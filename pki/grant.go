package pki

import (
	"fmt"
	"time"
)

// grantPurpose is that of grants, in the place of Service. So a grant is no
// service token, not even to a hub that doesn't know grants.
const grantPurpose Purpose = "grant"

// RenewedLife is how long a token from Renew is good.
const RenewedLife = time.Hour

// NewGrant makes a JWT with which its holder has tokens made for one service,
// again and again until life is over. Like a refresh token of OAuth it goes to
// the hub's API alone, and no service gets to see it.
func (ca *CA) NewGrant(id Identity, life time.Duration) (string, error) {
	c, err := newClaims(id, grantPurpose, life)
	if err != nil {
		return "", err
	}
	return ca.sign(c)
}

// Renew makes a service token of a grant, for the grant's service and holder,
// and not for longer. It has the grant's id and counts as issued when the
// grant was: what takes back the one takes back the other. The error is as
// that of VerifyServiceToken.
func (ca *CA) Renew(grant string) (token string, made Credential, err error) {
	if len(grant) > maxJWT {
		return "", Credential{}, errNoJWT
	}
	g, err := ca.verifyJWT(grant, grantPurpose)
	if err != nil {
		return "", Credential{}, err
	}
	if err := ca.revocations.Check(g); err != nil {
		return "", Credential{}, err
	}
	c, err := newClaims(g.Identity, Service, min(RenewedLife, time.Until(g.Expires)))
	if err != nil {
		return "", Credential{}, fmt.Errorf("renew: %w", err)
	}
	c.ID, c.Granted = g.ID, g.Issued.Unix()
	if token, err = ca.sign(c); err != nil {
		return "", Credential{}, err
	}
	g.Expires = c.ExpiresAt.Time
	return token, g, nil
}
