package policy

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/fleet"
)

// Policy is one check, what it is made on, and where its outcomes go. Its zero
// members have defaults: all subjects, the action log, Every a day.
type Policy struct {
	// Name is what outcomes call it.
	Name string `yaml:"name"`
	// Description is for people; failing outcomes begin with it.
	Description string   `yaml:"description,omitempty"`
	Subjects    Selector `yaml:"subjects,omitempty"`
	Check       Check    `yaml:"check,omitempty"`
	Actions     []Action `yaml:"actions,omitempty"`
	// Schedule is when people aren't told.
	Schedule Schedule `yaml:"schedule,omitempty"`
	// Every is how often all subjects are checked, besides at each event.
	Every time.Duration `yaml:"every,omitempty"`
	// Overrides are the organisation's own, by place; a later one goes before.
	Overrides []Override `yaml:"overrides,omitempty"`
	// DisableOverride leaves out what namespaces say of themselves.
	DisableOverride bool `yaml:"disableOverride,omitempty"`
}

// Selector chooses subjects: those that each member chooses. Names may have *
// for any text.
type Selector struct {
	fleet.Scope `yaml:",inline"`
	// Environments are PROJECT/NAME, as Lagoon has them.
	Environments []string `yaml:"environments,omitempty"`
	// Images are names of images, as workloads have them.
	Images []string `yaml:"images,omitempty"`
	// Labels are those of pods.
	Labels map[string]string `yaml:"labels,omitempty"`
}

// Check has one member: what is checked.
type Check struct {
	Scan    *ScanCheck    `yaml:"scan,omitempty"`
	Control *ControlCheck `yaml:"control,omitempty"`
	Problem *ProblemCheck `yaml:"problem,omitempty"`
	Fact    *FactCheck    `yaml:"fact,omitempty"`
	SBOM    *SBOMCheck    `yaml:"sbom,omitempty"`
	Image   *ImageCheck   `yaml:"image,omitempty"`
}

// ScanCheck passes when a scan by the profile does.
type ScanCheck struct {
	// Profile is the name of one, without a version.
	Profile string `yaml:"profile,omitempty"`
	// Threshold judges the scan; empty is what it was asked for with. A scan that
	// isn't a schedule's or a route's counts then only if that is none.
	Threshold string `yaml:"threshold,omitempty"`
}

// ControlCheck passes when controls of a scan by the profile do, whatever
// becomes of the others.
type ControlCheck struct {
	// Profile is the name of one, without a version; empty is any.
	Profile string `yaml:"profile,omitempty"`
	// ID is a control's, or /REGEXP/ for several.
	ID string `yaml:"id,omitempty"`
}

// ProblemCheck passes when there is no problem that each member is about.
type ProblemCheck struct {
	// Severity is the least: low, medium, high or critical; empty is any.
	Severity string `yaml:"severity,omitempty"`
	// OlderThan is for how long it has been known here.
	OlderThan time.Duration `yaml:"olderThan,omitempty"`
	// Identifiers are those of vulnerabilities; * stands for any text.
	Identifiers []string `yaml:"identifiers,omitempty"`
	// Sources are who told of it: osv is the hub itself.
	Sources []string `yaml:"sources,omitempty"`
	// Fixable leaves out what no version of the package mends.
	Fixable bool `yaml:"fixable,omitempty"`
	// Cleared counts also what a statement (VEX) says is no problem.
	Cleared bool `yaml:"cleared,omitempty"`
	// Unrated says what a problem is whose severity nobody tells: unratedCounts, as
	// if it were the gravest, or unratedIgnored. Empty is unratedCounts.
	Unrated string `yaml:"unrated,omitempty"`
}

// The values of ProblemCheck.Unrated.
const (
	unratedCounts  = "count"
	unratedIgnored = "ignore"
)

