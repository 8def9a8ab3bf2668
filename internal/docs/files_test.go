package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	yamljson "sigs.k8s.io/yaml"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/insight/transform"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/internal/config"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/threshold"
)

// unread are languages of blocks that nothing of Reeve's reads.
var unread = []string{"text", "console", "mermaid", "diff", "proto", "groovy", "html", "promql", "sql", "ini", "hcl"}

// kinds are what a yaml block may say that it is, and what reads it then.
var kinds = map[string]func(t *testing.T, text []byte) error{
	"hub":          func(_ *testing.T, text []byte) error { return hubConfig(text) },
	"agent":        func(_ *testing.T, text []byte) error { return agentConfig(text) },
	"hub-values":   func(_ *testing.T, text []byte) error { return values("reeve-hub", text, hubConfig) },
	"agent-values": func(_ *testing.T, text []byte) error { return values("reeve-agent", text, agentConfig) },
	"k8s":          objects,
	"override": func(_ *testing.T, text []byte) error {
		var o map[string]policy.Change
		return config.Parse("of a namespace", text, &o)
	},
	"threshold": func(_ *testing.T, text []byte) error {
		_, err := threshold.Parse(text)
		return err
	},
	"waivers": func(_ *testing.T, text []byte) error {
		_, err := inspec.ParseWaivers("waivers.yaml", text)
		return err
	},
	"attestations": func(_ *testing.T, text []byte) error {
		_, err := inspec.ParseAttestations("attestations.yaml", text)
		return err
	},
	"services": func(t *testing.T, text []byte) error {
		file := filepath.Join(t.TempDir(), "services.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return err
		}
		_, err := forward.ReadBirger(file)
		return err
	},
	"transforms": func(_ *testing.T, text []byte) error {
		_, err := transform.Parse(text)
		return err
	},
	"inputs": func(_ *testing.T, text []byte) error {
		var in map[string]any
		return yaml.Unmarshal(text, &in)
	},
	"metadata": func(_ *testing.T, text []byte) error {
		var m struct{ Name string }
		if err := yaml.Unmarshal(text, &m); err != nil || m.Name != "" {
			return err
		}
		return fmt.Errorf("inspec.yml: a profile has a name")
	},
	"allstar": plainYAML,
	"plain":   plainYAML,
}

func hubConfig(text []byte) error {
	cfg := hub.Defaults()
	return config.Parse("of the hub", text, &cfg)
}

func agentConfig(text []byte) error {
	cfg := agent.Defaults()
	return config.Parse("of the agent", text, &cfg)
}

