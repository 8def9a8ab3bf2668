package main

import (
	"strings"
	"testing"

	"github.com/clipperhouse/displaywidth"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestWrapped(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"a paragraph is filled anew": {
			"One line of a paragraph that is too long,\nand the next.\n\nShort.\n",
			"One line of a paragraph that\nis too long, and the next.\n\nShort.\n",
		},
		"what fits stays": {
			"Two lines\nthat fit.\n", "Two lines\nthat fit.\n",
		},
		"a column is within itself": {
			"Those:\n  one  is a thing of many words,\n       and more\n  two  is another\n",
			"Those:\n  one  is a thing of many\n       words, and more\n  two  is another\n",
		},
		"an example is still one": {
			"Usage:\n  reeve\n\nExamples:\n  reeve scan --cron '0 3 * * *' --jitter 30m\n  reeve get scans\n\nFlags:\n",
			"Usage:\n  reeve\n\nExamples:\n  reeve scan \\\n      --cron '0 3 * * *' \\\n      --jitter 30m\n  reeve get scans\n\nFlags:\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, wrapped(tc.text, 30)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// No help is wider than the screen, and none loses a word.
func TestWrapped_help(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		var text strings.Builder
		cmd.SetOut(&text)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		shown := wrapped(text.String(), 80)
		for line := range strings.Lines(shown) {
			if line = strings.TrimRight(line, "\n"); displaywidth.String(line) > 80 && len(strings.Fields(line)) > 1 {
				t.Errorf("%s --help: %q", cmd.CommandPath(), line)
			}
		}
		want := strings.Fields(text.String())
		if diff := cmp.Diff(want, strings.Fields(strings.ReplaceAll(shown, " \\\n", "\n"))); diff != "" {
			t.Errorf("%s --help (-want +got):\n%s", cmd.CommandPath(), diff)
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	root := newRoot()
	fitHelp(root, 80)
	walk(root)
}
