package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/doctor"
)

func newDoctor() *cobra.Command {
	var hub hubFlags
	var out output
	var config string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out why a hub or a service can't be reached",
		Long: `Checks the way to a hub step by step: the proxy, the name, the connection, who
issued the certificate that comes (and so whether something intercepts TLS), the
clocks, and the credential. With --config it does so as the agent of that
configuration would, and tries each carrier and each service's credential, too.
Run it where the agent runs. Nothing is changed.

Exit code 0: nothing is wrong, or only warnings; 1: something is.`,
		Example: "  reeve doctor --config /etc/reeve/agent.yaml\n  reeve doctor --hub https://hub.example.com:8443 --ca ca.pem -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var found []doctor.Finding
			if config != "" {
				cfg, err := agent.LoadConfig(config)
				if err != nil {
					return err
				}
				if found, err = agent.Doctor(cmd.Context(), cfg); err != nil {
					return err
				}
			} else {
				var err error
				if found, err = hub.doctor(cmd.Context()); err != nil {
					return err
				}
			}
			if err := printValue(cmd.OutOrStdout(), &out, found, found, table[doctor.Finding]{rows: findingRows}); err != nil {
				return err
			}
			for _, f := range found {
				if f.Level == doctor.Problem {
					return &exitError{code: exitNo}
				}
			}
			return nil
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&config, "config", "", "an agent's configuration `file`: check as that agent")
	return cmd
}

func findingRows(w io.Writer, list []doctor.Finding) error {
	row(w, "CHECK", "LEVEL", "FOUND", "DO")
	for _, f := range list {
		row(w, f.Check, string(f.Level), f.What, orDash(f.Do))
	}
	return nil
}

// doctor checks the way of a person to a hub.
func (f *hubFlags) doctor(ctx context.Context) ([]doctor.Finding, error) {
	if f.url == "" {
		return nil, errors.New("what is to be checked? Give --hub https://HOST:8443, or --config with an agent's configuration")
	}
	h := doctor.Hub{URL: f.url}
	if f.ca != "" {
		ca, err := f.authority()
		if err != nil {
			return nil, err
		}
		h.Roots, h.CA = x509.NewCertPool(), fmt.Sprintf("%q", ca.Subject.String())
		h.Roots.AddCert(ca)
	}
	found := h.Check(ctx)
	for _, one := range found {
		if one.Level == doctor.Problem {
			return found, nil
		}
	}
	if f.cert == "" && f.token == "" && os.Getenv("REEVE_TOKEN") == "" {
		return append(found, doctor.Finding{
			Check: "api", Level: doctor.Warning, What: "no credential is given, so none was tried",
			Do: "give --cert and --key, or an API token in REEVE_TOKEN",
		}), nil
	}
	c, err := f.client()
	var data json.RawMessage
	if err == nil {
		data, err = c.do(ctx, http.MethodGet, "/whoami", nil)
	}
	var me api.Caller
	if err == nil {
		err = json.Unmarshal(data, &me)
	}
	if err != nil {
		return append(found, doctor.Finding{Check: "api", Level: doctor.Problem, What: err.Error(), Do: "get another credential: reeve token create, or reeve ca issue --purpose control"}), nil
	}
	return append(found, doctor.Finding{Check: "api", Level: doctor.OK, What: fmt.Sprintf("the hub knows you as %s, with the role %s", me.Name, me.Role)}), nil
}
