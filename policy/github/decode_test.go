package github

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	gh "github.com/google/go-github/v89/github"
)

// wrongs are values of another type than a key's, by the key's path, as YAML in
// one line.
func wrongs(t reflect.Type, layer Layer, wrap func(key, value string) string, path string) map[string]string {
	out := map[string]string{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for k, v := range wrongs(f.Type, layer, wrap, path) {
				out[k] = v
			}
			continue
		}
		key := f.Tag.Get("key")
		traits := f.Tag.Get("layer")
		if key == "" || strings.Contains(traits, "org") && !layer.ofOrg() || strings.Contains(traits, "repo") && layer.ofOrg() {
			continue
		}
		at := join(path, key)
		value := map[reflect.Kind]string{reflect.Bool: "maybe", reflect.String: "[text]", reflect.Int: "many", reflect.Int64: "many", reflect.Slice: "one", reflect.Map: "3", reflect.Struct: "3"}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		out[at] = wrap(key, value[ft.Kind()])
		switch {
		case ft.Kind() == reflect.Struct:
			for k, v := range wrongs(ft, layer, func(k, v string) string { return wrap(key, "{"+k+": "+v+"}") }, at) {
				out[k] = v
			}
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			for k, v := range wrongs(ft.Elem(), layer, func(k, v string) string { return wrap(key, "[{"+k+": "+v+"}]") }, at+"[0]") {
				out[k] = v
			}
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.String:
			out[at+"[0]"] = wrap(key, "[[x]]")
		case ft.Kind() == reflect.Map:
			out[at+".shop"] = wrap(key, "{shop: x}")
		}
	}
	return out
}

// TestApply_wrongKeys: each key of each file, in each layer where it may stand,
// when its value is of the wrong type, is named with the file, the layer and the
// line, and changes nothing.
func TestApply_wrongKeys(t *testing.T) {
	for _, file := range fileNames() {
		for _, layer := range []Layer{OrgLayer, OrgRepoLayer, RepoLayer} {
			plain := func(k, v string) string { return k + ": " + v }
			all := wrongs(reflect.TypeOf(defaultsOf(file)).Elem(), layer, plain, "")
			for k, v := range wrongs(reflect.TypeFor[optConfig](), layer, func(k, v string) string { return "optConfig: {" + k + ": " + v + "}" }, "optConfig") {
				all[k] = v
			}
			for key, text := range all {
				doc, err := parse(layer, "acme/x:"+file, "# comment\n"+text+"\n")
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				settings, opt := defaultsOf(file), optConfig{}
				r := doc.apply(&opt, settings, false)
				if len(r.problems) == 0 {
					t.Errorf("%s, %s: %q isn't reported", file, layer, text)
					continue
				}
				p := r.problems[0]
				if p.Key != key || p.Line != 2 || p.Layer != layer || p.File != "acme/x:"+file || !strings.Contains(p.Text, "it must be") {
					t.Errorf("%s, %s: %q leads to %q", file, layer, text, p)
				}
				if strings.HasPrefix(key, "optConfig") != r.brokenOpt {
					t.Errorf("%s, %s: %q: brokenOpt is %v", file, layer, text, r.brokenOpt)
				}
			}
		}
	}
}

