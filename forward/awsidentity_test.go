package forward_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

// fakeSTS gives out the key ASIAROLE to whom it knows.
type fakeSTS struct {
	*httptest.Server
	mu    sync.Mutex
	asked []url.Values  // guarded by mu
	by    []string      // guarded by mu; the access keys of who asked
	life  time.Duration // guarded by mu; 0: nobody is let in
}

func newSTS(t *testing.T) *fakeSTS {
	t.Helper()
	f := &fakeSTS{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Before the form, which takes the body.
		var by string
		if _, signed, err := forward.VerifyAWS(r, func(key string) (forward.Caller, string, error) {
			by = key
			return forward.Caller{}, "secret-of-" + key, nil
		}); signed && err != nil {
			t.Errorf("at STS: %v", err)
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked, f.by = append(f.asked, r.Form), append(f.by, by)
		action := r.Form.Get("Action")
		if f.life == 0 {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>secret-of-ASIAROLE</SecretAccessKey><SessionToken>session-%[2]d</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
			action, len(f.asked), time.Now().Add(f.life).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeSTS) letIn(life time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life, f.asked, f.by = life, nil, nil
}

// last is the last question, by whom it was asked, and how many there were.
func (f *fakeSTS) last() (q url.Values, by string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n = len(f.asked); n == 0 {
		return nil, "", 0
	}
	return f.asked[n-1], f.by[n-1], n
}

// The agent signs as whoever its configuration says: a profile, whom a web
// identity stands for, or a role, each found by the AWS SDK as everywhere.
func TestForward_AWS_identities(t *testing.T) {
	fake := newSTS(t)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_STS": fake.URL, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secret-of-AKIDENV", "AWS_SESSION_TOKEN": "",
		"AWS_SHARED_CREDENTIALS_FILE": write(t, "credentials", "[plain]\naws_access_key_id = AKIDPLAIN\naws_secret_access_key = secret-of-AKIDPLAIN\n"),
		"AWS_CONFIG_FILE":             write(t, "config", "[profile role]\nrole_arn = arn:aws:iam::1:role/profiled\nsource_profile = plain\nregion = eu-west-1\n"),
	} {
		t.Setenv(name, value)
	}
	token := write(t, "web", "web-identity-token")
	key, secret := write(t, "key", "AKIDFIXED\n"), write(t, "secret", "secret-of-AKIDFIXED\n")

	var signedBy, session string
	cloud := func(_ http.ResponseWriter, r *http.Request) {
		session = r.Header.Get("X-Amz-Security-Token")
		_, signed, err := forward.VerifyAWS(r, func(key string) (forward.Caller, string, error) {
			signedBy = key
			return forward.Caller{}, "secret-of-" + key, nil
		})
		if !signed || err != nil {
			t.Errorf("at AWS: signed %v, %v", signed, err)
		}
	}
	for name, tt := range map[string]struct {
		config         *forward.AWSConfig
		life           time.Duration // of what STS gives; 0: it refuses
		key, session   string        // as whom the last of three requests is signed
		asks           int           // how often STS is asked
		action, by     string
		role, external string
	}{
		"the environment":      {config: nil, key: "AKIDENV"},
		"a profile":            {config: &forward.AWSConfig{Profile: "plain"}, key: "AKIDPLAIN"},
		"a profile's role":     {config: &forward.AWSConfig{Profile: "role"}, life: time.Hour, key: "ASIAROLE", session: "session-1", asks: 1, action: "AssumeRole", by: "AKIDPLAIN", role: "profiled"},
		"a web identity":       {config: &forward.AWSConfig{WebIdentityTokenFile: token, RoleARN: "arn:aws:iam::1:role/web"}, life: time.Hour, key: "ASIAROLE", session: "session-1", asks: 1, action: "AssumeRoleWithWebIdentity", role: "web"},
		"a role":               {config: &forward.AWSConfig{AccessKeyFile: key, SecretKeyFile: secret, RoleARN: "arn:aws:iam::1:role/fixed", ExternalID: "ours"}, life: time.Hour, key: "ASIAROLE", session: "session-1", asks: 1, action: "AssumeRole", by: "AKIDFIXED", role: "fixed", external: "ours"},
		"a role, from profile": {config: &forward.AWSConfig{Profile: "plain", RoleARN: "arn:aws:iam::1:role/other"}, life: time.Hour, key: "ASIAROLE", session: "session-1", asks: 1, action: "AssumeRole", by: "AKIDPLAIN", role: "other"},
		"a role that ends":     {config: &forward.AWSConfig{RoleARN: "arn:aws:iam::1:role/short"}, life: 10 * time.Second, key: "ASIAROLE", session: "session-3", asks: 3, action: "AssumeRole", by: "AKIDENV", role: "short"},
	} {
		t.Run(name, func(t *testing.T) {
			fake.letIn(tt.life)
			b := awsAs(t, cloud, tt.config)
			for range 3 {
				signedBy, session = "", ""
				if resp, body := do(t, b.client, awsRequest(t, b)); resp.StatusCode != 200 {
					t.Fatalf("%s %s", resp.Status, body)
				}
			}
			if signedBy != tt.key || session != tt.session {
				t.Errorf("signed by %s with session %q; want %s, %q", signedBy, session, tt.key, tt.session)
			}
			q, by, n := fake.last()
			if n != tt.asks || q.Get("Action") != tt.action || by != tt.by || q.Get("ExternalId") != tt.external || !strings.HasSuffix(q.Get("RoleArn"), tt.role) {
				t.Errorf("STS was asked %d times, by %q: %v", n, by, q)
			}
			if tt.action == "AssumeRoleWithWebIdentity" && q.Get("WebIdentityToken") != "web-identity-token" {
				t.Errorf("it was shown %q", q.Get("WebIdentityToken"))
			}
		})
	}
	t.Run("STS refuses", func(t *testing.T) {
		fake.letIn(0)
		b := awsAs(t, cloud, &forward.AWSConfig{AccessKeyFile: key, SecretKeyFile: secret, RoleARN: "arn:aws:iam::1:role/none"})
		signedBy = ""
		resp, body := do(t, b.client, awsRequest(t, b))
		if resp.StatusCode != 502 || !strings.Contains(body, "needs a credential") || strings.Contains(body, "AKID") || strings.Contains(body, "arn:") || signedBy != "" {
			t.Errorf("%s %s; signed by %q", resp.Status, body, signedBy)
		}
	})
}

// awsAs is a rig whose service aws/main signs as config says.
func awsAs(t *testing.T, cloud http.HandlerFunc, config *forward.AWSConfig) *bench {
	t.Helper()
	b := start(t, cloud, func(o *forwardtest.Options) {
		o.Upstreams[0].Type, o.Upstreams[0].AWS = "aws", config
	})
	b.client = b.as(t, "aws", "main")
	return b
}

func awsRequest(t *testing.T, b *bench) *http.Request {
	t.Helper()
	r := request(t, "GET", b.URL+"/?Action=ListUsers", nil)
	r.Header.Set("X-Opsmx-Service-Signing-Name", "iam")
	r.Header.Set("X-Opsmx-Signing-Region", "us-east-1")
	return r
}

// How `aws s3 cp` and the SDKs upload by TLS: with a checksum in the body's own
// trailer, which passes as it is. Chunks that are signed in a way that the hub
// doesn't know are refused before anything is sent.
func TestForward_AWS_uploads(t *testing.T) {
	var got string
	var header http.Header
	b, access, secret := awsRig(t, func(_ http.ResponseWriter, r *http.Request) {
		signedByAgent(t, r)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got, header = string(body), r.Header
	})
	anonymous := b.Anonymous()
	t.Cleanup(anonymous.CloseIdleConnections)
	upload := func(payload, body string) (*http.Response, string) {
		t.Helper()
		got, header = "", nil
		r := request(t, "PUT", b.URL+"/bucket/key", strings.NewReader(body))
		for name, value := range map[string]string{
			"X-Amz-Content-Sha256": payload, "Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "4", "X-Amz-Trailer": "x-amz-checksum-crc32",
		} {
			r.Header.Set(name, value)
		}
		sign(t, r, access, secret, "s3", time.Now())
		return do(t, anonymous, r)
	}
	const chunks = "4\r\nbody\r\n0\r\nx-amz-checksum-crc32:KdWKOQ==\r\n\r\n"
	if resp, body := upload("STREAMING-UNSIGNED-PAYLOAD-TRAILER", chunks); resp.StatusCode != 200 || got != chunks {
		t.Errorf("%s %s; AWS got %q", resp.Status, body, got)
	}
	for name, want := range map[string]string{
		"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "4", "X-Amz-Trailer": "x-amz-checksum-crc32", "Content-Length": fmt.Sprint(len(chunks)),
	} {
		if header.Get(name) != want {
			t.Errorf("%s at AWS: %q", name, header.Get(name))
		}
	}
	if resp, body := upload("UNSIGNED-PAYLOAD", "body"); resp.StatusCode != 200 || got != "body" {
		t.Errorf("%s %s; AWS got %q", resp.Status, body, got)
	}
	if resp, body := upload("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "4;chunk-signature="+strings.Repeat("0", 64)+"\r\nbody\r\n0\r\n\r\n"); resp.StatusCode != 400 || !strings.Contains(body, "UNSIGNED-PAYLOAD") || header != nil {
		t.Errorf("%s %s; reached AWS: %v", resp.Status, body, header != nil)
	}
}
