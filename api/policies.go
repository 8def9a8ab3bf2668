package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
)

// Policies are those of the hub.
type Policies interface {
	Policies() []policy.Policy
	// Check tells what is wrong with what a namespace says.
	Check(policy.Layer) []policy.Fault
	// Faults are those of all namespaces.
	Faults() []policy.Fault
}

// PolicyStore knows what policies came to.
type PolicyStore interface {
	PolicyRuns(ctx context.Context, q policy.Query) ([]policy.Run, error)
	PolicyRun(ctx context.Context, id policy.RunID) (policy.Run, error)
	LastRuns(ctx context.Context, source string) (map[string]policy.Run, error)
	PolicySubjects(ctx context.Context, q policy.Query) ([]policy.SubjectRecord, error)
	PolicyTallies(ctx context.Context, q policy.Query) (map[string]policy.Tally, error)
	PolicyLayers(ctx context.Context) ([]policy.Layer, error)
	PolicyLayer(ctx context.Context, p policy.Place) (policy.Layer, error)
	PutPolicyLayer(ctx context.Context, l policy.Layer, was *string) (created bool, err error)
	DeletePolicyLayer(ctx context.Context, p policy.Place, was *string) error
}

// The wire's shapes of policies.
type (
	Policy struct {
		Name        string        `json:"name"`
		Description string        `json:"description,omitempty"`
		Check       string        `json:"check" doc:"What is checked: scan, control, problem, fact, sbom or image"`
		Actions     []string      `json:"actions" nullable:"false"`
		Definition  string        `json:"definition" doc:"The policy as the hub's configuration has it, in YAML; for callers who may know of a part of the fleet without the subjects and overrides elsewhere"`
		Subjects    PolicyTally   `json:"subjects" doc:"How many stand how, of those that the caller may know of"`
		LastRun     *PolicyRun    `json:"lastRun,omitempty" doc:"The last run that was about all subjects, if any was; for callers who may know of the whole fleet. A check of scans has none: it is made when a scan ends"`
		Faults      []PolicyFault `json:"faults,omitempty" doc:"What is wrong with overrides of it, which aren't applied"`
	}
	PolicyTally struct {
		Passed  int `json:"passed"`
		Failed  int `json:"failed"`
		Unknown int `json:"unknown" doc:"Couldn't be judged"`
	}
	PolicyRun struct {
		ID       policy.RunID    `json:"id"`
		Source   string          `json:"source" doc:"policies, or whose it is, such as github/ORG"`
		Policy   string          `json:"policy,omitempty" doc:"Left out: all policies of the source"`
		Cause    string          `json:"cause" doc:"Why it was made, such as clock or insight"`
		Whole    bool            `json:"whole" doc:"Whether it was about all subjects"`
		Began    time.Time       `json:"began"`
		Ended    time.Time       `json:"ended,omitzero"`
		State    policy.RunState `json:"state" enum:"running,complete,truncated" doc:"A truncated one has fewer results than it expected: what it doesn't tell of was not checked"`
		Reason   string          `json:"reason,omitempty"`
		Expected int             `json:"expected"`
		Results  PolicyTally     `json:"results"`
	}
	PolicySubject struct {
		Source    string         `json:"source"`
		Policy    string         `json:"policy"`
		Owner     string         `json:"owner"`
		Repo      string         `json:"repo"`
		Agent     string         `json:"agent,omitempty"`
		Namespace string         `json:"namespace,omitempty"`
		Verdict   policy.Verdict `json:"verdict" enum:"passed,failed,unknown"`
		Details   string         `json:"details,omitempty"`
		Since     time.Time      `json:"since" doc:"When the verdict became this one"`
		Checked   time.Time      `json:"checked"`
		Run       string         `json:"run" doc:"The run, or the scan, that it was checked by"`
	}
	PolicyFault struct {
		Agent     string `json:"agent"`
		Namespace string `json:"namespace"`
		Policy    string `json:"policy,omitempty" doc:"Left out: the whole text"`
		Reason    string `json:"reason"`
	}
	PolicyOverride struct {
		Agent     string        `json:"agent"`
		Namespace string        `json:"namespace"`
		Text      string        `json:"text" doc:"YAML: what is otherwise, by the name of each policy"`
		By        string        `json:"by"`
		At        time.Time     `json:"at"`
		Faults    []PolicyFault `json:"faults,omitempty" doc:"What of it isn't applied, since the policies are what they are now"`
	}
	PolicyOverrideRequest struct {
		Text string `json:"text" minLength:"1" maxLength:"65536" doc:"YAML: by the name of each policy optOut, check, actions (of the policy's own) and schedule, as far as they are otherwise here"`
	}
)

