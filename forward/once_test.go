package forward_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

// A command in a container by WebSocket is a GET, which net/http sends again
// when a connection that was used before breaks without an answer. The service
// may have run it by then.
func TestForward_an_Upgrade_is_sent_once(t *testing.T) {
	var upgrades atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		upgrades.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	})
	config := kubeAPI(t, h)
	b := start(t, h, func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: config})
	})
	for _, typ := range []fleet.ServiceType{"x-web", fleet.Kubernetes} {
		t.Run(string(typ), func(t *testing.T) {
			upgrades.Store(0)
			as := *b
			as.client = b.as(t, typ, "main")
			// What is refused leaves connections behind that are used again.
			for _, tt := range []struct {
				path   string
				status int
			}{{"/refused", 403}, {"/exec?command=id", 502}} {
				resp := raw(t, &as, "GET "+tt.path+" HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != tt.status {
					t.Errorf("%s: %s", tt.path, resp.Status)
				}
			}
			if n := upgrades.Load(); n != 1 {
				t.Errorf("the service was asked %d times", n)
			}
		})
	}
}
