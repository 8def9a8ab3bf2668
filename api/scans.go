package api

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hdf/format"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// The wire's shapes of a scan.
type (
	ScanTarget struct {
		Agent     string `json:"agent,omitempty" doc:"The agent beside the target; may be left out while there is only one"`
		Namespace string `json:"namespace,omitempty"`
		Pod       string `json:"pod,omitempty"`
		Container string `json:"container,omitempty"`
		URI       string `json:"uri,omitempty" doc:"Any other target, such as dir:/; instead of namespace, pod and container"`
	}
	ScanRequest struct {
		Target ScanTarget `json:"target"`
		ScanRun
	}
	// ScanRun is what is asked of each scan.
	ScanRun struct {
		Scan struct {
			Profile   string         `json:"profile" minLength:"1"`
			Threshold string         `json:"threshold,omitempty" doc:"Without one every control must pass or be skipped"`
			Inputs    map[string]any `json:"inputs,omitempty"`
		} `json:"scan"`
		Options *struct {
			Timeout      int    `json:"timeout,omitempty" minimum:"1" maximum:"3600" doc:"Seconds that the run may take; 300 if left out"`
			Priority     string `json:"priority,omitempty" enum:"high,normal,low" doc:"Of the scans that an agent has to make, those of a higher priority come first, and within one the callers by turns; high needs the role operator"`
			Method       string `json:"method,omitempty" enum:"auto,exec,ephemeral,sidecar" doc:"The way into a container: by its own shell, by an ephemeral container or a sidecar with Reeve's scanner, or auto, the first that works"`
			SBOM         bool   `json:"sbom,omitempty" doc:"Have the agent make an SBOM of the container, too, and hand it in as an insight"`
			ReportFormat string `json:"reportFormat,omitempty" enum:"json" doc:"What results are wanted in; HDF as JSON"`
		} `json:"options,omitempty"`
		Callback *ScanCallback `json:"callback,omitempty"`
	}
	ScanCallback struct {
		URL            string            `json:"url" format:"uri"`
		Authentication *ScanCallbackAuth `json:"authentication,omitempty"`
		Secret         string            `json:"secret,omitempty" doc:"What the callback is signed with by Standard Webhooks, in place of the hub's own: whsec_ and the base64 of 24 to 64 random bytes"`
	}
	ScanCallbackAuth struct {
		Type     string `json:"type" enum:"none,bearer,basic"`
		Token    string `json:"token,omitempty"`
		Username string `json:"username,omitempty"`
		Password string `json:"password,omitempty"`
	}
	BatchWorkload struct {
		Kind string `json:"kind" enum:"Deployment,StatefulSet,DaemonSet,ReplicaSet,Job,CronJob,Pod"`
		Name string `json:"name" minLength:"1"`
	}
	// BatchSelector chooses containers of several clusters.
	BatchSelector struct {
		Agents    []string       `json:"agents,omitempty" maxItems:"1000" doc:"Agents whose clusters are searched; all that allow containers if left out"`
		Namespace string         `json:"namespace,omitempty"`
		Labels    string         `json:"labels,omitempty" doc:"A label selector of pods, such as app=web,tier!=test"`
		Workload  *BatchWorkload `json:"workload,omitempty" doc:"What the pods belong to, or one pod; needs a namespace"`
		Container string         `json:"container,omitempty" doc:"The name of the containers; all of a pod if left out, and of workload Pod its only or default one"`
	}
	BatchRequest struct {
		Selector BatchSelector `json:"selector" doc:"All running containers that meet each member; {} means those of the whole fleet"`
		ScanRun
	}
	// Batch is scans that were asked for together.
	Batch struct {
		ID          scan.BatchID `json:"id"`
		Status      string       `json:"status" enum:"selecting,running,done" doc:"selecting while an agent hasn't told yet what the selector chooses"`
		RequestedBy string       `json:"requestedBy,omitempty"`
		Created     time.Time    `json:"created"`
		Selections  []Selection  `json:"selections" nullable:"false" doc:"How the search stands at each agent"`
		Scans       struct {
			Queued    int `json:"queued"`
			Running   int `json:"running"`
			Completed int `json:"completed"`
			Error     int `json:"error"`
			Cancelled int `json:"cancelled"`
			Passed    int `json:"passed"`
			Failed    int `json:"failed"`
		} `json:"scans" doc:"How many scans it has led to so far, by status and outcome"`
		Links struct {
			Self  string `json:"self"`
			Scans string `json:"scans"`
		} `json:"links"`
	}
	Selection struct {
		Agent  string      `json:"agent"`
		Status scan.Status `json:"status" enum:"queued,running,completed,error,cancelled"`
		Reason string      `json:"reason,omitempty"`
	}
	// Scan is a scan as callers see it.
	Scan struct {
		ID      scan.ID      `json:"id"`
		Status  scan.Status  `json:"status" enum:"queued,running,completed,error,cancelled"`
		Outcome scan.Outcome `json:"outcome,omitempty" enum:"passed,failed" doc:"Of a completed scan"`
		Reason  string       `json:"reason,omitempty" doc:"Why it is in error, cancelled or still waiting"`
		Batch   scan.BatchID `json:"batch,omitempty" doc:"The batch that it belongs to"`
		Target  ScanTarget   `json:"target"`
		Scan    struct {
			Profile        string `json:"profile"`
			ProfileVersion string `json:"profileVersion,omitempty"`
			Threshold      string `json:"threshold,omitempty"`
			Priority       string `json:"priority,omitempty"`
			Method         string `json:"method,omitempty" doc:"The way into the container that was asked for"`
			SBOM           bool   `json:"sbom,omitempty" doc:"Whether the agent was asked for an SBOM, too"`
		} `json:"scan"`
		Entry    *hdf.Entry `json:"entry,omitempty" doc:"The way into the container that was taken, and why"`
		Progress struct {
			Done    int    `json:"done"`
			Total   int    `json:"total"`
			Control string `json:"control,omitempty" doc:"The control finished last"`
		} `json:"progress"`
		Counts      *hdf.Counts `json:"counts,omitempty" doc:"Controls by status, of a completed scan"`
		Findings    []string    `json:"findings,omitempty" doc:"The threshold's bounds that weren't met"`
		Attempt     int         `json:"attempt"`
		Instance    string      `json:"instance,omitempty" doc:"The agent process that runs it"`
		RequestedBy string      `json:"requestedBy,omitempty"`
		Created     time.Time   `json:"created"`
		Started     time.Time   `json:"started,omitzero"`
		Finished    time.Time   `json:"finished,omitzero"`
		Expires     time.Time   `json:"expires,omitzero" doc:"When it is given up if nothing happens"`
		Links       struct {
			Self    string `json:"self"`
			Events  string `json:"events"`
			Results string `json:"results,omitempty"`
		} `json:"links"`
	}
)

