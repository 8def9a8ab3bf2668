package kube_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"reeve.dev/reeve/scan/kube"
)

// apiServer answers for one pod and runs exec's /bin/sh on this machine, by
// the protocol v5.channel.k8s.io: each message begins with its channel. What
// a real kubelet does differently is for the end-to-end tests.
type apiServer struct {
	t         *testing.T
	pod       corev1.Pod
	forbidden string // "pods" or "pods/exec"
	status    string // exec ends at once with this Status
	execs     int
	refused   []string // methods of the execs that were forbidden
}

func (s *apiServer) start() *rest.Config {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/{ns}/pods/{pod}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.forbidden == "pods":
			refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, `pods "web" is forbidden: User "x" cannot get resource "pods"`)
		case r.PathValue("ns") != s.pod.Namespace || r.PathValue("pod") != s.pod.Name:
			refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "pods not found")
		default:
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(s.pod)
		}
	})
	mux.HandleFunc("/api/v1/namespaces/{ns}/pods/{pod}/exec", func(w http.ResponseWriter, r *http.Request) {
		if s.forbidden == "pods/exec" {
			s.refused = append(s.refused, r.Method)
			refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, `pods "web" is forbidden: User "x" cannot create resource "pods/exec"`)
			return
		}
		s.execs++
		s.exec(w, r)
	})
	server := httptest.NewServer(mux)
	s.t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL}
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Message: message, Reason: reason, Code: int32(code),
	})
}

type channel struct {
	conn *websocket.Conn
	id   byte
}

func (c channel) Write(p []byte) (int, error) {
	return len(p), c.conn.Write(context.Background(), websocket.MessageBinary, append([]byte{c.id}, p...))
}

func (s *apiServer) exec(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"v5.channel.k8s.io"}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	if s.status != "" {
		channel{conn, 3}.Write([]byte(s.status))
		conn.Close(websocket.StatusNormalClosure, "")
		return
	}
	words := r.URL.Query()["command"]
	cmd := exec.Command(words[0], words[1:]...)
	stdin, _ := cmd.StdinPipe()
	cmd.Stdout, cmd.Stderr = channel{conn, 1}, channel{conn, 2}
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return
	}
	go func() {
		defer stdin.Close()
		for {
			_, data, err := conn.Read(context.Background())
			if err != nil || len(data) == 0 || data[0] == 255 {
				return
			}
			if _, err := stdin.Write(data[1:]); err != nil {
				return
			}
		}
	}()
	cmd.Wait()
	channel{conn, 3}.Write([]byte(`{"status":"Success"}`))
	conn.Close(websocket.StatusNormalClosure, "")
}

func webPod() corev1.Pod {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: "slow"}, {Name: "dead"}, {Name: "new"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: running},
			{Name: "slow", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
			{Name: "dead", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}}},
		}},
	}
}

