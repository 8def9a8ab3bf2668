package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind says what a record is about.
type Kind string

const (
	// Request is a request to a service, forwarded or refused.
	Request Kind = "request"
	// Change is a call of the hub's API that changes something, or was
	// refused.
	Change Kind = "change"
	// Hub is what the hub itself does: it starts, stops, has another
	// configuration, or an agent joins.
	Hub Kind = "hub"
	// Gap stands for records that are in the hub's log only.
	Gap Kind = "gap"
)

// Kinds lists all kinds.
var Kinds = []Kind{Request, Change, Hub, Gap}

// Record is one entry of the audit log. It holds no secret.
type Record struct {
	// At is when it was over; it began Took earlier.
	At   time.Time     `json:"at"`
	Kind Kind          `json:"kind"`
	Took time.Duration `json:"took,omitempty"` // nanoseconds

	// Actor is who did it: a SPIFFE id, or token:NAME, session:NAME or
	// certificate:NAME at the API; empty where nobody is known. Credential
	// tells its credential from others, Holder is whom that was made out to.
	Actor      string `json:"actor,omitempty"`
	Credential string `json:"credential,omitempty"`
	Holder     string `json:"holder,omitempty"`
	Remote     string `json:"remote,omitempty"`

	// Action is a verb of Kubernetes', a method in lower case, or the name of
	// an operation of the API.
	Action string `json:"action"`
	Agent  string `json:"agent,omitempty"`
	// Service is TYPE/NAME.
	Service string `json:"service,omitempty"`
	Method  string `json:"method,omitempty"`
	Path    string `json:"path,omitempty"`
	// Namespace, Resource (pods/exec, deployments.apps) and Name are those of
	// a request to a Kubernetes API.
	Namespace string `json:"namespace,omitempty"`
	Resource  string `json:"resource,omitempty"`
	Name      string `json:"name,omitempty"`
	// Command is what is run in a container.
	Command []string `json:"command,omitempty"`
	// User and Groups are as whom a request to a Kubernetes API is made, where
	// a rule or the caller says so.
	User   string   `json:"user,omitempty"`
	Groups []string `json:"groups,omitempty"`

	Status   int   `json:"status,omitempty"`
	Received int64 `json:"received,omitempty"`
	Sent     int64 `json:"sent,omitempty"`
	// Rule is the hub's rule that decided, Error what refused it or cut it
	// short.
	Rule  string `json:"rule,omitempty"`
	Error string `json:"error,omitempty"`
	// Recording is the id of the terminal's recording.
	Recording string `json:"recording,omitempty"`
	// Count is how many refusals this record stands for; 0 means one.
	Count int `json:"count,omitempty"`
	// Details are further members of a change.
	Details map[string]string `json:"details,omitempty"`
}

// What a caller can make long is cut to these lengths, in bytes.
const (
	maxText     = 1 << 10
	maxPath     = 4 << 10
	maxArgument = 4 << 10
	maxCommand  = 64
)

const cutMark = "…"

// clean makes every text of r one that each database holds as it is, and none
// longer than it may be; one that was cut ends in an ellipsis.
func (r Record) clean() Record {
	r.At = r.At.UTC().Truncate(time.Microsecond)
	for _, s := range []*string{
		&r.Actor, &r.Credential, &r.Holder, &r.Remote, &r.Action, &r.Agent, &r.Service, &r.Method,
		&r.Namespace, &r.Resource, &r.Name, &r.User, &r.Rule, &r.Error, &r.Recording,
	} {
		*s = cut(*s, maxText)
	}
	r.Path = cut(r.Path, maxPath)
	r.Command = cutAll(r.Command)
	r.Groups = cutAll(r.Groups)
	if len(r.Details) > 0 {
		details := make(map[string]string, len(r.Details))
		for k, v := range r.Details {
			details[cut(k, maxText)] = cut(v, maxPath)
		}
		r.Details = details
	}
	return r
}

func cutAll(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := slices.Clone(list[:min(len(list), maxCommand)])
	for i := range out {
		out[i] = cut(out[i], maxArgument)
	}
	if len(list) > maxCommand {
		out = append(out, cutMark)
	}
	return out
}

func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most-len(cutMark)] + cutMark
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// body is r as it is stored.
func (r Record) body() (string, error) {
	data, err := json.Marshal(r)
	return string(data), err
}

// ParseRecord reads a stored body.
func ParseRecord(body string) (Record, error) {
	var r Record
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return Record{}, fmt.Errorf("audit record: %w", err)
	}
	return r, nil
}

// Index is what a store keeps of a record beside its body, to find it by.
type Index struct {
	At      time.Time
	Kind    Kind
	Actor   string
	Holder  string
	Agent   string
	Service string
	Action  string
	Status  int
}

// Index is that of r.
func (r Record) Index() Index {
	return Index{At: r.At, Kind: r.Kind, Actor: r.Actor, Holder: r.Holder, Agent: r.Agent, Service: r.Service, Action: r.Action, Status: r.Status}
}

// equal compares as a database does, which doesn't keep a time's zone.
func (i Index) equal(o Index) bool {
	same := i.At.Equal(o.At)
	i.At, o.At = time.Time{}, time.Time{}
	return same && i == o
}
