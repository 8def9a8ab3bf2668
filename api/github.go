package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy/github"
)

type (
	// GitHubOrganisation is how the checks of an organisation's repositories stand.
	GitHubOrganisation struct {
		Connection   string        `json:"connection" doc:"Of the hub's configuration"`
		Organisation string        `json:"organisation"`
		Completed    time.Time     `json:"completed,omitzero" doc:"When all repositories were last checked; absent: not yet"`
		Limits       []GitHubLimit `json:"limits" nullable:"false" doc:"What GitHub still allows"`
		WaitsUntil   time.Time     `json:"waitsUntil,omitzero" doc:"Until when requests wait, if they do now"`
		WaitsFor     string        `json:"waitsFor,omitempty"`
		Waits        int64         `json:"waits" doc:"How often requests had to wait, since each of the hub's replicas was started"`
		Requests     int64         `json:"requests" doc:"Requests that were sent, likewise"`
		Unchanged    int64         `json:"unchanged" doc:"Those of them that cost nothing, since the answer was the same as before"`
	}
	// GitHubLimit is one of GitHub's rate limits.
	GitHubLimit struct {
		Resource  string    `json:"resource" doc:"core, graphql, search"`
		Limit     int       `json:"limit"`
		Remaining int       `json:"remaining"`
		Reset     time.Time `json:"reset"`
	}
)

func fromGitHub(s github.Status) GitHubOrganisation {
	o := GitHubOrganisation{
		Connection: s.Connection, Organisation: s.Organisation, Completed: s.Completed, Limits: []GitHubLimit{},
		WaitsUntil: s.Until, WaitsFor: s.Why, Waits: s.Waits, Requests: s.Requests, Unchanged: s.Unchanged,
	}
	for _, l := range s.Limits {
		o.Limits = append(o.Limits, GitHubLimit(l))
	}
	return o
}

func (a *API) github() {
	type output struct {
		Body struct {
			Items []GitHubOrganisation `json:"items" nullable:"false"`
		}
	}
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/github", "list-github", "List the organisations whose repositories are checked, and how they stand by GitHub's limits"),
		func(ctx context.Context, _ *struct{}) (*output, error) {
			var out output
			out.Body.Items = []GitHubOrganisation{}
			if a.cfg.GitHub == nil {
				return &out, nil
			}
			all, err := a.cfg.GitHub(ctx)
			if err != nil {
				return nil, a.problem(ctx, "list organisations", err)
			}
			for _, s := range all {
				out.Body.Items = append(out.Body.Items, fromGitHub(s))
			}
			return &out, nil
		})
}
