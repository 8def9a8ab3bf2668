package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// completeTime is what a person waits for at the tabulator key.
	completeTime = 2 * time.Second
	// completeMost is how many of a long list are looked through, the newest.
	completeMost = 100
)

// names are those of one of the API's lists, for a shell that completes a flag
// or an argument.
type names struct {
	path  string
	paged bool
	// member is where an item has its name, and about what describes it; dots
	// lead into objects.
	member string
	about  string
}

var (
	agentNames     = names{path: "/agents", member: "name", about: "annotations.description"}
	profileNames   = names{path: "/profiles", member: "name", about: "title"}
	thresholdNames = names{path: "/thresholds", member: "name"}
	scanNames      = names{path: "/scans", paged: true, member: "id", about: "scan.profile"}
	serviceNames   = names{path: "/services", member: "name", about: "type"}
	sinkNames      = names{path: "/sinks", member: "name", about: "type"}
	alertNames     = names{path: "/alerts", paged: true, member: "id", about: "policy"}
	silenceNames   = names{path: "/silences", member: "id", about: "comment"}
	policyNames    = names{path: "/policies", member: "name", about: "check"}
	scheduleNames  = names{path: "/schedules", member: "name", about: "cron"}
	tokenNames     = names{path: "/tokens", member: "id", about: "name"}
	recordingNames = names{path: "/recordings", paged: true, member: "id", about: "holder"}
)

// of asks the hub, if there is one that answers soon.
func (n names) of(ctx context.Context, hub *hubFlags) []cobra.Completion {
	c, err := hub.client()
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil
	}
	defer c.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	raw, _, err := c.list(ctx, n.path, url.Values{}, n.paged, completeMost)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil
	}
	var out []cobra.Completion
	for _, item := range raw {
		var v any
		if json.Unmarshal(item, &v) != nil {
			continue
		}
		if name := memberText(v, n.member); name != "" {
			out = append(out, cobra.CompletionWithDesc(name, printable(memberText(v, n.about))))
		}
	}
	return slices.Compact(out)
}

// memberText is the text at a path of names parted by dots; empty if there is
// none.
func memberText(v any, path string) string {
	for name := range strings.SplitSeq(path, ".") {
		in, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = in[name]
	}
	if v == nil {
		return ""
	}
	return printable(fmt.Sprint(v))
}

// flag lets the shell complete a flag of cmd by the hub's names, after others
// that need no hub.
func (n names) flag(cmd *cobra.Command, flag string, hub *hubFlags, directive cobra.ShellCompDirective, others ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		out := slices.Clone(others)
		if hub.url != "" {
			for _, c := range n.of(cmd.Context(), hub) {
				if name, _, _ := strings.Cut(c, "\t"); !slices.Contains(others, name) {
					out = append(out, c)
				}
			}
		}
		return out, directive
	})
	if err != nil {
		panic(err) // as in complete
	}
}

// arguments lets the shell complete the arguments of cmd, each by the names at
// its place; the last ones serve for what follows, too, if more is true.
func arguments(cmd *cobra.Command, hub *hubFlags, more bool, places ...names) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		at := len(args)
		if more {
			at = min(at, len(places)-1)
		}
		if at >= len(places) || places[at].path == "" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return places[at].of(cmd.Context(), hub), cobra.ShellCompDirectiveNoFileComp
	}
}
