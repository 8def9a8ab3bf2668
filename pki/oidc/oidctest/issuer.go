// Package oidctest has a small OpenID Connect issuer for tests. It holds a
// client to the authorization code flow with PKCE, as a strict issuer does, and
// logs in whomever a test says.
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The client that the issuer knows.
const (
	ClientID = "reeve"
	Secret   = "s3cret+/=" // has to be escaped
)

// Issuer is an issuer that listens.
type Issuer struct {
	URL string
	// CAFile verifies its certificate.
	CAFile string
	server *httptest.Server

	mu       sync.Mutex
	key      *ecdsa.PrivateKey     // guarded by mu
	keyID    string                // guarded by mu
	callback string                // guarded by mu
	claims   jwt.MapClaims         // guarded by mu; of who logs in
	codes    map[string]url.Values // guarded by mu; requests by code
	keysRead int                   // guarded by mu
}

// New starts an issuer; it ends with the test.
func New(t testing.TB) *Issuer {
	i := &Issuer{codes: map[string]url.Values{}}
	i.Rotate(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realm/.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /realm/authorize", i.authorize)
	mux.HandleFunc("POST /realm/token", i.token)
	mux.HandleFunc("GET /realm/keys", i.keys)
	i.server = httptest.NewTLSServer(mux)
	t.Cleanup(i.server.Close)
	i.URL = i.server.URL + "/realm"
	i.CAFile = filepath.Join(t.TempDir(), "issuer-ca.pem")
	if err := os.WriteFile(i.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// Close takes the issuer away.
func (i *Issuer) Close() { i.server.Close() }

// Client reaches it.
func (i *Issuer) Client() *http.Client { return i.server.Client() }

// Register says where the client's people come back to.
func (i *Issuer) Register(callback string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.callback = callback
}

// LogIn says who logs in from now on, by claims beside the usual ones.
func (i *Issuer) LogIn(claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.claims = claims
}

// Rotate gives it another key.
func (i *Issuer) Rotate(t testing.TB) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.keyID = key, rand.Text()
}

// KeysRead is how often its keys were asked for.
func (i *Issuer) KeysRead() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keysRead
}

// Token makes an ID token for an audience, with claims beside and instead of
// the usual ones.
func (i *Issuer) Token(audience string, claims map[string]any) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sign(audience, claims)
}

// sign is called with mu held.
func (i *Issuer) sign(audience string, claims map[string]any) string {
	all := jwt.MapClaims{"iss": i.URL, "sub": "u-1", "aud": []string{audience}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, all)
	token.Header["kid"] = i.keyID
	text, err := token.SignedString(i.key)
	if err != nil {
		panic(err) // the key is good
	}
	return text
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256", "HS256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic"},
	})
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keysRead++
	point, err := i.key.PublicKey.Bytes()
	if err != nil {
		panic(err) // the key is good
	}
	half := (len(point) - 1) / 2
	encode := base64.RawURLEncoding.EncodeToString
	answer(w, map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": i.keyID, "x": encode(point[1 : 1+half]), "y": encode(point[1+half:]),
	}}})
}

func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case q.Get("client_id") != ClientID, q.Get("redirect_uri") != i.callback:
		http.Error(w, "unknown client or redirect_uri", http.StatusBadRequest)
		return
	case q.Get("response_type") != "code", q.Get("code_challenge_method") != "S256", len(q.Get("code_challenge")) != 43, q.Get("nonce") == "", q.Get("state") == "",
		!slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		http.Error(w, fmt.Sprintf("not the code flow with PKCE: %v", q), http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	if i.claims == nil {
		back.Set("error", "access_denied")
	} else {
		code := rand.Text()
		i.codes[code] = q
		back.Set("code", code)
	}
	http.Redirect(w, r, i.callback+"?"+back.Encode(), http.StatusFound)
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]string{"error": code})
	}
	id, secret, _ := r.BasicAuth()
	if plain, err := url.QueryUnescape(secret); id != ClientID || err != nil || plain != Secret {
		refuse("invalid_client")
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	asked, ok := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || r.PostFormValue("grant_type") != "authorization_code" || r.PostFormValue("redirect_uri") != i.callback ||
		asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
		refuse("invalid_grant")
		return
	}
	claims := map[string]any{"nonce": asked.Get("nonce")}
	for k, v := range i.claims {
		claims[k] = v
	}
	answer(w, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300, "id_token": i.sign(ClientID, claims)})
}