// FactCheck passes when a fact has a value.
type FactCheck struct {
	Name string `yaml:"name"`
	// Source is who told of it; empty is whoever.
	Source string `yaml:"source,omitempty"`
	// Value is the value itself, or /REGEXP/; empty is any.
	Value string `yaml:"value,omitempty"`
	// Version is what the value must be as a version, such as ">=8.1, <9".
	Version string `yaml:"version,omitempty"`
	// Optional leaves out subjects that don't have the fact; else those fail.
	Optional bool `yaml:"optional,omitempty"`
}

// SBOMCheck passes when there is an SBOM of each image.
type SBOMCheck struct {
	// MaxAge is how old it may be; 0: any age.
	MaxAge time.Duration `yaml:"maxAge,omitempty"`
}

// ImageCheck passes when each image does.
type ImageCheck struct {
	// MaxAge is since the image was made or, where no image inspect tells that,
	// since it first ran.
	MaxAge time.Duration `yaml:"maxAge,omitempty"`
	// From are the names that it may have; * stands for any text.
	From []string `yaml:"from,omitempty"`
}

// Override is what is otherwise somewhere. Members that aren't there are as the
// policy has them.
type Override struct {
	fleet.Scope `yaml:",inline"`
	Change      `yaml:",inline"`
}

// Change is what an override changes.
type Change struct {
	// OptOut has the policy not checked there.
	OptOut bool `yaml:"optOut,omitempty"`
	// Check has members of the policy's own kind of check.
	Check    Check     `yaml:"check,omitempty"`
	Actions  []Action  `yaml:"actions,omitempty"`
	Schedule *Schedule `yaml:"schedule,omitempty"`
}

const (
	defaultEvery = 24 * time.Hour
	minEvery     = time.Minute
	maxEvery     = 7 * 24 * time.Hour
	maxPolicies  = 200
	maxPatterns  = 100
)

var (
	policyName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	severities = []string{"", "low", "medium", "high", "critical"}
)

// Validate reports everything that is wrong with policies, and with actions
// that name no sink; each error begins with its place, such as
// policies[2].check.fact.version.
func Validate(policies []Policy, sinks Sinks) error {
	var errs []error
	if len(policies) > maxPolicies {
		errs = append(errs, fmt.Errorf("policies: %d are more than the %d allowed", len(policies), maxPolicies))
	}
	seen := map[string]bool{}
	for i, p := range policies {
		at := fmt.Sprintf("policies[%d]", i)
		if seen[p.Name] {
			errs = append(errs, fmt.Errorf("%s.name: %q is there twice", at, p.Name))
		}
		seen[p.Name] = true
		for _, err := range p.validate(sinks) {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
	}
	return errors.Join(errs...)
}

func (p Policy) validate(sinks Sinks) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !policyName.MatchString(p.Name) {
		bad("name %q: it must be 1 to 63 lower-case letters, digits or '-', and begin and end with a letter or digit", p.Name)
	}
	if err := p.Subjects.validate(); err != nil {
		bad("subjects.%w", err)
	}
	if err := p.Check.validate(); err != nil {
		bad("%w", err)
	}
	errs = append(errs, validActions(p.Actions, sinks)...)
	if err := p.Schedule.Validate(); err != nil {
		bad("schedule.%w", err)
	}
	if p.Every != 0 && (p.Every < minEvery || p.Every > maxEvery) {
		bad("every %v: it must be between %v and %v", p.Every, minEvery, maxEvery)
	}
	if s := p.Subjects; p.Check.ofScans() && len(s.Environments)+len(s.Images)+len(s.Labels) > 0 {
		bad("subjects: a check of scans chooses by agents and namespaces alone; take environments, images and labels out")
	}
	for i, o := range p.Overrides {
		if err := o.Scope.Validate(); err != nil {
			bad("overrides[%d].%w", i, err)
		}
		if _, err := p.with(o.Change, sinks); err != nil {
			bad("overrides[%d].%w", i, err)
		}
	}
	return errs
}

