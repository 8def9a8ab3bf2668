package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"reeve.dev/reeve/internal/version"
)

// newMan is for those who make packages.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual, a page for each command, to a folder",
		Long:    "Writes the manual. Its day is SOURCE_DATE_EPOCH, if that is set, or today.",
		Example: "  reeve man ./man && man ./man/reeve-scan.1",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Title: "REEVE", Section: "1", Source: "reeve " + version.Text(), Manual: "Reeve"}, args[0])
		},
	}
}
