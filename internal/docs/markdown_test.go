package docs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const page = "# A page, *really*\n\n" +
	"See [that](other.md#x) and `reeve scan\n--json`, ![p](i.png).\n\n" +
	"```sh server until=\"reeve get agents\"\nreeve hub\n```\n\n" +
	"<!-- sh exit=1\nfalse\n-->\n\n<!-- no command -->\n\n<a id=\"here\"></a>\n\n" +
	"- a list\n\n  ```yaml hub\n  names: []\n  ```\n\n" +
	"| a | b |\n|---|---|\n| `k` | [l](#here) |\n\n" +
	"## A page, really\n\n    indented\n"

func TestParse(t *testing.T) {
	got, err := Parse([]byte(page))
	if err != nil {
		t.Fatal(err)
	}
	want := &Document{
		Blocks: []Block{
			{Line: 7, Language: "sh", Words: []string{"server", "until=reeve get agents"}, Text: "reeve hub\n"},
			{Line: 11, Language: "sh", Words: []string{"exit=1"}, Text: "false\n", Hidden: true},
			{Line: 21, Language: "yaml", Words: []string{"hub"}, Text: "names: []\n"},
			{Line: 30, Text: "indented\n", Indented: true},
		},
		Links:   []Link{{3, "other.md#x"}, {4, "i.png"}, {26, "#here"}},
		Code:    []Span{{3, "reeve scan --json"}, {26, "k"}},
		Anchors: map[string]bool{"a-page-really": true, "a-page-really-1": true, "here": true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParse_refuses(t *testing.T) {
	for name, text := range map[string]string{
		"a quote that isn't closed":       "```sh until=\"x\nfalse\n```\n",
		"hidden commands on the one line": "<!-- sh false -->\n",
	} {
		t.Run(name, func(t *testing.T) {
			if d, err := Parse([]byte(text)); err == nil {
				t.Errorf("%+v", d)
			}
		})
	}
}
