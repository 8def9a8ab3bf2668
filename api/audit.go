package api

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/pki"
)

// recordKey is under which a call's context has its audit record.
type recordKey struct{}

// begin makes the record of a call.
func begin(r *http.Request, action string, c Caller) *audit.Record {
	record := &audit.Record{
		Kind: audit.Change, At: time.Now(), Remote: r.RemoteAddr, Action: action, Method: r.Method, Path: r.URL.EscapedPath(),
	}
	if c.Name != "" {
		record.Actor, record.Credential = c.String(), c.credential.Key()
	}
	return record
}

// note adds details, by name and value, to the record of a call; what is empty
// is left out. None of them is a secret.
func note(ctx context.Context, details ...string) {
	r, ok := ctx.Value(recordKey{}).(*audit.Record)
	if !ok {
		return
	}
	if r.Details == nil {
		r.Details = map[string]string{}
	}
	for i := 0; i+1 < len(details); i += 2 {
		if details[i+1] != "" {
			r.Details[details[i]] = details[i+1]
		}
	}
}

// audited records a call that has ended, if it is one that changes something,
// reads what is recorded, or was refused.
func (a *API) audited(r *audit.Record, status int) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	refused := status == http.StatusUnauthorized || status == http.StatusForbidden
	if reads && !refused && r.Action != getRecording {
		return
	}
	a.audit(r, status)
}

// audit records a call that has ended.
func (a *API) audit(r *audit.Record, status int) {
	now := time.Now()
	r.At, r.Took, r.Status = now, now.Sub(r.At), status
	a.cfg.Audit(*r)
}

type (
	// AuditRecord is one record of the audit log.
	AuditRecord struct {
		Chain      string            `json:"chain" doc:"Of the replica that wrote it"`
		Seq        int64             `json:"seq" doc:"Its number in the chain"`
		Hash       string            `json:"hash"`
		At         time.Time         `json:"at" doc:"When it was over"`
		Seconds    float64           `json:"seconds,omitempty" doc:"How long it took"`
		Kind       audit.Kind        `json:"kind" enum:"request,change,hub,gap"`
		Actor      string            `json:"actor,omitempty"`
		Credential string            `json:"credential,omitempty"`
		Holder     string            `json:"holder,omitempty"`
		Remote     string            `json:"remote,omitempty"`
		Action     string            `json:"action" doc:"A verb of Kubernetes', a method in lower case, or an operation of this API"`
		Agent      string            `json:"agent,omitempty"`
		Service    string            `json:"service,omitempty" doc:"TYPE/NAME"`
		Method     string            `json:"method,omitempty"`
		Path       string            `json:"path,omitempty"`
		Namespace  string            `json:"namespace,omitempty"`
		Resource   string            `json:"resource,omitempty"`
		Name       string            `json:"name,omitempty"`
		Command    []string          `json:"command,omitempty" doc:"What is run in a container"`
		User       string            `json:"user,omitempty" doc:"As whom a Kubernetes API takes the request"`
		Groups     []string          `json:"groups,omitempty"`
		Status     int               `json:"status,omitempty"`
		Received   int64             `json:"received,omitempty" doc:"Bytes from the caller"`
		Sent       int64             `json:"sent,omitempty" doc:"Bytes to the caller"`
		Rule       string            `json:"rule,omitempty" doc:"The hub's rule that decided"`
		Error      string            `json:"error,omitempty"`
		Recording  string            `json:"recording,omitempty"`
		Count      int               `json:"count,omitempty" doc:"How many refusals, or records elsewhere, it stands for"`
		Details    map[string]string `json:"details,omitempty"`
	}
	// AuditChain is one replica's chain, with what vouches for it.
	AuditChain struct {
		Chain   string        `json:"chain"`
		Anchors []AuditAnchor `json:"anchors" nullable:"false"`
	}
	// AuditAnchor is a signed statement of which hash a record has.
	AuditAnchor struct {
		Seq       int64            `json:"seq"`
		Hash      string           `json:"hash"`
		Kind      audit.AnchorKind `json:"kind" enum:"checkpoint,trim" doc:"trim: all up to it was removed because of its age"`
		At        time.Time        `json:"at"`
		Signature []byte           `json:"signature" doc:"By the hub's CA"`
	}
	// AuditEntry is a record as it is stored, to be verified.
	AuditEntry struct {
		Seq  int64  `json:"seq"`
		Hash string `json:"hash"`
		Body string `json:"body" doc:"JSON, exactly as it was hashed"`
		// Those by which the store finds it.
		At      time.Time  `json:"at"`
		Kind    audit.Kind `json:"kind"`
		Actor   string     `json:"actor"`
		Holder  string     `json:"holder"`
		Agent   string     `json:"agent"`
		Service string     `json:"service"`
		Action  string     `json:"action"`
		Status  int        `json:"status"`
	}
	// Recording is what went over a caller's terminal.
	Recording struct {
		ID         string    `json:"id"`
		Began      time.Time `json:"began"`
		Ended      time.Time `json:"ended"`
		Actor      string    `json:"actor"`
		Credential string    `json:"credential"`
		Holder     string    `json:"holder,omitempty"`
		Agent      string    `json:"agent"`
		Service    string    `json:"service"`
		Namespace  string    `json:"namespace"`
		Pod        string    `json:"pod"`
		Container  string    `json:"container,omitempty"`
		Command    []string  `json:"command,omitempty" doc:"Left out for an attach"`
		Width      int       `json:"width"`
		Height     int       `json:"height"`
		Size       int64     `json:"size" doc:"Bytes"`
		Digest     string    `json:"digest"`
		Cause      string    `json:"cause,omitempty" doc:"What broke the session off"`
	}
)

