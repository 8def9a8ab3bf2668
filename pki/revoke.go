package pki

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/fleet"
)

// ErrRevoked: somebody took the credential back. It wraps ErrForeign, since
// it is for good.
var ErrRevoked = fmt.Errorf("%w: revoked", ErrForeign)

// Credential is one certificate or service token: who it is for, and by what
// it can be told from others of the same holder.
type Credential struct {
	Identity
	// Kind is ByCertificate or ByToken, and ID the certificate's serial number
	// in hexadecimal or the token's jti. Neither is a secret.
	Kind            RevocationKind
	ID              string
	Issued, Expires time.Time
}

// Key names the credential among all, as certificate/SERIAL or token/JTI.
func (c Credential) Key() string { return string(c.Kind) + "/" + c.ID }

// CredentialOf reads cert as IdentityOf does.
func CredentialOf(cert *x509.Certificate) (Credential, error) {
	id, err := IdentityOf(cert)
	if err != nil {
		return Credential{}, err
	}
	return credential(id, cert), nil
}

// CredentialIn is CredentialOf the first certificate in PEM.
func CredentialIn(chain []byte) (Credential, error) {
	certs, err := parseChain(chain)
	if err != nil {
		return Credential{}, err
	}
	return CredentialOf(certs[0])
}

func credential(id Identity, cert *x509.Certificate) Credential {
	return Credential{
		Identity: id, Kind: ByCertificate, ID: cert.SerialNumber.Text(16),
		Issued: cert.NotBefore.Add(skew), Expires: cert.NotAfter,
	}
}

// RevocationKind says what a Revocation names.
type RevocationKind string

// A revocation takes back one certificate by its serial number or one service
// token by its jti; or everything that was issued until then: to an identity,
// such as spiffe://reeve/agent/east, or to a holder. What is issued to an
// identity or holder afterwards is good.
const (
	ByCertificate RevocationKind = "certificate"
	ByToken       RevocationKind = "token"
	ByIdentity    RevocationKind = "identity"
	ByHolder      RevocationKind = "holder"
)

// Revocation is one entry of the deny list.
type Revocation struct {
	Kind RevocationKind
	ID   string
	// Reason and By, who did it, are for people.
	Reason, By string
	At         time.Time
}

// RevocationStore keeps the deny list. It is implemented in store.
type RevocationStore interface {
	// Revoke adds an entry; one of the same kind and id takes its place.
	Revoke(ctx context.Context, r Revocation) error
	// Revocations lists the entries made since a time, the newest first.
	Revocations(ctx context.Context, since time.Time) ([]Revocation, error)
}

const maxRevocationText = 300

// Normal answers r with its id in the form that is compared, or an error that
// says what is wrong with it and wraps ErrMalformed.
func (r Revocation) Normal() (Revocation, error) {
	r.ID = strings.TrimSpace(r.ID)
	bad := func(what string) (Revocation, error) {
		return Revocation{}, fmt.Errorf("revocation by %s: %w: %s", r.Kind, ErrMalformed, what)
	}
	if len(r.ID) > maxRevocationText || len(r.Reason) > maxRevocationText {
		return bad(fmt.Sprintf("id and reason have at most %d bytes", maxRevocationText))
	}
	switch r.Kind {
	case ByCertificate:
		n, ok := new(big.Int).SetString(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(r.ID), "0x"), ":", ""), 16)
		if !ok || n.Sign() <= 0 {
			return bad("the id must be a serial number in hexadecimal, as `openssl x509 -serial` prints it")
		}
		r.ID = n.Text(16)
	case ByToken:
		// A JWT has dots; so may a subject, of whom an issuer speaks.
		if r.ID == "" || !strings.HasPrefix(r.ID, byIssuer) && strings.ContainsAny(r.ID, ". \t\r\n") {
			return bad("the id must be the token's jti or id, not the token itself")
		}
	case ByIdentity:
		if id, err := ParseIdentity(r.ID); err != nil || id.String() != r.ID {
			return bad("the id must be a SPIFFE id, such as spiffe://reeve/agent/NAME")
		}
	case ByHolder:
		if err := fleet.ServiceName(r.ID).Validate(); err != nil {
			return bad("the id must be a holder's name")
		}
	default:
		return Revocation{}, fmt.Errorf("kind %q: %w: it must be certificate, token, identity or holder", string(r.Kind), ErrMalformed)
	}
	return r, nil
}

type revocationKey struct {
	kind RevocationKind
	id   string
}

// Revocations is the deny list in memory, and who wants to know of it. Each
// CA has one, which its Peers and VerifyServiceToken ask after every cache.
// It is safe for concurrent use; the zero value is an empty list.
type Revocations struct {
	mu      sync.RWMutex
	entries map[revocationKey]Revocation  // guarded by mu
	watches map[*revocationWatch]struct{} // guarded by mu
	newest  time.Time                     // guarded by mu; the newest entry's At
	store   RevocationStore               // guarded by mu; that of Load
}

type revocationWatch struct {
	credential Credential
	cut        func(error)
}

// Revocations is the deny list of this CA's credentials.
func (ca *CA) Revocations() *Revocations { return &ca.revocations }

