package tunnel_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reeve.dev/reeve/tunnel"
)

// beAgent has the test binary be an agent's process, of the hub at that URL.
const beAgent = "REEVE_TEST_AGENT_OF"

func TestMain(m *testing.M) {
	if url := os.Getenv(beAgent); url != "" {
		fmt.Fprintln(os.Stderr, agentProcess(url, []byte(os.Getenv("REEVE_TEST_IDENTITY"))))
		os.Exit(1)
	}
	// net/http waits for half a second before it closes a connection whose
	// request it didn't read to the end.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// quick are sessions that notice early.
var quick = tunnel.Config{KeepAlive: 100 * time.Millisecond, WriteTimeout: 400 * time.Millisecond}

// agentProcess keeps one carrier up until the process is killed.
func agentProcess(url string, identity []byte) error {
	cert, err := tls.X509KeyPair(identity, identity)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(identity)
	d := tunnel.NewDialer(tunnel.DialConfig{
		URL: url, TLS: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{cert}}, Session: quick,
	})
	return tunnel.Link{
		Dial: func(ctx context.Context, _ int) (*tunnel.Session, error) { return d.Dial(ctx) },
		Serve: func(ctx context.Context, s *tunnel.Session, up func()) error {
			up()
			return tunnel.Serve(ctx, s, http.NotFoundHandler())
		},
		Backoff: tunnel.Backoff{Min: 10 * time.Millisecond},
	}.Run(context.Background())
}

func TestLink_of_a_frozen_process_is_found_and_comes_back(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("counts the files in /proc, which only Linux has")
	}
	descriptors := openFiles(t)
	h := newHub(t, quick)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(h.client.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	identity := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.client.Certificates[0].Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	agent := exec.Command(self)
	agent.Env = append(os.Environ(), beAgent+"="+h.URL, "REEVE_TEST_IDENTITY="+string(identity))
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		agent.Process.Kill()
		agent.Wait()
	}
	defer stop()
	for range 2 {
		s := <-h.links
		if _, err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := agent.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		if !errors.Is(s.Err(), tunnel.ErrFrozen) {
			t.Errorf("a frozen agent's session ended with %v", s.Err())
		}
		if err := agent.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	(<-h.links).Close() // the agent is there again
	stop()
	h.Close()
	waitFor(t, func() bool { return openFiles(t) <= descriptors })
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