func validActions(actions []Action, sinks Sinks) (errs []error) {
	for i, a := range actions {
		if _, err := sinks.Resolve(a); err != nil {
			errs = append(errs, fmt.Errorf("actions[%d]: %w", i, err))
		}
	}
	return errs
}

func (s Selector) validate() error {
	if err := s.Scope.Validate(); err != nil {
		return err
	}
	for _, l := range []struct {
		key  string
		list []string
	}{{"environments", s.Environments}, {"images", s.Images}} {
		if err := validPatterns(l.key, l.list); err != nil {
			return err
		}
	}
	for i, e := range s.Environments {
		if strings.Count(e, "/") != 1 && e != "*" {
			return fmt.Errorf("environments[%d] %q: it must be PROJECT/NAME, in which * may stand for any text", i, e)
		}
	}
	return nil
}

func validPatterns(key string, list []string) error {
	if len(list) > maxPatterns {
		return fmt.Errorf("%s: %d are more than the %d allowed", key, len(list), maxPatterns)
	}
	for i, p := range list {
		if p == "" || len(p) > 512 {
			return fmt.Errorf("%s[%d]: it must have 1 to 512 bytes", key, i)
		}
	}
	return nil
}

// ofScans reports whether scans are checked, and not what is known of workloads.
func (c Check) ofScans() bool { return c.Scan != nil || c.Control != nil }

// Kind is the key of the member that c has.
func (c Check) Kind() string {
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			return checkKinds()[i]
		}
	}
	return ""
}

// checkKinds are the keys of a Check.
func checkKinds() (out []string) {
	t := reflect.TypeFor[Check]()
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		out = append(out, key)
	}
	return out
}

func (c Check) validate() error {
	n := 0
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("check: it has %d members; give one of %s", n, strings.Join(checkKinds(), ", "))
	}
	var err error
	switch {
	case c.Scan != nil:
		err = c.Scan.validate()
	case c.Control != nil:
		err = c.Control.validate()
	case c.Problem != nil:
		err = c.Problem.validate()
	case c.Fact != nil:
		err = c.Fact.validate()
	case c.SBOM != nil:
		err = validAge("maxAge", c.SBOM.MaxAge)
	case c.Image != nil:
		err = c.Image.validate()
	}
	if err != nil {
		return fmt.Errorf("check.%s.%w", c.Kind(), err)
	}
	return nil
}

func (c ScanCheck) validate() error {
	if c.Profile == "" || strings.Contains(c.Profile, "@") {
		return fmt.Errorf("profile %q: it must be the name of a profile, without a version", c.Profile)
	}
	return nil
}

func (c ControlCheck) validate() error {
	if strings.Contains(c.Profile, "@") {
		return fmt.Errorf("profile %q: it must be the name of a profile, without a version", c.Profile)
	}
	if c.ID == "" {
		return errors.New("id: it is missing; name a control, or several by /REGEXP/")
	}
	_, err := textOf("id", c.ID)
	return err
}

func (c ProblemCheck) validate() error {
	if !slices.Contains(severities, strings.ToLower(c.Severity)) {
		return fmt.Errorf("severity %q: it must be low, medium, high or critical", c.Severity)
	}
	if c.Unrated != "" && c.Unrated != unratedCounts && c.Unrated != unratedIgnored {
		return fmt.Errorf("unrated %q: it must be %s or %s", c.Unrated, unratedCounts, unratedIgnored)
	}
	if err := validAge("olderThan", c.OlderThan); err != nil {
		return err
	}
	if err := validPatterns("identifiers", c.Identifiers); err != nil {
		return err
	}
	return validPatterns("sources", c.Sources)
}

func (c FactCheck) validate() error {
	if c.Name == "" {
		return errors.New("name: it is missing; name the fact")
	}
	if c.Value != "" && c.Version != "" {
		return errors.New("version: there is a value, too; keep one of them")
	}
	if _, err := textOf("value", c.Value); err != nil {
		return err
	}
	if c.Version != "" {
		if _, err := semver.NewConstraint(c.Version); err != nil {
			return fmt.Errorf(`version %q: it must be a range of versions, such as ">=8.1, <9"`, c.Version)
		}
	}
	return nil
}

