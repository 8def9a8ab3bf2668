package hub_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/blob/blobtest"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/postgres/postgrestest"
	"reeve.dev/reeve/tunnel"
)

// team are replicas of a hub on one database, and that database.
type team struct {
	hubs  []*running
	store *store.Store
}

func newTeam(t *testing.T, n int) *team {
	t.Helper()
	server := postgrestest.Start(t)
	cfg := config(t)
	cfg.Database.URL, cfg.Database.MaxConnections = server.URL(t), 10
	cfg.Documents.URL = blobtest.Start(t).URL
	cfg.Listen.Replicas = "127.0.0.1:0"
	out := &team{}
	for i := range n {
		cfg.DataDir = filepath.Join(t.TempDir(), fmt.Sprint("replica", i))
		cfg.Replica.Address = []string{"", "127.0.0.1"}[i%2] // the second adds its port itself
		out.hubs = append(out.hubs, start(t, cfg))
	}
	s, err := postgres.Open(t.Context(), postgres.Config{URL: cfg.Database.URL, Bucket: cfg.Documents.URL, Scratch: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	out.store = s
	return out
}

// caller calls the service x-wiki/wiki of an agent.
type caller struct {
	client *http.Client
	token  string
}

func newCaller(t *testing.T, h *running, agent fleet.AgentName) *caller {
	t.Helper()
	token, err := h.CA().IssueServiceToken(agent, "x-wiki", "wiki", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &caller{h.client(t, nil), token}
}

func (c *caller) request(t *testing.T, h *running, method, path string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+h.Addrs().Services.String()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	return req
}

func (c *caller) do(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// until repeats f until it is true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for !f() {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// wiki is a service that tells what it was asked, and the names of the headers
// that begin with Reeve-.
func wiki(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var ours []string
		for h := range r.Header {
			if strings.HasPrefix(h, "Reeve-Replica") {
				ours = append(ours, h)
			}
		}
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Reeve-Replica-Error", "forged")
		fmt.Fprintf(w, "%s: %s %s %q %s %v", name, r.Method, r.RequestURI, body, r.Trailer.Get("X-End"), ours)
		w.Header().Set("X-Sum", "42")
	})
	mux.HandleFunc("/duplex", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		rc.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); rc.Flush() {
			fmt.Fprintln(w, lines.Text())
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, brw)
	})
	return mux
}

// join links an agent to a replica.
func (r *running) join(t *testing.T, e *pki.Enroller, name fleet.AgentName, service http.Handler) *agent {
	t.Helper()
	a := newAgent(t, r.dial(t, e, tunnel.WebSocket), service)
	a.register(t, name, "i1", []fleet.Service{{Type: "x-wiki", Name: "wiki"}})
	return a
}

