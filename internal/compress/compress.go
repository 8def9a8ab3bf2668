// Package compress has answers to GET sent with gzip (RFC 9110, 8.4.1.3) where
// that saves something: large enough, of text, to a caller that takes it.
//
// Answers to other methods stay as they are: they may hold a secret beside
// what the caller sent, and the length of the two compressed together would
// tell of it. Events are never held back.
package compress

import (
	"compress/gzip"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// least is the size from which an answer is compressed: about what fits into
// one packet.
const least = 1400

// Handler compresses the answers of next.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Header.Get("Range") != "" {
			next.ServeHTTP(w, r)
			return
		}
		a := &answer{ResponseWriter: w, takes: Accepted(r.Header.Get("Accept-Encoding"))}
		// Not deferred: what breaks off must not look whole.
		next.ServeHTTP(a, r)
		a.finish()
	})
}

// Accepted reads an Accept-Encoding (RFC 9110, 12.5.3) for gzip.
func Accepted(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			weight, given := strings.CutPrefix(strings.TrimSpace(q), "q=")
			n, err := strconv.ParseFloat(weight, 64)
			return !given || err == nil && n > 0
		}
	}
	return false
}

var writers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// answer holds the beginning back until it is known how it is to be sent.
type answer struct {
	http.ResponseWriter
	takes  bool // the caller takes gzip
	status int  // 0: not said yet
	held   []byte
	sent   bool         // the head is out
	zip    *gzip.Writer // nil: as it is
}

func (a *answer) WriteHeader(status int) {
	switch {
	case status < 200: // more will come
		a.ResponseWriter.WriteHeader(status)
	case a.status == 0:
		a.status = status
		if !a.text() {
			a.send(false)
		}
	}
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.sent {
		if len(a.held)+len(p) < least {
			a.held = append(a.held, p...)
			return len(p), nil
		}
		if err := a.send(a.takes); err != nil {
			return 0, err
		}
	}
	if a.zip != nil {
		return a.zip.Write(p)
	}
	return a.ResponseWriter.Write(p)
}

// FlushError sends what there is, for http.ResponseController.
func (a *answer) FlushError() error {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.sent {
		if err := a.send(false); err != nil {
			return err
		}
	}
	if a.zip != nil {
		if err := a.zip.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach what answer doesn't change.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// text reports whether the answer may be compressed.
func (a *answer) text() bool {
	h := a.Header()
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified || h.Get("Content-Encoding") != "" {
		return false
	}
	typ, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	switch {
	case typ == "text/event-stream":
		return false
	case strings.HasPrefix(typ, "text/"), strings.HasSuffix(typ, "+json"), strings.HasSuffix(typ, "+xml"):
		return true
	}
	switch typ {
	case "application/json", "application/yaml", "application/javascript", "application/xml":
		return true
	}
	return false
}

// send sends the head and what was held back.
func (a *answer) send(zipped bool) error {
	a.sent = true
	h := a.Header()
	if a.text() {
		h.Add("Vary", "Accept-Encoding")
	}
	if zipped {
		h.Set("Content-Encoding", "gzip")
		h.Del("Content-Length")
		h.Del("Accept-Ranges")
		a.zip = writers.Get().(*gzip.Writer)
		a.zip.Reset(a.ResponseWriter)
	}
	a.ResponseWriter.WriteHeader(a.status)
	var err error
	switch {
	case len(a.held) == 0:
	case zipped:
		_, err = a.zip.Write(a.held)
	default:
		_, err = a.ResponseWriter.Write(a.held)
	}
	a.held = nil
	return err
}

// finish ends the answer. Its writes only fail for a caller that went away.
func (a *answer) finish() {
	if a.status != 0 && !a.sent {
		a.send(false)
	}
	if a.zip != nil {
		a.zip.Close()
		writers.Put(a.zip)
		a.zip = nil
	}
}
