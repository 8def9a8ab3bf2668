package insight

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"reeve.dev/reeve/fleet"
)

// Workload is a container of something that runs in a cluster, and the image
// that it runs.
type Workload struct {
	Namespace string `json:"namespace"`
	// Kind and Name are what owns its pods, such as a Deployment; Pod and the
	// pod's name where nothing does.
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Container string `json:"container"`
	// Image is as its author named it, Digest sha256:HEX.
	Image  string `json:"image"`
	Digest string `json:"digest"`
	// Service is Lagoon's, by its label; empty where it has none.
	Service string `json:"service,omitempty"`
	// Pods counts those that run the image.
	Pods int `json:"pods"`
	// Labels are those of a pod.
	Labels map[string]string `json:"labels,omitempty"`
}

// Is reports whether v is the same.
func (w Workload) Is(v Workload) bool {
	same := maps.Equal(w.Labels, v.Labels)
	w.Labels, v.Labels = nil, nil
	return same && reflect.DeepEqual(w, v)
}

// Inventory is all that runs in a cluster, and how its agent does.
type Inventory struct {
	Workloads []Workload `json:"workloads"`
	Backlog   Backlog    `json:"backlog"`
	// Policies are what namespaces say of policies by the annotation
	// PolicyAnnotation; nil where the agent doesn't know that.
	Policies map[string]string `json:"policies"`
}

// PolicyAnnotation, on a namespace, has what it says of the hub's policies.
const PolicyAnnotation = "reeve.dev/policies"

// MaxAnnotated is how many namespaces may say something, maxAnnotations how much
// that is, and maxAnnotation how much of one is told: a little more than the hub
// applies (policy.MaxLayer), so that what is cut isn't.
const (
	MaxAnnotated   = 5000
	maxAnnotation  = 64<<10 + utf8.UTFMax
	maxAnnotations = 4 << 20
)

// CutAnnotations cuts what namespaces say as far as an inventory takes it: what some
// of them say doesn't keep the inventory from the hub. It reports false if it is too
// much even so.
func CutAnnotations(said map[string]string) bool {
	size := 0
	for namespace, text := range said {
		if len(text) > maxAnnotation {
			said[namespace] = strings.ToValidUTF8(text[:maxAnnotation], "")
		}
		size += len(said[namespace])
	}
	return len(said) <= MaxAnnotated && size <= maxAnnotations
}

// Backlog is what an agent has that didn't reach the hub yet.
type Backlog struct {
	Items int   `json:"items"`
	Bytes int64 `json:"bytes"`
	// Since is when the oldest of it came; zero where there is nothing.
	Since time.Time `json:"since,omitzero"`
	// Broker says why Lagoon's broker takes nothing from the agent; empty while it
	// does, and where there is none.
	Broker string `json:"broker,omitempty"`
}

// MaxWorkloads is how many an Inventory may have, MaxNamespaces how many
// namespaces a View, and MaxContents what is in all of them together, as Contents
// have their size: more than a cluster is made for.
const (
	MaxWorkloads  = 50_000
	MaxNamespaces = 50_000
	MaxContents   = 1_000_000
)

const (
	maxName    = 253
	maxDigest  = 100
	maxLabels  = 100
	maxTrouble = 4 << 10
)

// Validate answers an *InvalidError that names what is wrong.
func (i Inventory) Validate() error {
	if len(i.Workloads) > MaxWorkloads {
		return Invalidf("workloads: has %d items, must have at most %d", len(i.Workloads), MaxWorkloads)
	}
	for n, w := range i.Workloads {
		if err := w.validate(); err != nil {
			return Invalidf("workloads[%d]%v", n, err)
		}
	}
	return validReport(i.Backlog, i.Policies)
}

// Validate answers an *InvalidError that names what is wrong.
func (v View) Validate() error {
	if len(v.Namespaces) > MaxNamespaces {
		return Invalidf("namespaces: has %d items, must have at most %d", len(v.Namespaces), MaxNamespaces)
	}
	for name, digest := range v.Namespaces {
		if name == "" || len(name) > maxName || digest == "" || len(digest) > maxDigest {
			return Invalidf("namespaces: %.253q must have 1 to %d bytes, and its digest 1 to %d", name, maxName, maxDigest)
		}
	}
	for namespace, c := range v.Contents {
		if v.Namespaces[namespace] == "" {
			return Invalidf("contents: %.253q isn't among the namespaces", namespace)
		}
		if err := c.validate(namespace); err != nil {
			return Invalidf("contents.%s.%v", namespace, err)
		}
	}
	return validReport(v.Backlog, v.Policies)
}

