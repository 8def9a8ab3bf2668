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
	"regexp"
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
	gone := about("old", "it isn't there", false)
	gone.Outcome.Gone = true
	got := (&Sink{cfg: Config{Hub: "https://hub"}}).text([]alert.Alert{gone, about("db", "", true), still, about("api", "", false)})
	want := `*2 failed, 1 pass again, 1 aren't checked any more*
:x: *edge/shop/api* fails base
:x: *edge/shop/web* still fails base
> it is &lt;＠U1&gt; &amp; ∗so∗ 'rm' ＠channel ［fix］(https：//evil)
:white_check_mark: *edge/shop/db* passes base again
:wastebasket: *edge/shop/old* isn't checked by base any more
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

// TestEscape: whatever the text is, no chat makes a link or a mention of it.
func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"see https://evil.example/x?y=1.2":    "see https：//evil．example/x?y=1.2",
		"HTTP://evil.example":                 "HTTP：//evil．example",
		"(https://evil)":                      "(https：//evil)",
		"xhttps://u:p@evil.example:8/":        "xhttps：//u：p＠evil．example：8/",
		"slack://open?x slack:/open":          "slack：//open?x slack：/open",
		"www.evil.example":                    "www．evil.example",
		"evil.example/login and evil.it:80":   "evil．example/login and evil．it：80",
		"мир.рф/х":                            "мир．рф/х",
		"mailto:a@b.it javascript:alert(1)":   "mailto：a＠b.it javascript：alert(1)",
		"<https://evil|https://good>":         "&lt;https：//evil|https：//good&gt;",
		"[good](https://evil) <!channel|x>":   "［good］(https：//evil) &lt;!channel|x&gt;",
		"<!here> <!subteam^S1> <@U1> <#C1>":   "&lt;!here&gt; &lt;!subteam^S1&gt; &lt;＠U1&gt; &lt;#C1&gt;",
		"@here @channel @everyone @all":       "＠here ＠channel ＠everyone ＠all",
		"10 of 12: see /etc/ssh/sshd_config":  "10 of 12: see /etc/ssh/sshd＿config",
		"v1.2.3 of app.js at 12:30:00":        "v1.2.3 of app.js at 12:30:00",
		"a\u2028b\nc":                         "a b c",
		"shop\u202e niaga sessap\x1b\u2066 x": "shop niaga sessap x",
	} {
		if got := escape(text, maxDetails); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, text := range []string{"https://evil.example/", "<!channel>", "[a](b://c)", "a:/\x00/b", "htt\u0000ps://x", "www.", "É://x"} {
		f.Add(text)
	}
	link := regexp.MustCompile(`(?i)[a-z]:/|\bwww\.|\bmailto:|[@<>\[\]\n]`)
	f.Fuzz(func(t *testing.T, text string) {
		if got := escape(text, maxDetails); link.MatchString(got) || len(got) > 4*maxDetails {
			t.Errorf("%q: %q", text, got)
		}
	})
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
