package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/hdf"
)

func newGet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "List what the hub knows",
		Example: `  reeve get agents
  reeve get scans --agent prod --status running
  reeve get scans 01a2008e-2017-7681-a3b9-64c9b5507265 -o yaml
  reeve get results 01a2008e-2017-7681-a3b9-64c9b5507265 > results.json
  reeve get targets --outcome failed
  reeve get components -q openssl`,
	}
	cmd.AddCommand(
		newList(list[api.Agent]{
			use: "agents", short: "List the agents that ever joined", path: "/agents", rows: agentRows, wide: agentWideRows,
			arg: "NAME", name: func(a api.Agent) string { return string(a.Name) },
		}),
		newList(list[api.AgentService]{use: "services", short: "List the services of all agents", path: "/services", rows: serviceRows}),
		newList(list[api.Scan]{
			use: "scans", short: "List the scans, newest first", path: "/scans", rows: scanRows, paged: true, arg: "ID",
			filters: []filter{{name: "status", usage: "only those with this `status`", values: []string{"queued", "running", "completed", "error", "cancelled"}}, ofAgent},
		}),
		newResults(),
		newList(list[api.TargetState]{
			use: "targets", short: "List how each target stood when it was last scanned", path: "/targets", rows: targetRows, paged: true,
			filters: []filter{ofAgent, {name: "namespace", usage: "only those of the namespace with this `name`"}, ofProfile, {name: "outcome", usage: "only those with this `outcome`", values: []string{"passed", "failed"}}},
		}),
		newHistory(),
		newInsights(),
		newList(list[api.Document]{use: "sboms", short: "List the SBOMs", path: "/insights/sboms", rows: documentRows, paged: true, filters: append([]filter{
			ofNamespace, {name: "history", usage: "`true`: also those that a later one replaced", values: []string{"true"}}, ofBuild, atTime,
		}, insightFilters...)}),
		newList(list[api.Document]{use: "images", short: "List the image inspects", path: "/insights/images", rows: documentRows, paged: true, filters: insightFilters}),
		newList(list[api.Component]{
			use: "components", short: "Find packages in the current SBOMs", path: "/components", rows: componentRows, paged: true,
			filters: append([]filter{{name: "q", short: "q", usage: "how the `name` begins, or a purl (pkg:…)"}, ofNamespace, ofBuild, atTime}, insightFilters...),
		}),
		newList(list[api.Fact]{
			use: "facts", short: "List the facts", path: "/insights/facts", rows: factRows, paged: true,
			filters: append(append([]filter{{name: "name", usage: "only those with this `name`"}}, directFilters...), insightFilters...),
		}),
		newList(list[api.Problem]{
			use: "problems", short: "List the problems", path: "/insights/problems", rows: problemRows, paged: true,
			filters: append(append([]filter{
				{name: "identifier", usage: "only this `id`, such as CVE-2024-3094"},
				{name: "cleared", usage: "`true`: also what a statement (VEX) says is no problem", values: []string{"true"}},
			}, directFilters...), insightFilters...),
		}),
		newList(list[api.Workload]{
			use: "workloads", short: "List what runs in the clusters", path: "/workloads", rows: workloadRows, paged: true,
			filters: []filter{
				ofAgent, ofNamespace,
				{name: "service", usage: "only those of the service with this `name`"},
				since("only what didn't run before this `time`"),
				{name: "sbom", usage: "`missing`: only images without an SBOM", values: []string{"any", "missing"}},
			},
		}),
		newList(list[api.Inventory]{use: "inventories", short: "List how each agent last reported what runs, and what waits at it", path: "/inventories", rows: inventoryRows, paged: true, filters: []filter{ofAgent}}),
		newList(list[api.Quarantined]{use: "quarantine", short: "List what agents sent that couldn't be taken, and why", path: "/insights/quarantine", rows: quarantineRows, paged: true, filters: []filter{ofAgent}}),
		newList(list[api.Statement]{use: "vex", short: "List what was said of vulnerabilities", path: "/vex", rows: statementRows, paged: true, filters: []filter{{name: "vulnerability", usage: "only on this `id`"}}}),
		newList(list[api.Export]{
			use: "exports", short: "List the SBOMs that go to Dependency-Track", path: "/insights/exports", rows: exportRows, paged: true,
			filters: append([]filter{{name: "state", usage: "only those in this `state`", values: []string{"waiting", "sent", "refused"}}, ofNamespace}, insightFilters...),
		}),
		newWhatsNew(),
		newList(alertList("alerts")),
		newList(list[api.Sink]{use: "sinks", short: "Show how the outbox of each sink stands", path: "/sinks", rows: sinkRows}),
		newList(list[api.Profile]{use: "profiles", short: "List the profiles that scans can ask for", path: "/profiles", rows: profileRows, arg: "NAME"}),
		newList(list[api.Threshold]{use: "thresholds", short: "List the thresholds that scans can ask for", path: "/thresholds", rows: thresholdRows, arg: "NAME"}),
	)
	cmd.AddCommand(newGetPolicies()...)
	return cmd
}

