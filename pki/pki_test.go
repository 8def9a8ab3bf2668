package pki

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"reeve.dev/reeve/fleet"
)

// tokens is a TokenStore in memory; the real one is tested in store.
type tokens struct {
	mu sync.Mutex
	m  map[string]Token
}

func (s *tokens) CreateToken(_ context.Context, t Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]Token{}
	}
	s.m[t.ID] = t
	return nil
}

func (s *tokens) TokenByID(_ context.Context, id string) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.m[id]
	if !ok {
		return Token{}, ErrNoToken
	}
	return t, nil
}

func (s *tokens) UseToken(_ context.Context, id, by string, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.m[id]
	switch {
	case !ok:
		return ErrNoToken
	case t.UsedBy != "" && t.UsedBy != by:
		return ErrUsed
	}
	t.UsedBy, t.UsedAt = by, at
	s.m[id] = t
	return nil
}

func (s *tokens) ListTokens(context.Context) ([]Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.m)), nil
}

func (s *tokens) RevokeToken(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, id)
	return nil
}

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func parse(t *testing.T, chain []byte) *x509.Certificate {
	t.Helper()
	certs, err := parseChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func request(t *testing.T) []byte {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := newCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestIdentityOf(t *testing.T) {
	ca := newCA(t)
	for _, id := range []Identity{
		{Purpose: Agent, Agent: "east"},
		{Purpose: Control, Name: "admin"},
		{Purpose: Service, Agent: "east", Type: "kubernetes", Name: "main"},
		{Purpose: Service, Agent: "east", Type: "x-wiki", Name: "wiki.v2"},
		{Purpose: Service, Agent: "east", Type: "x-wiki", Name: "wiki", Holder: "alice"},
	} {
		chain, _, err := ca.NewCredential(id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cert := parse(t, chain)
		got, err := IdentityOf(cert)
		if err != nil || got != id {
			t.Errorf("IdentityOf by URI = %+v, %v; want %+v", got, err, id)
		}
		cert.URIs = nil
		got, err = IdentityOf(cert)
		if err != nil || got != id {
			t.Errorf("IdentityOf by OU = %+v, %v; want %+v", got, err, id)
		}
	}

	bad := map[string]*x509.Certificate{
		"nothing":       {},
		"OU is no JSON": {Subject: pkix.Name{OrganizationalUnit: []string{"sales"}}},
		"bad purpose":   {Subject: pkix.Name{OrganizationalUnit: []string{`{"name":"a","purpose":"king"}`}}},
		"bad holder":    {Subject: pkix.Name{OrganizationalUnit: []string{`{"agent":"a","type":"x-w","name":"n","holder":"a b","purpose":"service"}`}}},
		"bad agent":     {Subject: pkix.Name{OrganizationalUnit: []string{`{"agent":"../x","purpose":"agent"}`}}},
	}
	for name, u := range map[string]string{"other domain": "spiffe://evil/agent/a", "long path": "spiffe://reeve/agent/a/b", "service in short": "spiffe://reeve/service/a"} {
		uri, err := Identity{}.uri().Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		bad[name] = &x509.Certificate{URIs: append(bad["nothing"].URIs, uri)}
	}
	for name, cert := range bad {
		if got, err := IdentityOf(cert); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: IdentityOf = %+v, %v; want ErrMalformed", name, got, err)
		}
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := LoadCA(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "reeve ca init") {
		t.Errorf("LoadCA of an empty directory: %v", err)
	}
	made, err := Init(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	got, err := LoadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Pin() != made.Pin() {
		t.Error("the loaded CA is another one")
	}
	token, err := made.IssueServiceToken("east", "x-wiki", "w", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.VerifyServiceToken(token); err != nil {
		t.Errorf("the loaded CA doesn't know its service token: %v", err)
	}
	control, err := tls.LoadX509KeyPair(filepath.Join(dir, "control.pem"), filepath.Join(dir, "control-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := IdentityOf(control.Leaf); err != nil || id.Purpose != Control {
		t.Errorf("control.pem is for %v, %v", id, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 5 {
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f, fi.Mode(), err)
		}
	}
	if _, err := Init(dir, "test"); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a second Init: %v", err)
	}
	if _, err := ParseCA(newCA(t).CertPEM(), mustRead(t, dir, caKeyFile), mustRead(t, dir, jwtKeyFile)); !errors.Is(err, ErrMalformed) {
		t.Errorf("ParseCA with another CA's key: %v", err)
	}
}

func mustRead(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCA_Secrets(t *testing.T) {
	ca := newCA(t)
	out, err := ca.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	type manifest struct {
		APIVersion string
		Kind       string
		Type       string
		Metadata   struct{ Name string }
		Data       map[string]string
	}
	data := map[string]map[string]string{}
	for doc := range bytes.SplitSeq(out, []byte("---\n")) {
		var m manifest
		if err := yaml.UnmarshalStrict(doc, &m); err != nil {
			t.Fatal(err)
		}
		if m.APIVersion != "v1" || m.Kind != "Secret" || m.Type != "kubernetes.io/tls" {
			t.Errorf("manifest %+v", m)
		}
		data[m.Metadata.Name] = map[string]string{}
		for k, v := range m.Data {
			b, err := base64.StdEncoding.DecodeString(v)
			if err != nil {
				t.Fatal(err)
			}
			data[m.Metadata.Name][k] = string(b)
		}
	}
	s := data["ca-secret"]
	again, err := ParseCA([]byte(s["tls.crt"]), []byte(s["tls.key"]), []byte(s["jwt.key"]))
	if err != nil || again.Pin() != ca.Pin() {
		t.Errorf("ca-secret doesn't hold the CA: %v", err)
	}
	s = data["oes-control-secret"]
	pair, err := tls.X509KeyPair([]byte(s["tls.crt"]), []byte(s["tls.key"]))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := IdentityOf(pair.Leaf); err != nil || id.Purpose != Control {
		t.Errorf("oes-control-secret is for %v, %v", id, err)
	}
}

func TestCA_issueBadRequests(t *testing.T) {
	ca := newCA(t)
	good := request(t)
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	for name, csr := range map[string][]byte{
		"empty":           nil,
		"not PEM":         []byte("hello"),
		"a certificate":   ca.CertPEM(),
		"wrong signature": pem.EncodeToMemory(block),
		"endless":         bytes.Repeat(good, 100),
	} {
		if _, err := ca.IssueAgent(csr, "east", time.Hour); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v; want ErrMalformed", name, err)
		}
	}
	if _, err := ca.IssueAgent(good, "Not/A/Name", time.Hour); err == nil {
		t.Error("a certificate for a bad name was issued")
	}
}

func TestServiceToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newCA(t), newCA(t)
		issue := func(ca *CA) string {
			s, err := ca.IssueServiceToken("east", "x-wiki", "wiki", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		good := issue(ca)
		want := Identity{Purpose: Service, Agent: "east", Type: "x-wiki", Name: "wiki"}
		if got, err := ca.VerifyServiceToken(good); err != nil || got.Identity != want || got.ID == "" || got.Issued.IsZero() {
			t.Errorf("got %+v, %v", got, err)
		}
		none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"purpose": "service"}).SignedString(jwt.UnsafeAllowNoneSignatureType)
		if err != nil {
			t.Fatal(err)
		}
		hs, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"purpose": "service"}).SignedString([]byte(ca.jwtKey.Public().(ed25519.PublicKey)))
		if err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			text string
			want error
		}{
			"empty":             {"", ErrMalformed},
			"no JWT":            {"hello", ErrMalformed},
			"three words":       {"a.b.c", ErrMalformed},
			"algorithm none":    {none, ErrForeign},
			"public key as MAC": {hs, ErrForeign},
			"another key":       {issue(other), ErrForeign},
			"endless":           {strings.Repeat("a", 1<<20) + "..", ErrMalformed},
			"changed signature": {good[:len(good)-6] + "AAAAAA", ErrForeign},
		} {
			_, err := ca.VerifyServiceToken(tc.text)
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: %v; want %v", name, err, tc.want)
			}
		}
		time.Sleep(2 * time.Hour)
		if _, err := ca.VerifyServiceToken(good); !errors.Is(err, ErrExpired) {
			t.Errorf("after its time: %v", err)
		}
	})
}

func TestVerifyToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var store tokens
		tok, text, err := NewToken(API, "ci", Scanner.Everywhere(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		store.CreateToken(ctx, tok)
		if strings.Contains(string(tok.Hash), strings.Split(text, "_")[2]) {
			t.Error("the secret is stored")
		}
		got, err := VerifyToken(ctx, &store, API, " "+text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tok, got); d != "" {
			t.Error(d)
		}
		_, stranger, err := NewToken(API, "ci", Admin.Everywhere(), 0)
		if err != nil {
			t.Fatal(err)
		}
		forged := "reeve_" + tok.ID + "_" + strings.Split(stranger, "_")[2]
		for name, tc := range map[string]struct {
			kind Kind
			text string
			want error
		}{
			"empty":        {API, "", ErrMalformed},
			"cut":          {API, text[:20], ErrMalformed},
			"other kind":   {Session, text, ErrMalformed},
			"posing":       {Session, "reeve-session" + strings.TrimPrefix(text, "reeve"), ErrForeign},
			"unknown id":   {API, stranger, ErrForeign},
			"wrong secret": {API, forged, ErrForeign},
		} {
			_, err := VerifyToken(ctx, &store, tc.kind, tc.text)
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: %v; want %v", name, err, tc.want)
			}
			if parts := strings.Split(tc.text, "_"); len(parts) == 3 && strings.Contains(err.Error(), parts[2]) {
				t.Errorf("%s: the error holds the secret: %v", name, err)
			}
		}
		time.Sleep(time.Hour)
		if _, err := VerifyToken(ctx, &store, API, text); !errors.Is(err, ErrExpired) {
			t.Errorf("after its time: %v", err)
		}
		store.RevokeToken(ctx, tok.ID)
		if _, err := VerifyToken(ctx, &store, API, text); !errors.Is(err, ErrForeign) {
			t.Errorf("revoked: %v", err)
		}
	})
}

