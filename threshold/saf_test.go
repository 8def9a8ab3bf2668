package threshold_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/threshold"
)

// safCase is one thing that SAF was asked: to hold results against a
// threshold, or to generate one with these options.
type safCase struct {
	Results   string   `json:"results"`
	Threshold string   `json:"threshold"`
	Generate  []string `json:"generate,omitzero"`
	Says      string   `json:"says"`
}

// TestSAF compares with what SAF itself said, as record.js noted it.
func TestSAF(t *testing.T) {
	cases := readCases(t, "testdata/saf")
	if len(cases) < 200 {
		t.Fatalf("only %d cases were recorded", len(cases))
	}
	compareSAF(t, "testdata/saf", cases)
}

// TestSAF_npm runs the npm package's own code on Node over the same table and
// a random one.
func TestSAF_npm(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	saf := filepath.Join(cache, "reeve-test", "saf-1.5.3")
	if _, err := os.Stat(filepath.Join(saf, "node_modules", "@mitre", "saf")); err != nil {
		t.Skip("no @mitre/saf: internal/ci/deps installs it")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/saf")); err != nil {
		t.Fatal(err)
	}
	recorded := readCases(t, dir)
	cases := append(recorded, randomCases(t, dir, rand.New(rand.NewPCG(1, 2)), 400)...)
	text, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cases.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	record, err := filepath.Abs("testdata/saf/record.js")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", record, dir)
	cmd.Dir = saf
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("node: %v\n%s", err, out)
	}
	said := readCases(t, dir)
	for i, c := range recorded {
		if said[i].Says != c.Says {
			t.Errorf("%s against %s%s: recorded\n%s\nbut SAF says\n%s", c.Results, c.Threshold, c.Generate, c.Says, said[i].Says)
		}
	}
	compareSAF(t, dir, said)
}

func readCases(t *testing.T, dir string) (cases []safCase) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func compareSAF(t *testing.T, dir string, cases []safCase) {
	t.Helper()
	docs := map[string]*hdf.Results{}
	for _, c := range cases {
		if docs[c.Results] == nil {
			f, err := os.Open(filepath.Join(dir, c.Results+".json"))
			if err != nil {
				t.Fatal(err)
			}
			docs[c.Results], err = hdf.Decode(f)
			f.Close()
			if err != nil {
				t.Fatalf("%s: %v", c.Results, err)
			}
		}
		if got := answer(docs[c.Results], c); got != c.Says {
			t.Errorf("%s against %s%s\n got %s\nwant %s", c.Results, c.Threshold, c.Generate, got, c.Says)
		}
	}
}

// answer is ours to a case; where SAF ends with an exception it is "crash".
func answer(doc *hdf.Results, c safCase) string {
	if c.Generate != nil {
		opt := threshold.GenerateOptions{SAF: true}
		for _, o := range c.Generate {
			opt.Exact, opt.Controls = opt.Exact || o == "-e", opt.Controls || o == "-c"
		}
		text, err := threshold.Generate(doc, opt)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	saf, err := threshold.ParseSAF([]byte(c.Threshold))
	if err != nil {
		return "crash"
	}
	f := saf.Check(doc)
	switch {
	case f == nil:
		return threshold.SAFPassed
	case strings.HasSuffix(f.Message, "ends with a TypeError"):
		return "crash"
	}
	return "Error: " + f.Message
}

// randomCases makes n cases, and results for them in dir.
func randomCases(t *testing.T, dir string, r *rand.Rand, n int) (cases []safCase) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("random-%d", i/8)
		if i%8 == 0 {
			text, err := json.Marshal(randomResults(r))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name+".json"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			cases = append(cases, safCase{Results: name, Generate: [][]string{{}, {"-e"}, {"-c"}, {"-e", "-c"}}[r.IntN(4)]})
		}
		cases = append(cases, safCase{Results: name, Threshold: randomThreshold(r)})
	}
	return cases
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomResults(r *rand.Rand) map[string]any {
	var profiles []any
	for p := range 1 + r.IntN(3) {
		controls := []any{}
		for range r.IntN(6) {
			results := []any{}
			for range r.IntN(4) {
				result := map[string]any{"status": pick(r, "passed", "passed", "failed", "skipped", "error"), "code_desc": "x", "start_time": "2026-01-01T00:00:00Z"}
				if r.IntN(8) == 0 {
					result["backtrace"] = pick(r, []any{}, []any{"a"})
				}
				results = append(results, result)
			}
			tags := map[string]any{}
			if r.IntN(3) == 0 {
				tags[pick(r, "severity", "severityoverride")] = pick[any](r, "high", "High", "low", "none", "urgent", nil, "critical", "medium", "")
			}
			c := map[string]any{
				"id": fmt.Sprint("c-", r.IntN(7)), "title": "t", "desc": "d", "impact": pick[any](r, 0, 0.0, 0.05, 0.1, 0.3, 0.39, 0.4, 0.5, 0.69, 0.7, 0.9, 1), "code": "", "refs": []any{},
				"source_location": map[string]any{"line": 1, "ref": "a.rb"}, "tags": tags, "results": results,
			}
			if r.IntN(6) == 0 {
				c["waiver_data"] = map[string]any{"skipped_due_to_waiver": pick[any](r, true, false, "yes", "", nil)}
			}
			controls = append(controls, c)
		}
		profile := map[string]any{
			"name": fmt.Sprint("p", p), "sha256": fmt.Sprint(p), "version": "1.0.0", "title": "p", "supports": []any{}, "attributes": []any{}, "groups": []any{},
			"status": "loaded", "controls": controls,
		}
		if p > 0 && r.IntN(2) == 0 {
			profile["parent_profile"] = fmt.Sprint("p", r.IntN(p))
			if first, ok := profiles[0].(map[string]any); ok && profile["parent_profile"] == "p0" {
				first["depends"] = []any{map[string]any{"name": profile["name"]}}
			}
		}
		profiles = append(profiles, profile)
	}
	return map[string]any{
		"platform": map[string]any{"name": "debian", "release": "12"}, "version": "5.22.3",
		"statistics": map[string]any{"duration": 0.1}, "profiles": profiles,
	}
}

