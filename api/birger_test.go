package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/pki"
)

// birger asks as Birger's own client does: JSON to a path of its name.
func birger(t *testing.T, c *http.Client, method, url, body string, header ...string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s %s: %s %s", method, url, resp.Status, text)
	}
	return resp.StatusCode, got
}

// text takes the member of a PEM in base64 out of an answer.
func fromPEM(t *testing.T, answer map[string]any, member string) []byte {
	t.Helper()
	s, _ := answer[member].(string)
	delete(answer, member)
	pem, err := base64.StdEncoding.DecodeString(s)
	if err != nil || !strings.HasPrefix(string(pem), "-----BEGIN ") {
		t.Errorf("%s isn't a PEM in base64: %q", member, s)
	}
	return pem
}

func take(answer map[string]any, member string) string {
	s, _ := answer[member].(string)
	delete(answer, member)
	return s
}

// identity is whose certificate and key an answer holds.
func identity(t *testing.T, answer map[string]any, cert, key string) pki.Identity {
	t.Helper()
	pair, err := tls.X509KeyPair(fromPEM(t, answer, cert), fromPEM(t, answer, key))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.IdentityOf(leaf)
	if err != nil {
		t.Error(err)
	}
	return id
}

func TestBirger(t *testing.T) {
	w := newWorld(t, "edge")
	call := func(t *testing.T, name, body string) map[string]any {
		t.Helper()
		status, got := birger(t, w.admin, http.MethodPost, w.url+"/api/v1/"+name, body)
		if status != http.StatusOK {
			t.Fatalf("%d %v", status, got)
		}
		if string(fromPEM(t, got, "caCert")) != string(w.ca.CertPEM()) {
			t.Error("caCert isn't the CA's certificate")
		}
		return got
	}
	same := func(t *testing.T, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}
	t.Run("generateKubectlComponents", func(t *testing.T) {
		got := call(t, "generateKubectlComponents", `{"agentName": "edge", "name": "prod"}`)
		service := pki.Identity{Purpose: pki.Service, Agent: "edge", Type: "kubernetes", Name: "prod"}
		same(t, identity(t, got, "userCertificate", "userKey"), service)
		id, err := w.ca.VerifyServiceToken(take(got, "token"))
		if err != nil {
			t.Error(err)
		}
		same(t, id.Identity, service)
		same(t, got, map[string]any{"agentName": "edge", "name": "prod", "serverUrl": "https://services"})
	})
	t.Run("generateAgentManifestComponents", func(t *testing.T) {
		got := call(t, "generateAgentManifestComponents", `{"agentName": "new"}`)
		same(t, identity(t, got, "agentCertificate", "agentKey"), pki.Identity{Purpose: pki.Agent, Agent: "new"})
		tok, err := pki.VerifyToken(t.Context(), w.store, pki.Join, take(got, "agentToken"))
		if err != nil || tok.Agent != "new" {
			t.Errorf("agentToken: %+v, %v", tok, err)
		}
		hub, err := url.Parse(w.url)
		if err != nil {
			t.Fatal(err)
		}
		if port, _ := json.Marshal(got["serverPort"]); string(port) != hub.Port() {
			t.Errorf("serverPort %s, want %s", port, hub.Port())
		}
		delete(got, "serverPort")
		same(t, got, map[string]any{"agentName": "new", "serverHostname": "127.0.0.1", "agentVersion": "test"})
	})
	t.Run("generateServiceCredentials, basic", func(t *testing.T) {
		// As clients of version 4 and older wrote it.
		got := call(t, "generateServiceCredentials", `{"agentName": "edge", "Type": "x-wiki", "Name": "wiki", "more": 1}`)
		credential, _ := got["credential"].(map[string]any)
		id, err := w.ca.VerifyServiceToken(take(credential, "password"))
		if err != nil {
			t.Error(err)
		}
		same(t, id.Identity, pki.Identity{Purpose: pki.Service, Agent: "edge", Type: "x-wiki", Name: "wiki"})
		same(t, got, map[string]any{
			"agentName": "edge", "type": "x-wiki", "name": "wiki", "url": "https://services",
			"credentialType": "basic", "credential": map[string]any{"username": "wiki.edge"},
		})
	})
	t.Run("generateServiceCredentials, aws", func(t *testing.T) {
		got := call(t, "generateServiceCredentials", `{"agentName": "edge", "type": "aws", "name": "s3"}`)
		credential, _ := got["credential"].(map[string]any)
		c, secret, err := w.ca.VerifyAWSKey(take(credential, "awsAccessKey"))
		if err != nil || take(credential, "awsSecretAccessKey") != secret {
			t.Errorf("%v, or another secret than the hub knows", err)
		}
		same(t, c.Identity, pki.Identity{Purpose: pki.Service, Agent: "edge", Type: "aws", Name: "s3"})
		same(t, got, map[string]any{
			"agentName": "edge", "type": "aws", "name": "s3", "url": "https://services",
			"credentialType": "aws", "credential": map[string]any{},
		})
	})
	t.Run("generateControlCredentials", func(t *testing.T) {
		got := call(t, "generateControlCredentials", `{"name": "ci"}`)
		same(t, identity(t, got, "userCertificate", "userKey"), pki.Identity{Purpose: pki.Control, Name: "ci"})
		token := take(got, "token")
		same(t, got, map[string]any{"name": "ci", "url": w.url})
		// The token is good wherever Birger looked for it.
		nobody := w.client(t, nil)
		for name, header := range map[string][]string{
			"Bearer":        {"Authorization", "Bearer " + token},
			"Basic":         {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+token))},
			"X-Opsmx-Token": {"X-Opsmx-Token", token},
		} {
			if status, got := birger(t, nobody, http.MethodGet, w.url+"/api/v1/getAgentStatistics", "", header...); status != http.StatusOK {
				t.Errorf("%s: %d %v", name, status, got)
			}
		}
	})
}

