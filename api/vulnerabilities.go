package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/insight/vex"
	"reeve.dev/reeve/pki"
)

type (
	// Imported says what an import of vulnerabilities did.
	Imported struct {
		Entries int      `json:"entries"`
		Changed int      `json:"changed" doc:"New, other than before, or withdrawn"`
		Invalid int      `json:"invalid" doc:"Files that couldn't be read"`
		Reasons []string `json:"reasons,omitempty" doc:"Of the first of those"`
	}
	// Statement is what somebody said of a vulnerability.
	Statement struct {
		Vulnerability string         `json:"vulnerability"`
		Status        insight.Status `json:"status" enum:"not_affected,affected,fixed,under_investigation"`
		Subject       string         `json:"subject,omitempty" doc:"What it is about: image:DIGEST, sbom:DIGEST, serial:NUMBER or product:NAME; empty for wherever the component is"`
		Component     string         `json:"component,omitempty" doc:"A purl; empty for all of the subject's"`
		Justification string         `json:"justification,omitempty"`
		Detail        string         `json:"detail,omitempty"`
		Author        string         `json:"author,omitempty"`
		Made          time.Time      `json:"made"`
		Document      insight.Digest `json:"document" doc:"Digest of the document that makes it"`
	}
	// Statements are those of a document.
	Statements struct {
		Document   insight.Digest `json:"document"`
		Statements int            `json:"statements"`
	}
)

func fromStatement(r insight.StatementRecord) Statement {
	return Statement{
		r.Vulnerability, r.Status, string(r.Subject), r.Component, r.Justification, r.Detail, r.Author, r.Made, r.Document,
	}
}

const (
	// maxDatabase is the most bytes of a zip file of OSV entries; that of all
	// ecosystems together has about one gigabyte.
	maxDatabase = 4 << 30
	// databaseTime is how long it may take to arrive.
	databaseTime = 30 * time.Minute
)

// databaseInput is a body that is too large for memory.
type databaseInput struct{ body io.Reader }

// Resolve implements huma.Resolver.
func (in *databaseInput) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(databaseTime))
	in.body = http.MaxBytesReader(w, r.Body, maxDatabase)
	return nil
}

func (a *API) vulnerabilities() {
	op := operation(pki.Operator, http.MethodPost, "/osv", "import-osv", "Import vulnerabilities: the body is a zip file of OSV entries, as osv.dev exports them",
		http.StatusRequestEntityTooLarge)
	op.Description += " What is in it and is new or other than before replaces what was there; entries that aren't in it stay. The components of the packages that they are about are matched anew soon after."
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/zip": {Schema: binary}}}
	huma.Register(a.huma, op, func(ctx context.Context, in *databaseInput) (*struct{ Body Imported }, error) {
		got, err := a.importOSV(ctx, in.body)
		if err != nil {
			return nil, err
		}
		a.cfg.Logger.InfoContext(ctx, "vulnerabilities imported", "entries", got.Entries, "changed", got.Changed, "invalid", got.Invalid, "by", callerOf(ctx).String())
		return &struct{ Body Imported }{Imported(got)}, nil
	})

	type said struct{ Body Statements }
	type sayInput struct{ RawBody []byte }
	op = operation(pki.Operator, http.MethodPost, "/vex", "say-vex", "Say how products stand to vulnerabilities: the body is a VEX document, OpenVEX or CycloneDX",
		http.StatusRequestEntityTooLarge)
	op.Description += " Of several statements on one component the latest holds. The same document again replaces itself."
	op.MaxBodyBytes, op.BodyReadTimeout, op.SkipValidateBody = vex.MaxDocument, uploadTime, true
	op.RequestBody = messageBody("application/json", "application/vnd.cyclonedx+json")
	huma.Register(a.huma, op, func(ctx context.Context, in *sayInput) (*said, error) {
		statements, err := vex.Parse(bytes.NewReader(in.RawBody))
		if err != nil {
			return nil, a.problem(ctx, "read statements", err)
		}
		out := &said{Statements{insight.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(in.RawBody))), len(statements)}}
		if err := a.cfg.Insights.PutStatements(ctx, out.Body.Document, statements, time.Now()); err != nil {
			return nil, a.problem(ctx, "store statements", err)
		}
		a.cfg.Logger.InfoContext(ctx, "statements on vulnerabilities", "document", out.Body.Document, "statements", len(statements), "by", callerOf(ctx).String())
		return out, nil
	})
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/vex", "list-vex", "List what was said of vulnerabilities, the latest first"),
		func(ctx context.Context, in *struct {
			Vulnerability string `query:"vulnerability"`
			Limit         int    `query:"limit" minimum:"1" maximum:"999" default:"100"`
			Before        string `query:"before" doc:"The last page's next"`
		},
		) (*page[Statement], error) {
			return listInsights(a, ctx, InsightsPage{Limit: in.Limit, Before: in.Before}, func(q *insight.Query) { q.Q = in.Vulnerability }, a.cfg.Insights.Statements, fromStatement)
		})
	op = operation(pki.Operator, http.MethodDelete, "/vex/{digest}", "delete-vex", "Forget the statements of a document", http.StatusNotFound)
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, in *struct {
		Digest string `path:"digest" doc:"sha256: and 64 hex digits"`
	},
	) (*struct{}, error) {
		if err := a.cfg.Insights.RemoveStatements(ctx, insight.Digest(in.Digest)); err != nil {
			return nil, a.problem(ctx, "forget statements", err)
		}
		return nil, nil
	})
}

// importOSV imports what body gives, by a file: a zip file is read from its
// end.
func (a *API) importOSV(ctx context.Context, body io.Reader) (osv.Imported, error) {
	tmp, err := os.CreateTemp("", "reeve-osv-")
	if err != nil {
		return osv.Imported{}, a.problem(ctx, "import vulnerabilities", err)
	}
	defer tmp.Close()
	defer os.Remove(tmp.Name())
	size, err := io.Copy(tmp, body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return osv.Imported{}, huma.NewError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the file has more than %d bytes", large.Limit))
	case err != nil:
		return osv.Imported{}, a.problem(ctx, "import vulnerabilities", err)
	}
	got, err := osv.Import(ctx, a.cfg.Insights, tmp, size)
	if errors.Is(err, osv.ErrNotZip) {
		return got, huma.Error422UnprocessableEntity(err.Error(), &huma.ErrorDetail{Location: "body", Message: err.Error()})
	}
	if err != nil {
		return got, a.problem(ctx, "import vulnerabilities", err)
	}
	return got, nil
}
