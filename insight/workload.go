package insight

import (
	"context"
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

// MaxWorkloads is how many an inventory may have.
const MaxWorkloads = 50_000

const (
	maxLabels  = 100
	maxTrouble = 4 << 10
)

// Validate answers an *InvalidError that names what is wrong.
func (i Inventory) Validate() error {
	if len(i.Workloads) > MaxWorkloads {
		return Invalidf("workloads: has %d items, must have at most %d", len(i.Workloads), MaxWorkloads)
	}
	if n := len(i.Backlog.Broker); n > maxTrouble {
		return Invalidf("backlog.broker: has %d bytes, must have at most %d", n, maxTrouble)
	}
	if len(i.Policies) > MaxAnnotated {
		return Invalidf("policies: has %d namespaces, must have at most %d", len(i.Policies), MaxAnnotated)
	}
	said := 0
	for namespace, text := range i.Policies {
		said += len(text)
		if namespace == "" || len(namespace) > 253 || len(text) > maxAnnotation {
			return Invalidf("policies: namespace %.253q must have 1 to 253 bytes, and its text at most %d", namespace, maxAnnotation)
		}
	}
	if said > maxAnnotations {
		return Invalidf("policies: has %d bytes, must have at most %d", said, maxAnnotations)
	}
	for n, w := range i.Workloads {
		for name, value := range map[string]string{"namespace": w.Namespace, "kind": w.Kind, "name": w.Name, "container": w.Container} {
			if value == "" || len(value) > 253 {
				return Invalidf("workloads[%d].%s: must have 1 to 253 bytes", n, name)
			}
		}
		if len(w.Image) > 1000 || len(w.Digest) > 100 || len(w.Service) > 253 {
			return Invalidf("workloads[%d]: its image, digest or service is too long", n)
		}
		if len(w.Labels) > maxLabels {
			return Invalidf("workloads[%d].labels: has %d items, must have at most %d", n, len(w.Labels), maxLabels)
		}
		for k, v := range w.Labels {
			if len(k) > 320 || len(v) > 63 {
				return Invalidf("workloads[%d].labels: %.40q or its value is too long", n, k)
			}
		}
	}
	return nil
}

// InventoryStore keeps inventories.
type InventoryStore interface {
	// PutInventory replaces all that is known to run in the cluster.
	PutInventory(ctx context.Context, cluster fleet.AgentName, i Inventory, at time.Time) error
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
