package tunnel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"reeve.dev/reeve/internal/farnet"
	"reeve.dev/reeve/tunnel"
)

// inFarNetwork has the test binary run in a network of its own.
const inFarNetwork = "REEVE_TEST_FAR_NETWORK"

// apart runs the calling test in a process that has a network of its own, and
// reports whether this is that process.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inFarNetwork) != "" {
		return true
	}
	cmd, err := farnet.Command(t.Context(), "-test.run=^"+t.Name()+"$", "-test.count=1")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), inFarNetwork+"=1"), &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("no network namespaces here (user.max_user_namespaces, or seccomp): %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	return false
}

func TestLink_on_a_bad_network(t *testing.T) {
	if !apart(t) {
		return
	}
	path, err := farnet.Open(farnet.Config{RTT: 20 * time.Millisecond, Loss: 0.02})
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	cfg := tunnel.Config{KeepAlive: time.Second, WriteTimeout: 3 * time.Second}
	l, err := net.Listen("tcp", farnet.Near+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hubs := make(chan *tunnel.Session, 16)
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s, err := tunnel.Server(conn, cfg)
			if err != nil {
				t.Error(err)
				return
			}
			hubs <- s
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ended := make(chan error, 16)
	agent := tunnel.Link{
		Dial: func(ctx context.Context, _ int) (*tunnel.Session, error) {
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", farnet.Far+":"+port)
			if err != nil {
				return nil, err
			}
			return tunnel.Client(conn, cfg)
		},
		Serve: func(ctx context.Context, s *tunnel.Session, up func()) error {
			up()
			err := tunnel.Serve(ctx, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
			ended <- s.Err()
			return err
		},
		Backoff: tunnel.Backoff{Min: 10 * time.Millisecond, Max: time.Second},
	}
	ctx, stop := context.WithCancel(t.Context())
	running := make(chan struct{})
	go func() {
		defer close(running)
		agent.Run(ctx)
	}()
	defer func() {
		stop()
		<-running
		l.Close()
		<-accepting
		for len(hubs) > 0 {
			(<-hubs).Close()
		}
	}()

	body := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	passes := func(s *tunnel.Session) {
		t.Helper()
		tr := tunnel.Transport(s)
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		sum := sha256.New()
		if n, err := io.Copy(sum, resp.Body); err != nil || [32]byte(sum.Sum(nil)) != sha256.Sum256(body) {
			t.Errorf("%d bytes came back, %v", n, err)
		}
	}
	s := <-hubs
	defer s.Close()
	passes(s)
	if path.Lost() == 0 {
		t.Error("no packet was lost")
	}
	if s.Err() != nil {
		t.Errorf("lost packets ended the session: %v", s.Err())
	}

	path.Cut(true)
	<-s.Done()
	if far := <-ended; !errors.Is(s.Err(), tunnel.ErrFrozen) || !errors.Is(far, tunnel.ErrFrozen) {
		t.Errorf("without a network the session ended with %v here, %v there", s.Err(), far)
	}
	path.Cut(false)
	again := <-hubs
	defer again.Close()
	passes(again)
}
