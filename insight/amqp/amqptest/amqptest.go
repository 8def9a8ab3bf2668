// Package amqptest runs a RabbitMQ of the test's own: in a folder that goes
// with the test, on loopback, as another user where the test is root. It needs
// Debian's package rabbitmq-server.
package amqptest

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	rabbit "github.com/rabbitmq/amqp091-go"
)

const server = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// Who may do what: Admin everything, and Writer only publish and look, as a
// user may whom somebody else gives the queue.
const (
	Admin    = "guest"
	Writer   = "writer"
	Password = "guest"
)

// The virtual hosts. A queue of Full holds three messages and refuses more.
const (
	Lagoon = "/"
	Full   = "full"
)

// Server is a RabbitMQ.
type Server struct {
	tb   testing.TB
	dir  string
	env  []string
	attr syscall.SysProcAttr

	port, tlsPort int
	run           *process
}

// TLS are the files of the server's certificate; zero for no TLS.
type TLS struct{ CA, Cert, Key string }

// Start starts a server that ends with the test, and with the test's process
// however that ends. It skips the test where there is no RabbitMQ.
func Start(tb testing.TB, files TLS) *Server {
	tb.Helper()
	if _, err := os.Stat(server); err != nil {
		tb.Skip("RabbitMQ isn't installed: apt-get install rabbitmq-server")
	}
	// Not tb.TempDir, which another user can't enter.
	dir, err := os.MkdirTemp("", "rabbitmq-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{tb: tb, dir: dir, attr: dieWithParent()}
	ports := freePorts(tb, 4)
	s.port, s.tlsPort = ports[0], ports[1]
	s.configure(files)
	if os.Getuid() == 0 {
		s.attr.Credential = other(tb, dir)
	}
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8",
		"RUNNING_UNDER_SYSTEMD=1", // no shell stays between us and the server
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=" + strconv.Itoa(ports[2]),
		"RABBITMQ_NODENAME=reeve@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT=" + strconv.Itoa(s.port), "RABBITMQ_DIST_PORT=" + strconv.Itoa(ports[3]),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_MNESIA_BASE=" + dir, "RABBITMQ_LOG_BASE=" + dir, "RABBITMQ_LOGS=-",
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "none"), "RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "none"),
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq"),
	}
	// The server would start one that outlives it and listens everywhere.
	epmd := s.start("epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(ports[2]))
	tb.Cleanup(epmd.kill)
	tb.Cleanup(s.Kill)
	s.Restart()
	return s
}

// configure writes the server's files.
func (s *Server) configure(files TLS) {
	text := "load_definitions = " + filepath.Join(s.dir, "definitions.json") + "\n"
	if files.Cert != "" {
		for _, f := range []struct{ name, from string }{{"cacertfile", files.CA}, {"certfile", files.Cert}, {"keyfile", files.Key}} {
			pem, err := os.ReadFile(f.from)
			if err != nil {
				s.tb.Fatal(err)
			}
			s.write(f.name, pem)
			text += "ssl_options." + f.name + " = " + filepath.Join(s.dir, f.name) + "\n"
		}
		text += "listeners.ssl.1 = 127.0.0.1:" + strconv.Itoa(s.tlsPort) + "\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
	}
	s.write("rabbitmq.conf", []byte(text))
	type object = map[string]any
	may := func(user, vhost, configure string) object {
		return object{"user": user, "vhost": vhost, "configure": configure, "write": ".*", "read": ".*"}
	}
	definitions, err := json.Marshal(object{
		"vhosts": []object{{"name": Lagoon}, {"name": Full}},
		"users": []object{
			{"name": Admin, "password_hash": hash(Password), "tags": "administrator"},
			{"name": Writer, "password_hash": hash(Password), "tags": ""},
		},
		"permissions": []object{may(Admin, Lagoon, ".*"), may(Admin, Full, ".*"), may(Writer, Lagoon, ""), may(Writer, Full, "")},
		"policies": []object{{
			"vhost": Full, "name": "full", "pattern": ".*", "apply-to": "queues",
			"definition": object{"max-length": 3, "overflow": "reject-publish"},
		}},
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.write("definitions.json", definitions)
}

func (s *Server) write(name string, data []byte) {
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o644); err != nil {
		s.tb.Fatal(err)
	}
}

// hash is a password as RabbitMQ keeps it.
func hash(password string) string {
	salt := make([]byte, 4)
	rand.Read(salt)
	sum := sha256.Sum256(append(salt, password...))
	return base64.StdEncoding.EncodeToString(append(salt, sum[:]...))
}

// URL leads to a virtual host, without a password.
func (s *Server) URL(vhost string) string {
	return fmt.Sprintf("amqp://127.0.0.1:%d/%s", s.port, strings.ReplaceAll(vhost, "/", "%2f"))
}

// TLSURL is URL by TLS; the name in the server's certificate must be
// localhost.
func (s *Server) TLSURL(vhost string) string {
	return fmt.Sprintf("amqps://localhost:%d/%s", s.tlsPort, strings.ReplaceAll(vhost, "/", "%2f"))
}

// Channel is a channel of the admin's, for the test to look and to change
// things.
func (s *Server) Channel(vhost string) *rabbit.Channel {
	s.tb.Helper()
	url := strings.Replace(s.URL(vhost), "amqp://", "amqp://"+Admin+":"+Password+"@", 1)
	c, err := rabbit.Dial(url)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { c.Close() })
	ch, err := c.Channel()
	if err != nil {
		s.tb.Fatal(err)
	}
	return ch
}

