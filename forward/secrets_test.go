package forward_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

// cluster is an API server with one Secret, tools/login.
type cluster struct {
	*httptest.Server
	mu    sync.Mutex
	data  map[string][]byte // guarded by mu; nil: the Secret is gone
	asked int               // guarded by mu
	auth  string            // guarded by mu; of the last request
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	c.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asked++
		c.auth = r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		if c.data == nil || r.URL.Path != "/api/v1/namespaces/tools/secrets/login" {
			w.WriteHeader(http.StatusNotFound)
			json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Code: 404, Reason: metav1.StatusReasonNotFound})
			return
		}
		json.NewEncoder(w).Encode(corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, Data: c.data})
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) set(data map[string][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = data
}

func (c *cluster) seen() (asked int, auth string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked, c.auth
}

// kubeconfig names the cluster, with user as its YAML says.
func (c *cluster) kubeconfig(t *testing.T, user string) string {
	t.Helper()
	return fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u, namespace: tools}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: %s}]
`, c.URL, caFile(t, c.Server), user)
}

func TestForward_credentials_from_a_Secret(t *testing.T) {
	var got string
	status := http.StatusOK
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		w.WriteHeader(status)
	})
	c := newCluster(t)
	kubeconfig := write(t, "kubeconfig", c.kubeconfig(t, "{token: t}"))
	secret := func(typ, username string) func(*forwardtest.Options) {
		return func(o *forwardtest.Options) {
			o.Kubeconfig = kubeconfig
			o.Upstreams[0].Credentials = forward.Credentials{Type: typ, Username: username, SecretName: "login"}
		}
	}
	c.set(map[string][]byte{"username": []byte("user"), "password": []byte("s3cret\n"), "token": []byte("s3cret")})
	for _, tt := range []struct{ typ, username, want string }{
		{"basic", "", "Basic dXNlcjpzM2NyZXQ="},
		{"basic", "me", "Basic bWU6czNjcmV0"},
		{"bearer", "", "Bearer s3cret"},
		{"token", "", "token s3cret"},
	} {
		b := start(t, service, secret(tt.typ, tt.username))
		before, _ := c.seen()
		for range 3 {
			do(t, b.client, request(t, "GET", b.URL, nil))
		}
		if got != tt.want {
			t.Errorf("%s: Authorization is %q, want %q", tt.typ, got, tt.want)
		}
		if after, _ := c.seen(); after != before+1 {
			t.Errorf("%s: the Secret was asked for %d times for 3 requests", tt.typ, after-before)
		}
	}
	t.Run("without the key", func(t *testing.T) {
		c.set(map[string][]byte{"other": []byte("s3cret")})
		b := start(t, service, secret("bearer", ""))
		if resp, body := do(t, b.client, request(t, "GET", b.URL, nil)); resp.StatusCode != 502 || !strings.Contains(body, "needs a credential") || strings.Contains(body, "s3cret") {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	t.Run("gone", func(t *testing.T) {
		c.set(nil)
		b := start(t, service, secret("bearer", ""))
		if resp, body := do(t, b.client, request(t, "GET", b.URL, nil)); resp.StatusCode != 502 || !strings.Contains(body, "needs a credential") {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
}

// A kubeconfig's every credential is client-go's to use: here a command, and a
// token's file; and the kubeconfig itself is read again.
func TestForward_Kubernetes_credentials(t *testing.T) {
	c := newCluster(t)
	dir := t.TempDir()
	command := filepath.Join(dir, "login")
	if err := os.WriteFile(command, []byte("#!/bin/sh\n"+`echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-command"}}'`), 0o700); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("from-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := write(t, "kubeconfig", c.kubeconfig(t, fmt.Sprintf("{exec: {apiVersion: client.authentication.k8s.io/v1, command: %q, interactiveMode: Never}}", command)))
	b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: file})
	})
	client := b.as(t, fleet.Kubernetes, "main")
	call := func(want string) {
		t.Helper()
		do(t, client, request(t, "GET", b.URL+"/api", nil))
		if _, auth := c.seen(); auth != "Bearer "+want {
			t.Errorf("Authorization is %q, want that %s", auth, want)
		}
	}
	call("from-command")
	replace := func(content string) {
		t.Helper()
		next := file + ".next"
		if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	replace(c.kubeconfig(t, fmt.Sprintf("{tokenFile: %q}", token)))
	call("from-file")
	replace("this is no kubeconfig")
	call("from-file")
	replace(c.kubeconfig(t, "{token: from-the-kubeconfig-itself}"))
	call("from-the-kubeconfig-itself")
	c.CloseClientConnections()
}
