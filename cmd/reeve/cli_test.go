package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/internal/kubeapi"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"reeve": main, pluginProgram: main, completeProgram: main})
}

// TestAlone runs the transcripts of testdata/alone: what needs no hub.
func TestAlone(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/alone",
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"member": member, "exit": exit},
		Setup: func(e *testscript.Env) error { return root(filepath.Join(e.WorkDir, "root")) },
	})
}

// TestHub runs the transcripts of testdata/hub, each with a hub of its own at
// $REEVE_HUB, whose folder is $WORK/hub.
func TestHub(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/hub",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"member": member, "exit": exit, "until": until, "post": post, "let": let, "kube": kubectl, "sql": tamper},
		Setup: func(e *testscript.Env) error {
			if err := root(filepath.Join(e.WorkDir, "root")); err != nil {
				return err
			}
			cfg := hub.Defaults()
			cfg.DataDir, cfg.CADir = filepath.Join(e.WorkDir, "hub", "data"), filepath.Join(e.WorkDir, "hub", "ca")
			cfg.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
			cfg.Sinks = []hub.SinkConfig{{Name: "nobody", Type: "rpc", Endpoint: "localhost:1"}}
			cfg.Policies = []policy.Policy{
				{Name: "sboms", Check: policy.Check{SBOM: &policy.SBOMCheck{}}, Actions: []policy.Action{{Kind: "rpc", Name: "nobody"}}},
				{Name: "strict", Check: policy.Check{Scan: &policy.ScanCheck{Profile: "container-baseline"}}, DisableOverride: true},
			}
			if _, err := pki.Init(cfg.CADir, "test"); err != nil {
				return err
			}
			h, err := hub.New(cfg, "test", slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- h.Run(ctx) }()
			e.Defer(func() {
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			e.Setenv("REEVE_HUB", h.URL())
			e.Setenv("REEVE_CA", filepath.Join(cfg.CADir, "ca.pem"))
			e.Setenv("REEVE_CERT", filepath.Join(cfg.CADir, "control.pem"))
			e.Setenv("REEVE_KEY", filepath.Join(cfg.CADir, "control-key.pem"))
			return nil
		},
	})
}

// root makes a small root file system.
func root(dir string) error {
	for path, text := range map[string]string{
		"etc/passwd":     "root:x:0:0:root:/root:/bin/sh\n",
		"etc/os-release": "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n",
		"etc/motd":       "hello\n",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// exit runs reeve, as exec does, and checks its exit code: exit CODE ARG…
func exit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: exit CODE ARG…")
	}
	code := 0
	err := ts.Exec("reeve", args[1:]...)
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// until runs reeve again and again, until its output matches: until REGEXP ARG…
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP ARG…")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ts.Check(ts.Exec("reeve", args[1:]...))
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("never %s", args[0])
}

// post sends a file to the hub's API and keeps the answer: post PATH FILE ANSWER.
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: post PATH FILE ANSWER")
	}
	flags := hubFlags{url: ts.Getenv("REEVE_HUB"), ca: ts.Getenv("REEVE_CA"), cert: ts.Getenv("REEVE_CERT"), key: ts.Getenv("REEVE_KEY")}
	c, err := flags.client()
	ts.Check(err)
	defer c.http.CloseIdleConnections()
	answer, err := c.do(context.Background(), http.MethodPost, args[0], json.RawMessage(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), answer, 0o600))
}

// kubectl asks a cluster for something as client-go does: kube KUBECONFIG STATUS
// REGEXP, where REGEXP is for the error, and STATUS is refused if no request
// could be made.
func kubectl(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: kube KUBECONFIG STATUS REGEXP")
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	// Who is given the kubeconfig has none of the variables of this script.
	cfg.ExecProvider.Env = append(cfg.ExecProvider.Env, clientcmdapi.ExecEnvVar{Name: "XDG_CACHE_HOME", Value: ts.Getenv("XDG_CACHE_HOME")})
	client, err := kubeapi.New(cfg)
	ts.Check(err)
	var status int
	err = client.Get().Resource("pods").Do(context.Background()).StatusCode(&status).Error()
	if want := strconv.Itoa(status); err == nil || args[1] != want && (args[1] != "refused" || status != 0) || !regexp.MustCompile(args[2]).MatchString(err.Error()) {
		ts.Fatalf("status %d, %v", status, err)
	}
}

