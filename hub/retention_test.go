package hub_test

import (
	"net/http"
	"testing"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/tunnel"
)

// TestHub_retention: what the configuration doesn't keep is gone when the hub
// has looked, as it does at its start.
func TestHub_retention(t *testing.T) {
	cfg := config(t)
	cfg.Retention.Scans.PerTarget = 1
	h := start(t, cfg)
	e := h.enrolled(t, "east")
	a := newAgent(t, h.dial(t, e, tunnel.WebSocket), http.NotFoundHandler())
	a.register(t, "east", "i1", nil)
	var scans [2]scanAnswer
	for i := range scans {
		h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &scans[i])
		job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Passed)); err != nil {
			t.Fatal(err)
		}
	}
	h.stop()
	h = start(t, cfg)
	until(t, "only the last scan is kept", func() bool {
		var list struct{ Items []scanAnswer }
		h.call(t, "GET", "/api/v1/scans", nil, http.StatusOK, &list)
		return len(list.Items) == 1 && list.Items[0].ID == scans[1].ID
	})
	h.call(t, "GET", "/api/v1/scans/"+scans[0].ID, nil, http.StatusNotFound, nil)
	h.call(t, "GET", "/api/v1/scans/"+scans[1].ID+"/results", nil, http.StatusOK, nil)
}
