package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func newAlerts() *cobra.Command {
	cmd := &cobra.Command{Use: "alerts", Short: "List, replay and skip alerts"}
	cmd.AddCommand(
		newList(alertList("list")),
		newAlertAct("replay", "Deliver an alert again, now"),
		newAlertAct("skip", "Give an alert up, so that the ones behind it are delivered"),
	)
	return cmd
}

func newAlertAct(verb, short string) *cobra.Command {
	var hub hubFlags
	cmd := &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if _, err := c.do(cmd.Context(), http.MethodPost, "/alerts/"+url.PathEscape(args[0])+"/"+verb, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", verb, args[0])
			return nil
		},
	}
	hub.flags(cmd)
	return cmd
}
