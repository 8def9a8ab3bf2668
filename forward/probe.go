package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"reeve.dev/reeve/fleet"
)

// Probed is how a service answered the agent.
type Probed struct {
	Type fleet.ServiceType
	Name fleet.ServiceName
	// Status is that of its answer; 0 if there was none, and then Err says
	// why.
	Status int
	Err    error
}

// probeTime is how long a service may take to answer a probe.
const probeTime = 10 * time.Second

// Probe asks each service for something that changes nothing, with the agent's
// credential: a Kubernetes API what it has, AWS who it takes the agent for, and
// any other for the root of its URL.
func (a *Agent) Probe(ctx context.Context) []Probed {
	var out []Probed
	for _, s := range a.services {
		p := Probed{Type: s.Type, Name: s.Name}
		p.Status, p.Err = a.upstreams[target(s.Type, s.Name)].probe(ctx)
		out = append(out, p)
	}
	return out
}

func (u *upstream) probe(ctx context.Context) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	rt, err := u.route()
	if err != nil {
		return 0, err
	}
	to := *rt.base
	switch {
	case u.Type == fleet.Kubernetes:
		to.Path += "/api"
	case u.Type == AWS:
		to.RawQuery = "Action=GetCallerIdentity&Version=2011-06-15"
	}
	if to.Path == "" {
		to.Path = "/"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return 0, err
	}
	if u.Type == AWS {
		r.Header.Set(signingName, "sts")
		r.Header.Set(signingRegion, "us-east-1")
	}
	resp, err := rt.proxy.Transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	io.CopyN(io.Discard, resp.Body, bufferSize)
	resp.Body.Close()
	return resp.StatusCode, nil
}

// Verdict says for people what a probe came to, and what the agent's owner can
// do; empty if nothing is to be done.
func (p Probed) Verdict() (what, do string) {
	name := target(p.Type, p.Name)
	switch {
	case p.Err != nil && errors.Is(p.Err, errCredential):
		return fmt.Sprintf("service %s: its credential can't be read: %v", name, p.Err), "correct the files, variables or Secret that credentials name, and what the agent may read"
	case p.Err != nil:
		return fmt.Sprintf("service %s %s: %v", name, explain(p.Err), p.Err), "correct url and caFile (or kubeConfig), and see whether the service is up and the network lets the agent reach it"
	case p.Status == http.StatusUnauthorized:
		return fmt.Sprintf("service %s doesn't take the agent's credential (401)", name), "put a good one where credentials (or kubeConfig) says; it may have expired"
	case p.Status == http.StatusForbidden:
		return fmt.Sprintf("service %s knows the agent's credential, but doesn't let it read (403)", name), "give the account that the credential is of the rights that callers need"
	case p.Status >= 500:
		return fmt.Sprintf("service %s answers %d", name, p.Status), "see the service's own log"
	}
	return fmt.Sprintf("service %s answers %d", name, p.Status), ""
}
