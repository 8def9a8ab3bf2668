// Package sign signs alerts by keys of the hub's own, so that a sink can tell
// that one comes from it: see package verify, which is the receiver's half.
//
// The keys are in the database, sealed, and shared by the replicas of a hub.
// One is made when there is none. To replace it another is made beside it:
// from then on both sign, so that a sink has time to learn the new one, until
// the old one ends.
package sign

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/alert/verify"
)

// Overlap is how long the old key signs beside the new one.
const Overlap = 7 * 24 * time.Hour

// refresh is how long a replica may sign without a key that another has made.
const refresh = time.Minute

// ErrRotating means that the keys are being replaced: there are two of them
// already.
var ErrRotating = errors.New("there are two keys, and no more may be valid at a time; end the old one first")

// ErrNoKey means that there is no key of that ID, or it is the only one.
var ErrNoKey = errors.New("no such key, or it is the only one")

// Key is a key as it is kept.
type Key struct {
	ID     string
	Public ed25519.PublicKey
	// Sealed is the private half.
	Sealed  []byte
	Created time.Time
	// Ends is when it signs no more; zero while it has no successor.
	Ends time.Time
}

// Store keeps keys.
type Store interface {
	// AlertKeys are the keys that haven't ended at a time, the newest first.
	AlertKeys(ctx context.Context, now time.Time) ([]Key, error)
	// AddAlertKey adds a key and has those that have no end yet end at a time;
	// the zero time: not yet.
	// If there are more than others valid keys already, it adds none and
	// reports so.
	AddAlertKey(ctx context.Context, k Key, others int, end time.Time) (added bool, err error)
	// EndAlertKey ends a key now, unless it is the last, and reports whether
	// it did.
	EndAlertKey(ctx context.Context, id string, now time.Time) (bool, error)
}

// Sealer keeps the private halves from whoever reads the database.
type Sealer interface {
	Seal(purpose string, secret []byte) ([]byte, error)
	Open(purpose string, sealed []byte) ([]byte, error)
}

const purpose = "alert signing key"

// Ring signs by the valid keys. It is safe for concurrent use.
type Ring struct {
	store  Store
	sealer Sealer
	log    *slog.Logger

	mu    sync.Mutex
	keys  []Key                         // guarded by mu, as are the others
	known map[string]ed25519.PrivateKey // by ID
	read  time.Time
}

// Open returns the ring of a store's keys. It makes one if there is none.
func Open(ctx context.Context, store Store, sealer Sealer, log *slog.Logger) (*Ring, error) {
	r := &Ring{store: store, sealer: sealer, log: log, known: map[string]ed25519.PrivateKey{}}
	_, _, err := r.valid(ctx)
	if errors.Is(err, errNoneValid) {
		// There is none yet, or the hub's CA was replaced. In case it is this
		// hub that has a wrong one, those that it can't open go on.
		if _, err = r.add(ctx, len(r.keys), time.Time{}); err == nil {
			r.forget()
			_, _, err = r.valid(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keys that alerts are signed by: %w", err)
	}
	return r, nil
}

var errNoneValid = errors.New("there is no valid key")

// add makes a key unless more than others are valid, which end at a time, or
// as before.
func (r *Ring) add(ctx context.Context, others int, end time.Time) (bool, error) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return false, err
	}
	sealed, err := r.sealer.Seal(purpose, private.Seed())
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(pub)
	return r.store.AddAlertKey(ctx, Key{ID: hex.EncodeToString(sum[:8]), Public: pub, Sealed: sealed, Created: time.Now()}, others, end)
}

// valid are the keys that sign now, with their private halves. Those that were
// known before are used while the store can't be asked, and those that can't be
// opened are left out: errNoneValid if that leaves none.
func (r *Ring) valid(ctx context.Context) ([]Key, []ed25519.PrivateKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	reread := now.Sub(r.read) > refresh
	if reread {
		keys, err := r.store.AlertKeys(ctx, now)
		switch {
		case err == nil:
			r.keys, r.read = keys, now
		case len(r.keys) == 0:
			return nil, nil, err
		default:
			r.log.WarnContext(ctx, "the keys that alerts are signed by can't be read anew; those known before are used", "error", err)
		}
	}
	var keys []Key
	var private []ed25519.PrivateKey
	for _, k := range r.keys {
		if !k.Ends.IsZero() && !k.Ends.After(now) {
			continue
		}
		if r.known[k.ID] == nil {
			seed, err := r.sealer.Open(purpose, k.Sealed)
			if err != nil || len(seed) != ed25519.SeedSize {
				if reread {
					r.log.WarnContext(ctx, "a key that alerts are signed by can't be opened, and doesn't sign; if the hub's CA was replaced, end it: reeve alerts keys end ID", "key", k.ID, "error", err)
				}
				continue
			}
			r.known[k.ID] = ed25519.NewKeyFromSeed(seed)
		}
		keys, private = append(keys, k), append(private, r.known[k.ID])
	}
	if len(keys) == 0 {
		return nil, nil, errNoneValid
	}
	return keys, private, nil
}

// forget has the store asked again.
func (r *Ring) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = time.Time{}
}

// Keys are the valid keys, the newest first, without their private halves.
func (r *Ring) Keys(ctx context.Context) ([]Key, error) {
	keys, err := r.store.AlertKeys(ctx, time.Now())
	for i := range keys {
		keys[i].Sealed = nil
	}
	return keys, err
}

// Rotate makes a new key. The old one signs beside it for the Overlap.
func (r *Ring) Rotate(ctx context.Context) error {
	defer r.forget()
	added, err := r.add(ctx, 1, time.Now().Add(Overlap))
	if err == nil && !added {
		err = ErrRotating
	}
	return err
}

// End has a key not sign any more, as when somebody else may have it.
func (r *Ring) End(ctx context.Context, id string) error {
	defer r.forget()
	ended, err := r.store.EndAlertKey(ctx, id, time.Now())
	if err == nil && !ended {
		err = ErrNoKey
	}
	return err
}

// Envelope is the envelope, in JSON, of a statement about a request.
func (r *Ring) Envelope(ctx context.Context, s verify.Statement, request []byte) (string, error) {
	keys, private, err := r.valid(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(request)
	s.SHA256 = hex.EncodeToString(sum[:])
	payload, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	e := verify.Envelope{PayloadType: verify.PayloadType, Payload: payload}
	signed := verify.PAE(e.PayloadType, e.Payload)
	for i, k := range keys {
		e.Signatures = append(e.Signatures, verify.Signature{KeyID: k.ID, Sig: ed25519.Sign(private[i], signed)})
	}
	text, err := json.Marshal(e)
	return string(text), err
}

// Webhook is the header webhook-signature of a webhook, as Standard Webhooks
// 1.0.0 has it for asymmetric keys.
func (r *Ring) Webhook(ctx context.Context, id, timestamp string, body []byte) (string, error) {
	_, private, err := r.valid(ctx)
	if err != nil {
		return "", err
	}
	var words []string
	signed := verify.WebhookContent(id, timestamp, body)
	for _, key := range private {
		words = append(words, "v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(key, signed)))
	}
	return strings.Join(words, " "), nil
}

// KeySet is what is published: a JSON Web Key Set.
func (r *Ring) KeySet(ctx context.Context) ([]byte, error) {
	keys, err := r.store.AlertKeys(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	public, ids := verify.Keys{}, make([]string, len(keys))
	for i, k := range keys {
		public[k.ID], ids[i] = k.Public, k.ID
	}
	return public.JSON(ids)
}
