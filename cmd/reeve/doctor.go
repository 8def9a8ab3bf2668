package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

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

Of each check it says what was found and, if that isn't good, why it matters and
what to do. Begin with the first: what follows may come from it.

Exit code 0: nothing is wrong, or only warnings; 1: something is.`,
		Example: "  reeve doctor --config /etc/reeve/agent.yaml\n  reeve doctor --hub https://hub.example.com:8443 --ca ca.pem -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var found []doctor.Finding
			switch {
			case config != "":
				found = asAgent(cmd.Context(), config)
			case hub.url == "":
				return errors.New("what is to be checked? Give --hub https://HOST:8443, or --config with an agent's configuration")
			default:
				found = hub.doctor(cmd.Context())
			}
			doctor.Explain(found)
			problems := len(slices.DeleteFunc(slices.Clone(found), func(f doctor.Finding) bool { return f.Level != doctor.Problem }))
			t := table[doctor.Finding]{rows: findingRows, wide: findingWideRows, name: func(f doctor.Finding) string { return f.Check }}
			var err error
			if w := cmd.OutOrStdout(); out.format == "" && terminal(w) {
				err = tellFindings(w, found)
			} else {
				err = printValue(w, &out, found, found, t)
			}
			if err == nil && problems > 0 {
				err = &exitError{code: exitNo}
			}
			return err
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

func findingWideRows(w io.Writer, list []doctor.Finding) error {
	row(w, "CHECK", "LEVEL", "FOUND", "WHY", "DO")
	for _, f := range list {
		row(w, f.Check, string(f.Level), f.What, f.Why, orDash(f.Do))
	}
	return nil
}

// tellFindings is for people: a line for what is well, and for all else what it
// means, too.
func tellFindings(w io.Writer, list []doctor.Finding) error {
	marks := map[doctor.Level][2]string{doctor.OK: {"✔", green}, doctor.Warning: {"!", yellow}, doctor.Problem: {"✘", red}}
	bad := map[doctor.Level]int{}
	for _, f := range list {
		mark := marks[f.Level][0]
		if colour(w) {
			mark = paint(marks[f.Level][1], mark)
		}
		fmt.Fprintf(w, "%s %-8s %s\n", mark, f.Check, printable(f.What))
		if f.Level == doctor.OK {
			continue
		}
		bad[f.Level]++
		fmt.Fprintf(w, "           why: %s\n           do:  %s\n", f.Why, printable(f.Do))
	}
	said := "nothing is wrong"
	switch {
	case bad[doctor.Problem] > 0:
		said = count(bad[doctor.Problem], "problem") + ", " + count(bad[doctor.Warning], "warning") + "; begin with the first"
	case bad[doctor.Warning] > 0:
		said = "nothing is wrong; " + count(bad[doctor.Warning], "warning")
	}
	_, err := fmt.Fprintf(w, "\n%s\n", said)
	return err
}

// asAgent checks as the agent with a configuration would.
func asAgent(ctx context.Context, config string) []doctor.Finding {
	cfg, err := agent.LoadConfig(config)
	var found []doctor.Finding
	if err == nil {
		found, err = agent.Doctor(ctx, cfg)
	}
	if err != nil {
		return []doctor.Finding{{Check: "config", Level: doctor.Problem, What: err.Error(), Do: "correct " + config + "; docs/configuration.md has every key"}}
	}
	return found
}

// doctor checks the way of a person to a hub.
func (f *hubFlags) doctor(ctx context.Context) []doctor.Finding {
	h := doctor.Hub{URL: f.url}
	if f.ca != "" {
		ca, err := f.authority()
		if err != nil {
			return []doctor.Finding{{Check: "config", Level: doctor.Problem, What: err.Error(), Do: "give --ca or REEVE_CA the file ca.pem that reeve ca init made"}}
		}
		h.Roots, h.CA = x509.NewCertPool(), fmt.Sprintf("%q", ca.Subject.String())
		h.Roots.AddCert(ca)
	}
	found := h.Check(ctx)
	for _, one := range found {
		if one.Level == doctor.Problem {
			return found
		}
	}
	if f.cert == "" && f.key == "" && f.token == "" && os.Getenv("REEVE_TOKEN") == "" {
		return append(found, doctor.Finding{
			Check: "api", Level: doctor.Warning, What: "no credential is given, so none was tried",
			Do: "give --cert and --key, or an API token in REEVE_TOKEN",
		})
	}
	c, err := f.client()
	if err != nil {
		return append(found, doctor.Finding{Check: "config", Level: doctor.Problem, What: err.Error(), Do: "correct --cert, --key or --token-file, or the variables that they are short for: reeve help environment"})
	}
	defer c.http.CloseIdleConnections()
	if said := c.apart(ctx); said != "" {
		what, do, _ := strings.Cut(said, ": ")
		found = append(found, doctor.Finding{Check: "version", Level: doctor.Warning, What: what, Do: do})
	}
	var me api.Caller
	if err := ask(ctx, c, http.MethodGet, "/whoami", nil, &me); err != nil {
		return append(found, doctor.Finding{Check: "api", Level: doctor.Problem, What: err.Error(), Do: "get another credential: reeve token create --kind api, or reeve ca issue --purpose user"})
	}
	return append(found, doctor.Finding{Check: "api", Level: doctor.OK, What: fmt.Sprintf("the hub knows you as %s, with the role %s", me.Name, me.Role)})
}
