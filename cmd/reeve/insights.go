package main

import (
	"archive/zip"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/insight/transform"
)

// since is the filter of a time, as readTime has it.
func since(usage string) filter {
	return filter{name: "since", usage: usage + ": 2026-01-31, 12h, 3d or a weekday", read: func(typed string) (string, error) {
		t, err := readTime(typed, time.Now())
		return t.Format(time.RFC3339), err
	}}
}

// readTime reads a time as people write it: RFC 3339, a date, how long ago (m,
// h, d), or a weekday, which is the last one before now; dates and days are of
// now's time zone.
func readTime(typed string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, typed); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, typed, now.Location()); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(typed, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && 0 <= n && n <= 36500 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(typed); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for day := range 7 {
		t := now.AddDate(0, 0, -day)
		if name := t.Weekday().String(); len(typed) >= 3 && strings.HasPrefix(strings.ToLower(name), strings.ToLower(typed)) {
			return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, now.Location()), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q: write a time (2026-01-31T12:00:00Z), a date, how long ago (12h, 3d) or a weekday", typed)
}

func newWhoRuns() *cobra.Command {
	var hub hubFlags
	var out output
	var limit int
	filters := append([]filter{
		{name: "from", usage: "only this `version` and later ones"},
		{name: "below", usage: "only versions before this `version`"},
		ofNamespace, since("only where it wasn't before this `time`"),
	}, insightFilters...)
	var query map[string]*string
	cmd := &cobra.Command{
		Use:   "who-runs PURL|NAME|CVE",
		Short: "Find the workloads that run a component, or have a vulnerability",
		Long: `Finds the workloads that run a component, by its purl with or without a
version, or by its name; or those that have a vulnerability, by its identifier.

A row without a workload is of a service whose SBOM the hub has, but of which
its agent reports nothing that runs (insights.inventory in the agent's
configuration).`,
		Example: `  reeve who-runs pkg:maven/org.apache.logging.log4j/log4j-core --below 2.17
  reeve who-runs openssl --agent prod
  reeve who-runs CVE-2021-44228 --since tuesday`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := parameters(filters, query)
			if err != nil {
				return err
			}
			params.Set("of", args[0])
			c, err := hub.client()
			if err != nil {
				return err
			}
			return printPages(cmd, c, &out, pages{"/who-runs", params, true, limit}, table[api.Run]{rows: whereRows, name: func(r api.Run) string { return r.Kind + "/" + r.Workload }})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	query = filterFlags(cmd, &hub, filters)
	limitFlag(cmd, &limit, "places")
	return cmd
}

func newWhatsNew() *cobra.Command {
	var hub hubFlags
	var out output
	var limit int
	filters := append([]filter{since("since this `time`"), ofNamespace}, insightFilters...)
	var query map[string]*string
	cmd := &cobra.Command{
		Use:   "new --since TIME",
		Short: "List what changed in the services' SBOMs",
		Example: `  reeve get new --since tuesday
  reeve get workloads --since tuesday
  reeve get problems --since tuesday`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			params, err := parameters(filters, query)
			if err != nil {
				return err
			}
			c, err := hub.client()
			if err != nil {
				return err
			}
			return printPages(cmd, c, &out, pages{"/insights/new", params, true, limit}, table[api.NewBuild]{rows: newBuildRows})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	query = filterFlags(cmd, &hub, filters)
	cmd.MarkFlagRequired("since")
	limitFlag(cmd, &limit, "services")
	return cmd
}

func newInsight() *cobra.Command {
	cmd := &cobra.Command{Use: "insights", Short: "Compare what runs, and see to messages that couldn't be taken"}
	cmd.AddCommand(newInsightsDiff(), newTransform(), newExport(), newQuarantineAct("requeue", "Take a message out of quarantine, as this version of the hub reads it"),
		newQuarantineAct("discard", "Forget a message in quarantine"))
	return cmd
}

func newInsightsDiff() *cobra.Command {
	var hub hubFlags
	var out output
	var then string
	cmd := &cobra.Command{
		Use:   "diff FROM TO | diff PLACE --since TIME",
		Short: "Show what differs between two builds, two environments or two times",
		Long: `Shows which components, facts and problems differ between two sides, each an SBOM
by its digest, or AGENT/NAMESPACE[/SERVICE][@BUILD]: how that is now or, with a
build, was at its end. With --since one place is compared with how it was then.`,
		Example: `  reeve insights diff prod/shop-main@build-17 prod/shop-main@build-18
  reeve insights diff test/shop-dev prod/shop-main
  reeve insights diff prod/shop-main --since tuesday`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			params := url.Values{"from": {args[0]}, "to": {args[len(args)-1]}}
			if (then == "") == (len(args) == 1) {
				return errors.New("give two sides to compare, or one with --since")
			}
			if then != "" {
				t, err := readTime(then, time.Now())
				if err != nil {
					return fmt.Errorf("--since: %w", err)
				}
				params.Set("fromAt", t.Format(time.RFC3339))
			}
			c, err := hub.client()
			if err != nil {
				return err
			}
			data, err := c.do(cmd.Context(), http.MethodGet, "/insights/diff?"+params.Encode(), nil)
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, table[api.Difference]{rows: differenceRows})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&then, "since", "", since("compare with how it was at this `time`").usage)
	return cmd
}

func newTransform() *cobra.Command {
	var hub hubFlags
	var out output
	var dry bool
	filters := append([]filter{ofNamespace, {name: "kind", usage: "only `sbom` or image", values: []string{"sbom", "image"}}}, insightFilters...)
	var query map[string]*string
	cmd := &cobra.Command{
		Use:   "transform [--dry-run [FILE…]]",
		Short: "Make the key facts of the stored SBOMs and image inspects anew",
		Long: `Makes the key facts of what the hub has stored anew, by its own transforms: after
those in its configuration (insights.transforms) have changed. What comes is
transformed as it comes.

With --dry-run nothing is stored: what would change is shown, by the hub's own
transforms or those of files, in insights-handler's format.`,
		Example: "  reeve insights transform --dry-run transforms.yaml --namespace shop-main\n  reeve insights transform",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && !dry {
				return errors.New("facts are stored by the hub's own transforms alone: name the files in its configuration (insights.transforms), or add --dry-run")
			}
			request := api.TransformRequest{DryRun: dry}
			for _, name := range args {
				text, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				if _, err := transform.Parse(text); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				request.Transforms = append(request.Transforms, string(text))
			}
			params, err := parameters(filters, query)
			if err != nil {
				return err
			}
			c, err := hub.client()
			if err != nil {
				return err
			}
			return transformAll(cmd, c, &out, params, request)
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would change")
	query = filterFlags(cmd, &hub, filters)
	return cmd
}

// transformAll asks for page after page.
func transformAll(cmd *cobra.Command, c *client, out *output, params url.Values, request api.TransformRequest) error {
	all := []api.Derived{}
	examined := 0
	bar := newProgress(cmd.ErrOrStderr())
	defer bar.clear()
	for {
		bar.line("%s examined …", count(examined, "document"))
		data, err := c.do(cmd.Context(), http.MethodPost, "/insights/transform?"+params.Encode(), request)
		if err != nil {
			return err
		}
		var page api.DerivedPage
		if err := json.Unmarshal(data, &page); err != nil {
			return fmt.Errorf("the hub's answer: %w", err)
		}
		all, examined = append(all, page.Items...), examined+page.Examined
		if page.Next == "" {
			break
		}
		params.Set("before", page.Next)
	}
	bar.clear()
	if len(all) > 0 || out.format != "" || !terminal(cmd.OutOrStdout()) { // the sentence below says none
		if err := printValue(cmd.OutOrStdout(), out, all, all, table[api.Derived]{rows: derivedRows}); err != nil {
			return err
		}
	}
	does := "changed"
	if request.DryRun {
		does = "would change"
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s looked at, the facts of %d of them %s\n", count(examined, "document"), len(all), does)
	return err
}

func exportRows(w io.Writer, list []api.Export) error {
	row(w, "AGENT", "NAMESPACE", "SERVICE", "TO PROJECT", "VERSION", "STATE", "QUEUED", "ATTEMPTS", "REASON")
	for _, e := range list {
		row(w, e.Agent, orDash(cmp.Or(e.Namespace, e.Project+"/"+e.Environment)), e.Service, e.ToProject, orDash(e.ToVersion), e.State, ago(e.Queued), e.Attempts, orDash(e.Reason))
	}
	return nil
}

func derivedRows(w io.Writer, list []api.Derived) error {
	row(w, "AGENT", "NAMESPACE", "SERVICE", "KIND", "CHANGE", "FACT", "FROM", "TO")
	for _, d := range list {
		for _, c := range d.Changes {
			row(w, d.Agent, orDash(cmp.Or(d.Namespace, d.Project+"/"+d.Environment)), d.Service, d.Kind, c.Change, c.Name, orDash(c.From), orDash(c.To))
		}
	}
	return nil
}

func newExport() *cobra.Command {
	var hub hubFlags
	var out output
	var query map[string]*string
	filters := append([]filter{ofNamespace}, insightFilters...)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Send the current SBOMs to Dependency-Track, again where they were sent already",
		Long: `Sends the current SBOMs to the Dependency-Track that the hub's configuration
names (insights.dependencyTrack): those that came before there was one, and those
that it refused. What comes is sent as it comes; reeve get exports shows how far
each is.`,
		Example: "  reeve insights export --namespace shop-main\n  reeve get exports --state refused",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			only := map[string]string{}
			for name, value := range query {
				if *value != "" {
					only[name] = *value
				}
			}
			data, err := c.do(cmd.Context(), http.MethodPost, "/insights/exports", only)
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, told(func(got api.Exported) string {
				return count(got.Queued, "SBOM") + " on the way; reeve get exports shows how far"
			}))
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	query = filterFlags(cmd, &hub, filters)
	return cmd
}

func newQuarantineAct(act, short string) *cobra.Command {
	var hub hubFlags
	cmd := &cobra.Command{
		Use:     act + " AGENT ITEM…",
		Short:   short,
		Example: "  reeve get quarantine\n  reeve insights " + act + " prod 01a2008e-2017-7681-a3b9-64c9b5507265",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			var errs []error
			for _, item := range args[1:] {
				if _, err := c.do(cmd.Context(), http.MethodPost, "/insights/quarantine/"+act, map[string]string{"agent": args[0], "item": item}); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", item, err))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", act, item)
			}
			return errors.Join(errs...)
		},
	}
	hub.flags(cmd)
	items := names{path: "/insights/quarantine", paged: true, member: "item", about: "reason"}
	arguments(cmd, &hub, true, agentNames, items)
	return cmd
}

func newOSV() *cobra.Command {
	cmd := &cobra.Command{Use: "osv", Short: "Import vulnerabilities"}
	var hub hubFlags
	var out output
	load := &cobra.Command{
		Use:   "import ZIP|DIR…",
		Short: "Import OSV databases, as osv.dev exports them",
		Long: `Imports vulnerabilities into the hub from zip files of OSV entries, or from
folders with such zip files or with the entries themselves. Nothing is downloaded:
https://osv-vulnerabilities.storage.googleapis.com/ECOSYSTEM/all.zip are the
exports of osv.dev.

Entries that the hub has already, in the same state, cost next to nothing; what is
new or other is matched with the SBOMs soon after.`,
		Example: "  reeve osv import npm-all.zip debian-all.zip\n  reeve osv import /srv/osv",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			files, err := databases(args)
			if err != nil {
				return err
			}
			all := []imported{}
			var broken error
			for _, f := range files {
				got, err := importDatabase(cmd.Context(), c, f, cmd.ErrOrStderr())
				if err != nil {
					broken = fmt.Errorf("%s: %w", f.name, err)
					break
				}
				all = append(all, imported{f.name, got})
			}
			// Those before the one that is broken are at the hub.
			return errors.Join(broken, printValue(cmd.OutOrStdout(), &out, all, all, told(func(i imported) string {
				return fmt.Sprintf("%s: %d entries, %d of them new or changed", i.File, i.Entries, i.Changed)
			})))
		},
	}
	hub.flags(load)
	out.flag(load)
	cmd.AddCommand(load)
	return cmd
}

