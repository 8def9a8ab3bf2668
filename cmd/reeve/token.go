package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

// roles that a credential can have, each with the rights of those before it.
var roles = []string{"viewer", "scanner", "operator", "admin"}

// rightFlags say what a credential's holder may do, and where.
type rightFlags struct {
	role               string
	agents, namespaces []string
}

func (f *rightFlags) flags(cmd *cobra.Command, what string) {
	flags := cmd.Flags()
	flags.StringVar(&f.role, "role", "", "`role`: viewer, scanner, operator or admin; "+what)
	flags.StringSliceVar(&f.agents, "agents", nil, "`names` of agents that the role is limited to; * stands for any text")
	flags.StringSliceVar(&f.namespaces, "namespaces", nil, "`names` of namespaces that the role is limited to, likewise")
	complete(cmd, "role", roles...)
}

func (f *rightFlags) given() bool { return f.role != "" || len(f.agents)+len(f.namespaces) > 0 }

func (f *rightFlags) rights() (pki.Rights, error) {
	if f.role == "" {
		return nil, errors.New("--role is missing: viewer, scanner, operator or admin")
	}
	rights := pki.Rights{{Role: pki.Role(f.role), Scope: fleet.Scope{Agents: f.agents, Namespaces: f.namespaces}}}
	if err := rights.Validate(); err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	return rights, nil
}

// put adds them to the body of a request.
func (f *rightFlags) put(body map[string]any) {
	if f.role != "" {
		body["role"] = f.role
	}
	if len(f.agents) > 0 {
		body["agents"] = f.agents
	}
	if len(f.namespaces) > 0 {
		body["namespaces"] = f.namespaces
	}
}

func newToken() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make, list and revoke join tokens and API tokens"}
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenRevoke())
	return cmd
}

func newTokenCreate() *cobra.Command {
	var hub hubFlags
	var right rightFlags
	var out output
	var kind, agent, name, life string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token; it is shown once",
		Example: `  reeve token create --kind join --agent prod
  reeve token create --kind api --name ci --role scanner --namespaces 'shop,team-*' --expires-in 720h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if kind == "join" && agent == "" {
				return errors.New("a join token is for one agent: name it with --agent")
			}
			body := map[string]any{}
			right.put(body)
			for key, value := range map[string]string{"kind": kind, "agent": agent, "name": name, "expiresIn": life} {
				if value != "" {
					body[key] = value
				}
			}
			data, err := c.do(cmd.Context(), http.MethodPost, "/tokens", body)
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, table[madeToken]{
				rows: told(func(t madeToken) string { return t.Token }).rows, name: func(t madeToken) string { return t.ID },
			})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&kind, "kind", "join", "join or api")
	flags.StringVar(&agent, "agent", "", "`name` of the agent that may join")
	flags.StringVar(&name, "name", "", "who or what holds an API token")
	flags.StringVar(&life, "expires-in", "", "`duration` such as 720h; 1h for a join token and no end for an API token if left out")
	complete(cmd, "kind", "join", "api")
	right.flags(cmd, "of an API token")
	return cmd
}

type madeToken struct{ ID, Token string }

func newTokenList() *cobra.Command {
	return newList(list[api.Token]{use: "list", short: "List the tokens, without their secrets", example: "  reeve token list", path: "/tokens", rows: tokenRows, name: func(t api.Token) string { return t.ID }})
}

func tokenRows(w io.Writer, list []api.Token) error {
	row(w, "ID", "KIND", "FOR", "MAY", "CREATED", "EXPIRES", "USED")
	for _, t := range list {
		row(w, t.ID, t.Kind, cmp.Or(string(t.Agent), t.Name), orDash(t.Rights.String()), ago(t.Created), when(t.Expires), when(t.UsedAt))
	}
	return nil
}