func TestApply_problems(t *testing.T) {
	for _, c := range []struct {
		file, text string
		layer      Layer
		want       []string
	}{
		{"branch_protection.yaml", "aprovalCount: 2\n", OrgLayer, []string{"x:1 (organisation): aprovalCount: there is no such key"}},
		{"branch_protection.yaml", "approvalCount: 1\napprovalCount: 2\n", OrgLayer, []string{"x:2 (organisation): approvalCount: the key is there twice; the first one holds"}},
		{"branch_protection.yaml", "approvalCount: 9\n", OrgLayer, []string{"x:1 (organisation): approvalCount: 9: GitHub can require 0 to 6; 6 is taken"}},
		{"branch_protection.yaml", "action: shout it\n", RepoLayer, []string{`x:1 (repository): action: "shout it": it must be log, issue, fix, rpc, or a sink of the hub's, such as webhook/NAME; log is taken`}},
		{"security.yaml", "action: fix\n", OrgLayer, []string{"x:1 (organisation): action: fix: Reeve can't mend what this policy finds; log is taken"}},
		{"outside.yaml", "exemptions: []\n", RepoLayer, []string{"x:1 (repository): exemptions: it has no meaning here: it belongs into the organisation's own files"}},
		{"outside.yaml", "exemptions: [{user: a, repo: 'x['}]\n", OrgLayer, []string{`x:1 (organisation): exemptions[0].repo: "x[": a [ without its ]; it is for nothing`}},
		{"binary_artifacts.yaml", "ignorePaths: []\n", OrgLayer, []string{"x:1 (organisation): ignorePaths: it has no meaning here: it belongs into the files for one repository"}},
		{"allstar.yaml", "optConfig: {optIn: true, optOut: [}", RepoLayer, nil},
		{"allstar.yaml", "schedule: {timezone: Atlantis, days: [saturday, someday]}\n", OrgLayer, []string{
			`x:1 (organisation): schedule.timezone: "Atlantis" is no time zone, such as Europe/Berlin; UTC is taken`,
			`x:1 (organisation): schedule.days: "someday" is no day of the week, such as saturday; it is left out`,
		}},
		{"allstar.yaml", "schedule: {days: [monday, tuesday, friday, sunday]}\n", OrgLayer, []string{"x:1 (organisation): schedule.days: there may be 3 days; the first ones hold"}},
		{"allstar.yaml", "issueRepo: a/b\n", OrgLayer, []string{`x:1 (organisation): issueRepo: "a/b" is no name of a repository of the organisation; issues go to the repository that they are about`}},
		{"allstar.yaml", "baseConfig: a/b\n", RepoLayer, []string{"x:1 (repository): baseConfig: it is followed in the organisation's own files only"}},
		{"scorecard.yaml", "checks: [Pinned]\nthreshold: 11\n", OrgLayer, []string{
			"x:2 (organisation): threshold: 11: scores are 0 to 10; 10 is taken",
			`x:1 (organisation): checks[0]: "Pinned": scorecard has no such check that Reeve knows; it has ` + strings.Join(scoreChecks, ", "),
		}},
		{"actions.yaml", "groups: [{rules: [{method: forbid, priority: urgent}]}]\n", OrgLayer, []string{
			`x:1 (organisation): groups[0].rules[0].method: "forbid": it must be require, allow or deny; the rule isn't followed`,
			`x:1 (organisation): groups[0].rules[0].priority: "urgent": it must be critical, high, medium or low; medium is taken`,
		}},
		{"admin.yaml", "maxNumberUserAdmins: -1\n", RepoLayer, []string{"x:1 (repository): maxNumberUserAdmins: -1: it must be a number of administrators, or 0 for any"}},
		{"allstar.yaml", "OPTCONFIG: {OptOutStrategy: yes}\nissuelabel: mine\n", OrgLayer, nil},
		{"allstar.yaml", "", OrgLayer, nil},
	} {
		doc, err := parse(c.layer, "x", c.text)
		if strings.Contains(c.text, "[}") {
			if err == nil {
				t.Errorf("%q could be parsed", c.text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		var got []string
		for _, p := range doc.apply(new(optConfig), defaultsOf(c.file), false).problems {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s, %q (-want +got):\n%s", c.file, c.text, diff)
		}
	}
}

func TestOptions_enabled(t *testing.T) {
	repo := func(change func(*gh.Repository)) *gh.Repository {
		r := &gh.Repository{Name: new("shop"), Private: new(false), Archived: new(false), Fork: new(false)}
		change(r)
		return r
	}
	as := func(*gh.Repository) {}
	for _, c := range []struct {
		name   string
		o      options
		change func(*gh.Repository)
		want   bool
	}{
		{"nothing is said", options{}, as, false},
		{"opted in by name", options{org: optConfig{OptInRepos: []string{"sh?p"}}}, as, true},
		{"opts in itself", options{repo: optConfig{OptIn: true}}, as, true},
		{"opts in where that's disabled", options{org: optConfig{DisableRepoOverride: true}, repo: optConfig{OptIn: true}}, as, false},
		{"opted in by the organisation's folder", options{org: optConfig{DisableRepoOverride: true}, orgRepo: optConfig{OptIn: true}}, as, true},
		{"all but some", options{org: optConfig{OptOutStrategy: true}}, as, true},
		{"opted out by name", options{org: optConfig{OptOutStrategy: true, OptOutRepos: []string{"{shop,web}"}}}, as, false},
		{"a private one", options{org: optConfig{OptOutStrategy: true, OptOutPrivateRepos: true}}, func(r *gh.Repository) { r.Private = new(true) }, false},
		{"a public one", options{org: optConfig{OptOutStrategy: true, OptOutPublicRepos: true}}, as, false},
		{"an archived one", options{org: optConfig{OptOutStrategy: true, OptOutArchivedRepos: true}}, func(r *gh.Repository) { r.Archived = new(true) }, false},
		{"a fork", options{org: optConfig{OptOutStrategy: true, OptOutForkedRepos: true}}, func(r *gh.Repository) { r.Fork = new(true) }, false},
		{"opts out itself", options{org: optConfig{OptOutStrategy: true}, repo: optConfig{OptOut: true}}, as, false},
		{"opts out where that's disabled", options{org: optConfig{OptOutStrategy: true, DisableRepoOverride: true}, repo: optConfig{OptOut: true}}, as, true},
		{"opted out by the organisation's folder", options{org: optConfig{OptOutStrategy: true}, orgRepo: optConfig{OptOut: true}}, as, false},
		{"the organisation's file is broken", options{broken: map[Layer]bool{OrgLayer: true}, repo: optConfig{OptOut: true}}, as, true},
		{"its base is broken", options{broken: map[Layer]bool{BaseLayer: true}}, as, true},
		{"the repository's file is broken", options{broken: map[Layer]bool{RepoLayer: true}}, as, true},
		{"the repository's file is broken, and it may say nothing", options{org: optConfig{DisableRepoOverride: true}, broken: map[Layer]bool{RepoLayer: true}}, as, false},
	} {
		if got := c.o.enabled(repo(c.change)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true},
		{"a*c", "abbc", true},
		{"actions/*", "actions/cache/save", true},
		{"a?c", "ac", false},
		{"[a-c]x", "bx", true},
		{"[!a-c]x", "bx", false},
		{"{a,b*}c", "bxc", true},
		{`\*`, "x", false},
		{`\*`, "*", true},
		{"a.c", "abc", false},
		{"a,b", "a,b", true},
	} {
		re, err := glob(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if got := re.MatchString(c.text); got != c.want {
			t.Errorf("%q is for %q: %v, want %v", c.pattern, c.text, got, c.want)
		}
	}
}

func FuzzApply(f *testing.F) {
	for _, text := range []string{
		"optConfig: {optOutStrategy: true}\naction: issue\n", "groups: [{rules: [{method: deny, actions: [{name: a*}]}]}]\n", "a: &a [*a]\n", "a: &a {b: *a}\n<<: *a\n",
		"enforceBranches: {x: [y]}\nrequireStatusChecks: [{context: a, appID: 4}]\n", "exemptions: [{repo: '[', user: 3}]", "schedule: {timezone: x, days: [a, b]}\n", "? [a]\n: b\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, file := range fileNames() {
			for _, layer := range []Layer{OrgLayer, RepoLayer} {
				doc, err := parse(layer, "x", text)
				if err != nil {
					return
				}
				for _, p := range doc.apply(new(optConfig), defaultsOf(file), false).problems {
					if p.Text == "" || p.Layer != layer {
						t.Errorf("problem %+v", p)
					}
				}
			}
		}
	})
}

func FuzzParseWorkflow(f *testing.F) {
	f.Add("on: [push]\njobs:\n  a:\n    uses: x/y@v1\n    steps:\n    - uses: actions/checkout@v4\n      with: {ref: '${{ github.head_ref }}'}\n    - run: echo ${{ github.event.issue.title }}\n")
	f.Add("on: &a {push: *a}\njobs: {a: {steps: [{run: 1, with: {a: [b]}}, 3, [x]]}}\n")
	f.Add("jobs: 3\non:\n- a\n- [b]\n")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseWorkflow("x.yml", text)
		if err == nil {
			dangers(w)
		}
	})
}

