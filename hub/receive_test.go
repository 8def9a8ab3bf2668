package hub_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/alert/verify"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/internal/spool"
	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
)

// alerter calls the hub as an AlertSink under a path, with a token or, without
// one, as the administrator; about is further metadata.
func (r *running) alerter(t *testing.T, path, token string) func(in *allstarv1.AlertRequest, about ...string) error {
	t.Helper()
	conf := &tls.Config{RootCAs: r.CA().Pool()}
	if token == "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(r.cfg.CADir, "control.pem"), filepath.Join(r.cfg.CADir, "control-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	conn, err := grpc.NewClient(r.Addrs().API.String(), grpc.WithTransportCredentials(credentials.NewTLS(conf)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func(in *allstarv1.AlertRequest, about ...string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), about...)
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		return conn.Invoke(ctx, path, in, new(allstarv1.AlertResponse))
	}
}

// token makes an API token with a role, in a part of the fleet if that is said.
func (r *running) token(t *testing.T, role, agent, namespace string) string {
	t.Helper()
	body := map[string]any{"kind": "api", "name": "ci", "role": role}
	if agent != "" {
		body["agents"], body["namespaces"] = []string{agent}, []string{namespace}
	}
	var made struct{ Token string }
	r.call(t, "POST", "/api/v1/tokens", body, http.StatusCreated, &made)
	return made.Token
}