func (c Contents) validate(namespace string) error {
	for n, w := range c.Workloads {
		if err := w.validate(); err != nil {
			return fmt.Errorf("workloads[%d]%w", n, err)
		}
		if w.Namespace != namespace {
			return fmt.Errorf("workloads[%d].namespace: is %q", n, w.Namespace)
		}
	}
	for pod, containers := range c.Pods {
		for _, name := range append([]string{pod}, containers...) {
			if name == "" || len(name) > maxName {
				return fmt.Errorf("pods: %.253q and its containers must have 1 to %d bytes", pod, maxName)
			}
		}
	}
	for _, name := range c.CronJobs {
		if name == "" || len(name) > maxName {
			return fmt.Errorf("cronJobs: %.253q must have 1 to %d bytes", name, maxName)
		}
	}
	return nil
}

// validReport is about what an Inventory and a View have besides what runs.
func validReport(b Backlog, policies map[string]string) error {
	if n := len(b.Broker); n > maxTrouble {
		return Invalidf("backlog.broker: has %d bytes, must have at most %d", n, maxTrouble)
	}
	if len(policies) > MaxAnnotated {
		return Invalidf("policies: has %d namespaces, must have at most %d", len(policies), MaxAnnotated)
	}
	said := 0
	for namespace, text := range policies {
		said += len(text)
		if namespace == "" || len(namespace) > maxName || len(text) > maxAnnotation {
			return Invalidf("policies: namespace %.253q must have 1 to %d bytes, and its text at most %d", namespace, maxName, maxAnnotation)
		}
	}
	if said > maxAnnotations {
		return Invalidf("policies: has %d bytes, must have at most %d", said, maxAnnotations)
	}
	return nil
}

// validate answers what is wrong, and where in w.
func (w Workload) validate() error {
	for _, m := range [...]struct{ name, value string }{{"namespace", w.Namespace}, {"kind", w.Kind}, {"name", w.Name}, {"container", w.Container}} {
		if m.value == "" || len(m.value) > maxName {
			return fmt.Errorf(".%s: must have 1 to %d bytes", m.name, maxName)
		}
	}
	if len(w.Image) > 1000 || len(w.Digest) > maxDigest || len(w.Service) > maxName {
		return errors.New(": its image, digest or service is too long")
	}
	if len(w.Labels) > maxLabels {
		return fmt.Errorf(".labels: has %d items, must have at most %d", len(w.Labels), maxLabels)
	}
	for k, v := range w.Labels {
		if len(k) > 320 || len(v) > 63 {
			return fmt.Errorf(".labels: %.40q or its value is too long", k)
		}
	}
	return nil
}

// View is all that there is in a cluster, told by its namespaces: of those whose
// contents the hub has already it has their digests alone.
type View struct {
	// Namespaces are all that have contents, with what tells these from others:
	// the hub keeps it, and doesn't look into it.
	Namespaces map[string]string `json:"namespaces"`
	// Contents are those of some of the namespaces.
	Contents map[string]Contents `json:"contents,omitempty"`
	// CronJobs says that the agent knows which CronJobs there are.
	CronJobs bool    `json:"cronJobs,omitempty"`
	Backlog  Backlog `json:"backlog"`
	// Policies are as in an Inventory; nil where they are what was told last.
	Policies map[string]string `json:"policies,omitzero"`
}

// Contents are those of a namespace.
type Contents struct {
	// Workloads are those that run.
	Workloads []Workload `json:"workloads,omitempty"`
	// Pods are those that haven't ended, with the names of all their containers,
	// whether these run or not.
	Pods map[string][]string `json:"pods,omitempty"`
	// CronJobs are the names of those that there are.
	CronJobs []string `json:"cronJobs,omitempty"`
}

// Size counts what c has.
func (c Contents) Size() int {
	n := len(c.Workloads) + len(c.CronJobs)
	for _, containers := range c.Pods {
		n += len(containers)
	}
	return n
}

// InventoryStore keeps inventories.
type InventoryStore interface {
	// PutInventory replaces all that is known to run in the cluster. One that has
	// MaxWorkloads may have been cut: what it doesn't tell of stays.
	PutInventory(ctx context.Context, cluster fleet.AgentName, i Inventory, at time.Time) error
	// PutView replaces what is known of the namespaces that v has contents of, and
	// of those that it hasn't at all. Of those that are wanted the store has other
	// contents than v says, or none: only a view without any is complete.
	PutView(ctx context.Context, cluster fleet.AgentName, v View, at time.Time) (wanted []string, err error)
}

// WorkloadRecord is a workload and what is known of its image.
type WorkloadRecord struct {
	Cluster fleet.AgentName
	Workload
	// FirstSeen is when it first ran this image.
	FirstSeen time.Time
	// SBOM is that of the image, or of the service; empty where there is none.
	SBOM Digest
}

// InventoryRecord is how an agent reported last.
type InventoryRecord struct {
	Cluster   fleet.AgentName
	Reported  time.Time
	Workloads int
	// Unknown counts those without an SBOM.
	Unknown int
	Backlog Backlog
}

// RunRecord is a component and one place where it runs.
type RunRecord struct {
	ComponentRecord
	// Workload is what runs there; nil where the agent reports no inventory or
	// nothing in that fits the SBOM. A record with Elsewhere set is of a
	// workload that runs an image whose SBOM came from another place.
	Workload  *Workload
	Elsewhere bool
}