func FuzzBinaries(f *testing.F) {
	f.Add([]byte("\x1f\x8b"), "a/b.so", []byte("\x7fELF"))
	f.Add([]byte(nil), "x.jar", []byte("PK\x03\x04"))
	f.Add([]byte(nil), "x.exe", []byte("MZ"+strings.Repeat("\xff", 70)))
	f.Fuzz(func(t *testing.T, archive []byte, name string, head []byte) {
		binaries(strings.NewReader(string(archive)), 1<<20, map[string]blob{"a": {"0123", 7}})
		isBinary(name, head)
	})
}

func FuzzUnpack(f *testing.F) {
	data, err := pack(savedMemory{memoryFormat, map[string]*answer{"a": {Status: 200, ETag: "x", Body: []byte("{}")}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := unpack(data); err == nil && m.Format == memoryFormat {
			again, err := pack(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unpack(again); err != nil {
				t.Errorf("what was packed can't be unpacked: %v", err)
			}
		}
	})
}

func TestBinaries_cut(t *testing.T) {
	if _, err := binaries(io.LimitReader(strings.NewReader("\x1f\x8b\x08\x00"), 4), maxArchive, nil); err == nil {
		t.Error("a cut archive passed")
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range []struct{ name, text string }{{"x/README", strings.Repeat("a", 512)}, {"x/tool", "\x7fELF"}} {
		w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.text)), Typeflag: tar.TypeReg})
		io.WriteString(w, f.text)
	}
	w.Close()
	z.Close()
	if got, err := binaries(bytes.NewReader(b.Bytes()), maxArchive, nil); err != nil || !slices.Equal(got, []string{"tool"}) {
		t.Errorf("%v, %v", got, err)
	}
	// The limit is where the first file ends, which looks like the archive's end.
	if got, err := binaries(bytes.NewReader(b.Bytes()), 1024, nil); err == nil {
		t.Errorf("an archive that is too large passed with %v", got)
	}
}

