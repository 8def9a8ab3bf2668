package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func newLogin() *cobra.Command {
	var hub hubFlags
	var right rightFlags
	var out output
	var name string
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
			body := map[string]any{}
			right.put(body)
			if name != "" {
				body["name"] = name
			}
			data, err := c.do(cmd.Context(), http.MethodPost, "/login-links", body)
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, told(func(l struct{ URL string }) string {
				if name == "" {
					return reached(l.URL, c.base)
				}
				return l.URL
			}))
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&name, "name", "", "who logs in; the caller if left out")
	right.flags(cmd, "of the session; the caller's if left out")
	return cmd
}

// reached is a link of the hub's by the address that the caller reached it by: behind
// a forwarded port his browser reaches the hub's own name no more than he does.
func reached(link string, hub *url.URL) string {
	u, err := url.Parse(link)
	if err != nil {
		return link
	}
	u.Scheme, u.Host = hub.Scheme, hub.Host
	return u.String()
}
