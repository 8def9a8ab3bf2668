// Package postgrestest runs a PostgreSQL server of the test's own: in a folder
// that goes with the test, reached by a socket in it, as another user where
// the test is root. It needs Debian's package postgresql, or initdb and
// postgres in PATH.
package postgrestest

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Server is a running server.
type Server struct {
	dir     string
	schemas atomic.Int64
}

// database sorts by the rules of a language, as most do.
const database = "reeve"

// Start starts a server that ends with the test, and with the test's process
// however that ends. It skips the test where there is no PostgreSQL.
func Start(tb testing.TB) *Server {
	tb.Helper()
	bin := find()
	if bin == "" {
		tb.Skip("PostgreSQL isn't installed: apt-get install postgresql")
	}
	// Not tb.TempDir, which another user can't enter.
	dir, err := os.MkdirTemp("", "postgres-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		attr.Credential = other(tb, dir)
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = dir, attr
	if out, err := initdb.CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=",
		"-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=200")
	server.Dir, server.SysProcAttr = dir, dieWithParent(*attr)
	stop := run(tb, server)
	tb.Cleanup(stop)
	s := &Server{dir: dir}
	s.Exec(tb, s.url("postgres", "public"), "CREATE DATABASE "+database+" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
	return s
}

// run starts the server, waits until it is ready, and answers what stops it.
func run(tb testing.TB, server *exec.Cmd) (stop func()) {
	tb.Helper()
	says, err := server.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	ready, over := make(chan error, 1), make(chan struct{})
	go func() {
		// The server is told of the end of the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(over)
		if err := server.Start(); err != nil {
			ready <- err
			return
		}
		var log strings.Builder
		up := false
		for lines := bufio.NewScanner(says); lines.Scan(); {
			if !up && strings.Contains(lines.Text(), "ready to accept connections") {
				up = true
				ready <- nil
			}
			if !up {
				log.WriteString(lines.Text() + "\n")
			}
		}
		if err := server.Wait(); !up {
			ready <- fmt.Errorf("%w\n%s", err, log.String())
		}
	}()
	if err := <-ready; err != nil {
		tb.Fatalf("postgres: %v", err)
	}
	return func() {
		server.Process.Signal(syscall.SIGQUIT) // at once
		<-over
	}
}

// find answers the folder with PostgreSQL's programs.
func find() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// other is who runs the server, which refuses to be root, and gets dir.
func other(tb testing.TB, dir string) *syscall.Credential {
	tb.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			tb.Skip("PostgreSQL doesn't run as root, and there is neither a user postgres nor nobody")
		}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		tb.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// URL leads to an empty schema of its own, which is quicker to make than a
// database. Announcements and advisory locks pass from one to another.
func (s *Server) URL(tb testing.TB) string {
	tb.Helper()
	schema := fmt.Sprintf("test%d", s.schemas.Add(1))
	url := s.url(database, schema)
	s.Exec(tb, url, "CREATE SCHEMA "+schema)
	return url
}

// Exec runs a statement in the database at url.
func (s *Server) Exec(tb testing.TB, url, statement string) {
	tb.Helper()
	c, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(tb.Context()))
	if _, err := c.Exec(tb.Context(), statement); err != nil {
		tb.Fatal(err)
	}
}

func (s *Server) url(database, schema string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {s.dir}, "user": {"postgres"}, "search_path": {schema}}.Encode()
}
