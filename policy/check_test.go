package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
)

// checked is what a policy comes to on a subject, in short.
func checked(p Policy, s *Subject, now time.Time) string {
	r, is := p.result(s, nil, now)
	switch {
	case !is:
		return "-"
	case r.Unknown != "":
		return "unknown: " + strings.TrimPrefix(r.Unknown, "p could not be judged on edge/shop Deployment/web/c: ")
	case r.Outcome.Pass:
		return "passed: " + strings.TrimPrefix(strings.TrimSpace(r.Outcome.Details), "p passed on edge/shop Deployment/web/c: ")
	}
	_, wrong, _ := strings.Cut(strings.TrimSpace(r.Outcome.Details), "What is wrong:\n")
	return "failed: " + wrong
}

func TestCheck(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	const day = 24 * time.Hour
	sbom := func(problems ...Problem) *SBOM { return &SBOM{Received: ago(3), Matched: true, Problems: problems} }
	web := func(sbom *SBOM, told ...Problem) *Subject {
		return &Subject{
			Agent: "edge", Namespace: "shop", Environment: "acme/main", Kind: "Deployment", Name: "web", Container: "c",
			Labels: map[string]string{"app": "web"}, Images: []Image{{Name: "reg/web:1", Digest: "sha256:1", FirstSeen: ago(9), SBOM: sbom}}, Told: told,
			Facts: []Fact{{Name: "php", Value: "8.1.27", Source: "scanner"}, {Name: "php", Value: "8.1.27", Source: "sbom"}, {Name: "team", Value: "a", Source: "scanner"}, {Name: "ssl", Value: "1.1.1w", Source: "scanner"}},
		}
	}
	openssl := Problem{Identifier: "CVE-1", Source: "osv", Package: "openssl", Version: "3.0.1", Fixed: "3.0.2", Severity: "critical", Since: ago(40)}
	zlib := Problem{Identifier: "CVE-2", Source: "osv", Package: "zlib", Version: "1.2", Severity: "medium", Since: ago(2)}
	cleared, odd := openssl, Problem{Identifier: "X-1", Source: "trivy", Since: ago(1)}
	cleared.Cleared = true
	unheard := odd
	unheard.Severity = "dire"
	partly, worse, foreign := sbom(), sbom(zlib), sbom()
	partly.Unjudged = map[string]int{"PyPI": 2, "Debian:12": 90}
	worse.Unjudged, foreign.Foreign = partly.Unjudged, 3
	const lineOdd = "- X-1 (of unknown severity), known since 2026-11-21"
	const lineOpenSSL, lineZlib = "- CVE-1 (critical) in openssl 3.0.1, fixed in 3.0.2, known since 2026-10-13", "- CVE-2 (medium) in zlib 1.2, known since 2026-11-20"

	problem := func(c ProblemCheck) Check { return Check{Problem: &c} }
	fact := func(c FactCheck) Check { return Check{Fact: &c} }
	two := web(sbom(openssl))
	two.Images = append(two.Images, Image{Name: "reg/web:2", Digest: "sha256:2", FirstSeen: ago(1), Made: ago(2)})
	for _, tc := range []struct {
		name    string
		check   Check
		subject *Subject
		want    string
	}{
		{"any problem", problem(ProblemCheck{}), web(sbom(openssl, zlib)), "failed: " + lineOpenSSL + "\n" + lineZlib},
		{"grave ones", problem(ProblemCheck{Severity: "HIGH"}), web(sbom(openssl, zlib)), "failed: " + lineOpenSSL},
		{"none so grave", problem(ProblemCheck{Severity: "high"}), web(sbom(zlib)), "passed: no such problem is known."},
		{"old ones", problem(ProblemCheck{OlderThan: 30 * day}), web(sbom(openssl, zlib)), "failed: " + lineOpenSSL},
		{"none so old", problem(ProblemCheck{OlderThan: 41 * day}), web(sbom(openssl, zlib)), "passed: no such problem is known."},
		{"what can be mended", problem(ProblemCheck{Fixable: true}), web(sbom(openssl, zlib)), "failed: " + lineOpenSSL},
		{"by its name", problem(ProblemCheck{Identifiers: []string{"CVE-2*"}}), web(sbom(openssl, zlib)), "failed: " + lineZlib},
		{"by who told it", problem(ProblemCheck{Sources: []string{"trivy"}}), web(sbom(openssl), odd), "failed: " + lineOdd},
		{"what is said to be none", problem(ProblemCheck{}), web(sbom(cleared)), "passed: no such problem is known."},
		{"also what is said to be none", problem(ProblemCheck{Cleared: true}), web(sbom(cleared)), "failed: " + lineOpenSSL},
		{"without a severity", problem(ProblemCheck{Severity: "critical"}), web(sbom(), odd), "failed: " + lineOdd},
		{"of a severity that isn't one", problem(ProblemCheck{Severity: "critical", Unrated: "count"}), web(sbom(), unheard), "failed: - X-1 (dire), known since 2026-11-21"},
		{"without a severity, which is ignored", problem(ProblemCheck{Severity: "low", Unrated: "ignore"}), web(sbom(), odd), "passed: no such problem is known; 1 that are have no severity."},
		{"any, without a severity, which is ignored", problem(ProblemCheck{Unrated: "ignore"}), web(sbom(), odd), "failed: " + lineOdd},
		{"of what there is no database", problem(ProblemCheck{}), web(partly), "unknown: no vulnerabilities of Debian:12 were imported (reeve osv import), of which 90 components of image reg/web:1 are; no vulnerabilities of PyPI were imported (reeve osv import), of which 2 components of image reg/web:1 are."},
		{"in what there is a database of", problem(ProblemCheck{}), web(worse), "failed: " + lineZlib},
		{"of what there can't be one", problem(ProblemCheck{}), web(foreign), "passed: no such problem is known; 3 components are of no ecosystem that vulnerabilities are told of, or without a version."},
		{"nobody has looked", problem(ProblemCheck{}), web(nil), "unknown: there is no SBOM of image reg/web:1."},
		{"who isn't meant has looked", problem(ProblemCheck{Sources: []string{"osv"}}), web(nil, odd), "unknown: there is no SBOM of image reg/web:1."},
		{"nothing to look at", problem(ProblemCheck{}), web(&SBOM{Matched: true, Empty: true}), "unknown: the SBOM of image reg/web:1 names nothing that it has."},
		{"nobody knows what to look for", problem(ProblemCheck{}), web(&SBOM{}), "unknown: no database of vulnerabilities was imported (reeve osv import), so the SBOM of image reg/web:1 says nothing."},
		{"what was told without an SBOM", problem(ProblemCheck{}), web(nil, zlib), "failed: " + lineZlib},
		{"told, but not so grave", problem(ProblemCheck{Severity: "high"}), web(nil, zlib), "passed: no such problem is known."},
		{"in one of two images", problem(ProblemCheck{}), two, "failed: " + lineOpenSSL},
		{"one of two images isn't known", problem(ProblemCheck{Severity: "critical", OlderThan: 50 * day}), two, "unknown: there is no SBOM of image reg/web:2."},

		{"a fact's value", fact(FactCheck{Name: "team", Value: "a"}), web(nil), "passed: team is a."},
		{"another value", fact(FactCheck{Name: "team", Value: "b"}), web(nil), `failed: - team is "a", by scanner; it must be b`},
		{"a value by expression", fact(FactCheck{Name: "php", Value: "/^8\\./"}), web(nil), "passed: php is 8.1.27."},
		{"another by expression", fact(FactCheck{Name: "php", Value: "/^9/", Source: "sbom"}), web(nil), `failed: - php is "8.1.27", by sbom; it must be /^9/`},
		{"that it is there", fact(FactCheck{Name: "team"}), web(nil), "passed: team is a."},
		{"that isn't there", fact(FactCheck{Name: "owner"}), web(nil), "failed: - nobody told the fact owner"},
		{"that needn't be there", fact(FactCheck{Name: "owner", Optional: true}), web(nil), "-"},
		{"by another source", fact(FactCheck{Name: "team", Source: "sbom"}), web(nil), "failed: - nobody told the fact team"},
		{"a version", fact(FactCheck{Name: "php", Version: ">=8.1, <9"}), web(nil), "passed: php is 8.1.27."},
		{"too old a version", fact(FactCheck{Name: "php", Version: ">=8.2", Source: "scanner"}), web(nil), "failed: - php is 8.1.27, by scanner; it must be >=8.2"},
		{"what is no version", fact(FactCheck{Name: "ssl", Version: ">=3"}), web(nil), `unknown: ssl is "1.1.1w", by scanner, which is no version.`},

		{"an SBOM", Check{SBOM: &SBOMCheck{MaxAge: 3 * day}}, web(sbom()), "passed: each image has an SBOM."},
		{"an old SBOM", Check{SBOM: &SBOMCheck{MaxAge: 2 * day}}, web(sbom()), "failed: - the SBOM of image reg/web:1 came last on 2026-11-19; it may be 2 days old"},
		{"no SBOM", Check{SBOM: &SBOMCheck{}}, two, "failed: - there is no SBOM of image reg/web:2"},

		{"an old image", Check{Image: &ImageCheck{MaxAge: 5 * day}}, two, "failed: - image reg/web:1 was first seen on 2026-11-13; it may be 5 days old"},
		{"an image that was made long ago", Check{Image: &ImageCheck{MaxAge: 36 * time.Hour, From: []string{"reg/*"}}}, two, "failed: - image reg/web:1 was first seen on 2026-11-13; it may be 36h0m0s old\n- image reg/web:2 was made on 2026-11-20; it may be 36h0m0s old"},
		{"young images", Check{Image: &ImageCheck{MaxAge: 10 * day}}, two, "passed: each image is as it must be."},
		{"images from elsewhere", Check{Image: &ImageCheck{From: []string{"own/*", "reg/web:1"}}}, two, "failed: - image reg/web:2 isn't from own/* or reg/web:1"},
	} {
		p := Policy{Name: "p", Check: tc.check}
		if errs := p.validate(nil); len(errs) > 0 {
			t.Errorf("%s: %v", tc.name, errs)
		}
		if d := cmp.Diff(tc.want, checked(p, tc.subject, now)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}

	service := &Subject{Agent: "edge", Namespace: "shop", Name: "cli", Images: []Image{{}}}
	for name, tc := range map[string]struct {
		check Check
		want  string
	}{
		"an SBOM of a service":   {Check{SBOM: &SBOMCheck{}}, "failed: - there is no SBOM of the service"},
		"an image of a service":  {Check{Image: &ImageCheck{MaxAge: day}}, "-"},
		"problems of a service":  {problem(ProblemCheck{}), "unknown: p could not be judged on edge/shop cli: there is no SBOM of the service."},
		"something of no member": {Check{}, "-"},
	} {
		if d := cmp.Diff(tc.want, checked(Policy{Name: "p", Check: tc.check}, service, now)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// TestScanCheck_unexplained: a scan that failed without a reason is no pass, and
// what can't be judged isn't told as one.
func TestScanCheck_unexplained(t *testing.T) {
	p := Policy{Name: "p", Check: Check{Scan: &ScanCheck{Profile: "linux"}}}
	j := p.Check.judgeScan(EndedScan{Scan: Scan{ID: "s1"}, Profile: "linux"})
	if r := p.outcome(fleet.Subject{}, "", "", j, nil, time.Time{}); r.Outcome.Pass || !strings.Contains(r.Outcome.Details, "scan s1 by linux failed") {
		t.Errorf("it comes to %+v", r)
	}
	j = p.Check.judgeScan(EndedScan{Profile: "linux", Failure: "no shell"})
	if r := p.outcome(fleet.Subject{}, "", "", j, nil, time.Time{}); r.Outcome.Pass || r.Unknown == "" {
		t.Errorf("a scan without a result comes to %+v", r)
	}
}

func TestSelector_chooses(t *testing.T) {
	s := &Subject{
		Agent: "edge", Namespace: "shop", Environment: "acme/main", Kind: "Deployment", Name: "web", Container: "c",
		Labels: map[string]string{"app": "web", "tier": "front"}, Images: []Image{{Name: "reg.example/team/web:1"}, {Name: "other/web:2"}},
	}
	for _, tc := range []struct {
		sel  Selector
		want bool
	}{
		{Selector{}, true},
		{Selector{Scope: fleet.Scope{Agents: []string{"e*"}, Namespaces: []string{"web", "sh*"}}}, true},
		{Selector{Scope: fleet.Scope{Namespaces: []string{"web"}}}, false},
		{Selector{Environments: []string{"acme/*"}}, true},
		{Selector{Environments: []string{"*/dev"}}, false},
		{Selector{Images: []string{"reg.example/*"}}, true},
		{Selector{Images: []string{"reg.example/web:1"}}, false},
		{Selector{Labels: map[string]string{"app": "web", "tier": "front"}}, true},
		{Selector{Labels: map[string]string{"app": "web", "tier": ""}}, false},
		{Selector{Labels: map[string]string{"none": ""}}, false},
		{Selector{Scope: fleet.Scope{Agents: []string{"edge"}}, Images: []string{"none"}}, false},
	} {
		if got := tc.sel.chooses(s); got != tc.want {
			t.Errorf("%+v chooses: %v", tc.sel, got)
		}
	}
}

func TestEngine_Hold(t *testing.T) {
	e := New(Config{Policies: []Policy{{
		Name: "p", Check: Check{SBOM: &SBOMCheck{}}, Schedule: Schedule{Days: []string{"sunday"}},
		Overrides: []Override{{Scope: fleet.Scope{Namespaces: []string{"prod"}}, Change: Change{Schedule: &Schedule{Hours: "22:00-06:00"}}}},
	}}})
	sunday := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		owner, policy string
		pass          bool
		want          time.Time
	}{
		{"edge/shop", "p", false, sunday.Add(15 * time.Hour)},
		{"edge/shop", "p", true, time.Time{}},
		{"edge/prod", "p", false, time.Time{}},
		{"edge/shop", "other", false, time.Time{}},
		{"acme", "p", false, time.Time{}},
	} {
		o := fleet.Outcome{Subject: fleet.Subject{Owner: tc.owner, Repo: "x"}, Policy: tc.policy, Pass: tc.pass}
		until, why := e.Hold(o, sunday)
		if !until.Equal(tc.want) || (why == "") != until.IsZero() {
			t.Errorf("%+v is held until %v (%s), want %v", tc, until, why, tc.want)
		}
	}
}

func FuzzLayer(f *testing.F) {
	for _, text := range []string{"p: {optOut: true}", "p: {check: {sbom: {maxAge: 1h}}, actions: [log]}", "p: &a {check: *a}", "- p", "p:\n  schedule: {days: [x]}", "\x00"} {
		f.Add(text)
	}
	policies := []Policy{{Name: "p", Check: Check{SBOM: &SBOMCheck{}}}}
	set := NewSet(policies, nil)
	f.Fuzz(func(t *testing.T, text string) {
		l := Layer{Place: Place{"edge", "shop"}, Text: text}
		changes, _ := l.changes()
		faults := set.Check(l)
		// Whatever it says: the policy stays, unless a part without a fault takes it off.
		if _, checked := set.at(set.all[0], l.Place, []map[string]Change{changes}); !checked && len(faults) > 0 {
			for _, fault := range faults {
				if fault.Policy == "p" || fault.Policy == "" {
					t.Errorf("a faulty layer turns the policy off: %+v", faults)
				}
			}
		}
		if len(fmt.Sprint(faults)) > 8*MaxLayer {
			t.Errorf("%d bytes of faults by %d bytes", len(fmt.Sprint(faults)), len(text))
		}
	})
}
