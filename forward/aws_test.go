package forward_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
	"reeve.dev/reeve/pki"
)

// awsRig is a rig with one account, aws/main, whose requests cloud gets.
func awsRig(t *testing.T, cloud http.HandlerFunc) (b *bench, access, secret string) {
	t.Helper()
	key, secretKey := write(t, "key", "AKIDAGENT\n"), write(t, "secret", "agents-secret\n")
	var ca *pki.CA
	b = start(t, cloud, func(o *forwardtest.Options) {
		o.Upstreams = []forward.Upstream{{
			Type: "aws", Name: "main", URL: o.Upstreams[0].URL, CAFile: o.Upstreams[0].CAFile,
			AWS: &forward.AWSConfig{AccessKeyFile: key, SecretKeyFile: secretKey},
		}, {Type: "aws", Name: "world", AWS: &forward.AWSConfig{AccessKeyFile: key, SecretKeyFile: secretKey}}}
		o.Access = func(h *forward.HubConfig) {
			other := h.Authenticate
			h.Authenticate = func(r *http.Request) (forward.Caller, error) {
				c, signed, err := forward.VerifyAWS(r, func(accessKey string) (forward.Caller, string, error) {
					c, secret, err := ca.VerifyAWSKey(accessKey)
					return forward.Caller{Name: c.String(), Agent: c.Agent, Type: c.Type, Service: "main"}, secret, err
				})
				if signed {
					return c, err
				}
				return other(r)
			}
		}
	})
	ca = b.CA
	access, secret, err := ca.NewAWSCredential(forwardtest.AgentName, "main", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return b, access, secret
}

// signedByAgent checks that the agent signed a request, with the rules that a
// caller's signature is checked by.
func signedByAgent(t *testing.T, r *http.Request) {
	t.Helper()
	_, signed, err := forward.VerifyAWS(r, func(accessKey string) (forward.Caller, string, error) {
		if accessKey != "AKIDAGENT" {
			return forward.Caller{}, "", errors.New("access key " + accessKey)
		}
		return forward.Caller{}, "agents-secret", nil
	})
	if !signed || err != nil {
		t.Errorf("at AWS: signed %v, %v", signed, err)
	}
}

// A client of AWS's own SDK is signed for by the hub's credential, and again
// by the agent's.
func TestForward_AWS_client(t *testing.T) {
	b, access, secret := awsRig(t, func(w http.ResponseWriter, r *http.Request) {
		signedByAgent(t, r)
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.Contains(string(body), "Action=GetCallerIdentity") || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/sts/aws4_request") {
			t.Errorf("%s %s %v %v", r.URL, body, r.Header, err)
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Opsmx-") {
				t.Errorf("%s reached AWS", name)
			}
		}
		io.WriteString(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	})
	client := sts.New(sts.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(b.URL), HTTPClient: b.Anonymous(),
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
	})
	out, err := client.GetCallerIdentity(t.Context(), nil)
	if err != nil || aws.ToString(out.Account) != "123456789012" {
		t.Fatalf("%+v, %v", out, err)
	}
}

