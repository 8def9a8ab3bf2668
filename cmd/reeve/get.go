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
	"reeve.dev/reeve/scan"
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
			use: "agents", short: "List the agents that ever joined", example: "  reeve get agents\n  reeve get agents -o wide\n  reeve get agent prod -o yaml", path: "/agents", rows: agentRows, wide: agentWideRows,
			arg: "NAME", inList: true, about: "annotations.description", name: func(a api.Agent) string { return string(a.Name) },
		}),
		newList(list[api.AgentService]{
			use: "services", short: "List the services of all agents", example: "  reeve get services\n  reeve get services -o json", path: "/services", rows: serviceRows,
			name: func(s api.AgentService) string { return string(s.Type) + "/" + string(s.Name) },
		}),
		newList(list[api.Scan]{
			use: "scans", short: "List the scans, newest first", example: "  reeve get scans --agent prod --status completed --limit 20\n  reeve get scans 01a2008e-2017-7681-a3b9-64c9b5507265 -o yaml", path: "/scans", rows: scanRows, paged: true, arg: "ID", about: "scan.profile", name: scanName,
			filters: []filter{{name: "status", usage: "only those with this `status`", values: []string{"queued", "running", "completed", "error", "cancelled"}}, ofAgent},
		}),
		newResults(),
		newList(list[api.TargetState]{
			use: "targets", short: "List how each target stood when it was last scanned", example: "  reeve get targets --outcome failed\n  reeve get targets --namespace shop -o json", path: "/targets", rows: targetRows, paged: true, name: func(t api.TargetState) string { return targetURI(t.Target) },
			filters: []filter{ofAgent, {name: "namespace", usage: "only those of the namespace with this `name`"}, ofProfile, {name: "outcome", usage: "only those with this `outcome`", values: []string{"passed", "failed"}}},
		}),
		newHistory(),
		newInsights(),
		newList(list[api.Document]{use: "sboms", short: "List the SBOMs", example: "  reeve get sboms --agent prod\n  reeve get sboms --project shop --at 3d", path: "/insights/sboms", rows: documentRows, paged: true, name: documentName, filters: append([]filter{
			ofNamespace, {name: "history", usage: "`true`: also those that a later one replaced", values: []string{"true"}}, ofBuild, atTime,
		}, insightFilters...)}),
		newList(list[api.Document]{use: "images", short: "List the image inspects", example: "  reeve get images --project shop", path: "/insights/images", rows: documentRows, paged: true, name: documentName, filters: insightFilters}),
		newList(list[api.Component]{
			use: "components", short: "Find packages in the current SBOMs", example: "  reeve get components -q openssl\n  reeve get components -q pkg:npm/lodash -o name", path: "/components", rows: componentRows, paged: true, name: func(c api.Component) string { return cmp.Or(c.PURL, c.Name) },
			filters: append([]filter{{name: "q", short: "q", usage: "how the `name` begins, or a purl (pkg:…)"}, ofNamespace, ofBuild, atTime}, insightFilters...),
		}),
		newList(list[api.Fact]{
			use: "facts", short: "List the facts", example: "  reeve get facts --project shop --name php-version\n  reeve get facts --history true --since 7d", path: "/insights/facts", rows: factRows, paged: true, name: func(f api.Fact) string { return f.Name },
			filters: append(append([]filter{{name: "name", usage: "only those with this `name`"}}, directFilters...), insightFilters...),
		}),
		newList(list[api.Problem]{
			use: "problems", short: "List the problems", example: "  reeve get problems --identifier CVE-2024-3094\n  reeve get problems --since tuesday", path: "/insights/problems", rows: problemRows, paged: true, name: func(p api.Problem) string { return p.Identifier },
			filters: append(append([]filter{
				{name: "identifier", usage: "only this `id`, such as CVE-2024-3094"},
				{name: "cleared", usage: "`true`: also what a statement (VEX) says is no problem", values: []string{"true"}},
			}, directFilters...), insightFilters...),
		}),
		newList(list[api.Workload]{
			use: "workloads", short: "List what runs in the clusters", example: "  reeve get workloads --agent prod --namespace shop\n  reeve get workloads --sbom missing", path: "/workloads", rows: workloadRows, paged: true, name: func(l api.Workload) string { return l.Kind + "/" + l.Name },
			filters: []filter{
				ofAgent, ofNamespace,
				{name: "service", usage: "only those of the service with this `name`"},
				since("only what didn't run before this `time`"),
				{name: "sbom", usage: "`missing`: only images without an SBOM", values: []string{"any", "missing"}},
			},
		}),
		newList(list[api.Inventory]{use: "inventories", short: "List how each agent last reported what runs, and what waits at it", example: "  reeve get inventories", path: "/inventories", rows: inventoryRows, paged: true, name: func(i api.Inventory) string { return string(i.Agent) }, filters: []filter{ofAgent}}),
		newList(list[api.Quarantined]{use: "quarantine", short: "List what agents sent that couldn't be taken, and why", example: "  reeve get quarantine --agent prod", path: "/insights/quarantine", rows: quarantineRows, paged: true, name: func(q api.Quarantined) string { return string(q.Item) }, filters: []filter{ofAgent}}),
		newList(list[api.Statement]{use: "vex", short: "List what was said of vulnerabilities", example: "  reeve get vex --vulnerability CVE-2024-3094", path: "/vex", rows: statementRows, paged: true, name: func(s api.Statement) string { return string(s.Document) }, filters: []filter{{name: "vulnerability", usage: "only on this `id`"}}}),
		newList(list[api.Export]{
			use: "exports", short: "List the SBOMs that go to Dependency-Track", example: "  reeve get exports --state refused", path: "/insights/exports", rows: exportRows, paged: true, name: func(e api.Export) string { return e.ToProject },
			filters: append([]filter{{name: "state", usage: "only those in this `state`", values: []string{"waiting", "sent", "refused"}}, ofNamespace}, insightFilters...),
		}),
		newWhatsNew(),
		newList(alertList("alerts")),
		newList(sinkList),
		newList(list[api.Profile]{use: "profiles", short: "List the profiles that scans can ask for", example: "  reeve get profiles\n  reeve get profile container-baseline -o yaml", path: "/profiles", rows: profileRows, arg: "NAME", about: "title", name: func(p api.Profile) string { return p.Name }}),
		newList(list[api.Threshold]{use: "thresholds", short: "List the thresholds that scans can ask for", example: "  reeve get thresholds\n  reeve get threshold moderate -o json", path: "/thresholds", rows: thresholdRows, arg: "NAME", name: func(t api.Threshold) string { return t.Name }}),
	)
	cmd.AddCommand(newGetPolicies()...)
	return cmd
}

