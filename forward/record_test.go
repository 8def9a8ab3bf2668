package forward_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
	"reeve.dev/reeve/pki"
)

// kubelet runs a command whose output is fixed, by either protocol, as a
// Kubernetes API does: it shows what is typed, until that ends.
func kubelet(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/portforward") {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		channels := []wsstream.ChannelType{wsstream.ReadChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.ReadChannel}
		conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
			"v5.channel.k8s.io": {Binary: true, Channels: channels}, "v4.channel.k8s.io": {Binary: true, Channels: channels},
		})
		_, s, err := conn.Open(w, r)
		if err != nil {
			return
		}
		defer conn.Close()
		session(s[0], s[1], s[2], s[3], s[4])
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 5)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
		go func() { <-replied; streams <- s }()
		return nil
	})
	if conn == nil {
		return
	}
	defer conn.Close()
	by := map[string]httpstream.Stream{}
	for len(by) < 4 { // no stderr with a terminal
		s := <-streams
		by[s.Headers().Get("streamType")] = s
	}
	session(by["stdin"], by["stdout"], nil, by["error"], by["resize"])
	<-conn.CloseChan()
}

// session shows the size that comes, and what is typed, in whatever order they
// arrive.
func session(in io.Reader, out, _, status io.Writer, resize io.Reader) {
	typed := make(chan []byte, 1)
	go func() {
		p := make([]byte, 100)
		n, _ := in.Read(p)
		typed <- p[:n]
	}()
	size := make([]byte, 100)
	n, _ := resize.Read(size)
	fmt.Fprintf(out, "%s\r\n", bytes.TrimSpace(size[:n]))
	out.Write(<-typed)
	io.WriteString(status, `{"metadata":{},"status":"Success"}`)
	for _, w := range []io.Writer{out, status} {
		if c, ok := w.(io.Closer); ok {
			c.Close()
		}
	}
}

// recorder keeps what is recorded.
type recorder struct {
	mu     sync.Mutex
	fail   error
	about  []forward.Session
	events []string
	closed chan error
}

func (r *recorder) Record(s forward.Session) (forward.Tape, error) {
	if r.fail != nil {
		return nil, r.fail
	}
	s.Caller = forward.Caller{Holder: s.Caller.Holder}
	r.about = append(r.about, s)
	return r, nil
}

func (r *recorder) ID() string { return "rec-1" }

func (r *recorder) Output(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.events); n > 0 && strings.HasPrefix(r.events[n-1], "o ") {
		r.events[n-1] += string(p)
		return nil
	}
	r.events = append(r.events, "o "+string(p))
	return nil
}

func (r *recorder) Resize(width, height int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf("r %dx%d", width, height))
	return nil
}

func (r *recorder) Close(cause error) error {
	r.closed <- cause
	return nil
}

type once struct{ size *remotecommand.TerminalSize }

func (o *once) Next() *remotecommand.TerminalSize {
	s := o.size
	o.size = nil
	return s
}

