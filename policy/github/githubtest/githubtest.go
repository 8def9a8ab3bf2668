// Package githubtest is a GitHub in memory that answers as the documented API
// does: with pages, validators, rate limits, and 404 for what isn't there.
package githubtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Object is a JSON object, as the API has them.
type Object = map[string]any

// Repo is one repository.
type Repo struct {
	Owner, Name             string
	Private, Archived, Fork bool
	// Default is the default branch; main if it is empty.
	Default string
	// Branches are the files of each, by path. None: the repository is empty.
	Branches map[string]map[string]string
	// Links are the paths of files that are symbolic links to text.
	Links map[string]bool
	// Archive are the files that an archive has otherwise than git, by path; those
	// that are empty it doesn't have.
	Archive map[string]string
	// ID stays when the repository is renamed.
	ID int64
	// Unavailable says that the plan has no branch protection for it.
	Unavailable bool
	// Protection is that of a branch, Signatures whether it requires signed
	// commits, Rules the rules of rulesets that are in force for it.
	Protection map[string]Object
	Signatures map[string]bool
	Rules      map[string][]Object
	Rulesets   map[int64]Object
	// CodeownersErrors are GitHub's about the file CODEOWNERS of the default
	// branch.
	CodeownersErrors []Object
	SecurityPolicy   bool
	// Collaborators are objects with login and permissions; Outside says which of
	// them are no members.
	Collaborators []Object
	Outside       map[string]bool
	Teams         []Object
	Languages     map[string]int
	Tags          []Object
	Runs          map[string][]Object // by the workflow's file

	NoIssues bool
	Issues   []*Issue
}

// Issue is an issue with its comments.
type Issue struct {
	Number             int
	Title, Body, State string
	Labels             []string
	Updated            time.Time
	Comments           []string
}

// Server is the GitHub. It is an http.Handler, and a transport that asks it
// without a network. Its fields may be changed while nothing asks it, or under
// Lock.
type Server struct {
	sync.Mutex
	// Repos are by OWNER/NAME.
	Repos map[string]*Repo
	// Apps's key, and the logins that have installed it by the installation's
	// number; none: any token does.
	Key           *rsa.PublicKey
	Installations map[int64]string
	// Suspended are the logins that have suspended theirs.
	Suspended map[string]bool
	// Token is what requests must have; empty: any.
	Token string
	// PerPage is how many of a list a page has at most (30 unless asked for).
	PerPage int
	// Latency is how long each answer takes.
	Latency time.Duration
	// Limit is how many requests an hour there are; Remaining how many are left.
	Limit, Remaining int
	Reset            time.Time
	// Faults are answers in place of the right ones: by method and path without
	// the prefix, such as "GET /repos/acme/shop/branches".
	Faults map[string]func(http.ResponseWriter, *http.Request) bool
	// Archives is where archives are, if it isn't https://codeload.github.test.
	Archives string
	// Flat says that only a query about one repository is understood.
	Flat bool
	// MaxTree is how many entries of a tree are listed at once; 0: all.
	MaxTree int
	// Moved are the former names of repositories, with what they are called now.
	Moved map[string]string
	// Expired are tokens that aren't taken any more; Tokens is what is given out
	// in place of an installation's usual one.
	Expired map[string]bool
	Tokens  map[int64]string

	// Requests counts requests by "METHOD /path STATUS".
	Requests map[string]int
	// Cost counts those that the limit counts.
	Cost int
	// Puts are the protections that were asked for, by "OWNER/NAME BRANCH".
	Puts map[string]Object

	added int64
}

// Rename gives a repository another name, and maybe another owner.
func (s *Server) Rename(from, owner, name string) {
	r := s.Repos[from]
	delete(s.Repos, from)
	r.Owner, r.Name = owner, name
	s.Repos[owner+"/"+name] = r
	if s.Moved == nil {
		s.Moved = map[string]string{}
	}
	s.Moved[from] = owner + "/" + name
}

// New returns a Server without repositories.
func New() *Server {
	return &Server{
		Repos: map[string]*Repo{}, Limit: 5000, Remaining: 5000, Faults: map[string]func(http.ResponseWriter, *http.Request) bool{},
		Requests: map[string]int{}, Puts: map[string]Object{},
	}
}

