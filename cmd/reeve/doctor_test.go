package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reeve.dev/reeve/doctor"
	"reeve.dev/reeve/internal/version"
	"reeve.dev/reeve/pki"
)

// TestDoctor has everything broken, one thing at a time: the finding says what,
// why it matters and what to do, and no other problem hides it.
func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, err := pki.Init(filepath.Join(dir, "ca"), "ours")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Init(filepath.Join(dir, "other"), "theirs"); err != nil {
		t.Fatal(err)
	}
	hub := func(runs string) string {
		conf, err := ca.ServerTLS(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch {
			case r.URL.Path == "/openapi.json":
				io.WriteString(w, `{"info":{"version":"`+runs+`"}}`)
			case r.Header.Get("Authorization") == "Bearer good":
				io.WriteString(w, `{"name":"token:ci","role":"viewer"}`)
			default:
				w.WriteHeader(http.StatusUnauthorized)
				io.WriteString(w, `{"status":401,"detail":"token x: it was revoked"}`)
			}
		}))
		s.TLS = conf
		s.StartTLS()
		t.Cleanup(s.Close)
		return strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	}
	good, old := hub(version.Text()), hub("0.9.0")
	pem := filepath.Join(dir, "ca", "ca.pem")
	kubeconfig := file("kubeconfig", "apiVersion: v1\nkind: Config\n")
	asAgent := "hub: {url: " + good + "}\ndataDir: " + filepath.Join(dir, "agent") + "\n"
	for name, tc := range map[string]struct {
		args  []string
		token string
		check string
		level doctor.Level
		what  string
		do    string
	}{
		"all is well":             {[]string{"--hub", good, "--ca", pem}, "good", "api", doctor.OK, "token:ci, with the role viewer", ""},
		"no such CA file":         {[]string{"--hub", good, "--ca", filepath.Join(dir, "nowhere")}, "good", "config", doctor.Problem, "no such file", "ca.pem that reeve ca init made"},
		"a CA that is none":       {[]string{"--hub", good, "--ca", kubeconfig}, "good", "config", doctor.Problem, "holds no certificate in PEM", "ca.pem"},
		"another hub's CA":        {[]string{"--hub", good, "--ca", filepath.Join(dir, "other", "ca.pem")}, "good", "tls", doctor.Problem, "ours", "this is another hub"},
		"the system's CAs":        {[]string{"--hub", good}, "good", "tls", doctor.Problem, "which this machine doesn't trust", "--ca"},
		"no credential":           {[]string{"--hub", good, "--ca", pem}, "", "api", doctor.Warning, "no credential is given", "REEVE_TOKEN"},
		"a credential that's out": {[]string{"--hub", good, "--ca", pem}, "bad", "api", doctor.Problem, "revoked", "reeve token create"},
		"half a certificate":      {[]string{"--hub", good, "--ca", pem, "--key", kubeconfig}, "", "config", doctor.Problem, "belong together", "reeve help environment"},
		"no such token file":      {[]string{"--hub", good, "--ca", pem, "--token-file", filepath.Join(dir, "nowhere")}, "", "config", doctor.Problem, "no such file", "--token-file"},
		"another version":         {[]string{"--hub", old, "--ca", pem}, "good", "version", doctor.Warning, "0.9.0", "upgrade the hub"},
		"no such host":            {[]string{"--hub", "https://nowhere.invalid:8443"}, "good", "dns", doctor.Problem, "can't be resolved", "DNS"},
		"not a URL":               {[]string{"--hub", "hub:8443"}, "good", "config", doctor.Problem, "isn't the URL of a hub", "https://HOST:PORT"},
		"no configuration":        {[]string{"--config", filepath.Join(dir, "nowhere")}, "", "config", doctor.Problem, "no such file", "correct "},
		"an unknown key":          {[]string{"--config", file("unknown.yaml", asAgent+"hubb: 1\n")}, "", "config", doctor.Problem, "hubb", "docs/configuration.md"},
		"an agent with no token":  {[]string{"--config", file("agent.yaml", asAgent)}, "", "tls", doctor.Problem, "no join token", "reeve token create --kind join"},
		"a broken kubeconfig":     {[]string{"--config", file("service.yaml", asAgent+"services: [{type: kubernetes, name: c, kubeConfig: "+kubeconfig+"}]\n")}, "", "service", doctor.Problem, "kubernetes/c", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("REEVE_TOKEN", tc.token)
			var out, errs strings.Builder
			code := run(t.Context(), append([]string{"doctor", "-o", "json"}, tc.args...), nil, &out, &errs)
			var found []doctor.Finding
			if err := json.Unmarshal([]byte(out.String()), &found); err != nil {
				t.Fatalf("exit code %d, %v: %s", code, err, errs.String())
			}
			broken := slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Level == doctor.Problem })
			if want := map[bool]int{true: exitNo}[broken]; code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			for _, f := range found {
				if f.What == "" || f.Why == "" || (f.Do == "") != (f.Level == doctor.OK) {
					t.Errorf("%+v", f)
				}
			}
			if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
				return f.Check == tc.check && f.Level == tc.level && strings.Contains(f.What, tc.what) && strings.Contains(f.Do, tc.do)
			}) {
				t.Errorf("want %s %s %q %q, got %s", tc.check, tc.level, tc.what, tc.do, out.String())
			}
		})
	}
}
