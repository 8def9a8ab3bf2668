package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	gh "github.com/google/go-github/v89/github"
)

// codeowners is the policy CODEOWNERS: that the file says who answers for what,
// and that GitHub understands it.
type codeowners struct {
	acting
	RequireCODEOWNERS bool `key:"requireCODEOWNERS"`
}

func (p *codeowners) validate(report func(key, text string)) { p.acting.validate(report, false) }

func (p *codeowners) judge(ctx context.Context, r *repository) (verdict, error) {
	const about = "See https://docs.github.com/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners."
	sha, err := r.at(ctx, r.GetDefaultBranch())
	if err != nil {
		return verdict{}, err
	}
	got, _, err := r.acct.client.Repositories.GetCodeownersErrors(holds(ctx, sha, false), r.owner(), r.GetName(), nil)
	if status(err) == http.StatusNotFound {
		if !p.RequireCODEOWNERS {
			return passed("There is no CODEOWNERS file, and none is required."), nil
		}
		return failed("There is no CODEOWNERS file. It says who answers for which part of the repository, and has them asked for their review.\n\n"+
			"Add one as .github/CODEOWNERS: %s\n%s", r.url("new", r.GetDefaultBranch())+"?filename=.github/CODEOWNERS", about), nil
	}
	if err != nil {
		return verdict{}, plain(err)
	}
	if len(got.Errors) == 0 {
		return passed("GitHub understands the whole CODEOWNERS file."), nil
	}
	var found []string
	for _, e := range got.Errors {
		found = append(found, fmt.Sprintf("%s line %d: %s", e.Path, e.Line, firstLine(e.Message)))
	}
	return failed("The CODEOWNERS file has %d errors. Lines with errors are ignored, so nobody is asked to review what they are about.\n\n%s\n%s", len(got.Errors), lines("errors", found), about), nil
}

// securityPolicy is the policy SECURITY.md: that somebody who finds a
// vulnerability is told how to report it.
type securityPolicy struct{ acting }

func (p *securityPolicy) validate(report func(key, text string)) { p.acting.validate(report, false) }

func (p *securityPolicy) judge(ctx context.Context, r *repository) (verdict, error) {
	enabled, err := r.security.enabled(ctx, r)
	if err != nil {
		return verdict{}, err
	}
	if enabled {
		return passed("There is a security policy: " + r.url("security", "policy")), nil
	}
	return failed("There is no security policy. Who finds a vulnerability isn't told how to report it without making it public.\n\n"+
		"Add a file SECURITY.md that says what counts as a vulnerability, and a private way to report one, such as GitHub's private vulnerability reporting or an encrypted mail: %s\n"+
		"A SECURITY.md in the organisation's public repository .github is for all repositories that have none.\n"+
		"See https://docs.github.com/code-security/getting-started/adding-a-security-policy-to-your-repository.", r.url("security", "policy")), nil
}

// securityBatch is how many repositories one query of GraphQL asks about; it
// costs one point of the limit, as a query about one does.
const securityBatch = 50

// securityLoader asks GraphQL about the security policies of an organisation's
// repositories, many at once: GraphQL's answers can't be validated.
type securityLoader struct {
	acct *account

	turn    turn            // guards the rest, and a query under way
	waiting []string        // names that are yet to be asked about
	known   map[string]bool // by lower-case name
}

func newSecurityLoader(a *account, repos []*gh.Repository) *securityLoader {
	l := &securityLoader{acct: a, turn: newTurn(), known: map[string]bool{}}
	for _, r := range repos {
		l.waiting = append(l.waiting, r.GetName())
	}
	return l
}

// enabled reports whether r has a security policy.
func (l *securityLoader) enabled(ctx context.Context, r *repository) (bool, error) {
	if v, ok, err := l.batched(ctx, r.GetName()); ok || err != nil {
		return v, err
	}
	// What one query about many doesn't answer is asked about singly: one
	// repository's fault isn't the others'.
	return l.acct.securityPolicy(ctx, r.GetName())
}

