package forward_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

func TestReadBirger(t *testing.T) {
	got, err := forward.ReadBirger("testdata/birger-services.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := forward.Birger{
		Annotations: map[string]string{"description": "demo agent"},
		Upstreams: []forward.Upstream{
			{Type: "jenkins", Name: "ci", URL: "https://jenkins.example.com:8443/ci", Insecure: true, Credentials: forward.Credentials{Type: "basic", Username: "robot"}},
			{Type: "argocd", Name: "argo", URL: "https://argocd.example.com", Credentials: forward.Credentials{Type: "bearer", SecretName: "argo-token"}, Annotations: map[string]string{"description": "deploys", "uiUrl": "https://argo.example.com"}},
			{Type: "x-whoami", Name: "whoami", URL: "http://whoami.example.com"},
			{Type: "kubernetes", Name: "team-a", KubeConfig: "/app/config/other.yaml", Namespaces: []string{"a", "a-test"}},
			{Type: "kubernetes", Name: "team-b", KubeConfig: "/app/config/other.yaml", Namespaces: []string{"b"}},
			{Type: "aws", Name: "account", AWS: &forward.AWSConfig{SecretName: "aws-keys"}, Annotations: map[string]string{"accountId": "123456789012", "assumeRole": "role/spinnaker"}},
			{Type: "x-own", Name: "api", URL: "http://own.example.com", Credentials: forward.Credentials{Type: "token"}},
		},
		Incoming: []forward.Incoming{
			{Name: "front50", Port: 8080, Address: "0.0.0.0", UseHTTP: true, ServiceType: "front50", Destination: "hub", DestinationService: "front50"},
			{Name: "other", Port: 8081, Address: "0.0.0.0", UseHTTP: true, ServiceType: "x-whoami", Destination: "smith", DestinationService: "whoami"},
		},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(forward.Credentials{}), cmpopts.IgnoreFields(forward.Birger{}, "Notes")); d != "" {
		t.Error(d)
	}
	notes := strings.Join(got.Notes, "\n")
	for _, says := range []string{
		"type whoami isn't registered; it is x-whoami here", "outgoingServices[1].config.retries isn't a key", "incomingServices[1].destionalService isn't a key", "port 8080 is open to every address",
	} {
		if !strings.Contains(notes, says) {
			t.Errorf("the notes lack %q:\n%s", says, notes)
		}
	}
}

// What is inside the file reaches the service, and the caller's doesn't.
func TestReadBirger_credentials(t *testing.T) {
	var got string
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") })
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for credentials, want := range map[string]string{
		`{type: none}`: "",
		fmt.Sprintf(`{type: basic, username: %q, password: %q}`, b64("user"), b64("s3cret\n")): "Basic dXNlcjpzM2NyZXQ=",
		fmt.Sprintf(`{type: bearer, token: %q}`, b64("s3cret")):                                "Bearer s3cret",
		fmt.Sprintf(`{type: token, token: %q}`, b64("s3cret")):                                 "token s3cret",
	} {
		got = "unset"
		b := start(t, service, func(o *forwardtest.Options) {
			url, ca := o.Upstreams[0].URL, o.Upstreams[0].CAFile
			file := write(t, "services.yaml", fmt.Sprintf("outgoingServices: [{enabled: true, name: main, type: x-web, config: {url: %q, credentials: %s}}]", url, credentials))
			birger, err := forward.ReadBirger(file)
			if err != nil {
				t.Fatal(err)
			}
			o.Upstreams = birger.Upstreams
			o.Upstreams[0].CAFile = ca
		})
		r := request(t, "GET", b.URL, nil)
		r.SetBasicAuth("caller", "caller's")
		do(t, b.client, r)
		if got != want {
			t.Errorf("%s: Authorization is %q, want %q", credentials, got, want)
		}
	}
}

func TestReadBirger_says_what_is_wrong(t *testing.T) {
	for says, content := range map[string]string{
		"it isn't YAML": "a: [",
		"line 1":        "outgoingServices: s3cret",
		"outgoingServices[1]: service x-a/b: url must look like":               "outgoingServices: [{enabled: false, name: a}, {enabled: true, name: b, type: x-a}]",
		"outgoingServices[0]: config.credentials.password: it isn't base64":    "outgoingServices: [{enabled: true, name: b, type: jenkins, config: {url: 'http://a', credentials: {type: basic, username: YQ==, password: 's3cret!'}}}]",
		"outgoingServices[0]: config.credentials.token: missing":               "outgoingServices: [{enabled: true, name: b, type: argocd, config: {url: 'http://a', credentials: {type: bearer}}}]",
		"config.credentials.type \"digest\"":                                   "outgoingServices: [{enabled: true, name: b, type: x-a, config: {url: 'http://a', credentials: {type: digest}}}]",
		"config.credentials.secretName: not for type none":                     "outgoingServices: [{enabled: true, name: b, type: x-a, config: {url: 'http://a', credentials: {secretName: a}}}]",
		"for aws it must be kubernetes-secret or iam":                          "outgoingServices: [{enabled: true, name: b, type: aws}]",
		"config.credentials.secretName: missing; type kubernetes-secret needs": "outgoingServices: [{enabled: true, name: b, type: aws, config: {credentials: {type: kubernetes-secret}}}]",
		"outgoingServices[0]: service argocd/b: credentials.type \"none\"":     "outgoingServices: [{enabled: true, name: b, type: argocd, config: {url: 'http://a'}}]",
		"outgoingServices[0]: namespaces[1]: service name":                     "outgoingServices: [{enabled: true, type: kubernetes, namespaces: [{name: a}, {name: ''}]}]",
		"incomingServices[0]: port: missing":                                   "incomingServices: [{name: a, serviceType: fiat, destinationService: fiat}]",
		"incomingServices[0]: service name":                                    "incomingServices: [{name: a, port: 1, serviceType: fiat}]",
	} {
		_, err := forward.ReadBirger(write(t, "services.yaml", content))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s:\ngot %v; want it to say %q", content, err, says)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error holds a secret: %v", err)
		}
	}
}

func FuzzReadBirger(f *testing.F) {
	f.Add("outgoingServices: [{enabled: true, name: b, type: aws, config: {credentials: {type: iam}}}]")
	f.Add("incomingServices: [{name: a, port: 1, serviceType: fiat, destinationService: fiat}]")
	f.Fuzz(func(t *testing.T, content string) {
		b, err := forward.ReadBirger(write(t, "services.yaml", content))
		if err != nil {
			return
		}
		for _, u := range b.Upstreams {
			if err := u.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
