package dtrack_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/dtrack"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

const apiKey = "odt_secret"

// track answers as Dependency-Track does (BomResource of 4.13 and later).
type track struct {
	mu       sync.Mutex
	answers  []answer          // the next ones; then it takes all
	projects map[string]string // guarded by mu; SBOMs by project and version
	tags     []string
	calls    int
}

type answer struct {
	code   int
	header http.Header
	body   string
}

func (d *track) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	switch {
	case r.URL.Path != "/api/v1/bom" || r.Method != http.MethodPost:
		http.NotFound(w, r)
		return
	case r.Header.Get("X-Api-Key") != apiKey:
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if len(d.answers) > 0 {
		a := d.answers[0]
		d.answers = d.answers[1:]
		for name := range a.header {
			w.Header().Set(name, a.header.Get(name))
		}
		w.WriteHeader(a.code)
		io.WriteString(w, a.body)
		return
	}
	if err := r.ParseMultipartForm(1 << 20); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := r.FormValue("projectName") + "@" + r.FormValue("projectVersion")
	if _, known := d.projects[name]; !known && r.FormValue("autoCreate") != "true" {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "The project could not be found.")
		return
	}
	f, h, err := r.FormFile("bom")
	if err != nil {
		http.Error(w, "No BOM file provided.", http.StatusBadRequest)
		return
	}
	text, err := io.ReadAll(f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.projects[name] = h.Header.Get("Content-Type") + " " + string(text)
	d.tags = append(d.tags, r.FormValue("projectTags"))
	json.NewEncoder(w).Encode(map[string]string{"token": "0196", "projectUuid": "0197"})
}

func start(t *testing.T, change func(*dtrack.Config), answers ...answer) (*track, *dtrack.Client) {
	t.Helper()
	d := &track{projects: map[string]string{}, answers: answers}
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	cfg := dtrack.Config{URL: srv.URL + "/", APIKeyFile: file(t, apiKey+"\n")}
	if change != nil {
		change(&cfg)
	}
	c, err := dtrack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return d, c
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var shop = insight.Environment{Namespace: "shop-main", Project: "shop", Name: "main"}

func TestClient_Destination(t *testing.T) {
	_, c := start(t, nil)
	_, own := start(t, func(c *dtrack.Config) {
		c.Project, c.Version = `{{if eq .Namespace "shop-main"}}{{.Agent}} {{.Service}}{{end}}`, "{{.Build}}"
	})
	long := strings.Repeat("ä", 200)
	for _, tc := range []struct {
		by   *dtrack.Client
		env  insight.Environment
		want *insight.Destination
	}{
		{c, shop, &insight.Destination{Project: "shop/nginx", Version: "main"}},
		{c, insight.Environment{Namespace: "plain"}, &insight.Destination{Project: "plain/nginx", Version: "edge"}},
		{c, insight.Environment{Project: long}, &insight.Destination{Project: strings.Repeat("ä", 127), Version: "edge"}},
		{own, shop, &insight.Destination{Project: "edge nginx", Version: "b1"}},
		{own, insight.Environment{Namespace: "plain"}, nil},
	} {
		got, err := tc.by.Destination("edge", tc.env, "nginx", "b1")
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%+v: %v: %s", tc.env, err, diff)
		}
	}
}

