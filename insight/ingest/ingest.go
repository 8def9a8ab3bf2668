// Package ingest is the agent's door for workloads: facts and problems by
// HTTP, as Lagoon's insights-remote takes them on port 8888, answer for
// answer. A 200 means that the message is in the spool, on the disk.
//
// Besides, POST /sboms?service=NAME[&build=NAME] takes an SBOM (CycloneDX in
// JSON or XML, SPDX in JSON) and POST /images?… an image inspect, plain or
// gzipped, of the namespace that the token names. They pass through in constant
// memory and are judged on the way: one that is damaged, or isn't what it should
// be, is a 400 that names the place.
//
// Where insights-remote answers badly we differ: a missing token is a 401 and
// not an empty 500; "Bearer " before the token is accepted; a body has a
// limit (413); and when the spool is full the answer is 503 with Retry-After,
// since the message would be lost otherwise.
package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

// DefaultMaxBody is the most bytes of facts or problems in a request, and
// DefaultMaxDocument of a document.
const (
	DefaultMaxBody     = 10 << 20
	DefaultMaxDocument = 100 << 20
)

// retryAfter is how many seconds a caller is asked to wait for a full spool.
const retryAfter = "30"

// Spool takes a message and returns once it is durable.
type Spool interface {
	Put(ctx context.Context, id, kind string, r io.Reader) error
}

// Config is what the handler works with. Secret and Spool are required.
type Config struct {
	// Secret is what the tokens of the namespaces are signed with.
	Secret []byte
	// OldSecrets are further ones by which tokens are still taken.
	OldSecrets  [][]byte
	Spool       Spool
	MaxBody     int64
	MaxDocument int64
	// NoHub tells that there is only Lagoon's broker, which takes fewer formats.
	NoHub  bool
	Logger *slog.Logger
}

// Handler serves /facts, /problems, /sboms and /images.
func Handler(cfg Config) (http.Handler, error) {
	if len(cfg.Secret) == 0 {
		return nil, errors.New("insights: the secret of the namespaces' tokens is empty: fill what insights.tokenSecretFile or insights.tokenSecretEnv names")
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxDocument <= 0 {
		cfg.MaxDocument = DefaultMaxDocument
	}
	h := &handler{cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /facts", h.with(cfg.MaxBody, direct(facts)))
	mux.HandleFunc("POST /problems", h.with(cfg.MaxBody, direct(problems)))
	mux.HandleFunc("DELETE /facts/{source}", h.with(cfg.MaxBody, direct(deletion(lagoon.TypeDeleteFacts))))
	mux.HandleFunc("DELETE /facts/{source}/{service}", h.with(cfg.MaxBody, direct(deletion(lagoon.TypeDeleteFacts))))
	mux.HandleFunc("DELETE /problems/{source}", h.with(cfg.MaxBody, direct(deletion(lagoon.TypeDeleteProblems))))
	mux.HandleFunc("DELETE /problems/{source}/{service}", h.with(cfg.MaxBody, direct(deletion(lagoon.TypeDeleteProblems))))
	mux.HandleFunc("POST /sboms", h.with(cfg.MaxDocument, h.document(lagoon.TypeSBOM, "sbom-gz", sboms)))
	mux.HandleFunc("POST /images", h.with(cfg.MaxDocument, h.document(lagoon.TypeInspect, "image-gz", images)))
	return mux, nil
}

type handler struct{ cfg Config }

// answer is an error as the caller sees it.
type answer struct {
	code    int
	status  string
	message string
}

func (a *answer) Error() string { return a.message }

// message is what is spooled of a request: its kind there, and what writes it.
type message struct {
	kind  string
	write func(io.Writer) error
}

// maker makes the message of a request by the bearer of a token.
type maker func(*http.Request, lagoon.Namespace) (message, error)

// direct is a maker of a message that is small.
func direct(content func(*http.Request, lagoon.Namespace) (any, error)) maker {
	return func(r *http.Request, ns lagoon.Namespace) (message, error) {
		m, err := content(r, ns)
		if err != nil {
			return message{}, err
		}
		b, err := json.Marshal(m)
		return message{lagoon.SpoolDirect(ns.Name), func(w io.Writer) error { _, err := w.Write(b); return err }}, err
	}
}

// with verifies the token, spools the message of a body of at most limit
// bytes and answers.
func (h *handler) with(limit int64, make maker) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		err := h.serve(r, make)
		if err == nil {
			reply(w, http.StatusOK, map[string]string{"message": "okay"})
			return
		}
		var a *answer
		switch {
		case errors.As(err, &a):
		case r.Context().Err() != nil:
			a = &answer{http.StatusBadRequest, "Unable to parse incoming data", "the connection was lost"}
		default:
			h.cfg.Logger.Error("insight not stored", "path", r.URL.Path, "error", err)
			a = &answer{http.StatusInternalServerError, "Unable to store incoming data", "the agent couldn't store it; its log says why"}
		}
		if a.code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAfter)
		}
		reply(w, a.code, map[string]string{"status": a.status, "message": a.message})
	}
}