// Kill ends the server as a lost machine does: nothing is flushed and no
// connection closed in order.
func (s *Server) Kill() {
	if s.run != nil {
		s.run.kill()
	}
	s.run = nil
}

// Restart starts the server again, with what it had on its disk, and waits
// until it takes connections.
func (s *Server) Restart() {
	s.tb.Helper()
	s.run = s.start(server)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // a start takes 3 s of CPU
	defer cancel()
	select {
	case <-s.run.ready:
	case <-s.run.over:
		s.tb.Fatalf("rabbitmq-server ended:\n%s", s.run.log())
	case <-ctx.Done():
		s.tb.Fatalf("rabbitmq-server isn't up after 3 minutes:\n%s", s.run.log())
	}
}

// Alarm has the server block publishers, as it does when its disk is full, or
// ends that.
func (s *Server) Alarm(on bool) {
	s.tb.Helper()
	limit := "1MB"
	if on {
		limit = "1000000GB"
	}
	cmd := exec.Command("/usr/lib/rabbitmq/bin/rabbitmqctl", "--quiet", "set_disk_free_limit", limit)
	attr := s.attr
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.dir, s.env, &attr
	if out, err := cmd.CombinedOutput(); err != nil {
		s.tb.Fatalf("rabbitmqctl set_disk_free_limit: %v\n%s", err, out)
	}
}

// process is a running program.
type process struct {
	cmd         *exec.Cmd
	ready, over chan struct{}
	lines       strings.Builder // read when ready or over is closed
}

func (p *process) log() string { <-p.over; return p.lines.String() }

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.over
}

// start starts a program. ready is closed when it says that it is.
func (s *Server) start(name string, args ...string) *process {
	s.tb.Helper()
	p := &process{cmd: exec.Command(name, args...), ready: make(chan struct{}), over: make(chan struct{})}
	attr := s.attr
	p.cmd.Dir, p.cmd.Env, p.cmd.SysProcAttr = s.dir, s.env, &attr
	says, err := p.cmd.StdoutPipe()
	if err != nil {
		s.tb.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	started := make(chan error)
	go func() {
		// The program is told of the end of the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(p.over)
		up := false
		for lines := bufio.NewScanner(says); lines.Scan(); {
			if !up && strings.Contains(lines.Text(), "Server startup complete") {
				up = true
				close(p.ready)
			}
			if !up {
				p.lines.WriteString(lines.Text() + "\n")
			}
		}
		p.cmd.Wait()
	}()
	if err := <-started; err != nil {
		s.tb.Fatal(err)
	}
	return p
}

func freePorts(tb testing.TB, n int) (ports []int) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// other is who runs the server, and gets dir.
func other(tb testing.TB, dir string) *syscall.Credential {
	tb.Helper()
	u, err := user.Lookup("rabbitmq")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			tb.Skip("there is neither a user rabbitmq nor nobody to run RabbitMQ as")
		}
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		tb.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
