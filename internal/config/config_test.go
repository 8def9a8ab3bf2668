package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	DataDir   string            `yaml:"dataDir"`
	Names     []string          `yaml:"names"`
	PublicURL string            `yaml:"publicURL"`
	Scan      scan              `yaml:"scan"`
	Labels    map[string]string `yaml:"labels"`
	Sinks     []sink            `yaml:"sinks"`
}

type scan struct {
	LeaseFor time.Duration `yaml:"leaseFor"`
	Attempts int           `yaml:"attempts"`
}

type sink struct {
	Name string `yaml:"name"`
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	t.Run("the environment wins over the file, the file over the defaults", func(t *testing.T) {
		t.Setenv("REEVE_SCAN_ATTEMPTS", "7")
		t.Setenv("REEVE_NAMES", "a, b")
		t.Setenv("REEVE_SINKS", `[{"name": "ci"}]`)
		t.Setenv("REEVE_PUBLIC_URL", "https://hub")
		got := sample{DataDir: "/default", Scan: scan{Attempts: 3}}
		if err := Load(write(t, "scan: {leaseFor: 45s}\nlabels: {a: b}\n"), "REEVE", &got); err != nil {
			t.Fatal(err)
		}
		want := sample{
			DataDir: "/default", Names: []string{"a", "b"}, PublicURL: "https://hub",
			Scan: scan{LeaseFor: 45 * time.Second, Attempts: 7}, Labels: map[string]string{"a": "b"}, Sinks: []sink{{"ci"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("an empty file changes nothing", func(t *testing.T) {
		got := sample{DataDir: "/default"}
		if err := Load(write(t, ""), "REEVE", &got); err != nil || got.DataDir != "/default" {
			t.Errorf("got %+v, %v", got, err)
		}
	})

	for name, tt := range map[string]struct{ text, want string }{
		"unknown key":         {"dataDir: x\nscan:\n  leasFor: 1s\n", `line 3: unknown key "leasFor"; did you mean "leaseFor"?`},
		"nothing like it":     {"frobnicate: x\n", `line 1: unknown key "frobnicate"`},
		"wrong type":          {"scan:\n  attempts: many\n", "line 2: cannot unmarshal !!str `many` into int"},
		"a key twice":         {"dataDir: x\ndataDir: y\n", `line 2: mapping key "dataDir" already defined at line 1`},
		"not YAML":            {"dataDir: [\n", "line 1"},
		"a second document":   {"dataDir: x\n---\ndataDir: y\n", "one YAML document"},
		"more than the limit": {"#" + strings.Repeat("x", maxFile), "more than 1048576 bytes"},
		"unknown in a list":   {"sinks:\n- nam: x\n", `line 2: unknown key "nam"; did you mean "name"?`},
		"several at one time": {"a1: x\nb1: y\n", "line 2: unknown key \"b1\""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.text)
			err := Load(path, "REEVE", &sample{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want the path and %q", err, tt.want)
			}
		})
	}

	t.Run("a wrong variable is named, its value isn't", func(t *testing.T) {
		t.Setenv("REEVE_SCAN_ATTEMPTS", "hunter2")
		err := Load("", "REEVE", &sample{})
		if err == nil || !strings.Contains(err.Error(), "REEVE_SCAN_ATTEMPTS") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a missing file is named", func(t *testing.T) {
		if err := Load("/no/such.yaml", "REEVE", &sample{}); err == nil || !strings.Contains(err.Error(), "/no/such.yaml") {
			t.Errorf("got %v", err)
		}
	})
}
