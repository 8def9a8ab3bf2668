package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

// sessionCookie has the prefix by which browsers see to it that only this
// host sets it, over TLS, for every path.
const sessionCookie = "__Host-reeve-session"

// Caller is who calls, and by which credential.
type Caller struct {
	Name   string     `json:"name"`
	Role   pki.Role   `json:"role" doc:"The highest that it has anywhere"`
	Rights pki.Rights `json:"rights" nullable:"false" doc:"Its roles, and the parts of the fleet where they hold"`
	By     string     `json:"by" enum:"token,session,certificate,oidc"`
	// tokenID is that of the token or session.
	tokenID    string
	credential pki.Credential
	// source is what a session rests on, if on anything.
	source pki.Credential
}

// root is the credential that what the caller makes rests on: a person's own, and
// not the session, which ends every day.
func (c Caller) root() pki.Credential {
	if c.By == "session" {
		return c.source
	}
	return c.credential
}

// String is how a caller is named in records, such as token:ci.
func (c Caller) String() string { return c.By + ":" + c.Name }

var (
	errNoCredential = errors.New("no credential: send an API token (Authorization: Bearer reeve_…), a client certificate with the purpose control or user, or open a login link")
	errCrossOrigin  = errors.New("another site asked a browser for this call; calls that change something are for this hub's own page and for programs")
	errNotControl   = errors.New("this certificate is not for this API: use one with the purpose control or user, or an API token")
)

// Authenticate tells who sent a request. Only a store that can't be asked is
// an error that isn't the caller's.
func (a *API) Authenticate(r *http.Request) (Caller, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, text, _ := strings.Cut(h, " ")
		if !strings.EqualFold(scheme, "bearer") {
			return Caller{}, fmt.Errorf("authorization: %w: use the scheme Bearer with an API token", pki.ErrMalformed)
		}
		if a.cfg.Issuer != nil && !strings.HasPrefix(text, "reeve") {
			return a.byIssuer(r.Context(), strings.TrimSpace(text))
		}
		return a.byToken(r.Context(), pki.API, "token", text)
	}
	// Browsers add cookies and certificates by themselves, for whatever site
	// makes them call.
	if err := a.csrf.Check(r); err != nil {
		return Caller{}, fmt.Errorf("%w: %w", errCrossOrigin, err)
	}
	if c, err := r.Cookie(sessionCookie); err == nil {
		return a.byToken(r.Context(), pki.Session, "session", c.Value)
	}
	id, err := a.cfg.Peers.Credential(r.TLS)
	if errors.Is(err, pki.ErrNoCertificate) {
		return Caller{}, errNoCredential
	}
	if err != nil {
		return Caller{}, err
	}
	rights := pki.Admin.Everywhere()
	if id.Purpose == pki.User {
		rights, err = pki.ParseRights(id.Rights)
	} else if id.Purpose != pki.Control {
		err = fmt.Errorf("%w (it is %s)", errNotControl, id.Identity)
	}
	return newCaller(id.Name, rights, "certificate", id), err
}

func newCaller(name string, rights pki.Rights, by string, held pki.Credential) Caller {
	return Caller{Name: name, Role: rights.Role(), Rights: rights, By: by, credential: held}
}

func (a *API) byToken(ctx context.Context, kind pki.Kind, by, text string) (Caller, error) {
	t, err := pki.VerifyToken(ctx, a.cfg.Tokens, kind, text)
	if err != nil {
		return Caller{}, err
	}
	if err := pki.VerifySource(ctx, a.cfg.Tokens, a.cfg.CA.Revocations(), t.Source); err != nil {
		return Caller{}, fmt.Errorf("what this %s rests on is not good any more: %w", by, err)
	}
	held := pki.Credential{Kind: pki.ByToken, ID: t.ID, Issued: t.Created}
	c := newCaller(t.Name, t.Rights, by, held)
	c.tokenID, c.source = t.ID, t.Source
	return c, nil
}

type callerKey struct{}

func callerOf(ctx context.Context) Caller { return ctx.Value(callerKey{}).(Caller) }

// authorize lets an operation run for callers of its role.
func (a *API) authorize(ctx huma.Context, next func(huma.Context)) {
	role, ok := ctx.Operation().Metadata["role"].(pki.Role)
	if !ok { // the description itself
		next(ctx)
		return
	}
	r, _ := humago.Unwrap(ctx)
	caller, err := a.Authenticate(r)
	record := begin(r, ctx.Operation().OperationID, caller)
	defer func() { a.audited(record, ctx.Status()) }()
	if err != nil {
		status, text := a.refusal(ctx.Context(), err)
		if status == http.StatusUnauthorized {
			ctx.SetHeader("WWW-Authenticate", `Bearer realm="reeve"`)
		}
		huma.WriteErr(a.huma, ctx, status, text)
		return
	}
	part, _ := ctx.Operation().Metadata["within"].(bool)
	if err := caller.may(role, part); err != nil {
		huma.WriteErr(a.huma, ctx, http.StatusForbidden, err.Error())
		return
	}
	held, stop := a.held(ctx.Context(), caller)
	defer stop()
	with := context.WithValue(context.WithValue(held, callerKey{}, caller), recordKey{}, record)
	next(huma.WithContext(ctx, with))
}

