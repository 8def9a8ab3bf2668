package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/scan"
)

func newSchedule() *cobra.Command {
	cmd := &cobra.Command{Use: "schedule", Short: "Make, list, pause and delete schedules of scans"}
	cmd.AddCommand(newScheduleCreate(), newList(list[api.Schedule]{
		use: "list", short: "List the schedules", example: "  reeve schedule list\n  reeve schedule list nightly -o yaml", path: "/schedules", rows: scheduleRows,
		arg: "NAME", inList: true, name: scheduleName,
	}), newScheduleRuns(),
		newAct("pause NAME", "Have a schedule not run until it is resumed", "  reeve schedule pause nightly", scheduleNames),
		newAct("resume NAME", "Have a schedule run again; by your rights, if its maker may not make it any more", "  reeve schedule resume nightly", scheduleNames),
		newScheduleDelete())
	return cmd
}

func newScheduleCreate() *cobra.Command {
	var hub hubFlags
	var out output
	var b struct {
		api.ScheduleTimes
		target, agent, namespace, labels, workload, container string
		profile, threshold, priority, method                  string
		agents, inputs, inputFiles                            []string
		timeout, jitter                                       time.Duration
		replace, sbom                                         bool
	}
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Ask for scans again and again",
		Long: `Asks for scans when --cron says so: of one target, or of all containers that
--agents, --namespace, --labels, --workload and --container choose at that time,
which without any of them are those of the whole fleet.`,
		Example: `  reeve schedule create nightly --cron '0 3 * * *' --time-zone Europe/Berlin --namespace shop --profile container-baseline --threshold moderate --jitter 30m
  reeve schedule create host --cron @daily --target dir:/ --agent prod --profile container-baseline`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			inputs, err := readInputs(b.inputs, b.inputFiles)
			if err != nil {
				return err
			}
			b.Jitter = int(b.jitter.Seconds())
			scan := map[string]any{"profile": b.profile, "threshold": b.threshold, "inputs": inputs}
			options := map[string]any{"timeout": int(b.timeout.Seconds()), "priority": b.priority, "method": b.method, "sbom": b.sbom}
			body := map[string]any{
				"cron": b.Cron, "timeZone": b.TimeZone, "jitter": b.Jitter, "missed": b.Missed, "suspended": b.Suspended,
				"scan": given(scan), "options": given(options),
			}
			if b.target != "" {
				if b.namespace+b.labels+b.workload+b.container != "" || len(b.agents) > 0 {
					return errors.New("--target is one target: leave --agents, --namespace, --labels, --workload and --container out, or --target")
				}
				body["target"] = given(map[string]any{"uri": b.target, "agent": b.agent})
			} else {
				if b.agent != "" {
					return errors.New("--agent is for --target; choose the agents of a selector by --agents")
				}
				selector := map[string]any{"namespace": b.namespace, "labels": b.labels, "container": b.container}
				if len(b.agents) > 0 {
					selector["agents"] = b.agents
				}
				if b.workload != "" {
					kind, name, _ := strings.Cut(b.workload, "/")
					selector["workload"] = map[string]string{"kind": kind, "name": name}
				}
				body["selector"] = given(selector)
			}
			path := "/schedules/" + url.PathEscape(args[0])
			if !b.replace {
				_, err := c.do(cmd.Context(), http.MethodGet, path, nil)
				var p *problem
				if err == nil {
					return fmt.Errorf("there is a schedule %q already; --replace replaces it", args[0])
				} else if !errors.As(err, &p) || p.Status != http.StatusNotFound {
					return err
				}
			}
			data, err := c.do(cmd.Context(), http.MethodPut, path, given(body))
			if err != nil {
				return err
			}
			return printOne(cmd.OutOrStdout(), &out, data, table[api.Schedule]{rows: scheduleRows, name: scheduleName})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&b.Cron, "cron", "", "when: minute, hour, day of the month, month and day of the week, or @hourly, @daily, @weekly, @monthly, @yearly")
	flags.StringVar(&b.TimeZone, "time-zone", "", "`zone` of --cron, such as Europe/Berlin; UTC if left out")
	flags.Var(lasting{&b.jitter, 0}, "jitter", "`duration` over which the agents' scans are spread")
	flags.StringVar(&b.Missed, "missed", "once", "what becomes of runs whose time passed while no hub was up: once (the last is made) or skip")
	flags.BoolVar(&b.Suspended, "suspended", false, "don't run for now")
	flags.BoolVar(&b.replace, "replace", false, "replace the schedule of this name")
	flags.StringVar(&b.target, "target", "", "`URI` of one target, such as dir:/ or k8s-container://NS/POD/CONTAINER")
	flags.StringVar(&b.agent, "agent", "", "`name` of the agent beside --target")
	flags.StringSliceVar(&b.agents, "agents", nil, "`names` of agents whose containers are scanned")
	flags.StringVarP(&b.namespace, "namespace", "n", "", "`name` of the containers' namespace")
	flags.StringVarP(&b.labels, "labels", "l", "", "label `selector` of pods, such as app=web")
	flags.StringVar(&b.workload, "workload", "", "`kind/name` of what the pods belong to, such as Deployment/web")
	flags.StringVar(&b.container, "container", "", "`name` of the containers")
	flags.StringVarP(&b.profile, "profile", "p", "", "`name` of the profile")
	flags.StringVarP(&b.threshold, "threshold", "T", "", "`name` of the threshold")
	flags.StringArrayVar(&b.inputs, "input", nil, "`name=value` of an input; may be repeated")
	flags.StringArrayVar(&b.inputFiles, "input-file", nil, "YAML `file` with inputs; may be repeated")
	flags.Var(lasting{&b.timeout, time.Second}, "timeout", "`duration` that a scan may take")
	flags.StringVar(&b.priority, "priority", "", "high, normal or low")
	flags.StringVar(&b.method, "method", "", "way into the containers: auto, exec, ephemeral or sidecar")
	flags.BoolVar(&b.sbom, "sbom", false, "have the agents hand in SBOMs of the containers, too")
	agentNames.flag(cmd, "agent", &hub, cobra.ShellCompDirectiveNoFileComp)
	agentNames.flag(cmd, "agents", &hub, cobra.ShellCompDirectiveNoFileComp)
	profileNames.flag(cmd, "profile", &hub, cobra.ShellCompDirectiveNoFileComp)
	thresholdNames.flag(cmd, "threshold", &hub, cobra.ShellCompDirectiveNoFileComp)
	complete(cmd, "missed", "once", "skip")
	complete(cmd, "priority", "high", "normal", "low")
	complete(cmd, "method", "auto", "exec", "ephemeral", "sidecar")
	for _, name := range []string{"cron", "profile"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // as in complete
		}
	}
	return cmd
}