// Check answers an error that wraps ErrRevoked for a credential that was
// taken back.
func (rs *Revocations) Check(c Credential) error {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.check(c)
}

// CheckNow is Check that asks the store of Load first. It is for the moment before
// something is handed out that c has asked for and that counts as issued later:
// what another replica has revoked isn't known here yet, and would be got round.
func (rs *Revocations) CheckNow(ctx context.Context, c Credential) error {
	rs.mu.RLock()
	store := rs.store
	rs.mu.RUnlock()
	if store != nil {
		if err := rs.read(ctx, store, rs.since()); err != nil {
			return err
		}
	}
	return rs.Check(c)
}

// check is called with mu held.
func (rs *Revocations) check(c Credential) error {
	if len(rs.entries) == 0 {
		return nil
	}
	if r, ok := rs.entries[revocationKey{c.Kind, c.ID}]; ok {
		return r.error()
	}
	keys := [2]revocationKey{{ByIdentity, c.Identity.String()}, {ByHolder, c.Holder}}
	for _, k := range keys {
		// Certificates and tokens tell their beginning in whole seconds.
		if r, ok := rs.entries[k]; ok && c.Issued.Unix() <= r.At.Unix() {
			return r.error()
		}
	}
	return nil
}

func (r Revocation) error() error {
	return fmt.Errorf("%s %s: %w on %s; ask for a new one", r.Kind, r.ID, ErrRevoked, r.At.UTC().Format(time.RFC3339))
}

// Watch has cut called once, from a goroutine of its own, when c is revoked,
// also if it was so already. stop ends the watch; cut may run while it is
// called.
func (rs *Revocations) Watch(c Credential, cut func(error)) (stop func()) {
	w := &revocationWatch{c, cut}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if err := rs.check(c); err != nil {
		go cut(err)
		return func() {}
	}
	if rs.watches == nil {
		rs.watches = map[*revocationWatch]struct{}{}
	}
	rs.watches[w] = struct{}{}
	return func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		delete(rs.watches, w)
	}
}

// Revoke takes a credential back: it is durable, and in force on this hub,
// when Revoke returns. What is issued to an identity or holder after that is
// good: since credentials tell their beginning in whole seconds, Revoke waits
// for the end of its own.
func (rs *Revocations) Revoke(ctx context.Context, store RevocationStore, r Revocation) (Revocation, error) {
	r, err := r.Normal()
	if err != nil {
		return Revocation{}, err
	}
	second := func() time.Time { return time.Now().UTC().Truncate(time.Second) }
	all := r.Kind == ByIdentity || r.Kind == ByHolder
	// What was issued while the store took its time would be good: it is told anew.
	for range slowestRevocation {
		r.At = second()
		if err := store.Revoke(ctx, r); err != nil {
			return Revocation{}, err
		}
		rs.add([]Revocation{r})
		if !all || r.At.Equal(second()) {
			break
		}
	}
	if all {
		select {
		case <-time.After(time.Until(r.At.Add(time.Second))):
		case <-ctx.Done(): // it is revoked all the same
		}
	}
	return r, nil
}

func (rs *Revocations) add(list []Revocation) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.entries == nil {
		rs.entries = map[revocationKey]Revocation{}
	}
	changed := false
	for _, r := range list {
		k := revocationKey{r.Kind, r.ID}
		if old, ok := rs.entries[k]; ok && !r.At.After(old.At) {
			continue
		}
		rs.entries[k], changed = r, true
		if r.At.After(rs.newest) {
			rs.newest = r.At
		}
	}
	if !changed {
		return
	}
	for w := range rs.watches {
		if err := rs.check(w.credential); err != nil {
			delete(rs.watches, w)
			go w.cut(err)
		}
	}
}

const (
	// slowestRevocation is how often a store that takes more than the second that a
	// revocation is of is told the next.
	slowestRevocation = 10
	// revocationPoll is how late another replica's revocation may come.
	revocationPoll = time.Second
	// revocationOverlap is how far back each look goes, for replicas whose
	// clocks differ and transactions that took a while.
	revocationOverlap = time.Hour
)

// Load reads the whole list; call it before the first request.
func (rs *Revocations) Load(ctx context.Context, store RevocationStore) error {
	rs.mu.Lock()
	rs.store = store
	rs.mu.Unlock()
	return rs.read(ctx, store, time.Time{})
}

func (rs *Revocations) read(ctx context.Context, store RevocationStore, since time.Time) error {
	list, err := store.Revocations(ctx, since)
	if err != nil {
		return fmt.Errorf("read the revocations: %w", err)
	}
	rs.add(list)
	return nil
}

// Run learns once a second what other replicas have revoked, until ctx ends.
func (rs *Revocations) Run(ctx context.Context, store RevocationStore, logger *slog.Logger) {
	tick := time.NewTicker(revocationPoll)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := rs.read(ctx, store, rs.since())
		if err != nil && ctx.Err() == nil && !failing {
			logger.ErrorContext(ctx, "what other replicas revoke isn't known here, will retry", "error", err)
		}
		failing = err != nil
	}
}

func (rs *Revocations) since() time.Time {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if rs.newest.IsZero() {
		return rs.newest
	}
	return rs.newest.Add(-revocationOverlap)
}