// FromScan is how s looks on the wire.
func FromScan(s scan.Scan) Scan {
	out := Scan{
		ID: s.ID, Batch: s.Batch, Status: s.Status, Outcome: s.Outcome, Reason: s.Reason,
		Target: ScanTarget{
			Agent: string(s.Request.Target.Agent), Namespace: s.Request.Target.Namespace, Pod: s.Request.Target.Pod,
			Container: s.Request.Target.Container, URI: s.Request.Target.URI,
		},
		Findings: s.Findings, Attempt: s.Attempt, RequestedBy: s.Request.RequestedBy,
		Created: s.Created, Started: s.Started, Finished: s.Finished,
	}
	out.Scan.Profile, out.Scan.ProfileVersion, out.Scan.Threshold = s.Request.Profile, s.ProfileVersion, s.Request.Threshold
	out.Scan.Priority = string(s.Request.Priority)
	out.Scan.Method, out.Scan.SBOM = string(s.Request.Method), s.Request.SBOM
	if s.Entry.Method != "" {
		out.Entry = &s.Entry
	}
	out.Progress.Done, out.Progress.Total, out.Progress.Control = s.Progress.Done, s.Progress.Total, s.Progress.Control
	if s.Status == scan.Completed {
		out.Counts = &s.Counts
	}
	if !s.Status.Final() {
		out.Expires, out.Instance = s.Expires, string(s.Lease.Instance)
	}
	out.Links.Self = prefix + "/scans/" + string(s.ID)
	out.Links.Events = out.Links.Self + "/events"
	if s.ResultDigest != "" {
		out.Links.Results = out.Links.Self + "/results"
	}
	return out
}

func (b *ScanRequest) request(ctx context.Context) scan.Request {
	r := b.ScanRun.request(ctx)
	r.Target = b.Target.target()
	return r
}

