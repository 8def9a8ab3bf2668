package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

type (
	Profile struct {
		Name      string           `json:"name"`
		Version   string           `json:"version,omitempty"`
		Title     string           `json:"title,omitempty"`
		Summary   string           `json:"summary,omitempty"`
		Digest    string           `json:"digest" doc:"Of the archive that agents run"`
		Stored    bool             `json:"stored" doc:"Whether it was uploaded; the others are the hub's own"`
		Created   time.Time        `json:"created,omitzero"`
		CreatedBy string           `json:"createdBy,omitempty"`
		Controls  []ProfileControl `json:"controls" nullable:"false"`
	}
	ProfileControl struct {
		ID          string  `json:"id"`
		Title       string  `json:"title,omitempty"`
		Description string  `json:"description,omitempty"`
		Impact      float64 `json:"impact"`
	}
	Threshold struct {
		Name      string    `json:"name"`
		Text      string    `json:"text" doc:"The SAF threshold file, YAML"`
		Digest    string    `json:"digest"`
		Stored    bool      `json:"stored" doc:"Whether it was uploaded; the others are the hub's own"`
		Created   time.Time `json:"created,omitzero"`
		CreatedBy string    `json:"createdBy,omitempty"`
	}
	ThresholdRequest struct {
		Text string `json:"text" minLength:"1" maxLength:"1048576" doc:"A SAF threshold file, YAML"`
	}
	ByName struct {
		Name string `path:"name"`
	}
	ByRef struct {
		Ref string `path:"name" doc:"NAME, which means the version stored last, NAME@VERSION or NAME@sha256:DIGEST"`
	}
)

func fromProfile(p scan.Profile) Profile {
	out := Profile{
		Name: p.Name, Version: p.Version, Title: p.Title, Summary: p.Summary, Digest: p.Digest,
		Stored: !p.Created.IsZero(), Created: p.Created, CreatedBy: p.CreatedBy, Controls: []ProfileControl{},
	}
	for _, c := range p.Controls {
		out.Controls = append(out.Controls, ProfileControl(c))
	}
	return out
}

func fromThreshold(t scan.Threshold) Threshold {
	return Threshold{
		Name: t.Name, Text: string(t.Text), Digest: t.Digest,
		Stored: !t.Created.IsZero(), Created: t.Created, CreatedBy: t.CreatedBy,
	}
}

