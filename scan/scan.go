package scan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
)

var (
	// ErrNotFound says that there is no scan of that id, or none that the
	// asking agent may know of.
	ErrNotFound = errors.New("scan not found")
	// ErrFinished says that the scan is completed, in error or cancelled, so
	// that nothing about it can change any more.
	ErrFinished = errors.New("scan is finished")
	// ErrStale says that the scan has been leased again since the attempt
	// that the caller speaks of.
	ErrStale = errors.New("scan has passed to a later attempt")
	// ErrNoResult says that a scan has no results, or none yet.
	ErrNoResult = errors.New("scan has no results")
	// ErrKeyUsed says that a caller has named another request by the key.
	ErrKeyUsed = errors.New("the key was used for another request")
	// ErrBadResult says that what an agent sent as results isn't; the scan
	// is in error because of it.
	ErrBadResult = errors.New("results are refused")
)

// InvalidError says what is wrong with a request. Field is the path of the
// member that it is about, such as "target.pod".
type InvalidError struct {
	Field  string
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// ID names a scan: a UUID of version 7, so that ids sort by age.
type ID string

// NewID makes the id of a new scan.
func NewID() ID { return ID(uuid.Must(uuid.NewV7()).String()) }

// ParseID reads an id in its canonical form.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s {
		return "", fmt.Errorf("scan id %q: must be a UUID in lower case", s)
	}
	return ID(s), nil
}

// Status is where a scan stands.
type Status string

// The states of a scan; the last three are final.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Completed Status = "completed"
	Error     Status = "error"
	Cancelled Status = "cancelled"
)

// Final reports whether s is a state that a scan doesn't leave.
func (s Status) Final() bool { return s == Completed || s == Error || s == Cancelled }

// Outcome is the verdict of a completed scan; the others have none.
type Outcome string

// The verdicts.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
)

// KindContainer is the kind of the targets that are containers in a cluster;
// the kind of any other target is the scheme of its URI.
const KindContainer = "k8s-container"

// Target is what is scanned, and the agent beside it: a container by
// namespace, pod and container, or anything else by its URI.
type Target struct {
	Agent     fleet.AgentName
	Namespace string
	Pod       string
	Container string
	URI       string
}

// plain is t with a container that its URI names put into the members that
// are there for it, so that one container has one name.
func (t Target) plain() Target {
	rest, ok := strings.CutPrefix(t.URI, KindContainer+"://")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || t.Namespace != "" || t.Pod != "" || t.Container != "" {
		return t
	}
	return Target{Agent: t.Agent, Namespace: parts[0], Pod: parts[1], Container: parts[2]}
}

// Kind is what an agent's owner allows or forbids, such as "k8s-container".
func (t Target) Kind() string {
	if t.URI == "" {
		return KindContainer
	}
	scheme, _, _ := strings.Cut(t.URI, ":")
	return scheme
}

// String is the target as a URI; the agent isn't part of it.
func (t Target) String() string {
	if t.URI == "" {
		return KindContainer + "://" + t.Namespace + "/" + t.Pod + "/" + t.Container
	}
	return t.URI
}

// Subject is what the outcome of a scan of t is about.
func (t Target) Subject() fleet.Subject {
	if t.URI == "" {
		return fleet.Subject{Owner: string(t.Agent) + "/" + t.Namespace, Repo: t.Pod + "/" + t.Container}
	}
	return fleet.Subject{Owner: string(t.Agent), Repo: t.URI}
}

// Secret is text that must not be seen: it prints, logs and encodes as
// [secret]. Convert it to a string to use it.
type Secret string

const hidden = "[secret]"

func (Secret) String() string               { return hidden }
func (Secret) GoString() string             { return hidden }
func (Secret) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Callback is where the requester wants to be told that a scan is over. Type
// is none, bearer or basic; the zero value is none.
type Callback struct {
	URL      string
	Type     string
	Token    Secret
	Username string
	Password Secret
	// Secret is what the callback is signed with, in place of the hub's: whsec_
	// and base64.
	Secret Secret
}