// imported is what came of one database.
type imported struct {
	File string `json:"file"`
	api.Imported
}

// database is a zip file, or what makes one. Its size is 0 where that isn't
// known before.
type database struct {
	name string
	size int64
	open func() (io.ReadCloser, error)
}

// databases finds those that arguments name.
func databases(args []string) (out []database, err error) {
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, database{arg, info.Size(), func() (io.ReadCloser, error) { return os.Open(arg) }})
			continue
		}
		var zips []database
		loose := false
		err = filepath.WalkDir(arg, func(path string, e os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.Type().IsRegular() && strings.HasSuffix(path, ".zip"):
				info, err := e.Info()
				if err != nil {
					return err
				}
				zips = append(zips, database{path, info.Size(), func() (io.ReadCloser, error) { return os.Open(path) }})
			case e.Type().IsRegular() && strings.HasSuffix(path, ".json"):
				loose = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, zips...)
		if loose {
			out = append(out, database{arg, 0, func() (io.ReadCloser, error) { return pack(arg), nil }})
		}
		if len(zips) == 0 && !loose {
			return nil, fmt.Errorf("%s: has no zip files and no OSV entries (.json)", arg)
		}
	}
	return out, nil
}

// pack makes a zip file of the entries in a folder, as it is read.
func pack(dir string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		z := zip.NewWriter(w)
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(path, ".json") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			to, err := z.Create(filepath.ToSlash(name))
			if err == nil {
				_, err = to.Write(text)
			}
			return err
		})
		w.CloseWithError(cmp.Or(err, z.Close()))
	}()
	return r
}

