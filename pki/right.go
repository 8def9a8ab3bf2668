package pki

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
)

// Right is a role, and the part of the fleet where it holds.
type Right struct {
	Role        Role `json:"role" yaml:"role"`
	fleet.Scope `yaml:",inline"`
}

// Rights are what a caller may do: all that one of them allows. None allow
// nothing.
type Rights []Right

// Everywhere is the right to the role in the whole fleet.
func (r Role) Everywhere() Rights { return Rights{{Role: r}} }

// ParseRights reads rights from a certificate: they are a list in JSON.
func ParseRights(text string) (Rights, error) {
	var rs Rights
	if len(text) > maxRightsText {
		return nil, fmt.Errorf("rights: %w: they have more than %d bytes", ErrMalformed, maxRightsText)
	}
	if err := json.Unmarshal([]byte(text), &rs); err != nil {
		return nil, fmt.Errorf("rights: %w: %w", ErrMalformed, err)
	}
	return rs, rs.Validate()
}

const maxRightsText = 8 << 10

// JSON is rs as ParseRights reads them.
func (rs Rights) JSON() string {
	text, err := json.Marshal(rs)
	if err != nil {
		panic(err) // it holds texts alone
	}
	return string(text)
}

// maxRights is far more than anyone has.
const maxRights = 100

// Validate reports the first thing that is wrong with rs, which must not be
// empty.
func (rs Rights) Validate() error {
	if len(rs) == 0 || len(rs) > maxRights {
		return fmt.Errorf("there must be 1 to %d rights", maxRights)
	}
	for _, r := range rs {
		if err := r.Role.Validate(); err != nil {
			return err
		}
		if err := r.Scope.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Role is the highest role among rs; empty if there is none.
func (rs Rights) Role() Role {
	var most Role
	for _, r := range rs {
		if rank[r.Role] > rank[most] {
			most = r.Role
		}
	}
	return most
}

// Everywhere reports whether rs have the role in the whole fleet.
func (rs Rights) Everywhere(role Role) bool {
	return slices.ContainsFunc(rs, func(r Right) bool { return r.Role.Allows(role) && r.Whole() })
}

// In reports whether rs have the role in a namespace of an agent's cluster;
// the empty namespace stands for what is in none.
func (rs Rights) In(role Role, agent fleet.AgentName, namespace string) bool {
	return slices.ContainsFunc(rs, func(r Right) bool { return r.Role.Allows(role) && r.Has(agent, namespace) })
}

// Scopes are where rs have the role; nil if that is the whole fleet.
func (rs Rights) Scopes(role Role) []fleet.Scope {
	if rs.Everywhere(role) {
		return nil
	}
	scopes := []fleet.Scope{}
	for _, r := range rs {
		if r.Role.Allows(role) {
			scopes = append(scopes, r.Scope)
		}
	}
	return scopes
}

// String is rs for a person, such as "scanner (agents prod-*)".
func (rs Rights) String() string {
	var parts []string
	for _, r := range rs {
		text := string(r.Role)
		if !r.Whole() {
			text += " (" + r.Scope.String() + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " and ")
}

// Person is somebody whom another system vouches for, such as an issuer of
// OpenID Connect.
type Person struct {
	Name string
	// Subject is what the other system calls them, and never calls another.
	Subject string
	Rights  Rights
	// Issued and Expires are of what says so.
	Issued, Expires time.Time
}
