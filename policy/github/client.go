package github

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	gh "github.com/google/go-github/v89/github"
)

const (
	perPage     = 100
	requestTime = 30 * time.Second
	archiveTime = 10 * time.Minute
	userAgent   = "reeve"
	// GitHub takes a token of an App for ten minutes at most; its clock may be
	// behind ours.
	appTokenLife = 9 * time.Minute
	appTokenSkew = time.Minute
	// renewBefore is how long before its end an installation's token is renewed.
	renewBefore = 5 * time.Minute
	// renewAtMost is how often it is tried to renew one that was refused, or is still
	// good.
	renewAtMost = time.Minute
	// maxRepositories and maxPages bound what a server can make us hold.
	maxRepositories = 200_000
	maxPages        = 2000
)

// connection is one GitHub, and as whom it is asked.
type connection struct {
	cfg  Config
	log  *slog.Logger
	base http.RoundTripper
	api  *url.URL // of the REST API, ends with a slash
	web  *url.URL
	app  *gh.Client // as the App itself; nil with a token

	mu       sync.Mutex          // guards the rest
	accounts map[string]*account // by lower-case login and installation
	current  map[string]*account // by lower-case login; those that open found last
}

// account is an organisation, or a user, whose repositories may be asked for.
type account struct {
	login  string
	client *gh.Client
	limits *limits
	conn   *connection
	token  tokens
}

