package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func newLogin() *cobra.Command {
	var hub hubFlags
	var name, role string
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Print a link that logs a browser in to the web page, once",
		Example: `  reeve login
  reeve login --name maria --role viewer`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			body := map[string]string{}
			for key, value := range map[string]string{"name": name, "role": role} {
				if value != "" {
					body[key] = value
				}
			}
			data, err := c.do(cmd.Context(), http.MethodPost, "/login-links", body)
			if err != nil {
				return err
			}
			var link struct{ URL string }
			if err := json.Unmarshal(data, &link); err != nil {
				return fmt.Errorf("the hub's answer: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), link.URL)
			return err
		},
	}
	hub.flags(cmd)
	cmd.Flags().StringVar(&name, "name", "", "who logs in; the caller if left out")
	cmd.Flags().StringVar(&role, "role", "", "`role` of the session: viewer, scanner, operator or admin; the caller's if left out")
	complete(cmd, "role", roles...)
	return cmd
}