// list describes one of the API's lists of T.
type list[T any] struct {
	use, short, path string
	rows             func(io.Writer, []T) error
	// wide is rows with more columns; nil: there are none.
	wide    func(io.Writer, []T) error
	filters []filter
	// paged lists take limit and before.
	paged bool
	// arg names the argument that asks for one item; empty if there is none.
	// The item has a path of its own, unless name finds it in the list.
	arg  string
	name func(T) string
}

// filter is a flag that becomes a parameter of the request.
type filter struct {
	name, short, usage string
	values             []string
	// read turns what was typed into the parameter; nil takes it as it is.
	read func(string) (string, error)
}

var (
	ofAgent        = filter{name: "agent", usage: "only those of the agent with this `name`"}
	ofNamespace    = filter{name: "namespace", usage: "only those of the namespace with this `name`"}
	ofProfile      = filter{name: "profile", usage: "only those by the profile with this `name`"}
	atTime         = filter{name: "at", usage: "as it stood at this `time`", read: since("").read}
	ofBuild        = filter{name: "build", usage: "only those of the build with this `name`"}
	insightFilters = []filter{
		ofAgent,
		{name: "project", usage: "only those of the project with this `name`"},
		{name: "environment", usage: "only those of the environment with this `name`"},
		{name: "service", usage: "only those of the service with this `name`"},
	}
)

func alertList(use string) list[api.Alert] {
	return list[api.Alert]{
		use: use, short: "List the alerts, newest first", path: "/alerts", rows: alertRows, paged: true,
		filters: []filter{
			{name: "state", usage: "only those in this `state`", values: []string{"pending", "delivered", "dead", "skipped"}},
			{name: "sink", usage: "only those to the sink with this `name`"},
			{name: "run", usage: "only those of the scan with this `id`"},
		},
	}
}

// directFilters are those of facts and problems.
var directFilters = []filter{
	ofNamespace, since("only what wasn't so before this `time`; with --history also what ended since"), ofBuild, atTime,
	{name: "history", usage: "`true`: also what was told and doesn't hold any more", values: []string{"true"}},
	{name: "source", usage: "only those from this `source`"},
}

// pageSize is the most that every list of the API answers at once.
const pageSize = 500