func TestReplicas(t *testing.T) {
	team := newTeam(t, 3)
	a, b, c := team.hubs[0], team.hubs[1], team.hubs[2]
	e := a.enrolled(t, "east")
	east := a.join(t, e, "east", wiki("first"))
	caller := newCaller(t, b, "east")
	ready := func() bool {
		resp, _ := caller.do(t, caller.request(t, b, "GET", "/", nil))
		return resp.StatusCode == http.StatusOK
	}
	until(t, "an agent at one replica is reached by another", ready)

	t.Run("what is asked passes whole", func(t *testing.T) {
		req := caller.request(t, c, "POST", "/a%2Fb/?x=%20;y", io.MultiReader(strings.NewReader("hello "), strings.NewReader("there")))
		req.Trailer = http.Header{"X-End": {"over"}}
		req.Header.Set("Reeve-Replica-Agent", "west")
		resp, text := caller.do(t, req)
		if want := `first: POST /a%2Fb/?x=%20;y "hello there" over []`; resp.StatusCode != 200 || text != want {
			t.Errorf("%s %s; want %s", resp.Status, text, want)
		}
		if resp.Trailer.Get("X-Sum") != "42" || resp.Header.Get("Reeve-Replica-Error") != "" {
			t.Errorf("trailer %v, header %v", resp.Trailer, resp.Header)
		}
	})
	t.Run("an answer passes while the request does", func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		resp, err := caller.client.Do(caller.request(t, c, "POST", "/duplex", r))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for br, n := bufio.NewReader(resp.Body), 0; n < 3; n++ {
			fmt.Fprintln(w, "line", n)
			if line, err := br.ReadString('\n'); line != fmt.Sprintln("line", n) {
				t.Fatalf("%q, %v", line, err)
			}
		}
	})
	t.Run("a connection that is upgraded passes", func(t *testing.T) {
		conn, err := tls.Dial("tcp", c.Addrs().Services.String(), &tls.Config{RootCAs: c.CA().Pool(), NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", caller.token)
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%+v, %v", resp, err)
		}
		io.WriteString(conn, "knock\n")
		if line, err := br.ReadString('\n'); line != "knock\n" {
			t.Errorf("%q, %v", line, err)
		}
	})
	t.Run("who isn't there is named", func(t *testing.T) {
		if err := team.store.SaveAgent(t.Context(), fleet.Registration{Agent: "away", Instance: "i"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		for agent, want := range map[fleet.AgentName]int{"away": 502, "nobody": 404} {
			x := newCaller(t, b, agent)
			if resp, text := x.do(t, x.request(t, b, "GET", "/", nil)); resp.StatusCode != want || !strings.Contains(text, string(agent)) {
				t.Errorf("%s: %s %s, want %d", agent, resp.Status, text, want)
			}
		}
	})
	t.Run("every replica lists the agent", func(t *testing.T) {
		for _, h := range team.hubs {
			var got struct {
				ConnectedAgents []struct {
					AgentID, Session string
					Endpoints        []struct{ Type, Name string }
				}
			}
			h.call(t, "GET", "/api/v1/getAgentStatistics", nil, http.StatusOK, &got)
			if len(got.ConnectedAgents) != 1 || got.ConnectedAgents[0].AgentID != "east" || got.ConnectedAgents[0].Session == "" || got.ConnectedAgents[0].Endpoints[0].Name != "wiki" {
				t.Errorf("%+v", got)
			}
		}
	})
	t.Run("a scan asked of one is run by another's agent and read from a third", func(t *testing.T) {
		got := make(chan *scan.Job, 1)
		go func() {
			job, err := east.scans.Lease(context.WithoutCancel(t.Context()), []string{"k8s-container"}, nil)
			if err != nil {
				t.Error(err)
			}
			got <- job
		}()
		var asked scanAnswer
		b.call(t, "POST", "/api/v1/scans", map[string]any{
			"target": map[string]any{"agent": "east", "namespace": "web", "pod": "main", "container": "app"},
			"scan":   map[string]any{"profile": "p"},
		}, http.StatusAccepted, &asked)
		job := <-got
		if job == nil || string(job.ID) != asked.ID {
			t.Fatalf("leased %+v, want %s", job, asked.ID)
		}
		if err := east.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, "passed")); err != nil {
			t.Fatal(err)
		}
		var done scanAnswer
		c.call(t, "GET", "/api/v1/scans/"+asked.ID, nil, http.StatusOK, &done)
		if done.Status != "completed" {
			t.Errorf("%+v", done)
		}
		c.call(t, "GET", "/api/v1/scans/"+asked.ID+"/results", nil, http.StatusOK, nil)
	})
	// note has the database say that the agent is at an address, too.
	note := func(t *testing.T, id, address string, life time.Duration) {
		t.Helper()
		if _, err := team.store.SaveReplica(t.Context(), store.Replica{ID: id, Address: address, Expires: time.Now().Add(life)}); err != nil {
			t.Fatal(err)
		}
		if err := team.store.ChangeLinks(t.Context(), id, []store.ReplicaLink{{Peer: fleet.Peer{Agent: "east", Instance: "i9", Session: "s"}}}, nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { team.store.RemoveReplicas(context.WithoutCancel(t.Context()), id, time.Time{}) })
	}
	t.Run("a dead replica is passed over", func(t *testing.T) {
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dead.Close()
		note(t, "dead", dead.Addr().String(), time.Hour)
		for range 20 {
			// With a body, for which the database is asked each time.
			resp, text := caller.do(t, caller.request(t, b, "POST", "/", strings.NewReader("body")))
			if resp.StatusCode != 200 || !strings.Contains(text, `"body"`) {
				t.Fatalf("%s %s", resp.Status, text)
			}
		}
	})
	t.Run("a replica that has lost the agent is passed over", func(t *testing.T) {
		note(t, "stale", c.Addrs().Replicas.String(), time.Hour)
		// Beyond the time for which b knows without asking.
		for begin := time.Now(); time.Since(begin) < 3*time.Second/2; {
			if resp, text := caller.do(t, caller.request(t, b, "GET", "/", nil)); resp.StatusCode != 200 {
				t.Fatalf("%s %s", resp.Status, text)
			}
		}
	})
	t.Run("a replica that freezes is given up, and what may be is asked again", func(t *testing.T) {
		conf, err := b.CA().ServerTLS(nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan struct{}, 100)
		frozen := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			<-r.Context().Done()
		})}
		go frozen.Serve(l)
		t.Cleanup(func() { frozen.Close() })
		note(t, "frozen", l.Addr().String(), 2*time.Second)
		for {
			if resp, text := caller.do(t, caller.request(t, b, "GET", "/", nil)); resp.StatusCode != 200 {
				t.Fatalf("%s %s", resp.Status, text)
			}
			select {
			case <-asked: // and answered, by another
				return
			default:
			}
		}
	})
	t.Run("what asks for an Upgrade isn't asked again", func(t *testing.T) {
		conf, err := b.CA().ServerTLS(nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan struct{}, 1000)
		breaking := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			asked <- struct{}{}
			panic(http.ErrAbortHandler)
		})}
		go breaking.Serve(l)
		t.Cleanup(func() { breaking.Close() })
		note(t, "breaking", l.Addr().String(), time.Hour)
		until(t, "the other replica is asked", func() bool {
			conn, err := tls.Dial("tcp", b.Addrs().Services.String(), &tls.Config{RootCAs: b.CA().Pool(), NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", caller.token)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			select {
			case <-asked:
				if resp.StatusCode != http.StatusBadGateway || len(asked) > 0 {
					t.Errorf("%s, and it was asked %d times more", resp.Status, len(asked))
				}
				return true
			default:
				return false
			}
		})
	})
	t.Run("a replica that is lost costs only what went through it", func(t *testing.T) {
		other := b.enrolled(t, "west")
		b.join(t, other, "west", wiki("west"))
		west := newCaller(t, b, "west")
		open := west.request(t, b, "GET", "/", nil)
		a.stop()
		if resp, text := west.do(t, open); resp.StatusCode != 200 {
			t.Errorf("west: %s %s", resp.Status, text)
		}
		resp, text := caller.do(t, caller.request(t, b, "GET", "/", nil))
		if resp.StatusCode != 502 || !strings.Contains(text, "east") {
			t.Errorf("with the agent away: %s %s", resp.Status, text)
		}
		c.join(t, e, "east", wiki("second"))
		until(t, "the agent is reached at its new replica", ready)
		if _, text := caller.do(t, caller.request(t, c, "GET", "/", nil)); !strings.HasPrefix(text, "second: ") {
			t.Errorf("%s", text)
		}
	})
}

