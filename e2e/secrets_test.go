package e2e

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// keep remembers secrets that no log may have. Of what is short, such as a
// line's end, it remembers nothing.
func (w *world) keep(secrets ...string) {
	for _, s := range secrets {
		// A key in PEM: its second line is like no other's.
		if _, rest, ok := strings.Cut(s, "PRIVATE KEY-----\n"); ok {
			s, _, _ = strings.Cut(rest, "\n")
		}
		// A token's secret part: its id may be logged.
		if strings.HasPrefix(s, "reeve-") {
			if parts := strings.Split(s, "_"); len(parts) > 2 {
				s = parts[2]
			}
		}
		if s = strings.TrimSpace(s); len(s) >= 16 {
			w.secrets.add(s)
		}
	}
}

var inKubeconfig = regexp.MustCompile(`(?m)^\s*(?:token|client-key-data): "?([^"\s]+)"?$`)

// keepMade remembers the secrets that a command of reeve has printed.
func (w *world) keepMade(args []string, out string) {
	switch {
	case len(args) > 1 && args[0] == "token" && args[1] == "create":
		w.keep(out)
	case len(args) > 0 && args[0] == "kubeconfig":
		for _, m := range inKubeconfig.FindAllStringSubmatch(out, -1) {
			if key, err := base64.StdEncoding.DecodeString(m[1]); err == nil && strings.Contains(string(key), "PRIVATE KEY") {
				w.keep(string(key))
				continue
			}
			w.keep(m[1])
		}
	}
}

// logsKeepSecrets looks for each credential of the run in what hubs and agents
// have logged, with all that they log at level debug.
func (w *world) logsKeepSecrets(t *testing.T) {
	for _, pattern := range []string{"ca/*-key.pem", "charts/ca/*-key.pem", "local-deploy/data/*-key.pem", "agent/identity/*.pem"} {
		files, err := filepath.Glob(filepath.Join(w.dir, pattern))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: no keys are there: %v", pattern, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			w.keep(string(text))
		}
	}
	secrets := w.secrets.all()
	if len(secrets) < 20 {
		t.Errorf("only %d credentials are known", len(secrets))
	}
	logs := map[string]string{}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".log") {
			var text []byte
			text, err = os.ReadFile(path)
			logs[strings.TrimPrefix(path, w.dir+"/")] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"reeve-hub-0", "reeve-agent-0"} {
		if logs[pod], err = w.k.Kubectl(w.ctx, "", "logs", "-n", reeveNamespace, pod); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(logs[pod]) {
			var entry struct{ Time, Level, Msg string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" {
				t.Errorf("%s logs what isn't an entry: %s", pod, line)
			}
		}
	}
	for _, name := range []string{"hub.log", "agent.log", "reeve-hub-0", "reeve-agent-0"} {
		if len(logs[name]) < 500 {
			t.Errorf("%s has %d bytes alone", name, len(logs[name]))
		}
	}
	for name, text := range logs {
		for _, s := range secrets {
			if at := strings.Index(text, s); at >= 0 {
				t.Errorf("%s has a credential: %s", name, text[max(0, at-200):at])
			}
		}
	}
}
