package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hdf/format"
	"reeve.dev/reeve/scan"
)

func newConvert() *cobra.Command {
	var to, file string
	var account awsAccount
	cmd := &cobra.Command{
		Use:   "convert RESULTS",
		Short: "Write a results file in another format",
		Long: `Writes a results file (HDF, as "reeve scan --reporter json", InSpec and CINC
make it; - is standard input) in another format:

  cli      for a terminal              html   one page, to read and print
  json     HDF, with what Reeve adds   csv    a table, as the SAF CLI has it
  summary  figures, failure_count      ckl    a checklist for STIG Viewer
  sarif    2.1.0, for code scanning    oscal  assessment results, 1.1.3
  junit    for CI systems              asff   AWS Security Hub`,
		Example: `  reeve convert results.json --to sarif -o results.sarif
  reeve convert results.json -o results.html
  inspec exec profile --reporter json | reeve convert - --to junit -o junit.xml
  reeve convert results.json --to asff --aws-account 123456789012 --aws-region eu-central-1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := to
			if name == "" {
				var err error
				if name, err = formatOf(file); err != nil {
					return err
				}
			}
			encode, err := findFormat(name, account)
			if err != nil {
				return fmt.Errorf("--to: %w", err)
			}
			results, err := readResults(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			return reporter{name, file, encode}.write(cmd.OutOrStdout(), results)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&to, "to", "", "`format`; what the output's name says if left out")
	flags.StringVarP(&file, "output", "o", "", "`file` to write; standard output if left out")
	account.flags(flags)
	return cmd
}

// formatOf tells the format by a file's name, where that is clear.
func formatOf(file string) (string, error) {
	ext := strings.TrimPrefix(filepath.Ext(file), ".")
	for _, f := range format.All {
		if ext == f.Extension && ext != "json" && ext != "xml" {
			return f.Name, nil
		}
	}
	return "", fmt.Errorf("give --to: it is one of %s", reporterNames())
}

// readResults reads results from a file, or from in where the path is -.
func readResults(path string, in io.Reader) (*hdf.Results, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("results: %w", err)
		}
		defer f.Close()
		in = f
	}
	limited := &io.LimitedReader{R: in, N: scan.MaxResults + 1}
	results, err := hdf.Decode(limited)
	if limited.N == 0 {
		return nil, fmt.Errorf("%s: more than the %d bytes that results may have", path, scan.MaxResults)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	results.Seal()
	return results, nil
}
