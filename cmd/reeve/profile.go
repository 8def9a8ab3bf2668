package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/profiles"
)

func newProfile() *cobra.Command {
	cmd := &cobra.Command{Use: "profile", Short: "Check, list, pack and upload profiles"}
	cmd.AddCommand(newProfileCheck(), newProfileList(), newProfileArchive(), newProfileUpload())
	return cmd
}

func newProfileCheck() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "check PROFILE",
		Short: "Say whether a profile can be read and run, and how much it holds",
		Long: `Looks through a profile (the name of a shipped one, a folder or an archive)
without a target: for files that can't be read, for resources, matchers and
functions that nothing defines, and for what this engine doesn't have of Ruby.
Exit code 0 if there is nothing of the kind, 1 with each place and its control
if there is.`,
		Example: "  reeve profile check ./my-profile\n  reeve profile check ./my-profile -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := openProfile(cmd.Context(), args[0])
			if errors.Is(err, errNoProfile) {
				return err
			}
			if err != nil {
				return &exitError{code: exitNo, err: err}
			}
			missing, err := p.Unsupported(cmd.Context())
			if err != nil {
				return &exitError{code: exitNo, err: err}
			}
			meta := p.Metadata()
			c := checkedProfile{Name: meta.Name, Version: meta.Version, Problems: []string{}}
			for _, m := range missing {
				c.Problems = append(c.Problems, fmt.Sprint(m))
				tell(cmd.ErrOrStderr(), "reeve: %v", m)
			}
			if len(missing) == 0 {
				controls, err := p.Controls(cmd.Context())
				if err != nil {
					return &exitError{code: exitNo, err: err}
				}
				c.Controls = len(controls)
			}
			err = printValue(cmd.OutOrStdout(), &out, c, []checkedProfile{c}, table[checkedProfile]{rows: checkedRows})
			if err == nil && len(missing) > 0 {
				err = &exitError{code: exitNo, err: fmt.Errorf("%s: a scan would make the controls concerned errors and judge the others", p.Name())}
			}
			return err
		},
	}
	out.flag(cmd)
	return cmd
}

// checkedProfile is what the check of a profile came to. The controls are
// counted where there is no problem.
type checkedProfile struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Controls int      `json:"controls,omitempty"`
	Problems []string `json:"problems"`
}

func checkedRows(w io.Writer, list []checkedProfile) error {
	for _, c := range list {
		if len(c.Problems) == 0 {
			row(w, fmt.Sprintf("%s %s: %s, no errors", c.Name, c.Version, count(c.Controls, "control")))
		}
	}
	return nil
}

func newProfileList() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the shipped profiles",
		Example: "  reeve profile list\n  reeve get profiles",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []shipped
			for _, name := range profiles.Names {
				p, err := shippedProfile(name)
				if err != nil {
					return err
				}
				meta := p.Metadata()
				all = append(all, shipped{meta.Name, meta.Version, meta.Title})
			}
			return printValue(cmd.OutOrStdout(), &out, all, all, table[shipped]{
				rows: told(func(s shipped) string { return s.Name + " " + s.Version + ": " + s.Title }).rows,
				name: func(s shipped) string { return s.Name },
			})
		},
	}
	out.flag(cmd)
	return cmd
}

// shipped is a profile that is part of this program.
type shipped struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Title   string `json:"title"`
}

func newProfileArchive() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "archive PROFILE",
		Short:   "Pack a profile; the same files always make the same archive",
		Example: "  reeve profile archive ./my-profile --file my-profile.tar.gz",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			p, err := openProfile(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var w io.Writer = cmd.OutOrStdout()
			if path != "" {
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
				if err != nil {
					return fmt.Errorf("--file: %w", err)
				}
				defer func() {
					if closeErr := f.Close(); err == nil {
						err = closeErr
					}
				}()
				w = f
			} else if terminal(w) {
				return fmt.Errorf("an archive is no text for a terminal: give --file NAME.tar.gz")
			}
			return p.Archive(w)
		},
	}
	cmd.Flags().StringVar(&path, "file", "", "`file` to write, which must not exist; standard output if left out")
	return cmd
}