func fromTally(t policy.Tally) PolicyTally { return PolicyTally(t) }

func fromPolicyRun(r policy.Run) PolicyRun {
	return PolicyRun{
		ID: r.ID, Source: r.Source, Policy: r.Policy, Cause: r.Cause, Whole: r.Whole, Began: r.Began, Ended: r.Ended, State: r.State,
		Reason: r.Reason, Expected: r.Expected, Results: PolicyTally{r.Passed, r.Failed, r.Unknown},
	}
}

func fromSubject(r policy.SubjectRecord) PolicySubject {
	return PolicySubject{
		Source: r.Source, Policy: r.Policy, Owner: r.Subject.Owner, Repo: r.Subject.Repo, Agent: string(r.Agent), Namespace: r.Namespace,
		Verdict: r.Verdict, Details: r.Details, Since: r.Since, Checked: r.Checked, Run: r.Run,
	}
}

func fromFaults(ctx context.Context, faults []policy.Fault, is func(policy.Fault) bool) (out []PolicyFault) {
	for _, f := range faults {
		if is(f) && seen(ctx, f.Agent, f.Namespace) {
			out = append(out, PolicyFault{string(f.Agent), f.Namespace, f.Policy, f.Reason})
		}
	}
	return out
}

func (a *API) fromLayer(ctx context.Context, l policy.Layer) PolicyOverride {
	return PolicyOverride{
		Agent: string(l.Agent), Namespace: l.Namespace, Text: l.Text, By: l.By, At: l.At,
		Faults: fromFaults(ctx, a.cfg.Policies.Check(l), func(policy.Fault) bool { return true }),
	}
}