// newList is a command that prints one of the API's lists.
func newList[T any](l list[T]) *cobra.Command {
	var hub hubFlags
	var out output
	var limit int
	query := map[string]*string{}
	cmd := &cobra.Command{
		Use:     l.use,
		Aliases: []string{strings.TrimSuffix(l.use, "s")},
		Short:   l.short,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return l.one(cmd, c, &out, args[0])
			}
			params, err := parameters(l.filters, query)
			if err != nil {
				return err
			}
			raw, more, err := c.list(cmd.Context(), l.path, params, l.paged, limit)
			if err != nil {
				return err
			}
			items, err := decodeItems[T](raw)
			if err != nil {
				return err
			}
			data, err := json.Marshal(raw)
			if err != nil {
				return err
			}
			if err := out.print(cmd.OutOrStdout(), data, func(w io.Writer) error { return l.table(&out)(w, items) }); err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "these are the newest %d; --limit 0 lists all\n", len(items))
			}
			return nil
		},
	}
	if cmd.Aliases[0] == l.use {
		cmd.Aliases = nil
	}
	if l.arg != "" {
		cmd.Use, cmd.Args = l.use+" ["+l.arg+"]", cobra.MaximumNArgs(1)
	}
	hub.flags(cmd)
	out.flag(cmd)
	for _, f := range l.filters {
		query[f.name] = cmd.Flags().StringP(f.name, f.short, "", f.usage)
		complete(cmd, f.name, f.values...)
	}
	if l.paged {
		cmd.Flags().IntVar(&limit, "limit", 100, "`number` of items at most; 0 for all")
	}
	return cmd
}

// table is what makes the rows that are asked for.
func (l list[T]) table(out *output) func(io.Writer, []T) error {
	if out.format == "wide" && l.wide != nil {
		return l.wide
	}
	return l.rows
}

// parameters are those of filters, by what was typed.
func parameters(filters []filter, typed map[string]*string) (url.Values, error) {
	params := url.Values{}
	for _, f := range filters {
		value := *typed[f.name]
		if value == "" {
			continue
		}
		if f.read != nil {
			var err error
			if value, err = f.read(value); err != nil {
				return nil, fmt.Errorf("--%s: %w", f.name, err)
			}
		}
		params.Set(f.name, value)
	}
	return params, nil
}

// one prints the item that an argument names.
func (l list[T]) one(cmd *cobra.Command, c *client, out *output, name string) error {
	data, err := l.get(cmd.Context(), c, name)
	if err != nil {
		return err
	}
	items, err := decodeItems[T]([]json.RawMessage{data})
	if err != nil {
		return err
	}
	return out.print(cmd.OutOrStdout(), data, func(w io.Writer) error { return l.table(out)(w, items) })
}

func (l list[T]) get(ctx context.Context, c *client, name string) (json.RawMessage, error) {
	if l.name == nil {
		return c.do(ctx, http.MethodGet, l.path+"/"+url.PathEscape(name), nil)
	}
	raw, _, err := c.list(ctx, l.path, url.Values{}, l.paged, 0)
	if err != nil {
		return nil, err
	}
	items, err := decodeItems[T](raw)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(items, func(item T) bool { return l.name(item) == name })
	if i < 0 {
		return nil, fmt.Errorf("%s: there is no %q; reeve get %s lists those that there are", l.use, name, l.use)
	}
	return raw[i], nil
}

func decodeItems[T any](raw []json.RawMessage) ([]T, error) {
	items := make([]T, len(raw))
	for i := range raw {
		if err := json.Unmarshal(raw[i], &items[i]); err != nil {
			return nil, fmt.Errorf("the hub's answer: %w", err)
		}
	}
	return items, nil
}

// list gathers up to limit items of one of the API's lists (all for 0), page
// after page, and says whether there are more.
func (c *client) list(ctx context.Context, path string, params url.Values, paged bool, limit int) (items []json.RawMessage, more bool, err error) {
	items = []json.RawMessage{}
	for {
		if paged {
			size := pageSize
			if limit > 0 {
				size = min(size, limit-len(items))
			}
			params.Set("limit", strconv.Itoa(size))
		}
		at := path
		if len(params) > 0 {
			at += "?" + params.Encode()
		}
		data, err := c.do(ctx, http.MethodGet, at, nil)
		if err != nil {
			return nil, false, err
		}
		var page struct {
			Items []json.RawMessage
			Next  string
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return nil, false, fmt.Errorf("the hub's answer: %w", err)
		}
		items = append(items, page.Items...)
		if page.Next == "" || (limit > 0 && len(items) >= limit) {
			return items, page.Next != "", nil
		}
		params.Set("before", page.Next)
	}
}

