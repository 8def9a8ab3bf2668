package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"reeve.dev/reeve/pki"
)

// LoginLink makes a link that logs a browser in, once.
func (a *API) LoginLink(ctx context.Context, name string, rights pki.Rights) (link string, expires time.Time, err error) {
	return a.loginLink(ctx, name, rights, pki.Credential{})
}

func (a *API) loginLink(ctx context.Context, name string, rights pki.Rights, source pki.Credential) (link string, expires time.Time, err error) {
	t, text, err := pki.NewToken(pki.Login, name, rights, pki.LoginLife)
	if err != nil {
		return "", time.Time{}, err
	}
	t.RestOn(source)
	if err := a.cfg.Tokens.CreateToken(ctx, t); err != nil {
		return "", time.Time{}, err
	}
	return a.cfg.PublicURL + "/login?code=" + url.QueryEscape(text), t.Expires, nil
}

// loginStyle has the page's colours.
const loginStyle = `:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;width:min(24em,100% - 2em);margin:20vh auto;background:light-dark(#f6f7f9,#111418);color:light-dark(#1b2330,#e4e8ee)}
main{padding:1.5em 2em;border:1px solid light-dark(#dde1e8,#2c333e);border-radius:.5em;background:light-dark(#fff,#191d24)}
h1{font-size:1.4em;margin:0}
button{font:inherit;font-weight:600;padding:.4em 1.4em;border:0;border-radius:.4em;background:light-dark(#1f54b8,#86b1ff);color:light-dark(#fff,#111418);cursor:pointer}
:focus-visible{outline:3px solid light-dark(#1f54b8,#86b1ff);outline-offset:2px}`

var (
	loginPage = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Log in to Reeve</title>
<style>{{.Style}}</style>
<main>
<h1>Log in to Reeve</h1>
<form method="post" action="/login">
<p>As <b>{{.Name}}</b>, with the role {{.Role}}.</p>
<input type="hidden" name="code" value="{{.Code}}">
<button autofocus>Log in</button>
</form>
</main>
`))
	loginPolicy = func() string {
		sum := sha256.Sum256([]byte(loginStyle))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	}()
)

// askLogin answers a login link with a form: only its button uses the code
// up. Programs follow links too, such as those of a chat or a mail gateway;
// and another site that leads a browser here must not change who it acts as.
func (a *API) askLogin(w http.ResponseWriter, r *http.Request) {
	code := r.URL.Query().Get("code")
	t, err := pki.VerifyToken(r.Context(), a.cfg.Tokens, pki.Login, code)
	if err == nil && !t.UsedAt.IsZero() {
		err = pki.ErrUsed
	}
	if err != nil {
		a.refuseLogin(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", loginPolicy)
	// The code is in this page's address. No referrer at all would take the
	// form's origin along, and no address leads away from here.
	h.Set("Referrer-Policy", "same-origin")
	loginPage.Execute(w, map[string]any{"Name": t.Name, "Role": t.Rights.String(), "Code": code, "Style": template.CSS(loginStyle)})
}

// maxForm is far above the form of a login.
const maxForm = 4 << 10

// login exchanges the code for a cookie. It answers a person.
func (a *API) login(w http.ResponseWriter, r *http.Request) {
	if err := a.csrf.Check(r); err != nil {
		http.Error(w, "Another site asked for this login. Open your own login link.", http.StatusForbidden)
		return
	}
	ctx := r.Context()
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	t, err := pki.VerifyToken(ctx, a.cfg.Tokens, pki.Login, r.PostFormValue("code"))
	var session pki.Token
	var text string
	if err == nil {
		err = pki.VerifySource(ctx, a.cfg.Tokens, a.cfg.CA.Revocations(), t.Source)
	}
	if err == nil {
		session, text, err = pki.NewToken(pki.Session, t.Name, t.Rights, pki.SessionLife)
		session.RestOn(t.Source)
	}
	if err == nil {
		err = a.cfg.Tokens.UseToken(ctx, t.ID, session.ID, time.Now())
	}
	if err == nil {
		err = a.cfg.Tokens.CreateToken(ctx, session)
	}
	if err != nil {
		a.refuseLogin(w, r, err)
		return
	}
	a.loggedIn(w, r, session, text, "link", t.ID)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// loggedIn gives a browser its cookie. by says what the login rests on.
func (a *API) loggedIn(w http.ResponseWriter, r *http.Request, session pki.Token, text string, by ...string) {
	record := begin(r, "login", Caller{Name: session.Name, By: "session", credential: pki.Credential{Kind: pki.ByToken, ID: session.ID}})
	note(context.WithValue(r.Context(), recordKey{}, record), append(by, "rights", session.Rights.String())...)
	a.audit(record, http.StatusSeeOther)
	a.cfg.Logger.InfoContext(r.Context(), "logged in", "name", session.Name, "rights", session.Rights.String(), "token", session.ID, "remote", r.RemoteAddr)
	c := cookie(text, session.Expires)
	http.SetCookie(w, &c)
}

func (a *API) refuseLogin(w http.ResponseWriter, r *http.Request, err error) {
	for _, bad := range []error{pki.ErrMalformed, pki.ErrForeign, pki.ErrExpired, pki.ErrUsed, pki.ErrNoToken} {
		if errors.Is(err, bad) {
			http.Error(w, "This login link isn't good, or not any more: a link works once, for ten minutes. Ask for a new one.", http.StatusUnauthorized)
			return
		}
	}
	a.cfg.Logger.ErrorContext(r.Context(), "log in", "error", err)
	http.Error(w, "The hub couldn't log you in; its log says why.", http.StatusInternalServerError)
}

// cookie is sent on links from elsewhere, such as one to a scan in an issue:
// what changes something is not for other sites in any case, see Authenticate.
func cookie(value string, expires time.Time) http.Cookie {
	return http.Cookie{Name: sessionCookie, Value: value, Path: "/", Expires: expires, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}
