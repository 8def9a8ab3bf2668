package main

import (
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
	return &cobra.Command{
		Use:   "check PROFILE",
		Short: "Say whether a profile can be read and run, and how much it holds",
		Long: `Looks through a profile (the name of a shipped one, a folder or an archive)
without a target: for files that can't be read, for resources, matchers and
functions that nothing defines, and for what this engine doesn't have of Ruby.
Exit code 0 if there is nothing of the kind, 1 with each place and its control
if there is.`,
		Example: "  reeve profile check ./my-profile",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := openProfile(cmd.Context(), args[0])
			if err != nil {
				return &exitError{code: exitNo, err: err}
			}
			missing, err := p.Unsupported(cmd.Context())
			if err != nil {
				return &exitError{code: exitNo, err: err}
			}
			if len(missing) > 0 {
				for _, m := range missing {
					fmt.Fprintf(cmd.ErrOrStderr(), "reeve: %v\n", m)
				}
				return &exitError{code: exitNo, err: fmt.Errorf("%s: a scan would make the controls concerned errors and judge the others", p.Name())}
			}
			controls, err := p.Controls(cmd.Context())
			if err != nil {
				return &exitError{code: exitNo, err: err}
			}
			meta := p.Metadata()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s, no errors\n", meta.Name, meta.Version, count(len(controls), "control"))
			return err
		},
	}
}

func newProfileList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the shipped profiles",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range profiles.Names {
				p, err := shippedProfile(name)
				if err != nil {
					return err
				}
				meta := p.Metadata()
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", meta.Name, meta.Version, meta.Title)
			}
			return nil
		},
	}
}

func newProfileArchive() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "archive PROFILE",
		Short: "Pack a profile; the same files always make the same archive",
		Args:  cobra.ExactArgs(1),
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
