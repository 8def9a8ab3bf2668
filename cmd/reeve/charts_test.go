package main

import (
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/hub"
)

var updateSchemas = flag.Bool("update-schemas", false, "write the configuration's part of the charts' schemas anew")

// The charts know each key of the configuration: helm refuses one that the
// program would refuse when it starts.
func TestChartSchemas(t *testing.T) {
	for chart, config := range map[string]any{"reeve-hub": hub.Config{}, "reeve-agent": agent.Config{}} {
		path := filepath.Join("..", "..", "deploy", "charts", chart, "values.schema.json")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const mark = "\n  \"definitions\": "
		before, _, ok := strings.Cut(string(text), mark)
		if !ok {
			t.Fatalf("%s has no definitions", path)
		}
		defs := definitions{}
		defs["config"] = defs.of(reflect.TypeOf(config))
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(defs)) {
			line, err := json.Marshal(defs[name])
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("    %q: %s", name, line))
		}
		want := before + mark + "{\n" + strings.Join(lines, ",\n") + "\n  }\n}\n"
		if *updateSchemas {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if diff := cmp.Diff(want, string(text)); diff != "" {
			t.Errorf("%s is stale (go test ./cmd/reeve -run TestChartSchemas -update-schemas): %s", path, diff)
		}
	}
}

// definitions are JSON schemas by the types that they are of.
type definitions map[string]any

// of is the schema of what package config reads into a t.
func (d definitions) of(t reflect.Type) any {
	switch p := reflect.PointerTo(t); {
	case t == reflect.TypeFor[time.Duration]():
		return map[string]any{"type": []string{"string", "integer"}}
	case p.Implements(reflect.TypeFor[yaml.Unmarshaler]()):
		return map[string]any{} // it says itself what it takes
	case p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.of(t.Elem())
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": d.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": d.of(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Interface:
		return map[string]any{}
	case reflect.Struct:
		name := t.String()
		if _, ok := d[name]; !ok {
			d[name] = nil // it may have itself inside
			d[name] = map[string]any{"type": "object", "additionalProperties": false, "properties": d.keys(t)}
		}
		return map[string]any{"$ref": "#/definitions/" + name}
	}
	return map[string]any{"type": "integer"}
}

// keys are the schemas of a struct's fields, by their keys in YAML.
func (d definitions) keys(t reflect.Type) map[string]any {
	keys := map[string]any{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			for k, v := range d.keys(f.Type) {
				keys[k] = v
			}
		case f.IsExported() && name != "-":
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			keys[name] = d.of(f.Type)
		}
	}
	return keys
}
