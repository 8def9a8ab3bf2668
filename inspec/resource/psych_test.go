package resource

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// The words are those of Psych 4 for the same texts.
func TestYAMLProblem(t *testing.T) {
	for text, want := range map[string]string{
		"a: [1, 2\nb: }\n":               "(<unknown>): did not find expected ',' or ']' while parsing a flow sequence at line 1 column 4",
		"a: 1\nb: {c: [1, {d: 2]\n":      "(<unknown>): did not find expected ',' or '}' while parsing a flow mapping at line 2 column 12",
		"x: it's\na: 'b\n":               "(<unknown>): found unexpected end of stream while scanning a quoted scalar at line 2 column 4",
		"# [\nx: a[0]\ny: [\"]\", '}'\n": "(<unknown>): did not find expected ',' or ']' while parsing a flow sequence at line 3 column 4",
	} {
		var doc yaml.Node
		err := yaml.Unmarshal([]byte(text), &doc)
		if err == nil {
			t.Errorf("%q is YAML", text)
			continue
		}
		if got := yamlProblem(text, err.Error()); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