// byNames is the input of a list that is by name.
type byNames struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"500"`
	Before string `query:"before" maxLength:"128" doc:"The last page's next"`
}

// catalogue is what scans can ask for.
func (a *API) catalogue() {
	a.readProfiles()
	a.changeProfiles()
	a.thresholds()
}

func (a *API) readProfiles() {
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/profiles", "list-profiles", "List the last version of each profile")),
		func(ctx context.Context, in *byNames) (*page[Profile], error) {
			found, err := a.cfg.Catalogue.Profiles(ctx, in.Before, in.Limit+1)
			if err != nil {
				return nil, a.problem(ctx, "list profiles", err)
			}
			return newPage(found, in.Limit, fromProfile, func(p scan.Profile) string { return p.Name }), nil
		})

	type getInput struct {
		ByRef
		IfNoneMatch
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/profiles/{name}", "get-profile", "Show a profile and its controls", http.StatusNotModified, http.StatusNotFound)),
		func(ctx context.Context, in *getInput) (*tagged[Profile], error) {
			p, err := a.cfg.Catalogue.Profile(ctx, in.Ref)
			if err != nil {
				return nil, a.problem(ctx, "get a profile", err)
			}
			return tag(in.IfNoneMatch, p.Digest, fromProfile(p))
		})

	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/profiles/{name}/versions", "list-profile-versions", "List the versions of a profile, the one stored last first", http.StatusNotFound)),
		func(ctx context.Context, in *ByRef) (*page[Profile], error) {
			found, err := a.cfg.Catalogue.Versions(ctx, in.Ref)
			if err != nil {
				return nil, a.problem(ctx, "list the versions of a profile", err)
			}
			return newPage(found, 0, fromProfile, nil), nil
		})

	op := within(operation(pki.Viewer, http.MethodGet, "/profiles/{name}/archive", "get-profile-archive", "The archive that agents run", http.StatusNotFound))
	op.Responses = map[string]*huma.Response{"200": {
		Description: "tar, compressed by gzip",
		Content:     map[string]*huma.MediaType{"application/gzip": {Schema: binary}},
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *ByRef) (*huma.StreamResponse, error) {
		p, err := a.cfg.Catalogue.Profile(ctx, in.Ref)
		if err != nil {
			return nil, a.problem(ctx, "get a profile", err)
		}
		archive, err := a.cfg.Catalogue.Archive(p)
		if err != nil {
			return nil, a.problem(ctx, "get a profile's archive", err)
		}
		return a.document(archive, "application/gzip"), nil
	})
}

var binary = &huma.Schema{Type: huma.TypeString, Format: "binary"}

// uploadTime is how long an archive may take to arrive.
const uploadTime = 2 * time.Minute

func (a *API) changeProfiles() {
	type uploaded struct {
		Status   int
		Location string `header:"Location"`
		Body     Profile
	}
	type uploadInput struct {
		RawBody []byte `contentType:"application/octet-stream" required:"true"`
	}
	op := operation(pki.Operator, http.MethodPost, "/profiles", "upload-profile", "Store a profile: the body is its archive, .tar.gz, .tar or .zip",
		http.StatusConflict, http.StatusRequestEntityTooLarge)
	op.Description += fmt.Sprintf(" Its name and version are those of its inspec.yml. A version never changes: another content needs another version; the same again is answered with 200. An archive has at most %d MiB and %d MiB unpacked, no links, and no paths that lead out of it.", scan.MaxUpload>>20, 64)
	op.DefaultStatus, op.MaxBodyBytes, op.BodyReadTimeout = http.StatusCreated, scan.MaxUpload, uploadTime
	huma.Register(a.huma, op, func(ctx context.Context, in *uploadInput) (*uploaded, error) {
		by := callerOf(ctx).String()
		p, created, err := a.cfg.Catalogue.Upload(ctx, bytes.NewReader(in.RawBody), by)
		if err != nil {
			return nil, a.problem(ctx, "store a profile", err)
		}
		out := &uploaded{Status: http.StatusOK, Location: prefix + "/profiles/" + p.Name + "@" + url.PathEscape(p.Version), Body: fromProfile(p)}
		if created {
			out.Status = http.StatusCreated
			a.cfg.Logger.InfoContext(ctx, "profile stored", "profile", p.Name, "version", p.Version, "digest", p.Digest, "by", by)
		}
		return out, nil
	})

	op = operation(pki.Operator, http.MethodDelete, "/profiles/{name}", "delete-profile", "Remove a stored version of a profile or, by its name alone, all", http.StatusNotFound, http.StatusConflict)
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, in *ByRef) (*struct{}, error) {
		if err := a.cfg.Catalogue.DeleteProfile(ctx, in.Ref); err != nil {
			return nil, a.problem(ctx, "delete a profile", err)
		}
		a.cfg.Logger.InfoContext(ctx, "profile deleted", "profile", in.Ref, "by", callerOf(ctx).String())
		return nil, nil
	})
}

func (a *API) thresholds() {
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/thresholds", "list-thresholds", "List the thresholds")),
		func(ctx context.Context, in *byNames) (*page[Threshold], error) {
			found, err := a.cfg.Catalogue.Thresholds(ctx, in.Before, in.Limit+1)
			if err != nil {
				return nil, a.problem(ctx, "list thresholds", err)
			}
			return newPage(found, in.Limit, fromThreshold, func(t scan.Threshold) string { return t.Name }), nil
		})

	type getInput struct {
		ByName
		IfNoneMatch
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/thresholds/{name}", "get-threshold", "Show a threshold", http.StatusNotModified, http.StatusNotFound)),
		func(ctx context.Context, in *getInput) (*tagged[Threshold], error) {
			t, err := a.cfg.Catalogue.Threshold(ctx, in.Name)
			if err != nil {
				return nil, a.problem(ctx, "get a threshold", err)
			}
			return tag(in.IfNoneMatch, t.Digest, fromThreshold(t))
		})

	type putInput struct {
		ByName
		Precondition
		Body ThresholdRequest
	}
	type put struct {
		Status int
		ETag   string `header:"ETag"`
		Body   Threshold
	}
	op := operation(pki.Operator, http.MethodPut, "/thresholds/{name}", "put-threshold", "Store or replace a threshold",
		http.StatusConflict, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge)
	op.Description += " Scans that were asked for before are judged by the text that was there then."
	op.MaxBodyBytes = 2 * scan.MaxThreshold // for escapes in JSON
	huma.Register(a.huma, op, func(ctx context.Context, in *putInput) (*put, error) {
		by := callerOf(ctx).String()
		was := strings.Trim(in.IfMatch, `"`)
		if in.Unless != "" {
			was = scan.NoDigest
		}
		t, created, err := a.cfg.Catalogue.SaveThreshold(ctx, in.Name, []byte(in.Body.Text), was, by)
		if err != nil {
			return nil, a.problem(ctx, "store a threshold", in.told(err))
		}
		a.cfg.Logger.InfoContext(ctx, "threshold stored", "threshold", t.Name, "digest", t.Digest, "by", by)
		out := &put{Status: http.StatusOK, ETag: quote(t.Digest), Body: fromThreshold(t)}
		if created {
			out.Status = http.StatusCreated
		}
		return out, nil
	})

	op = operation(pki.Operator, http.MethodDelete, "/thresholds/{name}", "delete-threshold", "Remove a stored threshold", http.StatusNotFound, http.StatusConflict)
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, in *ByName) (*struct{}, error) {
		if err := a.cfg.Catalogue.DeleteThreshold(ctx, in.Name); err != nil {
			return nil, a.problem(ctx, "delete a threshold", err)
		}
		a.cfg.Logger.InfoContext(ctx, "threshold deleted", "threshold", in.Name, "by", callerOf(ctx).String())
		return nil, nil
	})
}
