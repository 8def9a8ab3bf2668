package crd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

func TestPack(t *testing.T) {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "mine"},
		Data: map[string]string{
			"web.rb": "control 'a'", "controls__more.rb": "control 'b'", "libraries__x.rb": "class X", "files__a.json": "{}",
			"inspec.yml": "name: whatever\nversion: 9.9.9\nsupports: [{platform: linux}]\n",
		},
	}
	archive, err := Pack(cm, "agent_edge_")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Pack(cm, "agent_edge_")
	if err != nil || !bytes.Equal(archive, again) {
		t.Errorf("the same content makes another archive, or none: %v", err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
	var meta map[string]any
	if err := yaml.Unmarshal([]byte(files["inspec.yml"]), &meta); err != nil {
		t.Fatal(err)
	}
	version, _ := meta["version"].(string)
	delete(files, "inspec.yml")
	if diff := cmp.Diff(map[string]string{"controls/web.rb": "control 'a'", "controls/more.rb": "control 'b'", "libraries/x.rb": "class X", "files/a.json": "{}"}, files); diff != "" {
		t.Error(diff)
	}
	if meta["name"] != "agent_edge_shop_mine" || !strings.HasPrefix(version, "1.0.0+") || meta["supports"] == nil {
		t.Errorf("inspec.yml %v", meta)
	}
	cm.Data["web.rb"] = "control 'c'"
	if other, err := Pack(cm, "agent_edge_"); err != nil || bytes.Equal(archive, other) {
		t.Errorf("another content: %v", err)
	}
	for name, data := range map[string]map[string]string{"no controls": {"inspec.yml": "title: x"}, "no YAML": {"a.rb": "", "inspec.yml": "{"}, "a file twice": {"a.rb": "1", "controls__a.rb": "2"}} {
		cm.Data = data
		if _, err := Pack(cm, ""); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
}

func TestScanStatus_show(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 5, time.UTC)
	stamp := &metav1.Time{Time: at.Truncate(time.Second)}
	var st ScanStatus
	conditions := func() map[string]string {
		out := map[string]string{}
		for _, c := range st.Conditions {
			out[c.Type] = string(c.Status) + " " + c.Reason
		}
		return out
	}
	st.show(State{ID: "1", Status: "queued", Reason: "the agent is busy"}, 1)
	if diff := cmp.Diff(map[string]string{"Accepted": "True Asked", "Finished": "False Queued"}, conditions()); diff != "" {
		t.Error(diff)
	}
	st.show(State{ID: "1", Status: "completed", Outcome: "failed", Method: "exec", Controls: Controls{Passed: 3, Failed: 2}, Findings: []string{"too few"}, Started: at, Finished: at, Final: true}, 1)
	want := ScanStatus{
		ObservedGeneration: 1, ScanID: "1", Phase: "Completed", Outcome: "failed", Method: "exec",
		Controls: &Controls{Passed: 3, Failed: 2}, Findings: []string{"too few"}, StartedAt: stamp, FinishedAt: stamp,
	}
	if diff := cmp.Diff(want, st, cmpopts.IgnoreFields(ScanStatus{}, "Conditions")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"Accepted": "True Asked", "Finished": "True Completed", "Passed": "False Failed"}, conditions()); diff != "" {
		t.Error(diff)
	}
	st = ScanStatus{}
	st.show(State{Status: "error", Reason: "no such profile", Final: true}, 1)
	if diff := cmp.Diff(map[string]string{"Accepted": "False Refused", "Finished": "True Error"}, conditions()); diff != "" {
		t.Error(diff)
	}
}

// TestDefinitions holds the definitions in deploy/crds against the Go types: the
// API server drops what a definition doesn't have.
func TestDefinitions(t *testing.T) {
	for file, kind := range map[string]any{"scans.yaml": Scan{}, "scanpolicies.yaml": ScanPolicy{}} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "crds", file))
		if err != nil {
			t.Fatal(err)
		}
		var definition struct {
			Spec struct {
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema struct {
							Properties map[string]struct{ Properties map[string]any }
						}
					}
				}
			}
		}
		if err := yaml.Unmarshal(text, &definition); err != nil {
			t.Fatal(err)
		}
		version := definition.Spec.Versions[0]
		if version.Name != GroupVersion.Version {
			t.Errorf("%s: version %s", file, version.Name)
		}
		for part, schema := range version.Schema.OpenAPIV3Schema.Properties {
			want, got := map[string]bool{}, map[string]bool{}
			field, _ := reflect.TypeOf(kind).FieldByName(strings.ToUpper(part[:1]) + part[1:])
			members(field.Type, want)
			for name := range schema.Properties {
				got[name] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s of the type (-) and the definition (+): %s", file, part, diff)
			}
		}
	}
}