func fromEntry(e audit.Entry) (AuditRecord, error) {
	r, err := audit.ParseRecord(e.Body)
	return AuditRecord{
		Chain: e.Chain, Seq: e.Seq, Hash: e.Hash, At: r.At, Seconds: r.Took.Seconds(), Kind: r.Kind,
		Actor: r.Actor, Credential: r.Credential, Holder: r.Holder, Remote: r.Remote, Action: r.Action, Agent: r.Agent, Service: r.Service,
		Method: r.Method, Path: r.Path, Namespace: r.Namespace, Resource: r.Resource, Name: r.Name, Command: r.Command, User: r.User, Groups: r.Groups,
		Status: r.Status, Received: r.Received, Sent: r.Sent, Rule: r.Rule, Error: r.Error, Recording: r.Recording, Count: r.Count, Details: r.Details,
	}, err
}

func rawEntry(e audit.Entry) AuditEntry {
	i := e.Index
	return AuditEntry{
		Seq: e.Seq, Hash: e.Hash, Body: e.Body, At: i.At, Kind: i.Kind, Actor: i.Actor, Holder: i.Holder,
		Agent: i.Agent, Service: i.Service, Action: i.Action, Status: i.Status,
	}
}

// Entry is e in its chain.
func (e AuditEntry) Entry(chain string) audit.Entry {
	return audit.Entry{Chain: chain, Seq: e.Seq, Hash: e.Hash, Body: e.Body, Index: audit.Index{
		At: e.At, Kind: e.Kind, Actor: e.Actor, Holder: e.Holder, Agent: e.Agent, Service: e.Service, Action: e.Action, Status: e.Status,
	}}
}

func fromRecording(r audit.Recording) Recording { return Recording(r) }

type auditQuery struct {
	Kind    audit.Kind `query:"kind" enum:"request,change,hub,gap"`
	Actor   string     `query:"actor"`
	Holder  string     `query:"holder"`
	Agent   string     `query:"agent"`
	Service string     `query:"service" doc:"TYPE/NAME"`
	Action  string     `query:"action"`
	Status  int        `query:"status" minimum:"100" maximum:"599"`
	Since   time.Time  `query:"since" doc:"RFC 3339"`
	Until   time.Time  `query:"until" doc:"RFC 3339"`
	Limit   int        `query:"limit" minimum:"1" maximum:"500" default:"100"`
	Before  string     `query:"before" doc:"Cursor of the page before"`
}

const getRecording = "get-recording"

var errCursor = errors.New("it isn't a cursor of this list")