// newResults prints the document itself, as the hub keeps it.
func newResults() *cobra.Command {
	var hub hubFlags
	cmd := &cobra.Command{
		Use:     "results SCAN",
		Short:   "Print a completed scan's results, in the Heimdall Data Format",
		Example: "  reeve get results 01a2008e-2017-7681-a3b9-64c9b5507265 > results.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			resp, err := c.send(cmd.Context(), http.MethodGet, "/scans/"+url.PathEscape(args[0])+"/results", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), resp.Body)
			return err
		},
	}
	hub.flags(cmd)
	return cmd
}

// newInsights prints insights of every kind in one table.
func newInsights() *cobra.Command {
	var hub hubFlags
	var out output
	var limit int
	query := map[string]*string{}
	cmd := &cobra.Command{
		Use:   "insights",
		Short: "List SBOMs, image inspects, facts and problems together",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			all := map[string][]json.RawMessage{}
			for _, kind := range []string{"sboms", "images", "facts", "problems"} {
				params := url.Values{}
				for name, value := range query {
					if *value != "" {
						params.Set(name, *value)
					}
				}
				items, more, err := c.list(cmd.Context(), "/insights/"+kind, params, true, limit)
				if err != nil {
					return err
				}
				all[kind] = items
				if more {
					fmt.Fprintf(cmd.ErrOrStderr(), "these are the newest %d %s; --limit 0 lists all\n", len(items), kind)
				}
			}
			data, err := json.Marshal(all)
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), data, func(w io.Writer) error { return insightRows(w, data) })
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	for _, f := range insightFilters {
		query[f.name] = cmd.Flags().StringP(f.name, f.short, "", f.usage)
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "`number` of items of each kind at most; 0 for all")
	return cmd
}

func insightRows(w io.Writer, data json.RawMessage) error {
	var all struct {
		SBOMs, Images []api.Document
		Facts         []api.Fact
		Problems      []api.Problem
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("the hub's answer: %w", err)
	}
	row(w, "KIND", "AGENT", "PROJECT", "ENVIRONMENT", "SERVICE", "NAME", "VALUE", "RECEIVED")
	line := func(kind string, p api.Place, name, value string, received time.Time) {
		row(w, kind, p.Agent, orDash(p.Project), orDash(p.Environment), orDash(p.Service), orDash(name), orDash(value), ago(received))
	}
	for _, d := range all.SBOMs {
		line("sbom", d.Place, d.Subject, count(d.Components, "component"), d.Received)
	}
	for _, d := range all.Images {
		line("image", d.Place, d.Subject, d.Version, d.Received)
	}
	for _, f := range all.Facts {
		line("fact", f.Place, f.Name, f.Value, f.Received)
	}
	for _, p := range all.Problems {
		line("problem", p.Place, p.Identifier, strings.TrimSpace(p.Severity+" "+p.AssociatedPackage), p.Received)
	}
	return nil
}

func agentRows(w io.Writer, list []api.Agent) error {
	row(w, "NAME", "STATE", "INSTANCES", "SERVICES", "VERSION", "LAST SEEN", "DESCRIPTION")
	for _, a := range list {
		version := ""
		if len(a.Instances) > 0 {
			version = a.Instances[0].Version
		}
		row(w, a.Name, state(a.Connected), len(a.Instances), len(a.Services), orDash(version), ago(a.LastSeen), orDash(a.Annotations["description"]))
	}
	return nil
}

