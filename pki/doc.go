// Package pki is who is who: the hub's certificate authority, the identities
// that its certificates carry, the tokens that people and agents present, and
// the certificate that an agent gets and keeps.
//
// # Certificates
//
// A hub has one CA (ECDSA P-256). Each certificate that it issues names its
// holder twice: as a SPIFFE URI (spiffe://reeve/agent/NAME) and, as Birger
// did, as JSON in the subject's first OU. [IdentityOf] reads either. The key
// is made by the holder and a signing request is all that travels; only
// credentials for services, which are made for somebody else, may come with a
// key of the hub's making.
//
// # Joining
//
//	reeve token create --kind join      hub: a row with the hash of the secret
//	reeve-join_<id>_<secret>_<pin>  ──► carried to the agent by a person
//	Enroll: TLS, the hub's chain must hold the CA that pin names
//	        POST /agent/v1/enroll {token, csr}
//	hub: the token is marked used by this key, in one statement, and only
//	     then is the certificate signed
//	◄── certificate and CA, saved in the agent's data directory, mode 0600
//
// Nothing secret is sent before the pin is verified. A join token serves one
// key: when the answer is lost the agent asks again with the same key and is
// answered again; another key gets [ErrUsed]. A certificate is renewed over
// the link at two thirds of its life, with a new key each time; or by
// POST /agent/v1/renew, which takes it for some days after it has expired, so
// that a fleet outlives a long outage of its hub. After that an agent needs a
// new join token.
//
// # Tokens
//
// Every token is PREFIX_<id>_<secret>. The hub stores SHA-256 of the secret
// (160 random bits, so that a slow hash has nothing to add) and compares in
// constant time. Service tokens are the exception: they are JWTs, signed with
// Ed25519 by a key beside the CA's, and not stored.
//
// # Revocation
//
// The deny list ([Revocations]) names single certificates and service tokens,
// or everything that was issued to an identity or a holder until then. It is
// asked for each request, after every cache; whoever serves a stream watches
// its credential and cuts the stream when it is revoked. The list is in the
// store: it survives restarts, and the other replicas of a hub read it once a
// second.
//
// Errors of this package never hold a token, secret or key.
package pki

import "errors"

// What can be wrong with a credential. Errors wrap one of these and say what
// to do next.
var (
	// ErrMalformed: it isn't a token, certificate or request of the right form.
	ErrMalformed = errors.New("malformed")
	// ErrForeign: another CA or key made it, or it was revoked.
	ErrForeign = errors.New("not known to this hub")
	// ErrExpired: its time is over.
	ErrExpired = errors.New("expired")
	// ErrUsed: a one-time token was used already.
	ErrUsed = errors.New("used already")
	// ErrWrongAgent: it belongs to another agent.
	ErrWrongAgent = errors.New("for another agent")
	// ErrTooOften: the agent has had many certificates a moment ago.
	ErrTooOften = errors.New("asks for certificates too often")
	// ErrNoToken is a TokenStore's answer for an id that it doesn't hold.
	ErrNoToken = errors.New("no such token")
)

// What can be wrong with a person whom an issuer vouches for.
var (
	// ErrNoRights: the issuer knows them, and nobody gave them any right here.
	ErrNoRights = errors.New("no rights at this hub")
	// ErrIssuerAway: the issuer can't be asked now.
	ErrIssuerAway = errors.New("it can't be asked now")
)
