package docs

import (
	"cmp"
	_ "embed"
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	yamljson "sigs.k8s.io/yaml"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/inspec/matcher"
	"reeve.dev/reeve/inspec/resource"
	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/config"
)

var update = flag.Bool("update", false, "write the pages of docs/reference anew")

var (
	//go:embed resources.txt
	resourceWords string
	//go:embed matchers.txt
	matcherWords string
	//go:embed views.txt
	viewWords string
)

const made = "<!-- Made from the code by make docs: change it there. -->\n\n"

// TestReference keeps the pages that are made of the code; commands.md and
// metrics.md have their test in cmd/reeve.
func TestReference(t *testing.T) {
	for name, page := range map[string]func(*testing.T) string{
		"configuration.md": configurationPage, "rest.md": restPage, "crds.md": crdsPage, "resources.md": resourcesPage, "matchers.md": matchersPage, "page.md": viewsPage,
	} {
		t.Run(name, func(t *testing.T) {
			want, path := page(t), filepath.Join(root, "docs", "reference", name)
			if *update {
				if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want, string(got)); diff != "" {
				t.Errorf("the page isn't what the code makes; make docs writes it: %s", diff)
			}
		})
	}
}

// setting is a key of a configuration.
type setting struct {
	key  string
	kind reflect.Type
	// value is the default; invalid within a list.
	value reflect.Value
}

// settings lists what a configuration can hold.
func settings(t reflect.Type, v reflect.Value, prefix string) (list []setting) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		ft, key := f.Type, prefix+name
		var fv reflect.Value
		if v.IsValid() {
			fv = v.Field(i)
		}
		if ft.Kind() == reflect.Pointer {
			ft, fv = ft.Elem(), reflect.Value{}
		}
		if ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct && !isText(ft.Elem()) {
			ft, fv, key = ft.Elem(), reflect.Value{}, key+"[]"
		}
		switch {
		case name == "-", !f.IsExported():
		case strings.Contains(opts, "inline"):
			list = append(list, settings(ft, fv, prefix)...)
		case ft.Kind() == reflect.Struct:
			list = append(list, settings(ft, fv, key+".")...)
		default:
			list = append(list, setting{key, ft, fv})
		}
	}
	return list
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// kindOf is what people call the values of a type.
func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case isText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64, reflect.Uint, reflect.Uint16:
		return "number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "list of " + kindOf(t.Elem())
	case reflect.Map:
		return "map of " + kindOf(t.Elem())
	}
	return "object"
}

// defaultOf is the default as it stands in a file; empty where there is none.
func defaultOf(s setting) string {
	if !s.value.IsValid() || s.value.IsZero() {
		return ""
	}
	switch v := s.value.Interface().(type) {
	case time.Duration:
		text := v.String()
		for _, zero := range []string{"0s", "0m"} {
			if short := strings.TrimSuffix(text, zero); short != text && strings.HasSuffix(short, map[string]string{"0s": "m", "0m": "h"}[zero]) {
				text = short
			}
		}
		return text
	case fmt.Stringer:
		return v.String()
	}
	if s.value.Kind() == reflect.Slice {
		var parts []string
		for i := range s.value.Len() {
			parts = append(parts, fmt.Sprint(s.value.Index(i).Interface()))
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(s.value.Interface())
}

// explained is a row of docs/configuration.md.
type explained struct{ def, meaning string }

// rows are what a part of docs/configuration.md says of each key. A row may have
// several, which share what comes before the last dot.
func rows(part string) map[string]explained {
	all := map[string]explained{}
	for line := range strings.Lines(part) {
		column, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		cells := strings.Split(strings.ReplaceAll(strings.TrimSuffix(strings.TrimSpace(column), "|"), `\|`, "\x00"), "|")
		if len(cells) < 3 {
			continue
		}
		row := explained{strings.TrimSpace(cells[1]), strings.ReplaceAll(strings.TrimSpace(strings.Join(cells[2:], "|")), "\x00", `\|`)}
		first := ""
		for name := range strings.SplitSeq(cells[0], ",") {
			name = strings.Trim(name, " `")
			if first == "" {
				first = name
			}
			if i := strings.LastIndex(first, "."); !strings.Contains(name, ".") {
				name = first[:i+1] + name
			}
			all[name] = row
		}
	}
	return all
}

// configurations are those of hub and agent, and what docs/configuration.md has
// of each.
func configurations(t *testing.T) []configuration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "## Hub")
	hubs, agents, _ := strings.Cut(rest, "## Agent")
	agents, _, _ = strings.Cut(agents, "\n## ")
	h, a := hub.Defaults(), agent.Defaults()
	return []configuration{
		{"Hub", "REEVE_HUB", settings(reflect.TypeOf(h), reflect.ValueOf(h), ""), rows(hubs)},
		{"Agent", "REEVE_AGENT", settings(reflect.TypeOf(a), reflect.ValueOf(a), ""), rows(agents)},
	}
}

