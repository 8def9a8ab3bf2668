package pki

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"reeve.dev/reeve/fleet"
)

// Purpose is what a certificate or service token is for.
type Purpose string

// The purposes. Control is an administrator of the REST API, and User a caller
// of it with some rights; Service reaches one service of one agent.
const (
	Agent   Purpose = "agent"
	Control Purpose = "control"
	User    Purpose = "user"
	Service Purpose = "service"
	Hub     Purpose = "hub"
)

// trustDomain is the authority part of our SPIFFE ids.
const trustDomain = "reeve"

// Identity is who a certificate or service token is for. Agent is set for
// Agent and Service, Type for Service, Name for all but Agent. Holder is who
// was given the credential of a service, for rules and records; it may be
// empty. Rights are those of a User, as ParseRights reads them. Neither is part
// of the SPIFFE id.
type Identity struct {
	Purpose Purpose
	Agent   fleet.AgentName
	Type    fleet.ServiceType
	Name    string
	Holder  string
	Rights  string
}

// String is the SPIFFE id.
func (id Identity) String() string { return id.uri().String() }

func (id Identity) uri() *url.URL {
	u := &url.URL{Scheme: "spiffe", Host: trustDomain}
	switch id.Purpose {
	case Agent:
		u.Path = "/agent/" + string(id.Agent)
	case Service:
		u.Path = "/service/" + string(id.Agent) + "/" + string(id.Type) + "/" + id.Name
	default:
		u.Path = "/" + string(id.Purpose) + "/" + id.Name
	}
	return u
}

// Validate reports the first thing that is wrong with id.
func (id Identity) Validate() error {
	switch id.Purpose {
	case Agent:
		return id.Agent.Validate()
	case Service:
		if err := id.Agent.Validate(); err != nil {
			return err
		}
		if err := id.Type.Validate(); err != nil {
			return err
		}
		if id.Holder != "" {
			if err := fleet.ServiceName(id.Holder).Validate(); err != nil {
				return fmt.Errorf("holder %q: must be 1 to 63 letters, digits, '-', '.' or '_', and begin and end with a letter or digit", id.Holder)
			}
		}
	case User:
		if _, err := ParseRights(id.Rights); err != nil {
			return err
		}
	case Control, Hub:
	default:
		return fmt.Errorf("purpose %q: must be agent, control, user, service or hub", string(id.Purpose))
	}
	return fleet.ServiceName(id.Name).Validate()
}

// endpoint is the JSON in OU[0] of Birger's certificates.
type endpoint struct {
	Name    string `json:"name,omitempty"`
	Type    string `json:"type,omitempty"`
	Agent   string `json:"agent,omitempty"`
	Purpose string `json:"purpose"`
	// Not Birger's:
	Holder string          `json:"holder,omitempty"`
	Rights json.RawMessage `json:"rights,omitempty"`
}

func (id Identity) endpoint() endpoint {
	return endpoint{Name: id.Name, Type: string(id.Type), Agent: string(id.Agent), Purpose: string(id.Purpose), Holder: id.Holder, Rights: json.RawMessage(id.Rights)}
}

func (e endpoint) identity() Identity {
	id := Identity{Purpose: Purpose(e.Purpose), Agent: fleet.AgentName(e.Agent), Type: fleet.ServiceType(e.Type), Name: e.Name}
	switch id.Purpose {
	case Agent:
		id.Type, id.Name = "", ""
	case Service:
		id.Holder = e.Holder
	case User:
		id.Rights = string(e.Rights)
	}
	return id
}

// IdentityOf reads who cert was issued to, from its SPIFFE URI or else from
// Birger's OU. It verifies no signature: call it on certificates that TLS has
// verified. The error wraps ErrMalformed.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	id, err := identityOf(cert)
	if err == nil {
		err = id.Validate()
	}
	if err != nil {
		return Identity{}, fmt.Errorf("certificate %q: %w: %w; use one that `reeve ca issue` or the hub made", cert.Subject.CommonName, ErrMalformed, err)
	}
	return id, nil
}

func identityOf(cert *x509.Certificate) (Identity, error) {
	var found []*url.URL
	for _, u := range cert.URIs {
		if u.Scheme == "spiffe" {
			found = append(found, u)
		}
	}
	switch {
	case len(found) > 1:
		return Identity{}, fmt.Errorf("more than one SPIFFE id")
	case len(found) == 1:
		id, err := parseURI(found[0])
		if e, described := description(cert); err == nil && described {
			from := e.identity()
			id.Holder, id.Rights = from.Holder, from.Rights
		}
		return id, err
	case len(cert.Subject.OrganizationalUnit) > 0:
		e, ok := description(cert)
		if !ok {
			return Identity{}, fmt.Errorf("the subject's OU is not an endpoint description")
		}
		return e.identity(), nil
	}
	return Identity{}, fmt.Errorf("neither a SPIFFE id nor an endpoint description")
}

// description reads Birger's OU.
func description(cert *x509.Certificate) (e endpoint, ok bool) {
	if len(cert.Subject.OrganizationalUnit) == 0 {
		return e, false
	}
	err := json.Unmarshal([]byte(cert.Subject.OrganizationalUnit[0]), &e)
	return e, err == nil
}

// ParseIdentity reads a SPIFFE id as Identity.String writes it.
func ParseIdentity(text string) (Identity, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "spiffe" {
		return Identity{}, fmt.Errorf("%w: not a SPIFFE id", ErrMalformed)
	}
	id, err := parseURI(u)
	if err == nil {
		err = id.Validate()
	}
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return id, nil
}

func parseURI(u *url.URL) (Identity, error) {
	if u.Host != trustDomain {
		return Identity{}, fmt.Errorf("SPIFFE id of trust domain %q, not %q", u.Host, trustDomain)
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	switch {
	case len(parts) == 2 && Purpose(parts[0]) == Agent:
		return Identity{Purpose: Agent, Agent: fleet.AgentName(parts[1])}, nil
	case len(parts) == 2:
		return Identity{Purpose: Purpose(parts[0]), Name: parts[1]}, nil
	case len(parts) == 4 && Purpose(parts[0]) == Service:
		return Identity{Purpose: Service, Agent: fleet.AgentName(parts[1]), Type: fleet.ServiceType(parts[2]), Name: parts[3]}, nil
	}
	return Identity{}, fmt.Errorf("SPIFFE id has an unknown path %q", u.Path)
}
