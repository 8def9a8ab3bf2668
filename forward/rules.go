package forward

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
)

// Rule is one line of who may call what. It is for the requests that every
// list which isn't empty has an entry for; an entry may hold *, which stands
// for any text. The first rule that is for a request decides.
type Rule struct {
	// Name is for records and for whom the rule refuses.
	Name string `yaml:"name"`
	// Effect is allow or deny.
	Effect string `yaml:"effect"`
	Who    Who    `yaml:"who"`
	// Agents, Types and Services say which services.
	Agents   []string `yaml:"agents"`
	Types    []string `yaml:"types"`
	Services []string `yaml:"services"`
	// Namespaces and Resources are for a Kubernetes API only: a request of
	// another type has none. A resource is written pods, deployments.apps or
	// pods/exec. Requests for all namespaces, or for none, are in the
	// namespace "", for which only * stands; but what denies in one denies
	// lists of all, which have it in them.
	Namespaces []string `yaml:"namespaces"`
	Resources  []string `yaml:"resources"`
	// Verbs are Kubernetes' (get, list, watch, create …) or, for other types,
	// HTTP's methods in lower case. A command in a container, an attach and a
	// forwarded port are create, by WebSocket too.
	Verbs []string `yaml:"verbs"`
	// Paths begin with /; * stays within one step and ** doesn't. A path that
	// a server could read in several ways must be allowed in each.
	Paths []string `yaml:"paths"`
	// Impersonate has a Kubernetes API take the request for another user's.
	Impersonate Impersonation `yaml:"impersonate"`
	// MayImpersonate lets callers do so themselves (kubectl --as).
	MayImpersonate bool `yaml:"mayImpersonate"`
	// Record has the terminal of a command in a container, or of an attach,
	// recorded: what it shows, not what is typed. Forwarded ports aren't
	// recorded but pass; any other Upgrade is refused, since a command may be
	// in it, and so is what a node's proxy is asked for beside reading.
	Record bool `yaml:"record"`
	// AnswerWithin is how long the service may take to begin its answer; 0
	// means for ever.
	AnswerWithin time.Duration `yaml:"answerWithin"`
}

// Who says which callers a rule is for.
type Who struct {
	// Names are SPIFFE ids, such as spiffe://reeve/service/east/x-wiki/wiki.
	Names []string `yaml:"names"`
	// Holders are those whom credentials were made out to.
	Holders []string `yaml:"holders"`
	// IDs are certificate/SERIAL, in hexadecimal, and token/JTI.
	IDs []string `yaml:"ids"`
	// Anonymous is for callers without a credential, and no others; they reach
	// a service by its server name.
	Anonymous bool `yaml:"anonymous"`
}

// Impersonation is a user of a Kubernetes cluster.
type Impersonation struct {
	User   string   `yaml:"user"`
	Groups []string `yaml:"groups"`
}

// Anonymous is the name of callers without a credential.
const Anonymous = "anonymous"

// Rules are who may call what. nil holds no rule.
type Rules struct{ rules []rule }

type rule struct {
	Rule
	number                       int
	names, holders, ids          patterns
	agents, types, services      patterns
	namespaces, resources, verbs patterns
	paths                        patterns
}

// patterns match a text if one of them does, or if there are none.
type patterns []*regexp.Regexp

func (ps patterns) match(texts ...string) bool {
	if len(ps) == 0 {
		return true
	}
	for _, p := range ps {
		if slices.ContainsFunc(texts, p.MatchString) {
			return true
		}
	}
	return false
}

// NewRules reads rules. The error names the rule and the key that is wrong.
func NewRules(list []Rule) (*Rules, error) {
	rs := &Rules{}
	for i, r := range list {
		c, err := compile(r)
		if err != nil {
			return nil, fmt.Errorf("rules[%d]%w", i, err)
		}
		c.number = i
		rs.rules = append(rs.rules, c)
	}
	return rs, nil
}

