package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	yamljson "sigs.k8s.io/yaml"

	"reeve.dev/reeve/alert/cloudevent"
	"reeve.dev/reeve/event"
)

// names is what there is, as the reference has it.
type names struct {
	commands  map[string]map[string]bool // flags of each, by its path
	anywhere  map[string]bool            // flags of any
	keys      map[string]bool            // of hub, agent and charts, with what holds them
	tops      map[string]bool            // first members of keys
	metrics   map[string]bool
	requests  map[string]bool // METHOD /path with {} for parameters
	variables map[string]bool
}

var (
	flagWord  = regexp.MustCompile("`[^`]*?(--[a-z][a-z0-9-]*)[^`]*?`")
	shortWord = regexp.MustCompile("^\\| `-([a-zA-Z]), ")
	keyWord   = regexp.MustCompile(`^[a-z][A-Za-z0-9]*(\[\])?(\.[a-z][A-Za-z0-9]*(\[\])?)+$`)
	variable  = regexp.MustCompile(`\bREEVE_[A-Z0-9_]*[A-Z0-9]\b`)
	choice    = regexp.MustCompile(`[a-z]Env: "?(REEVE_[A-Z0-9_]+)`)
	request   = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) (/\S+?)(\?\S*)?$`)
	parameter = regexp.MustCompile(`\{[^}]*\}`)
	metricRow = regexp.MustCompile("^\\| `(reeve_[a-z0-9_]+)`")
	settingOf = regexp.MustCompile("^\\| `([^`]+)`")
)

func readNames(t *testing.T) *names {
	t.Helper()
	n := &names{map[string]map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	page := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, "docs", "reference", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	commands := page("commands.md")
	command := "reeve"
	for line := range strings.Lines(commands) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			command = strings.TrimSpace(title)
			if !strings.HasPrefix(command, "reeve ") {
				command = "reeve" // what it says is for all
			}
		}
		if n.commands[command] == nil {
			n.commands[command] = map[string]bool{"--help": true, "-h": true}
		}
		if m := flagWord.FindStringSubmatch(line); m != nil && strings.HasPrefix(line, "| `-") {
			n.commands[command][m[1]], n.anywhere[m[1]] = true, true
			if short := shortWord.FindStringSubmatch(line); short != nil {
				n.commands[command]["-"+short[1]] = true
			}
		}
		for _, v := range variable.FindAllString(line, -1) {
			n.variables[v] = true
		}
	}
	n.anywhere["--help"], n.anywhere["--version"] = true, true
	n.commands["reeve"]["--version"] = true
	for _, c := range configurations(t) {
		for _, s := range c.settings {
			n.key(s.key)
		}
	}
	for line := range strings.Lines(page("configuration.md")) {
		for _, v := range variable.FindAllString(line, -1) {
			n.variables[v] = true
		}
	}
	for line := range strings.Lines(page("metrics.md")) {
		if m := metricRow.FindStringSubmatch(line); m != nil {
			n.metrics[m[1]] = true
		}
	}
	for path, methods := range readDescription(t).Paths {
		for method := range methods {
			n.requests[strings.ToUpper(method)+" "+parameter.ReplaceAllString(path, "{}")] = true
		}
	}
	for _, chart := range []string{"reeve-hub", "reeve-agent"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy", "charts", chart, "values.schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		var s schema
		if err := yamljson.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		n.members(&s, "")
	}
	for line := range strings.Lines(page("crds.md")) {
		if m := settingOf.FindStringSubmatch(line); m != nil {
			n.key(m[1])
		}
	}
	return n
}

// key adds one, with what it is in.
func (n *names) key(key string) {
	n.tops[strings.TrimSuffix(strings.Split(key, ".")[0], "[]")] = true
	for key != "" {
		n.keys[strings.ReplaceAll(key, "[]", "")] = true
		i := strings.LastIndex(key, ".")
		key = key[:max(i, 0)]
	}
}

func (n *names) members(s *schema, prefix string) {
	for name, m := range s.Properties {
		n.key(prefix + name)
		n.members(m, prefix+name+".")
		if m.Items != nil {
			n.members(m.Items, prefix+name+".")
		}
	}
}

// eventTypes look like keys.
var eventTypes = []string{event.ContainerDeployed, event.ImagePublished, event.ScanScheduled, cloudevent.ScanCompleted, cloudevent.ScanError, cloudevent.ScanCancelled, cloudevent.CheckCompleted}

// elsewhereRequests are those of other programs' doors than the hub's API, and
// Birger's, which its clients know.
var elsewhereRequests = regexp.MustCompile(`^(/api/v1/(generate|get)[A-Z]|/v[12]/|/agent/v1/|/facts|/problems|/sboms|/images|/healthz|/readyz|/metrics|/github/webhooks/|/login|/docs|/openapi)`)

