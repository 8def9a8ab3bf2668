package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"reeve.dev/reeve/api"
)

type policiesView struct {
	Policies  []api.Policy
	Overrides []api.PolicyOverride
	Runs      list[api.PolicyRun]
	Agents    []api.Agent
	// Change is the override that is changed, and Tag its version; of one that
	// isn't there yet they are empty but for where it is.
	Change api.PolicyOverride
	Tag    string
}

func (h *handler) policies(r *request) (*page, error) {
	var v policiesView
	found, err := ask[api.Policy](r, "/policies", nil, nil)
	if err != nil {
		return nil, err
	}
	overrides, err := optional(ask[api.PolicyOverride](r, "/policy-overrides", nil, nil))
	if err != nil {
		return nil, err
	}
	v.Policies, v.Overrides = found.Items, overrides.Items
	agents, err := ask[api.Agent](r, "/agents", nil, nil)
	if err != nil {
		return nil, err
	}
	v.Agents = agents.Items
	if at := r.chosen("agent", "namespace"); len(at) == 2 {
		v.Change.Agent, v.Change.Namespace = at.Get("agent"), at.Get("namespace")
		err := r.get("/policy-overrides/"+url.PathEscape(v.Change.Agent)+"/"+url.PathEscape(v.Change.Namespace), nil, &v.Change)
		if none := (*problem)(nil); err != nil && !(errors.As(err, &none) && none.Status == http.StatusNotFound) {
			return nil, err
		}
		v.Tag = r.tag
	}
	v.Runs, err = optional(ask[api.PolicyRun](r, "/policy-runs", r.chosen("before"), nil))
	return &page{View: "policies", Title: "Policies", Data: v}, err
}

type policyView struct {
	api.Policy
	Source, Verdict string
	Verdicts        []string
	Records         list[api.PolicySubject]
}

func (h *handler) policy(r *request) (*page, error) {
	name := r.PathValue("name")
	query := r.chosen("verdict", "source", "before")
	v := policyView{Source: query.Get("source"), Verdict: query.Get("verdict"), Verdicts: []string{"failed", "unknown", "passed"}}
	v.Name = name
	if v.Source == "" { // one of the hub's own; a forge's isn't configured by its name
		if err := r.get("/policies/"+url.PathEscape(name), nil, &v.Policy); err != nil {
			return nil, err
		}
	}
	query.Set("policy", name)
	var err error
	v.Records, err = ask[api.PolicySubject](r, "/policy-subjects", query, nil)
	return &page{View: "policy", Title: name, Data: v}, err
}

// github shows the organisations whose repositories are checked.
func (h *handler) github(r *request) (*page, error) {
	found, err := ask[api.GitHubOrganisation](r, "/github", nil, nil)
	return &page{View: "github", Title: "GitHub", Data: found.Items}, err
}

type profilesView struct {
	Profiles   list[api.Profile]
	Thresholds []api.Threshold
}

func (h *handler) profiles(r *request) (*page, error) {
	var v profilesView
	var err error
	if v.Profiles, err = ask[api.Profile](r, "/profiles", r.chosen("before"), nil); err != nil {
		return nil, err
	}
	v.Thresholds, err = everything[api.Threshold](r, "/thresholds")
	return &page{View: "profiles", Title: "Profiles", Data: v}, err
}

type profileView struct {
	api.Profile
	Versions []api.Profile
}

func (h *handler) profile(r *request) (*page, error) {
	path := "/profiles/" + url.PathEscape(r.PathValue("name"))
	var v profileView
	if err := r.get(path, nil, &v.Profile); err != nil {
		return nil, err
	}
	versions, err := optional(ask[api.Profile](r, "/profiles/"+url.PathEscape(v.Name)+"/versions", nil, nil))
	v.Versions = versions.Items
	return &page{View: "profile", Title: v.Name, Data: v}, err
}

type thresholdView struct {
	api.Threshold
	New     bool
	Tag     string
	Results []api.Scan
}

// threshold shows a threshold and lets it be changed and tried; its name is
// new for one that isn't there yet, which may begin with the text of another.
func (h *handler) threshold(r *request) (*page, error) {
	name := r.PathValue("name")
	v := thresholdView{New: name == "new"}
	p := &page{View: "threshold", Title: "New threshold"}
	if from := r.URL.Query().Get("from"); v.New && from != "" {
		name = from
	}
	if name == "new" {
		v.Text = "compliance:\n  min: 80\nfailed:\n  critical:\n    max: 0\n"
	} else {
		if err := r.get("/thresholds/"+url.PathEscape(name), nil, &v.Threshold); err != nil {
			return nil, err
		}
		if v.New {
			v.Threshold = api.Threshold{Text: v.Text}
		} else {
			p.Title, v.Tag = v.Name, r.tag
		}
	}
	scans, err := ask[api.Scan](r, "/scans", url.Values{"status": {"completed"}, "limit": {"50"}}, nil)
	v.Results, p.Data = scans.Items, &v
	return p, err
}

func (h *handler) services(r *request) (*page, error) {
	services, err := ask[api.AgentService](r, "/services", nil, nil)
	return &page{View: "services", Title: "Services", Data: services.Items}, err
}

type auditView struct {
	Records list[api.AuditRecord]
	Kinds   []string
	Filter  url.Values
}

func (h *handler) audit(r *request) (*page, error) {
	query := r.chosen("kind", "actor", "agent", "action", "before")
	v := auditView{Kinds: []string{"request", "change", "hub", "gap"}, Filter: query}
	var err error
	v.Records, err = ask[api.AuditRecord](r, "/audit", query, nil)
	return &page{View: "audit", Title: "Audit", Data: v}, err
}

type recordingsView struct {
	Recordings list[api.Recording]
	Filter     url.Values
}

// recordings are those of terminals.
func (h *handler) recordings(r *request) (*page, error) {
	v := recordingsView{Filter: r.chosen("actor", "holder", "agent", "before")}
	var err error
	v.Recordings, err = ask[api.Recording](r, "/recordings", v.Filter, nil)
	return &page{View: "recordings", Title: "Recordings", Data: v}, err
}

// recording is one of a terminal, to be played.
func (h *handler) recording(r *request) (*page, error) {
	var v api.Recording
	err := r.get("/recordings/"+url.PathEscape(r.PathValue("id")), nil, &v)
	return &page{View: "recording", Title: "Recording", Data: v}, err
}

type peopleView struct {
	Tokens      []api.Token
	Revocations []api.Revocation
}

func (h *handler) people(r *request) (*page, error) {
	tokens, err := ask[api.Token](r, "/tokens", nil, nil)
	if err != nil {
		return nil, err
	}
	revocations, err := ask[api.Revocation](r, "/revocations", nil, nil)
	return &page{View: "people", Title: "Tokens and people", Data: peopleView{tokens.Items, revocations.Items}}, err
}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