func TestClient_Send(t *testing.T) {
	send := func(c *dtrack.Client, sbom string) error {
		e := insight.Export{Destination: insight.Destination{Project: "shop/nginx", Version: "main"}, Cluster: "edge", Environment: shop}
		return c.Send(t.Context(), e, strings.NewReader(sbom))
	}
	const xml = `<?xml version="1.0"?><bom xmlns="http://cyclonedx.org/schema/bom/1.5"/>`
	large := `{"bomFormat":"CycloneDX"` + strings.Repeat(" ", 1<<20) + "}"
	for sbom, media := range map[string]string{`{"bomFormat":"CycloneDX"}`: "application/json", large: "application/json", xml: "application/xml", "": "application/json"} {
		d, c := start(t, nil)
		if err := send(c, sbom); err != nil {
			t.Fatal(err)
		}
		if got := d.projects["shop/nginx@main"]; got != media+" "+sbom {
			t.Errorf("%.50q arrived as %.80q", sbom, got)
		}
		if diff := cmp.Diff([]string{"agent:edge,namespace:shop-main"}, d.tags); diff != "" {
			t.Error(diff)
		}
	}

	const refused, later = "refused", "later"
	for name, tc := range map[string]struct {
		change func(*dtrack.Config)
		answer answer
		want   string
		says   string
		after  time.Duration
	}{
		"invalid": {
			nil,
			answer{400, http.Header{"Content-Type": {"application/problem+json"}}, `{"status":400,"title":"The uploaded BOM is invalid","detail":"Schema validation failed","errors":["$.components[0].type: is missing"]}`},
			refused, "The uploaded BOM is invalid: Schema validation failed; $.components[0].type: is missing", 0,
		},
		"no such project":   {func(c *dtrack.Config) { c.ExistingOnly = true }, answer{}, refused, "The project could not be found.", 0},
		"too large":         {nil, answer{code: 413}, refused, "413", 0},
		"the wrong address": {nil, answer{404, nil, "<html>not here</html>"}, later, "404 Not Found", 0},
		"no API":            {nil, answer{200, nil, "<html>welcome</html>"}, later, "is the URL that of its API server?", 0},
		"no permission":     {nil, answer{403, nil, `{"title":"Forbidden","detail":"no access"}`}, later, "lacks BOM_UPLOAD", 0},
		"another key":       {func(c *dtrack.Config) { c.APIKeyFile = file(t, "other") }, answer{}, later, "the API key isn't known", 0},
		"busy":              {nil, answer{429, http.Header{"Retry-After": {"90"}}, ""}, later, "429", 90 * time.Second},
		"busy for years":    {nil, answer{503, http.Header{"Retry-After": {"99999999"}}, ""}, later, "503", time.Hour},
		"made by another":   {nil, answer{409, nil, "A project with the specified name and version already exists."}, later, "already exists", 0},
		"redirects":         {nil, answer{302, http.Header{"Location": {"https://example.org/"}}, ""}, later, "which isn't followed", 0},
		"an endless answer": {nil, answer{500, nil, strings.Repeat("x", 1<<20)}, later, "xxx…", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var answers []answer
			if tc.answer.code != 0 {
				answers = []answer{tc.answer}
			}
			_, c := start(t, tc.change, answers...)
			err := send(c, `{}`)
			var no *insight.RefusedError
			var wait *insight.LaterError
			got := "sent"
			if errors.As(err, &no) {
				got = refused
			}
			if errors.As(err, &wait) {
				got = later
				if wait.After != tc.after {
					t.Errorf("after %v, want %v", wait.After, tc.after)
				}
			}
			if got != tc.want || !strings.Contains(fmt.Sprint(err), tc.says) || strings.Contains(fmt.Sprint(err), apiKey) {
				t.Errorf("%s: %v; want %s: %s", got, err, tc.want, tc.says)
			}
		})
	}

	t.Run("down", func(t *testing.T) {
		srv := httptest.NewServer(nil)
		srv.Close()
		_, c := start(t, func(c *dtrack.Config) { c.URL = srv.URL })
		var wait *insight.LaterError
		if err := send(c, "{}"); !errors.As(err, &wait) {
			t.Errorf("%v", err)
		}
	})
	t.Run("by a certificate", func(t *testing.T) {
		d := &track{projects: map[string]string{}}
		srv := httptest.NewTLSServer(d)
		defer srv.Close()
		ca := file(t, string(pemOf(srv)))
		_, c := start(t, func(c *dtrack.Config) { c.URL, c.CAFile = srv.URL, ca })
		if err := send(c, "{}"); err != nil {
			t.Error(err)
		}
	})
}