// wrong is what a span of code says that isn't so.
func (n *names) wrong(span string) string {
	span = strings.TrimSpace(span)
	for _, v := range variable.FindAllString(span, -1) {
		if !n.variables[v] && !strings.HasPrefix(v, "REEVE_TEST_") {
			return "there is no variable " + v
		}
	}
	words := strings.Fields(span)
	switch {
	case len(words) == 0:
	case words[0] == "reeve" && len(words) > 1:
		command := "reeve"
		rest := words[1:]
		for len(rest) > 0 && n.commands[command+" "+rest[0]] != nil {
			command, rest = command+" "+rest[0], rest[1:]
		}
		if command == "reeve" && !strings.HasPrefix(rest[0], "-") && rest[0] != "help" && rest[0] == strings.ToLower(rest[0]) {
			return "there is no command reeve " + rest[0]
		}
		for _, w := range rest {
			name, _, _ := strings.Cut(w, "=")
			name = strings.Trim(name, "[]")
			if w == "--" || w == "|" || w == ">" {
				break
			}
			if strings.HasPrefix(name, "-") && !n.commands[command][name] && !n.commands["reeve"][name] {
				return command + " has no flag " + name
			}
		}
	case strings.HasPrefix(span, "--"):
		if name, _, _ := strings.Cut(words[0], "="); !n.anywhere[name] {
			return "no command has a flag " + name
		}
	case strings.HasPrefix(span, "reeve_") && !strings.Contains(span, " "):
		name, _, _ := strings.Cut(span, "{")
		if prefix, cut := strings.CutSuffix(strings.TrimSuffix(name, "…"), "_"); cut || strings.HasSuffix(name, "…") {
			if !slices.ContainsFunc(keysOf(n.metrics), func(m string) bool { return strings.HasPrefix(m, prefix) }) {
				return "no metric begins with " + prefix
			}
		} else if !n.metrics[name] && strings.ToLower(name) == name && !regexp.MustCompile(`_(bucket|sum|count)$`).MatchString(name) {
			return "there is no metric " + name
		}
	case request.MatchString(span):
		m := request.FindStringSubmatch(span)
		path := strings.TrimSuffix(m[2], "…")
		if elsewhereRequests.MatchString(path) || n.is(m[1], path) || n.is(m[1], "/api/v1"+path) {
			return ""
		}
		return "the API has no " + m[1] + " " + path
	case keyWord.MatchString(span):
		key := strings.ReplaceAll(span, "[]", "")
		isFile := slices.Contains([]string{".yaml", ".json", ".pem"}, filepath.Ext(key))
		known := n.keys[key] || slices.ContainsFunc(keysOf(n.keys), func(k string) bool { return strings.HasSuffix(k, "."+key) })
		if top, _, _ := strings.Cut(key, "."); n.tops[top] && !known && !isFile && !slices.Contains(eventTypes, key) {
			return "there is no key " + span
		}
	}
	return ""
}

// is reports whether there is such a request, whatever its parameters are
// called.
func (n *names) is(method, path string) bool {
	parts := strings.Split(path, "/")
	return slices.ContainsFunc(keysOf(n.requests), func(r string) bool {
		of, known, _ := strings.Cut(r, " ")
		return of == method && slices.EqualFunc(strings.Split(known, "/"), parts, func(a, b string) bool {
			return a == b || a == "{}" && b != ""
		})
	})
}

func keysOf(m map[string]bool) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// Documents name nothing that there isn't.
func TestNames(t *testing.T) {
	n := readNames(t)
	for _, d := range documents(t) {
		if d.made() || d.Path == "docs/decisions.md" {
			continue
		}
		for _, c := range d.Code {
			if wrong := n.wrong(c.Text); wrong != "" {
				t.Errorf("%s:%d: `%s`: %s", d.Path, c.Line, c.Text, wrong)
			}
		}
		chosen := map[string]bool{} // by what the document configures
		for _, b := range d.Blocks {
			for _, m := range choice.FindAllStringSubmatch(b.Text, -1) {
				chosen[m[1]] = true
			}
		}
		for _, b := range d.Blocks {
			for _, v := range variable.FindAllString(b.Text, -1) {
				if !n.variables[v] && !chosen[v] {
					t.Errorf("%s:%d: there is no variable %s", d.Path, b.Line, v)
				}
			}
		}
	}
}

func TestNames_wrong(t *testing.T) {
	n := readNames(t)
	for span, want := range map[string]string{
		"reeve scan --json":           "reeve scan has no flag --json",
		"reeve scan --profile P":      "",
		"reeve get agents -o wide":    "",
		"reeve scna":                  "there is no command reeve scna",
		"--profil":                    "no command has a flag --profil",
		"kubectl --as":                "",
		"reeve_hub_linkz":             "there is no metric reeve_hub_linkz",
		"reeve_hub_…":                 "",
		"POST /api/v1/scan":           "the API has no POST /api/v1/scan",
		"GET /api/v1/scans/ID":        "",
		"POST /scans":                 "",
		"scan.leasFor":                "there is no key scan.leasFor",
		"scan.leaseFor":               "",
		"services[].credentials.type": "",
		"REEVE_HUBB":                  "there is no variable REEVE_HUBB",
		"REEVE_HUB_SCAN_LEASE_FOR":    "",
	} {
		if got := n.wrong(span); got != want {
			t.Errorf("%s: %q, want %q", span, got, want)
		}
	}
}