func (t ScanTarget) target() scan.Target {
	return scan.Target{Agent: fleet.AgentName(t.Agent), Namespace: t.Namespace, Pod: t.Pod, Container: t.Container, URI: t.URI}
}

func (b *ScanRun) request(ctx context.Context) scan.Request {
	r := scan.Request{
		Profile: b.Scan.Profile, Threshold: b.Scan.Threshold, Inputs: b.Scan.Inputs,
		RequestedBy: callerOf(ctx).String(),
	}
	r.Permit = func(t scan.Target) error { return reach(ctx, b.role(), t.Agent, t.Namespace) }
	if b.Options != nil {
		r.Timeout, r.Priority = time.Duration(b.Options.Timeout)*time.Second, scan.Priority(b.Options.Priority)
		r.Method, r.SBOM = scan.Method(b.Options.Method), b.Options.SBOM
	}
	if c := b.Callback; c != nil {
		r.Callback = &scan.Callback{URL: c.URL, Secret: scan.Secret(c.Secret)}
		if a := c.Authentication; a != nil {
			r.Callback.Type, r.Callback.Token = a.Type, scan.Secret(a.Token)
			r.Callback.Username, r.Callback.Password = a.Username, scan.Secret(a.Password)
		}
	}
	return r
}

// role is that which is needed to ask for it.
func (b *ScanRun) role() pki.Role {
	if b.Options != nil && b.Options.Priority == string(scan.High) {
		return pki.Operator
	}
	return pki.Scanner
}

// validCallback refuses now what couldn't be delivered later.
func (a *API) validCallback(c *scan.Callback) error {
	if c == nil {
		return nil
	}
	auth := alert.Auth{
		Type: alert.AuthType(c.Type), Token: string(c.Token), Username: c.Username, Password: string(c.Password), Secret: string(c.Secret),
	}
	if err := a.cfg.Callbacks.Validate(c.URL, auth); err != nil {
		location := "body.callback.url"
		bare := auth
		bare.Secret = ""
		switch {
		case a.cfg.Callbacks.Validate(c.URL, alert.Auth{}) != nil:
		case a.cfg.Callbacks.Validate(c.URL, bare) == nil:
			location = "body.callback.secret"
		default:
			location = "body.callback.authentication"
		}
		return huma.Error422UnprocessableEntity(err.Error(), &huma.ErrorDetail{Location: location, Message: err.Error()})
	}
	return nil
}

type ScanID struct {
	ID string `path:"id" doc:"The scan's id"`
}

// parse answers ErrNotFound for what can't be an id: there is no such scan.
func (in ScanID) parse() (scan.ID, error) {
	id, err := scan.ParseID(in.ID)
	if err != nil {
		return "", huma.Error404NotFound("there is no such scan: its id must be a UUID in lower case", &huma.ErrorDetail{Location: "path.id", Message: "not a UUID in lower case"})
	}
	return id, nil
}

type scanOutput struct{ Body Scan }

