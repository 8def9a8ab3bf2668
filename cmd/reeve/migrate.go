package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/internal/telemetry"
	"reeve.dev/reeve/store/move"
)

func newHubMigrate() *cobra.Command {
	var path string
	var m hub.Migration
	var out output
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Take a hub's data from its own database to PostgreSQL",
		Long: `Copies all that a hub with a database of its own has in its dataDir, rows and
documents, to the PostgreSQL database and the documents that the configuration
names: the one that the hub is to work with from then on. Stop the hub first. The
dataDir stays as it is, and so is the way back.

The database has to be empty. Rows are copied in one transaction and read back
before it is committed: all of them are there in the end, or none. Whatever ends
the command, call it again: documents that are there aren't copied again, and once
all is there it says so.`,
		Example: "  reeve hub migrate --config three-hubs.yaml --from /var/lib/reeve-hub",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := hub.LoadConfig(path)
			if err != nil {
				return err
			}
			if m.From == "" {
				m.From = cfg.DataDir
			}
			shown := newProgress(cmd.ErrOrStderr())
			m.Progress = func(what string, done, total int) { shown.show(done, total, what) }
			r, err := hub.Migrate(cmd.Context(), cfg, m, telemetry.Logger(cmd.ErrOrStderr(), cfg.Log.Level, cfg.Log.Format))
			shown.clear()
			if err != nil {
				return err
			}
			if err := printValue(cmd.OutOrStdout(), &out, r, []move.Report{r}, table[move.Report]{rows: migratedRows}); err != nil {
				return err
			}
			what := "all of it is there"
			if n := r.Documents.Missing; n > 0 {
				what = fmt.Sprintf("all but %s is there", count(n, "document"))
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s; from now on start the hubs with this configuration\n", what)
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration `file` (YAML) of the hub on PostgreSQL")
	cmd.Flags().StringVar(&m.From, "from", "", "`dataDir` of the hub with a database of its own; if left out that of the configuration")
	cmd.Flags().BoolVar(&m.WithoutMissing, "without-missing", false, "go on though documents that rows name are missing or damaged")
	out.flag(cmd)
	return cmd
}

func migratedRows(w io.Writer, list []move.Report) error {
	row(w, "WHAT", "MOVED", "WAS THERE", "MISSING", "SUM")
	for _, r := range list {
		for _, t := range r.Tables {
			if t.Rows == 0 {
				continue
			}
			moved, there := t.Rows, 0
			if r.Already {
				moved, there = there, moved
			}
			row(w, t.Name, moved, there, 0, t.Sum[:16])
		}
		row(w, "documents", r.Documents.Copied, r.Documents.There, r.Documents.Missing, "-")
	}
	return nil
}
