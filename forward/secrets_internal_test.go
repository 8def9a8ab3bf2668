package forward

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	restfake "k8s.io/client-go/rest/fake"
)

// secretsOf is a reader of Secrets whose API server is answer.
func secretsOf(t *testing.T, answer func() (int, any)) *kubeSecrets {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	client := &restfake.RESTClient{
		NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
		GroupVersion:         corev1.SchemeGroupVersion,
		VersionedAPIPath:     "/api/v1",
		Client: restfake.CreateHTTPClient(func(*http.Request) (*http.Response, error) {
			status, body := answer()
			text, err := json.Marshal(body)
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text))}, err
		}),
	}
	return &kubeSecrets{client: client, namespace: "tools", kept: map[[2]string]*keptSecret{}}
}

func TestKubeSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, status, token := 0, http.StatusOK, "old"
		s := secretsOf(t, func() (int, any) {
			asked++
			if status != http.StatusOK {
				return status, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Code: int32(status), Reason: map[int]metav1.StatusReason{404: metav1.StatusReasonNotFound, 403: metav1.StatusReasonForbidden}[status]}
			}
			return status, corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, Data: map[string][]byte{"token": []byte(token)}}
		})
		expect := func(when, want string, questions int) {
			t.Helper()
			data, err := s.Secret(t.Context(), "", "login")
			if got := string(data["token"]); got != want || (err != nil) != (want == "") || asked != questions {
				t.Errorf("%s: %q, %v, after %d questions; want %q after %d", when, got, err, asked, want, questions)
			}
		}
		expect("at first", "old", 1)
		token = "new"
		expect("while it is kept", "old", 1)
		s.Changed("", "login")
		expect("refused at once, as by many requests", "old", 1)
		time.Sleep(2 * time.Second)
		expect("two seconds on", "old", 1)
		s.Changed("", "login")
		expect("refused", "new", 2)
		token = "newer"
		time.Sleep(secretKept)
		expect("when it isn't kept any more", "newer", 3)
		status = http.StatusInternalServerError
		time.Sleep(secretKept)
		expect("while the API server is ill", "newer", 4)
		status = http.StatusForbidden
		expect("when it isn't ours any more", "", 5)
		status = http.StatusNotFound
		expect("when it is gone", "", 6)
	})
}

// changes counts how often a Secret is said not to work.
type changes struct{ n int }

func (*changes) Secret(context.Context, string, string) (map[string][]byte, error) {
	return map[string][]byte{"token": []byte("t")}, nil
}

func (c *changes) Changed(namespace, name string) {
	if namespace == "tools" && name == "login" {
		c.n++
	}
}

// A service that refuses what a Secret holds has it read again.
func TestHTTPTransport_refused(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer srv.Close()
	c := &changes{}
	rt, err := httpTransport(Upstream{URL: srv.URL, Credentials: Credentials{Type: "bearer", SecretName: "login", SecretNamespace: "tools"}}, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ status, changes int }{{200, 0}, {403, 0}, {401, 1}, {200, 1}, {401, 2}} {
		status = tt.status
		r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status || c.n != tt.changes {
			t.Errorf("%s, and said to have changed %d times; want %d", resp.Status, c.n, tt.changes)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