// given is body without the members that nothing was said of.
func given(body map[string]any) map[string]any {
	for key, value := range body {
		switch v := value.(type) {
		case string:
			if v == "" {
				delete(body, key)
			}
		case int:
			if v == 0 {
				delete(body, key)
			}
		case map[string]any:
			if len(v) == 0 && key != "selector" {
				delete(body, key)
			}
		}
	}
	return body
}

func scheduleName(s api.Schedule) string { return s.Name }

func newScheduleRuns() *cobra.Command {
	var hub hubFlags
	var out output
	var query map[string]*string
	filters := []filter{{name: "agent", usage: "`name` of the agent whose own policy it is", names: agentNames}}
	cmd := &cobra.Command{
		Use:     "runs NAME",
		Short:   "List the last runs of a schedule, newest first",
		Example: "  reeve schedule runs nightly",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := parameters(filters, query)
			if err != nil {
				return err
			}
			c, err := hub.client()
			if err != nil {
				return err
			}
			return printPages(cmd, c, &out, pages{"/schedules/" + url.PathEscape(args[0]) + "/runs", params, false, 0}, table[api.ScheduleRun]{
				rows: runRows, name: func(r api.ScheduleRun) string { return cmp.Or(string(r.Scan), string(r.Batch)) },
			})
		},
	}
	hub.flags(cmd)
	out.flag(cmd)
	query = filterFlags(cmd, &hub, filters)
	arguments(cmd, &hub, false, scheduleNames)
	return cmd
}

func newScheduleDelete() *cobra.Command {
	var hub hubFlags
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a schedule; what it led to stays",
		Example: "  reeve schedule delete nightly",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			if _, err := c.do(cmd.Context(), http.MethodDelete, "/schedules/"+url.PathEscape(args[0]), nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", args[0])
			return err
		},
	}
	hub.flags(cmd)
	arguments(cmd, &hub, false, scheduleNames)
	return cmd
}

func scheduleRows(w io.Writer, list []api.Schedule) error {
	row(w, "NAME", "AGENT", "CRON", "ZONE", "OF", "PROFILE", "THRESHOLD", "NEXT", "REASON")
	for _, s := range list {
		next := when(s.Next)
		if s.Suspended {
			next = "suspended"
		}
		row(w, s.Name, orDash(s.Agent), s.Cron, cmp.Or(s.TimeZone, "UTC"), scheduled(s), s.Profile, orDash(s.Threshold), next, orDash(s.Paused))
	}
	return nil
}

// scheduled is what a schedule scans.
func scheduled(s api.Schedule) string {
	if t := s.Target; t != nil {
		uri := scan.Target{Namespace: t.Namespace, Pod: t.Pod, Container: t.Container, URI: t.URI}.String()
		return t.Agent + " " + uri
	}
	b := s.Selector
	parts := []string{}
	for _, p := range []struct{ name, value string }{
		{"agents", strings.Join(b.Agents, ",")}, {"namespace", b.Namespace}, {"labels", b.Labels}, {"container", b.Container},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if b.Workload != nil {
		parts = append(parts, b.Workload.Kind+"/"+b.Workload.Name)
	}
	return cmp.Or(strings.Join(parts, ", "), "all containers")
}

func runRows(w io.Writer, list []api.ScheduleRun) error {
	row(w, "AT", "STATE", "SCAN OR BATCH", "MISSED", "REASON")
	for _, r := range list {
		row(w, when(r.At), r.State, orDash(cmp.Or(string(r.Scan), string(r.Batch))), r.Missed, orDash(r.Reason))
	}
	return nil
}
