package hub_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/tunnel"
)

// An agent of the minor version before says what it says, and reads what it
// reads: the files of testdata/protocol aren't changed once they are released.
func TestHub_formerAgents(t *testing.T) {
	files, err := filepath.Glob("testdata/protocol/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			cfg := config(t)
			cfg.Thresholds = hub.DirConfig{}
			h := start(t, cfg)
			var seen http.Header
			served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen = r.Header.Clone()
				fmt.Fprint(w, r.URL)
			})
			a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), served)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play(t, h, a, string(text))
			// What it finds in a request that is forwarded to it.
			forwardWiki(t, h)
			for name, want := range map[string]string{"Reeve-Service": "x-wiki/wiki", "Reeve-Caller": "", "Reeve-Credential": ""} {
				if got := seen.Get(name); got == "" || want != "" && got != want {
					t.Errorf("a forwarded request has %s %q", name, got)
				}
			}
		})
	}
}

func forwardWiki(t *testing.T, h *running) {
	var cred struct{ Token string }
	h.call(t, "POST", "/api/v1/credentials/service", map[string]any{"agent": "east", "type": "x-wiki", "name": "wiki", "kind": "token"}, http.StatusCreated, &cred)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+h.Addrs().Services.String()+"/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+cred.Token)
	resp, err := h.client(t, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != "/a" {
		t.Errorf("forwarded: %s %s %v", resp.Status, body, err)
	}
}

// play walks through a file of testdata/protocol.
func play(t *testing.T, h *running, a *agent, text string) {
	known := map[string]string{}
	var (
		line   string // what is under way, without its mark
		header http.Header
		body   []byte
		admin  bool
	)
	ask := func(expect string) {
		t.Helper()
		method, path, _ := strings.Cut(line, " ")
		if admin {
			var parsed any
			if err := json.Unmarshal(body, &parsed); err != nil {
				t.Fatalf("! %s: %v", line, err)
			}
			h.call(t, method, path, parsed, http.StatusAccepted, nil)
			return
		}
		if header.Get("Content-Encoding") == "gzip" {
			body = zipped(t, body)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // a lease waits for two minutes
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, "http://hub"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := a.http.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		words := strings.Fields(expect)
		if status, _ := strconv.Atoi(words[0]); resp.StatusCode != status {
			t.Fatalf("%s: %s, not %d: %.500s", line, resp.Status, status, answer)
		}
		if len(words) == 1 {
			return
		}
		var parsed map[string]any
		if err := json.Unmarshal(answer, &parsed); err != nil {
			t.Fatalf("%s: %v: %.500s", line, err, answer)
		}
		for _, w := range words[1:] {
			key, want, _ := strings.Cut(w, ":")
			if got := typeAt(parsed, key); got != want && got+"?" != want && (got != "null" || !strings.HasSuffix(want, "?")) {
				t.Errorf("%s: %s is %s in the answer, not %s: %.500s", line, key, got, want, answer)
			}
		}
		for key, as := range map[string]string{"id": "scan", "profileDigest": "digest", "ref": "ref"} {
			if v, ok := parsed[key].(string); ok {
				known[as] = v
			}
		}
	}
	for l := range strings.Lines(text + "\n#\n") {
		l = strings.TrimRight(l, "\n")
		for name, v := range known {
			l = strings.ReplaceAll(l, "${"+name+"}", v)
		}
		mark, rest, _ := strings.Cut(l, " ")
		if admin && (mark == ">" || mark == "#") {
			ask("")
			admin, line = false, ""
		}
		switch mark {
		case "", "#":
		case "!", ">":
			line, header, body, admin = rest, http.Header{}, nil, mark == "!"
		case "+":
			name, value, _ := strings.Cut(rest, ": ")
			header.Set(name, value)
		case "<":
			ask(rest)
		case "@profile":
			body = agentProfile(t)
		default:
			body = []byte(l)
		}
	}
}

// typeAt is JSON's name for what is at a key, whose parts have dots between
// them.
func typeAt(m map[string]any, key string) string {
	var v any = m
	for part := range strings.SplitSeq(key, ".") {
		object, _ := v.(map[string]any)
		var ok bool
		if v, ok = object[part]; !ok {
			return "missing"
		}
	}
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	case []any:
		return "array"
	}
	return "object"
}

func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// agentProfile is the archive of a profile of a ConfigMap.
func agentProfile(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{
		"inspec.yml":      "name: agent_east_web_own\ntitle: Own\nversion: 1.0.0\n",
		"controls/own.rb": "control 'own' do\n  describe file('/etc/passwd') do\n    it { should exist }\n  end\nend\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return zipped(t, b.Bytes())
}