func (a *API) scans() {
	type created struct {
		Location string `header:"Location"`
		Body     Scan
	}
	op := within(operation(pki.Scanner, http.MethodPost, "/scans", "create-scan", "Ask for a scan", http.StatusRequestEntityTooLarge))
	op.DefaultStatus = http.StatusAccepted
	type createInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"255" doc:"A name of your choice for this request, such as a UUID: who asks again by it within a day, with the same body, gets the same scan; with another body it is refused"`
		Body ScanRequest
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *createInput) (*created, error) {
		r := in.Body.request(ctx)
		if err := a.prepare(ctx, &r, in.Key, in.Body); err != nil {
			return nil, err
		}
		s, err := a.cfg.Scans.Create(ctx, r)
		if err != nil {
			return nil, a.problem(ctx, "create a scan", err)
		}
		out := FromScan(s)
		return &created{Location: out.Links.Self, Body: out}, nil
	})

	type listInput struct {
		Status    string `query:"status" enum:"queued,running,completed,error,cancelled"`
		Outcome   string `query:"outcome" enum:"passed,failed"`
		Agent     string `query:"agent"`
		Namespace string `query:"namespace"`
		Profile   string `query:"profile" doc:"As it was asked for"`
		Batch     string `query:"batch"`
		Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before    string `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/scans", "list-scans", "List scans, newest first")),
		func(ctx context.Context, in *listInput) (*page[Scan], error) {
			found, err := a.cfg.Scans.List(ctx, scan.Filter{
				Status: scan.Status(in.Status), Outcome: scan.Outcome(in.Outcome), Agent: fleet.AgentName(in.Agent),
				Namespace: in.Namespace, Profile: in.Profile, Batch: scan.BatchID(in.Batch), Before: scan.ID(in.Before), Limit: in.Limit + 1, Within: visible(ctx),
			})
			if err != nil {
				return nil, a.problem(ctx, "list scans", err)
			}
			return newPage(found, in.Limit, FromScan, func(s scan.Scan) string { return string(s.ID) }), nil
		})

	type getInput struct {
		ScanID
		IfNoneMatch
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/scans/{id}", "get-scan", "Show a scan", http.StatusNotModified, http.StatusNotFound)),
		func(ctx context.Context, in *getInput) (*tagged[Scan], error) {
			s, err := a.scan(ctx, &in.ScanID)
			if err != nil {
				return nil, err
			}
			return tag(in.IfNoneMatch, "", FromScan(s))
		})

	op = within(operation(pki.Scanner, http.MethodPost, "/scans/{id}/cancel", "cancel-scan", "Cancel a scan", http.StatusNotFound, http.StatusConflict))
	huma.Register(a.huma, op, func(ctx context.Context, in *ScanID) (*scanOutput, error) {
		s, err := a.scan(ctx, in)
		if err == nil {
			err = reach(ctx, pki.Scanner, s.Request.Target.Agent, s.Request.Target.Namespace)
		}
		if err != nil {
			return nil, err
		}
		if s, err = a.cfg.Scans.Cancel(ctx, s.ID, callerOf(ctx).String()); err != nil {
			return nil, a.problem(ctx, "cancel a scan", err)
		}
		return &scanOutput{FromScan(s)}, nil
	})
	a.results()
	a.events()
	a.batches()
}

// prepare makes r, which the body asked for, one that may be queued.
func (a *API) prepare(ctx context.Context, r *scan.Request, key string, body any) error {
	if by := callerOf(ctx); r.Priority == scan.High && !by.Role.Allows(pki.Operator) { // where, Permit asks
		return huma.Error403Forbidden(fmt.Sprintf("the priority high needs the role %s; %s has the role %s", pki.Operator, by, by.Role),
			&huma.ErrorDetail{Location: "body.options.priority", Message: "needs the role operator"})
	}
	if key != "" {
		digest, err := digestOf(key, body)
		if err != nil {
			return a.problem(ctx, "name a request", err)
		}
		r.Key = scan.Key{Caller: r.RequestedBy, Name: key, Digest: digest}
	}
	return a.validCallback(r.Callback)
}

// digestOf tells requests apart. The key in it keeps equal requests, which may
// hold secrets, from having equal digests.
func digestOf(key string, body any) (string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(text)
	return hex.EncodeToString(mac.Sum(nil)), nil
}

func (a *API) scan(ctx context.Context, in *ScanID) (scan.Scan, error) {
	id, err := in.parse()
	if err != nil {
		return scan.Scan{}, err
	}
	s, err := a.cfg.Scans.Get(ctx, id)
	if err == nil && !seen(ctx, s.Request.Target.Agent, s.Request.Target.Namespace) {
		err = fmt.Errorf("scan %s: %w", id, scan.ErrNotFound)
	}
	if err != nil {
		return scan.Scan{}, a.problem(ctx, "get a scan", err)
	}
	return s, nil
}

func (a *API) results() {
	type input struct {
		ScanID
		Format string `query:"format" enum:"json,summary,sarif,junit,csv,html,oscal,ckl" default:"json" doc:"json is HDF, the Heimdall Data Format; the others are made of it"`
	}
	op := within(operation(pki.Viewer, http.MethodGet, "/scans/{id}/results", "get-results", "A completed scan's results, in the Heimdall Data Format or another", http.StatusNotFound, http.StatusConflict))
	ok := &huma.Response{Description: "HDF version 1 (InSpec exec-json), or what format asks for", Content: map[string]*huma.MediaType{}}
	for _, f := range format.All {
		kind := huma.TypeString
		if strings.HasSuffix(f.ContentType, "json") {
			kind = huma.TypeObject
		}
		ok.Content[f.ContentType] = &huma.MediaType{Schema: &huma.Schema{Type: kind}}
	}
	op.Responses = map[string]*huma.Response{"200": ok}
	huma.Register(a.huma, op, func(ctx context.Context, in *input) (*huma.StreamResponse, error) {
		s, err := a.scan(ctx, &in.ScanID)
		if err != nil {
			return nil, err
		}
		doc, err := a.cfg.Scans.Results(ctx, s.ID)
		if err != nil {
			return nil, a.problem(ctx, "get results", err)
		}
		f, _ := format.ByName(in.Format)
		if in.Format != "json" {
			if doc, err = a.convert(ctx, doc, f); err != nil {
				return nil, a.problem(ctx, "convert results", err)
			}
		}
		return a.document(doc, f.ContentType), nil
	})
}

