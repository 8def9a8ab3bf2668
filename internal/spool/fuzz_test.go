package spool_test

import (
	"os"
	"path/filepath"
	"testing"

	"reeve.dev/reeve/internal/spool"
)

// FuzzOpen has a spool find any file in its folder: it is delivered as it is, or
// is among the rejected ones, and the others go on.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("{\"id\":\"a\",\"kind\":\"test\",\"stored\":\"2026-01-02T03:04:05Z\"}\ndocument"), "7")
	f.Add([]byte("{\"id\":\"a\"}\n"), "0")
	f.Add([]byte("{"), "nonsense")
	f.Add([]byte(nil), "18446744073709551615")
	f.Fuzz(func(t *testing.T, content []byte, way string) {
		dir := t.TempDir()
		name := filepath.Join(dir, "00000000000000000007.item")
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "way-hub"), []byte(way), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := spool.Open(dir, spool.Config{Ways: []string{"hub"}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if st := s.Stats(); st.Items+st.Rejected > 1 {
			t.Errorf("one file became %+v", st)
		}
		for _, it := range s.List() {
			data, unmap, err := it.Map()
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(data)) != it.Size || string(content[int64(len(content))-it.Size:]) != string(data) {
				t.Errorf("%q is delivered of %q", data, content)
			}
			unmap()
		}
		put(t, s, "another", "one")
		if st := s.Waiting("hub"); st.Items == 0 {
			t.Error("what is put after it isn't delivered")
		}
	})
}
