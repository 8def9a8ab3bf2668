package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/scan"
)

// remoteScan asks a hub for scans: of one target, or of all containers that
// are chosen.
type remoteScan struct {
	hub                          hubFlags
	agents                       []string
	namespace, container, labels string
	timeout                      time.Duration
	priority                     string
	profile, threshold, method   string
	sbom                         bool
	inputs                       map[string]any
	reporters                    []reporter
	output                       *output // of several scans
}

func (r *remoteScan) flags(cmd *cobra.Command) {
	r.hub.flags(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&r.agents, "agent", nil, "through a hub: `name` of the agent beside the target; several where a selector chooses, and all if left out")
	flags.StringVarP(&r.namespace, "namespace", "n", "", "`namespace` of the containers; that of the kubeconfig's context if left out, and through a hub default")
	flags.StringVarP(&r.container, "container", "c", "", "`name` of the container")
	flags.StringVarP(&r.labels, "selector", "l", "", "label `selector` of the pods whose containers are scanned")
	flags.Var(lasting{&r.timeout, time.Second}, "timeout", "through a hub: how long each run may take; 5m if left out")
	flags.StringVar(&r.priority, "priority", "", "through a hub: high, normal or low")
	flags.BoolVar(&r.sbom, "sbom", false, "through a hub: have the agent hand in an SBOM of the container, too; see reeve sbom for one here")
	complete(cmd, "priority", "high", "normal", "low")
	agentNames.flag(cmd, "agent", &r.hub, cobra.ShellCompDirectiveNoFileComp)
}

// workloads are the kinds that kubectl's KIND/NAME may begin with, and their
// names in the API.
var workloads = map[string]string{
	"deployment": "Deployment", "deployments": "Deployment", "deploy": "Deployment",
	"statefulset": "StatefulSet", "statefulsets": "StatefulSet", "sts": "StatefulSet",
	"daemonset": "DaemonSet", "daemonsets": "DaemonSet", "ds": "DaemonSet",
	"replicaset": "ReplicaSet", "replicasets": "ReplicaSet", "rs": "ReplicaSet",
	"job": "Job", "jobs": "Job", "cronjob": "CronJob", "cronjobs": "CronJob", "cj": "CronJob",
}

const everything = "all"

// splitKind splits kubectl's KIND/NAME.
func splitKind(target string) (kind, name string, ok bool) {
	kind, name, ok = strings.Cut(target, "/")
	return kind, name, ok && !strings.Contains(kind, ":") && (kind == "pod" || kind == "pods" || kind == "po" || workloads[kind] != "")
}

// chosen reports whether the command line names containers as kubectl does.
func (r *remoteScan) chosen(set *pflag.FlagSet, args []string) bool {
	if len(args) > 0 {
		if _, _, ok := splitKind(args[0]); ok || args[0] == everything {
			return true
		}
	}
	return slices.ContainsFunc([]string{"namespace", "container", "selector"}, set.Changed)
}

// asked reports whether the command line is for a hub: it says so, or names
// containers while a hub is named in the environment. kubectl's plugin heeds
// that only if it is told to, since kubectl's users mean their own cluster.
func (r *remoteScan) asked(cmd *cobra.Command, args []string) bool {
	if slices.ContainsFunc([]string{"hub", "agent", "timeout", "priority", "sbom"}, cmd.Flags().Changed) {
		return true
	}
	return r.hub.url != "" && !isPlugin(cmd) && r.chosen(cmd.Flags(), args)
}

// request is the body of the request, and whether it is one for a batch.
func (r *remoteScan) request(target string) (body map[string]any, batch bool, err error) {
	body = map[string]any{"scan": map[string]any{"profile": r.profile}}
	if r.threshold != "" {
		body["scan"].(map[string]any)["threshold"] = r.threshold
	}
	if len(r.inputs) > 0 {
		body["scan"].(map[string]any)["inputs"] = r.inputs
	}
	options := map[string]any{}
	if r.timeout != 0 {
		options["timeout"] = int(r.timeout.Seconds())
	}
	if r.priority != "" {
		options["priority"] = r.priority
	}
	if r.sbom {
		options["sbom"] = true
	}
	if r.method != "" {
		options["method"] = r.method
	}
	if len(options) > 0 {
		body["options"] = options
	}
	kind, name, ok := splitKind(target)
	switch {
	case ok && workloads[kind] == "":
		if r.labels != "" || len(r.agents) > 1 {
			return nil, false, errors.New("a pod is at one agent and needs no --selector")
		}
		if r.container == "" { // its agent knows which there are
			selector := map[string]any{"namespace": orDefault(r.namespace), "workload": map[string]string{"kind": "Pod", "name": name}}
			if len(r.agents) > 0 {
				selector["agents"] = r.agents
			}
			body["selector"] = selector
			return body, true, nil
		}
		body["target"] = r.target(map[string]any{"namespace": orDefault(r.namespace), "pod": name, "container": r.container})
		return body, false, nil
	case target != "" && target != everything && !ok:
		if r.namespace+r.container+r.labels != "" || len(r.agents) > 1 {
			return nil, false, fmt.Errorf("--namespace, --container and --selector are for targets such as pod/NAME and deployment/NAME, not for %q", target)
		}
		body["target"] = r.target(map[string]any{"uri": target})
		return body, false, nil
	case target == "" && r.labels == "":
		return nil, false, errors.New("what is to be scanned? give a TARGET, or --selector; for all containers, of the namespace if one is named, write all")
	case len(r.reporters) > 0:
		return nil, false, errors.New("--reporter is for one target; each scan's results are at the hub")
	}
	selector := map[string]any{}
	for key, value := range map[string]string{"namespace": r.namespace, "container": r.container, "labels": r.labels} {
		if value != "" {
			selector[key] = value
		}
	}
	if len(r.agents) > 0 {
		selector["agents"] = r.agents
	}
	if ok {
		selector["workload"], selector["namespace"] = map[string]string{"kind": workloads[kind], "name": name}, orDefault(r.namespace)
	}
	body["selector"] = selector
	return body, true, nil
}