func TestHub_receivesAlerts(t *testing.T) {
	cfg := config(t)
	alerts := sink(t, &cfg)
	h := start(t, cfg)
	request := &allstarv1.AlertRequest{OwnerName: "acme", RepoName: "site", PolicyName: "SECURITY.md", Details: "there is none"}
	for _, path := range []string{"/AlertSink/Alert", "/allstar.AlertSink/Alert", "/allstar.v1.AlertSink/Alert"} {
		if err := h.alerter(t, path, "")(request); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		got := <-alerts
		if o := got.Outcome; o.Subject.Owner != "acme" || o.Subject.Repo != "site" || o.Policy != "SECURITY.md" || o.Details != "there is none" || o.Pass || got.Hops != 1 {
			t.Errorf("%s: told %+v", path, got)
		}
	}

	// The same alert again is the same outcome, and one that goes in a circle ends.
	send := h.alerter(t, "/AlertSink/Alert", h.token(t, "operator", "", ""))
	for range 3 {
		if err := send(request, rpc.IDKey, "3f2a", rpc.HopsKey, "2"); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-alerts; got.Hops != 3 {
		t.Errorf("through %d hubs", got.Hops)
	}
	var list struct{ Items []struct{ Run string } }
	h.call(t, "GET", "/api/v1/alerts", nil, http.StatusOK, &list)
	if len(list.Items) != 4 {
		t.Errorf("%d alerts: %+v", len(list.Items), list)
	}

	limited := h.alerter(t, "/AlertSink/Alert", h.token(t, "operator", "east", "shop"))
	ours := &allstarv1.AlertRequest{OwnerName: "east/shop", RepoName: "web", PolicyName: "p", Pass: true}
	if err := limited(ours); err != nil {
		t.Error(err)
	}
	<-alerts
	for name, tc := range map[string]struct {
		err  error
		code codes.Code
		want string
	}{
		"without a credential": {h.alerter(t, "/AlertSink/Alert", "none")(request), codes.Unauthenticated, ""},
		"as a viewer":          {h.alerter(t, "/AlertSink/Alert", h.token(t, "viewer", "", ""))(request), codes.PermissionDenied, "operator"},
		"of another namespace": {limited(&allstarv1.AlertRequest{OwnerName: "east/bank", RepoName: "web", PolicyName: "p"}), codes.PermissionDenied, "east/bank"},
		"of a repository":      {limited(request), codes.PermissionDenied, "acme"},
		"an empty one":         {send(&allstarv1.AlertRequest{}), codes.InvalidArgument, "owner_name"},
		"without a policy":     {send(&allstarv1.AlertRequest{OwnerName: "a", RepoName: "b"}), codes.InvalidArgument, "policy_name"},
		"in a circle":          {send(request, rpc.HopsKey, "4"), codes.InvalidArgument, "circle"},
		"hops that are none":   {send(request, rpc.HopsKey, "x"), codes.InvalidArgument, rpc.HopsKey},
		"an endless id":        {send(request, rpc.IDKey, strings.Repeat("x", 257)), codes.InvalidArgument, "longer"},
		"over 4 MiB":           {send(&allstarv1.AlertRequest{OwnerName: "a", RepoName: "b", PolicyName: "c", Details: strings.Repeat("x", 5<<20)}), codes.ResourceExhausted, "larger"},
		"of another service":   {h.alerter(t, "/my.AlertSink/Alert", "")(request), codes.Unimplemented, ""},
	} {
		if status.Code(tc.err) != tc.code || !strings.Contains(status.Convert(tc.err).Message(), tc.want) {
			t.Errorf("%s: %v, want %s %q", name, tc.err, tc.code, tc.want)
		}
	}

	// What is too long for a receiver is cut, marked and told.
	if err := send(&allstarv1.AlertRequest{OwnerName: "a", RepoName: "b", PolicyName: "c", Details: strings.Repeat("é", 1<<20)}); err != nil {
		t.Fatal(err)
	}
	if got := <-alerts; len(got.Outcome.Details) > alert.MaxDetails || !strings.HasSuffix(got.Outcome.Details, "[cut: 2097152 bytes in all]") {
		t.Errorf("%d bytes of details", len(got.Outcome.Details))
	}
	resp := h.call(t, "POST", "/AlertSink/Alert", request, http.StatusUnsupportedMediaType, nil)
	if resp.ProtoMajor != 2 {
		t.Errorf("by %s", resp.Proto)
	}
}

// Nobody is told that an alert was taken which nobody hears of.
func TestHub_receivesNothingForNobody(t *testing.T) {
	cfg := config(t)
	cfg.Sinks = []hub.SinkConfig{{Name: "nobody", Type: "rpc", Endpoint: "localhost:1", Outcomes: "named"}}
	send := start(t, cfg).alerter(t, "/AlertSink/Alert", "")
	if err := send(&allstarv1.AlertRequest{OwnerName: "a", RepoName: "b", PolicyName: "c"}); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
}

// A full outbox takes nothing, and says so.
func TestHub_receivesNothingWhileFull(t *testing.T) {
	cfg := config(t)
	cfg.Alerts.MaxPending = 2
	cfg.Sinks = []hub.SinkConfig{{Name: "nobody", Type: "rpc", Endpoint: "localhost:1"}}
	h := start(t, cfg)
	send := h.alerter(t, "/AlertSink/Alert", "")
	for n := range 3 {
		err := send(&allstarv1.AlertRequest{OwnerName: "a", RepoName: fmt.Sprint(n), PolicyName: "c"})
		if n < 2 && err != nil || n == 2 && status.Code(err) != codes.ResourceExhausted {
			t.Errorf("the %dth: %v", n+1, err)
		}
	}
	var sinks struct{ Items []struct{ Pending int } }
	h.call(t, "GET", "/api/v1/sinks", nil, http.StatusOK, &sinks)
	if len(sinks.Items) != 1 || sinks.Items[0].Pending != 2 {
		t.Errorf("%+v", sinks)
	}
}

// Outcomes go out as signed webhooks, and to a channel that people read, which
// is told of changes alone, as one message, and not while it's silenced.
func TestHub_webhookAndSlack(t *testing.T) {
	type post struct {
		path   string
		header http.Header
		body   []byte
	}
	hooks, slack := make(chan post, 16), make(chan string, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/slack-secret" {
			var m struct{ Text string }
			if err := json.Unmarshal(body, &m); err != nil {
				t.Error(err)
			}
			slack <- m.Text
			return
		}
		hooks <- post{r.URL.Path, r.Header, body}
	}))
	defer receiver.Close()
	cfg := config(t)
	secret := filepath.Join(t.TempDir(), "slack")
	write(t, secret, receiver.URL+"/slack-secret\n")
	cfg.Sinks = []hub.SinkConfig{
		{Name: "hook", Type: "webhook", Endpoint: receiver.URL + "/hook"},
		{Name: "team", Type: "slack", EndpointFile: secret, Outcomes: "all", Group: time.Millisecond},
		{Name: "log", Type: "log"},
	}
	h := start(t, cfg)
	var keys json.RawMessage
	h.call(t, "GET", "/api/v1/alert-keys", nil, http.StatusOK, &keys)
	known, err := verify.ParseKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	send := h.alerter(t, "/AlertSink/Alert", "")
	n := 0
	tell := func(repo string, pass bool) {
		t.Helper()
		n++
		if err := send(&allstarv1.AlertRequest{OwnerName: "acme", RepoName: repo, PolicyName: "p", Pass: pass, Details: "<!channel> *look*"}); err != nil {
			t.Fatal(err)
		}
		got := <-hooks
		said, err := verify.Verifier{Keys: known, Audience: "hook"}.Webhook(got.header, got.body)
		if err != nil || said.ID != got.header.Get("webhook-id") {
			t.Errorf("signature: %+v, %v", said, err)
		}
		if _, err := (verify.Verifier{Keys: known, Audience: "another"}).Webhook(got.header, got.body); !errors.Is(err, verify.ErrOther) {
			t.Errorf("another receiver takes it for its own: %v", err)
		}
		var body struct {
			Type string
			Data struct {
				Owner, Repo, Policy string
				Pass                bool
				Seq                 int64
			}
		}
		if err := json.Unmarshal(got.body, &body); err != nil || body.Data.Repo != repo || body.Data.Pass != pass || body.Type != map[bool]string{true: "check.passed", false: "check.failed"}[pass] {
			t.Errorf("body %s, %v", got.body, err)
		}
	}
	tell("site", true) // no news
	tell("site", false)
	text := <-slack
	if !strings.Contains(text, "acme/site* fails p") || strings.Contains(text, "<!channel>") || strings.Contains(text, "*look*") || !strings.Contains(text, h.URL()+"/alerts") {
		t.Errorf("told %q", text)
	}
	tell("site", false) // the same again
	var silence struct{ ID string }
	h.call(t, "POST", "/api/v1/silences", map[string]any{"owner": "acme", "until": time.Now().Add(time.Hour), "comment": "moving"}, http.StatusCreated, &silence)
	tell("site", true)
	for { // until it is held back
		var list struct{ Items []struct{ LastError string } }
		h.call(t, "GET", "/api/v1/alerts?sink=team&state=pending", nil, http.StatusOK, &list)
		if len(list.Items) == 1 && strings.Contains(list.Items[0].LastError, "moving") {
			break
		}
	}
	h.call(t, "DELETE", "/api/v1/silences/"+silence.ID, nil, http.StatusNoContent, nil)
	if text := <-slack; !strings.Contains(text, "acme/site* passes p again") {
		t.Errorf("told %q", text)
	}
	if len(slack) > 0 {
		t.Errorf("told besides: %q", <-slack)
	}
}