// auditLog lets administrators see who did what.
func (a *API) auditLog() {
	huma.Register(a.huma, operation(pki.Admin, http.MethodGet, "/audit", "list-audit", "List audit records, the newest first"),
		func(ctx context.Context, in *auditQuery) (*page[AuditRecord], error) {
			before, err := readCursor(in.Before)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity("before: " + err.Error())
			}
			found, err := a.cfg.Records.AuditRecords(ctx, audit.Filter{
				Index: audit.Index{Kind: in.Kind, Actor: in.Actor, Holder: in.Holder, Agent: in.Agent, Service: in.Service, Action: in.Action, Status: in.Status},
				Since: in.Since, Until: in.Until, Limit: in.Limit + 1, Before: before,
			})
			if err != nil {
				return nil, a.problem(ctx, "read the audit log", err)
			}
			p := &page[AuditRecord]{}
			p.Body.Items = []AuditRecord{}
			for i, e := range found {
				if i == in.Limit {
					p.Body.Next = cursor(found[i-1])
					break
				}
				r, err := fromEntry(e)
				if err != nil {
					// One that was changed must not hide the others.
					r.Error = "this record can't be read; see reeve audit verify"
				}
				p.Body.Items = append(p.Body.Items, r)
			}
			return p, nil
		})

	huma.Register(a.huma, operation(pki.Admin, http.MethodGet, "/audit/chains", "list-audit-chains", "List the chains of audit records, with their anchors"),
		func(ctx context.Context, _ *struct{}) (*page[AuditChain], error) {
			chains, err := a.cfg.Records.AuditChains(ctx)
			out := []AuditChain{}
			for _, c := range chains {
				var anchors []audit.Anchor
				if anchors, err = a.cfg.Records.Anchors(ctx, c); err != nil {
					break
				}
				item := AuditChain{Chain: c, Anchors: []AuditAnchor{}}
				for _, n := range anchors {
					item.Anchors = append(item.Anchors, AuditAnchor{Seq: n.Seq, Hash: n.Hash, Kind: n.Kind, At: n.At, Signature: n.Signature})
				}
				out = append(out, item)
			}
			if err != nil {
				return nil, a.problem(ctx, "read the audit log", err)
			}
			return newPage(out, 0, func(c AuditChain) AuditChain { return c }, nil), nil
		})

	type entries struct {
		Chain string `path:"chain"`
		After int64  `query:"after" minimum:"0" doc:"The number of the last one that you have"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
	}
	huma.Register(a.huma, operation(pki.Admin, http.MethodGet, "/audit/chains/{chain}/records", "list-audit-entries", "A chain's records as they are stored, in order, to be verified"),
		func(ctx context.Context, in *entries) (*page[AuditEntry], error) {
			found, err := a.cfg.Records.AuditEntries(ctx, in.Chain, in.After, in.Limit)
			if err != nil {
				return nil, a.problem(ctx, "read the audit log", err)
			}
			return newPage(found, 0, rawEntry, nil), nil
		})
	a.recordings()
}

func (a *API) recordings() {
	type query struct {
		Actor  string `query:"actor"`
		Holder string `query:"holder"`
		Agent  string `query:"agent"`
		Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
		Before string `query:"before" doc:"Cursor of the page before"`
	}
	huma.Register(a.huma, operation(pki.Admin, http.MethodGet, "/recordings", "list-recordings", "List the recordings of terminals, the newest first"),
		func(ctx context.Context, in *query) (*page[Recording], error) {
			found, err := a.cfg.Recordings.Recordings(ctx, audit.RecordingFilter{Actor: in.Actor, Holder: in.Holder, Agent: in.Agent, Limit: in.Limit + 1, Before: in.Before})
			if err != nil {
				return nil, a.problem(ctx, "list recordings", err)
			}
			return newPage(found, in.Limit, fromRecording, func(r audit.Recording) string { return r.ID }), nil
		})

	type byID struct {
		ID string `path:"id"`
	}
	huma.Register(a.huma, operation(pki.Admin, http.MethodGet, "/recordings/{id}", "show-recording", "Show what a recording is of", http.StatusNotFound),
		func(ctx context.Context, in *byID) (*struct{ Body Recording }, error) {
			r, err := a.cfg.Recordings.Recording(ctx, in.ID)
			if err != nil {
				return nil, a.problem(ctx, "find a recording", err)
			}
			return &struct{ Body Recording }{fromRecording(r)}, nil
		})

	op := operation(pki.Admin, http.MethodGet, "/recordings/{id}/cast", getRecording, "A recording as asciicast v2", http.StatusNotFound)
	op.Responses = map[string]*huma.Response{"200": {Description: "asciicast v2", Content: map[string]*huma.MediaType{asciicast: {}}}}
	huma.Register(a.huma, op, func(ctx context.Context, in *byID) (*huma.StreamResponse, error) {
		r, err := a.cfg.Recordings.Recording(ctx, in.ID)
		var body io.ReadCloser
		if err == nil {
			body, err = a.cfg.Recordings.Document(r.Digest)
		}
		if err != nil {
			return nil, a.problem(ctx, "read a recording", err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer body.Close()
			hc.SetHeader("Content-Type", asciicast)
			hc.SetHeader("Content-Disposition", `attachment; filename="`+r.ID+`.cast"`)
			if _, err := io.Copy(hc.BodyWriter(), body); err != nil {
				a.cfg.Logger.ErrorContext(ctx, "read a recording", "recording", r.ID, "error", err)
				panic(http.ErrAbortHandler) // half of it must not look whole
			}
		}}, nil
	})
}

const asciicast = "application/x-asciicast"

// cursor is the place after e.
func cursor(e audit.Entry) string {
	text := strconv.FormatInt(e.Index.At.UnixMicro(), 10) + " " + strconv.FormatInt(e.Seq, 10) + " " + e.Chain
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func readCursor(text string) (audit.Cursor, error) {
	if text == "" {
		return audit.Cursor{}, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.SplitN(string(data), " ", 3)
	if err != nil || len(parts) != 3 {
		return audit.Cursor{}, errCursor
	}
	at, err := strconv.ParseInt(parts[0], 10, 64)
	seq, err2 := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || err2 != nil {
		return audit.Cursor{}, errCursor
	}
	return audit.Cursor{At: time.UnixMicro(at), Seq: seq, Chain: parts[2]}, nil
}