func members(t reflect.Type, into map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			members(f.Type, into)
			continue
		}
		into[name] = true
	}
}

func TestScan_JSON(t *testing.T) {
	const text = `{"metadata":{"name":"a"},"spec":{"target":{"pod":"p","container":"c"},"profile":{"name":"base"},"inputs":{"n":1}}}`
	var s Scan
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(s.DeepCopyObject())
	if err != nil || string(out) != text {
		t.Errorf("%s, %v", out, err)
	}
}

// TestRoom: what is too much for the hub is refused, and keeps out nothing else.
func TestRoom(t *testing.T) {
	r := room{policies: 3, bytes: 100 << 10}
	of := func(size int) Policy {
		return Policy{Spec: ScanPolicySpec{Run: Run{Inputs: json.RawMessage(`"` + strings.Repeat("x", size) + `"`)}}}
	}
	for i, tt := range []struct {
		size  int
		taken bool
	}{{60 << 10, true}, {65 << 10, false}, {50 << 10, false}, {10, true}, {20, true}, {10, false}} {
		if err := r.take(of(tt.size)); (err == nil) != tt.taken {
			t.Errorf("policy %d: %v", i, err)
		}
	}
}

// hubFunc is a hub that knows of some scans.
type hubFunc struct {
	Hub
	open      func() (map[string]string, error)
	withdrawn []string
}

func (h *hubFunc) Open(context.Context) (map[string]string, error) { return h.open() }

func (h *hubFunc) Withdraw(_ context.Context, id string) error {
	h.withdrawn = append(h.withdrawn, id)
	if id == "over" {
		return errGone
	}
	return nil
}

var errGone = errors.New("gone")

// TestController_withdraw: a scan ends whose object is gone, and only such a one:
// also not one whose object came while the hub was asked, or that another process
// saw first.
func TestController_withdraw(t *testing.T) {
	there := map[string]bool{"old": true}
	hub := &hubFunc{open: func() (map[string]string, error) {
		there["new"] = true
		return map[string]string{"old": "1", "new": "2", "another's": "5", "deleted": "3", "finished": "over"}, nil
	}}
	c := &Controller{cfg: Config{Hub: hub, Gone: func(err error) bool { return errors.Is(err, errGone) }, Logger: slog.New(slog.DiscardHandler)}}
	watched := func() map[string]bool { return there }
	listed := func(context.Context) (map[string]bool, error) { return map[string]bool{"another's": true}, nil }
	away := func(context.Context) (map[string]bool, error) { return nil, errors.New("the API server is away") }
	if err := c.withdraw(t.Context(), watched, away); err == nil || len(hub.withdrawn) > 0 {
		t.Errorf("while the API server is away: withdrawn %v, %v", hub.withdrawn, err)
	}
	if err := c.withdraw(t.Context(), watched, listed); err != nil {
		t.Error(err)
	}
	slices.Sort(hub.withdrawn)
	if d := cmp.Diff([]string{"3", "over"}, hub.withdrawn); d != "" {
		t.Errorf("withdrawn (-want +got):\n%s", d)
	}
	hub.open = func() (map[string]string, error) { return nil, errors.New("the hub is away") }
	if err := c.withdraw(t.Context(), watched, listed); err == nil {
		t.Error("no error of a hub that is away")
	}
}

// TestController_scans: all that the API server has are known, page by page.
func TestController_scans(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list := ScanList{TypeMeta: metav1.TypeMeta{APIVersion: GroupVersion.String(), Kind: "ScanList"}}
		q := r.URL.Query()
		switch {
		case r.URL.Path != "/apis/reeve.dev/v1alpha1/scans" || q.Get("limit") == "":
			http.Error(w, r.URL.String(), http.StatusNotFound)
			return
		case q.Get("continue") == "":
			list.Continue, list.Items = "more", []Scan{{ObjectMeta: metav1.ObjectMeta{UID: "a"}}}
		case q.Get("continue") == "more":
			list.Items = []Scan{{ObjectMeta: metav1.ObjectMeta{UID: "b"}}}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(list)
	}))
	defer server.Close()
	c, err := New(&rest.Config{Host: server.URL}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	there, err := c.scans(t.Context())
	if d := cmp.Diff(map[string]bool{"a": true, "b": true}, there); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	server.Close()
	if _, err := c.scans(t.Context()); err == nil {
		t.Error("no error of an API server that is away")
	}
}
