package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"reeve.dev/reeve/api"
)

// request is a request for a view, which asks the API in the caller's name.
type request struct {
	*http.Request
	api http.Handler
	tag string // the version of what was read last, if it has one
	// caller is who asks.
	caller *api.Caller
}

// problem is what the API answers when it doesn't do what it was asked
// (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// items is one page of a list of the API.
type items[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

// get decodes what the API answers at path into v. What the API refuses is a
// *problem.
func (r *request) get(path string, query url.Values, v any) error {
	return r.read(path, query, func(body io.Reader) error { return json.NewDecoder(body).Decode(v) })
}

func (r *request) read(path string, query url.Values, decode func(io.Reader) error) error {
	return r.readAt("/api/v1"+path, query, decode)
}

// readAt is read of any path that the API serves.
func (r *request) readAt(path string, query url.Values, decode func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	req.URL.RawQuery = query.Encode()
	req.Host, req.RemoteAddr, req.TLS = r.Host, r.RemoteAddr, r.TLS
	for _, name := range []string{"Authorization", "Cookie"} {
		req.Header[name] = r.Header[name]
	}
	req.Header.Set("Cache-Control", "max-age=5") // sums that other pages have just asked for will do
	var a answer
	if err := a.of(r.api, req); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if a.status != 0 && a.status != http.StatusOK {
		p := &problem{Status: a.status, Title: http.StatusText(a.status), Detail: "The hub didn't say why."}
		json.Unmarshal(a.body.Bytes(), p) // what it doesn't say stays
		return p
	}
	r.tag = a.header.Get("ETag")
	if err := decode(&a.body); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// answer keeps what a handler answers. It has no limit of its own: lists are
// paged, and the store bounds documents.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// of lets api answer req. A handler that breaks off, since the document that
// it sends is damaged, is an error here.
func (a *answer) of(api http.Handler, req *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = http.ErrAbortHandler
		default:
			panic(p)
		}
	}()
	a.header = http.Header{}
	api.ServeHTTP(a, req)
	return nil
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// chosen are those of names that the view's URL gives, trimmed and not empty.
func (r *request) chosen(names ...string) url.Values {
	got, out := r.URL.Query(), url.Values{}
	for _, n := range names {
		if v := strings.TrimSpace(got.Get(n)); v != "" {
			out.Set(n, v)
		}
	}
	return out
}

// list is one page of a list in a view.
type list[T any] struct {
	Items []T
	// First and Next lead to the first and the next page; each is empty
	// where there is nowhere to go.
	First, Next string
}

// ask fetches one page of the list at path. query is what of the view's URL
// the API gets, keep what is for the view alone.
func ask[T any](r *request, path string, query, keep url.Values) (list[T], error) {
	var got items[T]
	err := r.get(path, query, &got)
	l := list[T]{Items: got.Items}
	link := url.Values{}
	for _, vs := range []url.Values{query, keep} {
		for k := range vs {
			link.Set(k, vs.Get(k))
		}
	}
	if link.Has("before") {
		link.Del("before")
		l.First = "?" + link.Encode()
	}
	if got.Next != "" {
		link.Set("before", got.Next)
		l.Next = "?" + link.Encode()
	}
	return l, err
}

// everything fetches each page of the list at path, for views that show a choice
// of all that there is.
func everything[T any](r *request, path string) (all []T, err error) {
	query := url.Values{"limit": {"500"}}
	for {
		var got items[T]
		if err := r.get(path, query, &got); err != nil {
			return nil, err
		}
		all = append(all, got.Items...)
		if got.Next == "" {
			return all, nil
		}
		query.Set("before", got.Next)
	}
}

// optional is a list that a view can do without: for who may not see it, it is
// empty.
func optional[T any](l list[T], err error) (list[T], error) {
	var p *problem
	if errors.As(err, &p) && p.Status == http.StatusForbidden {
		return list[T]{}, nil
	}
	return l, err
}
