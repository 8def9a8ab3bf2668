// Package config reads a program's configuration: one strict YAML file, then
// the environment over it.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Load fills into, a pointer to a struct with yaml tags that holds the
// defaults, from the YAML file at path (none when path is empty) and then
// from the environment: the key scan.leaseFor is PREFIX_SCAN_LEASE_FOR there.
// A variable's value is text for a string and YAML for anything else; for a
// list of strings, commas will do.
//
// A key that into doesn't have, a key that is there twice and a value of the
// wrong type are errors that name the file, the line and the key.
func Load(path, prefix string, into any) error {
	if path != "" {
		if err := loadFile(path, into); err != nil {
			return err
		}
	}
	return loadEnv(prefix, reflect.ValueOf(into).Elem())
}

func loadFile(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if len(data) > maxFile {
		return fmt.Errorf("configuration %s: more than %d bytes", path, maxFile)
	}
	return Parse(path, data, into)
}

// Parse fills into, as Load does, from YAML that name calls in errors.
func Parse(name string, data []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return explain(name, err, reflect.TypeOf(into).Elem())
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration %s: it must be one YAML document; a second one follows", name)
	}
	return nil
}

var unknownField = regexp.MustCompile(`^line (\d+): field (.+) not found in type .*$`)

// explain turns the YAML decoder's words into those of this package.
func explain(path string, err error, t reflect.Type) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return fmt.Errorf("configuration %s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	lines := make([]string, len(te.Errors))
	for i, e := range te.Errors {
		lines[i] = fmt.Sprintf("configuration %s: %s", path, e)
		if m := unknownField.FindStringSubmatch(e); m != nil {
			lines[i] = fmt.Sprintf("configuration %s: line %s: unknown key %q", path, m[1], m[2])
			if near := nearest(m[2], keys(t)); near != "" {
				lines[i] += fmt.Sprintf("; did you mean %q?", near)
			}
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

func loadEnv(prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		key, opts, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if strings.Contains(opts, "inline") {
			if err := loadEnv(prefix, value); err != nil {
				return err
			}
			continue
		}
		if key == "" || key == "-" {
			continue
		}
		name := Variable(prefix, key)
		if value.Kind() == reflect.Struct {
			if err := loadEnv(name, value); err != nil {
				return err
			}
		}
		text, ok := os.LookupEnv(name)
		if !ok {
			continue
		}
		if err := set(value, text); err != nil {
			return fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return nil
}

func set(v reflect.Value, text string) error {
	if v.Kind() == reflect.String {
		v.SetString(text)
		return nil
	}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String && !strings.HasPrefix(strings.TrimSpace(text), "[") {
		v.SetZero()
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				v.Set(reflect.Append(v, reflect.ValueOf(part).Convert(v.Type().Elem())))
			}
		}
		return nil
	}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	fresh := reflect.New(v.Type())
	// The value itself isn't repeated: it may hold what should not be logged.
	if err := d.Decode(fresh.Interface()); err != nil {
		return fmt.Errorf("its value is not a %s in YAML", v.Type())
	}
	v.Set(fresh.Elem())
	return nil
}

// Variable is a key's name in the environment: with the prefix REEVE_HUB that of
// scan.leaseFor is REEVE_HUB_SCAN_LEASE_FOR.
func Variable(prefix, key string) string {
	for part := range strings.SplitSeq(key, ".") {
		prefix += "_" + screamingSnake(part)
	}
	return prefix
}

// screamingSnake writes a camelCase key as an environment name's part:
// publicURL is PUBLIC_URL, leaseFor LEASE_FOR.
func screamingSnake(key string) string {
	var b strings.Builder
	runes := []rune(key)
	for i, r := range runes {
		startsWord := unicode.IsUpper(r) && i > 0 &&
			(!unicode.IsUpper(runes[i-1]) || (i+1 < len(runes) && unicode.IsLower(runes[i+1])))
		if startsWord {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// keys are all keys below t, at every depth.
func keys(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return keys(t.Elem())
	case reflect.Struct:
	default:
		return nil
	}
	var all []string
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if key != "" && key != "-" {
			all = append(all, key)
		}
		all = append(all, keys(t.Field(i).Type)...)
	}
	return all
}

// nearest is the known key that is at most two edits away, if there is one.
func nearest(key string, known []string) string {
	best, dist := "", 3
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := edits(strings.ToLower(key), strings.ToLower(k)); d < dist {
			best, dist = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance of a and b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
