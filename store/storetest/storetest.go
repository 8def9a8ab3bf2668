// Package storetest is the suite that every dialect of the store passes.
package storetest

import (
	"testing"

	"reeve.dev/reeve/store"
)

// Run runs the suite. Each call of open gives a store on an empty database,
// closed when its test ends.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	t.Run("opens", func(t *testing.T) {
		if err := open(t).Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("alerts", func(t *testing.T) { testAlerts(t, open) })
}
