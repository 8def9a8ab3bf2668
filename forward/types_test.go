package forward_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

func TestUpstream_Validate_types(t *testing.T) {
	web := forward.Upstream{Name: "main", URL: "https://web"}
	for name, tt := range map[string]struct {
		change func(*forward.Upstream)
		says   string // empty: it is good
	}{
		"argocd":                  {func(u *forward.Upstream) { u.Type, u.Credentials = "argocd", bearer }, ""},
		"argocd without a token":  {func(u *forward.Upstream) { u.Type = "argocd" }, `credentials.type "none": type argocd takes bearer`},
		"argocd, basic":           {func(u *forward.Upstream) { u.Type, u.Credentials = "argocd", basic }, "takes bearer"},
		"jenkins":                 {func(u *forward.Upstream) { u.Type, u.Credentials = "jenkins", basic }, ""},
		"jenkins, bearer":         {func(u *forward.Upstream) { u.Type, u.Credentials = "jenkins", bearer }, "takes basic or token"},
		"fiat":                    {func(u *forward.Upstream) { u.Type = "fiat" }, ""},
		"fiat with HTTP/2":        {func(u *forward.Upstream) { u.Type, u.Protocol = "fiat", "http2" }, "only for types with the prefix x-"},
		"an unknown protocol":     {func(u *forward.Upstream) { u.Type, u.Protocol = "x-a", "http3" }, "must be http1 or http2"},
		"aws":                     {func(u *forward.Upstream) { u.Type, u.URL = "aws", "" }, ""},
		"aws with credentials":    {func(u *forward.Upstream) { u.Type, u.Credentials = "aws", basic }, "use aws"},
		"aws for the web":         {func(u *forward.Upstream) { u.Type, u.AWS = "x-a", &forward.AWSConfig{} }, `only for type "aws"`},
		"aws, two sources":        {account(forward.AWSConfig{Profile: "a", SecretName: "b"}), "exclude each other"},
		"aws, half a key":         {account(forward.AWSConfig{AccessKeyFile: "a"}), "secretKeyFile or secretKeyEnv: missing"},
		"aws, token without role": {account(forward.AWSConfig{WebIdentityTokenFile: "a"}), "roleARN: missing"},
		"aws, a bad pattern":      {account(forward.AWSConfig{Hosts: []string{"["}}), "isn't a pattern"},
		"a Secret": {func(u *forward.Upstream) {
			u.Type, u.Credentials = "x-a", forward.Credentials{Type: "basic", SecretName: "s"}
		}, ""},
		"a Secret and a file": {func(u *forward.Upstream) {
			u.Type, u.Credentials = "x-a", forward.Credentials{Type: "bearer", SecretName: "s", TokenFile: "f"}
		}, "not for type bearer with secretName"},
		"a Secret for nothing":         {func(u *forward.Upstream) { u.Type, u.Credentials = "x-a", forward.Credentials{SecretName: "s"} }, "secretName: not for type none"},
		"a namespace without a Secret": {func(u *forward.Upstream) { u.Type, u.Credentials = "x-a", forward.Credentials{SecretNamespace: "s"} }, "needs secretName"},
		"a Secret and a username": {func(u *forward.Upstream) {
			u.Type, u.Credentials = "x-a", forward.Credentials{Type: "basic", Username: "u", SecretName: "s"}
		}, ""},
		"a Secret with a token's user": {func(u *forward.Upstream) {
			u.Type, u.Credentials = "x-a", forward.Credentials{Type: "bearer", Username: "u", SecretName: "s"}
		}, "username: not for"},
		"a type that begins like x-": {func(u *forward.Upstream) { u.Type = "xy" }, "use one of argocd, aws, clouddriver, fiat, front50, jenkins, kubernetes"},
		"a certificate without TLS": {func(u *forward.Upstream) {
			u.Type, u.URL, u.Credentials = "x-a", "http://web", forward.Credentials{Type: "certificate", SecretName: "s"}
		}, "need a url with https"},
		"kubernetes, another's account": {func(u *forward.Upstream) {
			*u = forward.Upstream{Type: fleet.Kubernetes, Name: "a", AWS: &forward.AWSConfig{}}
		}, "only for type"},
	} {
		t.Run(name, func(t *testing.T) {
			u := web
			tt.change(&u)
			err := u.Validate()
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v; want %q", err, tt.says)
			}
		})
	}
}

var (
	bearer = forward.Credentials{Type: "bearer", TokenFile: "f"}
	basic  = forward.Credentials{Type: "basic", Username: "u", PasswordFile: "f"}
)

func account(c forward.AWSConfig) func(*forward.Upstream) {
	return func(u *forward.Upstream) { u.Type, u.URL, u.AWS = "aws", "", &c }
}

// A service that shows what it was sent must not hand out what the agent put
// on it; nor may it speak in Reeve's name.
func TestForward_credentials_stay_behind(t *testing.T) {
	file := write(t, "secret", "s3cret")
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Trailer", "X-End")
		h.Set("Authorization", r.Header.Get("Authorization"))
		h.Set("Proxy-Authorization", r.Header.Get("Authorization"))
		h.Set("X-Opsmx-Token", "s3cret")
		h.Set("Reeve-Refused", "unknown-service")
		h.Set("X-Own", "1")
		io.WriteString(w, "body")
		h.Set("X-End", "1")
		h.Set(http.TrailerPrefix+"X-Opsmx-Token", "s3cret")
		h.Set(http.TrailerPrefix+"Reeve-Caller", "s3cret")
		h.Set(http.TrailerPrefix+"X-Late", "1")
	}), func(o *forwardtest.Options) {
		o.Upstreams[0].Credentials = forward.Credentials{Type: "bearer", TokenFile: file}
	})
	resp, body := do(t, b.client, request(t, "GET", b.URL, nil))
	if body != "body" || resp.Header.Get("X-Own") != "1" || resp.Trailer.Get("X-End") != "1" || resp.Trailer.Get("X-Late") != "1" {
		t.Fatalf("%s %q %v %v", resp.Status, body, resp.Header, resp.Trailer)
	}
	for _, h := range []http.Header{resp.Header, resp.Trailer} {
		for name, values := range h {
			if name == "Authorization" || strings.HasPrefix(name, "Reeve-") || strings.Contains(strings.Join(values, ""), "s3cret") {
				t.Errorf("%s: %s came back", name, values)
			}
		}
	}
}
