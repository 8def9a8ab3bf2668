package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/threshold"
)

// noRoom is a file on a disk that has no room.
type noRoom struct{}

func (noRoom) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestOutput_lost has nothing of what is printed arrive: a script that goes on
// with an empty list must be told.
func TestOutput_lost(t *testing.T) {
	for _, format := range outputFormats {
		var errs strings.Builder
		if code := run(t.Context(), []string{"profile", "list", "-o", format}, nil, noRoom{}, &errs); code != exitBroken {
			t.Errorf("%s: exit code %d: %s", format, code, errs.String())
		}
	}
	var errs strings.Builder
	if code := run(t.Context(), []string{"profile", "list"}, nil, noRoom{}, &errs); code != exitBroken || !strings.Contains(errs.String(), "no space left") {
		t.Errorf("left out: exit code %d: %s", code, errs.String())
	}
}

// TestOutput_control has text in data that would drive a terminal: no format
// passes it on, and programs read what it was.
func TestOutput_control(t *testing.T) {
	type item struct{ Name string }
	hostile := item{"a\x1b]0;x\a\u009b2Jb\x7f\u202ec"}
	raw := json.RawMessage("{\"Name\":\"a\\u001b]0;x\\u0007\u009b2Jb\x7f\u202ec\"}")
	for _, format := range append(outputFormats, "") {
		var out strings.Builder
		err := printOne(&out, &output{format}, raw, table[item]{
			rows: func(w io.Writer, list []item) error { row(w, list[0].Name); return nil },
			name: func(i item) string { return i.Name },
		})
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\a\u009b\x7f") || format != "yaml" && strings.Contains(out.String(), "\u202e") { // which YAML has no need to spell out
			t.Errorf("%q passes on %q", format, out.String())
		}
		var read item
		switch format {
		case "json":
			err = json.Unmarshal([]byte(out.String()), &read)
		case "yaml":
			err = yaml.Unmarshal([]byte(out.String()), &read)
		default:
			continue
		}
		if diff := cmp.Diff(hostile, read); err != nil || diff != "" {
			t.Errorf("%s: %v (-it was +it is read):\n%s", format, err, diff)
		}
	}
}

// A recording that is printed on a terminal doesn't drive it, and is the same to
// who reads it from there.
func TestSpellLines(t *testing.T) {
	var out strings.Builder
	if err := spellLines(&out, strings.NewReader("{\"version\":2}\n[1,\"o\",\"\u009b2J\x7f\u202ea\"]\n[2")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("{\"version\":2}\n[1,\"o\",\"\\u009b2J\\u007f\\u202ea\"]\n[2", out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := spellLines(noRoom{}, strings.NewReader("{}\n")); err == nil {
		t.Error("what can't be written isn't told")
	}
}

// TestClient_redirect has something before the hub send a command elsewhere,
// without TLS: the token stays here.
func TestClient_redirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("it was sent on, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	hub := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(hub.Close)
	fails(t, []string{"get", "agents", "--hub", hub.URL, "--ca", certificate(t, hub)}, []string{"isn't a hub's (307 Temporary Redirect)"})
}

// TestScan_several holds the list of several scans against what one alone
// would say.
func TestScan_several(t *testing.T) {
	met, err := threshold.Find("moderate")
	if err != nil {
		t.Fatal(err)
	}
	none := func(context.Context, string, map[string]any, io.Writer) (*hdf.Results, error) {
		r := &hdf.Results{Profiles: []hdf.Profile{{Name: "p"}}}
		r.Seal()
		return r, nil
	}
	t.Run("no control was run", func(t *testing.T) {
		s := scanCommand{profile: "p", controls: []string{"mistyped"}}
		list, err := s.makeAll(t.Context(), job{engine: none, threshold: met}, []string{"a", "b"}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range list {
			if h.Status != scan.Error || !strings.Contains(h.Reason, "no control that mistyped names") {
				t.Errorf("%+v", h)
			}
		}
		if err := worst(list, true); err == nil {
			t.Error("that is good")
		}
	})
	t.Run("interrupted as one ended", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		last := func(ctx context.Context, uri string, in map[string]any, errs io.Writer) (*hdf.Results, error) {
			stop()
			return none(ctx, uri, in, errs)
		}
		if _, err := new(scanCommand).makeAll(ctx, job{engine: last}, []string{"a", "b"}, io.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
	})
	for name, args := range map[string][]string{
		"here":          {"dir:/nowhere"},
		"through a hub": {"dir:/nowhere", "--hub", "https://nowhere.invalid", "--agent", "a"},
	} {
		t.Run("a list of one "+name, func(t *testing.T) {
			fails(t, append([]string{"scan", "--profile", "container-baseline", "-o", "json"}, args...), []string{"--output is for the list of several scans"})
		})
	}
}
