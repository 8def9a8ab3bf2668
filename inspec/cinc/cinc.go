// Package cinc runs a profile on CINC Auditor or Chef InSpec, where one of them
// is installed: the engine that Reeve's own is measured against, for a profile
// that needs what the native one doesn't have, and for comparison.
//
// It is started with an argument vector, never through a shell. Inputs go by a
// file that only its user can read, for arguments are seen by everybody on the
// machine. Its licence is its user's to accept.
package cinc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/hdf"
)

var (
	// ErrMissing says that neither program is on the PATH.
	ErrMissing = errors.New("neither cinc-auditor nor inspec is on the PATH: install CINC Auditor (https://cinc.sh), or scan with the native engine")
	// ErrTarget says that the engine has no way to the target.
	ErrTarget = errors.New("the cinc engine reaches local: and k8s-container://NAMESPACE/POD/CONTAINER (with the plugin train-k8s-container); scan other targets with the native engine")
)

// An ExitError is an end of the program that isn't a verdict.
type ExitError struct {
	Program string
	Code    int    // -1 if a signal ended it
	Said    string // the end of what it said
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s ended with code %d", e.Program, e.Code)
	if e.Code == exitLicence {
		text += ": its licence isn't accepted; read it and set CHEF_LICENSE, or use CINC Auditor"
	}
	if e.Said != "" {
		text += ": " + e.Said
	}
	return text
}

// Exit codes of inspec exec that are a verdict, and one that has a remedy.
const (
	exitPassed  = 0
	exitFailed  = 100
	exitSkipped = 101
	exitLicence = 172
)

// Bounds of what the program may leave behind.
const (
	maxResults = 128 << 20
	maxSaid    = 2000
)

// Engine is an installed program.
type Engine struct{ path string }

// Find looks for cinc-auditor, then for inspec, on the PATH. The error is
// ErrMissing.
func Find() (*Engine, error) {
	for _, name := range []string{"cinc-auditor", "inspec"} {
		if path, err := exec.LookPath(name); err == nil {
			return &Engine{path}, nil
		}
	}
	return nil, ErrMissing
}

// Name is the program's name.
func (e *Engine) Name() string { return filepath.Base(e.path) }

// Request is one run.
type Request struct {
	Profile    string // a folder or an archive
	Target     string // as reeve scan takes it
	Inputs     map[string]any
	Controls   []string // ids and /regular expressions/
	Tags       []string
	Waivers    []string // files
	Kubeconfig string   // a file; found as kubectl finds it if empty
}

// Run runs the profile and returns what it found, sealed. The error is
// ErrTarget, an *ExitError, or says what of the request is wrong.
func (e *Engine) Run(ctx context.Context, r Request) (*hdf.Results, error) {
	dir, err := os.MkdirTemp("", "reeve-cinc-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name(), err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "results.json")
	args, err := arguments(r, dir, out)
	if err != nil {
		return nil, err
	}
	var said tail
	cmd := exec.CommandContext(ctx, e.path, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if r.Kubeconfig != "" {
		cmd.Env = append(os.Environ(), "KUBECONFIG="+r.Kubeconfig)
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("%s: %w", e.Name(), err)
	}
	switch code := cmd.ProcessState.ExitCode(); code {
	case exitPassed, exitFailed, exitSkipped:
		return e.read(out, said.String())
	default:
		return nil, &ExitError{Program: e.Name(), Code: code, Said: said.String()}
	}
}

func (e *Engine) read(path, said string) (*hdf.Results, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s wrote no results: %s", e.Name(), said)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", e.Name(), err)
	case st.Size() > maxResults:
		return nil, fmt.Errorf("%s wrote %d bytes of results; %d are allowed", e.Name(), st.Size(), maxResults)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name(), err)
	}
	defer f.Close()
	results, err := hdf.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name(), err)
	}
	results.Seal()
	return results, nil
}

// arguments makes the argument vector of inspec exec, and the files in dir
// that it names.
func arguments(r Request, dir, out string) ([]string, error) {
	profile, err := filepath.Abs(r.Profile) // a path that can't be taken for an option
	if err != nil {
		return nil, err
	}
	args := []string{"exec", profile, "--no-color", "--no-create-lockfile", "--reporter", "json:" + out}
	switch {
	case r.Target == "local:":
	case strings.HasPrefix(r.Target, "k8s-container://"):
		args = append(args, "--target", r.Target)
	default:
		return nil, ErrTarget
	}
	if len(r.Inputs) > 0 {
		text, err := yaml.Marshal(r.Inputs)
		if err != nil {
			return nil, fmt.Errorf("inputs: %w", err)
		}
		path := filepath.Join(dir, "inputs.yml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--input-file", path)
	}
	for _, list := range []struct {
		flag   string
		values []string
	}{{"--controls", r.Controls}, {"--tags", r.Tags}, {"--waiver-file", r.Waivers}} {
		if len(list.values) == 0 {
			continue
		}
		args = append(args, list.flag)
		for _, v := range list.values {
			if strings.HasPrefix(v, "-") {
				return nil, fmt.Errorf("%s %q: the cinc engine would take it for an option", list.flag, v)
			}
			args = append(args, v)
		}
	}
	return args, nil
}

// tail keeps the end of what is written to it.
type tail struct{ b bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if over := t.b.Len() - maxSaid; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

// String is the text without what could drive a terminal.
func (t *tail) String() string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(t.b.String(), "")))
}
