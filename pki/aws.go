package pki

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"reeve.dev/reeve/fleet"
)

// AWS is the type of services that are called with an AWS client, whose
// requests carry a signature (SigV4) and not the credential itself.
const AWS fleet.ServiceType = "aws"

// NewAWSCredential makes the access key and the secret with which an AWS
// client signs its requests for one service. The access key is
// NAME.AGENT.ISSUED.EXPIRES.ID, which says all that VerifyAWSKey answers; the
// secret follows from it by a key of the CA's, so that nothing is stored and
// every replica of the hub knows it. A holder has no place in it.
func (ca *CA) NewAWSCredential(agent fleet.AgentName, name fleet.ServiceName, life time.Duration) (accessKey, secret string, err error) {
	id := Identity{Purpose: Service, Agent: agent, Type: AWS, Name: string(name)}
	if err := id.Validate(); err != nil {
		return "", "", err
	}
	if life <= 0 {
		return "", "", fmt.Errorf("AWS access key: its life must be more than 0")
	}
	now := time.Now()
	accessKey = fmt.Sprintf("%s.%s.%d.%d.%s", name, agent, now.Unix(), now.Add(life).Unix(), uuid.NewString())
	return accessKey, ca.awsSecret(accessKey), nil
}

// maxAWSKey bounds an access key before it is looked at.
const maxAWSKey = 512

// VerifyAWSKey is what forward.AWSKeys is made of on the hub: it answers whom
// an access key was made for, and the secret that a
// request with it must be signed with: only a request whose signature is
// right comes from the holder, and an access key alone proves nothing, not
// even that this hub made it. The error wraps ErrMalformed, ErrExpired or
// ErrRevoked.
func (ca *CA) VerifyAWSKey(accessKey string) (c Credential, secret string, err error) {
	c, err = parseAWSKey(accessKey)
	if err != nil {
		return Credential{}, "", err
	}
	if !time.Now().Before(c.Expires) {
		return Credential{}, "", fmt.Errorf("AWS access key: %w on %s; ask for a new one", ErrExpired, c.Expires.Format(time.RFC3339))
	}
	if err := ca.revocations.Check(c); err != nil {
		return Credential{}, "", err
	}
	return c, ca.awsSecret(accessKey), nil
}

func parseAWSKey(key string) (Credential, error) {
	bad := fmt.Errorf("AWS access key: %w: it is not one of this hub's; get one with POST /api/v1/generateServiceCredentials", ErrMalformed)
	// A service's name may hold dots; what follows it doesn't.
	parts := strings.Split(key, ".")
	if len(key) > maxAWSKey || len(parts) < 5 {
		return Credential{}, bad
	}
	end := parts[len(parts)-4:]
	issued, err1 := strconv.ParseInt(end[1], 10, 64)
	expires, err2 := strconv.ParseInt(end[2], 10, 64)
	id := Identity{Purpose: Service, Agent: fleet.AgentName(end[0]), Type: AWS, Name: strings.Join(parts[:len(parts)-4], ".")}
	if err1 != nil || err2 != nil || id.Validate() != nil || uuid.Validate(end[3]) != nil {
		return Credential{}, bad
	}
	return Credential{
		Identity: id, Kind: ByToken, ID: end[3],
		Issued: time.Unix(issued, 0).UTC(), Expires: time.Unix(expires, 0).UTC(),
	}, nil
}

// awsSecret is a MAC of the access key. The key for it is derived, so that
// the one that signs JWTs serves one algorithm only.
func (ca *CA) awsSecret(accessKey string) string {
	key := hmac.New(sha256.New, ca.jwtKey.Seed())
	key.Write([]byte("reeve aws secret v1"))
	mac := hmac.New(sha256.New, key.Sum(nil))
	mac.Write([]byte(accessKey))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
