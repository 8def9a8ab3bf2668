package format_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hdf/format"
	"reeve.dev/reeve/hdf/hdftest"
)

// FuzzWrite writes whatever can be read as results in every format: the
// outcome is a document of that format.
func FuzzWrite(f *testing.F) {
	// Small ones: large ones are minimized for longer than they are fuzzed.
	f.Add([]byte(`{"version":"1","profiles":[]}`))
	f.Add([]byte(`{"version":"1","profiles":[{"name":"p","status":"skipped"},{"name":"q","controls":[{"id":"</a>","impact":1,"title":"=\u0000","descriptions":[{"label":"check","data":"]]>"}],"results":[{"status":"failed","backtrace":["x"]}]}]}]}`))
	f.Add([]byte(`{"version":"1","profiles":[{"name":"a","parent_profile":"a","controls":[{"id":"","impact":-1e300,"tags":{"nist":[1,null],"severity":3},"waiver_data":{"skipped_due_to_waiver":{}},"results":[{"run_time":1e300,"start_time":"9999-12-31T23:59:59Z"}]}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := hdf.Decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		r.Seal()
		for _, format := range format.All {
			var b bytes.Buffer
			if err := format.Write(&b, r); err != nil {
				t.Fatalf("%s: %v", format.Name, err)
			}
			if err := wellFormed(format.ContentType, b.Bytes()); err != nil {
				t.Errorf("%s: %v in\n%s", format.Name, err, b.Bytes())
			}
		}
	})
}

func TestWrite(t *testing.T) {
	for _, f := range format.All {
		for name, r := range map[string]*hdf.Results{"sample": hdftest.Sample(), "hostile": hdftest.Hostile()} {
			var b bytes.Buffer
			if err := f.Write(&b, r); err != nil {
				t.Fatalf("%s of %s: %v", f.Name, name, err)
			}
			if err := wellFormed(f.ContentType, b.Bytes()); err != nil {
				t.Errorf("%s of %s: %v", f.Name, name, err)
			}
		}
	}
}

func wellFormed(contentType string, text []byte) error {
	switch {
	case strings.HasSuffix(contentType, "json"):
		var v any
		return json.Unmarshal(text, &v)
	case strings.HasSuffix(contentType, "xml"):
		d := xml.NewDecoder(bytes.NewReader(text))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	case !utf8.Valid(text):
		return errors.New("not UTF-8")
	}
	return nil
}