func (r *remoteScan) target(t map[string]any) map[string]any {
	if len(r.agents) > 0 {
		t["agent"] = r.agents[0]
	}
	return t
}

func orDefault(namespace string) string {
	if namespace == "" {
		return "default"
	}
	return namespace
}

// run asks, waits and reports. Its error has the exit code that the same scan
// would end with here.
func (r *remoteScan) run(ctx context.Context, target string, out, errs io.Writer) error {
	for flag, name := range map[string]string{"profile": r.profile, "threshold": r.threshold} {
		if _, err := os.Stat(name); err == nil && strings.ContainsAny(name, "/.") {
			return fmt.Errorf("--%s %s: it is a file here, and the hub must have it: reeve %s upload %[2]s, and then its name", flag, name, flag)
		}
	}
	body, batch, err := r.request(target)
	if err != nil {
		return err
	}
	if !batch && r.output.format != "" {
		return errOneScan
	}
	c, err := r.hub.client()
	if err != nil {
		return err
	}
	if batch {
		pod := ""
		if kind, _, ok := splitKind(target); ok && workloads[kind] == "" {
			pod = target
		}
		return r.batch(ctx, c, body, pod, out, errs)
	}
	var s api.Scan
	if err := ask(ctx, c, http.MethodPost, "/scans", body, &s); err != nil {
		return err
	}
	path := "/scans/" + string(s.ID)
	if err := followScan(ctx, c, &s, errs); err != nil {
		return withdrawn(ctx, c, path, err)
	}
	return r.report(ctx, s, out, errs)
}

// report tells what came of one scan.
func (r *remoteScan) report(ctx context.Context, s api.Scan, out, errs io.Writer) error {
	if s.Status != scan.Completed {
		return fmt.Errorf("scan %s: %s: %s", s.ID, s.Status, s.Reason)
	}
	results, err := fetchResults(ctx, &r.hub, string(s.ID))
	if err != nil {
		return err
	}
	reporters := r.reporters
	if len(reporters) == 0 {
		if reporters, err = parseReporters(nil, awsAccount{}); err != nil {
			return err
		}
	}
	for _, rep := range reporters {
		if err := rep.write(out, results); err != nil {
			return err
		}
	}
	for _, f := range s.Findings {
		tell(errs, "threshold: %s", f)
	}
	if r.threshold != "" && s.Outcome == scan.Passed {
		fmt.Fprintln(errs, "threshold met")
	}
	if s.Entry != nil {
		tell(errs, "entered by %s: %s", s.Entry.Method, s.Entry.Reason)
	}
	return exitCode(results.Counts(), r.threshold != "", s.Outcome == scan.Passed)
}

// ask is one call of the hub's API, its answer decoded into into.
func ask(ctx context.Context, c *client, method, path string, body, into any) error {
	data, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the hub's answer: %w", err)
	}
	return nil
}

// withdrawn cancels what was asked for, if this command was told to end before
// it was done.
func withdrawn(ctx context.Context, c *client, path string, err error) error {
	if ctx.Err() == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, cancelErr := c.do(ctx, http.MethodPost, path+"/cancel", nil); cancelErr != nil {
		return fmt.Errorf("interrupted, and what was asked for goes on: %w", cancelErr)
	}
	return errors.New("interrupted; what was asked for is cancelled")
}

const (
	// askAgain is how long it takes to look again at what waits.
	askAgain = time.Second
	// lostMost is how often in a row the hub may be out of reach.
	lostMost = 60
)

