package web_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// What the form of a schedule sends beside its fields is what the API takes, and
// whose maker may not make it any more runs again, by the rights of who saves it.
func TestSchedule_change(t *testing.T) {
	for name, tc := range map[string]struct {
		was       scan.Schedule
		suspended bool
	}{
		"runs":             {scan.Schedule{}, false},
		"suspended":        {scan.Schedule{Suspended: true}, true},
		"its maker mayn't": {scan.Schedule{Suspended: true, Paused: "token:alice made it: the token has been revoked"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, east())
			c, now := tc.was, time.Now().UTC().Truncate(time.Microsecond)
			c.Name, c.Cron, c.Created = "nightly", "@daily", now
			c.Request = scan.Request{Target: scan.Target{Agent: "east", Namespace: "shop", Pod: "web", Container: "app"}, Profile: "p"}
			if _, err := w.store.SaveSchedule(t.Context(), c, nil); err != nil {
				t.Fatal(err)
			}
			v := w.view(t, pki.Admin, "/schedules/nightly")
			tag, base := v.all("data-match"), v.all("data-base")
			if len(tag) != 1 || len(base) != 1 {
				t.Fatalf("forms of versions %q with %q", tag, base)
			}
			body := map[string]any{}
			if err := json.Unmarshal([]byte(base[0]), &body); err != nil {
				t.Fatal(err)
			}
			body["cron"] = "@hourly"
			body["target"] = map[string]string{"agent": "east", "namespace": "shop", "pod": "web", "container": "app"}
			body["scan"].(map[string]any)["profile"] = "p"
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(t.Context(), "PUT", "/api/v1/schedules/nightly", strings.NewReader(string(text)))
			r.Header.Set("Cookie", "__Host-reeve-session="+w.role[pki.Admin])
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("If-Match", tag[0])
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, r)
			if rec.Code != 200 {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			got, err := scan.NewSchedules(w.queue, w.store, nil).Get(t.Context(), "", "nightly")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]any{"@hourly", tc.suspended, ""}, []any{got.Cron, got.Suspended, got.Paused}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
