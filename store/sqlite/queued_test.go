package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"reeve.dev/reeve/scan"
)

func TestStore_Unfinished(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "reeve.db"))
	first := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	for i := range 3 {
		c := newScan()
		c.Created = first.Add(time.Duration(i) * time.Minute)
		if err := s.CreateScan(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Unfinished(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if q, r := got[scan.Queued], got[scan.Running]; q.Scans != 3 || !q.Oldest.Equal(first) || r.Scans != 0 || !r.Oldest.IsZero() {
		t.Errorf("%+v", got)
	}
}
