package webhook

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
)

func secretOf(fill byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

// The vector is that of the libraries at github.com/standard-webhooks.
func TestSign(t *testing.T) {
	key, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign([][]byte{key}, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseSecret(t *testing.T) {
	for _, text := range []string{"", "whsec_", "whsec_aHVzaA==", strings.TrimPrefix(secretOf('h'), secretPrefix), "whsec_hush!hush!hush!hush!hush!hush!", secretPrefix + base64.StdEncoding.EncodeToString(make([]byte, 65))} {
		if _, err := ParseSecret(text); err == nil || len(text) > 8 && strings.Contains(err.Error(), text[6:]) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSink_Deliver_signs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type message struct {
		header http.Header
		body   []byte
	}
	got := make(chan message, 1)
	srv, sink := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- message{r.Header, body}
	})
	sink.cfg.Secrets = SecretsIn(file, "")
	// signedBy tells which of the secrets signed what arrived.
	signedBy := func(auth alert.Auth) (by []byte) {
		t.Helper()
		if err := sink.Deliver(t.Context(), example(srv.URL, auth)); err != nil {
			t.Fatal(err)
		}
		m := <-got
		for _, signature := range strings.Fields(m.header.Get("Webhook-Signature")) {
			for _, name := range []byte("abc") {
				key, err := ParseSecret(secretOf(name))
				if err != nil {
					t.Fatal(err)
				}
				if signature == sign([][]byte{key}, m.header.Get("Webhook-Id"), m.header.Get("Webhook-Timestamp"), m.body) {
					by = append(by, name)
				}
			}
		}
		return by
	}
	for _, step := range []struct {
		name, secrets, own, want string
	}{
		{"one secret", secretOf('a') + "\n", "", "a"},
		{"a new one beside it", secretOf('a') + "\n" + secretOf('b') + "\n", "", "ab"},
		{"the old one is gone", secretOf('b'), "", "b"},
		{"the request's own", secretOf('b'), secretOf('c'), "c"},
	} {
		set(step.secrets)
		if d := cmp.Diff(step.want, string(signedBy(alert.Auth{Secret: step.own}))); d != "" {
			t.Errorf("%s: signed by (-want +got):\n%s", step.name, d)
		}
	}

	// Nothing goes unsigned because a secret is damaged or gone.
	for _, text := range []string{"", "whsec_hush"} {
		set(text)
		c, e := class(t, sink.Deliver(t.Context(), example(srv.URL, alert.Auth{})))
		if c != alert.Retry || strings.Contains(e.Error(), "hush") {
			t.Errorf("%q: class %v, %v", text, c, e)
		}
	}
	if len(got) > 0 {
		t.Error("it was delivered unsigned")
	}
}
