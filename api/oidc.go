package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"reeve.dev/reeve/pki"
)

// Issuer vouches for people and programs, such as one of OpenID Connect. The
// errors are those of package pki: ErrMalformed, ErrForeign, ErrExpired,
// ErrNoRights, ErrIssuerAway.
type Issuer interface {
	// Name is what people call it; empty where they can't log in by it.
	Name() string
	// Begin answers where a browser goes to log in, and what it keeps until it
	// is back at LoginCallback.
	Begin(ctx context.Context) (address string, attempt []byte, err error)
	// Finish ends a login with what the browser has brought.
	Finish(ctx context.Context, attempt []byte, brought url.Values) (pki.Person, error)
	// Verify tells whose a token is that a program sent.
	Verify(ctx context.Context, token string) (pki.Person, error)
}

// LoginCallback is the path to which an issuer sends browsers back, and
// LoginPath that where they begin.
const (
	LoginPath     = "/login/oidc"
	LoginCallback = LoginPath + "/callback"
)

const (
	attemptCookie = "__Host-reeve-login"
	attemptLife   = 10 * time.Minute
	maxPath       = 1000
)

// attempt is what a browser keeps while it is at the issuer.
type attempt struct {
	Issuer json.RawMessage `json:"issuer"`
	// Next is where it goes then, a path of this hub.
	Next string `json:"next"`
}

func (a *API) issuerLogin() {
	if a.cfg.Issuer == nil || a.cfg.Issuer.Name() == "" {
		return
	}
	a.mux.HandleFunc("GET "+LoginPath, a.beginLogin)
	a.mux.HandleFunc("GET "+LoginCallback, a.finishLogin)
}

// byIssuer knows a caller by an ID token.
func (a *API) byIssuer(ctx context.Context, text string) (Caller, error) {
	p, err := a.cfg.Issuer.Verify(ctx, text)
	if err != nil {
		return Caller{}, err
	}
	held := pki.IssuedTo(p)
	if err := a.cfg.CA.Revocations().Check(held); err != nil {
		return Caller{}, err
	}
	return newCaller(p.Name, p.Rights, "oidc", held), nil
}

func (a *API) beginLogin(w http.ResponseWriter, r *http.Request) {
	address, kept, err := a.cfg.Issuer.Begin(r.Context())
	var text []byte
	if err == nil {
		text, err = json.Marshal(attempt{kept, ownPath(r.URL.Query().Get("next"))})
	}
	if err != nil {
		a.refuseIssuer(w, r, err)
		return
	}
	setAttempt(w, base64.RawURLEncoding.EncodeToString(text), time.Now().Add(attemptLife))
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// setAttempt sets a cookie that only this host sees, and only the browser that
// began: the issuer sends it back from another site, hence Lax.
func setAttempt(w http.ResponseWriter, value string, expires time.Time) {
	c := cookie(value, expires)
	c.Name = attemptCookie
	http.SetCookie(w, &c)
}

// ownPath is path if it is one of this hub, and else the first page.
func ownPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || len(path) > maxPath || u.IsAbs() || u.Host != "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}

func (a *API) finishLogin(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	var kept attempt
	if c, err := r.Cookie(attemptCookie); err == nil {
		if text, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil {
			json.Unmarshal(text, &kept) // without it the issuer's part is refused
		}
	}
	setAttempt(w, "", time.Unix(1, 0)) // it is good for one
	p, err := a.cfg.Issuer.Finish(ctx, kept.Issuer, r.URL.Query())
	var session pki.Token
	var text string
	if err == nil {
		session, text, err = pki.NewToken(pki.Session, p.Name, p.Rights, pki.IssuedSessionLife)
		source := pki.IssuedTo(p)
		// The ID token's end is for the login alone; what is made with the session,
		// such as another one by a link, doesn't outlive it.
		source.Expires = session.Expires
		session.RestOn(source)
	}
	if err == nil {
		err = a.cfg.Tokens.CreateToken(ctx, session)
	}
	if err != nil {
		a.refuseIssuer(w, r, err)
		return
	}
	a.loggedIn(w, r, session, text, "subject", p.Subject)
	http.Redirect(w, r, ownPath(kept.Next), http.StatusSeeOther)
}

// refuseIssuer answers a person whom the issuer didn't vouch for.
func (a *API) refuseIssuer(w http.ResponseWriter, r *http.Request, err error) {
	record := begin(r, "login", Caller{})
	status, text := a.refusal(r.Context(), err)
	record.Error = text
	a.audited(record, status)
	switch {
	case errors.Is(err, pki.ErrNoRights):
		text = "You are logged in as somebody who has no rights at this hub. Ask its administrator: " + err.Error() + "."
	case status == http.StatusUnauthorized:
		text = "The login didn't work. Begin again at " + a.cfg.PublicURL + ". (" + err.Error() + ")"
	}
	http.Error(w, text, status)
}
