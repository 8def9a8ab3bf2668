package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"reeve.dev/reeve/fleet"
)

// Session is a terminal that is to be recorded.
type Session struct {
	Caller                    Caller
	Namespace, Pod, Container string
	// Command is empty for an attach.
	Command []string
}

// Recorder makes recordings.
type Recorder interface {
	Record(Session) (Tape, error)
}

// Tape is one recording. Its methods are called by several goroutines. An
// error of Output or Resize ends the session.
type Tape interface {
	ID() string
	Output([]byte) error
	Resize(width, height int) error
	// Close is called once; cause is what broke the session off, if anything
	// did.
	Close(cause error) error
}

// errNotRecorded is why a session doesn't take place, or ends.
var errNotRecorded = errors.New("the session can't be recorded")

// The protocols of https://kubernetes.io/docs/reference/using-api/api-concepts/
// #streams that can be recorded; their channels are the same.
var recordable = []string{"v5.channel.k8s.io", "v4.channel.k8s.io"}

const spdyUpgrade = "SPDY/3.1"

// toRecord finds out whether r is a session that its rule has recorded, and
// sees to it that it takes place by a protocol that can be. The error is for
// the caller.
func (h *Hub) toRecord(r *http.Request, c *call) (*http.Request, error) {
	rule := c.decision.rule
	if rule == nil || !rule.Record || c.Type != fleet.Kubernetes {
		return r, nil
	}
	k := parseKube(r.Method, r.URL.Path, r.URL.Query)
	switch {
	case r.Header.Get("Upgrade") == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead || !k.runs()):
		return r, nil
	case k.odd || k.resource != "pods" || !slices.Contains([]string{"exec", "attach", "portforward"}, k.subresource):
		return r, fmt.Errorf("%s has sessions recorded, and this isn't one that can be: it takes exec, attach and port-forward of a pod", rule)
	case k.subresource == "portforward":
		return r, nil
	case h.cfg.Recorder == nil:
		return r, fmt.Errorf("%s has this session recorded, and this hub records nothing", rule)
	}
	query := r.URL.Query()
	c.session = &Session{Caller: c.Caller, Namespace: k.namespace, Pod: k.name, Container: query.Get("container")}
	if k.subresource == "exec" {
		c.session.Command = query["command"]
	}
	upgrade := r.Header.Get("Upgrade")
	if strings.EqualFold(upgrade, spdyUpgrade) {
		return r, nil
	}
	if !strings.EqualFold(upgrade, "websocket") {
		return r, fmt.Errorf("%s has this session recorded, which needs %s or a WebSocket, not %q", rule, spdyUpgrade, upgrade)
	}
	var offered []string
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.TrimSpace(p); slices.Contains(recordable, p) {
				offered = append(offered, p)
			}
		}
	}
	if len(offered) == 0 {
		return r, fmt.Errorf("%s has this session recorded, which needs the WebSocket protocol %s", rule, strings.Join(recordable, " or "))
	}
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	r.Header.Set("Sec-Websocket-Protocol", strings.Join(offered, ", "))
	r.Header.Del("Sec-Websocket-Extensions") // such as compression
	return r, nil
}

// record begins the recording of a session whose protocol has been agreed on.
func (h *Hub) record(c *call, resp *http.Response) error {
	if c.session == nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	t := &tap{}
	if strings.EqualFold(resp.Header.Get("Upgrade"), spdyUpgrade) {
		t.bySPDY()
	} else {
		protocol := resp.Header.Get("Sec-Websocket-Protocol")
		if !slices.Contains(recordable, protocol) || resp.Header.Get("Sec-Websocket-Extensions") != "" {
			return fmt.Errorf("%w: the service chose the protocol %q", errNotRecorded, protocol)
		}
		t.byWebSocket()
	}
	tape, err := h.cfg.Recorder.Record(*c.session)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	t.tape, t.failed = tape, func(err error) {
		h.cfg.Logger.Error("recording isn't kept as it should be", "recording", tape.ID(), "error", err)
	}
	c.x.tap = t
	return nil
}

// tap reads along both ways of a session. What it can't read it lets nobody
// have: its error ends the session.
type tap struct {
	tape   Tape
	failed func(error)

	caller, server func([]byte) error

	mu  sync.Mutex
	err error // guarded by mu; the first
}

func (t *tap) fromCaller(p []byte) error { return t.read(t.caller, p) }
func (t *tap) toCaller(p []byte) error   { return t.read(t.server, p) }

func (t *tap) read(parse func([]byte) error, p []byte) error {
	err := parse(p)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: %w", errNotRecorded, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	return err
}

// close ends the recording of x. A nil tap has none.
func (t *tap) close(x *exchange) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if x.err == nil {
		x.err = t.err
	}
	t.mu.Unlock()
	if err := t.tape.Close(x.err); err != nil {
		t.failed(err)
	}
}

// The channels of a session.
const (
	channelOut    = 1
	channelErr    = 2
	channelResize = 4
)

// sizes reads a terminal's sizes off a stream of JSON objects.
type sizes struct{ rest []byte }

// maxSize is far above what a size takes.
const maxSize = 1 << 10

func (s *sizes) read(p []byte, resize func(width, height int) error) error {
	s.rest = append(s.rest, p...)
	for {
		end := bytes.IndexByte(s.rest, '}')
		if end < 0 {
			if len(s.rest) > maxSize {
				return errors.New("a terminal's size is longer than it can be")
			}
			return nil
		}
		var size struct{ Width, Height uint16 }
		if err := json.Unmarshal(s.rest[:end+1], &size); err != nil {
			return fmt.Errorf("a terminal's size: %w", err)
		}
		s.rest = append(s.rest[:0], s.rest[end+1:]...)
		if size.Width > 0 && size.Height > 0 {
			if err := resize(int(size.Width), int(size.Height)); err != nil {
				return err
			}
		}
	}
}
