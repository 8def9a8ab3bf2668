package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hdf/asff"
	"reeve.dev/reeve/hdf/cli"
	"reeve.dev/reeve/hdf/format"
)

// awsAccount is whose Security Hub findings in the format asff are for.
type awsAccount struct{ id, region string }

func (a *awsAccount) flags(set *pflag.FlagSet) {
	set.StringVar(&a.id, "aws-account", "", "`account` for the format asff; AWS_ACCOUNT_ID if left out")
	set.StringVar(&a.region, "aws-region", "", "`region` for the format asff; AWS_REGION if left out")
}

func (a *awsAccount) account() asff.Account {
	return asff.Account{
		ID:     cmp.Or(a.id, os.Getenv("AWS_ACCOUNT_ID")),
		Region: cmp.Or(a.region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
	}
}

// writeFunc writes sealed results in one format; colour is for a terminal.
type writeFunc func(w io.Writer, r *hdf.Results, colour bool) error

// findFormat finds the formats of the command line: those of hdf/format, cli
// and asff. What asff needs is checked at once.
func findFormat(name string, a awsAccount) (writeFunc, error) {
	switch name {
	case "cli":
		return cli.Write, nil
	case "asff":
		account := a.account()
		if err := account.Validate(); err != nil {
			return nil, fmt.Errorf("format asff: %w: give --aws-account and --aws-region", err)
		}
		return func(w io.Writer, r *hdf.Results, _ bool) error { return asff.Write(w, r, account) }, nil
	}
	f, ok := format.ByName(name)
	if !ok {
		return nil, fmt.Errorf("format %q: it must be one of %s", name, reporterNames())
	}
	return func(w io.Writer, r *hdf.Results, _ bool) error { return f.Write(w, r) }, nil
}

func reporterNames() string {
	names := []string{"cli"}
	for _, f := range format.All {
		names = append(names, f.Name)
	}
	return strings.Join(append(names, "asff"), ", ")
}

// reporter writes results in one format to a file, or to standard output.
type reporter struct {
	format, file string
	encode       writeFunc
}

func parseReporters(specs []string, a awsAccount) ([]reporter, error) {
	if len(specs) == 0 {
		specs = []string{"cli"}
	}
	var list []reporter
	stdout := 0
	for _, spec := range specs {
		name, file, _ := strings.Cut(spec, ":")
		encode, err := findFormat(name, a)
		if err != nil {
			return nil, fmt.Errorf("--reporter %q: %w", spec, err)
		}
		if file == "-" {
			file = ""
		}
		if file == "" {
			stdout++
		}
		list = append(list, reporter{name, file, encode})
	}
	if stdout > 1 {
		return nil, errors.New("--reporter: only one can go to standard output; give the others a file, as in json:FILE")
	}
	return list, nil
}

// write puts the report in its place whole or not at all.
func (r reporter) write(out io.Writer, results *hdf.Results) error {
	if r.file == "" {
		return r.encode(out, results, colour(out))
	}
	if st, err := os.Stat(r.file); err == nil && !st.Mode().IsRegular() { // a pipe, /dev/stdout
		f, err := os.OpenFile(r.file, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", r.format, err)
		}
		return errors.Join(r.encode(f, results, colour(f)), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(r.file), ".reeve-*")
	if err != nil {
		return fmt.Errorf("%s: %w", r.format, err)
	}
	defer os.Remove(f.Name())
	err = r.encode(f, results, false)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), r.file)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", r.format, r.file, err)
	}
	return nil
}
