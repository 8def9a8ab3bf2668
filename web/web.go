// Package web is the hub's page, for a person in a browser: fleet, targets,
// scans, policies, insights, alerts, profiles, services, audit and people.
//
// The page is a client of the REST API like any other. Each view asks the API,
// in process and with the credential of its own request, for what it shows; so
// who may see what, and what a filter means, is decided in one place, the API.
// What changes something is a JSON call that the browser makes to the API
// itself, which refuses calls that another site starts.
//
// Views are made by html/template on the hub and can be read without
// JavaScript. A view's filter and place are in its URL. One small script keeps
// what is marked data-live up to date, by asking for the same view again,
// follows a running scan by its events, fetches what a control says when it is
// opened, and sends forms; another plays recordings of terminals. Nothing is asked
// of any other host, and the Content-Security-Policy allows no inline script or
// style; all that agents and targets say is text.
package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/internal/compress"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
)

//go:embed static
var static embed.FS

//go:embed templates
var templates embed.FS

// contentPolicy allows what this package serves, and nothing else.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Config is what the page works with. All of it is needed.
type Config struct {
	// API serves /api/v1.
	API http.Handler
	// LoginBy names the issuer by which people log in, at api.LoginPath; empty:
	// there is none.
	LoginBy string
	Version string
	Logger  *slog.Logger
}

// Handler serves the page at /. Everything is for callers that the API knows,
// but for the script, the style, the API's description and how to log in.
func Handler(cfg Config) http.Handler {
	h := &handler{cfg: cfg, views: map[string]*template.Template{}, assets: map[string]string{}, csrf: http.NewCrossOriginProtection()}
	mux := http.NewServeMux()
	h.serveAssets(mux)
	h.parse()
	mux.Handle("GET /{$}", h.view(h.fleet))
	mux.Handle("GET /scans", h.view(h.scans))
	mux.Handle("GET /scans/{id}", h.view(h.scan))
	mux.Handle("GET /scans/{id}/controls/{n}", h.view(h.control))
	mux.Handle("GET /scans/{id}/texts", h.texts())
	mux.Handle("GET /scans/{id}/compare", h.view(h.compare))
	mux.Handle("POST /results", h.given(h.file))
	mux.Handle("GET /schedules", h.view(h.schedules))
	mux.Handle("GET /schedules/{name}", h.view(h.schedule))
	mux.Handle("GET /events", h.view(h.events))
	mux.Handle("GET /events/{id}", h.view(h.event))
	mux.Handle("GET /targets", h.view(h.targets))
	mux.Handle("GET /targets/history", h.view(h.history))
	mux.Handle("GET /policies", h.view(h.policies))
	mux.Handle("GET /policies/{name}", h.view(h.policy))
	mux.Handle("GET /github", h.view(h.github))
	mux.Handle("GET /insights", h.view(h.insights))
	mux.Handle("GET /insights/runs", h.view(h.runs))
	mux.Handle("GET /insights/diff", h.view(h.diff))
	mux.Handle("GET /insights/new", h.view(h.fresh))
	mux.Handle("GET /insights/vex", h.view(h.vex))
	mux.Handle("GET /insights/exports", h.view(h.exports))
	mux.Handle("GET /alerts", h.view(h.alerts))
	mux.Handle("GET /alerts/runs", h.view(h.alertRuns))
	mux.Handle("GET /profiles", h.view(h.profiles))
	mux.Handle("GET /profiles/{name}", h.view(h.profile))
	mux.Handle("GET /thresholds/{name}", h.view(h.threshold))
	mux.Handle("POST /thresholds/try", h.given(h.try))
	mux.Handle("GET /services", h.view(h.services))
	mux.Handle("GET /audit", h.view(h.audit))
	mux.Handle("GET /audit/recordings", h.view(h.recordings))
	mux.Handle("GET /audit/recordings/{id}", h.view(h.recording))
	mux.Handle("GET /people", h.view(h.people))
	mux.Handle("GET /docs", h.docs())
	mux.Handle("/", h.view(func(*request) (*page, error) {
		return nil, &problem{Status: http.StatusNotFound, Title: "Not Found", Detail: "There is no such page."}
	}))
	return compress.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", contentPolicy)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		mux.ServeHTTP(w, r)
	}))
}

type handler struct {
	cfg     Config
	views   map[string]*template.Template
	assets  map[string]string // path by file name
	results resultCache
	csrf    *http.CrossOriginProtection
}

// serveAssets serves the embedded files under names that change with their
// content, so that browsers may keep them for good.
func (h *handler) serveAssets(mux *http.ServeMux) {
	files, err := static.ReadDir("static")
	if err != nil {
		panic(err) // embedded
	}
	for _, f := range files {
		content, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		ext := path.Ext(f.Name())
		p := "/assets/" + strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(sum[:8]) + ext
		h.assets[f.Name()] = p
		mux.HandleFunc("GET "+p, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", mime.TypeByExtension(ext))
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		})
	}
}

