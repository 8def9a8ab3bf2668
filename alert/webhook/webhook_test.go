package webhook

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/hdf"
)

// receiver is a TLS server, and a sink that may reach it.
func receiver(t *testing.T, h http.HandlerFunc) (*httptest.Server, *Sink) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	sink := New(Config{PublicURL: "https://hub.test/", AllowPrivate: true, RootCAs: roots})
	t.Cleanup(func() { sink.Close() })
	return srv, sink
}

func example(url string, auth alert.Auth) alert.Alert {
	return alert.Alert{ID: "3f2a", Sink: alert.CallbackSink, Callback: &alert.Callback{
		URL: url, Auth: auth, Scan: "0193", Status: "completed", Outcome: "failed",
		Counts: hdf.Counts{Passed: 4, Failed: 1}, Finished: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
	}}
}

func class(t *testing.T, err error) (alert.Class, *alert.Error) {
	t.Helper()
	var e *alert.Error
	if !errors.As(err, &e) {
		t.Fatalf("not classed: %v", err)
	}
	return e.Class, e
}

func TestSink_Deliver(t *testing.T) {
	type request struct {
		Method, Path, Type, Auth, ID string
		Body                         map[string]any
	}
	for _, tc := range []struct {
		auth alert.Auth
		want string
	}{
		{alert.Auth{}, ""},
		{alert.Auth{Type: alert.NoAuth}, ""},
		{alert.Auth{Type: alert.Bearer, Token: "hush"}, "Bearer hush"},
		{alert.Auth{Type: alert.Basic, Username: "ci", Password: "hush"}, "Basic Y2k6aHVzaA=="},
	} {
		t.Run("type "+string(tc.auth.Type), func(t *testing.T) {
			got := make(chan request, 1)
			srv, sink := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
				in := request{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Authorization"), r.Header.Get("webhook-id"), nil}
				if at, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
					t.Errorf("timestamp %q", r.Header.Get("webhook-timestamp"))
				}
				if err := json.NewDecoder(r.Body).Decode(&in.Body); err != nil {
					t.Error(err)
				}
				got <- in
			})
			if err := sink.Deliver(t.Context(), example(srv.URL+"/callbacks/scan-123", tc.auth)); err != nil {
				t.Fatal(err)
			}
			want := request{"POST", "/callbacks/scan-123", "application/json", tc.want, "3f2a", map[string]any{
				"id": "0193", "status": "completed", "outcome": "failed", "finishedAt": "2026-11-21T12:00:00Z",
				"counts": map[string]any{"passed": 4.0, "failed": 1.0, "skipped": 0.0, "error": 0.0},
				"links":  map[string]any{"self": "https://hub.test/api/v1/scans/0193", "results": "https://hub.test/api/v1/scans/0193/results"},
			}}
			if diff := cmp.Diff(want, <-got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSink_Deliver_classesAnswers(t *testing.T) {
	for code, want := range map[int]alert.Class{
		400: alert.Permanent, 401: alert.Permanent, 403: alert.Permanent, 404: alert.Permanent, 410: alert.Permanent,
		302: alert.Permanent, 307: alert.Permanent,
		408: alert.Retry, 429: alert.Retry, 500: alert.Retry, 503: alert.Retry,
	} {
		srv, sink := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Errorf("%d: the redirect was followed", code)
			}
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(code)
		})
		got, e := class(t, sink.Deliver(t.Context(), example(srv.URL, alert.Auth{})))
		if got != want || !strings.Contains(e.Error(), strconv.Itoa(code)) {
			t.Errorf("%d: class %v, %v; want %v", code, got, e, want)
		}
		if got == alert.Retry && e.After != 2*time.Minute {
			t.Errorf("%d: after %v", code, e.After)
		}
	}
}