func compile(r Rule) (rule, error) {
	c := rule{Rule: r}
	if r.Effect != "allow" && r.Effect != "deny" {
		return c, fmt.Errorf(".effect %q: it must be allow or deny", r.Effect)
	}
	if r.Effect == "deny" && (r.MayImpersonate || r.Record || r.AnswerWithin != 0 || r.Impersonate.User != "" || len(r.Impersonate.Groups) > 0) {
		return c, errors.New(": impersonate, mayImpersonate, record and answerWithin are for the effect allow")
	}
	if r.Impersonate.User == "" && len(r.Impersonate.Groups) > 0 {
		return c, errors.New(".impersonate.user: missing; groups alone can't be impersonated")
	}
	if r.Impersonate.User != "" && r.MayImpersonate {
		return c, errors.New(".mayImpersonate: impersonate says already as whom")
	}
	if r.AnswerWithin < 0 {
		return c, fmt.Errorf(".answerWithin %v: it must not be negative", r.AnswerWithin)
	}
	if r.Who.Anonymous && len(r.Who.Names)+len(r.Who.Holders)+len(r.Who.IDs) > 0 {
		return c, errors.New(".who.anonymous: who has no credential has no name, holder or id either")
	}
	for _, l := range []struct {
		key  string
		from []string
		to   *patterns
	}{
		{"who.names", r.Who.Names, &c.names},
		{"who.holders", r.Who.Holders, &c.holders},
		{"who.ids", r.Who.IDs, &c.ids},
		{"agents", r.Agents, &c.agents},
		{"types", r.Types, &c.types},
		{"services", r.Services, &c.services},
		{"namespaces", r.Namespaces, &c.namespaces},
		{"resources", r.Resources, &c.resources},
		{"verbs", r.Verbs, &c.verbs},
	} {
		for i, text := range l.from {
			if text == "" {
				return c, fmt.Errorf(".%s[%d]: it is empty; write * for any", l.key, i)
			}
			*l.to = append(*l.to, glob(text))
		}
	}
	for i, text := range r.Paths {
		if !strings.HasPrefix(text, "/") {
			return c, fmt.Errorf(".paths[%d] %q: it must begin with /", i, text)
		}
		c.paths = append(c.paths, pathGlob(text, r.Effect == "deny"))
	}
	return c, nil
}

