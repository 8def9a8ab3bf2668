package verify

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

func TestParseKeys(t *testing.T) {
	const x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" // of RFC 8037
	for text, want := range map[string]string{
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `"},{"kty":"RSA"}]}`: "",
		`{"keys":[{"kty":"RSA","kid":"a"}]}`:                                               "no Ed25519 key",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}]}`:                    `"a" is no`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}]}`:                         `"" is no`,
		`{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`:                              "more than",
		`{"keys":7}`:                          "key set",
		strings.Repeat(" ", maxKeySet) + `{}`: "more than",
	} {
		keys, err := ParseKeys([]byte(text))
		if want == "" && (err != nil || len(keys) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60s: %v, %v, want %q", text, keys, err, want)
		}
	}
}

func TestFetchKeys(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer srv.Close()
	if _, err := FetchKeys(t.Context(), srv.Client(), srv.URL); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	}
	if keys, err := FetchKeys(t.Context(), srv.Client(), srv.URL); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
}

// A sink's author gets this package alone.
func TestVerify_needsTheStandardLibraryAlone(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); len(got) != 1 || got[0] != "reeve.dev/reeve/alert/verify" {
		t.Errorf("it needs %v", got)
	}
}

func FuzzVerifier_Alert(f *testing.F) {
	f.Add(`{"payloadType":"application/vnd.reeve.alert+json","payload":"e30=","signatures":[{"keyid":"a","sig":"AAAA"}]}`)
	f.Add(`{"payloadType":"application/vnd.reeve.alert+json","payload":null,"signatures":[{}]}`)
	keys, err := ParseKeys([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, envelope string) {
		if _, err := (Verifier{Keys: keys}).Alert(envelope, []byte("x")); err == nil {
			t.Error("nobody has signed it")
		} else if !errors.Is(err, ErrUnsigned) && !errors.Is(err, ErrSignature) && !errors.Is(err, ErrOther) {
			t.Errorf("%v", err)
		}
	})
}
