package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/alert/webhook"
	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/event"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/internal/compress"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/scan"
)

const prefix = "/api/v1"

// Paths are what an API is to be mounted at, as patterns of http.ServeMux.
var Paths = []string{"/api/", "/openapi.json", "/openapi.yaml", "/openapi-3.0.json", "/openapi-3.0.yaml", "/login", LoginPath, LoginCallback}

// Config is what the API works with. All of it is needed, unless it says
// otherwise.
type Config struct {
	Scans     *scan.Queue
	Catalogue *scan.Catalogue
	Fleet     Fleet
	Tokens    pki.TokenStore
	// Revocations is where the CA's deny list is kept.
	Revocations pki.RevocationStore
	CA          *pki.CA
	// Issuer vouches for more callers; nil: none does.
	Issuer Issuer
	// Services are the hub's own, those of fleet.HubAgent.
	Services []fleet.Service
	Peers    *pki.Peers
	Insights Insights
	// Quarantine is of messages of agents.
	Quarantine Quarantine
	Events     *event.Service
	Schedules  *scan.Schedules
	Outbox     alert.Outbox
	// Policies are the hub's, and PolicyStore knows what they came to.
	Policies    Policies
	PolicyStore PolicyStore
	// GitHub tells of the organisations whose repositories are checked; nil: none
	// are.
	GitHub    func(ctx context.Context) ([]github.Status, error)
	Alerts    Alerting
	Callbacks webhook.Config
	// Deriver makes key facts of the documents that are stored.
	Deriver Deriver
	// Exporter sends SBOMs elsewhere.
	Exporter Exporter
	// PublicURL is where callers reach this API, ServicesURL where they
	// reach forwarded services; neither ends in a slash.
	PublicURL, ServicesURL string
	Version                string
	Logger                 *slog.Logger
	// Audit is told of each call that changes something or is refused; nil:
	// nobody is.
	Audit func(audit.Record)
	// Records is the audit log, and Recordings that of terminals.
	Records    audit.Store
	Recordings audit.RecordingStore
}

// API serves /api/v1, /openapi.json and /login.
type API struct {
	cfg  Config
	huma huma.API
	mux  *http.ServeMux
	all  http.Handler // what ServeHTTP serves
	csrf *http.CrossOriginProtection

	converting chan struct{} // has room for as many as may convert results
	postures   postures
}

// New makes the API.
func New(cfg Config) *API {
	a := &API{cfg: cfg, mux: http.NewServeMux(), csrf: http.NewCrossOriginProtection(), converting: make(chan struct{}, converters)}
	if cfg.Audit == nil {
		a.cfg.Audit = func(audit.Record) {}
	}
	hc := huma.DefaultConfig("Reeve", cfg.Version)
	hc.Info.Description = "Scans, fleet, insights and alerts of one Reeve hub."
	hc.DocsPath, hc.SchemasPath = "", ""
	hc.CreateHooks = nil // no $schema members
	hc.RejectUnknownQueryParameters = true
	hc.Transformers = []huma.Transformer{toProblem}
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", Description: "An API token, reeve_…; or an ID token of the hub's issuer"},
		"session":     {Type: "apiKey", In: "cookie", Name: sessionCookie, Description: "From a one-time login link"},
		"grant":       {Type: "http", Scheme: "bearer", Description: "A grant, from POST /credentials/service"},
		"certificate": {Type: "mutualTLS", Description: "A client certificate with the purpose control or user"},
	}
	hc.Security = []map[string][]string{{"token": {}}, {"session": {}}, {"certificate": {}}}
	a.huma = humago.New(a.mux, hc)
	a.huma.UseMiddleware(a.authorize)
	a.scans()
	a.history()
	a.catalogue()
	a.occurrences()
	a.schedules()
	a.fleet()
	a.tokens()
	a.credentials()
	a.renewal()
	a.revocations()
	a.birger()
	a.insights()
	a.running()
	a.vulnerabilities()
	a.differences()
	a.transforms()
	a.exports()
	a.quarantine()
	a.policies()
	a.github()
	a.alerts()
	a.alerting()
	a.auditLog()
	a.sessions()
	a.issuerLogin()
	describeProblems(a.huma.OpenAPI().Components.Schemas.Map())
	a.all = compress.Handler(http.HandlerFunc(a.serve))
	return a
}

// OpenAPI is the description of the API, as JSON.
func (a *API) OpenAPI() ([]byte, error) { return a.huma.OpenAPI().MarshalJSON() }

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.all.ServeHTTP(w, r) }

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	h, pattern := a.mux.Handler(r)
	if pattern != "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	// The mux itself answers in plain text: no such path, or another method.
	var answer onlyStatus
	h.ServeHTTP(&answer, r)
	if allow := answer.Header().Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
	}
	detail := "there is nothing at this path; /openapi.json lists what there is"
	if answer.status == http.StatusMethodNotAllowed {
		detail = "this path doesn't take " + r.Method
	}
	writeProblem(w, answer.status, detail)
}