func TestSweep(t *testing.T) {
	var store tokens
	now := time.Now()
	for id, expires := range map[string]time.Time{"never": {}, "later": now.Add(time.Hour), "just now": now.Add(-time.Minute), "long ago": now.Add(-48 * time.Hour)} {
		store.CreateToken(t.Context(), Token{ID: id, Expires: expires})
	}
	if err := Sweep(t.Context(), &store, now.Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	left := slices.Sorted(maps.Keys(store.m))
	if d := cmp.Diff([]string{"just now", "later", "never"}, left); d != "" {
		t.Error(d)
	}
}

func TestRole_Allows(t *testing.T) {
	for _, tc := range []struct {
		have, need Role
		want       bool
	}{{Admin, Viewer, true}, {Scanner, Scanner, true}, {Scanner, Admin, false}, {Viewer, Scanner, false}, {"", "", false}, {"king", Viewer, false}} {
		if got := tc.have.Allows(tc.need); got != tc.want {
			t.Errorf("%q.Allows(%q) = %v", tc.have, tc.need, got)
		}
	}
}

// hub serves enrolment with ca's certificate and keeps what it logs.
func hub(t *testing.T, ca *CA, store TokenStore) (url string, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	mux := http.NewServeMux()
	mux.Handle(EnrollPath, ca.EnrollHandler(store, AgentLife, slog.New(slog.NewTextHandler(log, nil))))
	return serve(t, ca, mux), log
}

// serve is an HTTPS server with a hub's configuration.
func serve(t *testing.T, ca *CA, h http.Handler) (url string) {
	t.Helper()
	cfg, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClientAuth = tls.RequestClientCert // as the hub has it
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "https://" + l.Addr().String()
}

func joinToken(t *testing.T, ca *CA, store TokenStore, agent fleet.AgentName) string {
	t.Helper()
	tok, text, err := ca.NewJoinToken(agent, JoinLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateToken(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEnroll(t *testing.T) {
	ca, store, dir := newCA(t), &tokens{}, t.TempDir()
	url, log := hub(t, ca, store)
	text := joinToken(t, ca, store, "east")

	e, err := Enroll(t.Context(), url, text, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if e.Agent() != "east" {
		t.Errorf("agent %q", e.Agent())
	}
	loaded, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(loaded.current.Load().Certificate[0], e.current.Load().Certificate[0]) {
		t.Error("the saved certificate is another one")
	}
	if fi, err := os.Stat(filepath.Join(dir, identityFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}

	// The certificate is good for a handshake, with the hub's own check.
	var seen Identity
	hubURL := serve(t, ca, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen, _, err = ca.Peers().Peer(r.TLS)
	}))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: loaded.TLSConfig()}}
	defer client.CloseIdleConnections()
	resp, rerr := client.Get(hubURL)
	if rerr != nil {
		t.Fatal(rerr)
	}
	resp.Body.Close()
	if want := (Identity{Purpose: Agent, Agent: "east"}); seen != want || err != nil {
		t.Errorf("the hub sees %+v, %v", seen, err)
	}

	// A second use, with another key.
	if _, err := Enroll(t.Context(), url, text, t.TempDir(), ""); !errors.Is(err, ErrUsed) {
		t.Errorf("second use: %v", err)
	}
	if secret := strings.Split(text, "_")[2]; strings.Contains(log.String(), secret) {
		t.Error("the log holds the join token's secret")
	}
}

func TestEnroll_answerLost(t *testing.T) {
	ca, store, dir := newCA(t), &tokens{}, t.TempDir()
	url, _ := hub(t, ca, store)
	text := joinToken(t, ca, store, "east")
	// The hub saw the token with this key, and the answer never came.
	key, err := pendingKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := newCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ca.enroll(t.Context(), store, enrollRequest{Token: text, CSR: string(csr)}, AgentLife); err != nil {
		t.Fatal(err)
	}
	if _, err := Enroll(t.Context(), url, text, dir, "east"); err != nil {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, pendingFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pending key is still there: %v", err)
	}
}

func TestEnroll_refused(t *testing.T) {
	ca, other, store := newCA(t), newCA(t), &tokens{}
	url, _ := hub(t, ca, store)
	text := joinToken(t, ca, store, "east")
	expired, expiredText, err := ca.NewJoinToken("east", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	expired.Expires = time.Now().Add(-time.Minute)
	store.CreateToken(t.Context(), expired)
	_, foreignText, err := other.NewJoinToken("east", JoinLife)
	if err != nil {
		t.Fatal(err)
	}
	_, unknown, err := ca.NewJoinToken("east", JoinLife)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		url, token string
		agent      fleet.AgentName
		want       error
		says       string
	}{
		"malformed":   {url, "reeve-join_abc", "", ErrMalformed, "copy it whole"},
		"API token":   {url, "reeve_" + text, "", ErrMalformed, "reeve-join_"},
		"expired":     {url, expiredText, "", ErrExpired, "ask for a new one"},
		"foreign CA":  {url, foreignText, "", ErrForeign, "check the hub's URL"},
		"revoked":     {url, unknown, "", ErrForeign, "ask for a new one"},
		"wrong agent": {url, text, "west", ErrWrongAgent, `for "east", not for "west"`},
		"plain HTTP":  {strings.Replace(url, "https", "http", 1), text, "", nil, "https://"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Enroll(t.Context(), tc.url, tc.token, dir, tc.agent)
			if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("error %v; want %v, saying %q", err, tc.want, tc.says)
			}
			if parts := strings.Split(tc.token, "_"); len(parts) == 4 && strings.Contains(err.Error(), parts[2]) {
				t.Errorf("the error holds the secret: %v", err)
			}
			if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Load afterwards: %v", err)
			}
		})
	}
	// None of them used the good token up.
	if _, err := Enroll(t.Context(), url, text, t.TempDir(), ""); err != nil {
		t.Errorf("the good token: %v", err)
	}
}

