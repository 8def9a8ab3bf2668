// Package fleet is the vocabulary that the hub and its agents share: the
// names of agents and services, what an agent says of itself when it joins,
// and the outcome of a check. It holds no behaviour beyond validation and
// knows no transport and no storage, so every other package may import it.
package fleet

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// AgentName is the name under which an agent is addressed. It is a DNS label
// (RFC 1123), since callers may reach a service by the server name
// service.agent.DOMAIN. Several agent processes may share one name.
type AgentName string

// HubAgent is the name under which the hub's own services are called, as if
// the hub were an agent. No agent may have it.
const HubAgent AgentName = "hub"

// InstanceID tells apart agent processes of one name. An agent makes it once
// and keeps it in its data directory, so that a restarted agent is the same
// instance.
type InstanceID string

// ServiceType says how requests for a service are handled: one of the
// registered types, or any name with the prefix "x-" for a plain HTTP proxy.
type ServiceType string

// ServiceName is the name of one service of an agent; unique per type.
type ServiceName string

// Kubernetes is the type of a service that forwards to a Kubernetes API.
const Kubernetes ServiceType = "kubernetes"

var (
	label       = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	serviceName = regexp.MustCompile(`^[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)
)

// Validate reports whether n is a DNS label.
func (n AgentName) Validate() error {
	if !label.MatchString(string(n)) {
		return fmt.Errorf("agent name %q: must be 1 to 63 lower-case letters, digits or '-', and begin and end with a letter or digit", string(n))
	}
	return nil
}

// Validate reports whether t can be a type at all; whether a type is
// supported is forward's to say.
func (t ServiceType) Validate() error {
	if !label.MatchString(string(t)) {
		return fmt.Errorf("service type %q: must be lower-case letters, digits or '-'; use the prefix x- for a type of your own", string(t))
	}
	return nil
}

// Custom reports whether t is a type of the user's own (x-…).
func (t ServiceType) Custom() bool { return strings.HasPrefix(string(t), "x-") }

// Validate reports whether n can name a service.
func (n ServiceName) Validate() error {
	if !serviceName.MatchString(string(n)) {
		return fmt.Errorf("service name %q: must be 1 to 63 letters, digits, '-', '.' or '_', and begin and end with a letter or digit", string(n))
	}
	return nil
}

// Service is one upstream that an agent offers, as it is announced to the
// hub. It never holds the upstream's URL or credentials.
type Service struct {
	Type        ServiceType       `json:"type"`
	Name        ServiceName       `json:"name"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Namespaces  []string          `json:"namespaces,omitempty"`
}

// Registration is what an agent tells the hub when its link comes up.
type Registration struct {
	Agent       AgentName         `json:"agent"`
	Instance    InstanceID        `json:"instance"`
	Version     string            `json:"version"`
	Hostname    string            `json:"hostname"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Services    []Service         `json:"services"`
	// ScanTargets lists the kinds of target that the agent's owner allows
	// scans of, such as "k8s-container" and "dir".
	ScanTargets []string `json:"scanTargets,omitempty"`
	// Holding lists the scans that the agent runs or keeps a result of; the
	// hub frees every other lease of this instance.
	Holding []string `json:"holding,omitempty"`
	// More says that another carrier of this process is up: the hub frees
	// nothing, and keeps both.
	More bool `json:"more,omitempty"`
}

// Peer is the agent at the other end of a link, as its certificate names it.
type Peer struct {
	Agent    AgentName
	Instance InstanceID
	// Session is the hub's name for this link; it changes at each reconnect.
	Session string
}

// Subject is what a policy was checked on: a repository (its owner and
// name), or a workload (cluster/namespace and pod/container).
type Subject struct {
	Owner string `json:"owner"`
	Repo  string `json:"repo"`
}

// Outcome is the verdict of one check of one policy on one subject. Every
// check has an outcome, whether it passed or not.
type Outcome struct {
	Subject Subject `json:"subject"`
	Policy  string  `json:"policy"`
	Pass    bool    `json:"pass"`
	// Gone says that the subject isn't checked any more: it isn't there, or is left
	// out. Pass is false then, and means nothing; Details say why. It is the last
	// word on a subject that failed.
	Gone bool `json:"gone,omitempty"`
	// Details is meant for the person who must act: what failed and how to
	// understand it.
	Details string `json:"details"`
	// Run names what made the check, such as a scan's id; with the subject
	// and policy it makes the outcome's identity.
	Run string    `json:"run"`
	At  time.Time `json:"at"`
}

// Retention of free-form text from outside: the most bytes that one
// annotation's value may have, and any other text; and how many annotations,
// services or kinds of target there may be.
const (
	MaxAnnotation = 4096
	maxText       = 255
	maxItems      = 1000
)

// Validate reports the first thing that is wrong with a registration.
func (r Registration) Validate() error {
	if err := r.Agent.Validate(); err != nil {
		return err
	}
	if r.Agent == HubAgent {
		return fmt.Errorf("agent name %q is the hub's own; join under another name", r.Agent)
	}
	if r.Instance == "" {
		return fmt.Errorf("registration of agent %q: instance is missing", r.Agent)
	}
	for name, text := range map[string]string{"instance": string(r.Instance), "version": r.Version, "hostname": r.Hostname} {
		if err := validText(text, maxText); err != nil {
			return fmt.Errorf("registration of agent %q: %s: %w", r.Agent, name, err)
		}
	}
	if n := max(len(r.Services), len(r.ScanTargets)); n > maxItems {
		return fmt.Errorf("registration of agent %q: %d services or kinds of target are more than the %d allowed", r.Agent, n, maxItems)
	}
	for i, k := range r.ScanTargets {
		if err := validText(k, maxText); err != nil {
			return fmt.Errorf("registration of agent %q: scanTargets[%d]: %w", r.Agent, i, err)
		}
	}
	if err := validAnnotations(r.Annotations); err != nil {
		return fmt.Errorf("registration of agent %q: %w", r.Agent, err)
	}
	seen := map[string]bool{}
	for i, s := range r.Services {
		if err := s.Validate(); err != nil {
			return fmt.Errorf("registration of agent %q: services[%d]: %w", r.Agent, i, err)
		}
		key := string(s.Type) + "/" + string(s.Name)
		if seen[key] {
			return fmt.Errorf("registration of agent %q: services[%d]: %s is there twice", r.Agent, i, key)
		}
		seen[key] = true
	}
	return nil
}

// Validate reports the first thing that is wrong with a service.
func (s Service) Validate() error {
	if err := s.Type.Validate(); err != nil {
		return err
	}
	if err := s.Name.Validate(); err != nil {
		return err
	}
	if len(s.Namespaces) > maxItems {
		return fmt.Errorf("%d namespaces are more than the %d allowed", len(s.Namespaces), maxItems)
	}
	for i, n := range s.Namespaces {
		if err := validText(n, maxText); err != nil {
			return fmt.Errorf("namespaces[%d]: %w", i, err)
		}
	}
	return validAnnotations(s.Annotations)
}

func validAnnotations(m map[string]string) error {
	if len(m) > maxItems {
		return fmt.Errorf("%d annotations are more than the %d allowed", len(m), maxItems)
	}
	for k, v := range m {
		if err := validText(k, maxText); err != nil {
			return fmt.Errorf("an annotation's name: %w", err)
		}
		if err := validText(v, MaxAnnotation); err != nil {
			return fmt.Errorf("annotation %q: %w", k, err)
		}
	}
	return nil
}

// validText refuses what is too long to keep, and what would do something to
// the terminal of whoever has it printed.
func validText(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%d bytes are more than the %d allowed", len(s), most)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
		return fmt.Errorf("byte %d begins a control character", i)
	}
	return nil
}