func TestOpen(t *testing.T) {
	s := &apiServer{t: t, pod: webPod()}
	c, entry, err := kube.Open(t.Context(), s.start(), "default", "web", "app", kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if entry.Method != kube.Exec || entry.Reason == "" {
		t.Errorf("entered by %+v", entry)
	}
	if c.URI() != "k8s-container://default/web/app" {
		t.Errorf("URI: %s", c.URI())
	}
	for range 3 {
		got, err := c.Run(t.Context(), `printf 'a\000b'; echo "$0 err" >&2; exit 5`)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Stdout) != "a\x00b" || string(got.Stderr) != "/bin/sh err\n" || got.ExitStatus != 5 {
			t.Errorf("got %q, %q, %d", got.Stdout, got.Stderr, got.ExitStatus)
		}
	}
	if s.execs != 1 {
		t.Errorf("%d execs for three commands, want one", s.execs)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Run(t.Context(), "true"); err == nil {
		t.Error("a closed target ran a command")
	}
}

func TestOpen_Refused(t *testing.T) {
	tests := []struct {
		name           string
		server         apiServer
		pod, container string
		kind           error
		want           []string
	}{
		{"no pod", apiServer{}, "nope", "app", kube.ErrNotFound, []string{"pod default/nope not found", "kubectl get pods"}},
		{"no container", apiServer{}, "web", "nope", kube.ErrNotFound, []string{"no container nope", "app, slow, dead, new"}},
		{"several containers", apiServer{}, "web", "", kube.ErrNotFound, []string{"name one of app, slow"}},
		{"waiting", apiServer{}, "web", "slow", kube.ErrNotRunning, []string{"ImagePullBackOff"}},
		{"ended", apiServer{}, "web", "dead", kube.ErrNotRunning, []string{"exit code 3"}},
		{"no status", apiServer{}, "web", "new", kube.ErrNotRunning, []string{"the pod is Running"}},
		{"may not get", apiServer{forbidden: "pods"}, "web", "app", kube.ErrForbidden, []string{"verb get", "resource pods"}},
		{"may not exec", apiServer{forbidden: "pods/exec"}, "web", "app", kube.ErrForbidden, []string{"get and create", "pods/exec"}},
		{
			"distroless",
			apiServer{status: `{"status":"Failure","reason":"InternalError","message":"OCI runtime exec failed: exec failed: unable to start container process: exec: \"/bin/sh\": stat /bin/sh: no such file or directory"}`},
			"web", "app", kube.ErrNoShell,
			[]string{"no /bin/sh", "scan.ephemeral.image"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.server.t, tt.server.pod = t, webPod()
			c, _, err := kube.Open(t.Context(), tt.server.start(), "default", tt.pod, tt.container, kube.Options{})
			if err == nil {
				c.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, tt.kind) {
				t.Errorf("got %v, want %v", err, tt.kind)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
}

// TestOpen_FallsBack shows that a server that doesn't take the WebSocket is
// asked once more, by SPDY.
func TestOpen_FallsBack(t *testing.T) {
	s := &apiServer{t: t, pod: webPod(), forbidden: "pods/exec"}
	if c, _, err := kube.Open(t.Context(), s.start(), "default", "web", "app", kube.Options{}); err == nil {
		c.Close()
		t.Fatal("no error")
	}
	if got := strings.Join(s.refused, " "); got != "GET POST" {
		t.Errorf("exec was tried by %q, want GET POST", got)
	}
}

func TestParseURI(t *testing.T) {
	tests := []struct{ uri, namespace, pod, container, err string }{
		{"k8s-container://default/web/app", "default", "web", "app", ""},
		{"k8s-container://default/web", "default", "web", "", ""},
		{"k8s-container://default", "", "", "", "write k8s-container://"},
		{"k8s-container:default/web/app", "", "", "", "write k8s-container://"},
		{"k8s-container://default/web/app/x", "", "", "", "write k8s-container://"},
		{"k8s-container://default//app", "", "", "", "name of a pod"},
		{"k8s-container://../web/app", "", "", "", "name of a namespace"},
		{"k8s-container://default/web/a?b", "", "", "", "name of a container"},
	}
	for _, tt := range tests {
		ns, pod, container, err := kube.ParseURI(tt.uri)
		if ns != tt.namespace || pod != tt.pod || container != tt.container {
			t.Errorf("%s: got %q, %q, %q", tt.uri, ns, pod, container)
		}
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %v, want %q", tt.uri, err, tt.err)
		}
	}
}

func TestConfig(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", filepath.Join(home, "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := kube.Config("", ""); err == nil || !strings.Contains(err.Error(), "no cluster is configured") {
		t.Errorf("without any: got %v", err)
	}
	if _, err := kube.Config(filepath.Join(home, "missing"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that isn't there: got %v", err)
	}
	file := filepath.Join(home, "config")
	text := `{"apiVersion": "v1", "kind": "Config", "current-context": "a",
"clusters": [{"name": "one", "cluster": {"server": "https://one.example"}}, {"name": "two", "cluster": {"server": "https://two.example"}}],
"contexts": [{"name": "a", "context": {"cluster": "one"}}, {"name": "b", "context": {"cluster": "two"}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for context, want := range map[string]string{"": "https://one.example", "b": "https://two.example"} {
		config, err := kube.Config(file, context)
		if err != nil || config.Host != want {
			t.Errorf("context %q: got %+v, %v", context, config, err)
		}
	}
	if _, err := kube.Config(file, "nope"); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("an unknown context: got %v", err)
	}
}