// Add adds a repository with a branch main that has a README.
func (s *Server) Add(owner, name string) *Repo {
	r := &Repo{
		Owner: owner, Name: name, Default: "main", Branches: map[string]map[string]string{"main": {"README.md": "# " + name}},
		Protection: map[string]Object{}, Signatures: map[string]bool{}, Rules: map[string][]Object{}, Rulesets: map[int64]Object{}, Outside: map[string]bool{}, Runs: map[string][]Object{},
	}
	s.Repos[owner+"/"+name] = r
	s.added++
	r.ID = s.added
	return r
}

// Put puts a file on the default branch.
func (r *Repo) Put(at, text string) {
	if r.Branches[r.Default] == nil {
		r.Branches[r.Default] = map[string]string{}
	}
	r.Branches[r.Default][at] = text
}

// RoundTrip implements http.RoundTripper.
func (s *Server) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.Latency > 0 {
		t := time.NewTimer(s.Latency)
		defer t.Stop()
		select {
		case <-req.Context().Done():
			return nil, req.Context().Err()
		case <-t.C:
		}
	}
	if req.Body == nil {
		req = req.Clone(req.Context())
		req.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	resp := w.Result()
	resp.Request = req
	return resp, nil
}

// Unchanged is how many requests were answered by 304, which costs nothing.
func (s *Server) Unchanged() (n int) {
	s.Lock()
	defer s.Unlock()
	for k, v := range s.Requests {
		if strings.HasSuffix(k, " 304") {
			n += v
		}
	}
	return n
}

// Count is how many requests began with a method and path.
func (s *Server) Count(prefix string) (n int) {
	s.Lock()
	defer s.Unlock()
	for k, v := range s.Requests {
		if strings.HasPrefix(k, prefix) {
			n += v
		}
	}
	return n
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.Lock()
	defer s.Unlock()
	rec := httptest.NewRecorder()
	at := strings.TrimPrefix(strings.TrimPrefix(req.URL.Path, "/api/v3"), "/api")
	s.answer(rec, req, at)
	body := rec.Body.Bytes()
	status := rec.Code
	h := w.Header()
	maps.Copy(h, rec.Header())
	if status == http.StatusOK && req.Method == http.MethodGet && !strings.HasPrefix(at, "/codeload/") {
		sum := sha256.Sum256(body)
		tag := `W/"` + hex.EncodeToString(sum[:16]) + `"`
		h.Set("ETag", tag)
		if req.Header.Get("If-None-Match") == tag {
			status, body = http.StatusNotModified, nil
		}
	}
	if s.Limit > 0 && !strings.HasPrefix(at, "/codeload/") {
		if status != http.StatusNotModified {
			s.Cost++
			s.Remaining = max(s.Remaining-1, 0)
		}
		for name, v := range map[string]int64{"Limit": int64(s.Limit), "Remaining": int64(s.Remaining), "Reset": s.reset().Unix()} {
			if h.Get("X-Ratelimit-"+name) == "" {
				h.Set("X-RateLimit-"+name, strconv.FormatInt(v, 10))
			}
		}
		resource := "core"
		if at == "/graphql" {
			resource = "graphql"
		}
		h.Set("X-RateLimit-Resource", resource)
	}
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	s.Requests[fmt.Sprintf("%s %s %d", req.Method, at, status)]++
	w.WriteHeader(status)
	w.Write(body)
}

func (s *Server) reset() time.Time {
	if now := time.Now(); !s.Reset.After(now) {
		s.Reset = now.Add(time.Hour).Truncate(time.Second)
		s.Remaining = s.Limit
	}
	return s.Reset
}

func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func missing(w http.ResponseWriter, message string) {
	send(w, http.StatusNotFound, Object{"message": message, "documentation_url": "https://docs.github.com/rest", "status": "404"})
}

// Secondary answers as GitHub's secondary limit does.
func Secondary(after int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(after))
		}
		send(w, http.StatusForbidden, Object{"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.", "documentation_url": "https://docs.github.com/rest/overview/resources-in-the-rest-api#secondary-rate-limits"})
		return true
	}
}