func importDatabase(ctx context.Context, c *client, f database, errs io.Writer) (got api.Imported, err error) {
	body, err := f.open()
	if err != nil {
		return got, err
	}
	defer body.Close()
	bar := newProgress(errs)
	defer bar.clear()
	resp, err := c.sendBody(ctx, http.MethodPost, "/osv", "application/zip", bar.reader(body, f.size, f.name))
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&got); err != nil {
		return got, fmt.Errorf("the hub's answer: %w", err)
	}
	bar.clear()
	for _, reason := range got.Reasons {
		tell(errs, "%s: left out: %s", f.name, reason)
	}
	if more := got.Invalid - len(got.Reasons); more > 0 {
		fmt.Fprintf(errs, "%s: left out: %d more\n", f.name, more)
	}
	return got, nil
}

func newVEX() *cobra.Command {
	cmd := &cobra.Command{Use: "vex", Short: "Say how products stand to vulnerabilities"}
	cmd.AddCommand(newVEXImport(), newVEXRemove())
	return cmd
}

func newVEXImport() *cobra.Command {
	var hub hubFlags
	var out output
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Have the hub heed VEX documents, OpenVEX or CycloneDX",
		Long: `Has the hub heed statements on vulnerabilities: what one says isn't affected, or
is fixed, is no problem any more. Of several statements on a component the latest
holds. The same document again replaces itself.`,
		Example: "  reeve vex import shop.openvex.json\n  reeve get vex",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			all := []heeded{}
			var broken error
			for _, name := range args {
				got, err := importStatements(cmd.Context(), c, name)
				if err != nil {
					broken = fmt.Errorf("%s: %w", name, err)
					break
				}
				all = append(all, heeded{name, got})
			}
			// Those before the one that is broken are at the hub.
			return errors.Join(broken, printValue(cmd.OutOrStdout(), &out, all, all, told(func(h heeded) string {
				return fmt.Sprintf("%s: %s as %s", h.File, count(h.Statements.Statements, "statement"), h.Document)
			})))
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	return cmd
}

