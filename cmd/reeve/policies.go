package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
)

// newGetPolicies are the lists of what policies come to.
func newGetPolicies() []*cobra.Command {
	ofPolicy := filter{name: "policy", usage: "only those of the policy with this `name`", names: policyNames}
	ofSource := filter{name: "source", usage: "those of this `source`: policies, or github/ORG"}
	return []*cobra.Command{
		newList(list[api.Policy]{use: "policies", short: "List the policies, how their subjects stand, and what is wrong with overrides", example: "  reeve get policies\n  reeve get policy sboms -o yaml", path: "/policies", rows: policyRows, arg: "NAME", name: func(p api.Policy) string { return p.Name }}),
		newList(list[api.PolicyRun]{
			use: "policy-runs", short: "List evaluations of policies, newest first", example: "  reeve get policy-runs --policy sboms --limit 5", path: "/policy-runs", rows: policyRunRows, paged: true, name: func(r api.PolicyRun) string { return string(r.ID) },
			filters: []filter{ofPolicy, ofSource, {name: "state", usage: "only those in this `state`", values: []string{"running", "complete", "truncated"}}},
		}),
		newList(list[api.PolicySubject]{
			use: "policy-subjects", short: "List how subjects stand by policies", example: "  reeve get policy-subjects --verdict failed --namespace shop", path: "/policy-subjects", rows: policySubjectRows, paged: true, name: func(s api.PolicySubject) string { return s.Owner + "/" + s.Repo },
			filters: []filter{
				ofPolicy, ofSource,
				{name: "verdict", usage: "only those with this `verdict`", values: []string{"passed", "failed", "unknown"}},
				ofAgent, ofNamespace,
				{name: "owner", usage: "only those of this `owner`: AGENT/NAMESPACE, or an organisation"},
				{name: "repo", usage: "only this `name`"},
			},
		}),
		newList(list[api.GitHubOrganisation]{use: "github", short: "List the organisations whose repositories the hub checks, and GitHub's limits", example: "  reeve get github", path: "/github", rows: githubRows, name: func(o api.GitHubOrganisation) string { return o.Organisation }}),
		newList(list[api.PolicyOverride]{use: "policy-overrides", short: "List what namespaces say of policies for themselves", example: "  reeve get policy-overrides", path: "/policy-overrides", rows: policyOverrideRows, name: func(o api.PolicyOverride) string { return string(o.Agent) + "/" + o.Namespace }}),
	}
}

func policyRows(w io.Writer, list []api.Policy) error {
	row(w, "NAME", "CHECK", "PASSED", "FAILED", "UNKNOWN", "ACTIONS", "LAST RUN", "STATE", "FAULTS")
	for _, p := range list {
		last, state := "-", "-"
		if r := p.LastRun; r != nil {
			last, state = ago(r.Began), string(r.State)
		}
		row(w, p.Name, p.Check, p.Subjects.Passed, p.Subjects.Failed, p.Subjects.Unknown, strings.Join(p.Actions, " "), last, state, len(p.Faults))
	}
	return nil
}

func githubRows(w io.Writer, list []api.GitHubOrganisation) error {
	row(w, "CONNECTION", "ORGANISATION", "CHECKED", "REQUESTS", "UNCHANGED", "LEFT", "WAITS FOR")
	for _, o := range list {
		checked, left, waits := "-", "-", "-"
		if !o.Completed.IsZero() {
			checked = ago(o.Completed)
		}
		for _, l := range o.Limits {
			if l.Resource == "core" {
				left = fmt.Sprintf("%d/%d", l.Remaining, l.Limit)
			}
		}
		if !o.WaitsUntil.IsZero() {
			waits = o.WaitsFor + ", until " + o.WaitsUntil.Local().Format("15:04:05")
		}
		row(w, o.Connection, o.Organisation, checked, o.Requests, o.Unchanged, left, waits)
	}
	return nil
}

func policyRunRows(w io.Writer, list []api.PolicyRun) error {
	row(w, "ID", "SOURCE", "POLICY", "CAUSE", "STATE", "EXPECTED", "PASSED", "FAILED", "UNKNOWN", "BEGAN", "REASON")
	for _, r := range list {
		row(w, r.ID, r.Source, orDash(r.Policy), r.Cause, r.State, r.Expected, r.Results.Passed, r.Results.Failed, r.Results.Unknown, ago(r.Began), orDash(r.Reason))
	}
	return nil
}

func policySubjectRows(w io.Writer, list []api.PolicySubject) error {
	row(w, "POLICY", "OWNER", "REPO", "VERDICT", "SINCE", "CHECKED", "DETAILS")
	for _, s := range list {
		// The first line is the sentence that the rest is about.
		_, rest, _ := strings.Cut(strings.TrimSpace(s.Details), "\n")
		if rest == "" {
			rest = strings.TrimSpace(s.Details)
		}
		row(w, s.Policy, s.Owner, s.Repo, s.Verdict, ago(s.Since), ago(s.Checked), orDash(strings.Join(strings.Fields(rest), " ")))
	}
	return nil
}

func policyOverrideRows(w io.Writer, list []api.PolicyOverride) error {
	row(w, "AGENT", "NAMESPACE", "BY", "PUT", "FAULTS")
	for _, o := range list {
		var faults []string
		for _, f := range o.Faults {
			faults = append(faults, f.Reason)
		}
		row(w, o.Agent, o.Namespace, o.By, ago(o.At), orDash(strings.Join(faults, "; ")))
	}
	return nil
}

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Say what of policies is otherwise in a namespace"}
	cmd.AddCommand(newPolicyOverride())
	return cmd
}

func newPolicyOverride() *cobra.Command {
	var hub hubFlags
	var out output
	var file string
	var remove bool
	cmd := &cobra.Command{
		Use:   "override AGENT NAMESPACE",
		Short: "Put, show or remove what a namespace says of policies",
		Long: `Shows what a namespace says of policies for itself; with --file puts what is in
the file (- reads standard input) in its place, and with --remove takes it away.

It is YAML, by the name of each policy:

  critical-cves:
    optOut: true
  sboms:
    check: {sbom: {maxAge: 168h}}
    actions: [log]`,
		Example: `  reeve policy override edge shop --file shop.yaml
  reeve policy override edge shop --remove`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			path := "/policy-overrides/" + url.PathEscape(args[0]) + "/" + url.PathEscape(args[1])
			method, body := http.MethodGet, any(nil)
			switch {
			case remove:
				method = http.MethodDelete
			case file != "":
				text, err := readOverride(cmd, file)
				if err != nil {
					return err
				}
				method, body = http.MethodPut, api.PolicyOverrideRequest{Text: string(text)}
			}
			data, err := c.do(cmd.Context(), method, path, body)
			if err != nil {
				return err
			}
			if remove {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "removed %s/%s\n", args[0], args[1])
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, table[api.PolicyOverride]{rows: func(w io.Writer, list []api.PolicyOverride) error {
				_, err := fmt.Fprintln(w, lines(strings.TrimSpace(list[0].Text)))
				for _, f := range list[0].Faults {
					tell(cmd.ErrOrStderr(), "not applied: %s", f.Reason)
				}
				return err
			}})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "put what is in this `file`")
	cmd.Flags().BoolVar(&remove, "remove", false, "have policies hold as they do elsewhere")
	cmd.MarkFlagsMutuallyExclusive("file", "remove")
	arguments(cmd, &hub, false, agentNames)
	return cmd
}

func readOverride(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxOverride))
	}
	return os.ReadFile(file)
}

// maxOverride is more than the hub takes.
const maxOverride = 1 << 20
