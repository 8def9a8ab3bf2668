package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// leaves calls see with each command that does something.
func leaves(cmd *cobra.Command, see func(*cobra.Command)) {
	if cmd.Runnable() && !cmd.HasSubCommands() || cmd.Flags().Lookup("hub") != nil || cmd.Flags().Lookup("config") != nil {
		see(cmd)
	}
	for _, c := range cmd.Commands() {
		leaves(c, see)
	}
}

// without are the commands that have no -o of printed data, and why.
var without = map[string]string{
	"reeve hub":                   "it serves",
	"reeve agent":                 "it serves",
	"reeve insights-remote":       "it serves",
	"reeve demo":                  "a show for people",
	"reeve agent generate-token":  "a token alone",
	"reeve ca init":               "it makes files",
	"reeve ca issue":              "it makes files",
	"reeve man":                   "it makes files",
	"reeve help":                  "it shows help",
	"reeve profile archive":       "an archive",
	"reeve convert":               "a document, in the format of --to",
	"reeve sbom":                  "a document, in formats of its own",
	"reeve threshold generate":    "a document: a threshold",
	"reeve get results":           "a document: HDF",
	"reeve recordings get":        "a document: asciicast",
	"reeve kubeconfig":            "a document: a kubeconfig",
	"reeve kubeconfig credential": "a document: an ExecCredential",
	"reeve alerts replay":         "it says what it did",
	"reeve alerts skip":           "it says what it did",
	"reeve alerts pause":          "it says what it did",
	"reeve alerts resume":         "it says what it did",
	"reeve alerts unsilence":      "it says what it did",
	"reeve ca revoke":             "it says what it did",
	"reeve insights requeue":      "it says what it did",
	"reeve insights discard":      "it says what it did",
	"reeve schedule delete":       "it says what it did",
	"reeve schedule pause":        "it says what it did",
	"reeve schedule resume":       "it says what it did",
	"reeve token revoke":          "it says what it did",
	"reeve vex remove":            "it says what it did",
}

// TestTree walks every command: each says what it is for and how it is used, and
// prints data in every format, unless it is known for something else.
func TestTree(t *testing.T) {
	known := map[string]bool{}
	leaves(newRoot(), func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		o := cmd.Flags().Lookup("output")
		formats := o != nil && o.Value.Type() == "format"
		_, other := without[path]
		known[path] = true
		if formats == other {
			t.Errorf("%s: has -o %v, is known for none %v", path, formats, other)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", path, cmd.Short)
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", path)
		}
	})
	for path := range without {
		if !known[path] {
			t.Errorf("there is no %s", path)
		}
	}
}
