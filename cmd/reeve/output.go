package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// output is the -o flag of a command that prints data. wide is a table with more
// columns, of what has them. Left out it is a table
// for people on a terminal, and the same rows parted by tabs anywhere else.
type output struct{ format string }

func (o *output) flag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "`format`: table, wide, json or yaml; if left out a table on a terminal, else rows parted by tabs")
	complete(cmd, "output", "table", "wide", "json", "yaml")
}

// suggest lets the shell complete the values of a flag of cmd, and files.
func suggest(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveDefault)); err != nil {
		panic(err) // as in complete
	}
}

// complete lets the shell complete the values of a flag of cmd, and no files.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag isn't defined, or this is its second completion
	}
}

// print writes data, which is the hub's JSON, in the format asked for; table
// makes the rows for people from it.
func (o *output) print(w io.Writer, data json.RawMessage, table func(io.Writer) error) error {
	switch o.format {
	case "table", "wide", "":
		if o.format == "" && !terminal(w) {
			return table(w)
		}
		t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
		if err := table(t); err != nil {
			return err
		}
		return t.Flush()
	case "json":
		var indented bytes.Buffer
		if err := json.Indent(&indented, data, "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, indented.String())
		return err
	case "yaml":
		text, err := yaml.JSONToYAML(data)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	return fmt.Errorf("--output %q: it must be table, wide, json or yaml", o.format)
}

// row writes one row of a table. What comes from outside can't hold a tab, a
// line break or a terminal's control sequence.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			io.WriteString(w, "\t")
		}
		io.WriteString(w, printable(fmt.Sprint(c)))
	}
	io.WriteString(w, "\n")
}

// count is n things, as in 1 control and 2 controls.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}