// connect prepares a connection. base makes the requests; nil is the usual way.
func connect(cfg Config, base http.RoundTripper, log *slog.Logger) (*connection, error) {
	c := &connection{cfg: cfg, log: log, base: base, accounts: map[string]*account{}}
	c.api, c.web = cfg.urls()
	if c.base == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 2 * cfg.concurrency()
		t.MaxResponseHeaderBytes = 64 << 10
		t.ResponseHeaderTimeout = requestTime
		if cfg.CAFile != "" {
			pem, err := os.ReadFile(cfg.CAFile)
			if err != nil {
				return nil, fmt.Errorf("caFile: %w", err)
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("caFile %s: it holds no certificate in PEM", cfg.CAFile)
			}
			t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
		c.base = t
	}
	if cfg.AppID != 0 {
		limits := newLimits(credential{c.base, c.origin(), c.appToken}, log)
		var err error
		if c.app, err = c.client(limits); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *connection) client(t http.RoundTripper) (*gh.Client, error) {
	api := c.api.String()
	return gh.NewClient(
		gh.WithHTTPClient(&http.Client{Transport: remembered{t}}),
		gh.WithURLs(&api, &api), gh.WithUserAgent(userAgent), gh.WithDisableRateLimitCheck(),
	)
}

func (c *connection) origin() string { return c.api.Scheme + "://" + c.api.Host }

// close ends idle connections.
func (c *connection) close() {
	if t, ok := c.base.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// credential adds the token to requests for the API's own scheme and host, and
// to no other's, such as that a redirect leads to. A token that GitHub refuses is
// got anew, once: it may have been revoked before its time.
type credential struct {
	next   http.RoundTripper
	origin string // SCHEME://HOST
	token  tokens
}

// tokens gives a token that isn't refused, as far as it can; "" refuses none.
type tokens func(ctx context.Context, refused string) (string, error)

func (t credential) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme+"://"+req.URL.Host != t.origin {
		return t.next.RoundTrip(req)
	}
	token, err := t.token(req.Context(), "")
	if err != nil {
		return nil, err
	}
	resp, err := t.next.RoundTrip(authorized(req, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized || req.Body != nil && req.GetBody == nil {
		return resp, err
	}
	fresh, err := t.token(req.Context(), token)
	if err != nil || fresh == token {
		return resp, nil // the refusal says more
	}
	again := authorized(req, fresh)
	if req.Body != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	drain(resp)
	return t.next.RoundTrip(again)
}

func authorized(req *http.Request, token string) *http.Request {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token)
	return req
}

// appToken is what the App itself is known by. The key is read each time, so
// that it can be replaced.
func (c *connection) appToken(context.Context, string) (string, error) {
	text, err := secret(c.cfg.PrivateKeyFile, c.cfg.PrivateKeyEnv)
	if err != nil {
		return "", fmt.Errorf("the App's private key: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer:   strconv.FormatInt(c.cfg.AppID, 10),
		IssuedAt: jwt.NewNumericDate(now.Add(-appTokenSkew)), ExpiresAt: jwt.NewNumericDate(now.Add(appTokenLife)),
	}).SignedString(key)
}

func parseKey(pem string) (*rsa.PrivateKey, error) {
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(pem))
	if err != nil {
		return nil, errors.New("the App's private key: it must be the RSA key in PEM that GitHub made for the App")
	}
	return key, nil
}

// installationToken gets the token of an installation and renews it in time.
type installationToken struct {
	conn *connection
	id   int64

	turn    turn // guards the rest
	token   string
	until   time.Time
	renewed time.Time // before its end, or since it was refused, last
}

func (t *installationToken) get(ctx context.Context, refused string) (string, error) {
	if err := t.turn.take(ctx); err != nil {
		return "", err
	}
	defer t.turn.leave()
	good := t.token != "" && t.token != refused && time.Until(t.until) > 0
	if good && time.Until(t.until) > renewBefore {
		return t.token, nil
	}
	// What no token is good for, such as an installation that was suspended, isn't
	// asked a token for again and again.
	early := good || refused != ""
	if early && time.Since(t.renewed) < renewAtMost {
		return t.token, nil
	}
	// Asked for by whoever is first, but for all: not with its memory.
	asking, cancel := context.WithTimeout(remembering(ctx, nil), requestTime)
	defer cancel()
	fresh, _, err := t.conn.app.Apps.CreateInstallationToken(asking, t.id, nil)
	if early && ctx.Err() == nil {
		t.renewed = time.Now()
	}
	if err != nil && good {
		return t.token, nil
	}
	if err != nil {
		return "", fmt.Errorf("a token of the App's installation %d: %w", t.id, plain(err))
	}
	t.token, t.until = fresh.GetToken(), fresh.GetExpiresAt().Time
	return t.token, nil
}

// secret reads a secret from a file or a variable.
func secret(file, env string) (string, error) {
	if env != "" {
		v := os.Getenv(env)
		if v == "" {
			return "", fmt.Errorf("the variable %s is empty", env)
		}
		return strings.TrimSpace(v), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if len(data) > 64<<10 || strings.TrimSpace(string(data)) == "" {
		return "", fmt.Errorf("%s is empty or too long", file)
	}
	return strings.TrimSpace(string(data)), nil
}

// open finds the accounts that are to be checked.
func (c *connection) open(ctx context.Context) ([]*account, error) {
	all, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	current := map[string]*account{}
	for _, a := range all {
		current[strings.ToLower(a.login)] = a
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = current
	return all, nil
}

func (c *connection) find(ctx context.Context) ([]*account, error) {
	if c.app == nil {
		var out []*account
		for _, login := range c.cfg.Organisations {
			a, err := c.account(login, 0)
			if err != nil {
				return nil, err
			}
			out = append(out, a)
		}
		return out, nil
	}
	var out []*account
	opts := &gh.ListOptions{PerPage: perPage}
	for range maxPages {
		page, resp, err := c.app.Apps.ListInstallations(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("list the App's installations: %w", plain(err))
		}
		for _, i := range page {
			login := i.GetAccount().GetLogin()
			if i.SuspendedAt != nil || login == "" || len(c.cfg.Organisations) > 0 && !slices.ContainsFunc(c.cfg.Organisations, func(o string) bool { return strings.EqualFold(o, login) }) {
				continue
			}
			a, err := c.account(login, i.GetID())
			if err != nil {
				return nil, err
			}
			out = append(out, a)
		}
		if resp.NextPage == 0 {
			break
		}
		opts.Page = resp.NextPage
	}
	return out, nil
}

// account returns the account of that login, which keeps its limits and its
// token from one cycle to the next.
func (c *connection) account(login string, installation int64) (*account, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := strings.ToLower(login) + "/" + strconv.FormatInt(installation, 10)
	if a := c.accounts[key]; a != nil {
		return a, nil
	}
	token := func(context.Context, string) (string, error) { return secret(c.cfg.TokenFile, c.cfg.TokenEnv) }
	if installation != 0 {
		token = (&installationToken{conn: c, id: installation, turn: newTurn()}).get
	}
	l := newLimits(credential{c.base, c.origin(), token}, c.log.With("organisation", login))
	if installation == 0 {
		// One token has one limit, whoever's repositories it asks for.
		for _, other := range c.accounts {
			l = other.limits
		}
	}
	client, err := c.client(l)
	if err != nil {
		return nil, err
	}
	a := &account{login: login, client: client, limits: l, conn: c, token: token}
	c.accounts[key] = a
	return a, nil
}

// of returns the account of an owner, also one that this process hasn't checked
// yet.
func (c *connection) of(ctx context.Context, owner string) (*account, error) {
	key := strings.ToLower(owner)
	known := func() *account {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.current[key]
	}
	a := known()
	if a == nil {
		if _, err := c.open(ctx); err != nil {
			return nil, err
		}
		a = known()
	}
	if a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("%s: %w", owner, ErrNoAccount)
}

// ErrNoAccount means that there is no installation of the App, or no entry of
// organisations, for an owner.
var ErrNoAccount = errors.New("the owner isn't among those that this GitHub connection checks")

// installed reports whether an owner has installed the App, suspended or not. That
// there is none to check may be the configuration's will, and this isn't.
func (c *connection) installed(ctx context.Context, owner string) (bool, error) {
	for _, get := range []func(context.Context, string) (*gh.Installation, *gh.Response, error){c.app.Apps.GetOrganizationInstallation, c.app.Apps.GetUserInstallation} {
		_, _, err := get(ctx, owner)
		if err == nil {
			return true, nil
		}
		if status(err) != http.StatusNotFound {
			return false, fmt.Errorf("ask for the App's installation of %s: %w", owner, plain(err))
		}
	}
	return false, nil
}

// repositories lists all that the account has, or that the App may see of it.
func (a *account) repositories(ctx context.Context) ([]*gh.Repository, error) {
	list := func(page int) ([]*gh.Repository, *gh.Response, error) {
		opts := gh.ListOptions{PerPage: perPage, Page: page}
		if a.conn.app != nil {
			l, resp, err := a.client.Apps.ListRepos(ctx, &opts)
			if err != nil {
				return nil, resp, err
			}
			return l.Repositories, resp, nil
		}
		return a.client.Repositories.ListByOrg(ctx, a.login, &gh.RepositoryListByOrgOptions{Type: "all", ListOptions: opts})
	}
	out, err := pages(list)
	if a.conn.app == nil && status(err) == http.StatusNotFound {
		out, err = pages(func(page int) ([]*gh.Repository, *gh.Response, error) {
			return a.client.Repositories.ListByUser(ctx, a.login, &gh.RepositoryListByUserOptions{ListOptions: gh.ListOptions{PerPage: perPage, Page: page}})
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list the repositories of %s: %w", a.login, plain(err))
	}
	if len(out) > maxRepositories {
		return nil, fmt.Errorf("%s has more than %d repositories", a.login, maxRepositories)
	}
	// One may be on two pages, if the list changed while it was read.
	seen := map[string]bool{"": true}
	return slices.DeleteFunc(out, func(r *gh.Repository) bool {
		key := strings.ToLower(r.GetName())
		twice := seen[key]
		seen[key] = true
		return twice
	}), nil
}

// pages reads all pages of a list.
func pages[T any](get func(page int) ([]T, *gh.Response, error)) ([]T, error) {
	var all []T
	for page, n := 1, 0; n < maxPages; n++ {
		some, resp, err := get(page)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		// A page that is full may have got a next one since: its validator is of
		// what it holds, and an answer from memory has the links of back then.
		if resp.NextPage == 0 && len(some) < perPage {
			return all, nil
		}
		page++
	}
	return nil, fmt.Errorf("the list has more than %d pages", maxPages)
}

// status is the HTTP status of GitHub's answer that err is about; 0 if there
// was none.
func status(err error) int {
	var e *gh.ErrorResponse
	if errors.As(err, &e) && e.Response != nil {
		return e.Response.StatusCode
	}
	if errors.Is(err, gh.ErrBranchNotProtected) {
		return http.StatusNotFound
	}
	return 0
}

// plain words an error of the client for people, without the URL's query, which
// may hold a secret.
func plain(err error) error {
	var e *gh.ErrorResponse
	var u *url.Error
	switch {
	case errors.As(err, &e) && e.Response != nil:
		at := ""
		if r := e.Response.Request; r != nil {
			at = r.Method + " " + r.URL.Path + ": "
		}
		return &apiError{fmt.Sprintf("%sGitHub answered %d %s", at, e.Response.StatusCode, firstLine(e.Message)), err}
	case errors.As(err, &u):
		at := u.Op
		if target, bad := url.Parse(u.URL); bad == nil {
			at += " " + target.Path
		}
		return &apiError{at + ": " + u.Err.Error(), u.Err}
	}
	return err
}

type apiError struct {
	text string
	err  error
}

func (e *apiError) Error() string { return e.text }
func (e *apiError) Unwrap() error { return e.err }

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s[:min(len(s), 300)]
}

// archive opens the archive of a commit. The link to it that GitHub gives holds
// a token of its own and leads to another host, so it is followed without ours.
func (a *account) archive(ctx context.Context, owner, repo, ref string) (_ io.ReadCloser, err error) {
	ctx, cancel := context.WithTimeout(ctx, archiveTime)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	req, err := a.client.NewRequest(remembering(ctx, nil), http.MethodGet, fmt.Sprintf("repos/%s/%s/tarball/%s", owner, repo, url.PathEscape(ref)), nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.limits.RoundTrip(req)
	if err != nil {
		return nil, plain(err)
	}
	for range 3 {
		if resp.StatusCode/100 != 3 {
			break
		}
		to, err := resp.Location()
		drain(resp)
		if err != nil {
			return nil, fmt.Errorf("the archive's link: %w", err)
		}
		if to.Scheme != "https" && to.Scheme != a.conn.api.Scheme {
			return nil, errors.New("the archive's link isn't https")
		}
		next, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
		if err != nil {
			return nil, errors.New("the archive's link can't be followed")
		}
		next.Header.Set("User-Agent", userAgent)
		if resp, err = a.conn.base.RoundTrip(next); err != nil {
			return nil, errors.New("the archive's link can't be followed: " + err.Error())
		}
	}
	if resp.StatusCode != http.StatusOK {
		drain(resp)
		return nil, fmt.Errorf("the archive: GitHub answered %d", resp.StatusCode)
	}
	return ending{resp.Body, cancel}, nil
}
