package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/pki"
)

// Fleet knows every agent process that ever joined.
type Fleet interface {
	// Members lists them by agent, the one last seen first.
	Members(ctx context.Context) ([]Member, error)
}

// Member is one agent process. Session, Remote and Connected are zero unless
// it has a link now.
type Member struct {
	fleet.Registration
	FirstSeen, LastSeen time.Time
	Session             string
	Remote              string
	Connected           time.Time
}

type (
	Agent struct {
		Name        fleet.AgentName   `json:"name"`
		Connected   bool              `json:"connected"`
		LastSeen    time.Time         `json:"lastSeen"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Services    []fleet.Service   `json:"services" nullable:"false"`
		ScanTargets []string          `json:"scanTargets" nullable:"false" doc:"Kinds of target that its owner allows"`
		Instances   []Instance        `json:"instances" nullable:"false" doc:"Its processes, the one last seen first"`
		Report      *AgentReport      `json:"report,omitempty" doc:"What it last reported of itself; absent unless it reports what runs (insights.inventory)"`
	}
	AgentReport struct {
		Reported  time.Time `json:"reported"`
		Workloads int       `json:"workloads"`
		Backlog   Backlog   `json:"backlog"`
	}
	Instance struct {
		ID          fleet.InstanceID `json:"id"`
		Version     string           `json:"version"`
		Hostname    string           `json:"hostname"`
		Connected   bool             `json:"connected"`
		Session     string           `json:"session,omitempty" doc:"The hub's name for its link"`
		Remote      string           `json:"remote,omitempty"`
		ConnectedAt time.Time        `json:"connectedAt,omitzero"`
		FirstSeen   time.Time        `json:"firstSeen"`
		LastSeen    time.Time        `json:"lastSeen"`
	}
	AgentService struct {
		Agent     fleet.AgentName `json:"agent"`
		Connected bool            `json:"connected"`
		fleet.Service
	}
)

func (a *API) fleet() {
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/agents", "list-agents", "List the agents")),
		func(ctx context.Context, _ *struct{}) (*page[Agent], error) {
			agents, err := a.agents(ctx)
			if err == nil {
				err = a.report(ctx, agents)
			}
			return newPage(agents, 0, func(v Agent) Agent { return v }, nil), err
		})
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/services", "list-services", "List the services that agents, and the hub itself, offer")),
		func(ctx context.Context, _ *struct{}) (*page[AgentService], error) {
			agents, err := a.agents(ctx)
			var all []AgentService
			if seen(ctx, fleet.HubAgent, "") {
				for _, s := range a.cfg.Services {
					all = append(all, AgentService{fleet.HubAgent, true, s})
				}
			}
			for _, v := range agents {
				for _, s := range v.Services {
					all = append(all, AgentService{v.Name, v.Connected, s})
				}
			}
			return newPage(all, 0, func(v AgentService) AgentService { return v }, nil), err
		})
}

// report adds what agents last reported.
func (a *API) report(ctx context.Context, agents []Agent) error {
	byName := map[fleet.AgentName]*Agent{}
	for i := range agents {
		byName[agents[i].Name] = &agents[i]
	}
	q := insight.Query{Within: visible(ctx), Limit: 1000}
	for {
		some, err := a.cfg.Insights.Reports(ctx, q)
		if err != nil {
			return a.problem(ctx, "list agents", err)
		}
		for _, r := range some {
			if v := byName[r.Cluster]; v != nil {
				v.Report = &AgentReport{r.Reported, r.Workloads, Backlog(r.Backlog)}
			}
		}
		if q.Offset += len(some); len(some) < q.Limit {
			return nil
		}
	}
}

// serviceSeen reports whether the caller may know of a service: one that is for
// some namespaces is in those, and any other in none.
func serviceSeen(ctx context.Context, agent fleet.AgentName, s fleet.Service) bool {
	return seen(ctx, agent, "") || slices.ContainsFunc(s.Namespaces, func(n string) bool { return n != "" && seen(ctx, agent, n) })
}

// agents groups the members that the caller may know of by agent. What an agent as a whole offers is what
// its connected processes say, or the one that was last there.
func (a *API) agents(ctx context.Context) ([]Agent, error) {
	members, err := a.cfg.Fleet.Members(ctx)
	if err != nil {
		return nil, a.problem(ctx, "list agents", err)
	}
	var out []Agent
	part := visible(ctx)
	for _, m := range members {
		if part != nil && !slices.ContainsFunc(part, func(s fleet.Scope) bool { return s.HasAgent(m.Agent) }) {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Name != m.Agent {
			out = append(out, Agent{Name: m.Agent, Services: []fleet.Service{}, ScanTargets: []string{}})
		}
		v := &out[len(out)-1]
		here := m.Session != ""
		if len(v.Instances) == 0 || here && !v.Connected {
			v.Annotations, v.LastSeen = m.Annotations, m.LastSeen
			v.Services = []fleet.Service{}
			for _, s := range m.Services {
				if serviceSeen(ctx, m.Agent, s) {
					v.Services = append(v.Services, s)
				}
			}
			v.ScanTargets = append([]string{}, m.ScanTargets...)
		}
		v.Connected = v.Connected || here
		v.Instances = append(v.Instances, Instance{
			ID: m.Instance, Version: m.Version, Hostname: m.Hostname, Connected: here, Session: m.Session,
			Remote: m.Remote, ConnectedAt: m.Connected, FirstSeen: m.FirstSeen, LastSeen: m.LastSeen,
		})
	}
	return out, nil
}