// list describes one of the API's lists of T.
type list[T any] struct {
	use, short, example string
	path                string
	// rows, wide and name are those of a table.
	rows, wide func(io.Writer, []T) error
	name       func(T) string
	filters    []filter
	// paged lists take limit and before.
	paged bool
	// arg names the argument that asks for one item; empty if there is none.
	// The item has a path of its own, unless it is to be found in the list by
	// its name.
	arg    string
	inList bool
	// about is the member that describes an item to a shell that completes arg.
	about string
}

// filter is a flag that becomes a parameter of the request.
type filter struct {
	name, short, usage string
	values             []string
	// names are what the hub knows of the kind.
	names names
	// read turns what was typed into the parameter; nil takes it as it is.
	read func(string) (string, error)
}

var (
	ofAgent        = filter{name: "agent", usage: "only those of the agent with this `name`", names: agentNames}
	ofNamespace    = filter{name: "namespace", usage: "only those of the namespace with this `name`"}
	ofProfile      = filter{name: "profile", usage: "only those by the profile with this `name`", names: profileNames}
	atTime         = filter{name: "at", usage: "as it stood at this `time`", read: since("").read}
	ofBuild        = filter{name: "build", usage: "only those of the build with this `name`"}
	insightFilters = []filter{
		ofAgent,
		{name: "project", usage: "only those of the project with this `name`"},
		{name: "environment", usage: "only those of the environment with this `name`"},
		{name: "service", usage: "only those of the service with this `name`"},
	}
)

var sinkList = list[api.Sink]{
	use: "sinks", short: "Show how the outbox of each sink stands", example: "  reeve alerts sinks\n  reeve get sinks -o json", path: "/sinks", rows: sinkRows, name: func(s api.Sink) string { return string(s.Name) },
}

