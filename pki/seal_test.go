package pki

import (
	"bytes"
	"errors"
	"testing"
)

func TestCA_Seal(t *testing.T) {
	ca, err := NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ca.Seal("a", []byte("hush"))
	if err != nil || bytes.Contains(sealed, []byte("hush")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	if got, err := ca.Open("a", sealed); err != nil || string(got) != "hush" {
		t.Errorf("opened %q, %v", got, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"another CA":      func() ([]byte, error) { return other.Open("a", sealed) },
		"another purpose": func() ([]byte, error) { return ca.Open("b", sealed) },
		"cut":             func() ([]byte, error) { return ca.Open("a", sealed[:10]) },
	} {
		if got, err := open(); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
