package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/threshold"
)

func newThreshold() *cobra.Command {
	cmd := &cobra.Command{Use: "threshold", Short: "Judge results by a threshold"}
	cmd.AddCommand(newThresholdCheck(), newThresholdGenerate(), newThresholdUpload())
	return cmd
}

func newThresholdCheck() *cobra.Command {
	var out output
	var name, compat string
	cmd := &cobra.Command{
		Use:   "check RESULTS",
		Short: "Say whether a results file meets a threshold",
		Long: `Says whether a results file (HDF) meets a threshold: exit code 0 if it does,
1 with every bound that isn't met if not. --compat saf does what
"saf validate threshold" does, with its messages.`,
		Example: `  reeve threshold check out.json -T moderate
  reeve threshold check out.json -T threshold.yaml --compat saf`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			results, err := readResults(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			switch compat {
			case "":
				t, err := threshold.Find(name)
				if err != nil {
					return err
				}
				findings := t.Check(results)
				j := judgement{Met: len(findings) == 0, Findings: []unmet{}}
				for _, f := range findings {
					j.Findings = append(j.Findings, unmet(f))
				}
				if err := printValue(cmd.OutOrStdout(), &out, j, []judgement{j}, table[judgement]{rows: judgementRows}); err != nil {
					return err
				}
				return verdict(io.Discard, cmd.ErrOrStderr(), findings)
			case "saf":
				text, err := threshold.Read(name)
				if err != nil {
					return err
				}
				t, err := threshold.ParseSAF(text)
				if err != nil {
					return err
				}
				if finding := t.Check(results); finding != nil {
					tell(cmd.ErrOrStderr(), "Error: %s", finding.Message)
					return &exitError{code: exitNo}
				}
				fmt.Fprintln(cmd.OutOrStdout(), threshold.SAFPassed)
				return nil
			}
			return fmt.Errorf("--compat %q: it must be saf, or left out", compat)
		},
	}
	cmd.Flags().StringVarP(&name, "threshold", "T", "moderate", "`name` of a shipped threshold, or a file")
	cmd.Flags().StringVar(&compat, "compat", "", "saf: judge as the SAF CLI does")
	complete(cmd, "compat", "saf")
	suggestThresholds(cmd)
	out.flag(cmd)
	cmd.MarkFlagsMutuallyExclusive("compat", "output")
	return cmd
}

// judgement is what a threshold says of results, and unmet a bound of it that
// isn't met.
type (
	judgement struct {
		Met      bool    `json:"met"`
		Findings []unmet `json:"findings"`
	}
	unmet struct {
		Path    string `json:"path"`
		Message string `json:"message"`
	}
)

func judgementRows(w io.Writer, list []judgement) error {
	if list[0].Met {
		fmt.Fprintln(w, "threshold met")
	}
	return nil
}

// suggestThresholds lets the shell complete the shipped thresholds, and files.
func suggestThresholds(cmd *cobra.Command) { suggest(cmd, "threshold", shippedThresholds()...) }

func shippedThresholds() []string {
	shipped, err := threshold.Open("")
	if err != nil {
		panic(err) // they are part of the program
	}
	return shipped.Names()
}

func newThresholdGenerate() *cobra.Command {
	var opt threshold.GenerateOptions
	var file, compat string
	cmd := &cobra.Command{
		Use:   "generate RESULTS",
		Short: "Make a threshold that results meet as they are",
		Long: `Makes the threshold that a results file (HDF; - is standard input) meets as it
is, so that later results must be as good or better: at least as many controls
passed, and at most as many of everything else, by severity.`,
		Example: `  reeve threshold generate out.json -o threshold.yaml
  reeve threshold generate out.json --controls --exact`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			results, err := readResults(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			if opt.SAF = compat == "saf"; compat != "" && !opt.SAF {
				return fmt.Errorf("--compat %q: it must be saf, or left out", compat)
			}
			text, err := threshold.Generate(results, opt)
			if err != nil {
				return err
			}
			if file == "" {
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			if err := os.WriteFile(file, text, 0o644); err != nil {
				return fmt.Errorf("--output: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&opt.Exact, "exact", "e", false, "ask for exactly these counts")
	cmd.Flags().BoolVarP(&opt.Controls, "controls", "c", false, "list the ids of the controls, so that each must stay what it is")
	cmd.Flags().StringVarP(&file, "output", "o", "", "`file` to write; standard output if left out")
	cmd.Flags().StringVar(&compat, "compat", "", "saf: count as the SAF CLI does, the first profile alone")
	complete(cmd, "compat", "saf")
	return cmd
}

// verdict says what of a threshold isn't met; the exit code is 1 then.
func verdict(out, errs io.Writer, findings []threshold.Finding) error {
	if len(findings) == 0 {
		fmt.Fprintln(out, "threshold met")
		return nil
	}
	for _, f := range findings {
		tell(errs, "threshold: %s", f.Message)
	}
	return &exitError{code: exitNo}
}