// heeded is what came of one VEX document.
type heeded struct {
	File string `json:"file"`
	api.Statements
}

func newVEXRemove() *cobra.Command {
	var hub hubFlags
	cmd := &cobra.Command{
		Use:     "remove DIGEST…",
		Short:   "Forget the statements of documents",
		Example: "  reeve get vex -o name | sort -u | xargs -r reeve vex remove",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			for _, digest := range args {
				if _, err := c.do(cmd.Context(), http.MethodDelete, "/vex/"+url.PathEscape(digest), nil); err != nil {
					return fmt.Errorf("%s: %w", digest, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", digest)
			}
			return nil
		},
	}
	hub.flags(cmd)
	arguments(cmd, &hub, true, names{path: "/vex", paged: true, member: "document", about: "vulnerability"})
	return cmd
}

func importStatements(ctx context.Context, c *client, name string) (got api.Statements, err error) {
	file, err := os.Open(name)
	if err != nil {
		return got, err
	}
	defer file.Close()
	resp, err := c.sendBody(ctx, http.MethodPost, "/vex", "application/json", file)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&got); err != nil {
		return got, fmt.Errorf("the hub's answer: %w", err)
	}
	return got, nil
}

func whereRows(w io.Writer, list []api.Run) error {
	row(w, "COMPONENT", "VERSION", "AGENT", "NAMESPACE", "SERVICE", "WORKLOAD", "CONTAINER", "PODS", "IMAGE", "SINCE")
	for _, r := range list {
		workload, pods := "", ""
		if r.Workload != "" {
			workload, pods = r.Kind+"/"+r.Workload, strconv.Itoa(r.Pods)
		}
		row(w, r.Name, orDash(r.Version), r.Agent, orDash(cmp.Or(r.Namespace, r.Project+"/"+r.Environment)), orDash(r.Service),
			orDash(workload), orDash(r.Container), orDash(pods), orDash(r.Image), ago(r.Since))
	}
	return nil
}