// glob is a pattern in which * stands for any text.
func glob(text string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)^` + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, `.*`) + `$`)
}

// pathGlob is a pattern in which ** stands for any text and * for one without
// a slash; /** at the end stands for nothing, too. anyCase has capitals be the
// same as small letters, as they are to some servers.
func pathGlob(text string, anyCase bool) *regexp.Regexp {
	text, below := strings.CutSuffix(text, "/**")
	expr := strings.ReplaceAll(regexp.QuoteMeta(text), `\*\*`, `.*`)
	expr = strings.ReplaceAll(expr, `\*`, `[^/]*`)
	if below {
		expr += `(/.*)?`
	}
	flags := `(?s)`
	if anyCase {
		flags = `(?si)`
	}
	return regexp.MustCompile(flags + `^` + expr + `$`)
}

// question is a request, as rules see it.
type question struct {
	caller Caller
	verb   string
	kube   *kubeRequest // nil for other types
	// paths are the request's path and what else servers make of it, others
	// are what else they make of the method. In doubt, what allows must be for
	// all of them, and what denies is for any.
	paths, others []string
}

func ask(c Caller, r *http.Request) question {
	q := question{caller: c, verb: strings.ToLower(r.Method), paths: readings(r.URL)}
	if c.Type == fleet.Kubernetes {
		k := kubeOf(r)
		q.verb, q.kube = k.verb, &k
		return q
	}
	for name, values := range r.Header {
		if overrides(name) {
			q.other(values...)
		}
	}
	// Some servers part a query at its semicolons, too.
	for part := range strings.FieldsFuncSeq(r.URL.RawQuery, func(c rune) bool { return c == '&' || c == ';' }) {
		name, v, _ := strings.Cut(part, "=")
		name, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(v)
		// PHP takes a name without blanks before it, and up to a NUL.
		name, _, _ = strings.Cut(strings.TrimLeft(name, " "), "\x00")
		if err1 == nil && err2 == nil && overrides(name) {
			q.other(v)
		}
	}
	return q
}

// other adds methods that servers may take in the place of the request's.
func (q *question) other(methods ...string) {
	for _, m := range methods {
		q.others = append(q.others, strings.ToLower(strings.TrimSpace(m)))
	}
}

// overrides reports whether it is by a header, or a parameter, of that name
// that frameworks let a client name another method. PHP has _ in a parameter's
// name for signs that it doesn't take.
func overrides(name string) bool {
	for _, known := range []string{"x-http-method-override", "x-http-method", "x-method-override", "-method"} {
		if len(name) == len(known) && begins(name, known) {
			return true
		}
	}
	return false
}

// readings are the paths that servers may make of a request's: as it is,
// cleaned, with escapes that are escaped once more, and with escaped slashes
// as a part of their step.
func readings(u *url.URL) []string {
	list := []string{u.Path}
	add := func(p string) {
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	add(cleaned(u.Path))
	if again, err := url.PathUnescape(u.Path); err == nil && again != u.Path {
		add(cleaned(again))
	}
	if u.RawPath != "" {
		steps := strings.Split(u.EscapedPath(), "/")
		for i, s := range steps {
			if plain, err := url.PathUnescape(s); err == nil {
				steps[i] = strings.ReplaceAll(plain, "/", "%2F")
			}
		}
		add(strings.Join(steps, "/"))
	}
	return list
}

// cleaned is a path without empty steps, steps in place and parameters
// (RFC 3986, 3.3), and with slashes for backslashes.
func cleaned(path string) string {
	var b strings.Builder
	for step := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if step, _, _ = strings.Cut(step, ";"); step != "" && step != "." {
			b.WriteString("/" + step)
		}
	}
	if b.Len() == 0 || strings.HasSuffix(path, "/") {
		b.WriteString("/")
	}
	return b.String()
}

// decision is what rules say of a request.
type decision struct {
	allowed bool
	rule    *rule // nil: none was for it
}

// decide answers the first rule that is for q, or byDefault.
func (rs *Rules) decide(q question, byDefault bool) decision {
	if rs != nil {
		for i := range rs.rules {
			if r := &rs.rules[i]; r.concerns(q.caller) && r.covers(q) {
				return decision{r.Effect == "allow", r}
			}
		}
	}
	return decision{allowed: byDefault}
}

// judge decides of a request; the error of what isn't allowed says where that
// was found.
func (rs *Rules) judge(c Caller, r *http.Request, byDefault bool, where string) (decision, error) {
	d := decision{allowed: byDefault}
	if byDefault && (rs == nil || len(rs.rules) == 0) {
		return d, nil
	}
	q := ask(c, r)
	if d = rs.decide(q, byDefault); !d.allowed {
		return d, d.refusal(where, q)
	}
	return d, nil
}

// reaches reports whether there is any request of the caller's to its service
// that would be allowed.
func (rs *Rules) reaches(c Caller, byDefault bool) bool {
	if rs != nil {
		for i := range rs.rules {
			r := &rs.rules[i]
			switch {
			case !r.concerns(c), c.Type != fleet.Kubernetes && len(r.namespaces)+len(r.resources) > 0:
			case r.Effect == "allow":
				return true
			case len(r.namespaces)+len(r.resources)+len(r.verbs)+len(r.paths) == 0:
				return false
			}
		}
	}
	return byDefault
}

// concerns reports whether r is for the caller and its service.
func (r *rule) concerns(c Caller) bool {
	return r.Who.Anonymous == (c.Name == Anonymous) &&
		r.names.match(c.Name) && r.holders.match(c.Holder) && r.ids.match(c.ID) &&
		r.agents.match(string(c.Agent)) && r.types.match(string(c.Type)) && r.services.match(string(c.Service))
}

// covers reports whether r is for what is asked of the service.
func (r *rule) covers(q question) bool {
	allow := r.Effect == "allow"
	if len(r.paths) > 0 {
		matches := func(p string) bool {
			return r.paths.match(p) || !allow && r.paths.match(strings.TrimRight(p, "/"))
		}
		if !inDoubt(allow, q.paths, matches) {
			return false
		}
	}
	k := q.kube
	switch {
	case k == nil:
		return len(r.namespaces)+len(r.resources) == 0 && inDoubt(allow, append(q.others, q.verb), func(v string) bool { return r.verbs.match(v) })
	case len(r.namespaces)+len(r.resources)+len(r.verbs) == 0:
		return true
	case k.odd:
		return !allow
	case k.discovery && allow:
		return true // without it kubectl can't find what it may do
	case k.resource == "":
		return len(r.namespaces)+len(r.resources) == 0 && r.verbs.match(k.verb)
	}
	namespace := r.namespaces.match(k.namespace) || !allow && k.everywhere()
	return namespace && r.verbs.match(k.verb) && r.resources.match(k.resources()...)
}

// inDoubt is whether a rule that allows is for all of the readings, and one
// that denies for any.
func inDoubt(allow bool, readings []string, is func(string) bool) bool {
	if !allow {
		return slices.ContainsFunc(readings, is)
	}
	return !slices.ContainsFunc(readings, func(s string) bool { return !is(s) })
}

// resources are the ways to write what k is for.
func (k *kubeRequest) resources() []string {
	sub := ""
	if k.subresource != "" {
		sub = "/" + k.subresource
	}
	names := []string{k.resource + sub}
	if k.group != "" {
		names = append(names, k.resource+"."+k.group+sub)
	}
	return names
}

func (r *rule) String() string {
	if r.Name != "" {
		return r.Name
	}
	return fmt.Sprintf("access.rules[%d]", r.number)
}

// ruleName is how d's rule is called in records; empty where there was none.
func (d decision) ruleName() string {
	if d.rule == nil {
		return ""
	}
	return d.rule.String()
}

// refusal says why q isn't allowed.
func (d decision) refusal(where string, q question) error {
	what := q.verb
	if k := q.kube; k != nil && k.resource != "" {
		what += " " + k.resources()[len(k.resources())-1]
		if k.namespace != "" {
			what += " in namespace " + k.namespace
		}
	} else {
		what += " " + q.paths[0]
	}
	by := "no rule of " + where + " allows it"
	if d.rule != nil {
		by = "rule " + d.rule.String() + " of " + where + " denies it"
	}
	on := "service " + target(q.caller.Type, q.caller.Service)
	if q.caller.Agent != "" { // an agent speaks of its own
		on = fmt.Sprintf("agent %q, %s", q.caller.Agent, on)
	}
	return fmt.Errorf("%w: %s: %s on %s: %s", ErrForbidden, q.caller.who(), what, on, by)
}

// impersonated is what a decision makes of a request's own wish to be taken
// for another user's, in a request to a Kubernetes API.
func (d decision) impersonated(h http.Header) error {
	if !impersonates(h) || d.rule != nil && d.rule.MayImpersonate {
		return nil
	}
	return fmt.Errorf("%w: to act as somebody else (--as, --as-group) needs a rule with mayImpersonate", ErrForbidden)
}

// How the hub tells an agent of the caller. Nothing signs these but the link.
const (
	callerHeader     = "Reeve-Caller"
	holderHeader     = "Reeve-Holder"
	credentialHeader = "Reeve-Credential"
	userHeader       = "Reeve-Impersonate-User"
	groupHeader      = "Reeve-Impersonate-Group"
)

// tell puts onto the request to the agent who calls, and as whom.
func tell(h http.Header, c Caller, d decision) {
	h.Set(callerHeader, c.Name)
	if c.Holder != "" {
		h.Set(holderHeader, c.Holder)
	}
	if c.ID != "" {
		h.Set(credentialHeader, c.ID)
	}
	if d.rule != nil && d.rule.Impersonate.User != "" {
		h.Set(userHeader, d.rule.Impersonate.User)
		h[groupHeader] = d.rule.Impersonate.Groups
	}
}

// CallerOf is who sends a request that came by the link, to which service of
// this agent; the hub says so. Agent is empty.
func CallerOf(r *http.Request) Caller {
	typ, name, _ := strings.Cut(r.Header.Get(ServiceHeader), "/")
	return Caller{
		Name: r.Header.Get(callerHeader), Holder: r.Header.Get(holderHeader), ID: r.Header.Get(credentialHeader),
		Type: fleet.ServiceType(typ), Service: fleet.ServiceName(name),
	}
}

// admit decides at the agent, by the rules of the cluster's owner, and puts
// onto the request to a Kubernetes API as whom it is made. What no rule is for
// the hub has decided.
func (rs *Rules) admit(r *http.Request) error {
	c := CallerOf(r)
	d, err := rs.judge(c, r, true, "the cluster's owner")
	if err != nil {
		return err
	}
	if c.Type != fleet.Kubernetes {
		return nil
	}
	if d.rule != nil {
		if err := d.impersonated(r.Header); err != nil {
			return err
		}
	}
	user, groups := r.Header.Get(userHeader), r.Header.Values(groupHeader)
	if d.rule != nil && d.rule.Impersonate.User != "" {
		user, groups = d.rule.Impersonate.User, d.rule.Impersonate.Groups
	}
	if user == "" {
		return nil
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			delete(r.Header, name)
		}
	}
	r.Header.Set("Impersonate-User", user)
	if len(groups) > 0 {
		r.Header["Impersonate-Group"] = slices.Clone(groups)
	}
	return nil
}