// TestParseWorkflow_aliases: aliases that multiply are given up, not unfolded.
func TestParseWorkflow_aliases(t *testing.T) {
	var b strings.Builder
	b.WriteString("on: push\njobs:\n  a: &a\n    steps:\n")
	b.WriteString(strings.Repeat("    - run: x\n", 20_000))
	for i := range 40_000 {
		fmt.Fprintf(&b, "  b%d: *a\n", i)
	}
	if w, err := parseWorkflow("x.yml", b.String()); !errors.Is(err, errWork) {
		t.Errorf("%d steps, %v", len(w.steps), err)
	}
}

// TestCredential: the token goes to the API itself only.
func TestCredential(t *testing.T) {
	c := credential{
		next: transport(func(r *http.Request) (*http.Response, error) {
			return &http.Response{Header: r.Header, Body: http.NoBody}, nil
		}),
		origin: "https://api.test", token: func(context.Context, string) (string, error) { return "x", nil },
	}
	for url, want := range map[string]string{"https://api.test/a": "Bearer x", "http://api.test/a": "", "https://api.test.evil.test/a": "", "https://api.test:444/a": ""} {
		req, _ := http.NewRequest(http.MethodGet, url, nil)
		resp, err := c.RoundTrip(req)
		if err != nil || resp.Header.Get("Authorization") != want {
			t.Errorf("%s: %v %v", url, resp, err)
		}
	}
}