// Request asks for one scan.
type Request struct {
	Target Target
	// Profile and Threshold are names, as a Catalogue has them; no threshold
	// means that every control must pass or be skipped.
	Profile   string
	Threshold string
	Inputs    map[string]any
	// Timeout bounds the run itself, not the waiting before it; zero is the
	// queue's default.
	Timeout     time.Duration
	Callback    *Callback
	RequestedBy string
	// Priority is high, normal or low; empty is normal.
	Priority Priority
	// Method is the way into a container; empty is auto.
	Method Method
	// SBOM has the agent hand in a bill of materials of the container, too, as an
	// insight.
	SBOM bool
	// Standing says that a rule asks for it, a route or schedule or policy, of the
	// hub's owner or of the agent's cluster (see ByAgent), and that nobody else chose
	// by what.
	Standing bool
	// Actions are what a policy of the agent's cluster wants its outcome told to
	// besides the hub's sinks; see Config.MoreSinks.
	Actions []string
	// Spread may put off its beginning; it isn't kept.
	Spread Spread
	// Key makes the request one that may be repeated; the zero value doesn't.
	// It isn't kept with the scan.
	Key Key
	// Permit, if it is there, has the last word once it is known which agent is
	// meant: with its error nothing is queued. Of a batch it is asked about the
	// namespace of each selection. It isn't kept.
	Permit func(Target) error
}

// Method is a way into a container of a cluster. Auto is the first that works.
type Method string

// The methods.
const (
	Auto      Method = "auto"
	Exec      Method = "exec"
	Ephemeral Method = "ephemeral"
	Sidecar   Method = "sidecar"
)

// Priority says which of an agent's scans come first: each class before the
// next, and within a class the callers by turns.
type Priority string

// The classes.
const (
	High   Priority = "high"
	Normal Priority = "normal"
	Low    Priority = "low"
)

// Key is the name that a caller gave a request, so that it can ask again when
// it got no answer and have one scan for it. It holds for KeyLife.
type Key struct {
	Caller, Name string
	// Digest tells this request from others.
	Digest string
}

// KeyLife is how long a Key is known.
const KeyLife = 24 * time.Hour

// maxText is the most bytes of what an agent says for a person to read.
const maxText = 4096

// cut is s as valid UTF-8 of at most maxText bytes, with a mark where it had
// more.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + " …"
	}
	return s
}

// DecodeInputs reads inputs from JSON. Numbers without a fraction become
// int64, for a profile can tell 1 from 1.0.
func DecodeInputs(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var inputs map[string]any
	if err := dec.Decode(&inputs); err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	for k, v := range inputs {
		inputs[k] = number(v)
	}
	return inputs, nil
}

func number(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case []any:
		for i := range v {
			v[i] = number(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = number(v[k])
		}
	}
	return v
}

// Policy is the name under which the outcome of r is told. It is the same for
// each version of a profile.
func (r Request) Policy() string {
	name, _, _ := strings.Cut(r.Profile, "@")
	if r.Threshold == "" {
		return name
	}
	return name + "/" + r.Threshold
}

// Progress counts the controls that are done. Control is the id of the one
// finished last.
type Progress struct {
	Done    int
	Total   int
	Control string
}

// Lease is an agent process's hold on a running scan.
type Lease struct {
	Instance fleet.InstanceID
	Expires  time.Time
}