func TestConfig_Validate(t *testing.T) {
	good := dtrack.Config{URL: "https://dtrack.example.org", APIKeyFile: "/key"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*dtrack.Config){
		"url: must be https":            func(c *dtrack.Config) { c.URL = "dtrack" },
		"url: must be https://HOST[":    func(c *dtrack.Config) { c.URL = "ftp://dtrack" },
		"without a user":                func(c *dtrack.Config) { c.URL = "https://user:secret@dtrack" },
		"in the clear":                  func(c *dtrack.Config) { c.URL = "http://dtrack" },
		"apiKeyFile: is missing":        func(c *dtrack.Config) { c.APIKeyFile = "" },
		"project: template":             func(c *dtrack.Config) { c.Project = "{{.Names}}" },
		"version: template: version:1:": func(c *dtrack.Config) { c.Version = "{{" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, change := range map[string]func(*dtrack.Config){
		"apiKeyFile":            func(c *dtrack.Config) { c.APIKeyFile = filepath.Join(t.TempDir(), "none") },
		"must hold one line":    func(c *dtrack.Config) { c.APIKeyFile = file(t, " \n") },
		"caFile":                func(c *dtrack.Config) { c.CAFile = filepath.Join(t.TempDir(), "none") },
		"has no certificate in": func(c *dtrack.Config) { c.CAFile = file(t, "x") },
	} {
		c := good
		c.APIKeyFile = file(t, apiKey)
		change(&c)
		if _, err := dtrack.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What a hub stores arrives in Dependency-Track, through its failures and the
// hub's.
func TestExporter(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "reeve.db")
	d, c := start(t, nil, answer{400, nil, "no BOM"})
	for _, id := range []string{"1", "2", "3"} { // the hub ends after each
		db, err := sqlite.Open(t.Context(), path, log)
		if err != nil {
			t.Fatal(err)
		}
		service := insight.NewService(db, insight.Limits{}, log)
		service.ExportTo(func(it insight.Item, doc insight.Document) (*insight.Destination, error) {
			return c.Destination(it.Cluster, it.Environment, doc.Service, doc.Build)
		})
		err = service.Accept(t.Context(), insight.Item{
			ID: insight.ItemID(id), Cluster: "edge", Environment: shop,
			Content: insight.Document{Kind: insight.KindSBOM, Service: "svc-" + id, Data: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5"}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sqlite.Open(t.Context(), path, log)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	ended := make(chan insight.ExportState, 10)
	x := insight.Exporter{Store: told{db, ended}, Send: c.Send, Holder: "hub", Logger: log}
	go func() { defer close(done); x.Run(ctx) }()
	for range 3 {
		<-ended
	}
	stop()
	<-done
	if len(d.projects) != 2 || d.calls != 3 {
		t.Errorf("%d calls; projects %v", d.calls, d.projects)
	}
	refused, err := db.Exports(t.Context(), insight.Query{}, insight.ExportRefused)
	if err != nil || len(refused) != 1 || !strings.Contains(refused[0].Reason, "no BOM") {
		t.Errorf("refused: %+v, %v", refused, err)
	}
}

// told is a store that tells how each attempt ended.
type told struct {
	*store.Store
	ended chan<- insight.ExportState
}

func (s told) PutExport(ctx context.Context, e insight.Export) error {
	err := s.Store.PutExport(ctx, e)
	s.ended <- e.State
	return err
}

// memory is a store of exports for tests of time.
type memory struct {
	mu    sync.Mutex
	list  map[insight.Destination]insight.Export // guarded by mu
	mine  bool                                   // guarded by mu
	queue chan struct{}
}

func (m *memory) DueExports(_ context.Context, now time.Time, _ int) (out []insight.Export, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.list {
		if e.State == insight.ExportWaiting && !e.Next.After(now) {
			out = append(out, e)
		}
	}
	return out, nil
}

func (m *memory) PutExport(_ context.Context, e insight.Export) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list[e.Destination] = e
	return nil
}

func (m *memory) ExportsQueued() <-chan struct{} { return m.queue }

func (m *memory) TakeDuty(context.Context, string, string, time.Time, time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mine, nil
}

func (m *memory) Document(string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("{}")), nil
}

// While Dependency-Track is down it is asked less and less often; what waits is
// tried until it is up.
func TestExporter_pauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{mine: true, list: map[insight.Destination]insight.Export{}, queue: make(chan struct{})}
		for i := range 100 {
			to := insight.Destination{Project: fmt.Sprint(i)}
			m.list[to] = insight.Export{Destination: to, State: insight.ExportWaiting}
		}
		calls, up := 0, false
		var mu sync.Mutex
		x := insight.Exporter{Store: m, Holder: "hub", Logger: slog.New(slog.DiscardHandler), Send: func(context.Context, insight.Export, io.Reader) error {
			mu.Lock()
			defer mu.Unlock()
			calls++
			if !up {
				return &insight.LaterError{Err: errors.New("down")}
			}
			return nil
		}}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go x.Run(ctx)
		time.Sleep(24 * time.Hour) // of the bubble's clock
		mu.Lock()
		if calls > 2000 || calls < 100 {
			t.Errorf("asked %d times in a day", calls)
		}
		up = true
		mu.Unlock()
		time.Sleep(time.Hour)
		m.mu.Lock()
		for _, e := range m.list {
			if e.State != insight.ExportSent {
				t.Errorf("%+v", e)
			}
		}
		m.mine = false
		m.mu.Unlock()
		to := insight.Destination{Project: "of another replica"}
		m.PutExport(ctx, insight.Export{Destination: to, State: insight.ExportWaiting})
		time.Sleep(time.Hour)
		stop()
		synctest.Wait()
		if m.list[to].State != insight.ExportWaiting {
			t.Error("sent by a replica whose duty it isn't")
		}
	})
}

func pemOf(srv *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}
