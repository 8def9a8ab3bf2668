package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"reeve.dev/reeve/fleet"
)

// MaxAgentProfile bounds the archive of a profile that an agent hands in; a
// ConfigMap has a MiB at most.
const MaxAgentProfile = 2 << 20

// Ask is Create for what somebody in an agent's cluster wants of it: a container
// there, by no callback and before nobody else. RequestedBy says who, and the
// key's name is the agent's own.
func (q *Queue) Ask(ctx context.Context, peer fleet.Peer, r Request) (Scan, error) {
	r.Target.Agent, r.Callback, r.Permit = peer.Agent, nil, nil
	switch {
	case r.Target.Kind() != KindContainer:
		return Scan{}, invalid("target", "must be a container of the cluster")
	case r.Priority == High:
		return Scan{}, invalid("options.priority", "high is for the hub's operators")
	case strings.HasPrefix(r.Profile, agentProfiles) && !strings.HasPrefix(r.Profile, AgentProfiles(peer.Agent)):
		return Scan{}, invalid("profile", "%q is another agent's", cut(r.Profile))
	}
	r.RequestedBy = byAgent + string(peer.Agent) + " " + cut(r.RequestedBy)
	r.Key.Caller = byAgent + string(peer.Agent)
	return q.Create(ctx, r)
}

// Keyed is a scan by the name that its caller gave the request for it.
type Keyed struct {
	ID  ID
	Key string
}

// OpenPage is how many scans Open lists at most.
const OpenPage = 1000

// Open lists the scans that were asked for in the peer's cluster by Ask and that
// aren't finished, by id, after one. Fewer than OpenPage are the last.
func (q *Queue) Open(ctx context.Context, peer fleet.Peer, after ID) ([]Keyed, error) {
	list, err := q.cfg.Store.OpenByKey(ctx, byAgent+string(peer.Agent), after, OpenPage)
	if err != nil {
		return nil, fmt.Errorf("list what agent %s asked for: %w", peer.Agent, err)
	}
	return list, nil
}

// Withdraw cancels a scan that was asked for in the peer's cluster, since nobody
// there wants it any more.
func (q *Queue) Withdraw(ctx context.Context, peer fleet.Peer, id ID) error {
	s, err := q.Asked(ctx, peer, id)
	if err == nil && !strings.HasPrefix(s.Request.RequestedBy, byAgent+string(peer.Agent)+" ") {
		err = fmt.Errorf("scan %s: %w", id, ErrNotFound)
	}
	if err == nil {
		_, err = q.Cancel(ctx, id, "the deletion of its object in the cluster")
	}
	return err
}

// byAgent begins RequestedBy of what is asked for in an agent's cluster.
const byAgent = "agent:"

// ByAgent reports whether somebody in an agent's cluster asked for it, by an
// object there.
func (r Request) ByAgent() bool { return strings.HasPrefix(r.RequestedBy, byAgent) }

// Asked returns a scan of the peer's cluster, or ErrNotFound.
func (q *Queue) Asked(ctx context.Context, peer fleet.Peer, id ID) (Scan, error) {
	s, err := q.Get(ctx, id)
	if err == nil && s.Request.Target.Agent != peer.Agent {
		return Scan{}, fmt.Errorf("scan %s: %w", id, ErrNotFound)
	}
	return s, err
}

// AgentProfiles is what the names of an agent's own profiles begin with, so that
// they are never mistaken for others.
func AgentProfiles(agent fleet.AgentName) string { return agentProfiles + string(agent) + "_" }

const agentProfiles = "agent_"

// How many profiles of an agent's own are kept, and versions of each: who may
// write ConfigMaps somewhere must not fill the catalogue of all.
const (
	maxAgentProfiles = 100
	maxAgentVersions = 5
)

// TakeProfile stores a profile of the peer's own, and answers its reference.
func (q *Queue) TakeProfile(ctx context.Context, peer fleet.Peer, archive io.Reader) (ref string, err error) {
	text, err := io.ReadAll(io.LimitReader(archive, MaxAgentProfile+1))
	if err != nil {
		return "", err
	}
	if len(text) > MaxAgentProfile {
		return "", invalid("", "the profile has more than %d bytes", MaxAgentProfile)
	}
	c := q.cfg.Catalogue
	p, err := c.cfg.ReadProfile(ctx, bytes.NewReader(text))
	if err != nil {
		return "", invalid("", "%s", cut(err.Error()))
	}
	if prefix := AgentProfiles(peer.Agent); !strings.HasPrefix(p.Name, prefix) {
		return "", invalid("", "inspec.yml: the name %q must begin with %s", p.Name, prefix)
	}
	versions, err := c.cfg.Store.StoredProfiles(ctx, p.Name)
	if err != nil {
		return "", err
	}
	if len(versions) == 0 {
		all, err := c.cfg.Store.LastProfiles(ctx, AgentProfiles(peer.Agent), "", maxAgentProfiles)
		if err != nil {
			return "", err
		}
		if len(all) >= maxAgentProfiles {
			return "", invalid("", "the hub keeps %d profiles of the agent %s already; an operator must delete some of them", len(all), peer.Agent)
		}
	}
	p, created, err := c.Upload(ctx, bytes.NewReader(text), byAgent+string(peer.Agent))
	if err != nil {
		return "", err
	}
	// Scans that wait for their run still have an older version.
	if created && len(versions) >= maxAgentVersions {
		for _, old := range versions[maxAgentVersions-1:] {
			if err := c.DeleteProfile(ctx, old.Name+"@"+old.Version); err != nil && !errors.Is(err, ErrNoProfile) {
				return "", err
			}
		}
	}
	return p.Name + "@" + p.Version, nil
}