// Scan is one scan with all that is known of it. Times that haven't come are
// zero.
type Scan struct {
	ID      ID
	Request Request
	// Batch is the one that it belongs to, if any; Selector is there only of
	// a batch's selection.
	Batch    BatchID
	Selector *Selector
	Status   Status
	Outcome  Outcome
	// Reason says why a scan is in error or cancelled, or why it isn't
	// running.
	Reason string
	// Attempt counts the leases, so it is 0 until the first.
	Attempt  int
	Created  time.Time
	Started  time.Time
	Finished time.Time
	// Expires is when a queued scan is given up, or a running one that
	// should have ended by itself.
	Expires time.Time
	// NotBefore is when a scan begins at the earliest whose request has a Spread,
	// or when one is tried again that failed by a fault around
	// it.
	NotBefore time.Time
	Lease     Lease
	Progress  Progress
	Counts    hdf.Counts
	// Compliance is that of the Verdict.
	Compliance int
	// Findings are the bounds of the threshold that weren't met.
	Findings []string

	ProfileVersion string
	ProfileDigest  string
	// ThresholdDigest is that of the threshold's text, as it was when the scan
	// was asked for.
	ThresholdDigest string
	// Entry is the way into the container that was taken, as the results tell.
	Entry hdf.Entry
	// ResultDigest and ResultSize are those of the results document.
	ResultDigest string
	ResultSize   int64
}

// Filter chooses scans; the zero value of a member chooses all. They come
// newest first; Before is the id at which the last page ended.
type Filter struct {
	Status    Status
	Outcome   Outcome
	Agent     fleet.AgentName
	Namespace string
	Profile   string
	Batch     BatchID
	// Within, unless it is nil, leaves those out that are in none of it.
	Within []fleet.Scope
	// Series chooses the completed scans of one target.
	Series *Series
	Before ID
	Limit  int
}

// Control is a control that wasn't passed.
type Control struct {
	ID     string
	Title  string
	Status hdf.Status
}

// Verdict is what results come to.
type Verdict struct {
	Outcome Outcome
	Counts  hdf.Counts
	// Compliance is the rounded percentage of the controls that apply which
	// passed.
	Compliance int
	Findings   []string
	// Bad are the controls that failed or couldn't be judged, in the order
	// of the document.
	Bad []Control
	// Entry is the document's.
	Entry hdf.Entry
}

// judge comes to the verdict on a sealed document. Findings are what the
// threshold says, if there is one; without one every control must pass or be
// skipped, and at least one pass. A document without controls never passes:
// nothing was judged.
func judge(doc *hdf.Results, threshold bool, findings []string) Verdict {
	list := doc.Findings()
	v := Verdict{Outcome: Passed, Counts: doc.Counts(), Compliance: hdf.Count(list).Compliance(), Findings: findings}
	if doc.Entry != nil {
		v.Entry = hdf.Entry{Method: cut(doc.Entry.Method), Reason: cut(doc.Entry.Reason)}
	}
	for _, f := range list {
		if c := f.Control; c.Status == hdf.Failed || c.Status == hdf.Error {
			v.Bad = append(v.Bad, Control{ID: c.ID, Title: c.Title, Status: c.Status})
		}
	}
	switch n := v.Counts; {
	case n == hdf.Counts{}:
		v.Findings = append(v.Findings, "no control was run: the profile has none for this target, or doesn't support its platform")
	case !threshold && n.Passed == 0 && len(v.Bad) == 0:
		v.Findings = append(v.Findings, fmt.Sprintf("nothing could be judged: all %d controls were skipped", n.Skipped))
	}
	if len(v.Findings) > 0 || !threshold && len(v.Bad) > 0 {
		v.Outcome = Failed
	}
	return v
}

// Job is a leased scan as the agent gets it.
type Job struct {
	ID            ID
	Attempt       int
	Target        Target
	Profile       string
	ProfileDigest string
	Inputs        map[string]any
	Timeout       time.Duration
	Method        Method
	SBOM          bool
	// Selector is there where the job is to tell what it chooses, and not to
	// scan.
	Selector *Selector
	// LeaseFor is how long the lease lasts from each report of progress.
	LeaseFor time.Duration
}

// kind is that of what the job looks at.
func (j *Job) kind() string {
	if j.Selector != nil {
		return KindContainer
	}
	return j.Target.Kind()
}