func plainYAML(_ *testing.T, text []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc any
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Each file that a document shows is one that Reeve takes.
func TestFiles(t *testing.T) {
	for _, d := range documents(t) {
		if d.made() {
			continue
		}
		t.Run(d.Path, func(t *testing.T) {
			for i, b := range d.Blocks {
				if err := check(t, b); err != nil {
					t.Errorf("%s:%d: %v", d.Path, b.Line, err)
				}
				if b.isOutput() && (i == 0 || d.Blocks[i-1].Language != "sh") {
					t.Errorf("%s:%d: there is no block of commands before this output", d.Path, b.Line)
				}
			}
		})
	}
}

func check(t *testing.T, b Block) error {
	text := []byte(b.Text)
	switch {
	case b.Indented:
		return fmt.Errorf("a block that is indented: put it between ``` and say what it is")
	case b.Language == "sh":
		for _, w := range b.Words {
			if name, _, _ := strings.Cut(w, "="); !slices.Contains([]string{"server", "until", "exit", "cluster"}, name) {
				return fmt.Errorf("sh has no word %s", w)
			}
		}
		if _, waits := b.Value("until"); waits && !slices.Contains(b.Words, "server") {
			return fmt.Errorf("until says when a server is ready, and this isn't one: sh server until=…")
		}
	case slices.Contains(unread, b.Language):
	case b.Language == "yaml":
		if len(b.Words) == 0 {
			return fmt.Errorf("a yaml block says what it is, behind yaml: see package internal/docs")
		}
		read, ok := kinds[b.Words[0]]
		if !ok {
			return fmt.Errorf("yaml has no kind %s", b.Words[0])
		}
		return read(t, text)
	case b.Language == "json":
		if _, isFile := b.Value("file"); len(b.Words) < 2 || isFile && len(b.Words) == 2 {
			var v any
			return json.Unmarshal(text, &v)
		}
		return body(b.Words[0], b.Words[1], text)
	case b.Language == "go":
		fset := token.NewFileSet()
		if _, err := parser.ParseFile(fset, "", text, parser.AllErrors); err == nil {
			return nil
		}
		_, err := parser.ParseFile(fset, "", "package p\nfunc _() {\n"+b.Text+"\n}", parser.AllErrors)
		return err
	case b.Language == "ruby":
		_, err := ruby.Parse("block", b.Text)
		return err
	case b.Language == "":
		return fmt.Errorf("a block without a language: say behind ``` what it is")
	default:
		return fmt.Errorf("nothing here reads %q", b.Language)
	}
	return nil
}

// Each file of the examples of moving here is one that Reeve takes, too.
func TestExamples(t *testing.T) {
	seen := 0
	each := func(pattern string, read func(file string, text []byte) error) {
		files, err := filepath.Glob(filepath.Join(root, "examples", "migrate", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			seen++
			text, err := os.ReadFile(file)
			if err == nil {
				err = read(file, text)
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	for pattern, kind := range map[string]string{
		"*/after/hub*.yaml": "hub", "*/after/agent*.yaml": "agent", "birger/before/services.yaml": "services",
		"*/*/threshold.yaml": "threshold", "*/*/waivers.yaml": "waivers", "*/*/inputs.yaml": "inputs",
	} {
		each(pattern, func(_ string, text []byte) error { return kinds[kind](t, text) })
	}
	each("allstar/after/.allstar/*.yaml", func(file string, text []byte) error {
		problems, err := github.Check(github.OrgLayer, filepath.Base(file), string(text))
		if err == nil && len(problems) > 0 {
			err = fmt.Errorf("%v", problems)
		}
		return err
	})
	if seen < 10 {
		t.Errorf("only %d files", seen)
	}
}

// values holds values of a chart against its schema, and the configuration in
// them against what reads it.
func values(chart string, text []byte, read func([]byte) error) error {
	schema, err := compile(filepath.Join(root, "deploy", "charts", chart, "values.schema.json"), "")
	if err != nil {
		return err
	}
	doc, err := instance(text)
	if err != nil {
		return err
	}
	if err := schema.Validate(doc); err != nil {
		return err
	}
	var v struct{ Config yaml.Node }
	if err := yaml.Unmarshal(text, &v); err != nil || v.Config.IsZero() {
		return err
	}
	part, err := yaml.Marshal(&v.Config)
	if err != nil {
		return err
	}
	return read(part)
}

// body holds a request's body against the API's description.
func body(method, path string, text []byte) error {
	at := "/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(path) + "/" + strings.ToLower(method) + "/requestBody/content/application~1json/schema"
	schema, err := compile(filepath.Join(root, "api", "openapi.json"), at)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(doc)
}

var compiled sync.Map // of path and fragment

// compile is the schema at a fragment of a file.
func compile(file, at string) (*jsonschema.Schema, error) {
	if s, ok := compiled.Load(file + at); ok {
		return s.(*jsonschema.Schema), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:///schema.json", doc); err != nil {
		return nil, err
	}
	s, err := c.Compile("mem:///schema.json#" + (&url.URL{Path: at}).EscapedPath())
	if err == nil {
		compiled.Store(file+at, s)
	}
	return s, err
}

// instance is YAML as a schema of JSON sees it.
func instance(text []byte) (any, error) {
	j, err := yamljson.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(j))
}

// objects holds objects of Kubernetes against its types, and those of Reeve
// against their definitions.
func objects(t *testing.T, text []byte) error {
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for part := range strings.SplitSeq("\n"+string(text), "\n---") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		var o struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
		}
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			return err
		}
		if !strings.HasPrefix(o.APIVersion, "reeve.dev/") {
			j, err := yamljson.YAMLToJSONStrict([]byte(part))
			if err != nil {
				return err
			}
			if _, _, err := decoder.Decode(j, nil, nil); err != nil {
				return err
			}
			continue
		}
		schema, err := definition(t, o.Kind)
		if err != nil {
			return err
		}
		doc, err := instance([]byte(part))
		if err != nil {
			return err
		}
		if err := schema.Validate(doc); err != nil {
			return err
		}
	}
	return nil
}

// definition is the schema of a kind of Reeve's, which takes no other members.
func definition(t *testing.T, kind string) (*jsonschema.Schema, error) {
	files, err := filepath.Glob(filepath.Join(root, "deploy", "crds", "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var crd struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		if err := yamljson.Unmarshal(text, &crd); err != nil {
			return nil, err
		}
		if crd.Spec.Names.Kind != kind {
			continue
		}
		schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		for _, name := range []string{"apiVersion", "kind", "metadata"} {
			schema["properties"].(map[string]any)[name] = map[string]any{}
		}
		closed(schema)
		out, err := json.Marshal(schema)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(t.TempDir(), kind+".json")
		if err := os.WriteFile(path, out, 0o600); err != nil {
			return nil, err
		}
		return compile(path, "")
	}
	return nil, fmt.Errorf("deploy/crds has no kind %s", kind)
}

// closed lets an object that has properties have no others.
func closed(schema map[string]any) {
	for _, of := range schema {
		if s, ok := of.(map[string]any); ok {
			closed(s)
		}
	}
	if _, ok := schema["properties"].(map[string]any); ok && schema["type"] == "object" {
		schema["additionalProperties"] = false
	}
}

func TestFiles_wrong(t *testing.T) {
	for name, b := range map[string]Block{
		"indented":                    {Text: "reeve hub\n", Indented: true},
		"without a language":          {Text: "reeve hub\n"},
		"of an unknown language":      {Language: "bsh"},
		"commands with a wrong word":  {Language: "sh", Words: []string{"servr"}},
		"a condition for no server":   {Language: "sh", Words: []string{"until=true"}, Text: "true\n"},
		"yaml of no kind":             {Language: "yaml", Text: "names: []\n"},
		"yaml of an unknown kind":     {Language: "yaml", Words: []string{"hubs"}, Text: "names: []\n"},
		"a hub's unknown key":         {Language: "yaml", Words: []string{"hub"}, Text: "name: []\n"},
		"an agent's wrong type":       {Language: "yaml", Words: []string{"agent"}, Text: "scan: {jobs: many}\n"},
		"an unknown value of a chart": {Language: "yaml", Words: []string{"hub-values"}, Text: "replica: 3\n"},
		"a chart's wrong key":         {Language: "yaml", Words: []string{"hub-values"}, Text: "config: {scan: {leasFor: 1m}}\n"},
		"a Pod's unknown member":      {Language: "yaml", Words: []string{"k8s"}, Text: "{apiVersion: v1, kind: Pod, spec: {container: []}}\n"},
		"a Scan's unknown member":     {Language: "yaml", Words: []string{"k8s"}, Text: "{apiVersion: reeve.dev/v1alpha1, kind: Scan, spec: {target: {pod: a, container: b}, profile: {name: p}, treshold: x}}\n"},
		"an override's wrong key":     {Language: "yaml", Words: []string{"override"}, Text: "p: {optout: true}\n"},
		"a threshold's wrong key":     {Language: "yaml", Words: []string{"threshold"}, Text: "complianse: {min: 80}\n"},
		"a service of no type":        {Language: "yaml", Words: []string{"services"}, Text: "outgoingServices: [{name: x, enabled: true}]\n"},
		"broken JSON":                 {Language: "json", Text: "{"},
		"a request's unknown member":  {Language: "json", Words: []string{"POST", "/api/v1/scans"}, Text: `{"target": {"agent": "a", "pods": "p"}, "scan": {"profile": "x"}}`},
		"Go that doesn't parse":       {Language: "go", Text: "if {"},
		"Ruby that doesn't parse":     {Language: "ruby", Text: "control 'x' do"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := check(t, b); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

// everywhere are all documents of the checkout.
func everywhere(t *testing.T) (all []*Document) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == "node_modules" || e.Name() == ".git") {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			path, _ = filepath.Rel(root, path)
			d, err := Read(root, path)
			if err != nil {
				return err
			}
			all = append(all, d)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Links lead somewhere.
func TestLinks(t *testing.T) {
	anchors := map[string]map[string]bool{}
	all := everywhere(t)
	for _, d := range all {
		anchors[d.Path] = d.Anchors
	}
	for _, d := range all {
		for _, l := range d.Links {
			u, err := url.Parse(l.To)
			if err != nil {
				t.Errorf("%s:%d: %v", d.Path, l.Line, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				if u.Scheme != "https" && u.Scheme != "mailto" || u.Scheme == "https" && !strings.Contains(u.Host, ".") {
					t.Errorf("%s:%d: %s: a link elsewhere is https", d.Path, l.Line, l.To)
				}
				continue
			}
			to := d.Path
			if u.Path != "" {
				to = path.Join(path.Dir(d.Path), u.Path)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s:%d: %s: there is no %s", d.Path, l.Line, l.To, to)
			} else if of, known := anchors[to]; u.Fragment != "" && known && !of[u.Fragment] {
				t.Errorf("%s:%d: %s: %s has no such heading", d.Path, l.Line, l.To, to)
			} else if u.Fragment != "" && !known {
				t.Errorf("%s:%d: %s: only documents have headings", d.Path, l.Line, l.To)
			}
		}
	}
}