// converters is how many results may be in memory to be converted at a time.
const converters = 2

// convert writes stored results in another format, and closes them. It is
// made whole before it is sent, so that what goes wrong can be answered.
func (a *API) convert(ctx context.Context, doc io.ReadCloser, f format.Format) (io.ReadCloser, error) {
	defer doc.Close()
	select {
	case a.converting <- struct{}{}:
		defer func() { <-a.converting }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	results, err := hdf.Decode(doc)
	if err != nil {
		return nil, err
	}
	results.Seal()
	var out bytes.Buffer
	if err := f.Write(&out, results); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return io.NopCloser(&out), nil
}

// document streams a document and closes it. A document that turns out to be
// damaged breaks the connection, so that no caller takes a part for the whole.
func (a *API) document(doc io.ReadCloser, contentType string) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer doc.Close()
		ctx.SetHeader("Content-Type", contentType)
		ctx.SetHeader("Content-Security-Policy", documentPolicy)
		if _, err := io.Copy(ctx.BodyWriter(), doc); err != nil {
			if ctx.Context().Err() == nil {
				a.cfg.Logger.ErrorContext(ctx.Context(), "send a document", "error", err)
			}
			panic(http.ErrAbortHandler)
		}
	}}
}

// documentPolicy lets a browser show a document, which others wrote, but do
// nothing on its behalf.
const documentPolicy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

// Intervals of a stream of events: a look at the scan although nothing
// told of a change (another hub may have made it), and how long one write may
// take.
const (
	eventsPoll  = 5 * time.Second
	eventsWrite = 10 * time.Second
)

func (a *API) events() {
	op := within(operation(pki.Viewer, http.MethodGet, "/scans/{id}/events", "watch-scan", "Follow a scan by server-sent events", http.StatusNotFound))
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Events `progress`, then one `done`; the data of each is the scan as GET /scans/{id} answers it.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *ScanID) (*huma.StreamResponse, error) {
		// One that changes no more, or isn't the caller's, isn't waited for.
		s, err := a.scan(ctx, in)
		if err != nil {
			return nil, err
		}
		changed := func() <-chan struct{} { return a.cfg.Scans.Changed(s.ID) }
		var next <-chan struct{}
		if !s.Status.Final() {
			next = changed() // taken before looking, so that no change is missed
			if s, err = a.scan(ctx, in); err != nil {
				return nil, err
			}
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			ctx.SetHeader("Content-Type", "text/event-stream")
			_, w := humago.Unwrap(ctx)
			a.follow(ctx.Context(), w, s, next, changed)
		}}, nil
	})
}

// follow sends s and each change of it until it is final or the caller goes.
func (a *API) follow(ctx context.Context, w http.ResponseWriter, s scan.Scan, next <-chan struct{}, changed func() <-chan struct{}) {
	rc := http.NewResponseController(w)
	poll := time.NewTicker(eventsPoll)
	defer poll.Stop()
	defer rc.SetWriteDeadline(time.Time{}) // the connection may be used again
	var last string
	for {
		data, err := json.Marshal(FromScan(s))
		if err != nil {
			return
		}
		text := ": still here\n\n"
		if string(data) != last {
			name := "progress"
			if s.Status.Final() {
				name = "done"
			}
			text = fmt.Sprintf("event: %s\ndata: %s\n\n", name, data)
			last = string(data)
		}
		rc.SetWriteDeadline(time.Now().Add(eventsWrite))
		if _, err := io.WriteString(w, text); err != nil || rc.Flush() != nil || s.Status.Final() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-poll.C:
		}
		next = changed()
		if s, err = a.cfg.Scans.Get(ctx, s.ID); err != nil {
			return
		}
	}
}
