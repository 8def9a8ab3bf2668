package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/store"
)

type readyFunc func(context.Context) error

func (f readyFunc) Ready(ctx context.Context) error { return f(ctx) }

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var database error
		var logged []string
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		r := &readiness{
			store: readyFunc(func(context.Context) error { return database }), dir: dir,
			said: func(why error) { logged = append(logged, fmt.Sprint(why)) },
		}
		ask := func() string {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if ok := w.Code == http.StatusOK; ok != (w.Body.String() == "ok\n") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			return strings.TrimSpace(w.Body.String())
		}
		expect := func(want string) {
			t.Helper()
			time.Sleep(readyFor)
			if got := ask(); !strings.HasPrefix(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		expect("ok")
		database = errors.New("read: dial tcp 192.0.2.7:5432: connection refused")
		if got := ask(); got != "ok" {
			t.Errorf("asked again at once: %q", got)
		}
		expect("the database doesn't answer or takes no writes")
		if got := ask(); strings.Contains(got, "192.0.2.7") {
			t.Errorf("it tells anybody %q", got)
		}
		database = fmt.Errorf("schema 80, not 81: %w", store.ErrSchema)
		expect("the database's schema is older")
		database = nil
		expect("ok")
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		expect("dataDir: nothing can be written: no such file or directory")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		expect("ok")
		r.end()
		expect("the hub is stopping")
		want := []string{
			"<nil>", "read: dial tcp 192.0.2.7:5432: connection refused", "<nil>",
			"nothing can be written: no such file or directory", "<nil>",
		}
		if diff := cmp.Diff(want, logged); diff != "" {
			t.Error(diff)
		}
	})
}

// A database that hangs is told as one that doesn't answer.
func TestReadiness_hangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &readiness{dir: t.TempDir(), said: func(error) {}, store: readyFunc(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})}
		began := time.Now()
		if err := r.check(t.Context()); err == nil || time.Since(began) != readyTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