func workloadRows(w io.Writer, list []api.Workload) error {
	row(w, "AGENT", "NAMESPACE", "WORKLOAD", "CONTAINER", "PODS", "IMAGE", "DIGEST", "SBOM", "FIRST SEEN")
	for _, l := range list {
		row(w, l.Agent, l.Namespace, l.Kind+"/"+l.Name, l.Container, l.Pods, orDash(l.Image), orDash(l.Digest), orDash(string(l.SBOM)), ago(l.FirstSeen))
	}
	return nil
}

func inventoryRows(w io.Writer, list []api.Inventory) error {
	row(w, "AGENT", "REPORTED", "WORKLOADS", "WITHOUT SBOM", "WAITING", "BYTES", "OLDEST", "BROKER")
	for _, r := range list {
		row(w, r.Agent, ago(r.Reported), r.Workloads, r.Unknown, r.Backlog.Items, r.Backlog.Bytes, ago(r.Backlog.Since), orDash(r.Backlog.Broker))
	}
	return nil
}

// agentWideRows are agentRows with what agents reported of themselves.
func agentWideRows(w io.Writer, list []api.Agent) error {
	row(w, "NAME", "STATE", "INSTANCES", "SERVICES", "VERSION", "LAST SEEN", "REPORTED", "WORKLOADS", "WAITING", "BYTES", "OLDEST", "BROKER", "DESCRIPTION")
	for _, a := range list {
		var r api.AgentReport
		if a.Report != nil {
			r = *a.Report
		}
		version := ""
		if len(a.Instances) > 0 {
			version = a.Instances[0].Version
		}
		row(w, a.Name, state(a.Connected), len(a.Instances), len(a.Services), orDash(version), ago(a.LastSeen), ago(r.Reported), r.Workloads,
			r.Backlog.Items, r.Backlog.Bytes, ago(r.Backlog.Since), orDash(r.Backlog.Broker), orDash(a.Annotations["description"]))
	}
	return nil
}

func quarantineRows(w io.Writer, list []api.Quarantined) error {
	row(w, "AGENT", "ITEM", "RECEIVED", "BYTES", "REASON")
	for _, q := range list {
		row(w, q.Agent, q.Item, ago(q.Received), q.Size, q.Reason)
	}
	return nil
}

func statementRows(w io.Writer, list []api.Statement) error {
	row(w, "VULNERABILITY", "STATUS", "SUBJECT", "COMPONENT", "JUSTIFICATION", "AUTHOR", "MADE", "DOCUMENT")
	for _, s := range list {
		row(w, s.Vulnerability, s.Status, orDash(s.Subject), orDash(s.Component), orDash(s.Justification), orDash(s.Author), ago(s.Made), s.Document)
	}
	return nil
}

func newBuildRows(w io.Writer, list []api.NewBuild) error {
	row(w, "AGENT", "NAMESPACE", "SERVICE", "BUILD", "RECEIVED", "CHANGE", "WHAT", "FROM", "TO")
	for _, b := range list {
		line := func(change, what, from, to string) {
			row(w, b.Agent, orDash(cmp.Or(b.Namespace, b.Project+"/"+b.Environment)), b.Service, orDash(b.Build), ago(b.Received), change, what, orDash(from), orDash(to))
		}
		if b.Before == "" {
			line("added", "service", "", "")
		}
		for _, c := range b.Components {
			line(string(c.Change), c.Name, c.From, c.To)
		}
		for _, p := range b.Problems {
			line(string(p.Change), p.Identifier, p.AssociatedPackage, p.Version)
		}
	}
	return nil
}

func differenceRows(w io.Writer, list []api.Difference) error {
	d := list[0]
	row(w, "KIND", "CHANGE", "NAME", "FROM", "TO")
	for _, c := range d.Components {
		row(w, "component", c.Change, cmp.Or(c.PURL, c.Name), orDash(c.From), orDash(c.To))
	}
	for _, f := range d.Facts {
		row(w, "fact", f.Change, strings.Join(slices.DeleteFunc([]string{f.Source, f.Service, f.Name}, func(s string) bool { return s == "" }), "/"), orDash(f.From), orDash(f.To))
	}
	for _, p := range d.Problems {
		from, to := p.AssociatedPackage+" "+p.Version, ""
		if p.Change == "added" {
			from, to = to, from
		}
		row(w, "problem", p.Change, p.Identifier, orDash(from), orDash(to))
	}
	return nil
}
