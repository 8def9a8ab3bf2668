package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serve opens dir by a server in this process; end cuts the way to it.
func serve(t *testing.T, dir string, self int) (_ Target, end func()) {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- ServeFiles(t.Context(), dir, self, inR, outW)
		outW.Close()
	}()
	remote := NewRemote("k8s-container://a/b/c", Streams{Stdin: inW, Stdout: outR, Close: inW.Close})
	t.Cleanup(func() {
		remote.Close()
		if err := <-served; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
	return remote, func() { inW.Close(); outR.Close() }
}

func someRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/long": strings.Repeat("x", 300<<10),
		"etc/debian_version": "12.1\n", "proc/7/status": "Name:\tseven\n",
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"etc/link": "/etc/passwd", "etc/out": "../../../../etc/hostname", "etc/dangling": "nowhere", "proc/self": "1234"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestRemote_IsDir shows that files are told as by a target of their directory.
func TestRemote_IsDir(t *testing.T) {
	dir := someRoot(t)
	remote, _ := serve(t, dir, 0)
	local, err := Open(t.Context(), "dir:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	session := NewSession(t.Context(), remote, 4).Target()
	kind := func(err error) string {
		var long *OutputError
		switch {
		case err == nil:
			return ""
		case errors.Is(err, fs.ErrNotExist):
			return "not there"
		case errors.As(err, &long):
			return "too long"
		}
		return err.Error()
	}
	looks := map[string]func(Target, string) (any, error){
		"stat":     func(t Target, p string) (any, error) { return t.Stat(context.Background(), p, true) },
		"lstat":    func(t Target, p string) (any, error) { return t.Stat(context.Background(), p, false) },
		"read":     func(t Target, p string) (any, error) { return t.ReadFile(context.Background(), p, 400<<10) },
		"little":   func(t Target, p string) (any, error) { return t.ReadFile(context.Background(), p, 3) },
		"list":     func(t Target, p string) (any, error) { return t.ReadDir(context.Background(), p) },
		"readlink": func(t Target, p string) (any, error) { return t.Readlink(context.Background(), p) },
	}
	for name, look := range looks {
		for _, path := range []string{"/", "/etc", "/etc/passwd", "/etc/long", "/etc/link", "/etc/out", "/etc/dangling", "/nope", "/etc/passwd/x", "relative", ""} {
			want, wantErr := look(local, path)
			for _, target := range []Target{remote, session} {
				got, err := look(target, path)
				if kind(err) != kind(wantErr) {
					t.Errorf("%s %q: error %v, want %v", name, path, err, wantErr)
				}
				if diff := cmp.Diff(want, got); diff != "" && wantErr == nil {
					t.Errorf("%s %q: %s", name, path, diff)
				}
			}
		}
	}
	if _, err := remote.Run(t.Context(), "id"); !errors.Is(err, ErrNoCommands) {
		t.Errorf("a command: %v", err)
	}
	if p, err := remote.Platform(t.Context()); err != nil || p.Name != "debian" {
		t.Errorf("platform %+v, %v", p, err)
	}
}

// TestRemote_Self shows whose /proc/self is read.
func TestRemote_Self(t *testing.T) {
	remote, _ := serve(t, someRoot(t), 7)
	if text, err := remote.ReadFile(t.Context(), "/proc/self/status", 100); err != nil || string(text) != "Name:\tseven\n" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := remote.Readlink(t.Context(), "/proc/self"); err != nil || text != "7" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestRemote_Lost shows that nobody waits for a server that is gone, nor longer
// than they want to for one that hangs.
func TestRemote_Lost(t *testing.T) {
	remote, end := serve(t, someRoot(t), 0)
	end()
	var lost *LostError
	for range 2 {
		if _, err := remote.ReadFile(t.Context(), "/etc/passwd", 100); !errors.As(err, &lost) {
			t.Errorf("after the end: %v", err)
		}
	}
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go io.Copy(io.Discard, inR)
	hangs := NewRemote("k8s-container://a/b/c", Streams{Stdin: inW, Stdout: outR, Close: func() error { return outW.Close() }})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := hangs.Stat(ctx, "/etc", true); !errors.Is(err, enough) {
		t.Errorf("of a server that hangs: %v", err)
	}
	if err := hangs.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzRemote gives the target what a hostile server might say.
func FuzzRemote(f *testing.F) {
	frame := func(s string) []byte {
		var b bytes.Buffer
		writeFrame(&b, s)
		return append(b.Bytes()[:4:4], s...)
	}
	f.Add(frame(`{"id":1,"info":{"Mode":420}}`))
	f.Add(frame(`{"id":1,"errno":2}`))
	f.Add(frame(`{"id":9}`))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Fuzz(func(t *testing.T, data []byte) {
		inR, inW := io.Pipe()
		go io.Copy(io.Discard, inR)
		remote := NewRemote("x:", Streams{Stdin: inW, Stdout: bytes.NewReader(data), Close: inW.Close})
		defer remote.Close()
		info, err := remote.Stat(t.Context(), "/etc/passwd", true)
		if err == nil && info == (FileInfo{}) && !bytes.Contains(bytes.ToLower(data), []byte("info")) {
			t.Errorf("%q: neither answer nor error", data)
		}
	})
}

// TestRemote_Silence shows that a server which takes questions, or doesn't even
// take them, and answers none of them for long, doesn't keep who asks without
// an end of his own.
func TestRemote_Silence(t *testing.T) {
	for name, serve := range map[string]func(in io.Reader, out io.Writer){
		"reads nothing": func(io.Reader, io.Writer) {},
		"answers none":  func(in io.Reader, _ io.Writer) { io.Copy(io.Discard, in) },
		"answers others": func(in io.Reader, out io.Writer) {
			go io.Copy(io.Discard, in)
			for writeFrame(out, wireAnswer{ID: 1 << 60}) == nil {
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inR, inW := io.Pipe()
				outR, outW := io.Pipe()
				var serving sync.WaitGroup
				serving.Go(func() { serve(inR, outW) })
				defer serving.Wait()
				remote := NewRemote("k8s-container://a/b/c", Streams{Stdin: inW, Stdout: outR, Close: func() error { inR.Close(); return outR.Close() }})
				begin := time.Now()
				var lost *LostError
				if _, err := remote.Platform(t.Context()); !errors.As(err, &lost) || time.Since(begin) > 2*silence {
					t.Errorf("after %v: %v", time.Since(begin), err)
				}
				if err := remote.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
