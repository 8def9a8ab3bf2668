package github

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Responses keeps what GitHub answered, so that the next cycle asks only
// whether it still holds. Its methods may be called concurrently.
type Responses interface {
	// LoadResponses returns what was saved last of a scope, or nil.
	LoadResponses(ctx context.Context, connection, scope string) ([]byte, error)
	SaveResponses(ctx context.Context, connection, scope string, data []byte, now time.Time) error
}

const (
	// maxRemembered bounds one answer that is remembered, and maxMemory all of
	// one scope, before they are compressed.
	maxRemembered = 4 << 20
	maxMemory     = 64 << 20
	// memoryFormat begins what is saved; what begins otherwise is forgotten.
	memoryFormat = 1
)

// memory is what GitHub answered about one scope, a repository or an
// organisation: by the request, with the validator by which it is asked for
// again (RFC 9110, 13.1.2). An answer of 304 costs nothing of the rate limit.
//
// What wasn't asked for this time is forgotten, so a memory doesn't grow beyond
// what one cycle needs.
type memory struct {
	connection, scope string

	mu      sync.Mutex
	known   map[string]*answer // of the last time
	used    map[string]*answer // of this time
	size    int
	changed bool
}

// answer is one remembered response.
type answer struct {
	Status int    `json:"status"`
	ETag   string `json:"etag,omitempty"`
	Link   string `json:"link,omitempty"`
	Type   string `json:"type,omitempty"`
	// AsOf is what the answer was made of, if it is known; see holding.
	AsOf string `json:"asOf,omitempty"`
	Body []byte `json:"body,omitempty"`
}

type savedMemory struct {
	Format  int                `json:"format"`
	Answers map[string]*answer `json:"answers"`
}

var packers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed)
	return w
}}

func pack(m savedMemory) ([]byte, error) {
	var b bytes.Buffer
	z := packers.Get().(*flate.Writer)
	defer packers.Put(z)
	z.Reset(&b)
	if err := json.NewEncoder(z).Encode(m); err != nil {
		return nil, err
	}
	err := z.Close()
	return b.Bytes(), err
}

func unpack(data []byte) (m savedMemory, err error) {
	z := flate.NewReader(bytes.NewReader(data))
	defer z.Close()
	// A body is in base64, and so longer than what was counted.
	err = json.NewDecoder(io.LimitReader(z, 2*maxMemory)).Decode(&m)
	return m, err
}

// recall loads the memory of a scope. What can't be read is forgotten.
func recall(ctx context.Context, r Responses, connection, scope string) (*memory, error) {
	m := &memory{connection: connection, scope: scope, known: map[string]*answer{}, used: map[string]*answer{}}
	data, err := r.LoadResponses(ctx, connection, scope)
	if err != nil || data == nil {
		return m, err
	}
	if saved, err := unpack(data); err == nil && saved.Format == memoryFormat && saved.Answers != nil {
		m.known = saved.Answers
	}
	return m, nil
}

// save keeps what was asked for since recall.
func (m *memory) save(ctx context.Context, r Responses, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.changed && len(m.used) == len(m.known) {
		return nil
	}
	data, err := pack(savedMemory{memoryFormat, m.used})
	if err != nil {
		return err
	}
	if err := r.SaveResponses(ctx, m.connection, m.scope, data, now); err != nil {
		return err
	}
	m.known, m.changed = maps.Clone(m.used), false
	return nil
}

// recalled returns what is known of a request.
func (m *memory) recalled(key string) *answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.used[key]; a != nil {
		return a
	}
	return m.known[key]
}

// remember takes an answer that was given now, or that still holds.
func (m *memory) remember(key string, a *answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.size+len(a.Body) > maxMemory {
		m.changed = true
		return
	}
	m.size += len(a.Body)
	if m.used[key] != nil {
		m.size -= len(m.used[key].Body)
	}
	if m.known[key] != a {
		m.changed = true
	}
	m.used[key] = a
}

// text is what was kept under a name of ours; see keepText.
func (m *memory) text(name string) (string, bool) {
	if a := m.recalled("text:" + name); a != nil {
		return string(a.Body), true
	}
	return "", false
}

// keepText remembers a text of ours, such as the last version of a file that
// could be read.
func (m *memory) keepText(name, text string) {
	old := m.recalled("text:" + name)
	if old == nil || string(old.Body) != text {
		old = &answer{Body: []byte(text)}
	}
	m.remember("text:"+name, old)
}

// holding says what an answer is made of, beside the request. With the same
// asOf as before, an absence (404) holds without being asked for again, which
// would cost a request each time since GitHub validates only what is there;
// and everything does if whole.
type holding struct {
	asOf  string
	whole bool
}

type memoryKey struct{}

type holdingKey struct{}

// memoryOf is the memory that answers the requests of ctx; nil: none.
func memoryOf(ctx context.Context) *memory {
	m, _ := ctx.Value(memoryKey{}).(*memory)
	return m
}

// remembering has the requests of ctx answered with the help of m.
func remembering(ctx context.Context, m *memory) context.Context {
	return context.WithValue(ctx, memoryKey{}, m)
}

// holds says what the answers to the requests of ctx are made of. An empty asOf
// isn't known.
func holds(ctx context.Context, asOf string, whole bool) context.Context {
	return context.WithValue(ctx, holdingKey{}, holding{asOf, whole})
}

// remembered is a transport that asks only for what may have changed.
type remembered struct{ next http.RoundTripper }

func (t remembered) RoundTrip(req *http.Request) (*http.Response, error) {
	m := memoryOf(req.Context())
	if m == nil || req.Method != http.MethodGet {
		return t.next.RoundTrip(req)
	}
	hold, _ := req.Context().Value(holdingKey{}).(holding)
	key := req.Header.Get("Accept") + " " + req.URL.RequestURI()
	old := m.recalled(key)
	if old != nil && hold.asOf != "" && old.AsOf == hold.asOf && (hold.whole || old.Status == http.StatusNotFound) {
		m.remember(key, old)
		return old.response(req), nil
	}
	if old != nil && old.ETag != "" {
		req = req.Clone(req.Context())
		req.Header.Set("If-None-Match", old.ETag)
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		resp.Body.Close()
		fresh := old
		if old.AsOf != hold.asOf {
			c := *old
			c.AsOf, fresh = hold.asOf, &c
		}
		m.remember(key, fresh)
		return fresh.response(req), nil
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNotFound && hold.asOf != "":
		return take(resp, func(body []byte) {
			m.remember(key, &answer{
				Status: resp.StatusCode, ETag: resp.Header.Get("ETag"), Link: resp.Header.Get("Link"),
				Type: resp.Header.Get("Content-Type"), AsOf: hold.asOf, Body: body,
			})
		})
	}
	return resp, nil
}

// take reads the body, for the caller and for whoever keeps it, unless it is
// too long to be kept.
func take(resp *http.Response, keep func([]byte)) (*http.Response, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRemembered+1))
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) <= maxRemembered {
		resp.Body.Close()
		keep(body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, nil
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
	return resp, nil
}

func (a *answer) response(req *http.Request) *http.Response {
	h := http.Header{}
	for name, value := range map[string]string{"Link": a.Link, "Content-Type": a.Type, "Etag": a.ETag, "Content-Length": strconv.Itoa(len(a.Body))} {
		if value != "" {
			h.Set(name, value)
		}
	}
	return &http.Response{
		Status: strconv.Itoa(a.Status) + " " + http.StatusText(a.Status), StatusCode: a.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: req,
		ContentLength: int64(len(a.Body)), Body: io.NopCloser(bytes.NewReader(slices.Clone(a.Body))),
	}
}
