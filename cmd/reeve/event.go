package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
)

func newEvent() *cobra.Command {
	cmd := &cobra.Command{Use: "event", Short: "Send and list events that lead to scans"}
	cmd.AddCommand(newEventSend(), newList(list[api.Event]{
		use: "list", short: "List the events, newest first, and what they led to", example: "  reeve event list --state error\n  reeve event list --agent prod --limit 20", path: "/events", rows: eventRows, paged: true, arg: "ID", name: func(e api.Event) string { return string(e.ID) },
		filters: []filter{
			{name: "state", usage: "only those in this `state`", values: []string{"pending", "scanned", "duplicate", "superseded", "unrouted", "invalid", "error"}},
			{name: "type", usage: "only those of this `type`"},
			{name: "source", usage: "only those from this `source`"},
			ofAgent,
		},
	}), newList(list[api.EventRoute]{use: "routes", short: "List the routes by which events lead to scans", example: "  reeve event routes", path: "/event-routes", rows: routeRows, name: func(r api.EventRoute) string { return r.Name }}))
	return cmd
}

func newEventSend() *cobra.Command {
	var hub hubFlags
	var out output
	cmd := &cobra.Command{
		Use:   "send FILE",
		Short: "Send a CloudEvent, or a list of them, in JSON; - is standard input",
		Example: `  echo '{"specversion":"1.0","id":"1","source":"//ci","type":"image.published",
    "data":{"image":"registry.example/shop/web:1.2"}}' | reeve event send -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			text, err := readFile(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			if !json.Valid(text) {
				return fmt.Errorf("%s isn't JSON: an event in JSON is asked for, or a list of them", args[0])
			}
			data, err := c.do(cmd.Context(), http.MethodPost, "/events", json.RawMessage(text))
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, table[api.AcceptedEvents]{rows: acceptedRows})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	return cmd
}

func readFile(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name)
}

func acceptedRows(w io.Writer, list []api.AcceptedEvents) error {
	row(w, "EVENT", "SOURCE", "STATE", "REASON")
	for _, e := range list[0].Events {
		row(w, e.ID, e.Source, e.State, orDash(e.Reason))
	}
	return nil
}

func eventRows(w io.Writer, list []api.Event) error {
	row(w, "ID", "TYPE", "SOURCE", "AGENT", "NAMESPACE", "RECEIVED", "STATE", "SCAN", "REASON")
	for _, e := range list {
		scan := ""
		for _, d := range e.Decisions {
			scan = cmp.Or(scan, d.Scan)
		}
		row(w, e.ID, e.Type, e.Source, orDash(e.Agent), orDash(e.Namespace), ago(e.Received), e.State, orDash(scan), orDash(e.Reason))
	}
	return nil
}

func routeRows(w io.Writer, list []api.EventRoute) error {
	row(w, "NAME", "AGENT", "MATCH", "PROFILE", "THRESHOLD", "METHOD")
	for _, r := range list {
		match, err := json.Marshal(r.Match)
		if err != nil {
			return err
		}
		row(w, r.Name, orDash(r.Agent), string(match), r.Scan.Profile, orDash(r.Scan.Threshold), orDash(r.Scan.Method))
	}
	return nil
}
