// Package link carries scans over the link between hub and agent: Handler
// serves the hub's queue to its agents, and Client is that queue as an
// agent's Worker sees it. All of it is HTTP inside the link, with the agent
// named by the link's own certificate:
//
//	POST /v1/scans/lease           {kinds, holding}           → 200 job, 204 none came
//	POST /v1/scans/{id}/progress   {attempt, done, total, …}  → 204
//	POST /v1/scans/{id}/result?attempt=N   HDF, gzip          → 204
//	POST /v1/scans/{id}/failure    {attempt, reason, …}       → 204
//	POST /v1/scans/{id}/targets    {attempt, targets}         → 204
//	GET  /v1/profiles/{digest}                                → 200 archive
//
// and, for what somebody in the agent's cluster asks for:
//
//	POST /v1/scans                 {key, target, profile, …}  → 200 scan
//	GET  /v1/scans/{id}                                       → 200 scan
//	GET  /v1/scans?after=ID                                   → 200 [{id, key}], those that aren't finished
//	POST /v1/scans/{id}/withdraw                              → 204
//	POST /v1/profiles              archive                    → 200 {ref}
//
// A refusal is {code, error}; the codes are not-found (404), finished and
// stale (409), refused and invalid (422). Anything else means: try again later.
package link

import (
	"encoding/json"
	"errors"
	"time"

	"reeve.dev/reeve/scan"
)

// The limits of what either side sends.
const (
	maxMessage = 1 << 20
	maxResult  = 64 << 20 // compressed
	maxArchive = 64 << 20
	maxTargets = 4 << 20 // scan.MaxSelected of the longest names
)

// leaseWait is how long the hub lets an agent wait for a job. It is the
// carrier that notices when either is gone. An agent that holds scans waits for
// busyWait: it isn't given those, so one that it hands back, to be tried again,
// waits until it asks anew.
const (
	leaseWait = 2 * time.Minute
	busyWait  = 15 * time.Second
)

type leaseRequest struct {
	Kinds   []string  `json:"kinds"`
	Holding []scan.ID `json:"holding,omitempty"`
}

type jobMessage struct {
	ID            scan.ID         `json:"id"`
	Attempt       int             `json:"attempt"`
	Target        targetMessage   `json:"target"`
	Profile       string          `json:"profile"`
	ProfileDigest string          `json:"profileDigest"`
	Inputs        json.RawMessage `json:"inputs"`
	TimeoutMS     int64           `json:"timeoutMs"`
	Method        scan.Method     `json:"method,omitempty"`
	SBOM          bool            `json:"sbom,omitempty"`
	Selector      *scan.Selector  `json:"selector,omitempty"`
	LeaseForMS    int64           `json:"leaseForMs"`
}

type targetMessage struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Container string `json:"container,omitempty"`
	URI       string `json:"uri,omitempty"`
}

type progressMessage struct {
	Attempt int    `json:"attempt"`
	Done    int    `json:"done"`
	Total   int    `json:"total"`
	Control string `json:"control,omitempty"`
}

type failureMessage struct {
	Attempt int    `json:"attempt"`
	Reason  string `json:"reason"`
	// Transient says that another attempt may fare better.
	Transient bool `json:"transient,omitempty"`
}

type targetsMessage struct {
	Attempt int             `json:"attempt"`
	Targets []targetMessage `json:"targets"`
}

// ErrInvalid says that what was asked for can't be.
var ErrInvalid = errors.New("the request is invalid")

const codeInvalid = "invalid"

type refusal struct {
	Code  string `json:"code"`
	Error string `json:"error"`
}

// codes are the refusals that both sides know.
var codes = []struct {
	code   string
	status int
	err    error
}{
	{"not-found", 404, scan.ErrNotFound},
	{"finished", 409, scan.ErrFinished},
	{"stale", 409, scan.ErrStale},
	{"refused", 422, scan.ErrBadResult},
	{codeInvalid, 422, ErrInvalid},
}