func TestEnrollHandler_badBodies(t *testing.T) {
	ca, store := newCA(t), &tokens{}
	token := joinToken(t, ca, store, "east")
	h := ca.EnrollHandler(store, AgentLife, slog.New(slog.DiscardHandler))
	for name, body := range map[string]string{
		"empty":          "",
		"not JSON":       "<xml>",
		"unknown member": `{"tok":"x"}`,
		"endless":        `{"token":"` + strings.Repeat("x", 1<<20) + `"}`,
		"no request":     `{"token":"` + token + `","csr":""}`,
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, EnrollPath, strings.NewReader(body)))
		if rec.Code != http.StatusUnprocessableEntity || rec.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
}

func TestEnroller_RenewLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newCA(t), t.TempDir()
		key, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := newCSR(key)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := ca.IssueAgent(csr, "east", AgentLife)
		if err != nil {
			t.Fatal(err)
		}
		e, err := save(dir, key, chain, ca.Pin(), "east")
		if err != nil {
			t.Fatal(err)
		}
		first := e.NotAfter()
		ctx, cancel := context.WithCancel(t.Context())
		var asked []time.Duration
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.RenewLoop(ctx, slog.New(slog.DiscardHandler), func(_ context.Context, csr []byte) ([]byte, error) {
				asked = append(asked, time.Since(start))
				if len(asked) == 1 {
					return nil, errors.New("the hub is away")
				}
				return ca.IssueAgent(csr, "east", AgentLife)
			})
		}()
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		if len(asked) != 2 || asked[0] < 15*time.Hour || asked[0] > 16*time.Hour || asked[1]-asked[0] > 10*time.Second {
			t.Errorf("renewals after %v", asked)
		}
		if !e.NotAfter().After(first.Add(15 * time.Hour)) {
			t.Errorf("expires %v, at first %v", e.NotAfter(), first)
		}
		loaded, err := Load(dir)
		if err != nil || !loaded.NotAfter().Equal(e.NotAfter()) {
			t.Errorf("the renewed certificate isn't saved: %v", err)
		}
		if e.current.Load().PrivateKey == key {
			t.Error("the key is still the old one")
		}
		cancel()
		<-done
		time.Sleep(48 * time.Hour)
		if _, err := Load(dir); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "enrol again") {
			t.Errorf("Load after two days: %v", err)
		}
	})
}