// batched answers from what is known, or by a query that asks about others, too.
func (l *securityLoader) batched(ctx context.Context, name string) (enabled, ok bool, err error) {
	if err := l.turn.take(ctx); err != nil {
		return false, false, err
	}
	defer l.turn.leave()
	key := strings.ToLower(name)
	if v, ok := l.known[key]; ok {
		return v, true, nil
	}
	batch := []string{name}
	rest := l.waiting[:0:0]
	for _, n := range l.waiting {
		switch {
		case strings.EqualFold(n, name):
		case len(batch) < securityBatch:
			batch = append(batch, n)
		default:
			rest = append(rest, n)
		}
	}
	l.waiting = rest
	if len(batch) > 1 {
		if got, err := l.acct.securityPolicies(ctx, batch); err == nil {
			for n, v := range got {
				l.known[strings.ToLower(n)] = v
			}
		}
	}
	enabled, ok = l.known[key]
	return enabled, ok, nil
}

const maxGraphQL = 4 << 20

// graphQL asks a query and reads its data; a message per path that failed.
func (a *account) graphQL(ctx context.Context, query string, variables map[string]any, data any) error {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return err
	}
	for range limitTries {
		// Of its limit GraphQL tells by an answer of 200. The next try waits, since
		// the answer's headers say for how long.
		if err = a.ask(ctx, body, data); !errors.Is(err, errQueryLimited) {
			break
		}
	}
	return err
}

var errQueryLimited = errors.New("GraphQL: the rate limit is used up")

func (a *account) ask(ctx context.Context, body []byte, data any) error {
	req, err := http.NewRequestWithContext(remembering(ctx, nil), http.MethodPost, a.conn.cfg.graphql(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	resp, err := a.limits.RoundTrip(req)
	if err != nil {
		return plain(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxGraphQL))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GraphQL: GitHub answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	var got struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return errors.New("GraphQL: the answer isn't JSON")
	}
	if len(got.Data) > 0 && string(got.Data) != "null" {
		if err := json.Unmarshal(got.Data, data); err != nil {
			return fmt.Errorf("GraphQL: %w", err)
		}
	}
	if len(got.Errors) > 0 && got.Errors[0].Type == "RATE_LIMITED" {
		return errQueryLimited
	}
	if len(got.Errors) > 0 {
		return fmt.Errorf("GraphQL: %s", firstLine(got.Errors[0].Message))
	}
	return nil
}

type securityAnswer struct {
	IsSecurityPolicyEnabled *bool `json:"isSecurityPolicyEnabled"`
}

// securityPolicies asks about many repositories; those that GitHub says nothing
// about are left out.
func (a *account) securityPolicies(ctx context.Context, names []string) (map[string]bool, error) {
	var q strings.Builder
	vars := map[string]any{"owner": a.login}
	q.WriteString("query($owner: String!")
	for i := range names {
		fmt.Fprintf(&q, ", $n%d: String!", i)
	}
	q.WriteString(") {")
	for i, n := range names {
		fmt.Fprintf(&q, " r%d: repository(owner: $owner, name: $n%d) { isSecurityPolicyEnabled }", i, i)
		vars[fmt.Sprintf("n%d", i)] = n
	}
	q.WriteString(" }")
	var data map[string]*securityAnswer
	err := a.graphQL(ctx, q.String(), vars, &data)
	out := map[string]bool{}
	for i, n := range names {
		if v := data[fmt.Sprintf("r%d", i)]; v != nil && v.IsSecurityPolicyEnabled != nil {
			out[n] = *v.IsSecurityPolicyEnabled
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, err
}

func (a *account) securityPolicy(ctx context.Context, name string) (bool, error) {
	var data struct {
		Repository *securityAnswer `json:"repository"`
	}
	const query = "query($owner: String!, $name: String!) { repository(owner: $owner, name: $name) { securityPolicyUrl isSecurityPolicyEnabled } }"
	err := a.graphQL(ctx, query, map[string]any{"owner": a.login, "name": name}, &data)
	if err != nil {
		return false, err
	}
	if data.Repository == nil || data.Repository.IsSecurityPolicyEnabled == nil {
		return false, unjudged("GitHub doesn't say whether there is a security policy")
	}
	return *data.Repository.IsSecurityPolicyEnabled, nil
}
