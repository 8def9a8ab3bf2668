package inspec_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hdf/hdftest"
	"reeve.dev/reeve/hdf/sarif"
	"reeve.dev/reeve/inspec"
)

// reports are results of each kind: the probe's, which has every form of
// verdict, with waivers; an overlay's; a profile's that
// doesn't support the target.
func reports(t *testing.T) map[string]*hdf.Results {
	t.Helper()
	waivers, err := inspec.ParseWaivers("w.yaml", []byte("m-eq: {justification: j, run: false, expiration_date: 2077-06-01}\nm-eq-nil: {justification: k}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := inspec.Load("testdata/probe")
	if err != nil {
		t.Fatal(err)
	}
	probe, err := inspec.Run(t.Context(), p, smallTarget(t), inspec.Options{Waivers: waivers})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*hdf.Results{
		"probe": probe,
		"overlay": mustRun(t, map[string]string{
			"inspec.yml":              "name: top\ndepends: [{name: base, path: base}]\n",
			"controls/a.rb":           "include_controls('base') { control('a') { impact 0.1 } }",
			"base/inspec.yml":         "name: base\n",
			"base/controls/a.rb":      "control('a') { ref 'x', url: 'https://example.com'; tag nist: ['AC-1']; describe(1) { it { should eq 2 } } }",
			"base/libraries/empty.rb": "",
		}, inspec.Options{}),
		"skipped": mustRun(t, map[string]string{
			"inspec.yml":    "name: other\nsupports: [{platform: windows}]\n",
			"controls/a.rb": "control('a') { describe(1) { it { should eq 1 } } }",
		}, inspec.Options{}),
	}
}

// installed is a folder that internal/ci/deps fills.
func installed(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(cache, "reeve-test", name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no %s: internal/ci/deps installs it", name)
	}
	return dir
}

// TestResults_schema has inspecjs, by which Heimdall and SAF read results,
// check them against its schema of exec-json.
func TestResults_schema(t *testing.T) {
	saf := installed(t, "saf-1.5.3")
	const script = `require('inspecjs/lib/generated_parsers/v_1_0/exec-json').Convert.toExecJSON(require('fs').readFileSync(0, 'utf8'))`
	check := func(doc []byte) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), "node", "-e", script)
		cmd.Dir, cmd.Stdin = saf, bytes.NewReader(doc)
		return cmd.CombinedOutput()
	}
	for name, r := range reports(t) {
		doc, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := check(doc); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if out, err := check([]byte(`{"platform": {"name": "x", "release": "1"}, "statistics": {}, "version": 1, "profiles": []}`)); err == nil || !strings.Contains(string(out), "version") {
		t.Errorf("a number for the version passed: %v\n%s", err, out)
	}
}

// TestSARIF_schema checks against the schema of SARIF 2.1.0.
func TestSARIF_schema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(installed(t, "sarif-schema"), "sarif-2.1.0-rtm.5.json"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(doc []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
		if err != nil {
			return err
		}
		return schema.Validate(v)
	}
	all := reports(t)
	all["sample"], all["hostile"] = hdftest.Sample(), hdftest.Hostile()
	for name, r := range all {
		var b bytes.Buffer
		if err := sarif.Write(&b, r); err != nil {
			t.Fatal(err)
		}
		if err := check(b.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if check([]byte(`{"version": "2.1.0", "runs": [{}]}`)) == nil {
		t.Error("a run without a tool passed")
	}
}
