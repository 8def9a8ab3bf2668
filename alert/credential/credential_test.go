package credential

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issuer is a token endpoint by TLS, and the file with its certificate.
func issuer(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) (tokenURL, caFile string) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/token", file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
}

func source(t *testing.T, c Config) *Source {
	t.Helper()
	s, err := Known().New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func token(t *testing.T, s *Source) string {
	t.Helper()
	got, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestClientCredentials(t *testing.T) {
	var got url.Values
	var user, password string
	n := 0
	tokenURL, ca := issuer(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		got = r.PostForm
		user, password, _ = r.BasicAuth()
		fmt.Fprintf(w, `{"access_token":"t%d","token_type":"Bearer","expires_in":3600}`, n)
	})
	s := source(t, Config{Type: "oauth2", TokenURL: tokenURL, CAFile: ca, ClientID: "reeve", ClientSecretFile: file(t, "hush\n"), Scopes: []string{"a", "b"}, Audience: "sink"})
	if first, again := token(t, s), token(t, s); first != "t1" || again != "t1" {
		t.Errorf("tokens %s, %s", first, again)
	}
	want := url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}, "audience": {"sink"}}
	if d := cmp.Diff(want, got); d != "" || user != "reeve" || password != "hush" {
		t.Errorf("asked as %s (-want +got):\n%s", user, d)
	}
	s.Refused("another")
	if kept := token(t, s); kept != "t1" {
		t.Errorf("forgot the token for another: %s", kept)
	}
	s.Refused("t1")
	if fresh := token(t, s); fresh != "t2" {
		t.Errorf("after it was refused: %s", fresh)
	}
}

func TestTokenExchange(t *testing.T) {
	var got url.Values
	tokenURL, ca := issuer(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.PostForm
		fmt.Fprint(w, `{"access_token":"new","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":60}`)
	})
	s := source(t, Config{Type: "token-exchange", TokenURL: tokenURL, CAFile: ca, File: file(t, "old"), ClientID: "reeve", Audience: "sink", Scopes: []string{"a"}})
	if tok := token(t, s); tok != "new" {
		t.Errorf("token %s", tok)
	}
	want := url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"old"}, "subject_token_type": {jwtType},
		"requested_token_type": {accessType}, "audience": {"sink"}, "scope": {"a"}, "client_id": {"reeve"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
}

// What a token endpoint says, and what was sent to it, is in no error.
func TestWays_keepSecretsOutOfErrors(t *testing.T) {
	answer := func(http.ResponseWriter) {}
	tokenURL, ca := issuer(t, func(w http.ResponseWriter, _ *http.Request) { answer(w) })
	secret := file(t, "hush")
	ways := map[string]*Source{
		"oauth2":         source(t, Config{Type: "oauth2", TokenURL: tokenURL + "?key=hush", CAFile: ca, ClientID: "reeve", ClientSecretFile: secret}),
		"token-exchange": source(t, Config{Type: "token-exchange", TokenURL: tokenURL + "?key=hush", CAFile: ca, File: secret}),
	}
	for name, answers := range map[string]struct {
		do   func(http.ResponseWriter)
		want string
	}{
		"refused": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"hush is wrong"}`)
		}, "401 invalid_client"},
		"broken": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError); fmt.Fprint(w, "hush") }, "500"},
		"a code that isn't one": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"hush HUSH"}`)
		}, "400"},
		"elsewhere": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://elsewhere.example/hush")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "307"},
		"no token": {func(w http.ResponseWriter) { fmt.Fprint(w, `{"hush":1}`) }, "no token"},
		"endless": {func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"hush":"`)
			chunk := []byte(strings.Repeat("x", 32<<10))
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "token"},
		"a token that can't be sent": {func(w http.ResponseWriter) { fmt.Fprint(w, `{"access_token":"hush\r\nX: y","token_type":"Bearer"}`) }, "can't be sent"},
	} {
		answer = answers.do
		for way, s := range ways {
			_, err := s.Token(t.Context())
			if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), answers.want) {
				t.Errorf("%s, %s: %v, want %q", way, name, err, answers.want)
			}
		}
	}
	untrusted := source(t, Config{Type: "oauth2", TokenURL: tokenURL + "?key=hush", ClientID: "reeve", ClientSecretFile: secret})
	if _, err := untrusted.Token(t.Context()); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("an endpoint of another CA: %v", err)
	}
}

