package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
)

func newCompare() *cobra.Command {
	var hub hubFlags
	var out output
	var gate bool
	cmd := &cobra.Command{
		Use:   "compare [BASELINE] CURRENT",
		Short: "Show what has changed from one result to another",
		Long: `Compares two results: the controls that are new among the failed ones, fixed,
otherwise changed, and still failing. Each is a results file (HDF; - is standard
input) or the id of a scan of a hub. Of a scan's id alone the baseline is the
scan before it of the same target, by the same profile and threshold.

Exit codes: 0 done; 1 with --fail-on-new, where controls are new among the
failed ones; 2 it couldn't be done.`,
		Example: `  reeve compare release.json results.json --fail-on-new
  reeve compare 01a2008e-2017-7681-a3b9-64c9b5507265
  reeve compare baseline.json 01a2008e-2017-7681-a3b9-64c9b5507265 -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := compared(cmd, &hub, args)
			if err != nil {
				return err
			}
			if err := printValue(cmd.OutOrStdout(), &out, c, []api.Comparison{c}, table[api.Comparison]{rows: changeRows}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "compliance %d %%, was %d %%: %d new, %d fixed, %d changed, %d still failing, %d the same\n",
				c.Current.Compliance, c.Baseline.Compliance, len(c.New), len(c.Fixed), len(c.Changed), len(c.StillFailing), c.Same)
			if gate && len(c.New) > 0 {
				return &exitError{code: exitNo}
			}
			return nil
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	arguments(cmd, &hub, false, scanNames, scanNames)
	cmd.Flags().BoolVar(&gate, "fail-on-new", false, "exit with 1 if controls are new among the failed ones")
	return cmd
}

func compared(cmd *cobra.Command, hub *hubFlags, args []string) (out api.Comparison, err error) {
	if len(args) == 1 {
		if _, err := scan.ParseID(args[0]); err != nil {
			return out, errors.New("one result is compared with the one before it only if it is the id of a hub's scan; give two files")
		}
		c, err := hub.client()
		if err != nil {
			return out, err
		}
		err = ask(cmd.Context(), c, http.MethodGet, "/scans/"+url.PathEscape(args[0])+"/comparison", nil, &out)
		return out, err
	}
	var docs [2]*hdf.Results
	var ids [2]scan.ID
	for i, arg := range args {
		if ids[i], err = scan.ParseID(arg); err != nil {
			docs[i], err = readResults(arg, cmd.InOrStdin())
		} else {
			docs[i], err = fetchResults(cmd.Context(), hub, arg)
		}
		if err != nil {
			return out, err
		}
	}
	return api.FromComparison(scan.Compare(docs[0], docs[1]), ids[0], ids[1]), nil
}

// fetchResults gets the results of a hub's scan.
func fetchResults(ctx context.Context, hub *hubFlags, id string) (*hdf.Results, error) {
	c, err := hub.client()
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, http.MethodGet, "/scans/"+url.PathEscape(id)+"/results", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readResults("-", resp.Body)
}

func changeRows(w io.Writer, list []api.Comparison) error {
	c := list[0]
	row(w, "CHANGE", "SEVERITY", "PROFILE", "CONTROL", "BEFORE", "NOW", "TITLE")
	for _, l := range []struct {
		name string
		list []api.Change
	}{{"new", c.New}, {"fixed", c.Fixed}, {"changed", c.Changed}, {"still failing", c.StillFailing}} {
		for _, ch := range l.list {
			row(w, l.name, ch.Severity, ch.Profile, ch.ID, orDash(ch.Before), orDash(ch.After), orDash(ch.Title))
		}
	}
	return nil
}

// newHistory lists the scans of one target.
func newHistory() *cobra.Command {
	var hub hubFlags
	var out output
	var limit int
	var query map[string]*string
	filters := []filter{ofAgent, ofProfile, {name: "threshold", usage: "… and with the threshold of this `name`", names: thresholdNames}}
	cmd := &cobra.Command{
		Use:     "history TARGET",
		Short:   "List the completed scans of one target, newest first",
		Example: "  reeve get history dir:/ --agent prod --profile container-baseline\n  reeve get history k8s-container://shop/web-0/app",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := parameters(filters, query)
			if err != nil {
				return err
			}
			params.Set("uri", args[0])
			c, err := hub.client()
			if err != nil {
				return err
			}
			return printPages(cmd, c, &out, pages{"/targets/history", params, true, limit}, table[api.Point]{
				rows: pointRows, name: func(p api.Point) string { return string(p.Scan) },
			})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	query = filterFlags(cmd, &hub, filters)
	arguments(cmd, &hub, false, names{path: "/targets", paged: true, member: "target.uri", about: "last.outcome"})
	limitFlag(cmd, &limit, "items")
	return cmd
}

func pointRows(w io.Writer, list []api.Point) error {
	row(w, "SCAN", "OUTCOME", "COMPLIANCE", "PASSED", "PROFILE", "VERSION", "THRESHOLD", "FINISHED")
	for _, p := range list {
		row(w, p.Scan, p.Outcome, fmt.Sprint(p.Compliance, " %"), fmt.Sprintf("%d/%d", p.Counts.Passed, total(p.Counts)),
			p.Profile, orDash(p.ProfileVersion), orDash(p.Threshold), when(p.Finished))
	}
	return nil
}

func targetRows(w io.Writer, list []api.TargetState) error {
	row(w, "AGENT", "TARGET", "OUTCOME", "COMPLIANCE", "PASSED", "PROFILE", "THRESHOLD", "SCANNED", "SCAN")
	for _, t := range list {
		p := t.Last
		row(w, t.Target.Agent, place(t.Target), p.Outcome, fmt.Sprint(p.Compliance, " %"), fmt.Sprintf("%d/%d", p.Counts.Passed, total(p.Counts)),
			p.Profile, orDash(p.Threshold), ago(p.Finished), p.Scan)
	}
	return nil
}
