package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
)

func newGet() *cobra.Command {
	cmd := &cobra.Command{Use: "get", Short: "List what the hub knows", Args: cobra.NoArgs}
	cmd.AddCommand(
		newList("agents", "List the agents that ever joined", "/agents", agentRows),
		newList("services", "List the services of all agents", "/services", serviceRows),
		newList("scans", "List the scans, newest first", "/scans", scanRows),
		newList("sboms", "List the SBOMs", "/insights/sboms", documentRows),
		newList("facts", "List the facts", "/insights/facts", factRows),
		newList("problems", "List the problems", "/insights/problems", problemRows),
		newList("alerts", "List the alerts, newest first", "/alerts", alertRows),
		newList("profiles", "List the profiles that scans can ask for", "/profiles", profileRows),
		newList("thresholds", "List the thresholds that scans can ask for", "/thresholds", thresholdRows),
	)
	return cmd
}

// newList is a command that prints one of the API's lists, page after page.
func newList[T any](use, short, path string, table func(io.Writer, []T) error) *cobra.Command {
	var hub hubFlags
	var out output
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			data, err := c.do(cmd.Context(), http.MethodGet, path, nil)
			if err != nil {
				return err
			}
			var page struct {
				Items json.RawMessage
				Next  string
			}
			if err := json.Unmarshal(data, &page); err != nil {
				return fmt.Errorf("the hub's answer: %w", err)
			}
			err = out.print(cmd.OutOrStdout(), page.Items, func(w io.Writer) error {
				var items []T
				if err := json.Unmarshal(page.Items, &items); err != nil {
					return fmt.Errorf("the hub's answer: %w", err)
				}
				return table(w, items)
			})
			if err == nil && page.Next != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "there are more: these are the newest; the API's next is", page.Next)
			}
			return err
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	return cmd
}

func agentRows(w io.Writer, list []api.Agent) error {
	row(w, "NAME", "STATE", "INSTANCES", "SERVICES", "VERSION", "LAST SEEN", "DESCRIPTION")
	for _, a := range list {
		state, version := "away", "-"
		if a.Connected {
			state = "connected"
		}
		if len(a.Instances) > 0 {
			version = a.Instances[0].Version
		}
		row(w, a.Name, state, len(a.Instances), len(a.Services), version, ago(a.LastSeen), orDash(a.Annotations["description"]))
	}
	return nil
}

func serviceRows(w io.Writer, list []api.AgentService) error {
	row(w, "AGENT", "TYPE", "NAME", "STATE", "DESCRIPTION")
	for _, s := range list {
		state := "away"
		if s.Connected {
			state = "connected"
		}
		row(w, s.Agent, s.Type, s.Name, state, orDash(s.Annotations["description"]))
	}
	return nil
}

func scanRows(w io.Writer, list []api.Scan) error {
	row(w, "ID", "STATUS", "OUTCOME", "AGENT", "TARGET", "PROFILE", "THRESHOLD", "CREATED")
	for _, s := range list {
		target := s.Target.URI
		if target == "" {
			target = strings.Join([]string{s.Target.Namespace, s.Target.Pod, s.Target.Container}, "/")
		}
		row(w, s.ID, s.Status, orDash(string(s.Outcome)), s.Target.Agent, target, s.Scan.Profile, orDash(s.Scan.Threshold), ago(s.Created))
	}
	return nil
}

func documentRows(w io.Writer, list []api.Document) error {
	row(w, "DIGEST", "AGENT", "NAMESPACE", "PROJECT", "ENVIRONMENT", "SERVICE", "COMPONENTS", "RECEIVED")
	for _, d := range list {
		row(w, d.Digest, d.Agent, orDash(d.Namespace), orDash(d.Project), orDash(d.Environment), orDash(d.Service), d.Components, ago(d.Received))
	}
	return nil
}

func factRows(w io.Writer, list []api.Fact) error {
	row(w, "AGENT", "PROJECT", "ENVIRONMENT", "SOURCE", "NAME", "VALUE", "RECEIVED")
	for _, f := range list {
		row(w, f.Agent, f.Project, f.Environment, f.Source, f.Name, f.Value, ago(f.Received))
	}
	return nil
}

func problemRows(w io.Writer, list []api.Problem) error {
	row(w, "AGENT", "PROJECT", "ENVIRONMENT", "IDENTIFIER", "SEVERITY", "PACKAGE", "FIXED IN", "RECEIVED")
	for _, p := range list {
		row(w, p.Agent, p.Project, p.Environment, p.Identifier, orDash(p.Severity), orDash(p.AssociatedPackage), orDash(p.FixedVersion), ago(p.Received))
	}
	return nil
}

func alertRows(w io.Writer, list []api.Alert) error {
	row(w, "ID", "STATE", "SINK", "OWNER", "REPO", "POLICY", "PASS", "ATTEMPTS", "CREATED", "LAST ERROR")
	for _, a := range list {
		row(w, a.ID, a.State, a.Sink, a.Owner, a.Repo, a.Policy, a.Pass, a.Attempts, ago(a.Created), orDash(a.LastError))
	}
	return nil
}

func profileRows(w io.Writer, list []api.Profile) error {
	row(w, "NAME", "VERSION", "CONTROLS", "TITLE")
	for _, p := range list {
		row(w, p.Name, orDash(p.Version), len(p.Controls), p.Title)
	}
	return nil
}

func thresholdRows(w io.Writer, list []api.Threshold) error {
	row(w, "NAME")
	for _, t := range list {
		row(w, t.Name)
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ago is how long t is past, as kubectl shows it.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// when is a point in time, or a dash for none.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}