func serviceRows(w io.Writer, list []api.AgentService) error {
	row(w, "AGENT", "TYPE", "NAME", "STATE", "DESCRIPTION", "PAGE")
	for _, s := range list {
		row(w, s.Agent, s.Type, s.Name, state(s.Connected), orDash(s.Annotations["description"]), orDash(s.Annotations["uiUrl"]))
	}
	return nil
}

func state(connected bool) string {
	if connected {
		return "connected"
	}
	return "away"
}

func scanRows(w io.Writer, list []api.Scan) error {
	row(w, "ID", "STATUS", "OUTCOME", "PASSED", "AGENT", "TARGET", "PROFILE", "THRESHOLD", "CREATED", "REASON")
	for _, s := range list {
		target := s.Target.URI
		if target == "" {
			target = strings.Join([]string{s.Target.Namespace, s.Target.Pod, s.Target.Container}, "/")
		}
		passed := ""
		if n := s.Counts; n != nil {
			passed = fmt.Sprintf("%d/%d", n.Passed, total(*n))
		}
		row(w, s.ID, s.Status, orDash(string(s.Outcome)), orDash(passed), s.Target.Agent, target, s.Scan.Profile, orDash(s.Scan.Threshold), ago(s.Created), orDash(s.Reason))
	}
	return nil
}

func total(n hdf.Counts) int { return n.Passed + n.Failed + n.Skipped + n.Error }

func documentRows(w io.Writer, list []api.Document) error {
	row(w, "DIGEST", "AGENT", "NAMESPACE", "PROJECT", "ENVIRONMENT", "SERVICE", "BUILD", "COMPONENTS", "RECEIVED")
	for _, d := range list {
		row(w, d.Digest, d.Agent, orDash(d.Namespace), orDash(d.Project), orDash(d.Environment), orDash(d.Service), orDash(d.Build), d.Components, ago(d.Received))
	}
	return nil
}

func componentRows(w io.Writer, list []api.Component) error {
	row(w, "COMPONENT", "VERSION", "AGENT", "NAMESPACE", "PROJECT", "ENVIRONMENT", "SERVICE")
	for _, c := range list {
		row(w, cmp.Or(c.PURL, c.Name), orDash(c.Version), c.Agent, orDash(c.Namespace), orDash(c.Project), orDash(c.Environment), orDash(c.Service))
	}
	return nil
}

func factRows(w io.Writer, list []api.Fact) error {
	row(w, "AGENT", "PROJECT", "ENVIRONMENT", "SOURCE", "NAME", "VALUE", "SINCE", "UNTIL")
	for _, f := range list {
		row(w, f.Agent, orDash(cmp.Or(f.Project, f.Namespace)), orDash(f.Environment), orDash(f.Source), f.Name, f.Value, ago(f.Since), ago(f.Until))
	}
	return nil
}

func problemRows(w io.Writer, list []api.Problem) error {
	row(w, "AGENT", "PROJECT", "ENVIRONMENT", "IDENTIFIER", "SEVERITY", "PACKAGE", "FIXED IN", "SINCE", "UNTIL")
	for _, p := range list {
		row(w, p.Agent, orDash(cmp.Or(p.Project, p.Namespace)), orDash(p.Environment), p.Identifier, orDash(p.Severity), orDash(p.AssociatedPackage), orDash(p.FixedVersion), ago(p.Since), ago(p.Until))
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

func sinkRows(w io.Writer, list []api.Sink) error {
	row(w, "NAME", "TYPE", "PENDING", "DELIVERED", "DEAD", "SKIPPED", "OLDEST", "PAUSED UNTIL", "REASON")
	for _, s := range list {
		until, reason := when(s.PausedUntil), s.Reason
		if s.PausedBy != "" {
			until, reason = "resumed", "paused by "+s.PausedBy
		}
		row(w, s.Name, orDash(s.Type), s.Pending, s.Delivered, s.Dead, s.Skipped, ago(s.OldestPending), until, orDash(reason))
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

func orDash(s string) string { return cmp.Or(s, "-") }

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
