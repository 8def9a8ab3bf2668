package event

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The types of events that Reeve knows of by name. Others are taken as well:
// a route may name any, if the data says what to scan.
const (
	// ContainerDeployed says that a container runs, of an image that wasn't
	// seen there before.
	ContainerDeployed = "container.deployed"
	// ImagePublished says that an image is in a registry.
	ImagePublished = "image.published"
	// ScanScheduled says that it is time for a scan; it is never a duplicate.
	ScanScheduled = "scan.scheduled"
)

// AgentSource is what the sources of agents' own events begin with, and no
// other's may: whoever names an event first has the name.
const AgentSource = "/agents/"

// The most that is taken.
const (
	// MaxEvent is the most bytes of an event, MaxBatch of a message with
	// several, and MaxEvents how many these may be.
	MaxEvent  = 256 << 10
	MaxBatch  = 8 << 20
	MaxEvents = 1000

	maxName = 1024
)

var (
	// ErrNotFound says that there is no event of that id.
	ErrNotFound = errors.New("event not found")
	// ErrFull says that as many events wait as may; the sender is to come
	// again later.
	ErrFull = errors.New("too many events wait to be acted on; send this one again later")
)

// InvalidError says what is wrong with a message. Field is the path of the
// member, such as "source", or "[3].source" in a batch.
type InvalidError struct {
	Field  string
	Reason string
}

func (e *InvalidError) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return e.Field + ": " + e.Reason
}

func invalid(field, format string, args ...any) *InvalidError {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// ID names an event at the hub: a UUID of version 7. What the sender calls it
// is Event.Name.
type ID string

// State is where an event stands; see the package comment.
type State string

// The states.
const (
	Pending    State = "pending"
	Scanned    State = "scanned"
	Duplicate  State = "duplicate"
	Superseded State = "superseded"
	Unrouted   State = "unrouted"
	Invalid    State = "invalid"
	Failed     State = "error"
)

// Event is one event as the hub keeps it.
type Event struct {
	ID ID
	// Source and Name (the attribute id) are the event's identity; the others
	// are attributes of the same name.
	Source, Name, Type, Subject string
	Time                        time.Time
	Data                        Data
	// Body is the whole event, structured, in JSON.
	Body []byte

	Received time.Time
	// By is who sent it, such as token:ci, agent:prod or broker:nats.
	By     string
	State  State
	Reason string
	// Decisions are what its routes led to.
	Decisions []Decision
	// Due is when a pending event is acted on, Since when the first came that
	// it supersedes, Later the one that is to supersede it, if there is one
	// already.
	Due, Since time.Time
	Later      ID
}

// Decision is what a route led to: Scan is that of Scanned and Duplicate.
type Decision struct {
	Route  string `json:"route"`
	State  State  `json:"state"`
	Scan   string `json:"scan,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Data is what an event's data says of what to scan: a container, by namespace,
// pod and container; anything else by its uri; or an image.
type Data struct {
	Agent       string            `json:"agent,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	Pod         string            `json:"pod,omitempty"`
	Container   string            `json:"container,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Image       string            `json:"image,omitempty"`
	ImageDigest string            `json:"imageDigest,omitempty"`
	Workload    *Workload         `json:"workload,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Profile and Threshold are those of a scan.scheduled that names them.
	Profile   string `json:"profile,omitempty"`
	Threshold string `json:"threshold,omitempty"`
}

// ScanNamespace is the namespace of what is scanned; empty for what is in none
// as such, whatever Namespace says: an image, or anything by its uri.
func (d Data) ScanNamespace() string {
	if d.Pod == "" {
		return ""
	}
	return d.Namespace
}

// Workload is what a pod belongs to.
type Workload struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// ProfileAnnotation, on a pod, names the profile in place of its route's.
const ProfileAnnotation = "scan-profile"

// validate says whether the data has what its type needs.
func (d Data) validate(typ string) *InvalidError {
	for _, m := range []struct{ name, value string }{
		{"agent", d.Agent},
		{"namespace", d.Namespace},
		{"pod", d.Pod},
		{"container", d.Container},
		{"uri", d.URI},
		{"image", d.Image},
		{"imageDigest", d.ImageDigest},
		{"profile", d.Profile},
		{"threshold", d.Threshold},
	} {
		if len(m.value) > maxName {
			return invalid("data."+m.name, "has more than %d bytes", maxName)
		}
	}
	if d.ImageDigest != "" && !digest.MatchString(d.ImageDigest) {
		return invalid("data.imageDigest", "%q must be sha256: and 64 hexadecimal digits", d.ImageDigest)
	}
	switch typ {
	case ContainerDeployed:
		for _, m := range []struct{ name, value string }{{"namespace", d.Namespace}, {"pod", d.Pod}, {"container", d.Container}} {
			if m.value == "" {
				return invalid("data."+m.name, "is missing; a %s names namespace, pod and container", typ)
			}
		}
	case ImagePublished:
		if d.Image == "" {
			return invalid("data.image", "is missing; an %s names the image, such as registry.example/shop/web:1.2", typ)
		}
	case ScanScheduled:
		if d.Pod == "" && d.URI == "" && d.Image == "" {
			return invalid("data", "a %s names what to scan: namespace, pod and container, or uri, or image", typ)
		}
	}
	return nil
}

// image is the reference by which the image is pulled: by digest, if it is
// known.
func (d Data) image() string {
	if d.ImageDigest == "" {
		return d.Image
	}
	name, _, _ := strings.Cut(d.Image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name + "@" + d.ImageDigest
}

// Topic names what an event is about, so that a later one about the same, of
// the same sender, supersedes it; empty: none does.
func (e *Event) Topic() string {
	d := e.Data
	switch {
	case e.Type == ScanScheduled:
		return ""
	case d.Pod != "":
		who := "Pod/" + d.Pod
		if d.Workload != nil {
			who = d.Workload.Kind + "/" + d.Workload.Name
		}
		return strings.Join([]string{e.By, e.Type, d.Agent, d.Namespace, who, d.Container}, "\n")
	case d.Image != "":
		return strings.Join([]string{e.By, e.Type, d.Agent, d.Namespace, "", d.Image}, "\n")
	}
	return ""
}

// about is for what an image's digest counts: a container isn't its image alone,
// so one workload's is never taken for another's. What has which image an agent
// sees; from anybody else it is a claim, which counts against others of the same
// sender.
func (e *Event) about() string {
	d := e.Data
	switch {
	case d.Agent == "" || e.By != "agent:"+d.Agent:
		return "said by " + e.By
	case d.Pod == "":
		return ""
	case d.Workload == nil:
		return "Pod/" + d.Pod + "/" + d.Container
	}
	return d.Workload.Kind + "/" + d.Workload.Name + "/" + d.Container
}

// newID makes the id of a new event.
func newID() ID { return ID(uuid.Must(uuid.NewV7()).String()) }