// What the sinks' configuration has wrong is named, without its secrets.
func TestSinkConfig(t *testing.T) {
	good := hub.SinkConfig{Name: "x", Type: "rpc", Endpoint: "sink.example.com:443"}
	with := func(change func(*hub.SinkConfig)) hub.SinkConfig { c := good; change(&c); return c }
	hook := hub.SinkConfig{Name: "x", Type: "webhook", Endpoint: "https://h/x"}
	for want, c := range map[string]hub.SinkConfig{
		"name":             with(func(c *hub.SinkConfig) { c.Name = "A B" }),
		"type":             with(func(c *hub.SinkConfig) { c.Type = "carrier-pigeon" }),
		"endpoint":         with(func(c *hub.SinkConfig) { c.Endpoint = "sink" }),
		"endpointFile":     with(func(c *hub.SinkConfig) { c.EndpointFile = "f" }),
		"certFile":         with(func(c *hub.SinkConfig) { c.CertFile = "f" }),
		"path":             with(func(c *hub.SinkConfig) { c.Path = "x" }),
		"plaintext":        with(func(c *hub.SinkConfig) { c.Plaintext = true }),
		"secretFile":       with(func(c *hub.SinkConfig) { c.SecretFile = "f" }),
		"topic":            with(func(c *hub.SinkConfig) { c.Topic = "t" }),
		"tokenFile":        with(func(c *hub.SinkConfig) { c.TokenFile, c.Credential.Type = "f", "google" }),
		"credential.type":  with(func(c *hub.SinkConfig) { c.Credential.Type = "kerberos" }),
		"credential.file":  with(func(c *hub.SinkConfig) { c.Credential.Type = "jwt-file" }),
		"outcomes":         with(func(c *hub.SinkConfig) { c.Outcomes = "some" }),
		"concurrency":      with(func(c *hub.SinkConfig) { c.Concurrency = -1 }),
		"rate":             with(func(c *hub.SinkConfig) { c.Rate = -1 }),
		"remind":           with(func(c *hub.SinkConfig) { c.Remind = time.Hour }),
		"audience":         func() hub.SinkConfig { c := hook; c.Type, c.Audience = "slack", "a"; return c }(),
		"group":            func() hub.SinkConfig { c := hook; c.Type, c.Group = "slack", 2*time.Hour; return c }(),
		"credential":       func() hub.SinkConfig { c := hook; c.Type, c.TokenFile = "slack", "f"; return c }(),
		"secretFile and s": func() hub.SinkConfig { c := hook; c.SecretFile, c.SecretEnv = "f", "e"; return c }(),
		"endpoint: it":     {Name: "x", Type: "webhook", Endpoint: "https://u:hush@h/"},
		"caFile":           {Name: "x", Type: "log", CAFile: "f"},
	} {
		cfg := config(t)
		cfg.Sinks = []hub.SinkConfig{c}
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "sinks[0]."+want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v; want an error of sinks[0].%s", err, want)
		}
	}
	for want, change := range map[string]func(*hub.AlertConfig){
		"alerts.maxPending ":     func(c *hub.AlertConfig) { c.MaxPending = -1 },
		"alerts.maxPendingBytes": func(c *hub.AlertConfig) { c.MaxPendingBytes = -1 },
		"alerts.maxAge":          func(c *hub.AlertConfig) { c.MaxAge = time.Second },
		"alerts.endpoints":       func(c *hub.AlertConfig) { c.Endpoints = rpc.Endpoints{"*"} },
	} {
		cfg := config(t)
		change(&cfg.Alerts)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want an error of %s", err, want)
		}
	}
}