func (c ImageCheck) validate() error {
	if c.MaxAge == 0 && len(c.From) == 0 {
		return errors.New("maxAge: it is missing; give that, or from")
	}
	if err := validAge("maxAge", c.MaxAge); err != nil {
		return err
	}
	return validPatterns("from", c.From)
}

func validAge(key string, age time.Duration) error {
	if age < 0 {
		return fmt.Errorf("%s %v: it must not be negative", key, age)
	}
	return nil
}

// textOf is what a text must be: itself or, between slashes, a regular
// expression.
func textOf(key, pattern string) (func(string) bool, error) {
	if len(pattern) < 2 || pattern[0] != '/' || pattern[len(pattern)-1] != '/' {
		return func(s string) bool { return s == pattern }, nil
	}
	re, err := regexp.Compile(pattern[1 : len(pattern)-1])
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", key, pattern, err)
	}
	return re.MatchString, nil
}

// with is p as c changes it, with c's own errors: those of p's other members
// aren't looked at.
func (p Policy) with(c Change, sinks Sinks) (Policy, error) {
	if c.Check != (Check{}) {
		kind := p.Check.Kind()
		for _, k := range checkKinds() {
			if k != kind && !reflect.ValueOf(c.Check).FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, k) }).IsNil() {
				return p, fmt.Errorf("check.%s: the policy's check is %s; an override changes only that one's members", k, kind)
			}
		}
		p.Check = merged(p.Check, c.Check)
		if err := p.Check.validate(); err != nil {
			return p, err
		}
	}
	if c.Actions != nil {
		if err := errors.Join(validActions(c.Actions, sinks)...); err != nil {
			return p, err
		}
		p.Actions = c.Actions
	}
	if c.Schedule != nil {
		if err := c.Schedule.Validate(); err != nil {
			return p, fmt.Errorf("schedule.%w", err)
		}
		p.Schedule = *c.Schedule
	}
	return p, nil
}

// merged is a check with the members that a change of the same kind has.
func merged(c, change Check) Check {
	out := reflect.ValueOf(&c).Elem()
	from := reflect.ValueOf(change)
	for i := range out.NumField() {
		if from.Field(i).IsNil() {
			continue
		}
		member := reflect.New(out.Field(i).Type().Elem())
		member.Elem().Set(out.Field(i).Elem())
		for j := range member.Elem().NumField() {
			if v := from.Field(i).Elem().Field(j); !v.IsZero() {
				member.Elem().Field(j).Set(v)
			}
		}
		out.Field(i).Set(member)
	}
	return c
}

// defaults fills what p leaves out.
func (p Policy) defaults() Policy {
	if p.Every == 0 {
		p.Every = defaultEvery
	}
	if len(p.Actions) == 0 {
		p.Actions = []Action{{Kind: KindLog}}
	}
	return p
}

// Within is p with no more of its subjects and overrides than callers may see who
// know of scopes alone, and whether anything was left out; false if p is about
// nothing there. Patterns of environments and images say nothing of a place, so they
// are left out.
func (p Policy) Within(scopes []fleet.Scope) (_ Policy, less, any bool) {
	whole := p.Definition()
	if p.Subjects.Scope, any = p.Subjects.Scope.Within(scopes); !any {
		return Policy{}, true, false
	}
	p.Subjects.Environments, p.Subjects.Images = nil, nil
	var overrides []Override
	for _, o := range p.Overrides {
		var is bool
		if o.Scope, is = o.Scope.Within(scopes); is {
			overrides = append(overrides, o)
		}
	}
	p.Overrides = overrides
	return p, p.Definition() != whole, true
}

// Definition is p as a configuration file has it, in YAML.
func (p Policy) Definition() string {
	text, err := yaml.Marshal(p)
	if err != nil {
		panic(err) // it was read from YAML
	}
	return string(text)
}