func alertList(use string) list[api.Alert] {
	return list[api.Alert]{
		use: use, short: "List the alerts, newest first", example: "  reeve alerts list --state dead\n  reeve get alerts --sink ops -o json", path: "/alerts", rows: alertRows, paged: true, name: func(a api.Alert) string { return string(a.ID) },
		filters: []filter{
			{name: "state", usage: "only those in this `state`", values: []string{"pending", "delivered", "dead", "skipped"}},
			{name: "sink", usage: "only those to the sink with this `name`", names: sinkNames},
			{name: "run", usage: "only those of the scan with this `id`", names: scanNames},
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
	var query map[string]*string
	cmd := &cobra.Command{
		Use:     l.use,
		Short:   l.short,
		Example: l.example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				data, err := l.get(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				return printOne(cmd.OutOrStdout(), &out, data, l.table())
			}
			params, err := parameters(l.filters, query)
			if err != nil {
				return err
			}
			return printPages(cmd, c, &out, pages{l.path, params, l.paged, limit}, l.table())
		},
	}
	if one := singular(l.use); one != l.use {
		cmd.Aliases = []string{one}
	}
	hub.flags(cmd)
	out.flag(cmd)
	query = filterFlags(cmd, &hub, l.filters)
	if l.paged {
		limitFlag(cmd, &limit, "items")
	}
	if l.arg != "" {
		cmd.Use, cmd.Args = l.use+" ["+l.arg+"]", cobra.MaximumNArgs(1)
		member := "id"
		if l.arg == "NAME" {
			member = "name"
		}
		arguments(cmd, &hub, false, names{path: l.path, paged: l.paged, member: member, about: l.about})
	}
	return cmd
}

func singular(plural string) string {
	if stem, ok := strings.CutSuffix(plural, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(plural, "s")
}

func (l list[T]) table() table[T] { return table[T]{l.rows, l.wide, l.name} }

func (l list[T]) get(ctx context.Context, c *client, name string) (json.RawMessage, error) {
	if !l.inList {
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

// filterFlags makes a flag of each filter.
func filterFlags(cmd *cobra.Command, hub *hubFlags, filters []filter) map[string]*string {
	typed := map[string]*string{}
	for _, f := range filters {
		typed[f.name] = cmd.Flags().StringP(f.name, f.short, "", f.usage)
		if f.names.path != "" {
			f.names.flag(cmd, f.name, hub, cobra.ShellCompDirectiveNoFileComp)
		} else {
			complete(cmd, f.name, f.values...)
		}
	}
	return typed
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
		if c.got != nil {
			c.got(len(items))
		}
		if page.Next == "" || (limit > 0 && len(items) >= limit) {
			return items, page.Next != "", nil
		}
		params.Set("before", page.Next)
	}
}

// pages says what of one of the API's lists is printed: see client.list.
type pages struct {
	path   string
	params url.Values
	paged  bool
	limit  int
}

// printPages prints one of the API's lists.
func printPages[T any](cmd *cobra.Command, c *client, out *output, p pages, t table[T]) error {
	bar := newProgress(cmd.ErrOrStderr())
	c.got = func(n int) {
		if n >= pageSize { // there may be many
			bar.count(n, "item")
		}
	}
	raw, more, err := c.list(cmd.Context(), p.path, p.params, p.paged, p.limit)
	bar.clear()
	if err != nil {
		return err
	}
	if err := printList(cmd.OutOrStdout(), out, raw, t); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(cmd.ErrOrStderr(), "these are the first %d; --limit 0 lists all\n", len(raw))
	}
	return nil
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
	var query map[string]*string
	cmd := &cobra.Command{
		Use:     "insights",
		Short:   "List SBOMs, image inspects, facts and problems together",
		Example: "  reeve get insights --project shop --limit 0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			all := map[string][]json.RawMessage{}
			for _, kind := range []string{"sboms", "images", "facts", "problems"} {
				params, err := parameters(insightFilters, query)
				if err != nil {
					return err
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
			return printOne(cmd.OutOrStdout(), &out, data, table[insights]{rows: insightRows})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	query = filterFlags(cmd, &hub, insightFilters)
	limitFlag(cmd, &limit, "items of each kind")
	return cmd
}

type insights struct {
	SBOMs, Images []api.Document
	Facts         []api.Fact
	Problems      []api.Problem
}

func insightRows(w io.Writer, list []insights) error {
	all := list[0]
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
		passed := ""
		if n := s.Counts; n != nil {
			passed = fmt.Sprintf("%d/%d", n.Passed, total(*n))
		}
		row(w, s.ID, s.Status, cmp.Or(string(s.Outcome), string(s.Status)), orDash(passed), s.Target.Agent, place(s.Target), s.Scan.Profile, orDash(s.Scan.Threshold), ago(s.Created), orDash(s.Reason))
	}
	return nil
}

func scanName(s api.Scan) string { return string(s.ID) }

// place is a target as a table shows it, and targetURI as commands take it.
func place(t api.ScanTarget) string {
	return cmp.Or(t.URI, strings.Join([]string{t.Namespace, t.Pod, t.Container}, "/"))
}

func targetURI(t api.ScanTarget) string {
	return scan.Target{Namespace: t.Namespace, Pod: t.Pod, Container: t.Container, URI: t.URI}.String()
}

func documentName(d api.Document) string { return string(d.Digest) }

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
	row(w, "NAME", "TYPE", "PENDING", "DELIVERED", "DEAD", "SKIPPED", "OLDEST", "PAUSED", "REASON")
	for _, s := range list {
		paused, reason := "-", s.Reason
		switch {
		case s.PausedBy != "":
			paused, reason = "by hand", "paused by "+s.PausedBy
		case !s.PausedUntil.IsZero():
			paused = "for " + span(max(0, time.Until(s.PausedUntil)))
		}
		row(w, s.Name, orDash(s.Type), s.Pending, s.Delivered, s.Dead, s.Skipped, ago(s.OldestPending), paused, orDash(reason))
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
	return span(time.Since(t))
}

// span is a duration in its largest unit.
func span(d time.Duration) string {
	switch {
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