// While the outbox is full a scan's result stays with its agent, and is taken
// once there is room.
func TestHub_keepsResultsAtAgentsWhileFull(t *testing.T) {
	cfg := config(t)
	cfg.Alerts.MaxPending = 1
	cfg.Sinks = []hub.SinkConfig{{Name: "nobody", Type: "rpc", Endpoint: "localhost:1"}}
	h := start(t, cfg)
	a, _ := h.linked(t)
	send := func() (scanAnswer, func() error) {
		t.Helper()
		var asked scanAnswer
		h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &asked)
		job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
		if err != nil || job == nil {
			t.Fatalf("leased %+v, %v", job, err)
		}
		return asked, func() error { return a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Failed)) }
	}
	_, first := send()
	if err := first(); err != nil {
		t.Fatal(err)
	}
	second, again := send()
	if err := again(); err == nil || spool.IsPermanent(err) {
		t.Errorf("taken, or given up: %v", err)
	}
	var now struct{ Status string }
	h.call(t, "GET", "/api/v1/scans/"+second.ID, nil, http.StatusOK, &now)
	if now.Status != "running" {
		t.Errorf("it is %s", now.Status)
	}
	var list struct{ Items []struct{ ID string } }
	h.call(t, "GET", "/api/v1/alerts", nil, http.StatusOK, &list)
	h.call(t, "POST", "/api/v1/alerts/"+list.Items[0].ID+"/skip", nil, http.StatusOK, nil)
	if err := again(); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	var run struct{ Complete bool }
	h.call(t, "GET", "/api/v1/alert-runs/"+second.ID, nil, http.StatusOK, &run)
	if !run.Complete {
		t.Error("the run isn't complete")
	}
}