// may says what the caller lacks to be in role: in some part of the fleet, or
// in all of it.
func (c Caller) may(role pki.Role, part bool) error {
	switch {
	case !c.Role.Allows(role):
		return fmt.Errorf("this needs the role %s; %s has the role %s", role, c, c.Role)
	case !part && !c.Rights.Everywhere(role):
		return fmt.Errorf("this needs the role %s in the whole fleet; %s is %s", role, c, c.Rights)
	}
	return nil
}

// reach refuses a caller who isn't in role where it would be needed. The empty
// namespace stands for what is in none, or in several.
func reach(ctx context.Context, role pki.Role, agent fleet.AgentName, namespace string) error {
	c := callerOf(ctx)
	if c.Rights.In(role, agent, namespace) {
		return nil
	}
	where := "for agent " + string(agent)
	if agent == "" {
		where = "for all agents"
	}
	if namespace == "" {
		where += " in all namespaces"
	} else {
		where += ", namespace " + namespace
	}
	return huma.Error403Forbidden(fmt.Sprintf("this needs the role %s %s; %s is %s", role, where, c, c.Rights))
}

// seen reports whether the caller may know of what is there.
func seen(ctx context.Context, agent fleet.AgentName, namespace string) bool {
	return callerOf(ctx).Rights.In(pki.Viewer, agent, namespace)
}

// visible is the part of the fleet that the caller may know of; nil if that
// is all of it.
func visible(ctx context.Context) []fleet.Scope { return callerOf(ctx).Rights.Scopes(pki.Viewer) }

// refusal is the answer to who isn't let in because of err.
func (a *API) refusal(ctx context.Context, err error) (status int, text string) {
	switch {
	case errors.Is(err, errNotControl), errors.Is(err, errCrossOrigin), errors.Is(err, pki.ErrNoRights):
		return http.StatusForbidden, err.Error()
	case errors.Is(err, pki.ErrIssuerAway):
		a.cfg.Logger.WarnContext(ctx, "authenticate", "error", err)
		return http.StatusServiceUnavailable, "the issuer of logins can't be asked now; the hub's log says why. API tokens, login links and certificates work"
	case errors.Is(err, errNoCredential), errors.Is(err, pki.ErrMalformed), errors.Is(err, pki.ErrForeign), errors.Is(err, pki.ErrExpired):
		return http.StatusUnauthorized, err.Error()
	}
	a.cfg.Logger.ErrorContext(ctx, "authenticate", "error", err)
	return http.StatusInternalServerError, "the hub couldn't check the credential; its log says why"
}

type (
	LinkRequest struct {
		Name string   `json:"name,omitempty" maxLength:"100" doc:"For whom; the caller's name if left out"`
		Role pki.Role `json:"role,omitempty" enum:"viewer,scanner,operator,admin" doc:"The caller's role if left out"`
		RoleScope
	}
	LoginLink struct {
		URL     string    `json:"url" doc:"Good for one use"`
		Expires time.Time `json:"expires"`
	}
)

// sessions are the ways of a person: a link, made by an administrator, whose
// one-time code becomes a cookie.
func (a *API) sessions() {
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/whoami", "whoami", "Who the caller is")),
		func(ctx context.Context, _ *struct{}) (*struct{ Body Caller }, error) {
			return &struct{ Body Caller }{callerOf(ctx)}, nil
		})

	op := operation(pki.Admin, http.MethodPost, "/login-links", "create-login-link", "Make a one-time login link to the web page")
	op.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, op, func(ctx context.Context, in *struct{ Body LinkRequest }) (*struct{ Body LoginLink }, error) {
		caller := callerOf(ctx)
		if in.Body.Name == "" {
			in.Body.Name = caller.Name
		}
		if in.Body.Role == "" {
			in.Body.Role = caller.Role
		}
		rights, err := in.Body.RoleScope.of(in.Body.Role)
		if err != nil {
			return nil, err
		}
		link, expires, err := a.loginLink(ctx, in.Body.Name, rights, caller.root())
		if err != nil {
			return nil, a.problem(ctx, "make a login link", err)
		}
		return &struct{ Body LoginLink }{LoginLink{link, expires}}, nil
	})

	op = within(operation(pki.Viewer, http.MethodPost, "/logout", "logout", "End the session that the cookie names"))
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, _ *struct{}) (*struct {
		Cookie http.Cookie `header:"Set-Cookie"`
	}, error,
	) {
		if c := callerOf(ctx); c.By == "session" {
			if err := a.cfg.Tokens.RevokeToken(ctx, c.tokenID); err != nil && !errors.Is(err, pki.ErrNoToken) {
				return nil, a.problem(ctx, "log out", err)
			}
		}
		out := &struct {
			Cookie http.Cookie `header:"Set-Cookie"`
		}{cookie("", time.Unix(1, 0))}
		return out, nil
	})
	a.mux.HandleFunc("GET /login", a.askLogin)
	a.mux.HandleFunc("POST /login", a.login)
}

func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(Refusal{Title: http.StatusText(status), Status: status, Detail: detail})
}
