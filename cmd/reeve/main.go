// Command reeve inspects each Kubernetes cluster and reports to one hub. It
// is the hub, the agent and the tool for people, by subcommand.
//
// Exit codes: 0 done and good; 1 the check said no; 2 it couldn't be done.
// `reeve scan` without a threshold answers 0, 100 or 101, as InSpec does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/internal/memory"
	"reeve.dev/reeve/internal/version"
)

// Exit codes of every subcommand; scan has more.
const (
	exitNo     = 1
	exitBroken = 2
)

// exitError carries a subcommand's exit code. A nil err says nothing: the
// command has said it already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	runtime.MemProfileRate = 0 // nobody asks for a profile of memory, which takes some itself
	memory.DropCode()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Who asks again while the first signal is heeded needn't wait.
	context.AfterFunc(ctx, stop)
	name, args := called(os.Args[0], os.Args[1:])
	os.Exit(runAs(ctx, name, args, os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it answers the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	return runAs(ctx, "reeve", args, in, out, errs)
}

// runAs is run of the program by what people call it.
func runAs(ctx context.Context, name string, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	if name != root.Name() {
		root.Annotations[cobra.CommandDisplayNameAnnotation] = name
	}
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	if width := screenWidth(out); width > 0 {
		fitHelp(root, width)
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		if names, ok := strings.CutPrefix(err.Error(), "required flag(s) "); ok {
			err = fmt.Errorf("%s; see: %s --help", missing(names), cmd.CommandPath())
		}
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.err == nil:
		return exit.code
	case errors.As(err, &exit):
		tell(errs, "reeve: %v", exit.err)
		return exit.code
	default:
		tell(errs, "reeve: %v", err)
		return exitBroken
	}
}

// fitHelp has every help fit a screen of so many columns.
func fitHelp(root *cobra.Command, width int) {
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", width)))
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		var text strings.Builder
		screen := root.OutOrStdout()
		root.SetOut(&text)
		help(cmd, args)
		root.SetOut(screen)
		fmt.Fprint(screen, wrapped(text.String(), width))
	})
}

// missing says which flags are missing, by their names as cobra lists them: "a",
// "b" not set.
func missing(names string) string {
	var flags []string
	for name := range strings.SplitSeq(strings.TrimSuffix(names, " not set"), ", ") {
		flags = append(flags, "--"+strings.Trim(name, `"`))
	}
	if len(flags) == 1 {
		return flags[0] + " is missing"
	}
	return strings.Join(flags[:len(flags)-1], ", ") + " and " + flags[len(flags)-1] + " are missing"
}

func newRoot() *cobra.Command {
	colours := colourFlag("auto")
	root := &cobra.Command{
		Use:   "reeve",
		Short: "Inspect every cluster, report to one hub",
		Long: `Reeve reaches into Kubernetes clusters over connections that only the clusters
open: it forwards API calls, scans running containers against InSpec profiles,
collects SBOMs, facts and problems, and tells other systems every outcome.

Try it:             reeve demo
Scan with no hub:   reeve scan dir:/ --profile container-baseline
Run a hub:          reeve ca init && reeve hub --config examples/hub.yaml

Each command's own help has examples: reeve scan --help.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version.Text(),
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())
	})
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"alone", "With no hub:", []*cobra.Command{newDemo(), newScan(), newSBOM(), newConvert(), newCompare(), newProfile(), newThreshold()}},
		{"run", "Run:", []*cobra.Command{newHub(), newAgent(), newInsightsRemote(), newCA()}},
		{"ask", "Ask a hub:", []*cobra.Command{newGet(), newWhoRuns(), newInsight(), newOSV(), newVEX(), newAlerts(), newSchedule(), newPolicy(), newEvent(), newAudit(), newRecordings(), newKubeconfig(), newToken(), newLogin()}},
		{"self", "This program:", []*cobra.Command{newDoctor(), newVersion()}},
		{"", "", []*cobra.Command{newMan()}},
	} {
		if g.id != "" {
			root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		}
		for _, cmd := range g.commands {
			cmd.GroupID = g.id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(newTopics()...)
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .Annotations."+onlyHelps+")}}", 1))
	root.SetHelpCommandGroupID("self")
	root.SetCompletionCommandGroupID("self")
	root.PersistentFlags().Var(&colours, "color", "`when` to colour: auto (on a terminal, unless NO_COLOR is set), always or never")
	if err := root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions(colourModes, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // as in complete
	}
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { colours.apply(cmd.Root()) }
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Example = "  reeve help scan\n  reeve help exit-codes"
	}
	explainArgs(root)
	return root
}

// onlyHelps is the annotation of commands that do nothing but to show their help.
const onlyHelps = "onlyHelps"

// explainArgs makes cmd, and all below it, say what to do about arguments that
// they don't take. A command that only has others below it shows its help.
func explainArgs(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		explainArgs(c)
	}
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.SuggestionsMinimumDistance = 2
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			near := ""
			if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
				near = "did you mean " + strings.Join(names, " or ") + "? "
			}
			return fmt.Errorf("%s has no command %q; %ssee: %s --help", cmd.CommandPath(), args[0], near, cmd.CommandPath())
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		if cmd.Annotations == nil {
			cmd.Annotations = map[string]string{}
		}
		cmd.Annotations[onlyHelps] = "true"
		return
	}
	if cmd.Name() == "help" {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 && !of.HasSubCommands() {
				return nil // an argument of the command
			}
			if err == nil && len(rest) > 0 {
				return of.Args(of, rest)
			}
			return err
		}
		return
	}
	takes := cmd.Args
	if takes == nil {
		takes = cobra.NoArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if takes(cmd, args) == nil {
			return nil
		}
		wrong := "an argument is missing"
		if len(args) > 0 {
			wrong = fmt.Sprintf("unexpected argument %q", args[len(args)-1])
		}
		return fmt.Errorf("%s; use: %s; see: %s --help", wrong, cmd.UseLine(), cmd.CommandPath())
	}
}

func newVersion() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  reeve version -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := build{version.Text(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, makesSBOMs}
			return printValue(cmd.OutOrStdout(), &out, v, []build{v}, told(func(v build) string {
				if !v.SBOMs {
					return v.Version + ", made without SBOMs (tag nosbom)"
				}
				return v.Version
			}))
		},
	}
	out.flag(cmd)
	return cmd
}

// build is what is known of this program.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	SBOMs    bool   `json:"sboms"`
}
