package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
)

func about(repo, details string, pass bool) alert.Alert {
	return alert.Alert{Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "edge/shop", Repo: repo}, Policy: "base", Details: details, Pass: pass}}
}

func TestSink_text(t *testing.T) {
	still := about("web", "it is <@U1> & *so*\n\n  `rm` @channel [fix](https://evil)", false)
	still.Told = alert.Told{At: time.Now()}
	got := (&Sink{cfg: Config{Hub: "https://hub"}}).text([]alert.Alert{about("db", "", true), still, about("api", "", false)})
	want := `*2 failed, 1 pass again*
:x: *edge/shop/api* fails base
:x: *edge/shop/web* still fails base
> it is &lt;＠U1&gt; &amp; ∗so∗ 'rm' ＠channel ［fix］(https://evil)
:white_check_mark: *edge/shop/db* passes base again
<https://hub/alerts|Alerts>
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var many []alert.Alert
	for i := range 200 {
		many = append(many, about(fmt.Sprint("r", i), strings.Repeat("é&", 100_000), false))
	}
	text := (&Sink{}).text(many)
	if !strings.HasSuffix(text, "… and 180 more\n") || len(text) > 40_000 {
		t.Errorf("%d bytes, ends with %q", len(text), text[len(text)-30:])
	}
}

// The URL is a secret, which is in no error.
func TestSink_DeliverGroup(t *testing.T) {
	status := http.StatusOK
	var got []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(status)
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(srv.URL+"/services/hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{URLFile: file})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Deliver(t.Context(), about("web", "", false)); err != nil {
		t.Fatal(err)
	}
	var body struct{ Text string }
	if err := json.Unmarshal(got, &body); err != nil || !strings.Contains(body.Text, "edge/shop/web") {
		t.Errorf("%s, %v", got, err)
	}
	for code, class := range map[int]alert.Class{404: alert.Pause, 410: alert.Pause, 429: alert.Retry, 500: alert.Retry, 302: alert.Pause, 400: alert.Permanent} {
		status = code
		var e *alert.Error
		if err := s.Deliver(t.Context(), about("web", "", false)); !errors.As(err, &e) || e.Class != class || class == alert.Retry && e.After != 30*time.Second {
			t.Errorf("%d: %v", code, err)
		}
	}
	srv.Close()
	if err := s.Deliver(t.Context(), about("web", "", false)); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("nobody there: %v", err)
	}
	for _, text := range []string{"hush", "https://u:hush@h/", "ftp://hush/"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Deliver(t.Context(), about("web", "", false)); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v", err)
		}
	}
	os.Remove(file)
	if err := s.Deliver(t.Context(), about("web", "", false)); err == nil || !strings.Contains(err.Error(), "endpointFile") {
		t.Errorf("without the file: %v", err)
	}
}
