package store

import "testing"

func TestDialect_rebind(t *testing.T) {
	const q = "SELECT a FROM b WHERE c = ? AND d IN (?, ?) LIMIT 1"
	if got := (Dialect{}).rebind(q); got != q {
		t.Errorf("plain: %q", got)
	}
	want := "SELECT a FROM b WHERE c = $1 AND d IN ($2, $3) LIMIT 1"
	if got := (Dialect{Numbered: true}).rebind(q); got != want {
		t.Errorf("numbered: %q, want %q", got, want)
	}
}