func TestBirger_refuses(t *testing.T) {
	w := newWorld(t, "edge")
	_, viewer := w.token(t, pki.Viewer, time.Time{})
	_, admin := w.token(t, pki.Admin, time.Time{})
	nobody := w.client(t, nil)
	for name, tc := range map[string]struct {
		client             *http.Client
		method, path, body string
		header             []string
		status             int
		says               string
	}{
		"no credential":       {nobody, "POST", "generateControlCredentials", `{"name":"a"}`, nil, 401, "no credential"},
		"a bad token":         {nobody, "GET", "getAgentStatistics", "", []string{"X-Opsmx-Token", "eyJhbGciOi.x.y"}, 401, "malformed"},
		"a viewer":            {nobody, "GET", "getAgentStatistics", "", []string{"Authorization", "Bearer " + viewer}, 403, "needs the role admin"},
		"a service":           {w.client(t, &pki.Identity{Purpose: pki.Service, Agent: "edge", Type: "x-wiki", Name: "wiki"}), "GET", "getAgentStatistics", "", nil, 403, "not for this API"},
		"another method":      {w.admin, "GET", "generateControlCredentials", "", nil, 405, "only 'POST' is accepted (not 'GET')"},
		"an empty body":       {w.admin, "POST", "generateControlCredentials", "", nil, 400, "empty"},
		"no JSON":             {w.admin, "POST", "generateControlCredentials", "name=a", nil, 400, "JSON"},
		"a huge body":         {w.admin, "POST", "generateControlCredentials", `{"name":"` + strings.Repeat("a", 1<<20) + `"}`, nil, 400, "too large"},
		"no name":             {w.admin, "POST", "generateKubectlComponents", `{"agentName":"edge"}`, nil, 400, "'name' is invalid"},
		"no agent":            {w.admin, "POST", "generateAgentManifestComponents", `{}`, nil, 400, "'agentName' is invalid"},
		"a type of capitals":  {w.admin, "POST", "generateServiceCredentials", `{"agentName":"edge","name":"a","type":"JENKINS"}`, nil, 400, "'type' is invalid"},
		"a name with a slash": {w.admin, "POST", "generateControlCredentials", `{"name":"../a"}`, nil, 400, "'name' is invalid"},
		"the hub's own name":  {w.admin, "POST", "generateAgentManifestComponents", `{"agentName":"hub"}`, nil, 400, "the hub's own services"},
		"another site, whose caller's browser knows the password": {
			nobody, "POST", "generateControlCredentials", `{"name":"a"}`,
			[]string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+admin)), "Sec-Fetch-Site", "cross-site"},
			403, "another site",
		},
		"an agent with a dot.": {w.admin, "POST", "generateAgentManifestComponents", `{"agentName":"a.b"}`, nil, 400, "'agentName' is invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := birger(t, tc.client, tc.method, w.url+"/api/v1/"+tc.path, tc.body, tc.header...)
			message, _ := got["error"].(map[string]any)["message"].(string)
			if status != tc.status || !strings.Contains(message, tc.says) || len(got) != 1 {
				t.Errorf("%d %v; want %d, %q", status, got, tc.status, tc.says)
			}
		})
	}
}