type configuration struct {
	title, prefix string
	settings      []setting
	rows          map[string]explained
}

// of is what explains a key: its own row, or that of the list that it is in.
func (c configuration) of(key string) (name string, row explained, ok bool) {
	for name = key; ; {
		if row, ok = c.rows[name]; ok {
			return name, row, true
		}
		i := strings.LastIndex(name, "[].")
		if i < 0 {
			return "", explained{}, false
		}
		name = name[:i+2]
	}
}

// TestConfigurationPage keeps docs/configuration.md true: it has each key of
// hub and agent, and no other, and says the default that it has.
func TestConfigurationPage(t *testing.T) {
	for _, c := range configurations(t) {
		t.Run(c.title, func(t *testing.T) {
			used := map[string]bool{}
			for _, s := range c.settings {
				name, row, ok := c.of(s.key)
				if !ok {
					t.Errorf("the page lacks %s", s.key)
					continue
				}
				used[name] = true
				if def := defaultOf(s); def != "" && !says(row.def, def) {
					t.Errorf("%s: its default is %s, and the page says %q", s.key, def, row.def)
				}
			}
			for name := range c.rows {
				if !used[name] {
					t.Errorf("there is no key %s", name)
				}
			}
		})
	}
}

// says reports whether a cell has a default: as it stands in a file, or in KiB,
// MiB or GiB.
func says(cell, def string) bool {
	forms := []string{regexp.QuoteMeta(def)}
	if n, err := strconv.Atoi(def); err == nil {
		for shift, unit := range map[int]string{10: "KiB", 20: "MiB", 30: "GiB"} {
			if n%(1<<shift) == 0 {
				forms = append(forms, fmt.Sprintf("%d %s", n>>shift, unit))
			}
		}
	}
	return regexp.MustCompile(`(^|[^\w.])(` + strings.Join(forms, "|") + `)($|[^\w.]|\.$)`).MatchString(cell)
}

func TestSays(t *testing.T) {
	for _, tc := range []struct {
		cell, def string
		want      bool
	}{
		{"`1h`", "1h", true},
		{"`11h`", "1h", false},
		{"`:8443`", ":8443", true},
		{"64 MiB", "67108864", true},
		{"64 MiB", "33554432", false},
		{"2 GiB", "2147483648", true},
		{"a folder", "1", false},
	} {
		if got := says(tc.cell, tc.def); got != tc.want {
			t.Errorf("%q says %s: %v", tc.cell, tc.def, got)
		}
	}
}

func configurationPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# Configuration keys\n\n" + made + `Every key of the files of ` + "`reeve hub`" + ` and ` + "`reeve agent`" + `, with its type, its default and
its variable in the environment, which goes before the file. ` + "`[]`" + ` stands for each
element of a list; a list has one variable, which holds it in YAML. What belongs
together, with examples, is in [configuration](../configuration.md).
`)
	for _, c := range configurations(t) {
		fmt.Fprintf(&b, "\n## %s\n", c.title)
		// What is by itself comes first, then the parts, as the file has them.
		part := func(s setting) string {
			top, _, deeper := strings.Cut(s.key, ".")
			if !deeper {
				return ""
			}
			return strings.TrimSuffix(top, "[]")
		}
		order := map[string]int{"": 0}
		for _, s := range c.settings {
			if _, ok := order[part(s)]; !ok {
				order[part(s)] = len(order)
			}
		}
		slices.SortStableFunc(c.settings, func(a, b setting) int { return cmp.Compare(order[part(a)], order[part(b)]) })
		section := "-"
		for _, s := range c.settings {
			if in := part(s); in != section {
				section = in
				if in != "" {
					fmt.Fprintf(&b, "\n### %s: %s\n", c.title, in)
				}
				b.WriteString("\n| key | type | default | |\n|---|---|---|---|\n")
			}
			_, row, _ := c.of(s.key)
			def := row.def
			if d := defaultOf(s); d != "" {
				def = "`" + d + "`"
			}
			name := "`" + s.key + "`"
			if !strings.Contains(s.key, "[]") {
				name += "<br>`" + config.Variable(c.prefix, s.key) + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, kindOf(s.kind), def, elsewhere(row.meaning))
		}
	}
	return b.String()
}

// elsewhere has links of docs/configuration.md lead on from docs/reference.
func elsewhere(text string) string {
	return strings.NewReplacer("](#", "](../configuration.md#", "](../", "](../../", "](https:", "](https:", "](", "](../").Replace(text)
}

// schema is one of JSON, as OpenAPI and Kubernetes have it.
type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Format, Description  string
	Enum                 []any
	Default              any
	Minimum, Maximum     *float64
	MinLength, MaxLength int
	Pattern              string
	Properties           map[string]*schema
	Required             []string
	Items                *schema
	AdditionalProperties any
}

// kind is what people call the schema's values.
func (s *schema) kind() string {
	if s == nil {
		return ""
	}
	if s.Ref != "" {
		name := s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	kind := fmt.Sprint(s.Type)
	if list, ok := s.Type.([]any); ok {
		var parts []string
		for _, p := range list {
			if p != "null" {
				parts = append(parts, fmt.Sprint(p))
			}
		}
		kind = strings.Join(parts, " or ")
	}
	switch {
	case len(s.Enum) > 0:
		var parts []string
		for _, e := range s.Enum {
			if e != nil {
				parts = append(parts, fmt.Sprintf("`%v`", e))
			}
		}
		return strings.Join(parts, ", ")
	case kind == "array":
		return "list of " + s.Items.kind()
	case kind == "string" && s.Format == "date-time":
		return "time"
	case kind == "string":
		return "text"
	case kind == "boolean":
		return "true or false"
	case kind == "integer", kind == "number":
		return "number"
	case s.Type == nil:
		return "anything"
	}
	if of, ok := s.AdditionalProperties.(map[string]any); ok {
		text, err := json.Marshal(of)
		var inner schema
		if err == nil && json.Unmarshal(text, &inner) == nil {
			return "map of " + inner.kind()
		}
	}
	return kind
}

// note is what else is said of the values.
func (s *schema) note() string {
	text := strings.ReplaceAll(strings.ReplaceAll(s.Description, "\n", " "), "|", `\|`)
	var more []string
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		more = append(more, fmt.Sprintf("%v to %v", *s.Minimum, *s.Maximum))
	case s.Minimum != nil && *s.Minimum != 0:
		more = append(more, fmt.Sprintf("from %v", *s.Minimum))
	case s.Maximum != nil:
		more = append(more, fmt.Sprintf("to %v", *s.Maximum))
	}
	if s.MaxLength > 0 {
		more = append(more, fmt.Sprintf("at most %d characters", s.MaxLength))
	}
	if s.Default != nil {
		more = append(more, fmt.Sprintf("`%v` if left out", s.Default))
	}
	if len(more) > 0 {
		if text != "" {
			text = strings.TrimSuffix(text, ".") + ". "
		}
		text += strings.ToUpper(more[0][:1]) + strings.Join(more, ", ")[1:]
	}
	return text
}

