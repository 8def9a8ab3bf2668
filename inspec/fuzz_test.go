package inspec_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// An archive of any bytes is refused or loaded, and what was loaded can be
// archived again.
func FuzzRead(f *testing.F) {
	fsys := fstest.MapFS{}
	for name, text := range small() {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	p, err := inspec.LoadFS(fsys)
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Archive(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := inspec.Read(bytes.NewReader(data), "fuzz")
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := p.Archive(&b); err != nil {
			t.Fatal(err)
		}
		q, err := inspec.Read(&b, "fuzz")
		if err != nil || q.Digest() != p.Digest() {
			t.Errorf("the archive of a loaded profile is another: %v", err)
		}
	})
}

// Any inspec.yml is refused or loaded.
func FuzzMetadata(f *testing.F) {
	data, err := os.ReadFile("testdata/probe/inspec.yml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("name: x\nsupports: [{platform: a}]\ndepends: [{name: y, path: z}]\ninputs: [{name: a, type: num, value: 1, pattern: '(', required: true}]\n"))
	f.Add([]byte("name: x\nversion: <%= [1, 2].join('.') %>.0\n<%# note %>\n<% if ENV['A'] %>title: <%% a\n<% end %>\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = inspec.LoadFS(fstest.MapFS{"inspec.yml": &fstest.MapFile{Data: data}, "controls/a.rb": &fstest.MapFile{}})
	})
}

// Any control file ends within the limits, and never by a mistake of the
// engine.
func FuzzControls(f *testing.F) {
	for _, name := range []string{"a_matchers", "b_forms", "c_inputs", "e_return"} {
		data, err := os.ReadFile("testdata/probe/controls/" + name + ".rb")
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return // what is longer only takes longer
		}
		p, err := inspec.LoadFS(fstest.MapFS{
			"inspec.yml":    &fstest.MapFile{Data: []byte("name: fuzz\n")},
			"controls/a.rb": &fstest.MapFile{Data: []byte(text)},
		})
		if err != nil {
			return
		}
		doc, err := inspec.Run(t.Context(), p, nowhere{}, inspec.Options{Limits: ruby.Limits{
			Steps: 20_000, Depth: 200, Memory: 1 << 22, Time: time.Second, RegexTime: 50 * time.Millisecond,
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range doc.Profiles[0].Controls {
			for _, r := range c.Results {
				if r.Exception == "Reeve::EngineError" {
					t.Errorf("%s\n%s", r.Message, strings.Join(r.Backtrace, "\n"))
				}
			}
		}
	})
}

// nowhere is a target on which there is nothing.
type nowhere struct{}

func (nowhere) URI() string { return "nowhere:" }

func (nowhere) Run(context.Context, string) (target.CommandResult, error) {
	return target.CommandResult{}, target.ErrNoCommands
}

func (nowhere) Stat(_ context.Context, path string, _ bool) (target.FileInfo, error) {
	return target.FileInfo{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) ReadFile(_ context.Context, path string, _ int64) ([]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) ReadDir(_ context.Context, path string) ([]string, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) Readlink(_ context.Context, path string) (string, error) {
	return "", &fs.PathError{Op: "readlink", Path: path, Err: fs.ErrNotExist}
}

func (nowhere) Platform(context.Context) (target.Platform, error) {
	return target.Platform{Name: "debian", Family: "debian", Families: []string{"debian", "linux", "unix", "os"}, Release: "12"}, nil
}

func (nowhere) Close() error { return nil }
