package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

func TestStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counted int
		var broken error
		s := &stock{count: func(context.Context) (map[scan.Status]store.Waiting, error) {
			counted++
			return map[scan.Status]store.Waiting{scan.Queued: {Scans: counted, Oldest: time.Now().Add(-time.Minute)}, scan.Running: {}}, broken
		}}
		reg := prometheus.NewRegistry()
		reg.MustRegister(s)
		gather := func() map[string]float64 {
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, f := range families {
				for _, m := range f.Metric {
					got[f.GetName()+" "+m.Label[0].GetValue()] = m.Gauge.GetValue()
				}
			}
			return got
		}
		want := map[string]float64{"reeve_hub_scans queued": 1, "reeve_hub_scans running": 0, "reeve_hub_scans_oldest_seconds queued": 60, "reeve_hub_scans_oldest_seconds running": 0}
		for range 2 { // the second is told what was counted for the first
			if diff := cmp.Diff(want, gather()); diff != "" {
				t.Error(diff)
			}
		}
		time.Sleep(stockFor)
		if got := gather()["reeve_hub_scans queued"]; got != 2 {
			t.Errorf("%v after a while", got)
		}
		time.Sleep(stockFor)
		broken = errors.New("away")
		if got := gather(); len(got) > 0 {
			t.Errorf("a database that is away: %v", got)
		}
	})
}