func (a *API) policies() {
	all := func(ctx context.Context) (out []Policy, err error) {
		tallies, err := a.cfg.PolicyStore.PolicyTallies(ctx, policy.Query{Source: policy.Fleet, Within: visible(ctx)})
		if err != nil {
			return nil, err
		}
		last, err := a.cfg.PolicyStore.LastRuns(ctx, policy.Fleet)
		if err != nil {
			return nil, err
		}
		faults := a.cfg.Policies.Faults()
		for _, p := range a.cfg.Policies.Policies() {
			note := ""
			if scopes := visible(ctx); scopes != nil {
				var less, any bool
				if p, less, any = p.Within(scopes); !any {
					continue
				}
				if less {
					note = "# without what is about other places\n"
				}
			}
			v := Policy{
				Name: p.Name, Description: p.Description, Check: p.Check.Kind(), Definition: note + p.Definition(), Subjects: fromTally(tallies[p.Name]),
				Faults: fromFaults(ctx, faults, func(f policy.Fault) bool { return f.Policy == p.Name }),
			}
			for _, action := range p.Actions {
				v.Actions = append(v.Actions, action.String())
			}
			if r, ran := last[p.Name]; ran && callerOf(ctx).Rights.Everywhere(pki.Viewer) {
				run := fromPolicyRun(r)
				v.LastRun = &run
			}
			out = append(out, v)
		}
		return out, nil
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/policies", "list-policies", "List the policies that are about what the caller may know of, and how their subjects stand")),
		func(ctx context.Context, _ *struct{}) (*page[Policy], error) {
			found, err := all(ctx)
			if err != nil {
				return nil, a.problem(ctx, "list policies", err)
			}
			return newPage(found, 0, func(p Policy) Policy { return p }, nil), nil
		})
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/policies/{name}", "get-policy", "Show a policy, and how its subjects stand", http.StatusNotFound)),
		func(ctx context.Context, in *struct {
			Name string `path:"name" maxLength:"63"`
		},
		) (*struct{ Body Policy }, error) {
			found, err := all(ctx)
			if err != nil {
				return nil, a.problem(ctx, "get a policy", err)
			}
			for _, p := range found {
				if p.Name == in.Name {
					return &struct{ Body Policy }{p}, nil
				}
			}
			return nil, huma.Error404NotFound("there is no such policy; GET " + prefix + "/policies lists those that there are")
		})

	type runsInput struct {
		Source string `query:"source" doc:"policies, or whose they are, such as github/ORG"`
		Policy string `query:"policy"`
		State  string `query:"state" enum:"running,complete,truncated"`
		Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before string `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/policy-runs", "list-policy-runs", "List evaluations of policies, newest first"),
		func(ctx context.Context, in *runsInput) (*page[PolicyRun], error) {
			found, err := a.cfg.PolicyStore.PolicyRuns(ctx, policy.Query{
				Source: in.Source, Policy: in.Policy, State: policy.RunState(in.State), Before: policy.RunID(in.Before), Limit: in.Limit + 1,
			})
			if err != nil {
				return nil, a.problem(ctx, "list runs of policies", err)
			}
			return newPage(found, in.Limit, fromPolicyRun, func(r policy.Run) string { return string(r.ID) }), nil
		})

	type subjectsInput struct {
		Source    string `query:"source" default:"policies" doc:"policies, or whose they are, such as github/ORG"`
		Policy    string `query:"policy"`
		Verdict   string `query:"verdict" enum:"passed,failed,unknown"`
		Agent     string `query:"agent"`
		Namespace string `query:"namespace"`
		Owner     string `query:"owner"`
		Repo      string `query:"repo"`
		Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before    string `query:"before" pattern:"^[0-9]{0,9}$" doc:"The last page's next"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/policy-subjects", "list-policy-subjects", "List how subjects stand by policies, by source, policy and subject")),
		func(ctx context.Context, in *subjectsInput) (*page[PolicySubject], error) {
			offset, _ := strconv.Atoi(in.Before) // digits, or nothing
			found, err := a.cfg.PolicyStore.PolicySubjects(ctx, policy.Query{
				Source: in.Source, Policy: in.Policy, Verdict: policy.Verdict(in.Verdict), Agent: fleet.AgentName(in.Agent), Namespace: in.Namespace,
				Subject: fleet.Subject{Owner: in.Owner, Repo: in.Repo}, Within: visible(ctx), Offset: offset, Limit: in.Limit + 1,
			})
			if err != nil {
				return nil, a.problem(ctx, "list subjects of policies", err)
			}
			return newPage(found, in.Limit, fromSubject, func(policy.SubjectRecord) string { return strconv.Itoa(offset + in.Limit) }), nil
		})
	a.policyOverrides()
}

// ByPlace names a namespace of an agent's cluster.
type ByPlace struct {
	Agent     string `path:"agent" maxLength:"63" pattern:"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"`
	Namespace string `path:"namespace" maxLength:"63" pattern:"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"`
}

