package agent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/policy/remedy"
)

// What callers ask of a service never reaches the hooks, whatever its path.
func TestAgent_fromHub(t *testing.T) {
	fwd, err := forward.NewAgent(forward.AgentConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{forward: fwd, remedies: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	for _, tc := range []struct {
		path, service string
		hooks         bool
		want          int
	}{
		{remedy.Path + "deny", "", true, http.StatusTeapot},
		{remedy.Path + "deny", "x-wiki/wiki", true, http.StatusNotFound},
		{"/v1/other", "", true, http.StatusBadRequest},
		{remedy.Path + "deny", "", false, http.StatusNotFound},
	} {
		if !tc.hooks {
			a.remedies = nil
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, tc.path, strings.NewReader("{}"))
		if tc.service != "" {
			r.Header.Set(forward.ServiceHeader, tc.service)
		}
		w := httptest.NewRecorder()
		a.fromHub(w, r)
		if w.Code != tc.want {
			t.Errorf("%+v: %d %s", tc, w.Code, w.Body)
		}
	}
}

func TestConfig_remediation(t *testing.T) {
	cfg := Defaults()
	cfg.Hub.URL = "https://hub:8443"
	hook := remedy.Hook{Name: "deny", Namespaces: []string{"*"}, Label: map[string]string{"a": "b"}}
	cfg.Remediation.Hooks = []remedy.Hook{hook}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.Remediation.Hooks = []remedy.Hook{hook, hook}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "remediation.hooks[1]: deny is there twice") {
		t.Error(err)
	}
	cfg.Remediation.Hooks = []remedy.Hook{{Name: "deny"}}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "remediation.hooks[0]: namespaces") {
		t.Error(err)
	}
}