// followScan shows how a scan goes on until it is done, and leaves its last
// state in s. A hub that restarts meanwhile doesn't end it. What it waits for is
// told once that has lasted.
func followScan(ctx context.Context, c *client, s *api.Scan, errs io.Writer) error {
	bar := newProgress(errs)
	defer bar.clear()
	var lock sync.Mutex // guards bar, errs, waits and said
	waits, said, lost := "", "", 0
	defer func() {
		lock.Lock()
		defer lock.Unlock()
		waits = ""
	}()
	for !s.Status.Final() {
		before := s.Progress
		err := events(ctx, c, s, func() {
			lock.Lock()
			defer lock.Unlock()
			waits = ""
			if s.Status == scan.Queued && s.Reason != said {
				id, reason := s.ID, s.Reason
				waits = reason
				time.AfterFunc(askAgain, func() {
					lock.Lock()
					defer lock.Unlock()
					if reason != "" && waits == reason {
						waits, said = "", reason
						bar.clear()
						tell(errs, "scan %s %s", id, reason)
					}
				})
			}
			bar.show(s.Progress.Done, s.Progress.Total, s.Progress.Control)
		})
		var refused *problem
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &refused) && refused.Status < http.StatusInternalServerError:
			return err
		case s.Progress != before:
			lost = 0
		case err != nil:
			if lost++; lost > lostMost {
				return err
			}
		}
		if s.Status.Final() {
			return nil
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
		}
	}
	return nil
}

// events reads a scan's events until they end; each is in s when changed is
// called.
func events(ctx context.Context, c *client, s *api.Scan, changed func()) error {
	resp, err := c.send(ctx, http.MethodGet, "/scans/"+string(s.ID)+"/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var next api.Scan
		if err := json.Unmarshal([]byte(data), &next); err != nil {
			return err
		}
		*s = next
		changed()
	}
	return lines.Err()
}

// batch asks for the scans of all that is chosen, and lists them when they are
// done; of a pod, if one is named, it reports its container's. The exit code is
// that of the worst.
func (r *remoteScan) batch(ctx context.Context, c *client, body map[string]any, pod string, out, errs io.Writer) error {
	var b api.Batch
	if err := ask(ctx, c, http.MethodPost, "/batches", body, &b); err != nil {
		return err
	}
	path := "/batches/" + string(b.ID)
	bar := newProgress(errs)
	for lost := 0; b.Status != "done"; {
		n := b.Scans
		ended := n.Completed + n.Error + n.Cancelled
		bar.show(ended, ended+n.Queued+n.Running, b.Status)
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
		}
		err := ask(ctx, c, http.MethodGet, path, nil, &b)
		var refused *problem
		switch {
		case ctx.Err() != nil:
			bar.clear()
			return withdrawn(ctx, c, path, context.Cause(ctx))
		case err == nil:
			lost = 0
		case errors.As(err, &refused) && refused.Status < http.StatusInternalServerError, lost > lostMost:
			return err
		default:
			lost++
		}
	}
	bar.clear()
	scans, err := scansOf(ctx, c, b)
	if err != nil {
		return err
	}
	if pod != "" {
		switch {
		case len(scans) == 1 && r.output.format == "":
			return r.report(ctx, scans[0], out, errs)
		case len(scans) == 0 && len(b.Selections) == 1 && b.Selections[0].Status == scan.Completed:
			return fmt.Errorf("%s doesn't run in namespace %s of agent %s's cluster", pod, orDefault(r.namespace), b.Selections[0].Agent)
		case len(scans) == 0 && len(b.Selections) == 1:
			return fmt.Errorf("agent %s: %s", b.Selections[0].Agent, b.Selections[0].Reason)
		}
	}
	if err := printValue(out, r.output, scans, scans, table[api.Scan]{rows: scanRows, name: scanName}); err != nil {
		return err
	}
	broken := 0
	for _, s := range b.Selections {
		if s.Status != scan.Completed {
			tell(errs, "agent %s: %s: %s", s.Agent, s.Status, s.Reason)
			broken++
		}
	}
	worst := map[int]error{}
	for _, s := range scans {
		if s.Status != scan.Completed || s.Counts == nil {
			broken++
			continue
		}
		var exit *exitError
		if err := exitCode(*s.Counts, r.threshold != "", s.Outcome == scan.Passed); errors.As(err, &exit) {
			worst[exit.code] = err
		}
	}
	switch {
	case broken > 0:
		return fmt.Errorf("batch %s: %s couldn't be made", b.ID, count(broken, "part"))
	case len(scans) == 0:
		return fmt.Errorf("batch %s: nothing was chosen", b.ID)
	case len(worst) == 0:
		return nil
	}
	return worst[slices.Min(slices.Collect(maps.Keys(worst)))] // 100 before 101
}

func scansOf(ctx context.Context, c *client, b api.Batch) ([]api.Scan, error) {
	all := []api.Scan{}
	for before := ""; ; {
		var p struct {
			Items []api.Scan
			Next  string
		}
		query := url.Values{"batch": {string(b.ID)}, "limit": {"500"}}
		if before != "" {
			query.Set("before", before)
		}
		if err := ask(ctx, c, http.MethodGet, "/scans?"+query.Encode(), nil, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if before = p.Next; before == "" {
			return all, nil
		}
	}
}
