package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
)

// roles that a credential can have, each with the rights of those before it.
var roles = []string{"viewer", "scanner", "admin"}

func newToken() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make, list and revoke join tokens and API tokens"}
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenRevoke())
	return cmd
}

func newTokenCreate() *cobra.Command {
	var hub hubFlags
	var kind, agent, name, role, life string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token; it is shown once",
		Example: `  reeve token create --kind join --agent prod
  reeve token create --kind api --name ci --role scanner --expires-in 720h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if kind == "join" && agent == "" {
				return errors.New("a join token is for one agent: name it with --agent")
			}
			body := map[string]string{}
			for key, value := range map[string]string{"kind": kind, "agent": agent, "name": name, "role": role, "expiresIn": life} {
				if value != "" {
					body[key] = value
				}
			}
			data, err := c.do(cmd.Context(), http.MethodPost, "/tokens", body)
			if err != nil {
				return err
			}
			var made struct{ Token string }
			if err := json.Unmarshal(data, &made); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Token)
			return err
		},
	}
	hub.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&kind, "kind", "join", "join or api")
	flags.StringVar(&agent, "agent", "", "`name` of the agent that may join")
	flags.StringVar(&name, "name", "", "who or what holds an API token")
	flags.StringVar(&role, "role", "", "viewer, scanner, operator or admin, of an API token")
	flags.StringVar(&life, "expires-in", "", "`duration` such as 720h; 1h for a join token and no end for an API token if left out")
	complete(cmd, "kind", "join", "api")
	complete(cmd, "role", roles...)
	return cmd
}

func newTokenList() *cobra.Command {
	return newList(list[api.Token]{use: "list", short: "List the tokens, without their secrets", path: "/tokens", rows: tokenRows})
}

func tokenRows(w io.Writer, list []api.Token) error {
	row(w, "ID", "KIND", "FOR", "ROLE", "CREATED", "EXPIRES", "USED")
	for _, t := range list {
		row(w, t.ID, t.Kind, cmp.Or(string(t.Agent), t.Name), orDash(string(t.Role)), ago(t.Created), when(t.Expires), when(t.UsedAt))
	}
	return nil
}