func TestForward_AWS_signatures(t *testing.T) {
	var reached atomic.Bool
	b, access, secret := awsRig(t, func(w http.ResponseWriter, r *http.Request) {
		signedByAgent(t, r)
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			reached.Store(true)
		}
	})
	anonymous := b.Anonymous()
	t.Cleanup(anonymous.CloseIdleConnections)
	const path = "/bucket/a b/%C3%A9+%2F?list-type=2&prefix=a%2Fb&empty"
	for name, tt := range map[string]struct {
		service string
		at      time.Duration
		secret  string
		change  func(*http.Request)
		status  int
	}{
		"S3's path":           {service: "s3", status: 200},
		"another's path":      {service: "execute-api", status: 200},
		"another secret":      {service: "s3", secret: "guessed", status: 401},
		"another path":        {service: "s3", change: func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/other", "" }, status: 401},
		"another query":       {service: "s3", change: func(r *http.Request) { r.URL.RawQuery += "&a=b" }, status: 401},
		"another method":      {service: "s3", change: func(r *http.Request) { r.Method = "DELETE" }, status: 401},
		"another header":      {service: "s3", change: func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read-write") }, status: 401},
		"a header more":       {service: "s3", change: func(r *http.Request) { r.Header.Set("X-Amz-Tagging", "public=yes") }, status: 401},
		"a header less":       {service: "s3", change: func(r *http.Request) { r.Header.Set("Connection", "X-Amz-Acl") }, status: 401},
		"another key's name":  {service: "s3", change: renamed("main.", "other."), status: 401},
		"no key of the hub's": {service: "s3", change: renamed(access, "AKIDEXAMPLE"), status: 401},
		"no signed host":      {service: "s3", change: renamed(";host;", ";"), status: 401},
		"an hour ago":         {service: "s3", at: -time.Hour, status: 401},
		"tomorrow":            {service: "s3", at: 24 * time.Hour, status: 401},
	} {
		t.Run(name, func(t *testing.T) {
			reached.Store(false)
			if tt.secret == "" {
				tt.secret = secret
			}
			body := []byte("body")
			r := request(t, "PUT", b.URL+path, bytes.NewReader(body))
			r.Header.Set("X-Amz-Acl", "private")
			r.Header.Set("X-Amz-Content-Sha256", "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5")
			sign(t, r, access, tt.secret, tt.service, time.Now().Add(tt.at))
			if tt.change != nil {
				tt.change(r)
			}
			resp, answer := do(t, anonymous, r)
			if resp.StatusCode != tt.status || reached.Load() != (tt.status == 200) {
				t.Errorf("%s %s; reached AWS: %v", resp.Status, answer, reached.Load())
			}
			if strings.Contains(answer, secret) {
				t.Errorf("the answer holds the secret: %s", answer)
			}
		})
	}
	t.Run("another body", func(t *testing.T) {
		reached.Store(false)
		r := request(t, "PUT", b.URL+path, strings.NewReader("b0dy"))
		r.Header.Set("X-Amz-Content-Sha256", "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5")
		sign(t, r, access, secret, "s3", time.Now())
		if resp, err := anonymous.Do(r); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				t.Errorf("%s", resp.Status)
			}
		}
		if reached.Load() {
			t.Error("AWS got the whole of another body")
		}
	})
}

func renamed(from, to string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
	}
}

func sign(t *testing.T, r *http.Request, access, secret, service string, at time.Time) {
	t.Helper()
	payload := r.Header.Get("X-Amz-Content-Sha256")
	err := signer.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, r, payload, service, "eu-west-1", at,
		func(o *signer.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
	if err != nil {
		t.Fatal(err)
	}
}

// Callers choose the host, so the agent must not sign for just any.
func TestForward_AWS_hosts(t *testing.T) {
	b, _, _ := awsRig(t, func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") })
	c := b.as(t, "aws", "world")
	for host, status := range map[string]int{
		"169.254.169.254": 403, "example.com": 403, "amazonaws.com.example.com": 403, "example.com#.amazonaws.com": 403,
		"example.com/.amazonaws.com": 403, "a@b.amazonaws.com": 403, "localhost": 403,
	} {
		r := request(t, "GET", b.URL, nil)
		r.Header.Set("X-Opsmx-Original-Host", host)
		r.Header.Set("X-Opsmx-Original-Port", "443")
		r.Header.Set("X-Opsmx-Service-Signing-Name", "sts")
		r.Header.Set("X-Opsmx-Signing-Region", "eu-west-1")
		if resp, body := do(t, c, r); resp.StatusCode != status || !strings.Contains(body, "aws.hosts") {
			t.Errorf("%s: %s %s", host, resp.Status, body)
		}
	}
	for name, set := range map[string]func(*http.Request){
		"no scope": func(*http.Request) {},
		"a scope as host": func(r *http.Request) {
			r.Header.Set("X-Opsmx-Service-Signing-Name", "evil.example.com/")
			r.Header.Set("X-Opsmx-Signing-Region", "a")
		},
		"signed chunks": func(r *http.Request) {
			r.Header.Set("X-Opsmx-Service-Signing-Name", "s3")
			r.Header.Set("X-Opsmx-Signing-Region", "eu-west-1")
			r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
		},
	} {
		r := request(t, "GET", b.URL, nil)
		set(r)
		if resp, body := do(t, c, r); resp.StatusCode != 400 {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
}

func FuzzVerifyAWS(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=a/20260101/r/s/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "20260101T000000Z", "/a?b=c")
	f.Fuzz(func(t *testing.T, authorization, date, uri string) {
		r, err := http.NewRequest("GET", "http://host"+uri, http.NoBody)
		if err != nil {
			return
		}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Amz-Date", date)
		if _, signed, err := forward.VerifyAWS(r, func(string) (forward.Caller, string, error) { return forward.Caller{}, "secret", nil }); signed && err == nil {
			t.Error("verified")
		}
	})
}
