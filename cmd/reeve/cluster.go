package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/kube"
	"reeve.dev/reeve/threshold"
)

// mostContainers is how many one command scans here, one after the other; more
// are work for a hub.
const mostContainers = 200

// chosen are the containers that a command line chooses, as kubectl names them,
// in the cluster of the user's own kubeconfig.
type chosen struct {
	target, namespace, container, labels string
}

// containers lists them. Those of pod/NAME without a container are the pod's
// default one, whose name is left empty.
func (c chosen) containers(ctx context.Context, a *clusterAccess) ([]kube.Container, error) {
	kind, name, named := splitKind(c.target)
	if c.target != "" && c.target != everything && !named {
		return nil, fmt.Errorf("--namespace, --container and --selector are for targets such as pod/NAME and deployment/NAME, not for %q", c.target)
	}
	if c.target == "" && c.labels == "" {
		return nil, errors.New("what is to be scanned? give a TARGET, or --selector; for all containers, of the namespace if one is named, write all")
	}
	if c.namespace == "" && c.target != everything {
		var err error
		if c.namespace, err = kube.Namespace(a.kubeconfig, a.context); err != nil {
			return nil, err
		}
	}
	if named && workloads[kind] == "" {
		if c.labels != "" {
			return nil, errors.New("a pod needs no --selector")
		}
		return []kube.Container{{Namespace: c.namespace, Pod: name, Name: c.container}}, nil
	}
	config, err := kube.Config(a.kubeconfig, a.context)
	if err != nil {
		return nil, err
	}
	found, err := kube.Select(ctx, config, kube.Selection{
		Namespace: c.namespace, Labels: c.labels, Kind: workloads[kind], Name: name, Container: c.container,
	}, mostContainers)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no running container is chosen; kubectl get pods%s shows those that there are", inNamespace(c.namespace))
	}
	return found, err
}

func inNamespace(name string) string {
	if name == "" {
		return " --all-namespaces"
	}
	return " --namespace " + name
}

// here is what came of one of several scans that were made here. Its members are
// those of a hub's scans.
type here struct {
	Target struct {
		URI string `json:"uri"`
	} `json:"target"`
	Status  scan.Status  `json:"status"`
	Reason  string       `json:"reason,omitempty"`
	Outcome scan.Outcome `json:"outcome,omitempty"`
	Counts  *hdf.Counts  `json:"counts,omitempty"`
}

func hereRows(w io.Writer, list []here) error {
	row(w, "TARGET", "STATUS", "OUTCOME", "PASSED", "FAILED", "SKIPPED", "ERROR", "REASON")
	for _, s := range list {
		if n := s.Counts; n != nil {
			row(w, s.Target.URI, s.Status, cmp.Or(string(s.Outcome), string(s.Status)), n.Passed, n.Failed, n.Skipped, n.Error, orDash(s.Reason))
		} else {
			row(w, s.Target.URI, s.Status, s.Status, "-", "-", "-", "-", orDash(s.Reason))
		}
	}
	return nil
}

// inCluster scans the containers that are chosen by the user's own kubeconfig:
// one as any other target, unless a list is asked for, and several with a line
// for each.
func (s *scanCommand) inCluster(cmd *cobra.Command, c chosen) error {
	if err := s.access.validate(); err != nil {
		return err
	}
	ctx, out, errs := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	found, err := c.containers(ctx, &s.access)
	if err != nil {
		return err
	}
	var uris []string
	for _, f := range found {
		uris = append(uris, strings.TrimSuffix(kube.URI(f.Namespace, f.Pod, f.Name), "/"))
	}
	if len(uris) == 1 && s.output.format == "" {
		return s.run(ctx, uris[0], out, errs)
	}
	if len(s.reporters) > 0 {
		return fmt.Errorf("--reporter is for one target, and %s chosen; name one with --container, or its URI:\n  %s", areContainers(len(uris)), strings.Join(uris[:min(5, len(uris))], "\n  "))
	}
	j, err := s.prepare()
	if err != nil {
		return err
	}
	list, err := s.makeAll(ctx, j, uris, errs)
	if err != nil {
		return err
	}
	if err := printValue(out, &s.output, list, list, table[here]{rows: hereRows, name: func(h here) string { return h.Target.URI }}); err != nil {
		return err
	}
	return worst(list, j.threshold != nil)
}

// makeAll makes scans one after the other; it fails only if it is interrupted.
func (s *scanCommand) makeAll(ctx context.Context, j job, uris []string, errs io.Writer) ([]here, error) {
	list := []here{}
	for i, uri := range uris {
		s.prefix = fmt.Sprintf("%d/%d ", i+1, len(uris))
		h := here{Status: scan.Completed}
		h.Target.URI = uri
		results, err := s.make(ctx, j, uri, errs)
		switch {
		case ctx.Err() != nil: // the scan may have been done all the same
			return nil, ctx.Err()
		case err != nil:
			h.Status, h.Reason = scan.Error, err.Error()
		default:
			n := results.Counts()
			h.Counts = &n
			if j.threshold != nil {
				h.Outcome = scan.Passed
				if found := j.threshold.Check(results); len(found) > 0 {
					h.Outcome, h.Reason = scan.Failed, reasons(found)
				}
			}
		}
		list = append(list, h)
	}
	return list, nil
}

func areContainers(n int) string {
	if n == 1 {
		return "1 container is"
	}
	return count(n, "container") + " are"
}

func reasons(list []threshold.Finding) string {
	var all []string
	for _, f := range list {
		all = append(all, f.Message)
	}
	return strings.Join(all, "; ")
}

// worst is the exit code of several scans, as an error.
func worst(list []here, judged bool) error {
	var codes []int
	broken := 0
	for _, h := range list {
		if h.Status != scan.Completed {
			broken++
			continue
		}
		var exit *exitError
		if errors.As(exitCode(*h.Counts, judged, h.Outcome == scan.Passed), &exit) {
			codes = append(codes, exit.code)
		}
	}
	switch {
	case broken > 0:
		return fmt.Errorf("%s couldn't be scanned", count(broken, "container"))
	case len(codes) == 0:
		return nil
	}
	return &exitError{code: slices.Min(codes)} // 100 before 101
}

// exitCode is that of a scan that was made, as an error.
func exitCode(n hdf.Counts, judged, met bool) error {
	switch {
	case judged && met:
		return nil
	case judged:
		return &exitError{code: exitNo}
	case n.Failed+n.Error > 0:
		return &exitError{code: exitControlFailed}
	case n.Skipped > 0 || n.Passed == 0:
		return &exitError{code: exitControlSkipped}
	}
	return nil
}

// completePods completes pod/NAME by the pods of the user's own kubeconfig.
func completePods(ctx context.Context, a *clusterAccess, namespace string) []cobra.Completion {
	config, err := kube.Config(a.kubeconfig, a.context)
	if err == nil && namespace == "" {
		namespace, err = kube.Namespace(a.kubeconfig, a.context)
	}
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	found, err := kube.Select(ctx, config, kube.Selection{Namespace: namespace}, 10*completeMost)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	var out []cobra.Completion
	for _, c := range found {
		out = append(out, "pod/"+c.Pod)
	}
	return slices.Compact(out)
}