// The port between replicas is for hubs alone, and leads no further.
func TestReplicas_port(t *testing.T) {
	team := newTeam(t, 1)
	h := team.hubs[0]
	get := func(t *testing.T, id *pki.Identity) (int, string) {
		t.Helper()
		var pair *tls.Certificate
		if id != nil {
			cert, key, err := h.CA().NewCredential(*id, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			p, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			pair = &p
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+h.Addrs().Replicas.String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Reeve-Replica-Agent", "east")
		resp, err := h.client(t, pair).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for name, tc := range map[string]struct {
		id     *pki.Identity
		status int
	}{
		"nobody":                              {nil, http.StatusForbidden},
		"a service":                           {&pki.Identity{Purpose: pki.Service, Agent: "east", Type: "x-wiki", Name: "wiki"}, http.StatusForbidden},
		"an agent":                            {&pki.Identity{Purpose: pki.Agent, Agent: "east"}, http.StatusForbidden},
		"an administrator":                    {&pki.Identity{Purpose: pki.Control, Name: "admin"}, http.StatusForbidden},
		"a hub that asks for another's agent": {&pki.Identity{Purpose: pki.Hub, Name: "hub"}, http.StatusMisdirectedRequest},
	} {
		if status, text := get(t, tc.id); status != tc.status {
			t.Errorf("%s: %d %s, want %d", name, status, text, tc.status)
		}
	}
}

func TestConfig_Validate_replicas(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*hub.Config)
		says   string // empty: good
	}{
		"good":                      {func(*hub.Config) {}, ""},
		"a password in the URL":     {func(c *hub.Config) { c.Database.URL = "postgres://reeve:hush@db/reeve" }, "a password must not be in it"},
		"a password in its query":   {func(c *hub.Config) { c.Database.URL = "postgres://db/reeve?password=hush" }, "a password must not be in it"},
		"a password in key=value":   {func(c *hub.Config) { c.Database.URL = "host=db password = hush" }, "a password must not be in it"},
		"two passwords":             {func(c *hub.Config) { c.Database.PasswordFile, c.Database.PasswordEnv = "f", "E" }, "keep one"},
		"no place for documents":    {func(c *hub.Config) { c.Documents.Dir = "" }, "all replicas share"},
		"two places for documents":  {func(c *hub.Config) { c.Documents.URL = "s3://bucket" }, "keep one"},
		"a bucket":                  {func(c *hub.Config) { c.Documents = hub.DocumentsConfig{URL: "s3://bucket?region=r"} }, ""},
		"a bucket's password":       {func(c *hub.Config) { c.Documents = hub.DocumentsConfig{URL: "s3://key:hush@bucket"} }, "no credentials"},
		"a folder without database": {func(c *hub.Config) { c.Database.URL = "" }, "documents"},
		"an address without a port": {func(c *hub.Config) { c.Replica.Address = "hub-1" }, "HOST:PORT"},
		"an address of IPv6":        {func(c *hub.Config) { c.Replica.Address = "fd00::1" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := hub.Defaults()
			cfg.Database.URL, cfg.Documents.Dir = "postgres://reeve@db:5432/reeve?sslmode=verify-full", "/shared"
			tc.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (tc.says == "") || err != nil && (!strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush")) {
				t.Errorf("%v; want %q", err, tc.says)
			}
		})
	}
}

// What is revoked at one replica ends at the others as well, on both sides of
// the hop between them.
func TestReplicas_revoke(t *testing.T) {
	team := newTeam(t, 3)
	a, b, c := team.hubs[0], team.hubs[1], team.hubs[2]
	stalls := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "event\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	east := a.join(t, a.enrolled(t, "east"), "east", stalls)
	var lost, kept struct{ ID, Token string }
	for _, cred := range []*struct{ ID, Token string }{&lost, &kept} {
		c.call(t, "POST", "/api/v1/credentials/service", map[string]any{"agent": "east", "type": "x-wiki", "name": "wiki", "kind": "token"}, http.StatusCreated, cred)
	}
	until(t, "an agent at one replica is reached by another", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		x := &caller{b.client(t, nil), kept.Token}
		resp, err := x.client.Do(x.request(t, b, "GET", "/", nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	// watch answers what is closed when the watch breaks off.
	watch := func(token string) <-chan struct{} {
		t.Helper()
		x := &caller{b.client(t, nil), token}
		resp, err := x.client.Do(x.request(t, b, "GET", "/", nil))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		lines := bufio.NewReader(resp.Body)
		if line, err := lines.ReadString('\n'); err != nil {
			t.Fatal(line, err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			if _, err := io.Copy(io.Discard, lines); err == nil {
				t.Error("what was cut looks whole")
			}
		}()
		return over
	}
	ends := func(what string, over <-chan struct{}) {
		t.Helper()
		select {
		case <-over:
		case <-time.After(within):
			t.Errorf("%s goes on", what)
		}
	}
	cut, open := watch(lost.Token), watch(kept.Token)
	// Neither the replica that was called nor the one that has the agent.
	c.call(t, "POST", "/api/v1/revocations", map[string]any{"kind": "token", "id": lost.ID}, http.StatusCreated, nil)
	ends("the caller's watch", cut)
	select {
	case <-open:
		t.Error("another caller's watch has ended, too")
	default:
	}
	x := &caller{b.client(t, nil), lost.Token}
	if resp, text := x.do(t, x.request(t, b, "GET", "/", nil)); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("afterwards: %s %s", resp.Status, text)
	}
	c.call(t, "POST", "/api/v1/revocations", map[string]any{"kind": "identity", "id": "spiffe://reeve/agent/east"}, http.StatusCreated, nil)
	ends("the agent's link", east.session.Done())
	ends("what went by it", open)
}
