package event

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Route says which events lead to which scan. Each route that matches an event
// leads to one.
type Route struct {
	Name  string `yaml:"name" json:"name"`
	Match Match  `yaml:"match" json:"match"`
	Scan  Scan   `yaml:"scan" json:"scan"`
	// Override says what a pod's annotation scan-profile may do; empty is add.
	Override Override `yaml:"override" json:"override,omitempty"`
	// Agent is the agent whose route it is, of its cluster's own policies,
	// which are for its own containers alone; empty: the hub's.
	Agent string `yaml:"-" json:"agent,omitempty"`
}

// Override says what becomes of the profile that an annotation of the pod names:
// it is scanned by besides the route's, instead of it, or not at all. Who may
// replace may weaken what the route asks for.
type Override string

// The ways.
const (
	Add     Override = "add"
	Replace Override = "replace"
	Never   Override = "never"
)

// Match chooses events. Each list holds patterns in which * stands for any
// text, one of which must match; an empty one matches all.
type Match struct {
	Types      []string `yaml:"types" json:"types,omitempty"`
	Sources    []string `yaml:"sources" json:"sources,omitempty"`
	Agents     []string `yaml:"agents" json:"agents,omitempty"`
	Namespaces []string `yaml:"namespaces" json:"namespaces,omitempty"`
	// Images match the reference without tag and digest.
	Images []string `yaml:"images" json:"images,omitempty"`
	// Labels is a label selector of Kubernetes.
	Labels string `yaml:"labels" json:"labels,omitempty"`
}

// Scan is what a route asks for.
type Scan struct {
	Profile   string         `yaml:"profile" json:"profile"`
	Threshold string         `yaml:"threshold" json:"threshold,omitempty"`
	Inputs    map[string]any `yaml:"inputs" json:"inputs,omitempty"`
	Method    string         `yaml:"method" json:"method,omitempty"`
	// SBOM has the agent hand in an SBOM of the container, too.
	SBOM     bool   `yaml:"sbom" json:"sbom,omitempty"`
	Priority string `yaml:"priority" json:"priority,omitempty"`
	// Timeout is in seconds.
	Timeout int `yaml:"timeout" json:"timeout,omitempty"`
	// Agent makes the scan where the event names none, such as of an image.
	Agent string `yaml:"agent" json:"agent,omitempty"`
	// Actions are what an agent's own policy wants the outcome told to.
	Actions []string `yaml:"-" json:"actions,omitempty"`
}

var (
	routeName  = regexp.MustCompile(`^[0-9A-Za-z]([-0-9A-Za-z._/]{0,126}[0-9A-Za-z])?$`)
	methods    = []string{"", "auto", "exec", "ephemeral", "sidecar"}
	priorities = []string{"", "high", "normal", "low"}
)

const maxPatterns = 100

// Validate reports the first thing that is wrong with r; the error begins with
// the member's path.
func (r Route) Validate() error {
	lists := []struct {
		name string
		list []string
	}{
		{"types", r.Match.Types},
		{"sources", r.Match.Sources},
		{"agents", r.Match.Agents},
		{"namespaces", r.Match.Namespaces},
		{"images", r.Match.Images},
	}
	for _, l := range lists {
		if len(l.list) > maxPatterns || slices.ContainsFunc(l.list, func(p string) bool { return p == "" || len(p) > maxName }) {
			return fmt.Errorf("match.%s: there must be at most %d patterns, none empty or of more than %d bytes", l.name, maxPatterns, maxName)
		}
	}
	switch {
	case !routeName.MatchString(r.Name):
		return fmt.Errorf("name %q: must be of letters, digits, '-', '.', '_' and '/', at most 128", r.Name)
	case !slices.Contains([]Override{"", Add, Replace, Never}, r.Override):
		return fmt.Errorf("override %q: must be add, replace or never", r.Override)
	case r.Scan.Profile == "":
		return errors.New("scan.profile: is missing")
	case !slices.Contains(methods, r.Scan.Method):
		return fmt.Errorf("scan.method %q: must be auto, exec, ephemeral or sidecar", r.Scan.Method)
	case !slices.Contains(priorities, r.Scan.Priority):
		return fmt.Errorf("scan.priority %q: must be high, normal or low", r.Scan.Priority)
	case r.Scan.Timeout < 0:
		return fmt.Errorf("scan.timeout %d: must not be negative", r.Scan.Timeout)
	}
	if _, err := labels.Parse(r.Match.Labels); err != nil {
		return fmt.Errorf("match.labels %q: must be a label selector, such as app=web,tier!=test", r.Match.Labels)
	}
	return nil
}

// ownTypes are what the hub itself tells of scans, which may come back by a
// broker and must lead to none.
var ownTypes = []string{"scan.completed", "scan.error", "scan.cancelled", "check.completed"}

// matches reports whether the route is for e.
func (r Route) matches(e *Event) bool {
	d, m := e.Data, r.Match
	if slices.Contains(ownTypes, e.Type) {
		return false
	}
	if r.Agent != "" && r.Agent != d.Agent {
		return false
	}
	image, _, _ := strings.Cut(d.Image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	if !anyOf(m.Types, e.Type) || !anyOf(m.Sources, e.Source) || !anyOf(m.Agents, d.Agent) ||
		!anyOf(m.Namespaces, d.Namespace) || !anyOf(m.Images, image) {
		return false
	}
	selector, err := labels.Parse(m.Labels)
	return err == nil && selector.Matches(labels.Set(d.Labels))
}

func anyOf(patterns []string, text string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return glob(p, text) })
}

// glob takes time that grows with the length of both, whatever they hold.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(text, p)
		if !found {
			return false
		}
		text = rest
	}
	return true
}

// Request is a scan that an event asks for.
type Request struct {
	Agent, Namespace, Pod, Container, URI string
	Scan                                  Scan
	// Standing says that it is the route which chose by what, and not a pod.
	Standing bool
	// By names the event for the record of who asked.
	By string
	// Key is the same for every request of this one scan.
	Key string
}

// requests are the scans that r asks for because of e: one, and one more where
// the pod names a profile of its own.
func (r Route) requests(e *Event) ([]Request, error) {
	d := e.Data
	q := Request{Agent: d.Agent, Scan: r.Scan, Standing: true, By: "event:" + r.Name}
	if r.Agent != "" {
		q.By = "agent:" + r.Agent + " route " + r.Name
	}
	if q.Agent == "" {
		q.Agent = r.Scan.Agent
	}
	switch {
	case d.Pod != "":
		q.Namespace, q.Pod, q.Container = d.Namespace, d.Pod, d.Container
	case d.URI != "":
		q.URI = d.URI
	case d.Image != "":
		q.URI = "image:" + d.image()
	default:
		return nil, errors.New("its data names nothing to scan: namespace, pod and container, or uri, or image")
	}
	if e.Type == ScanScheduled && d.Profile != "" {
		q.Scan.Profile, q.Scan.Threshold, q.Standing = d.Profile, d.Threshold, false
	}
	p := d.Annotations[ProfileAnnotation]
	if p == "" || p == q.Scan.Profile || r.Override == Never || e.Type == ScanScheduled && d.Profile != "" {
		return []Request{q}, nil
	}
	own := q
	own.Scan.Profile, own.Standing = p, false
	if r.Override == Replace {
		return []Request{own}, nil
	}
	return []Request{q, own}, nil
}