// let sets a variable to a member of a JSON document that is text: let NAME
// FILE PATH, with a path as in member.
func let(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: let NAME FILE PATH")
	}
	var doc any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &doc))
	ts.Check(look(doc, strings.Split(args[2], "."), func(v any) error {
		ts.Setenv(args[0], fmt.Sprint(v))
		return nil
	}))
}

// member checks a JSON document: member FILE PATH [VALUE]. A path is made of
// names, indices and * for each one of a list; VALUE is what the last one
// must be, as JSON.
func member(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: [!] member FILE PATH [VALUE]")
	}
	var doc any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &doc))
	err := look(doc, strings.Split(args[1], "."), func(v any) error {
		got, err := json.Marshal(v)
		if err != nil || len(args) < 3 || string(got) == args[2] {
			return err
		}
		return fmt.Errorf("is %s, want %s", got, args[2])
	})
	if neg && err == nil {
		ts.Fatalf("%s has %s", args[0], args[1])
	}
	if !neg && err != nil {
		ts.Fatalf("%s: %s: %v", args[0], args[1], err)
	}
}

// look calls see with what is at a path.
func look(v any, path []string, see func(any) error) error {
	if len(path) == 0 {
		return see(v)
	}
	switch in := v.(type) {
	case map[string]any:
		next, ok := in[path[0]]
		if !ok {
			return fmt.Errorf("no member %s", path[0])
		}
		return look(next, path[1:], see)
	case []any:
		if path[0] == "*" {
			for i, next := range in {
				if err := look(next, path[1:], see); err != nil {
					return fmt.Errorf("[%d]: %w", i, err)
				}
			}
			return nil
		}
		i, err := strconv.Atoi(path[0])
		if err != nil || i >= len(in) {
			return fmt.Errorf("no element %s of %d", path[0], len(in))
		}
		return look(in[i], path[1:], see)
	}
	return fmt.Errorf("%T has no members", v)
}

// TestExamples keeps the configuration files of examples/ true.
func TestExamples(t *testing.T) {
	if _, err := hub.LoadConfig("../../examples/hub.yaml"); err != nil {
		t.Error(err)
	}
	if _, err := agent.LoadConfig("../../examples/agent.yaml"); err != nil {
		t.Error(err)
	}
}

// calls finds those of reeve in a line for the shell.
var calls = regexp.MustCompile(`(?:^|[|;(&)] *|=\S+ )reeve ([^|;()&>]*)`)

// TestHelp walks every command: each says what it is for, and its examples
// name commands and flags that there are.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			for _, call := range calls.FindAllStringSubmatch(strings.TrimSpace(line), -1) {
				checkExample(t, cmd.CommandPath(), strings.Fields(call[1]))
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot())
}

func checkExample(t *testing.T, of string, words []string) {
	t.Helper()
	cmd, _, err := newRoot().Find(words)
	if err != nil || cmd == cmd.Root() {
		t.Errorf("%s: %v: no such command (%v)", of, words, err)
		return
	}
	for _, w := range words {
		if name, ok := strings.CutPrefix(w, "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			if cmd.Flags().Lookup(name) == nil {
				t.Errorf("%s: %s has no flag --%s", of, cmd.CommandPath(), name)
			}
		}
	}
}

// TestRow keeps what comes from outside from writing to a terminal.
func TestRow(t *testing.T) {
	var b strings.Builder
	row(&b, "a\x1b[2Jb", "c\td", "e\nf\u009b", 3)
	if diff := cmp.Diff("a [2Jb\tc d\te f \t3\n", b.String()); diff != "" {
		t.Error(diff)
	}
}
