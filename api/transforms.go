package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/transform"
	"reeve.dev/reeve/pki"
)

// Deriver makes key facts of a stored document.
type Deriver interface {
	// Rederive makes them by by or, where that is nil, as the hub does of what
	// comes.
	Rederive(ctx context.Context, d insight.DocumentRecord, by func(insight.Kind, string) insight.Deriver, store bool) (insight.Derivation, error)
}

type (
	// Derived is what the key facts of a document come to.
	Derived struct {
		Place
		Kind     insight.Kind   `json:"kind" enum:"sbom,image"`
		Document insight.Digest `json:"document"`
		Facts    int            `json:"facts" doc:"How many it comes to"`
		Changes  []FactChange   `json:"changes" nullable:"false" doc:"How they differ from those that are stored"`
	}
	// TransformRequest says how facts are made anew.
	TransformRequest struct {
		DryRun     bool     `json:"dryRun,omitempty" doc:"Only say what would change"`
		Transforms []string `json:"transforms,omitempty" maxItems:"100" doc:"Files of transforms, YAML or JSON, in place of the hub's own; only with dryRun"`
	}
	// DerivedPage is a page of documents, as far as their facts differ.
	DerivedPage struct {
		Items []Derived `json:"items" nullable:"false"`
		// Examined counts all documents of the page.
		Examined int    `json:"examined" doc:"How many documents were looked at for this page"`
		Next     string `json:"next,omitempty" doc:"Pass it as before to get the next page"`
	}
)

func fromDerivation(d insight.Derivation) Derived {
	return Derived{
		Place: newPlace(d.Document.Cluster, d.Document.Environment, d.Document.Service), Kind: d.Document.Kind, Document: d.Document.Digest,
		Facts: len(d.Facts), Changes: convertAll(d.Changes, fromFactChange),
	}
}

// by is what makes the facts; nil: what the hub does.
func (r TransformRequest) by() (func(insight.Kind, string) insight.Deriver, error) {
	if len(r.Transforms) == 0 {
		return nil, nil
	}
	if !r.DryRun {
		return nil, invalidMember("transforms", "facts are stored by the hub's own transforms alone (insights.transforms in its configuration): set dryRun")
	}
	var all []*transform.Set
	for i, text := range r.Transforms {
		one, err := transform.Parse([]byte(text))
		if err != nil {
			return nil, invalidMember("transforms["+strconv.Itoa(i)+"]", err.Error())
		}
		all = append(all, one)
	}
	return transform.Join(all...).Of, nil
}

func (a *API) transforms() {
	type choose struct {
		NamespacedPage
		Kind string `query:"kind" enum:"sbom,image"`
		Body TransformRequest
	}
	op := operation(pki.Operator, http.MethodPost, "/insights/transform", "transform-insights", "Make the key facts of the current SBOMs and image inspects anew", http.StatusUnprocessableEntity)
	op.Description += " It makes those of one page of documents; who wants all asks for each next. Items are the documents whose facts change."
	op.MaxBodyBytes = 2 * transform.MaxFile
	huma.Register(a.huma, op, func(ctx context.Context, in *choose) (*struct{ Body DerivedPage }, error) {
		by, err := in.Body.by()
		if err != nil {
			return nil, err
		}
		in.Limit = min(in.Limit, 100)
		q, err := in.query()
		if err != nil {
			return nil, err
		}
		q.Namespace, q.Kind, q.Limit = in.Namespace, insight.Kind(in.Kind), in.Limit
		documents, err := a.cfg.Insights.InsightDocuments(ctx, q)
		if err != nil {
			return nil, a.problem(ctx, "transform insights", err)
		}
		out := DerivedPage{Items: []Derived{}, Examined: len(documents)}
		for _, d := range documents {
			got, err := a.cfg.Deriver.Rederive(ctx, d, by, !in.Body.DryRun)
			if err != nil {
				return nil, a.problem(ctx, "transform "+string(d.Digest), err)
			}
			if len(got.Changes) > 0 {
				out.Items = append(out.Items, fromDerivation(got))
			}
		}
		if len(documents) == in.Limit {
			out.Next = strconv.Itoa(q.Offset + in.Limit)
		}
		return &struct{ Body DerivedPage }{out}, nil
	})
}
