// Package storetest is the suite that every dialect of the store passes.
package storetest

import (
	"testing"

	"reeve.dev/reeve/store"
)

// Run runs the suite. Each call of open gives a store on an empty database,
// closed when its test ends.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	t.Run("agents", func(t *testing.T) { agents(t, open(t)) })
	t.Run("tokens", func(t *testing.T) { tokens(t, open(t)) })
	t.Run("revocations", func(t *testing.T) { revocations(t, open(t)) })
	t.Run("profiles", func(t *testing.T) { profiles(t, open(t)) })
	t.Run("full catalogue", func(t *testing.T) { fullCatalogue(t, open(t)) })
	t.Run("thresholds", func(t *testing.T) { thresholds(t, open(t)) })
	t.Run("audit", func(t *testing.T) { auditLog(t, open) })
	t.Run("recordings", func(t *testing.T) { recordings(t, open(t)) })
	t.Run("duties", func(t *testing.T) { sharesDuties(t, open(t)) })
	t.Run("old alerts", func(t *testing.T) { forgetsAlerts(t, open(t)) })
	t.Run("pauses of sinks that are no more", func(t *testing.T) { forgetsPauses(t, open(t)) })
	t.Run("replicas", func(t *testing.T) { replicas(t, open(t)) })
	for name, test := range scanTests {
		t.Run("scans/"+name, func(t *testing.T) { test(t, open(t)) })
	}
	for name, test := range eventTests {
		t.Run("events/"+name, func(t *testing.T) { test(t, open(t)) })
	}
	for name, test := range scheduleTests {
		t.Run("schedules/"+name, func(t *testing.T) { test(t, open(t)) })
	}
	for name, test := range policyTests {
		t.Run("policies/"+name, func(t *testing.T) { test(t, open(t)) })
	}
	for name, test := range githubTests {
		t.Run("github/"+name, func(t *testing.T) { test(t, open(t)) })
	}
	t.Run("alerts", func(t *testing.T) { testAlerts(t, open) })
	t.Run("alert runs", func(t *testing.T) { testAlertRuns(t, open) })
	t.Run("insights", func(t *testing.T) { testInsights(t, open) })
	t.Run("exports", func(t *testing.T) { exports(t, open(t)) })
	t.Run("workloads", func(t *testing.T) { workloads(t, open(t)) })
	for name, test := range inventoryTests {
		t.Run("inventory/"+name, func(t *testing.T) { test(t, open(t)) })
	}
	t.Run("vulnerabilities", func(t *testing.T) { vulnerabilities(t, open(t)) })
}
