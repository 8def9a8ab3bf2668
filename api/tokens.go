package api

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/internal/near"
	"reeve.dev/reeve/pki"
)

// life is a length of time as people write it, such as 1h30m.
type life time.Duration

func (l *life) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < time.Second {
		return fmt.Errorf("must be a duration of at least a second, such as 90m or 720h")
	}
	*l = life(d)
	return nil
}

func (life) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^([0-9]+(\.[0-9]+)?(s|m|h))+$`, PatternDescription: "a duration such as 90m or 720h", Examples: []any{"720h"}}
}

func (l life) or(d time.Duration) time.Duration {
	if l == 0 {
		return d
	}
	return time.Duration(l)
}

type (
	TokenRequest struct {
		Kind pki.Kind `json:"kind" enum:"api,join"`
		Name string   `json:"name,omitempty" maxLength:"100" doc:"Of an API token: who or what holds it"`
		Role pki.Role `json:"role,omitempty" enum:"viewer,scanner,operator,admin" doc:"Of an API token"`
		RoleScope
		Agent     string `json:"agent,omitempty" doc:"Of a join token: who may enrol with it, once"`
		ExpiresIn life   `json:"expiresIn,omitempty" doc:"1h for a join token and never for an API token if left out"`
	}
	// RoleScope is where a role holds.
	RoleScope struct {
		Agents     []string `json:"agents,omitempty" maxItems:"1000" doc:"Agents that the role is limited to; * in a name stands for any text. All if left out"`
		Namespaces []string `json:"namespaces,omitempty" maxItems:"1000" doc:"Namespaces that the role is limited to, likewise; what is in no namespace is then out of reach"`
	}
	Token struct {
		ID      string          `json:"id"`
		Kind    pki.Kind        `json:"kind" enum:"api,join,login,session"`
		Name    string          `json:"name"`
		Agent   fleet.AgentName `json:"agent,omitempty"`
		Role    pki.Role        `json:"role,omitempty" enum:"viewer,scanner,operator,admin" doc:"The highest of rights"`
		Rights  pki.Rights      `json:"rights,omitempty" doc:"Roles, and where they hold"`
		Created time.Time       `json:"created"`
		Expires time.Time       `json:"expires,omitzero"`
		UsedAt  time.Time       `json:"usedAt,omitzero" doc:"When a one-time token was used"`
	}
	TokenCreated struct {
		Token
		Secret string `json:"token" doc:"The token itself; it isn't shown again"`
	}
	CredentialRequest struct {
		Agent     string `json:"agent"`
		Type      string `json:"type" doc:"kubernetes, or x-… for one of your own"`
		Name      string `json:"name"`
		Holder    string `json:"holder,omitempty" doc:"Who is given it, for rules and records; letters, digits, '-', '.' and '_'"`
		Kind      string `json:"kind" enum:"certificate,token,grant" doc:"A client certificate; a JWT for Bearer or Basic; or a grant, with which POST /credentials/renew makes such JWTs for an hour each"`
		CSR       string `json:"csr,omitempty" doc:"Certificate request in PEM, if the key is to stay with you"`
		ExpiresIn life   `json:"expiresIn,omitempty" doc:"2160h (90 days) if left out"`
		Force     bool   `json:"force,omitempty" doc:"Make it also while no agent of that name has joined, or the agent doesn't offer the service"`
	}
	Credential struct {
		Agent       string    `json:"agent"`
		Type        string    `json:"type"`
		Name        string    `json:"name"`
		Holder      string    `json:"holder,omitempty"`
		ID          string    `json:"id" doc:"The certificate's serial number or the token's jti, by which it can be revoked"`
		URL         string    `json:"url" doc:"Where the service answers"`
		CA          string    `json:"ca" doc:"PEM, to verify the hub with"`
		Expires     time.Time `json:"expires"`
		Certificate string    `json:"certificate,omitempty" doc:"PEM"`
		Key         string    `json:"key,omitempty" doc:"PEM; left out if you sent a request of your own"`
		Username    string    `json:"username,omitempty" doc:"For Basic; any will do"`
		Token       string    `json:"token,omitempty" doc:"For Bearer, or as Basic's password"`
		Grant       string    `json:"grant,omitempty" doc:"For POST /credentials/renew, as Bearer"`
	}
)

func fromToken(t pki.Token) Token {
	return Token{ID: t.ID, Kind: t.Kind, Name: t.Name, Agent: t.Agent, Role: t.Rights.Role(), Rights: t.Rights, Created: t.Created, Expires: t.Expires, UsedAt: t.UsedAt}
}

// of are the rights to a role in s.
func (s RoleScope) of(role pki.Role) (pki.Rights, error) {
	scope := fleet.Scope(s)
	if err := scope.Validate(); err != nil {
		path, reason, _ := strings.Cut(err.Error(), ": ")
		return nil, invalidMember(path, reason)
	}
	return pki.Rights{{Role: role, Scope: scope}}, nil
}

func (a *API) tokens() {
	type output struct{ Body TokenCreated }
	op := operation(pki.Admin, http.MethodPost, "/tokens", "create-token", "Make an API token or a join token")
	op.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, op, func(ctx context.Context, in *struct{ Body TokenRequest }) (*output, error) {
		b := in.Body
		var t pki.Token
		var text string
		var err error
		switch {
		case b.Kind == pki.Join && (b.Name != "" || b.Role != "" || len(b.Agents)+len(b.Namespaces) > 0):
			return nil, invalidMember("role", "role, agents, namespaces and name are for API tokens; a join token has an agent")
		case b.Kind == pki.Join:
			if err := fleet.AgentName(b.Agent).Validate(); err != nil {
				return nil, invalidMember("agent", err.Error())
			}
			if fleet.AgentName(b.Agent) == fleet.HubAgent {
				return nil, invalidMember("agent", fmt.Sprintf("%q is the name of the hub's own services; an agent must have another", b.Agent))
			}
			t, text, err = a.cfg.CA.NewJoinToken(fleet.AgentName(b.Agent), b.ExpiresIn.or(pki.JoinLife))
		case b.Agent != "":
			return nil, invalidMember("agent", "is for join tokens; an API token has a name, a role, and agents that the role is limited to")
		case b.Name == "":
			return nil, invalidMember("name", "is missing: say who or what holds the token")
		case b.Role == "":
			return nil, invalidMember("role", "is missing: choose viewer, scanner, operator or admin")
		default:
			var rights pki.Rights
			if rights, err = b.RoleScope.of(b.Role); err != nil {
				return nil, err
			}
			t, text, err = pki.NewToken(pki.API, b.Name, rights, b.ExpiresIn.or(0))
		}
		if err == nil {
			err = a.cfg.Tokens.CreateToken(ctx, t)
		}
		if err != nil {
			return nil, a.problem(ctx, "create a token", err)
		}
		note(ctx, "token", t.ID, "kind", string(t.Kind), "name", t.Name, "rights", t.Rights.String(), "agent", string(t.Agent))
		a.cfg.Logger.InfoContext(ctx, "token created", "token", t.ID, "kind", t.Kind, "by", callerOf(ctx).String())
		return &output{TokenCreated{fromToken(t), text}}, nil
	})

	huma.Register(a.huma, operation(pki.Admin, http.MethodGet, "/tokens", "list-tokens", "List the tokens, without their secrets"),
		func(ctx context.Context, _ *struct{}) (*page[Token], error) {
			found, err := a.cfg.Tokens.ListTokens(ctx)
			if err != nil {
				return nil, a.problem(ctx, "list tokens", err)
			}
			return newPage(found, 0, fromToken, nil), nil
		})

	op = operation(pki.Admin, http.MethodDelete, "/tokens/{id}", "revoke-token", "Revoke a token at once", http.StatusNotFound)
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, in *struct {
		ID string `path:"id"`
	},
	) (*struct{}, error) {
		if err := a.revokeToken(ctx, in.ID); err != nil {
			return nil, a.problem(ctx, "revoke a token", err)
		}
		a.cfg.Logger.InfoContext(ctx, "token revoked", "token", in.ID, "by", callerOf(ctx).String())
		return nil, nil
	})
}

// credentials are for callers of the services port.
func (a *API) credentials() {
	type output struct{ Body Credential }
	op := operation(pki.Admin, http.MethodPost, "/credentials/service", "create-service-credential", "Make a credential for a service of an agent")
	op.Description += " An agent that never joined, and a service that the agent didn't offer when it was last there, are refused, unless force says that they will come."
	op.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, op, func(ctx context.Context, in *struct{ Body CredentialRequest }) (*output, error) {
		b := in.Body
		agent, typ, name := fleet.AgentName(b.Agent), fleet.ServiceType(b.Type), fleet.ServiceName(b.Name)
		id := pki.Identity{Purpose: pki.Service, Agent: agent, Type: typ, Name: b.Name, Holder: b.Holder}
		for _, c := range []struct {
			path string
			err  error
		}{{"agent", agent.Validate()}, {"type", typ.Validate()}, {"name", name.Validate()}, {"holder", id.Validate()}} {
			if c.err != nil {
				return nil, invalidMember(c.path, c.err.Error())
			}
		}
		if !b.Force {
			if err := a.offered(ctx, agent, typ, name); err != nil {
				return nil, err
			}
		}
		d := b.ExpiresIn.or(pki.ServiceLife)
		out := &output{}
		o := &out.Body
		o.Agent, o.Type, o.Name, o.Holder, o.URL, o.CA = b.Agent, b.Type, b.Name, b.Holder, a.cfg.ServicesURL, string(a.cfg.CA.CertPEM())
		o.Expires = time.Now().Add(d).UTC().Truncate(time.Second)
		var cert, key []byte
		var err error
		switch {
		case b.Kind != "certificate" && b.CSR != "":
			return nil, invalidMember("csr", "is for the kind certificate")
		case b.Kind == "token":
			o.Username = b.Name + "." + b.Agent
			o.Token, err = a.cfg.CA.NewServiceToken(id, d)
		case b.Kind == "grant":
			o.Grant, err = a.cfg.CA.NewGrant(id, d)
		case b.CSR != "":
			if cert, err = a.cfg.CA.Issue([]byte(b.CSR), id, d); err != nil {
				return nil, invalidMember("csr", err.Error())
			}
		default:
			cert, key, err = a.cfg.CA.NewCredential(id, d)
		}
		if err != nil {
			return nil, a.problem(ctx, "create a service credential", err)
		}
		if o.Token != "" {
			c, err := a.cfg.CA.VerifyServiceToken(o.Token)
			if err != nil {
				return nil, a.problem(ctx, "create a service credential", err)
			}
			o.ID = c.ID
		} else if o.Grant != "" {
			_, c, err := a.cfg.CA.Renew(o.Grant)
			if err != nil {
				return nil, a.problem(ctx, "create a service credential", err)
			}
			o.ID = c.ID
		} else if block, _ := pem.Decode(cert); block != nil {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, a.problem(ctx, "create a service credential", err)
			}
			o.Expires, o.ID = c.NotAfter, c.SerialNumber.Text(16) // not beyond the CA's end
		}
		o.Certificate, o.Key = string(cert), string(key)
		note(ctx, "agent", b.Agent, "service", string(typ)+"/"+b.Name, "kind", b.Kind, "id", o.ID, "holder", o.Holder)
		a.cfg.Logger.InfoContext(ctx, "service credential created", "agent", agent, "service", string(typ)+"/"+b.Name, "kind", b.Kind, "id", o.ID, "holder", o.Holder, "by", callerOf(ctx).String())
		return out, nil
	})
}

// renewal makes service tokens for who holds a grant, and needs no role.
func (a *API) renewal() {
	type output struct{ Body Credential }
	huma.Register(a.huma, huma.Operation{
		OperationID:   "renew-service-credential",
		Method:        http.MethodPost,
		Path:          prefix + "/credentials/renew",
		Summary:       "Make a token for the service that a grant is for",
		Description:   "Takes a grant as Bearer, and nothing else. The token is good for an hour, but no longer than the grant; it ends with the grant when that is revoked.",
		Tags:          []string{"credentials"},
		Security:      []map[string][]string{{"grant": {}}},
		DefaultStatus: http.StatusCreated,
		Errors:        []int{http.StatusUnauthorized},
	}, func(ctx context.Context, in *struct {
		Authorization string `header:"Authorization"`
	},
	) (*output, error) {
		scheme, grant, _ := strings.Cut(in.Authorization, " ")
		if !strings.EqualFold(scheme, "bearer") {
			return nil, unauthorized("send a grant (Authorization: Bearer …), from POST /credentials/service with the kind grant")
		}
		token, c, err := a.cfg.CA.Renew(strings.TrimSpace(grant))
		if err != nil {
			status, text := a.refusal(ctx, err)
			if status == http.StatusUnauthorized {
				return nil, unauthorized(text)
			}
			return nil, huma.NewError(status, text)
		}
		a.cfg.Logger.InfoContext(ctx, "service credential renewed", "agent", c.Agent, "service", string(c.Type)+"/"+c.Name, "id", c.ID, "holder", c.Holder)
		return &output{Credential{
			Agent: string(c.Agent), Type: string(c.Type), Name: c.Name, Holder: c.Holder, ID: c.ID,
			URL: a.cfg.ServicesURL, CA: string(a.cfg.CA.CertPEM()), Expires: c.Expires.UTC(),
			Username: c.Name + "." + string(c.Agent), Token: token,
		}}, nil
	})
}

func unauthorized(text string) error {
	return huma.ErrorWithHeaders(huma.Error401Unauthorized(text), http.Header{"WWW-Authenticate": {`Bearer realm="reeve"`}})
}

// offered refuses a service that no agent offers, and names those that are
// offered.
func (a *API) offered(ctx context.Context, agent fleet.AgentName, typ fleet.ServiceType, name fleet.ServiceName) error {
	members, err := a.cfg.Fleet.Members(ctx)
	if err != nil {
		return a.problem(ctx, "list agents", err)
	}
	agents, services := map[string]bool{}, map[string]bool{}
	if len(a.cfg.Services) > 0 {
		members = append(members, Member{Registration: fleet.Registration{Agent: fleet.HubAgent, Services: a.cfg.Services}})
	}
	for _, m := range members {
		agents[string(m.Agent)] = true
		if m.Agent != agent {
			continue
		}
		for _, s := range m.Services {
			if s.Type == typ && s.Name == name {
				return nil
			}
			services[string(s.Type)+"/"+string(s.Name)] = true
		}
	}
	if !agents[string(agent)] {
		return invalidMember("agent", fmt.Sprintf("no agent %q has joined; %s. With force the credential is made beforehand", agent, near.Instead(string(agent), slices.Sorted(maps.Keys(agents)))))
	}
	return invalidMember("name", fmt.Sprintf("agent %q doesn't offer %s/%s; it offers: %s. With force the credential is made beforehand", agent, typ, name, near.Some(slices.Sorted(maps.Keys(services)))))
}
