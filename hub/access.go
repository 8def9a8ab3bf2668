package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
)

// AccessConfig says who may call what, beside the service that a credential is
// for.
type AccessConfig struct {
	// Domain is what services' names end in: they can be called as
	// SERVICE.AGENT.DOMAIN, or SERVICE.TYPE.AGENT.DOMAIN, where that name leads
	// to the services port; empty: they have none.
	Domain string         `yaml:"domain"`
	Rules  []forward.Rule `yaml:"rules"`
}

// validate reports what is wrong, given the hub's own names.
func (c AccessConfig) validate(names []string) error {
	var errs []error
	if d := c.Domain; d != "" {
		for label := range strings.SplitSeq(d, ".") {
			if fleet.AgentName(label).Validate() != nil {
				errs = append(errs, fmt.Errorf("access.domain %q: it must be a DNS name in lower case", d))
				break
			}
		}
		for _, n := range names {
			if rest, ok := strings.CutSuffix(n, "."+d); ok && strings.Contains(rest, ".") {
				errs = append(errs, fmt.Errorf("access.domain %q: the hub's own name %q would be a service's; choose a domain above which it is", d, n))
			}
		}
	}
	if _, err := forward.NewRules(c.Rules); err != nil {
		errs = append(errs, fmt.Errorf("access.%w", err))
	}
	return errors.Join(errs...)
}

var errNoServiceCredential = fmt.Errorf("%w: present a client certificate of a service, or a service token as Authorization: Bearer or as the password of Basic", forward.ErrNoCredential)

// caller tells forward who sends a request, and which service it may reach. A
// certificate comes first; who has one may send a service an Authorization,
// if only to have it taken off.
func (h *Hub) caller(r *http.Request) (forward.Caller, error) {
	c, err := h.peers.Credential(r.TLS)
	_, _, basic := r.BasicAuth()
	ambient := err == nil || basic
	if errors.Is(err, pki.ErrNoCertificate) {
		if c, signed, err := forward.VerifyAWS(r, h.awsKey); signed {
			return c, err
		}
		token, ok := forward.Token(r)
		if !ok && forward.CrossSite(r) {
			return forward.Caller{}, fmt.Errorf("%w: another site asked a browser for this call", forward.ErrForbidden)
		} else if !ok {
			return forward.Caller{}, errNoServiceCredential
		}
		c, err = h.ca.VerifyServiceToken(token)
	}
	if err != nil {
		return forward.Caller{}, fmt.Errorf("%w: %w", forward.ErrUnauthenticated, err)
	}
	caller := callerOf(c)
	if ambient && forward.CrossSite(r) {
		return caller, fmt.Errorf("%w: another site asked a browser for this call", forward.ErrForbidden)
	}
	return caller, nil
}

// awsKey answers whose an AWS access key is.
func (h *Hub) awsKey(accessKey string) (forward.Caller, string, error) {
	c, secret, err := h.ca.VerifyAWSKey(accessKey)
	if err != nil {
		return forward.Caller{}, "", err
	}
	return callerOf(c), secret, nil
}

// agentCaller names an agent that calls by its link.
func agentCaller(agent fleet.AgentName) string {
	return pki.Identity{Purpose: pki.Agent, Agent: agent}.String()
}

// callerOf is the holder of c, with the service that c is for if it is for
// one.
func callerOf(c pki.Credential) forward.Caller {
	caller := forward.Caller{Name: c.String(), ID: c.Key(), Holder: c.Holder, Credential: c}
	if c.Purpose == pki.Service {
		caller.Agent, caller.Type, caller.Service = c.Agent, c.Type, fleet.ServiceName(c.Name)
	}
	return caller
}

// watch has cut called when a caller's credential is revoked. An agent's link
// is cut as a whole.
func (h *Hub) watch(c forward.Caller, cut func(error)) (stop func()) {
	held, ok := c.Credential.(pki.Credential)
	if !ok {
		return func() {}
	}
	return h.ca.Revocations().Watch(held, cut)
}

// directoryFresh is how long the list of services is taken for true: it is
// asked for by each request that calls a service by name.
const directoryFresh = time.Second

// directory lists what agents, and the hub itself, offer.
type directory struct {
	store *store.Store
	own   []forward.Offer

	mu   sync.Mutex
	list []forward.Offer // guarded by mu; not changed once it is there
	at   time.Time       // guarded by mu
}

func newDirectory(s *store.Store, own []fleet.Service) *directory {
	d := &directory{store: s}
	for _, s := range own {
		d.own = append(d.own, forward.Offer{Agent: fleet.HubAgent, Type: s.Type, Name: s.Name})
	}
	return d
}

// offers implements forward.Directory.
func (d *directory) offers(ctx context.Context) ([]forward.Offer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.at.IsZero() && time.Since(d.at) < directoryFresh {
		return d.list, nil
	}
	agents, err := d.store.Agents(ctx)
	if err != nil {
		return nil, err
	}
	list := slices.Clone(d.own)
	seen := map[forward.Offer]bool{}
	for _, a := range agents {
		for _, s := range a.Services {
			o := forward.Offer{Agent: a.Agent, Type: s.Type, Name: s.Name}
			if !seen[o] {
				seen[o] = true
				list = append(list, o)
			}
		}
	}
	d.list, d.at = list, time.Now()
	return list, nil
}
