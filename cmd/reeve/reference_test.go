package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"reeve.dev/reeve/internal/metric"
)

var updateReference = flag.Bool("update-reference", false, "write docs/reference/commands.md and metrics.md anew")

// TestReference keeps the pages that are made of the commands and the metrics.
func TestReference(t *testing.T) {
	for _, v := range os.Environ() { // some flags have their defaults from there
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "REEVE_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	for name, want := range map[string]string{"commands.md": commandsPage(newRoot()), "metrics.md": metricsPage(t)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("..", "..", "docs", "reference", name)
			if *updateReference {
				if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("the page isn't what the code makes; make docs writes it: %s", diff)
			}
		})
	}
}

const made = "<!-- Made from the code by make docs: change it there. -->\n\n"

func metricsPage(t *testing.T) string {
	ofHub, ofAgent := metricsOf(t)
	var b strings.Builder
	b.WriteString("# Metrics\n\n" + made + `For who watches Reeve: what hub and agent tell at ` + "`/metrics`" + `, in Prometheus' format, on the
port that ` + "`listen.metrics`" + ` (hub) and ` + "`metrics`" + ` (agent) name. Times are in seconds, sizes in
bytes. [Operations](../operations.md#what-to-watch) says which of them matter, and has a
dashboard and alert rules. The Go runtime's and the process's own metrics are there as well.
`)
	for _, of := range []struct {
		title string
		all   []metric.Description
	}{{"Of the hub", ofHub}, {"Of an agent", ofAgent}} {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | |\n|---|---|---|---|\n", of.title)
		for _, d := range of.all {
			labels := ""
			if len(d.Labels) > 0 {
				labels = "`" + strings.Join(d.Labels, "`, `") + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, d.Type, labels, d.Help)
		}
	}
	return b.String()
}

func commandsPage(root *cobra.Command) string {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var b strings.Builder
	b.WriteString("# Commands\n\n" + made + `Every command of ` + "`reeve`" + `, with its flags. ` + "`reeve COMMAND --help`" + ` says the same.

`)
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, "**%s**\n\n| command | |\n|---|---|\n", strings.TrimSuffix(g.Title, ":"))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID && c.IsAvailableCommand() {
				fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
			}
		}
		b.WriteString("\n")
	}
	all := every(root)
	everywhere := hubsFlags()
	b.WriteString(`## Which hub, and as whom

Commands that ask a hub take these. Their variables are what people set once.

` + flagsTable(everywhere))
	fmt.Fprintf(&b, "\n## Everywhere\n\n%s", flagsTable(root.PersistentFlags()))
	for _, c := range all {
		title := c.CommandPath()
		if c.IsAdditionalHelpTopicCommand() {
			title = "reeve help " + c.Name()
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n", title, c.Short)
		if long := strings.TrimSpace(c.Long); long != "" {
			fmt.Fprintf(&b, "\n```text\n%s\n```\n", long)
		}
		if c.Runnable() {
			fmt.Fprintf(&b, "\n```text\n%s\n```\n", c.UseLine())
		}
		if len(c.Aliases) > 0 {
			fmt.Fprintf(&b, "\nIt is also called `%s`.\n", strings.Join(c.Aliases, "`, `"))
		}
		if subs := slices.DeleteFunc(c.Commands(), func(c *cobra.Command) bool { return !c.IsAvailableCommand() }); len(subs) > 0 {
			b.WriteString("\n| command | |\n|---|---|\n")
			for _, s := range subs {
				fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", s.CommandPath(), strings.ReplaceAll(s.CommandPath(), " ", "-"), s.Short)
			}
		}
		own := pflag.NewFlagSet("", pflag.ContinueOnError)
		asks := false
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if h := everywhere.Lookup(f.Name); h != nil && h.Usage == f.Usage {
				asks = true
			} else if f.Name != "help" && !f.Hidden && root.PersistentFlags().Lookup(f.Name) == nil {
				own.AddFlag(f)
			}
		})
		if own.HasFlags() {
			b.WriteString("\n" + flagsTable(own))
		}
		if asks {
			b.WriteString("\nAnd [which hub, and as whom](#which-hub-and-as-whom).\n")
		}
		if c.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", unindent(c.Example))
		}
	}
	return b.String()
}

// hubsFlags are those of hubFlags.
func hubsFlags() *pflag.FlagSet {
	var cmd cobra.Command
	new(hubFlags).flags(&cmd)
	return cmd.Flags()
}

// every lists what is below a command, in the order of names.
func every(of *cobra.Command) (all []*cobra.Command) {
	for _, c := range of.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" || c.IsAdditionalHelpTopicCommand() && c.Long != "" {
			all = append(append(all, c), every(c)...)
		}
	}
	return all
}

func flagsTable(flags *pflag.FlagSet) string {
	var b bytes.Buffer
	b.WriteString("| flag | default | |\n|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;")
	flags.VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		def := f.DefValue
		if def == "[]" || def == "false" || def == "0" || def == "0s" {
			def = ""
		}
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, cell.Replace(def), cell.Replace(usage))
	})
	return b.String()
}

// unindent takes away what the first line is indented by.
func unindent(s string) string {
	s = strings.TrimRight(s, "\n ")
	by := s[:len(s)-len(strings.TrimLeft(s, " "))]
	return strings.ReplaceAll(strings.TrimPrefix(s, by), "\n"+by, "\n")
}
