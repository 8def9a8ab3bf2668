package pki_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/pki"
)

// Whatever step Init is cut off at, the next Init either does its work or says
// what to remove, and never replaces a CA.
func TestInit_cutOff(t *testing.T) {
	made := []string{"control.pem", "control-key.pem", "jwt-key.pem", "ca.pem", "ca-key.pem"}
	for n, last := range made {
		t.Run("after "+last, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := pki.Init(dir, "first"); err != nil {
				t.Fatal(err)
			}
			for _, lost := range made[n+1:] {
				if err := os.Remove(filepath.Join(dir, lost)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := pki.Init(dir, "second")
			switch last {
			case "ca-key.pem":
				if err == nil || !strings.Contains(err.Error(), "choose another directory") {
					t.Errorf("a CA is replaced: %v", err)
				}
				return
			case "ca.pem":
				if err == nil || !strings.Contains(err.Error(), "remove it and try again") {
					t.Fatalf("got %v", err)
				}
				if err := os.Remove(filepath.Join(dir, last)); err != nil {
					t.Fatal(err)
				}
				_, err = pki.Init(dir, "second")
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pki.LoadCA(dir); err != nil {
				t.Error(err)
			}
		})
	}
}