// parse makes one template of the layout, the shared parts and each view.
func (h *handler) parse() {
	base := template.Must(template.New("layout.html").Funcs(h.funcs()).ParseFS(templates, "templates/layout.html", "templates/parts.html"))
	files, err := templates.ReadDir("templates")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".html")
		h.views[name] = template.Must(template.Must(base.Clone()).ParseFS(templates, "templates/"+f.Name()))
	}
}

// page is one view's answer. View names its template.
type page struct {
	View, Title string
	Status      int // 200 if zero
	Caller      *api.Caller
	Version     string
	Path        string
	Data        any
	// Part names the template that the script is answered with, if it asks
	// for a part alone.
	Part string
}

// Scanner, Operator and Admin tell what the caller may do.
func (p *page) Scanner() bool  { return p.allows(pki.Scanner) }
func (p *page) Operator() bool { return p.allows(pki.Operator) }
func (p *page) Admin() bool    { return p.allows(pki.Admin) }

func (p *page) allows(role pki.Role) bool { return p.Caller != nil && p.Caller.Role.Allows(role) }

// view answers with what make made, or with a page that says why not.
func (h *handler) view(build func(*request) (*page, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := &request{Request: r, api: h.cfg.API}
		p, err := (*page)(nil), req.get("/whoami", nil, &req.caller)
		if err == nil {
			p, err = build(req)
		}
		if err != nil {
			p = h.failed(req, err)
		}
		h.show(w, r, p, req.caller)
	})
}

// given is a view of something that the browser sends: nothing of it is kept.
func (h *handler) given(build func(*request) (*page, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.csrf.Check(r); err != nil {
			http.Error(w, "Another site asked for this.", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxFile)
		h.view(build).ServeHTTP(w, r)
	})
}

// show answers with a page.
func (h *handler) show(w http.ResponseWriter, r *http.Request, p *page, caller *api.Caller) {
	p.Caller, p.Version, p.Path = caller, h.cfg.Version, r.URL.Path
	var text bytes.Buffer
	name := "layout.html"
	if r.Header.Get(partHeader) != "" {
		name = cmp.Or(p.Part, name)
	}
	if err := h.views[p.View].ExecuteTemplate(&text, name, p); err != nil {
		h.cfg.Logger.ErrorContext(r.Context(), "make a page", "view", p.View, "error", err)
		http.Error(w, "The hub couldn't make this page; its log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if p.Status != 0 {
		w.WriteHeader(p.Status)
	}
	w.Write(text.Bytes())
}

// failed is the page that says what went wrong and what to do.
func (h *handler) failed(r *request, err error) *page {
	var p *problem
	if !errors.As(err, &p) {
		h.cfg.Logger.ErrorContext(r.Context(), "make a page", "path", r.URL.Path, "error", err)
		p = &problem{Status: http.StatusInternalServerError, Title: "Internal Server Error", Detail: "The hub couldn't do it; its log says why."}
	}
	if p.Status == http.StatusUnauthorized {
		had := r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != ""
		return &page{View: "login", Title: "Log in", Status: p.Status, Part: "problem", Data: map[string]any{
			"Had": had, "Host": r.Host, "By": h.cfg.LoginBy, "Login": api.LoginPath + "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode(),
		}}
	}
	return &page{View: "problem", Title: p.Title, Status: p.Status, Data: p, Part: "problem"}
}

func (h *handler) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":    func(name string) string { return h.assets[name] },
		"ago":      ago,
		"target":   targetText,
		"safeURL":  safeURL,
		"scanPath": scanPath,
		"tags":     tags,
		"waiver":   waiver,
		"bytes":    bytesText,
		"chart":    chart,
		"history":  historyPath,
		"schedule": schedulePath,
		"join":     strings.Join,
		"minus":    minus,
		"bys":      bys,
		"ages":     ageTitles,
		"matrix":   func(p []api.Problem) []problemCounts { return matrix(p, time.Now()) },
		"without":  without,
		// annotated: whether a namespace's own annotation says o.
		"annotated": func(o api.PolicyOverride) bool { return o.By == policy.ByAnnotation },
		"day":       dayText,
		"words":     func(s any) string { return strings.ReplaceAll(fmt.Sprint(s), "_", " ") },
		"dict":      dict,
		// under: whether p is beneath one of the folders, which spaces part.
		"under": func(p, dirs string) bool {
			return slices.ContainsFunc(strings.Fields(dirs), func(dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") })
		},
	}
}

// dict makes a map of names and values, to give a template more than one.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: a name has no value")
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m, nil
}