func TestHub_records_sessions(t *testing.T) {
	config := kubeAPI(t, kubelet)
	rec := &recorder{closed: make(chan error, 1)}
	ended := make(chan forward.Exchange, 10)
	b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: config})
		o.Audit = forward.AuditorFunc(func(_ context.Context, e forward.Exchange) { ended <- e })
		o.Access = func(c *forward.HubConfig) {
			c.Recorder = rec
			c.Rules = newRules(t, forward.Rule{Name: "shells", Effect: "allow", Record: true})
		}
	})
	id := pki.Identity{Purpose: pki.Service, Agent: forwardtest.AgentName, Type: fleet.Kubernetes, Name: "main", Holder: "alice"}
	cert, key, err := b.CA.NewCredential(id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rest.Config{Host: b.URL, TLSClientConfig: rest.TLSClientConfig{CAData: b.CA.CertPEM(), CertData: cert, KeyData: key}}
	const path = "/api/v1/namespaces/shop/pods/web-0/exec?container=web&command=sh&command=-i&stdin=true&stdout=true&tty=true"
	u, err := url.Parse(b.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	for name, executor := range map[string]func() (remotecommand.Executor, error){
		"SPDY": func() (remotecommand.Executor, error) { return remotecommand.NewSPDYExecutor(cfg, "POST", u) },
		"WebSocket": func() (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(cfg, "GET", u.String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec.about, rec.events = nil, nil
			e, err := executor()
			if err != nil {
				t.Fatal(err)
			}
			in, typing := io.Pipe()
			t.Cleanup(func() { typing.Close() })
			go io.WriteString(typing, "héllo")
			var out bytes.Buffer
			err = e.StreamWithContext(t.Context(), remotecommand.StreamOptions{
				Stdin: in, Stdout: &out, Tty: true, TerminalSizeQueue: &once{&remotecommand.TerminalSize{Width: 120, Height: 40}},
			})
			typing.Close()
			if err != nil {
				t.Fatal(err)
			}
			<-rec.closed
			shown := `{"Width":120,"Height":40}` + "\r\nhéllo"
			if d := cmp.Diff(shown, out.String()); d != "" {
				t.Errorf("shown (-want +got):\n%s", d)
			}
			if d := cmp.Diff([]string{"r 120x40", "o " + shown}, rec.events); d != "" {
				t.Errorf("recorded (-want +got):\n%s", d)
			}
			want := []forward.Session{{Caller: forward.Caller{Holder: "alice"}, Namespace: "shop", Pod: "web-0", Container: "web", Command: []string{"sh", "-i"}}}
			if d := cmp.Diff(want, rec.about); d != "" {
				t.Errorf("session (-want +got):\n%s", d)
			}
			x := <-ended
			if !x.Begins || x.Recording != "rec-1" || x.Status != 101 || cmp.Diff([]string{"sh", "-i"}, x.Command) != "" {
				t.Errorf("audit of its beginning: %+v", x)
			}
			x = <-ended
			if x.Begins || x.Recording != "rec-1" || x.Verb != "create" || x.Resource != "pods/exec" || x.Namespace != "shop" || x.Name != "web-0" || x.Status != 101 || cmp.Diff([]string{"sh", "-i"}, x.Command) != "" {
				t.Errorf("audit: %+v", x)
			}
		})
	}

	t.Run("a command by a node's proxy", func(t *testing.T) {
		for _, node := range []string{"/n", "//n", "/n/.", "/n;x"} {
			resp, body := do(t, b.with(t, id), request(t, "POST", b.URL+"/api/v1/nodes"+node+"/proxy/run/shop/web-0/web?cmd=id", nil))
			x := <-ended
			if resp.StatusCode != 403 || !strings.Contains(body, "shells has sessions recorded") || node == "/n" && cmp.Diff([]string{"id"}, x.Command) != "" {
				t.Errorf("%s: %s %s; audit: %+v", node, resp.Status, body, x)
			}
		}
	})

	asking := func(path, upgrade string, header ...string) (int, string) {
		r := request(t, "GET", b.URL+path, nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", upgrade)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, body := do(t, b.with(t, id), r)
		<-ended
		return resp.StatusCode, body
	}
	const exec = "/api/v1/namespaces/shop/pods/web-0/exec"
	for name, tc := range map[string]struct {
		path, upgrade, protocol string
		status                  int
		says                    string
	}{
		"a protocol without sizes":  {exec, "websocket", "base64.channel.k8s.io", 403, "v5.channel.k8s.io or v4.channel.k8s.io"},
		"an unknown Upgrade":        {exec, "telnet", "", 403, "which needs SPDY/3.1 or a WebSocket"},
		"a kubelet by the proxy":    {"/api/v1/nodes/n/proxy/exec/shop/web-0/web", "websocket", "v4.channel.k8s.io", 403, "shells has sessions recorded"},
		"a path that may be others": {"/api/v1/namespaces/shop/pods/web-0//exec", "websocket", "v4.channel.k8s.io", 403, "shells has sessions recorded"},
		"forwarded ports pass":      {"/api/v1/namespaces/shop/pods/web-0/portforward", "websocket", "v4.channel.k8s.io", 418, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if status, body := asking(tc.path, tc.upgrade, "Sec-Websocket-Protocol", tc.protocol); status != tc.status || !strings.Contains(body, tc.says) {
				t.Errorf("%d %s; want %d with %q", status, body, tc.status, tc.says)
			}
		})
	}
	t.Run("no room for a recording", func(t *testing.T) {
		rec.fail = errors.New("the disk is full")
		status, body := asking(exec+"?stdin=true", "websocket", "Sec-Websocket-Protocol", "v4.channel.k8s.io",
			"Sec-Websocket-Version", "13", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		if status != 503 || strings.Contains(body, "disk") {
			t.Errorf("%d %s; want 503, without the hub's own troubles", status, body)
		}
	})
}