func TestEnroller_RenewLoop_shortLives(t *testing.T) {
	for life, want := range map[time.Duration]int{time.Minute: 15, time.Second: 60} {
		synctest.Test(t, func(t *testing.T) {
			ca := newCA(t)
			key, err := newKey()
			if err != nil {
				t.Fatal(err)
			}
			csr, err := newCSR(key)
			if err != nil {
				t.Fatal(err)
			}
			chain, err := ca.IssueAgent(csr, "east", life)
			if err != nil {
				t.Fatal(err)
			}
			e, err := save(t.TempDir(), key, chain, ca.Pin(), "east")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
			defer cancel()
			var renewals int
			e.RenewLoop(ctx, slog.New(slog.DiscardHandler), func(_ context.Context, csr []byte) ([]byte, error) {
				renewals++
				return ca.IssueAgent(csr, "east", life)
			})
			if renewals < want-1 || renewals > want+1 {
				t.Errorf("a life of %v: %d renewals in ten minutes, want %d", life, renewals, want)
			}
		})
	}
}

func TestEnroller_Renew_refusesAnotherAgent(t *testing.T) {
	ca, store, dir := newCA(t), &tokens{}, t.TempDir()
	url, _ := hub(t, ca, store)
	e, err := Enroll(t.Context(), url, joinToken(t, ca, store, "east"), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	before := mustRead(t, dir, identityFile)
	err = e.Renew(t.Context(), func(_ context.Context, csr []byte) ([]byte, error) { return ca.IssueAgent(csr, "west", AgentLife) })
	if !errors.Is(err, ErrWrongAgent) {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(before, mustRead(t, dir, identityFile)) {
		t.Error("the saved identity changed")
	}
}

func TestServerTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		cfg, err := ca.ServerTLS([]string{"hub.example.com", "10.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		get := func() *x509.Certificate {
			c, err := cfg.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return c.Leaf
		}
		first := get()
		for _, name := range []string{"hub.example.com", "10.0.0.1", "localhost", "127.0.0.1"} {
			if _, err := first.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: name}); err != nil {
				t.Error(err)
			}
		}
		if get() != first {
			t.Error("a new certificate for each handshake")
		}
		time.Sleep(25 * 24 * time.Hour)
		if !get().NotAfter.After(first.NotAfter) {
			t.Error("the certificate isn't renewed")
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add("reeve_abcdefghij_" + strings.Repeat("a", 32))
	f.Add("reeve-join_abcdefghij_" + strings.Repeat("a", 32) + "_" + strings.Repeat("b", 52))
	f.Fuzz(func(t *testing.T, s string) {
		for kind := range prefixes {
			if p, err := parseToken(kind, s); err == nil && !strings.HasPrefix(strings.TrimSpace(s), prefixes[kind]+"_"+p.id) {
				t.Errorf("parseToken(%s, %q) = %v", kind, s, p)
			}
		}
	})
}

func FuzzVerifyServiceToken(f *testing.F) {
	ca, err := NewCA("test")
	if err != nil {
		f.Fatal(err)
	}
	good, err := ca.IssueServiceToken("east", "x-wiki", "wiki", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		_, err := ca.VerifyServiceToken(s)
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrExpired) {
			t.Errorf("%q: %v has no sentinel", s, err)
		}
		if err == nil && s != good {
			t.Errorf("%q was accepted", s)
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	ca, err := NewCA("test")
	if err != nil {
		f.Fatal(err)
	}
	cert, key, err := ca.NewCredential(Identity{Purpose: Agent, Agent: "east"}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(key, cert...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseIdentity("", data)
		if err == nil && e.agent.Validate() != nil {
			t.Errorf("agent %q", e.agent)
		}
	})
}
