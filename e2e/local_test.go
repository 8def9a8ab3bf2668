package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// localDeploy runs the scripts of examples/local-deploy, on other ports, and
// calls its services each way.
func (w *world) localDeploy(t *testing.T) {
	in := *w
	in.t, in.dir = t, filepath.Join(w.dir, "local-deploy")
	if err := os.CopyFS(in.dir, os.DirFS("../examples/local-deploy")); err != nil {
		t.Fatal(err)
	}
	whoami, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s for %s", r.Method, r.URL, r.Header.Get("X-Forwarded-Host"))
	})}
	go server.Serve(whoami)
	t.Cleanup(func() { server.Close() })
	_, there, _ := net.SplitHostPort(whoami.Addr().String())
	ports := map[string]string{"8300": there}
	for _, p := range []string{"8443", "9443", "9090", "9091", "8014"} {
		ports[p] = freePort(t)
	}
	files, err := filepath.Glob(in.dir + "/config/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for from, to := range ports {
			text = []byte(strings.ReplaceAll(string(text), ":"+from, ":"+to))
			text = []byte(strings.ReplaceAll(string(text), "port: "+from, "port: "+to))
		}
		if err := os.WriteFile(f, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"REEVE=" + w.bin, "HUB=https://localhost:" + ports["8443"]}
	script := func(name string) world {
		s := in
		s.bin = filepath.Join(in.dir, name)
		if err := os.Chmod(s.bin, 0o755); err != nil { // CopyFS doesn't keep it
			t.Fatal(err)
		}
		return s
	}
	setup := exec.CommandContext(w.ctx, "sh", "setup.sh")
	setup.Dir, setup.Env = in.dir, append(os.Environ(), env...)
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("setup.sh: %v\n%s", err, out)
	}
	hub := script("run-hub.sh")
	hub.start("local-hub", env)
	tool := script("reeve.sh")
	w.await(t, "the hub answers", func() (bool, error) { return tool.reeveEnv(env, "get", "agents").code == 0, nil })
	agent := script("run-agent.sh")
	agent.start("local-agent", env)
	w.await(t, "the agent's services", func() (bool, error) {
		out := tool.reeveEnv(env, "get", "services").out
		return strings.Contains(out, "whoami-loop") && strings.Contains(out, "whoami beside the hub"), nil
	})

	in.dir += "/data"
	ask := func(url, cert string) string {
		t.Helper()
		conf := in.trust()
		if cert != "" {
			pair, err := tls.LoadX509KeyPair(in.dir+"/"+cert+".pem", in.dir+"/"+cert+"-key.pem")
			if err != nil {
				t.Fatal(err)
			}
			conf.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	services := "https://localhost:" + ports["9443"]
	for _, c := range []struct{ url, cert, want string }{
		{services + "/a", "whoami", "GET /a for localhost:" + ports["9443"]},
		{"http://localhost:" + ports["8014"] + "/b", "", "GET /b for hub"},
		{services + "/c", "whoami-loop", "GET /c for hub"},
	} {
		if got := ask(c.url, c.cert); got != c.want {
			t.Errorf("%s: %q, want %q", c.url, got, c.want)
		}
	}
}