// TestInstallationToken: what isn't to be had isn't asked for again and again, and
// one that is still good is used meanwhile.
func TestInstallationToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		client, err := gh.NewClient(gh.WithTransport(transport(func(r *http.Request) (*http.Response, error) {
			asked++
			return &http.Response{StatusCode: http.StatusForbidden, Request: r, Header: http.Header{}, Body: http.NoBody}, nil
		})), gh.WithDisableRateLimitCheck())
		if err != nil {
			t.Fatal(err)
		}
		token := installationToken{conn: &connection{app: client}, id: 7, turn: newTurn(), token: "old", until: time.Now().Add(4 * time.Minute)}
		for range 10 {
			if got, err := token.get(t.Context(), ""); err != nil || got != "old" {
				t.Errorf("still good: %q, %v", got, err)
			}
		}
		if asked != 1 {
			t.Errorf("while it is good, it was asked %d times", asked)
		}
		time.Sleep(renewAtMost)
		for range 10 {
			_, _ = token.get(t.Context(), "old")
		}
		if asked != 2 {
			t.Errorf("once it was refused, it was asked %d times more", asked-1)
		}
		time.Sleep(5 * time.Minute)
		if got, err := token.get(t.Context(), ""); err == nil {
			t.Errorf("after its end: %q", got)
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestIsBinary(t *testing.T) {
	pe := make([]byte, 256)
	copy(pe, "MZ")
	pe[60] = 128
	copy(pe[128:], "PE\x00\x00")
	for _, c := range []struct {
		name, head string
		want       bool
	}{
		{"tool", "\x7fELF\x02", true},
		{"Tool", "\xcf\xfa\xed\xfe", true},
		{"a.exe", string(pe), true},
		{"setup", string(pe), true},
		{"MZ.txt", "MZ is a name" + strings.Repeat(" ", 60), false},
		{"a.class", "\xca\xfe\xba\xbe\x00", true},
		{"a.wasm", "\x00asm\x01", true},
		{"libx.so.1", "\x00\x01", true},
		{"a.whl", "PK\x03\x04\x00", true},
		{"a.zip", "PK\x03\x04\x00", false},
		{"a.pyc", "\x00\x00", true},
		{"a.o", "text\n", false},
		{"a.lib", strings.Repeat("ä", 512), false},
		{"a.pdf", "%PDF\x00", false},
	} {
		if got := isBinary(c.name, []byte(c.head)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func Example_problem() {
	doc, _ := parse(RepoLayer, "acme/shop:.allstar/branch_protection.yaml", "approvalCount: two\n")
	fmt.Println(doc.apply(new(optConfig), defaultsOf("branch_protection.yaml"), false).problems[0])
	// Output: acme/shop:.allstar/branch_protection.yaml:1 (repository): approvalCount: it must be a whole number
}

func TestTogether(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	standing := func(holder, org string, saved, completed time.Time, requests int64, limits ...Limit) Standing {
		return Standing{Holder: holder, Saved: saved, Status: Status{Connection: "main", Organisation: org, Completed: completed, LimitStatus: LimitStatus{Limits: limits, Requests: requests}}}
	}
	core := func(remaining int, reset time.Duration) Limit {
		return Limit{Resource: "core", Limit: 5000, Remaining: remaining, Reset: at(reset)}
	}
	search := Limit{Resource: "search", Limit: 30, Remaining: 30, Reset: at(time.Minute)}
	waiting := standing("c", "ACME", at(-time.Minute), time.Time{}, 1, search)
	waiting.Until, waiting.Why = at(time.Minute), "GitHub asked to wait"
	over := standing("c", "late", at(0), time.Time{}, 0)
	over.Until, over.Why = at(-time.Second), "GitHub asked to wait"
	got := together([]Standing{
		standing("a", "acme", at(0), at(-2*time.Hour), 10, core(4000, time.Hour)),
		standing("b", "acme", at(-time.Minute), at(-time.Hour), 5, core(3000, time.Hour+time.Second)),
		waiting, over,
		standing("gone", "acme", at(-time.Hour), at(-30*time.Minute), 100, core(1, time.Hour)), // when it ended it had checked last
		standing("gone", "left", at(-time.Hour), at(-time.Hour), 100),
		standing("a", "late", at(0), time.Time{}, 0, core(4999, 2*time.Hour)),
		standing("b", "late", at(0), time.Time{}, 0, core(5, time.Hour)),
	}, now)
	want := []Status{
		{Connection: "main", Organisation: "acme", Completed: at(-30 * time.Minute), LimitStatus: LimitStatus{
			Limits: []Limit{core(3000, time.Hour+time.Second), search}, Until: at(time.Minute), Why: "GitHub asked to wait", Requests: 16,
		}},
		{Connection: "main", Organisation: "late", LimitStatus: LimitStatus{Limits: []Limit{core(4999, 2*time.Hour)}}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRetryAfter(t *testing.T) {
	for v, want := range map[string]time.Duration{"30": 30 * time.Second, "9223372036854775807": 24 * time.Hour, "-1": 0, "soon": 0, "": 0} {
		if got, ok := retryAfter(&http.Response{Header: http.Header{"Retry-After": {v}}}); got != want || ok != (want > 0) {
			t.Errorf("%q: %v, %v, want %v", v, got, ok, want)
		}
	}
}
