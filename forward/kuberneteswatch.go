package forward

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"reeve.dev/reeve/fleet"
)

// watchBody ends a watch of a Kubernetes API whose link was lost as the API
// ends one that is old enough: between two events, in peace. client-go then
// watches on from the last event. What breaks off looks to it like a fault, so
// that each informer lists everything anew, and kubectl prints a nameless line.
type watchBody struct {
	io.ReadCloser
	x *exchange
	// byLine says that events end with a new line, as JSON's do. Else each has
	// its length before it, so that half of one can't be taken for a whole.
	byLine bool
	last   byte // 0: nothing came yet
}

// inPeace makes resp the answer to a watch, if it is one.
func (c *call) inPeace(resp *http.Response) {
	r := resp.Request
	if c.Type != fleet.Kubernetes || resp.StatusCode != http.StatusOK || resp.ContentLength >= 0 {
		return
	}
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if media != "application/json" && media != "application/vnd.kubernetes.protobuf" {
		return
	}
	if parseKube(r.Method, r.URL.Path, func() url.Values { return r.URL.Query() }).verb == "watch" {
		resp.Body = &watchBody{ReadCloser: resp.Body, x: c.x, byLine: media == "application/json"}
	}
}

func (b *watchBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.last = p[n-1]
	}
	if err != nil && !errors.Is(err, io.EOF) && (!b.byLine || b.last == 0 || b.last == '\n') {
		b.x.err, err = errCutShort, io.EOF
	}
	return n, err
}