// Broken answers 500.
func Broken(w http.ResponseWriter, _ *http.Request) bool {
	send(w, http.StatusInternalServerError, Object{"message": "Server Error"})
	return true
}

// Times has a fault happen so often.
func Times(n int, f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if n--; n < 0 {
			return false
		}
		return f(w, r)
	}
}

func (s *Server) answer(w http.ResponseWriter, req *http.Request, at string) {
	s.reset()
	if f := s.Faults[req.Method+" "+at]; f != nil && f(w, req) {
		return
	}
	if strings.HasPrefix(at, "/codeload/") {
		if req.Header.Get("Authorization") != "" {
			send(w, http.StatusBadRequest, Object{"message": "the archive's host must not see the token"})
			return
		}
		s.archive(w, strings.TrimPrefix(at, "/codeload/"))
		return
	}
	if s.Limit > 0 && s.Remaining == 0 {
		send(w, http.StatusForbidden, Object{"message": "API rate limit exceeded for installation ID 1."})
		return
	}
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	if strings.HasPrefix(at, "/app/") || path.Base(at) == "installation" {
		s.app(w, req, at, token)
		return
	}
	owner, ok := s.allowed(token)
	if !ok {
		send(w, http.StatusUnauthorized, Object{"message": "Bad credentials"})
		return
	}
	parts := strings.Split(strings.TrimPrefix(at, "/"), "/")
	switch {
	case at == "/graphql":
		s.graphQL(w, req)
	case at == "/installation/repositories":
		list := s.listed(func(r *Repo) bool { return r.Owner == owner })
		items := s.page(w, req, list)
		send(w, http.StatusOK, Object{"total_count": len(list), "repositories": items})
	case len(parts) == 3 && parts[0] == "orgs" && parts[2] == "repos", len(parts) == 3 && parts[0] == "users" && parts[2] == "repos":
		list := s.listed(func(r *Repo) bool { return r.Owner == parts[1] })
		if len(list) == 0 {
			missing(w, "Not Found")
			return
		}
		send(w, http.StatusOK, s.page(w, req, list))
	case len(parts) >= 3 && parts[0] == "repos":
		r := s.Repos[parts[1]+"/"+parts[2]]
		if moved := s.Repos[s.Moved[parts[1]+"/"+parts[2]]]; r == nil && moved != nil {
			to := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, RawQuery: req.URL.RawQuery}
			to.Path = strings.TrimSuffix(req.URL.Path, at) + path.Join("/repositories", strconv.FormatInt(moved.ID, 10), strings.Join(parts[3:], "/"))
			w.Header().Set("Location", to.String())
			status := http.StatusMovedPermanently
			if req.Method != http.MethodGet {
				status = http.StatusTemporaryRedirect
			}
			send(w, status, Object{"message": "Moved Permanently"})
			return
		}
		if r == nil {
			missing(w, "Not Found")
			return
		}
		s.repo(w, req, r, parts[3:])
	case len(parts) >= 2 && parts[0] == "repositories":
		for _, r := range s.Repos {
			if strconv.FormatInt(r.ID, 10) == parts[1] {
				s.repo(w, req, r, parts[2:])
				return
			}
		}
		missing(w, "Not Found")
	default:
		missing(w, "Not Found")
	}
}

