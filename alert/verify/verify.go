// Package verify checks that an alert comes from a Reeve hub, unchanged, and
// is meant for its receiver. It is for the authors of sinks, and needs nothing
// but the standard library.
//
// An AlertSink finds in the metadata reeve-signature of each call a DSSE
// envelope (https://github.com/secure-systems-lab/dsse) in JSON. Its payload,
// of the type application/vnd.reeve.alert+json, is a Statement: the SHA-256 of
// the request's bytes, with the alert's id and seq, when it was signed and for
// whom. Each signature is by one of the keys that the hub publishes at
// /api/v1/alert-keys, a JSON Web Key Set of Ed25519 keys (RFC 8037). While a
// key is replaced there are two of them, and signatures by both.
//
// The five fields of an AlertRequest have one encoding, so that the bytes of a
// request that was decoded can be made again:
// proto.MarshalOptions{Deterministic: true}.Marshal(request).
//
// A webhook is signed by the same keys as Standard Webhooks 1.0.0 has it
// (v1a), over its id, time and body; the body says for whom it is.
package verify

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SignatureKey is the metadata that holds an alert's envelope, and PayloadType
// the type of its payload.
const (
	SignatureKey = "reeve-signature"
	PayloadType  = "application/vnd.reeve.alert+json"
)

// The errors of a Verifier.
var (
	// ErrUnsigned means that there is no signature, or none that can be read.
	ErrUnsigned = errors.New("there is no signature of a Reeve hub")
	// ErrSignature means that no signature is by one of the keys. They may have
	// been rotated: get them again.
	ErrSignature = errors.New("no signature is by a known key")
	// ErrOther means that the signature is of another request, or for another
	// audience.
	ErrOther = errors.New("the signature is for something else")
	// ErrTime means that it was signed too long ago, or in the future.
	ErrTime = errors.New("the signature is not of now")
)

// Keys are the public keys of a hub by their IDs.
type Keys map[string]ed25519.PublicKey

// Limits of what is read.
const (
	maxKeys     = 16
	maxKeySet   = 64 << 10
	maxEnvelope = 16 << 10
)

type (
	keySet struct {
		Keys []jsonKey `json:"keys"`
	}
	jsonKey struct {
		Type  string `json:"kty"`
		Curve string `json:"crv"`
		ID    string `json:"kid"`
		Use   string `json:"use,omitempty"`
		X     string `json:"x"`
	}
)

// ParseKeys reads a JSON Web Key Set. Keys that aren't Ed25519 are left out.
func ParseKeys(text []byte) (Keys, error) {
	var set keySet
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("key set: more than %d bytes", maxKeySet)
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: more than %d keys", maxKeys)
	}
	keys := Keys{}
	for _, k := range set.Keys {
		if k.Type != "OKP" || k.Curve != "Ed25519" {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize || k.ID == "" {
			return nil, fmt.Errorf("key set: %q is no Ed25519 key", k.ID)
		}
		keys[k.ID] = x
	}
	if len(keys) == 0 {
		return nil, errors.New("key set: there is no Ed25519 key in it")
	}
	return keys, nil
}

// JSON is the key set that ParseKeys reads; its order is that of ids.
func (k Keys) JSON(ids []string) ([]byte, error) {
	set := keySet{Keys: []jsonKey{}}
	for _, id := range ids {
		set.Keys = append(set.Keys, jsonKey{Type: "OKP", Curve: "Ed25519", ID: id, Use: "sig", X: base64.RawURLEncoding.EncodeToString(k[id])})
	}
	return json.Marshal(set)
}

// FetchKeys gets the keys from a hub, such as
// https://reeve.example.com:8443/api/v1/alert-keys. client says whom to trust
// as the hub.
func FetchKeys(ctx context.Context, client *http.Client, url string) (Keys, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the hub answered %s", url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	return ParseKeys(text)
}

