package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/pki"
)

func newCA() *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "Make the certificate authority of a hub, issue and revoke certificates"}
	cmd.AddCommand(newCAInit(), newCAIssue(), newCARevoke(), newCARevocations())
	return cmd
}

func newCAInit() *cobra.Command {
	var dir, name, format string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a certificate authority and a first control certificate",
		Long: `Makes the authority that a hub signs with, and a control certificate: the
administrator's credential for the hub's API. Nothing is overwritten.

With --format secret nothing is written to disk: the Kubernetes Secrets
ca-secret and oes-control-secret go to standard output.`,
		Example: `  reeve ca init --dir ./ca
  reeve ca init --format secret | kubectl apply -n reeve -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch format {
			case "pem":
				if _, err := pki.Init(dir, name); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), `made %[1]s: ca.pem ca-key.pem jwt-key.pem control.pem control-key.pem
next, a hub with it (caDir in its configuration):
  REEVE_HUB_CA_DIR=%[1]s reeve hub
and for its API, as the administrator:
  export REEVE_HUB=https://localhost:8443 REEVE_CA=%[2]s REEVE_CERT=%[3]s REEVE_KEY=%[4]s
`, dir, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "control.pem"), filepath.Join(dir, "control-key.pem"))
				return nil
			case "secret":
				ca, err := pki.NewCA(name)
				if err != nil {
					return err
				}
				text, err := ca.Secrets()
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			return fmt.Errorf("--format %q: it must be pem or secret", format)
		},
	}
	host, _ := os.Hostname()
	cmd.Flags().StringVar(&dir, "dir", "ca", "`folder` for the PEM files")
	cmd.Flags().StringVar(&name, "name", host, "`name` of the hub, for people")
	cmd.Flags().StringVar(&format, "format", "pem", "pem or secret")
	complete(cmd, "format", "pem", "secret")
	return cmd
}