func (s *Server) app(w http.ResponseWriter, req *http.Request, at, token string) {
	if s.Key != nil {
		claims := jwt.MapClaims{}
		if _, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return s.Key, nil }, jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired()); err != nil {
			send(w, http.StatusUnauthorized, Object{"message": "A JSON web token could not be decoded"})
			return
		}
	}
	if at == "/app/installations" {
		var list []any
		for _, id := range slices.Sorted(maps.Keys(s.Installations)) {
			list = append(list, s.installation(id))
		}
		send(w, http.StatusOK, s.page(w, req, list))
		return
	}
	if owner, ok := strings.CutPrefix(path.Dir(at), "/orgs/"); ok || path.Base(at) == "installation" {
		for id, login := range s.Installations {
			if ok && strings.EqualFold(login, owner) {
				send(w, http.StatusOK, s.installation(id))
				return
			}
		}
		missing(w, "Not Found")
		return
	}
	id, _ := strconv.ParseInt(strings.Split(at, "/")[3], 10, 64)
	if s.Installations[id] == "" {
		missing(w, "Not Found")
		return
	}
	token = "ghs_" + strconv.FormatInt(id, 10)
	if s.Tokens[id] != "" {
		token = s.Tokens[id]
	}
	send(w, http.StatusCreated, Object{"token": token, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
}

func (s *Server) installation(id int64) Object {
	o := Object{"id": id, "account": Object{"login": s.Installations[id]}}
	if s.Suspended[s.Installations[id]] {
		o["suspended_at"] = time.Now().UTC().Format(time.RFC3339)
	}
	return o
}

// allowed tells whose installation a token is for.
func (s *Server) allowed(token string) (owner string, ok bool) {
	if s.Expired[token] {
		return "", false
	}
	if s.Installations != nil {
		id, _ := strconv.ParseInt(strings.TrimPrefix(token, "ghs_"), 10, 64)
		for i, t := range s.Tokens {
			if t == token {
				id = i
			}
		}
		return s.Installations[id], s.Installations[id] != "" && !s.Suspended[s.Installations[id]]
	}
	return "", s.Token == "" || token == s.Token
}

func (s *Server) listed(is func(*Repo) bool) (out []any) {
	for _, name := range slices.Sorted(maps.Keys(s.Repos)) {
		if is(s.Repos[name]) {
			out = append(out, s.object(s.Repos[name]))
		}
	}
	return out
}

func (s *Server) object(r *Repo) Object {
	return Object{
		"id": r.ID, "name": r.Name, "full_name": r.Owner + "/" + r.Name, "owner": Object{"login": r.Owner}, "private": r.Private, "archived": r.Archived, "fork": r.Fork,
		"default_branch": r.Default, "html_url": "https://github.test/" + r.Owner + "/" + r.Name,
	}
}

// page cuts a list as the request asks, and links the next page.
func (s *Server) page(w http.ResponseWriter, req *http.Request, list []any) []any {
	q := req.URL.Query()
	size, _ := strconv.Atoi(q.Get("per_page"))
	if size <= 0 {
		size = 30
	}
	if s.PerPage > 0 {
		size = min(size, s.PerPage)
	}
	n, _ := strconv.Atoi(q.Get("page"))
	n = max(n, 1)
	from, to := min((n-1)*size, len(list)), min(n*size, len(list))
	if to < len(list) {
		next := *req.URL
		q.Set("page", strconv.Itoa(n+1))
		next.RawQuery = q.Encode()
		if next.Host == "" {
			next.Scheme, next.Host = "http", req.Host
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
	}
	return append([]any{}, list[from:to]...)
}

// SHA is the commit that a branch is at: it changes with its files.
func (r *Repo) SHA(branch string) string {
	h := sha1.New()
	for _, name := range slices.Sorted(maps.Keys(r.Branches[branch])) {
		fmt.Fprintf(h, "%s\x00%s\x00", name, r.Branches[branch][name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Server) repo(w http.ResponseWriter, req *http.Request, r *Repo, rest []string) {
	what := ""
	if len(rest) > 0 {
		what = rest[0]
	}
	switch {
	case what == "":
		send(w, http.StatusOK, s.object(r))
	case what == "contents":
		s.contents(w, req, r, strings.Join(rest[1:], "/"))
	case what == "branches" && len(rest) == 1:
		var list []any
		for _, b := range slices.Sorted(maps.Keys(r.Branches)) {
			list = append(list, Object{"name": b, "commit": Object{"sha": r.SHA(b)}, "protected": r.Protection[b] != nil || len(r.Rules[b]) > 0})
		}
		send(w, http.StatusOK, s.page(w, req, list))
	case what == "branches" && len(rest) >= 3:
		s.protection(w, req, r, rest)
	case what == "rules":
		list := []any{}
		branch, _ := url.PathUnescape(strings.Join(rest[2:], "/"))
		for _, o := range r.Rules[branch] {
			list = append(list, o)
		}
		send(w, http.StatusOK, s.page(w, req, list))
	case what == "rulesets" && len(rest) == 2:
		id, _ := strconv.ParseInt(rest[1], 10, 64)
		if r.Rulesets[id] == nil {
			missing(w, "Not Found")
			return
		}
		send(w, http.StatusOK, r.Rulesets[id])
	case what == "codeowners":
		files := r.Branches[r.Default]
		if files["CODEOWNERS"]+files[".github/CODEOWNERS"]+files["docs/CODEOWNERS"] == "" {
			missing(w, "Not Found")
			return
		}
		send(w, http.StatusOK, Object{"errors": append([]Object{}, r.CodeownersErrors...)})
	case what == "collaborators":
		var list []any
		for _, c := range r.Collaborators {
			if req.URL.Query().Get("affiliation") != "outside" || r.Outside[c["login"].(string)] {
				list = append(list, c)
			}
		}
		send(w, http.StatusOK, s.page(w, req, list))
	case what == "teams":
		var list []any
		for _, t := range r.Teams {
			list = append(list, t)
		}
		send(w, http.StatusOK, s.page(w, req, list))
	case what == "languages":
		send(w, http.StatusOK, r.Languages)
	case what == "tags":
		var list []any
		for _, t := range r.Tags {
			list = append(list, t)
		}
		send(w, http.StatusOK, s.page(w, req, list))
	case what == "actions" && len(rest) == 4:
		runs := append([]Object{}, r.Runs[rest[2]]...)
		send(w, http.StatusOK, Object{"total_count": len(runs), "workflow_runs": runs})
	case what == "tarball":
		at := s.Archives
		if at == "" {
			at = "https://codeload.github.test"
		}
		w.Header().Set("Location", at+"/codeload/"+r.Owner+"/"+r.Name+"/"+strings.Join(rest[1:], "/")+"?token=secret")
		w.WriteHeader(http.StatusFound)
	case what == "git" && len(rest) == 3 && rest[1] == "trees":
		s.tree(w, req, r, rest[2])
	case what == "git" && len(rest) == 3 && rest[1] == "blobs":
		for _, files := range r.Branches {
			for _, text := range files {
				if blobSHA(text) == rest[2] {
					w.Header().Set("Content-Type", "application/octet-stream")
					io.WriteString(w, text)
					return
				}
			}
		}
		missing(w, "Not Found")
	case what == "issues":
		s.issues(w, req, r, rest[1:])
	default:
		missing(w, "Not Found")
	}
}

func blobSHA(text string) string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(text), text))
	return hex.EncodeToString(sum[:])
}

// tree lists a commit's tree, or a folder's, whose SHA is made of its branch and
// path.
func (s *Server) tree(w http.ResponseWriter, req *http.Request, r *Repo, sha string) {
	id := func(branch, dir string) string { return hex.EncodeToString([]byte(branch + "\x00" + dir)) }
	branch, dir := "", ""
	for b := range r.Branches {
		if r.SHA(b) == sha {
			branch = b
		}
	}
	if text, err := hex.DecodeString(sha); branch == "" && err == nil {
		branch, dir, _ = strings.Cut(string(text), "\x00")
	}
	if r.Branches[branch] == nil {
		missing(w, "Not Found")
		return
	}
	deep := req.URL.Query().Get("recursive") != ""
	entries := map[string]Object{}
	for name, text := range r.Branches[branch] {
		rel, ok := strings.CutPrefix(name, dir)
		if !ok {
			continue
		}
		for at := path.Dir(rel); at != "."; at = path.Dir(at) {
			if deep || !strings.Contains(at, "/") {
				entries[at] = Object{"path": at, "mode": "040000", "type": "tree", "sha": id(branch, dir+at+"/")}
			}
		}
		if deep || !strings.Contains(rel, "/") {
			mode := "100644"
			if r.Links[name] {
				mode = "120000"
			}
			entries[rel] = Object{"path": rel, "mode": mode, "type": "blob", "sha": blobSHA(text), "size": len(text)}
		}
	}
	list := []Object{}
	for _, at := range slices.Sorted(maps.Keys(entries)) {
		list = append(list, entries[at])
	}
	cut := s.MaxTree > 0 && len(list) > s.MaxTree
	if cut {
		list = list[:s.MaxTree]
	}
	send(w, http.StatusOK, Object{"sha": sha, "tree": list, "truncated": cut})
}

func (s *Server) contents(w http.ResponseWriter, req *http.Request, r *Repo, at string) {
	branch := req.URL.Query().Get("ref")
	if branch == "" {
		branch = r.Default
	}
	full := strings.TrimPrefix(branch, "refs/heads/")
	files, ok := r.Branches[full]
	if full == branch && slices.ContainsFunc(r.Tags, func(t Object) bool { return t["name"] == branch }) {
		files, ok = map[string]string{"README.md": "tagged"}, true
	}
	at = strings.Trim(at, "/")
	if !ok {
		missing(w, "This repository is empty.")
		return
	}
	if text, ok := files[at]; ok {
		send(w, http.StatusOK, Object{"type": "file", "name": path.Base(at), "path": at, "encoding": "base64", "size": len(text), "content": base64.StdEncoding.EncodeToString([]byte(text))})
		return
	}
	entries := map[string]string{}
	for name := range files {
		rel, ok := strings.CutPrefix(name, at+"/")
		if at == "" {
			rel, ok = name, true
		}
		if !ok {
			continue
		}
		first, _, deeper := strings.Cut(rel, "/")
		entries[first] = "file"
		if deeper {
			entries[first] = "dir"
		}
	}
	if len(entries) == 0 {
		missing(w, "Not Found")
		return
	}
	var list []any
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if len(list) == 1000 {
			break // as GitHub does
		}
		if r.Links[path.Join(at, name)] {
			entries[name] = "symlink"
		}
		list = append(list, Object{"type": entries[name], "name": name, "path": path.Join(at, name)})
	}
	send(w, http.StatusOK, list)
}

func (s *Server) protection(w http.ResponseWriter, req *http.Request, r *Repo, rest []string) {
	branch := strings.Join(rest[1:slices.Index(rest, "protection")], "/")
	signatures := rest[len(rest)-1] == "required_signatures"
	switch {
	case r.Unavailable:
		send(w, http.StatusForbidden, Object{"message": "Upgrade to GitHub Pro or make this repository public to enable this feature."})
	case r.Branches[branch] == nil:
		missing(w, "Branch not found")
	case req.Method == http.MethodPut:
		var o Object
		json.NewDecoder(req.Body).Decode(&o)
		s.Puts[r.Owner+"/"+r.Name+" "+branch] = o
		r.Protection[branch] = protected(o)
		send(w, http.StatusOK, r.Protection[branch])
	case r.Protection[branch] == nil:
		missing(w, "Branch not protected")
	case signatures && req.Method == http.MethodPost:
		r.Signatures[branch] = true
		send(w, http.StatusOK, Object{"enabled": true})
	case signatures:
		send(w, http.StatusOK, Object{"enabled": r.Signatures[branch]})
	default:
		send(w, http.StatusOK, r.Protection[branch])
	}
}

// protected is the protection that a request made.
func protected(o Object) Object {
	out := Object{}
	if o["required_status_checks"] != nil {
		out["required_status_checks"] = o["required_status_checks"]
	}
	if r, ok := o["required_pull_request_reviews"].(Object); ok {
		out["required_pull_request_reviews"] = Object{
			"required_approving_review_count": r["required_approving_review_count"], "dismiss_stale_reviews": r["dismiss_stale_reviews"], "require_code_owner_reviews": r["require_code_owner_reviews"],
		}
	}
	for _, k := range []string{"enforce_admins", "allow_force_pushes", "required_linear_history", "allow_deletions", "lock_branch"} {
		if v, ok := o[k].(bool); ok {
			out[k] = Object{"enabled": v}
		}
	}
	return out
}

func (s *Server) graphQL(w http.ResponseWriter, req *http.Request) {
	var q struct {
		Query     string            `json:"query"`
		Variables map[string]string `json:"variables"`
	}
	if err := json.NewDecoder(req.Body).Decode(&q); err != nil {
		send(w, http.StatusBadRequest, Object{"message": "Problems parsing JSON"})
		return
	}
	data, errs := Object{}, []Object{}
	ask := func(alias, name string) {
		r := s.Repos[q.Variables["owner"]+"/"+name]
		if r == nil {
			data[alias] = nil
			errs = append(errs, Object{"type": "NOT_FOUND", "path": []string{alias}, "message": "Could not resolve to a Repository"})
			return
		}
		data[alias] = Object{"isSecurityPolicyEnabled": r.SecurityPolicy, "securityPolicyUrl": nil}
	}
	if n, ok := q.Variables["name"]; ok {
		ask("repository", n)
	} else if s.Flat {
		errs = append(errs, Object{"message": "Variable $name is missing"})
	}
	for i := 0; !s.Flat; i++ {
		n, ok := q.Variables["n"+strconv.Itoa(i)]
		if !ok {
			break
		}
		ask("r"+strconv.Itoa(i), n)
	}
	out := Object{"data": data}
	if len(errs) > 0 {
		out["errors"] = errs
	}
	send(w, http.StatusOK, out)
}

func (s *Server) archive(w http.ResponseWriter, at string) {
	parts := strings.SplitN(at, "/", 3)
	r := s.Repos[parts[0]+"/"+parts[1]]
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for name, text := range r.Branches[r.Default] {
		if other, ok := r.Archive[name]; ok {
			text = other
		}
		if text == "" {
			continue
		}
		t.WriteHeader(&tar.Header{Name: r.Owner + "-" + r.Name + "-0123456/" + name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
		io.Copy(t, bytes.NewReader([]byte(text)))
	}
	t.Close()
	z.Close()
}

func (s *Server) issues(w http.ResponseWriter, req *http.Request, r *Repo, rest []string) {
	if r.NoIssues {
		send(w, http.StatusGone, Object{"message": "Issues are disabled for this repo"})
		return
	}
	var in struct {
		Title, Body, State *string
		Labels             []string
	}
	if req.Method != http.MethodGet {
		json.NewDecoder(req.Body).Decode(&in)
	}
	var one *Issue
	if len(rest) > 0 {
		n, _ := strconv.Atoi(rest[0])
		if n < 1 || n > len(r.Issues) {
			missing(w, "Not Found")
			return
		}
		one = r.Issues[n-1]
	}
	object := func(i *Issue) Object {
		labels := []Object{}
		for _, l := range i.Labels {
			labels = append(labels, Object{"name": l})
		}
		return Object{"number": i.Number, "repository_url": "https://api.github.test/repos/" + r.Owner + "/" + r.Name, "title": i.Title, "body": i.Body, "state": i.State, "labels": labels, "updated_at": i.Updated.UTC().Format(time.RFC3339)}
	}
	switch {
	case one == nil && req.Method == http.MethodPost:
		i := &Issue{Number: len(r.Issues) + 1, Title: *in.Title, Body: *in.Body, Labels: in.Labels, State: "open", Updated: time.Now()}
		r.Issues = append(r.Issues, i)
		send(w, http.StatusCreated, object(i))
	case one == nil:
		var list []any
		q := req.URL.Query()
		for _, i := range slices.Backward(r.Issues) {
			if (q.Get("state") == "all" || i.State == "open") && (q.Get("labels") == "" || slices.Contains(i.Labels, q.Get("labels"))) {
				list = append(list, object(i))
			}
		}
		send(w, http.StatusOK, s.page(w, req, list))
	case len(rest) == 2 && req.Method == http.MethodPost:
		one.Comments, one.Updated = append(one.Comments, *in.Body), time.Now()
		send(w, http.StatusCreated, Object{"id": len(one.Comments), "body": *in.Body, "html_url": fmt.Sprintf("https://github.test/%s/%s/issues/%d#comment-%d", r.Owner, r.Name, one.Number, len(one.Comments))})
	case len(rest) == 2:
		var list []any
		for n, c := range one.Comments {
			list = append(list, Object{"id": n + 1, "body": c, "html_url": fmt.Sprintf("https://github.test/%s/%s/issues/%d#comment-%d", r.Owner, r.Name, one.Number, n+1)})
		}
		send(w, http.StatusOK, s.page(w, req, list))
	default:
		if in.State != nil {
			one.State = *in.State
		}
		if in.Body != nil {
			one.Body = *in.Body
		}
		one.Updated = time.Now()
		send(w, http.StatusOK, object(one))
	}
}