func randomThreshold(r *rand.Rand) string {
	status := func() string { return pick(r, "passed", "failed", "skipped", "error", "no_impact") }
	severity := func() string { return pick(r, "critical", "high", "medium", "low", "none") }
	value := func() string {
		if r.IntN(3) > 0 {
			return fmt.Sprint(r.IntN(4))
		}
		return pick(r, "0x1", "010", "0o2", "1_0", "1e0", "1.5", "'1'", "' 2 '", "'0x1'", "'inf'", "'Infinity'", ".inf", "-.inf", ".nan", "true", "yes", "null", "~", "''",
			"[]", "[1]", "[1, null]", "{}", "{a: 1}", "2026-01-02", "1e21", "1e-7", "-1", "+1", "!!str 1", "\"\\x31\"", "-0", "12345678901234567890")
	}
	ids := func() string {
		return pick(r, "[]", "[c-0]", "[c-1, c-2]", "[c-0, c-1, c-2, c-3]", "[1]", "[null]", "[[c-1]]", "c-1", "ab", "''", "0", "5", "true", "{a: 1}", "null", "ü\U0001F600", "[c-5, c-5]")
	}
	lines := map[string]bool{}
	nested := r.IntN(2) == 0
	tree := map[string]map[string][]string{}
	var order []string
	for range r.IntN(5) {
		var key, v string
		switch r.IntN(6) {
		case 0:
			key, v = "compliance."+pick(r, "min", "max"), pick(r, value(), "50", "'20'", "100")
		case 1:
			key, v = status()+".total", value()
		case 2:
			key, v = status()+"."+severity()+".controls", ids()
		case 3:
			key, v = status()+".total."+pick(r, "min", "max"), value()
		default:
			key, v = status()+"."+severity()+"."+pick(r, "min", "max"), value()
		}
		if lines[key] {
			continue
		}
		lines[key] = true
		order = append(order, key+": "+v)
		parts := strings.SplitN(key, ".", 3)
		if tree[parts[0]] == nil {
			tree[parts[0]] = map[string][]string{}
		}
		if len(parts) == 2 {
			tree[parts[0]][parts[1]] = append(tree[parts[0]][parts[1]], "\x00"+v)
		} else {
			tree[parts[0]][parts[1]] = append(tree[parts[0]][parts[1]], parts[2]+": "+v)
		}
	}
	if !nested {
		if len(order) == 0 {
			return pick(r, "{}\n", "[]\n", "5\n", "abc\n", "'5'\n", "[1, 2]\n", "", "# nothing\n", "~\n", "--- {}\n--- {}\n", "a: 1\na: 2\n", "a: [\n", "true\n")
		}
		return strings.Join(order, "\n") + "\n"
	}
	var b strings.Builder
	b.WriteString("{")
	for _, st := range []string{"compliance", "passed", "failed", "skipped", "error", "no_impact"} {
		if len(tree[st]) == 0 {
			continue
		}
		b.WriteString(st + ": {")
		for _, k := range []string{"min", "max", "total", "critical", "high", "medium", "low", "none"} {
			v := tree[st][k]
			switch {
			case len(v) == 0:
			case strings.HasPrefix(v[0], "\x00"):
				b.WriteString(k + ": " + v[0][1:] + ", ")
			default:
				b.WriteString(k + ": {" + strings.ReplaceAll(strings.Join(v, ", "), "\x00", "a: ") + "}, ")
			}
		}
		b.WriteString("}, ")
	}
	return b.String() + "}\n"
}