// Statement is what a hub signs of an alert.
type Statement struct {
	// ID is the same at each repetition of an alert; Seq rises within one
	// owner, repo and policy.
	ID  string `json:"id"`
	Seq int64  `json:"seq"`
	// Timestamp is when it was signed, which is at each attempt to deliver it.
	Timestamp time.Time `json:"timestamp"`
	// Audience is the sink that it is meant for, as the hub's configuration
	// calls it: its endpoint, unless that says otherwise.
	Audience string `json:"audience"`
	// SHA256 is that of the request's bytes, in hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// Envelope is a DSSE envelope.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one of an envelope's.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// PAE is what is signed of an envelope.
func PAE(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Tolerance is how far a signature may be from now, unless a Verifier says
// otherwise. It has to cover the clocks of both, and the way.
const Tolerance = 5 * time.Minute

// Verifier checks alerts. Its members aren't changed while it is in use.
type Verifier struct {
	Keys Keys
	// Audience is what the hub's configuration calls this sink: of an AlertSink
	// its endpoint, such as sink.example.com:443, of a webhook its name, unless
	// that says otherwise. Without it an alert that was meant for another sink of
	// the hub could be played here.
	Audience string
	// Tolerance is how far a signature may be from now; 0 is the constant
	// of that name.
	Tolerance time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Alert checks the envelope that came with a request to an AlertSink, and
// answers what it says. To be sure that an alert is not a repetition, the
// receiver has to remember the IDs, or the highest Seq, that it took.
func (v Verifier) Alert(envelope string, request []byte) (Statement, error) {
	var e Envelope
	if envelope == "" || len(envelope) > maxEnvelope {
		return Statement{}, ErrUnsigned
	}
	if err := json.Unmarshal([]byte(envelope), &e); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrUnsigned, err)
	}
	if e.PayloadType != PayloadType {
		return Statement{}, fmt.Errorf("%w: its payload is of the type %q", ErrOther, e.PayloadType)
	}
	signed := PAE(e.PayloadType, e.Payload)
	if !v.anySigned(len(e.Signatures), func(i int, id string, key ed25519.PublicKey) bool {
		return (e.Signatures[i].KeyID == "" || e.Signatures[i].KeyID == id) && ed25519.Verify(key, signed, e.Signatures[i].Sig)
	}) {
		return Statement{}, ErrSignature
	}
	var s Statement
	decoder := json.NewDecoder(bytes.NewReader(e.Payload))
	if err := decoder.Decode(&s); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrOther, err)
	}
	if sum := sha256.Sum256(request); s.SHA256 != hex.EncodeToString(sum[:]) {
		return s, fmt.Errorf("%w: it is of another request", ErrOther)
	}
	return s, v.meant(s)
}

// meant reports what says that a statement isn't for here and now.
func (v Verifier) meant(s Statement) error {
	if s.Audience != v.Audience {
		return fmt.Errorf("%w: it is for %q, and this is %q", ErrOther, s.Audience, v.Audience)
	}
	return v.timely(s.Timestamp)
}

// Webhook checks the signature v1a of a webhook's header, and for whom its body
// says that it is. The answer has no Seq, which is in the body.
func (v Verifier) Webhook(header http.Header, body []byte) (Statement, error) {
	id, at := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if id == "" || err != nil {
		return Statement{}, ErrUnsigned
	}
	var signatures [][]byte
	for _, word := range strings.Fields(header.Get("webhook-signature")) {
		text, found := strings.CutPrefix(word, "v1a,")
		if sig, err := base64.StdEncoding.DecodeString(text); found && err == nil {
			signatures = append(signatures, sig)
		}
	}
	if len(signatures) == 0 {
		return Statement{}, ErrUnsigned
	}
	signed := WebhookContent(id, at, body)
	if !v.anySigned(len(signatures), func(i int, _ string, key ed25519.PublicKey) bool {
		return ed25519.Verify(key, signed, signatures[i])
	}) {
		return Statement{}, ErrSignature
	}
	sum := sha256.Sum256(body)
	s := Statement{ID: id, Timestamp: time.Unix(seconds, 0), SHA256: hex.EncodeToString(sum[:])}
	var said struct {
		Audience string `json:"audience"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return s, fmt.Errorf("%w: its body: %w", ErrOther, err)
	}
	s.Audience = said.Audience
	return s, v.meant(s)
}

// WebhookContent is what is signed of a webhook.
func WebhookContent(id, timestamp string, body []byte) []byte {
	return append([]byte(id+"."+timestamp+"."), body...)
}

// anySigned reports whether one of n signatures is by one of the keys.
func (v Verifier) anySigned(n int, by func(i int, id string, key ed25519.PublicKey) bool) bool {
	for i := range min(n, maxKeys) {
		for id, key := range v.Keys {
			if by(i, id, key) {
				return true
			}
		}
	}
	return false
}

func (v Verifier) timely(at time.Time) error {
	now, tolerance := time.Now, v.Tolerance
	if v.Now != nil {
		now = v.Now
	}
	if tolerance == 0 {
		tolerance = Tolerance
	}
	if off := now().Sub(at); off.Abs() > tolerance {
		return fmt.Errorf("%w: it was made at %s", ErrTime, at.UTC().Format(time.RFC3339))
	}
	return nil
}