func (h *handler) serve(r *http.Request, make maker) error {
	ns, err := lagoon.ParseToken(r.Header.Get("Authorization"), append([][]byte{h.cfg.Secret}, h.cfg.OldSecrets...)...)
	if err != nil {
		return &answer{http.StatusUnauthorized, "unauthorized", err.Error()}
	}
	m, err := make(r, ns)
	if err != nil {
		return err
	}
	switch err := h.put(r.Context(), m); {
	case errors.Is(err, spool.ErrFull):
		h.cfg.Logger.Warn("insight refused, the spool is full", "namespace", ns.Name, "error", err)
		return &answer{http.StatusServiceUnavailable, "Unable to store incoming data", "the agent's spool is full, since what it holds isn't taken from it; try again later"}
	case errors.Is(err, spool.ErrTooLarge):
		return &answer{http.StatusRequestEntityTooLarge, "Unable to store incoming data", "larger than the agent's whole spool"}
	default:
		return err
	}
}

// put spools a message while it is written. The body is read by the handler's
// own goroutine, since nobody may read it once the handler has returned.
func (h *handler) put(ctx context.Context, m message) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	stored := make(chan error, 1)
	go func() {
		err := h.cfg.Spool.Put(ctx, id.String(), m.kind, pr)
		pr.CloseWithError(errStopped) // unblocks write where the spool has had enough
		stored <- err
	}()
	pw.CloseWithError(m.write(pw))
	return <-stored
}

var errStopped = errors.New("the spool has stopped reading")

func facts(r *http.Request, ns lagoon.Namespace) (any, error) {
	raw, err := list(r, "facts")
	if err != nil {
		return nil, err
	}
	facts, err := lagoon.ReadFacts(raw)
	if err != nil {
		return nil, unparsable(err)
	}
	env, err := environment(ns, "Unable to parse environment ID")
	if err != nil {
		return nil, err
	}
	for i := range facts {
		f := &facts[i]
		f.Environment, f.EnvironmentName, f.ProjectName = ns.EnvironmentID, ns.EnvironmentName, ns.ProjectName
		if f.Source == "" {
			f.Source = lagoon.DefaultSource
		}
	}
	return lagoon.Facts{
		Environment: env, ProjectName: ns.ProjectName, EnvironmentName: ns.EnvironmentName,
		Facts: facts, Type: lagoon.TypeFacts,
	}, nil
}

func problems(r *http.Request, ns lagoon.Namespace) (any, error) {
	raw, err := list(r, "")
	if err != nil {
		return nil, err
	}
	problems, err := lagoon.ReadProblems(raw)
	if err != nil {
		return nil, unparsable(err)
	}
	env, err := environment(ns, "Unable to parse environment ID")
	if err != nil {
		return nil, err
	}
	for i := range problems {
		p := &problems[i]
		p.Environment = env
		if p.Source == "" {
			p.Source = lagoon.DefaultSource
		}
	}
	return lagoon.Problems{
		Environment: env, ProjectName: ns.ProjectName, EnvironmentName: ns.EnvironmentName,
		Problems: problems, Type: lagoon.TypeProblems,
	}, nil
}

func deletion(typ string) func(*http.Request, lagoon.Namespace) (any, error) {
	return func(r *http.Request, ns lagoon.Namespace) (any, error) {
		env, err := environment(ns, "BAD REQUEST")
		if err != nil {
			return nil, err
		}
		return lagoon.Deletion{
			Type: typ, Environment: env,
			Source: r.PathValue("source"), Service: r.PathValue("service"),
		}, nil
	}
}

// list reads a body that is a list, or an object with the list as its member
// name.
func list(r *http.Request, name string) (lagoon.List, error) {
	body, err := io.ReadAll(caller{r.Body})
	if err != nil {
		return nil, err
	}
	if name != "" && bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return member(body, name)
	}
	var list lagoon.List
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, unparsable(lagoon.Invalid("", err))
	}
	return list, nil
}

// member reads one member of an object, and passes over the others.
func member(body []byte, name string) (list lagoon.List, err error) {
	if !json.Valid(body) { // so that nothing behind the object is
		var any json.RawMessage
		return nil, unparsable(lagoon.Invalid("", json.Unmarshal(body, &any)))
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if _, err := dec.Token(); err != nil {
		return nil, unparsable(lagoon.Invalid("", err))
	}
	for dec.More() {
		key, err := dec.Token()
		if err == nil && key == name {
			err = dec.Decode(&list)
		} else if err == nil {
			var other json.RawMessage
			err = dec.Decode(&other)
		}
		if err != nil {
			return nil, unparsable(lagoon.Invalid(name, err))
		}
	}
	return list, nil
}

// caller reads a body; what goes wrong is the caller's to know.
type caller struct{ body io.Reader }

func (c caller) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	var large *http.MaxBytesError
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.As(err, &large):
		return n, &answer{
			http.StatusRequestEntityTooLarge, "Unable to parse incoming data",
			"the body has more than the " + strconv.FormatInt(large.Limit, 10) + " bytes allowed",
		}
	}
	return n, unparsable(err)
}

func unparsable(err error) error {
	return &answer{http.StatusBadRequest, "Unable to parse incoming data", err.Error()}
}

func environment(ns lagoon.Namespace, status string) (int, error) {
	id, err := strconv.ParseInt(ns.EnvironmentID, 10, 32)
	if err != nil {
		return 0, &answer{http.StatusBadRequest, status, err.Error()}
	}
	return int(id), nil
}

func reply(w http.ResponseWriter, code int, body map[string]string) {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings always marshal
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	w.Write(b)
}