func signed(t *testing.T, expires time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(expires)}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A file is read each time, since something renews it.
func TestFiles(t *testing.T) {
	first, second := signed(t, time.Now().Add(time.Hour)), signed(t, time.Now().Add(2*time.Hour))
	for _, way := range []string{"jwt-file", "token-file"} {
		path := file(t, first+"\n")
		s := source(t, Config{Type: way, File: path})
		if got := token(t, s); got != first {
			t.Errorf("%s: %s", way, got)
		}
		if err := os.WriteFile(path, []byte(second), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := token(t, s); got != second {
			t.Errorf("%s: not renewed", way)
		}
	}
	for want, text := range map[string]string{"ended at": signed(t, time.Now().Add(-time.Hour)), "no JSON Web Token": "hush", "no token": "hush hush"} {
		if _, err := source(t, Config{Type: "jwt-file", File: file(t, text)}).Token(t.Context()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := source(t, Config{Type: "token-file", File: file(t, strings.Repeat("x", maxToken+1))}).Token(t.Context()); err == nil {
		t.Error("a token without end was taken")
	}
}

// A service account's key is application default credentials of Google's.
func TestGoogle(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims := jwt.MapClaims{}
		if _, err := jwt.ParseWithClaims(r.PostFormValue("assertion"), claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil }); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		if aud := claims["target_audience"]; aud != nil {
			id, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"aud": aud, "exp": time.Now().Add(time.Hour).Unix()}).SignedString(key)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, `{"id_token":%q}`, id)
			return
		}
		fmt.Fprintf(w, `{"access_token":"access-%s","expires_in":3600}`, claims["scope"])
	}))
	defer srv.Close()
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "reeve@example.iam", "private_key_id": "1", "token_uri": srv.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, string(text))
	if got := token(t, source(t, Config{Type: "google", File: path})); got != "access-"+cloudPlatform {
		t.Errorf("access token %s", got)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	if got := token(t, source(t, Config{Type: "google", Scopes: []string{"s"}})); got != "access-s" {
		t.Errorf("access token %s", got)
	}
	claims := jwt.MapClaims{}
	id := token(t, source(t, Config{Type: "google", Audience: "https://sink.example.com"}))
	if _, _, err := jwt.NewParser().ParseUnverified(id, claims); err != nil || claims["aud"] != "https://sink.example.com" {
		t.Errorf("ID token for %v, %v", claims["aud"], err)
	}
	for name, broken := range map[string]string{"no JSON": "hush", "another type": `{"type":"hush","private_key":"hush"}`, "no key": `{"type":"service_account","private_key":"hush"}`} {
		if _, err := source(t, Config{Type: "google", File: file(t, broken)}).Token(t.Context()); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A program of one's own brings other ways.
func TestWays_New(t *testing.T) {
	own := Known()
	own["mine"] = func(c Config) (Fetch, error) {
		if c.ClientID == "" {
			return nil, errors.New("clientID: it is missing")
		}
		return func(context.Context) (Token, error) { return Token{Value: c.ClientID}, nil }, nil
	}
	if s, err := own.New(Config{Type: "mine", ClientID: "me"}); err != nil || token(t, s) != "me" {
		t.Errorf("%v", err)
	}
	if s, err := own.New(Config{}); s != nil || err != nil || token(t, s) != "" {
		t.Errorf("none: %v, %v", s, err)
	}
	for want, c := range map[string]Config{
		`credential.type "kerberos": it must be one of google, jwt-file, mine, oauth2`: {Type: "kerberos"},
		"credential.clientID":                                            {Type: "mine"},
		"credential.tokenURL: it must be https":                          {Type: "oauth2", TokenURL: "http://h/token"},
		"credential.tokenURL: it must hold no":                           {Type: "token-exchange", TokenURL: "https://u:hush@h/token"},
		"credential.clientID: it is missing":                             {Type: "oauth2", TokenURL: "https://h/token"},
		"credential.clientSecretFile":                                    {Type: "oauth2", TokenURL: "https://h/token", ClientID: "a"},
		"credential.file":                                                {Type: "token-exchange", TokenURL: "https://h/token"},
		"credential.file: it must name the file that holds the token":    {Type: "token-file"},
		"credential.file: it must name the file that holds the JSON Web": {Type: "jwt-file"},
		"credential.caFile":                                              {Type: "oauth2", TokenURL: "https://h/token", CAFile: "/nowhere"},
		"credential.scopes":                                              {Type: "google", Scopes: []string{"a"}, Audience: "b"},
	} {
		if _, err := own.New(c); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A token is fetched once for all who wait, and again before it ends.
func TestSource_Token(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := &Source{turn: make(chan struct{}, 1), fetch: func(context.Context) (Token, error) {
			n++
			time.Sleep(time.Second)
			return Token{Value: fmt.Sprint("t", n), Expires: time.Now().Add(time.Hour)}, nil
		}}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, err := s.Token(t.Context()); got != "t1" || err != nil {
					t.Errorf("%s, %v", got, err)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Hour - early)
		if got := token(t, s); got != "t2" {
			t.Errorf("shortly before its end: %s", got)
		}
		s.Refused("t2")
		ctx, cancel := context.WithCancel(t.Context())
		s.turn <- struct{}{}
		time.AfterFunc(time.Second, cancel)
		if _, err := s.Token(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("gave up: %v", err)
		}
	})
}