func TestSink_Deliver_keepsSecretsOutOfErrors(t *testing.T) {
	srv, sink := receiver(t, func(http.ResponseWriter, *http.Request) {})
	untrusting := New(Config{AllowPrivate: true})
	defer untrusting.Close()
	bearer := alert.Auth{Type: alert.Bearer, Token: "hush"}
	hushed := func(name string, err error) {
		t.Helper()
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
	hushed("receiver of another CA", untrusting.Deliver(t.Context(), example(srv.URL+"/hush?key=hush", bearer)))
	hushed("not a URL", sink.Deliver(t.Context(), example("https://u:hush@host:port", alert.Auth{})))
	hushed("URL with a password", sink.Deliver(t.Context(), example("https://u:hush@host/", alert.Auth{})))
	hushed("credential that can't be sent", sink.Deliver(t.Context(), example(srv.URL, alert.Auth{Type: alert.Bearer, Token: "hush\r\nX: y"})))
	srv.Close()
	hushed("nobody listens", sink.Deliver(t.Context(), example(srv.URL+"/hush?key=hush", bearer)))
}

func TestSink_Deliver_refusesPrivateAddresses(t *testing.T) {
	reached := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer srv.Close()
	sink := New(Config{})
	defer sink.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	// The name is judged only once DNS has turned it into an address, at
	// the connection: so a name that changes its address gains nothing.
	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0", "169.254.169.254"} {
		c, e := class(t, sink.Deliver(t.Context(), example("http://"+host+":"+port+"/", alert.Auth{})))
		if c != alert.Permanent || !errors.Is(e, ErrPrivate) {
			t.Errorf("%s: class %v, %v", host, c, e)
		}
	}
	if reached {
		t.Error("the receiver was reached")
	}
}

func TestSink_Deliver_toHostileReceivers(t *testing.T) {
	t.Run("an endless answer is left", func(t *testing.T) {
		left := make(chan struct{})
		srv, sink := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
			defer close(left)
			chunk := make([]byte, 32<<10)
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})
		if err := sink.Deliver(t.Context(), example(srv.URL, alert.Auth{})); err != nil {
			t.Error(err)
		}
		<-left
	})
	t.Run("silence ends with the context", func(t *testing.T) {
		over := make(chan struct{})
		srv, sink := receiver(t, func(http.ResponseWriter, *http.Request) { <-over })
		defer close(over)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if c, e := class(t, sink.Deliver(ctx, example(srv.URL, alert.Auth{}))); c != alert.Retry || !errors.Is(e, context.DeadlineExceeded) {
			t.Errorf("class %v, %v", c, e)
		}
	})
}

func TestConfig_Validate(t *testing.T) {
	bearer := alert.Auth{Type: alert.Bearer, Token: "t"}
	for _, tc := range []struct {
		url  string
		auth alert.Auth
		want string // in the error; empty: it's fine
	}{
		{"https://ci.example.com/done?x=1", bearer, ""},
		{"http://ci.example.com/done", alert.Auth{}, ""},
		{"http://ci.example.com/done", bearer, "https only"},
		{"ftp://ci.example.com/done", alert.Auth{}, "must be https"},
		{"ci.example.com/done", alert.Auth{}, "must be https"},
		{"https:///done", alert.Auth{}, "must be https"},
		{"https://u:p@ci.example.com/", alert.Auth{}, "callback.authentication"},
		{"https://ci.example.com/" + strings.Repeat("x", maxURL), alert.Auth{}, "longer"},
		{"https://10.1.2.3/", alert.Auth{}, "private"},
		{"https://ci.example.com/", alert.Auth{Type: alert.Bearer}, "token"},
		{"https://ci.example.com/", alert.Auth{Type: alert.Basic, Password: "p"}, "username"},
		{"https://ci.example.com/", alert.Auth{Type: "digest"}, "digest"},
		{"https://ci.example.com/", alert.Auth{Secret: "whsec_x"}, "whsec_"},
		{"http://169.254.169.254/latest/meta-data", alert.Auth{}, "private"},
	} {
		err := Config{}.Validate(tc.url, tc.auth)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40s %v: %v, want %q", tc.url, tc.auth.Type, err, tc.want)
		}
	}
}
