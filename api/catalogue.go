package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

type (
	Profile struct {
		Name     string           `json:"name"`
		Version  string           `json:"version,omitempty"`
		Title    string           `json:"title,omitempty"`
		Summary  string           `json:"summary,omitempty"`
		Digest   string           `json:"digest" doc:"Of the archive that agents run"`
		Controls []ProfileControl `json:"controls" nullable:"false"`
	}
	ProfileControl struct {
		ID     string  `json:"id"`
		Title  string  `json:"title,omitempty"`
		Impact float64 `json:"impact"`
	}
	Threshold struct {
		Name string `json:"name"`
		Text string `json:"text" doc:"The SAF threshold file, YAML"`
	}
	byName struct {
		Name string `path:"name"`
	}
)

func fromProfile(p scan.Profile) Profile {
	out := Profile{Name: p.Name, Version: p.Version, Title: p.Title, Summary: p.Summary, Digest: p.Digest, Controls: []ProfileControl{}}
	for _, c := range p.Controls {
		out.Controls = append(out.Controls, ProfileControl(c))
	}
	return out
}

// catalogue is what scans can ask for.
func (a *API) catalogue() {
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/profiles", "list-profiles", "List the profiles"),
		func(context.Context, *struct{}) (*page[Profile], error) {
			return newPage(a.cfg.Profiles.Profiles(), 0, fromProfile, nil), nil
		})
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/profiles/{name}", "get-profile", "Show a profile", http.StatusNotFound),
		func(_ context.Context, in *byName) (*struct{ Body Profile }, error) {
			p, ok := a.cfg.Profiles.Profile(in.Name)
			if !ok {
				return nil, huma.Error404NotFound(fmt.Sprintf("there is no profile %q; GET %s/profiles lists them", in.Name, prefix))
			}
			return &struct{ Body Profile }{fromProfile(p)}, nil
		})
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/thresholds", "list-thresholds", "List the thresholds"),
		func(context.Context, *struct{}) (*page[Threshold], error) {
			return newPage(a.cfg.Thresholds.Names(), 0, func(name string) Threshold {
				t, _ := a.cfg.Thresholds.Get(name) // a set doesn't change
				return Threshold{name, string(t.Text)}
			}, nil), nil
		})
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/thresholds/{name}", "get-threshold", "Show a threshold", http.StatusNotFound),
		func(_ context.Context, in *byName) (*struct{ Body Threshold }, error) {
			t, err := a.cfg.Thresholds.Get(in.Name)
			if err != nil {
				return nil, huma.Error404NotFound(err.Error())
			}
			return &struct{ Body Threshold }{Threshold{in.Name, string(t.Text)}}, nil
		})
}