// members writes the rows of an object's members.
func (s *schema) members(b *strings.Builder, prefix string, deep bool) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if name == "$schema" {
			continue
		}
		m := s.Properties[name]
		required := ""
		if slices.Contains(s.Required, name) {
			required = ", required"
		}
		fmt.Fprintf(b, "| `%s%s` | %s%s | %s |\n", prefix, name, m.kind(), required, m.note())
		if deep && m.Properties != nil {
			m.members(b, prefix+name+".", deep)
		}
		if deep && m.Items != nil && m.Items.Properties != nil {
			m.Items.members(b, prefix+name+"[].", deep)
		}
	}
}

type operation struct {
	OperationID, Summary, Description string
	Tags                              []string
	Parameters                        []struct {
		Name, In, Description string
		Required              bool
		Schema                *schema
	}
	RequestBody *struct {
		Content map[string]struct{ Schema *schema }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema *schema }
	}
}

type description struct {
	Paths      map[string]map[string]*operation
	Components struct {
		Schemas         map[string]*schema
		SecuritySchemes map[string]struct{ Type, Description string }
	}
}

func readDescription(t *testing.T) (d description) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "api", "openapi.json"))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func restPage(t *testing.T) string {
	d := readDescription(t)
	byTag := map[string][]string{}
	var objects []string // in the order in which they are first named
	for path, methods := range d.Paths {
		for method, op := range methods {
			byTag[cmp.Or(slices.Concat(op.Tags, []string{"others"})[0])] = append(byTag[slices.Concat(op.Tags, []string{"others"})[0]], path+" "+strings.ToUpper(method))
		}
	}
	var b strings.Builder
	b.WriteString("# REST\n\n" + made + `Every operation of a hub's API, on port 8443. The hub itself has the same at
` + "`/docs`" + `, and for programs at ` + "`/openapi.json`" + ` (OpenAPI 3.1; in the checkout
[api/openapi.json](../../api/openapi.json)).

A caller shows one of these; [access](../access.md#the-api) says what each may do:

| | |
|---|---|
`)
	for _, name := range slices.Sorted(maps.Keys(d.Components.SecuritySchemes)) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, d.Components.SecuritySchemes[name].Description)
	}
	b.WriteString(`
Bodies and answers are JSON. An error is ` + "`application/problem+json`" + ` (RFC 9457): ` + "`title`, `detail`" + `
and, where a body is wrong, ` + "`errors`" + ` with the place of each. Lists take
` + "`limit`" + `, and as ` + "`before`" + ` the ` + "`next`" + ` of the page that came before.
`)
	refs := func(s *schema) {
		for s != nil && s.Items != nil {
			s = s.Items
		}
		if s != nil && s.Ref != "" {
			objects = append(objects, s.Ref[strings.LastIndex(s.Ref, "/")+1:])
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		fmt.Fprintf(&b, "\n## %s\n", tag)
		slices.Sort(byTag[tag])
		for _, at := range byTag[tag] {
			path, method, _ := strings.Cut(at, " ")
			op := d.Paths[path][strings.ToLower(method)]
			fmt.Fprintf(&b, "\n### %s %s\n\n%s.", method, path, op.Summary)
			if op.Description != "" {
				fmt.Fprintf(&b, " %s", op.Description)
			}
			b.WriteString("\n")
			if len(op.Parameters) > 0 {
				b.WriteString("\n| parameter | type | |\n|---|---|---|\n")
				for _, p := range op.Parameters {
					in := ""
					if p.In != "query" {
						in = ", " + p.In
					}
					if p.Required && p.In != "path" {
						in += ", required"
					}
					fmt.Fprintf(&b, "| `%s` | %s%s | %s |\n", p.Name, p.Schema.kind(), in, (&schema{Description: p.Description, Minimum: p.Schema.Minimum, Maximum: p.Schema.Maximum, MaxLength: p.Schema.MaxLength, Default: p.Schema.Default}).note())
				}
			}
			if op.RequestBody != nil {
				b.WriteString("\nBody: ")
				for i, kind := range slices.Sorted(maps.Keys(op.RequestBody.Content)) {
					s := op.RequestBody.Content[kind].Schema
					refs(s)
					if i > 0 {
						b.WriteString("; or ")
					}
					fmt.Fprintf(&b, "%s, `%s`", s.kind(), kind)
				}
				b.WriteString("\n")
			}
			var answers []string
			for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
				r := op.Responses[status]
				if status >= "4" || status == "default" {
					continue
				}
				for _, kind := range slices.Sorted(maps.Keys(r.Content)) {
					s := r.Content[kind].Schema
					refs(s)
					what := "`" + kind + "`"
					if kind == "application/json" {
						what = s.kind()
					}
					answers = append(answers, status+": "+what)
				}
				if len(r.Content) == 0 {
					answers = append(answers, status)
				}
			}
			fmt.Fprintf(&b, "\nAnswers: %s\n", strings.Join(answers, "; "))
		}
	}
	b.WriteString("\n## Objects\n")
	done := map[string]bool{}
	slices.Sort(objects)
	for len(objects) > 0 {
		name := objects[0]
		objects = objects[1:]
		s := d.Components.Schemas[name]
		if done[name] || s == nil {
			continue
		}
		done[name] = true
		for _, m := range s.Properties {
			refs(m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(done)) {
		s := d.Components.Schemas[name]
		fmt.Fprintf(&b, "\n### %s\n\n", name)
		if s.Description != "" {
			fmt.Fprintf(&b, "%s\n\n", s.Description)
		}
		if len(s.Properties) == 0 {
			fmt.Fprintf(&b, "%s\n", s.kind())
			continue
		}
		b.WriteString("| member | type | |\n|---|---|---|\n")
		s.members(&b, "", false)
	}
	return b.String()
}

func crdsPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# Objects of Kubernetes\n\n" + made + `The kinds of ` + "`reeve.dev/v1alpha1`" + `, which an agent with ` + "`scan.resources`" + ` carries out.
[Scanning containers in a cluster](../kubernetes.md#objects) shows them at work;
[deploy/crds](../../deploy/crds) installs them.
`)
	files, err := filepath.Glob(filepath.Join(root, "deploy", "crds", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Scope    string
				Names    struct{ Kind, Plural string }
				Versions []struct {
					Name                     string
					Schema                   struct{ OpenAPIV3Schema *schema }
					AdditionalPrinterColumns []struct{ Name, JSONPath string }
				}
			}
		}
		if err := yamljson.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			s := v.Schema.OpenAPIV3Schema
			fmt.Fprintf(&b, "\n## %s\n\n%s `%s`, `kubectl get %s`.\n", crd.Spec.Names.Kind, s.Description, crd.Spec.Scope, crd.Spec.Names.Plural)
			for _, part := range []string{"spec", "status"} {
				if m := s.Properties[part]; m != nil {
					fmt.Fprintf(&b, "\n| %s | type | |\n|---|---|---|\n", part)
					m.members(&b, part+".", true)
				}
			}
		}
	}
	return b.String()
}

func resourcesPage(t *testing.T) string {
	in := ruby.New(ruby.Limits{})
	at, err := target.Open(t.Context(), "dir:"+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { at.Close() })
	set, err := resource.Install(in, at, resource.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := groups(resourceWords)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Resources\n\n" + made + `What a control can describe, as InSpec 5 has it: ` + "`describe NAME(…)`" + `. Properties are for
` + "`its('…')`" + `; what stands under “is” and “has” are matchers of the resource's own, beside the
[matchers](matchers.md) for all. A profile's own libraries add more. [Chef's documentation](https://docs.chef.io/inspec/resources/)
explains arguments; ` + "`reeve profile check`" + ` tells what of a profile isn't here.

What asks for a command (a service's state, a package in a running system) can't be judged on
a target where nothing is run, and is an error there, never passed.
`)
	seen := map[string]bool{}
	for _, g := range all {
		fmt.Fprintf(&b, "\n## %s\n\n", g.title)
		if g.title == "Other systems" {
			b.WriteString("These are known and skipped, as InSpec skips them on Linux:\n\n")
			for i, n := range g.names {
				seen[n.name] = true
				if i > 0 {
					b.WriteString(", ")
				}
				fmt.Fprintf(&b, "`%s`", n.name)
			}
			b.WriteString(".\n")
			continue
		}
		b.WriteString("| resource | looks at | properties | is, has |\n|---|---|---|---|\n")
		for _, n := range g.names {
			names := strings.Split(n.name, "/")
			for _, name := range names {
				if !set.Has(name) {
					t.Fatalf("resources.txt: there is no resource %s", name)
				}
				seen[name] = true
			}
			properties, is := split2(set.Methods(names[0]))
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", strings.Join(names, "`, `"), n.words, properties, is)
		}
	}
	for _, name := range set.Names() {
		if !seen[name] {
			t.Errorf("resources.txt has no words for %s", name)
		}
	}
	return b.String()
}

// split2 parts a resource's methods into properties and matchers.
func split2(methods []string, open bool) (properties, is string) {
	var p, m []string
	table := slices.Contains(methods, "where")
	for _, name := range methods {
		switch base, asks := strings.CutSuffix(name, "?"); {
		case name == "[]", name == "where", table && slices.Contains([]string{"count", "entries", "raw_data", "exist?"}, name):
		case !asks:
			p = append(p, "`"+name+"`")
		case base == "exist" || base == "exists":
			m = append(m, "`exist`")
		case strings.HasPrefix(base, "has_"):
			m = append(m, "`have_"+strings.TrimPrefix(base, "has_")+"`")
		default:
			m = append(m, "`be_"+base+"`")
		}
	}
	if open {
		p = append(p, "any key")
	}
	if table {
		p = append(p, "`where`, `count`, `entries`")
	}
	slices.Sort(m)
	return strings.Join(p, ", "), strings.Join(slices.Compact(m), ", ")
}

func matchersPage(t *testing.T) string {
	var kit matcher.Kit
	also := map[string][]string{}
	known := map[string]bool{}
	for _, name := range kit.Names() {
		if of, ok := kit.AliasOf(name); ok {
			also[of] = append(also[of], "`"+name+"`")
		} else {
			known[name] = true
		}
	}
	all, err := groups(matcherWords)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Matchers\n\n" + made + `What a control can ask: ` + "`it { should MATCHER }`, `its('…') { should_not MATCHER }`, `expect(…).to MATCHER`" + `.
Beside these there are a resource's own, ` + "`be_…` and `have_…`" + ` ([resources](resources.md)), for any
question that an object answers, and those that a profile defines. Matchers are joined by ` + "`.and` and `.or`" + `.
`)
	for _, g := range all {
		fmt.Fprintf(&b, "\n## %s\n\n| matcher | passes when | as part of another, also |\n|---|---|---|\n", g.title)
		for _, n := range g.names {
			names := strings.Split(n.name, "/")
			var other []string
			for _, name := range names {
				if !known[name] {
					t.Fatalf("matchers.txt: there is no matcher %s", name)
				}
				delete(known, name)
				other = append(other, also[name]...)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.Join(names, "`, `"), n.words, strings.Join(other, ", "))
		}
	}
	for name := range known {
		t.Errorf("matchers.txt has no words for %s", name)
	}
	return b.String()
}

var viewPath = regexp.MustCompile(`mux\.Handle\("GET (/[^"]*)", h\.(?:view|docs)\(`)

func viewsPage(t *testing.T) string {
	source, err := os.ReadFile(filepath.Join(root, "web", "web.go"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, m := range viewPath.FindAllStringSubmatch(string(source), -1) {
		there[strings.Replace(m[1], "{$}", "", 1)] = true
	}
	all, err := groups(viewWords)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# The page\n\n" + made + `The views of a hub's page, at its port 8443. What each shows, and which buttons it has, is as much as
[the caller's role](../access.md#the-api) may know and do; ` + "`reeve login`" + ` prints a link that lets a browser in.
`)
	for _, g := range all {
		fmt.Fprintf(&b, "\n## %s\n\n| address | shows |\n|---|---|\n", g.title)
		for _, v := range g.names {
			if !there[v.name] {
				t.Errorf("views.txt: the page has no %s", v.name)
			}
			delete(there, v.name)
			fmt.Fprintf(&b, "| `%s` | %s |\n", v.name, v.words)
		}
	}
	for path := range there {
		t.Errorf("views.txt has no words for %s", path)
	}
	return b.String()
}