// onlyStatus keeps an answer's status and header and drops its body.
type onlyStatus struct {
	status int
	header http.Header
}

func (o *onlyStatus) Header() http.Header {
	if o.header == nil {
		o.header = http.Header{}
	}
	return o.header
}
func (o *onlyStatus) WriteHeader(status int)      { o.status = status }
func (o *onlyStatus) Write(p []byte) (int, error) { return len(p), nil }

// operation describes an operation under /api/v1 that callers may call who have
// the role in the whole fleet; see also within.
func operation(role pki.Role, method, path, id, summary string, errs ...int) huma.Operation {
	return huma.Operation{
		OperationID: id,
		Method:      method,
		Path:        prefix + path,
		Summary:     summary,
		Description: "Needs the role " + string(role) + " in the whole fleet.",
		Tags:        []string{strings.Split(strings.TrimPrefix(path, "/"), "/")[0]},
		Metadata:    map[string]any{"role": role},
		Errors:      append(errs, http.StatusUnauthorized, http.StatusForbidden),
	}
}

// within is op for callers, too, who have its role in a part of the fleet. The
// handler sees to it that they reach nothing beyond: see reach and seen.
func within(op huma.Operation) huma.Operation {
	op.Metadata["within"] = true
	op.Description = strings.Replace(op.Description, " in the whole fleet.", "; who has it in a part of the fleet reaches that part.", 1)
	return op
}

// problem turns an error into what the caller may know. op says what was
// tried, for the log.
func (a *API) problem(ctx context.Context, op string, err error) error {
	var (
		invalid *scan.InvalidError
		unread  *insight.InvalidError
		status  huma.StatusError
	)
	switch {
	case errors.As(err, &status):
		return err
	case errors.As(err, &unread):
		return invalidMember("", unread.Reason)
	case errors.Is(err, audit.ErrNoRecording):
		return huma.Error404NotFound(err.Error())
	case errors.As(err, &invalid):
		return invalidMember(invalid.Field, invalid.Reason)
	case errors.Is(err, scan.ErrNotFound), errors.Is(err, alert.ErrNotFound), errors.Is(err, alert.ErrNoRun), errors.Is(err, alert.ErrNoSilence), errors.Is(err, sign.ErrNoKey), errors.Is(err, insight.ErrNotFound), errors.Is(err, policy.ErrNotFound), errors.Is(err, event.ErrNotFound), errors.Is(err, pki.ErrNoToken):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, scan.ErrFinished), errors.Is(err, scan.ErrNoResult), errors.Is(err, alert.ErrDelivered), errors.Is(err, sign.ErrRotating), errors.Is(err, alert.ErrSecretErased):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, scan.ErrKeyUsed):
		return huma.Error422UnprocessableEntity("Idempotency-Key: you named another request so within the last day; choose a new key for this one",
			&huma.ErrorDetail{Location: "header.Idempotency-Key", Message: "is another request's"})
	case errors.Is(err, scan.ErrNoBatch), errors.Is(err, scan.ErrNoSchedule):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, scan.ErrNoProfile), errors.Is(err, scan.ErrNoThreshold):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, scan.ErrVersionUsed), errors.Is(err, scan.ErrHubsOwn), errors.Is(err, scan.ErrCatalogueFull), errors.Is(err, scan.ErrSchedulesFull), errors.Is(err, policy.ErrTooManyLayers):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, scan.ErrChanged), errors.Is(err, policy.ErrChanged):
		return huma.Error412PreconditionFailed(err.Error())
	case ctx.Err() != nil:
		return huma.NewError(499, "the caller went away")
	}
	a.cfg.Logger.ErrorContext(ctx, op, "error", err)
	return huma.Error500InternalServerError("the hub couldn't do it; its log says why")
}

// invalidMember is a problem with one member of the body.
func invalidMember(path, reason string) error {
	if path == "" {
		return huma.Error422UnprocessableEntity(reason, &huma.ErrorDetail{Location: "body", Message: reason})
	}
	return huma.Error422UnprocessableEntity(path+": "+reason, &huma.ErrorDetail{Location: "body." + path, Message: reason})
}

// page is one page of a list. Next goes into the next request's before; it is
// empty on the last page.
type page[T any] struct {
	Body struct {
		Items []T    `json:"items" nullable:"false"`
		Next  string `json:"next,omitempty" doc:"Cursor for the next page: give it as before"`
	}
}

// newPage makes a page of what a query found that asked for limit+1.
func newPage[S, T any](found []S, limit int, convert func(S) T, id func(S) string) *page[T] {
	p := &page[T]{}
	p.Body.Items = []T{}
	for i, s := range found {
		if limit > 0 && i == limit {
			p.Body.Next = id(found[i-1])
			break
		}
		p.Body.Items = append(p.Body.Items, convert(s))
	}
	return p
}
