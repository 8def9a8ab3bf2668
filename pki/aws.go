package pki

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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
// NAME.AGENT.ISSUED.EXPIRES.ID.PROOF, which says all that VerifyAWSKey answers;
// the proof and the secret follow from it by keys of the CA's, so that nothing
// is stored and every replica of the hub knows them. A holder has no place in
// it.
func (ca *CA) NewAWSCredential(agent fleet.AgentName, name fleet.ServiceName, life time.Duration) (accessKey, secret string, err error) {
	id := Identity{Purpose: Service, Agent: agent, Type: AWS, Name: string(name)}
	if err := id.Validate(); err != nil {
		return "", "", err
	}
	if life <= 0 {
		return "", "", fmt.Errorf("AWS access key: its life must be more than 0")
	}
	now := time.Now()
	said := fmt.Sprintf("%s.%s.%d.%d.%s", name, agent, now.Unix(), now.Add(life).Unix(), uuid.NewString())
	accessKey = said + "." + ca.awsProof(said)
	return accessKey, ca.awsSecret(accessKey), nil
}

// maxAWSKey bounds an access key before it is looked at.
const maxAWSKey = 512

// VerifyAWSKey is what forward.AWSKeys is made of on the hub: it answers whom
// an access key was made for, and the secret that a request with it must be
// signed with. That this hub made the key is proved by then, so that who has
// none costs the hub little; only a request whose signature is right comes from
// the holder. The error wraps ErrMalformed, ErrForeign, ErrExpired or
// ErrRevoked.
func (ca *CA) VerifyAWSKey(accessKey string) (c Credential, secret string, err error) {
	c, err = parseAWSKey(accessKey)
	if err != nil {
		return Credential{}, "", err
	}
	end := strings.LastIndexByte(accessKey, '.')
	if !hmac.Equal([]byte(accessKey[end+1:]), []byte(ca.awsProof(accessKey[:end]))) {
		return Credential{}, "", fmt.Errorf("AWS access key: %w; get one with POST /api/v1/generateServiceCredentials", ErrForeign)
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
	if len(key) > maxAWSKey || len(parts) < 6 {
		return Credential{}, bad
	}
	end := parts[len(parts)-5:]
	issued, err1 := strconv.ParseInt(end[1], 10, 64)
	expires, err2 := strconv.ParseInt(end[2], 10, 64)
	id := Identity{Purpose: Service, Agent: fleet.AgentName(end[0]), Type: AWS, Name: strings.Join(parts[:len(parts)-5], ".")}
	if err1 != nil || err2 != nil || id.Validate() != nil || uuid.Validate(end[3]) != nil {
		return Credential{}, bad
	}
	return Credential{
		Identity: id, Kind: ByToken, ID: end[3],
		Issued: time.Unix(issued, 0).UTC(), Expires: time.Unix(expires, 0).UTC(),
	}, nil
}

// awsSecret is a MAC of the access key.
func (ca *CA) awsSecret(accessKey string) string {
	return base64.RawURLEncoding.EncodeToString(ca.awsMAC("reeve aws secret v1", accessKey))
}

// awsProof is a short MAC of what an access key says.
func (ca *CA) awsProof(said string) string {
	return hex.EncodeToString(ca.awsMAC("reeve aws access key v1", said)[:8])
}

// awsMAC has a key of its own for each purpose, derived so that the one that
// signs JWTs serves one algorithm only.
func (ca *CA) awsMAC(purpose, text string) []byte {
	key := hmac.New(sha256.New, ca.jwtKey.Seed())
	key.Write([]byte(purpose))
	mac := hmac.New(sha256.New, key.Sum(nil))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