// policyOverrides are what namespaces say of policies for themselves.
func (a *API) policyOverrides() {
	at := func(p ByPlace) policy.Place {
		return policy.Place{Agent: fleet.AgentName(p.Agent), Namespace: p.Namespace}
	}
	version := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:16])
	}
	// was is the text that a change is based on; nil for any.
	was := func(ctx context.Context, p policy.Place, tag string) (*string, error) {
		if tag == "" {
			return nil, nil
		}
		l, err := a.cfg.PolicyStore.PolicyLayer(ctx, p)
		if err != nil && !errors.Is(err, policy.ErrNotFound) {
			return nil, err
		}
		if err != nil || tag != "*" && strings.Trim(tag, `"`) != version(l.Text) {
			return nil, policy.ErrChanged
		}
		return &l.Text, nil
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/policy-overrides", "list-policy-overrides", "List what namespaces say of policies for themselves, and what of that isn't applied")),
		func(ctx context.Context, _ *struct{}) (*page[PolicyOverride], error) {
			found, err := a.cfg.PolicyStore.PolicyLayers(ctx)
			if err != nil {
				return nil, a.problem(ctx, "list overrides of policies", err)
			}
			mine := found[:0]
			for _, l := range found {
				if seen(ctx, l.Agent, l.Namespace) {
					mine = append(mine, l)
				}
			}
			return newPage(mine, 0, func(l policy.Layer) PolicyOverride { return a.fromLayer(ctx, l) }, nil), nil
		})

	const path = "/policy-overrides/{agent}/{namespace}"
	type getInput struct {
		ByPlace
		IfNoneMatch
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, path, "get-policy-override", "Show what a namespace says of policies", http.StatusNotModified, http.StatusNotFound)),
		func(ctx context.Context, in *getInput) (*tagged[PolicyOverride], error) {
			l, err := a.cfg.PolicyStore.PolicyLayer(ctx, at(in.ByPlace))
			if err == nil && !seen(ctx, l.Agent, l.Namespace) {
				err = policy.ErrNotFound
			}
			if errors.Is(err, policy.ErrNotFound) {
				err = noOverride(in.ByPlace)
			}
			if err != nil {
				return nil, a.problem(ctx, "get an override of policies", err)
			}
			return tag(in.IfNoneMatch, version(l.Text), a.fromLayer(ctx, l))
		})

	type putInput struct {
		ByPlace
		Precondition
		Body PolicyOverrideRequest
	}
	type put struct {
		Status int
		ETag   string `header:"ETag"`
		Body   PolicyOverride
	}
	op := within(operation(pki.Operator, http.MethodPut, path, "put-policy-override", "Say what of policies is otherwise in a namespace", http.StatusConflict, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge))
	op.Description += " A policy that has disableOverride can't be overridden, and outcomes go nowhere that the policy doesn't send them to, but to the hub's log."
	op.MaxBodyBytes = 2 * policy.MaxLayer // for escapes in JSON
	huma.Register(a.huma, op, func(ctx context.Context, in *putInput) (*put, error) {
		l := policy.Layer{Place: at(in.ByPlace), Text: in.Body.Text, By: callerOf(ctx).String(), At: time.Now()}
		if err := reach(ctx, pki.Operator, l.Agent, l.Namespace); err != nil {
			return nil, err
		}
		var wrong []error
		faults := a.cfg.Policies.Check(l)
		for _, f := range faults {
			wrong = append(wrong, &huma.ErrorDetail{Location: "body.text", Message: f.Reason, Value: f.Policy})
		}
		if len(wrong) > 0 {
			return nil, huma.Error422UnprocessableEntity("text: "+faults[0].Reason, wrong...)
		}
		before, err := was(ctx, l.Place, in.IfMatch)
		if in.Unless != "" {
			before = new(string)
		}
		var created bool
		if err == nil {
			created, err = a.cfg.PolicyStore.PutPolicyLayer(ctx, l, before)
		}
		if err != nil {
			return nil, a.problem(ctx, "put an override of policies", in.told(err))
		}
		a.cfg.Logger.InfoContext(ctx, "override of policies put", "agent", l.Agent, "namespace", l.Namespace, "by", l.By)
		out := &put{Status: http.StatusOK, ETag: quote(version(l.Text)), Body: a.fromLayer(ctx, l)}
		if created {
			out.Status = http.StatusCreated
		}
		return out, nil
	})

	type deleteInput struct {
		ByPlace
		IfMatch string `header:"If-Match" doc:"The ETag of what is deleted"`
	}
	op = within(operation(pki.Operator, http.MethodDelete, path, "delete-policy-override", "Have policies hold in a namespace as they do elsewhere", http.StatusNotFound, http.StatusPreconditionFailed))
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, in *deleteInput) (*struct{}, error) {
		p := at(in.ByPlace)
		if err := reach(ctx, pki.Operator, p.Agent, p.Namespace); err != nil {
			return nil, err
		}
		before, err := was(ctx, p, in.IfMatch)
		if err == nil {
			err = a.cfg.PolicyStore.DeletePolicyLayer(ctx, p, before)
		}
		if errors.Is(err, policy.ErrNotFound) {
			err = noOverride(in.ByPlace)
		}
		if err != nil {
			return nil, a.problem(ctx, "delete an override of policies", err)
		}
		a.cfg.Logger.InfoContext(ctx, "override of policies deleted", "agent", p.Agent, "namespace", p.Namespace, "by", callerOf(ctx).String())
		return nil, nil
	})
}

func noOverride(in ByPlace) error {
	return fmt.Errorf("an override of policies in namespace %s/%s: %w", in.Agent, in.Namespace, policy.ErrNotFound)
}
