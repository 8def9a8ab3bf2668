package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

// listsWithin holds what lists of every kind leave out for a caller who may
// know of a part of the fleet.
func listsWithin(t *testing.T, s *store.Store) {
	place := map[string]string{} // by the scan's id
	for _, p := range [][2]string{{"edge", "shop"}, {"edge", "team-a"}, {"edge-2", "shop"}, {"core", "team-b"}, {"core", ""}} {
		c := newScan(fleet.AgentName(p[0]))
		c.Request.Target.Namespace = p[1]
		if p[1] == "" {
			c.Request.Target = scan.Target{Agent: c.Request.Target.Agent, URI: "dir:/"}
		}
		create(t, s, c)
		place[string(c.ID)] = p[0] + "/" + p[1]
		env := insight.Environment{Namespace: p[1], ID: int64(len(place)), Project: p[1], Name: "main"}
		item := insight.Item{ID: insight.ItemID("f" + p[1]), Cluster: c.Request.Target.Agent, Environment: env, Content: insight.Facts{{Source: "s", Name: "n", Value: "v"}}}
		if _, err := s.ApplyInsight(t.Context(), item, nil, epoch); err != nil {
			t.Fatal(err)
		}
		item.ID, item.Content = "d"+item.ID, insight.Document{Kind: insight.KindSBOM, Service: "web"}
		if _, err := s.ApplyInsight(t.Context(), item, &insight.Parsed{Digest: insight.Digest("sha256:" + p[0] + p[1]), SBOM: &insight.SBOM{}}, epoch); err != nil {
			t.Fatal(err)
		}
		finish := scan.Finish{ID: c.ID, Status: scan.Cancelled, Sinks: []string{"x"}, Outcomes: []fleet.Outcome{{Subject: c.Request.Target.Subject(), Policy: "p", Run: string(c.ID)}}}
		if err := s.FinishScan(t.Context(), finish, epoch); err != nil {
			t.Fatal(err)
		}
	}
	// Of the hub's own policies, and of another source whose owners look alike.
	judged := map[string]policy.Run{policy.Fleet: {}, "github/edge": {}}
	for source, r := range judged {
		r.ID, r.Source, r.Began, r.Expected = policy.NewRunID(), source, epoch, 5
		if err := s.BeginPolicyRun(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		var results []fleet.Result
		for _, owner := range []string{"edge/shop", "edge/team-a", "edge-2/shop", "core/team-b", "core/edge/shop"} {
			result := fleet.Result{Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: owner, Repo: "r"}, Policy: "p"}, Sinks: []string{"y"}}
			if agent, namespace, _ := strings.Cut(owner, "/"); source == policy.Fleet && !strings.Contains(namespace, "/") {
				result.Agent, result.Namespace = fleet.AgentName(agent), namespace
			}
			results = append(results, result)
		}
		if err := s.RecordResults(t.Context(), r.ID, results, epoch); err != nil {
			t.Fatal(err)
		}
		// Alerts are seen for longer than the runs that they are of.
		if err := s.EndPolicyRun(t.Context(), r.ID, "", epoch); err != nil {
			t.Fatal(err)
		}
		if err := s.RemovePolicyRuns(t.Context(), epoch.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		judged[source] = r
	}
	for name, c := range map[string]struct {
		within []fleet.Scope
		want   []string
	}{
		"everywhere":  {nil, []string{"core/", "core/team-b", "edge-2/shop", "edge/shop", "edge/team-a"}},
		"nowhere":     {[]fleet.Scope{}, nil},
		"an agent":    {[]fleet.Scope{{Agents: []string{"edge"}}}, []string{"edge/shop", "edge/team-a"}},
		"a pattern":   {[]fleet.Scope{{Agents: []string{"edge*"}, Namespaces: []string{"shop"}}}, []string{"edge-2/shop", "edge/shop"}},
		"namespaces":  {[]fleet.Scope{{Namespaces: []string{"*-a", "team-b*"}}}, []string{"core/team-b", "edge/team-a"}},
		"any but not": {[]fleet.Scope{{Agents: []string{"*"}, Namespaces: []string{"**"}}}, []string{"core/team-b", "edge-2/shop", "edge/shop", "edge/team-a"}},
		"several":     {[]fleet.Scope{{Agents: []string{"core"}}, {Namespaces: []string{"shop"}}}, []string{"core/", "core/team-b", "edge-2/shop", "edge/shop"}},
	} {
		got := map[string][]string{}
		scans, err := s.Scans(t.Context(), scan.Filter{Within: c.within})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range scans {
			got["scans"] = append(got["scans"], place[string(f.ID)])
		}
		alerts, err := s.Alerts(t.Context(), alert.Filter{Within: c.within, Sink: "x"})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range alerts {
			got["alerts"] = append(got["alerts"], place[a.Outcome.Run])
		}
		for source, r := range judged {
			alerts, err := s.Alerts(t.Context(), alert.Filter{Within: c.within, Run: string(r.ID)})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range alerts {
				got[source] = append(got[source], a.Outcome.Subject.Owner)
			}
		}
		documents, err := s.InsightDocuments(t.Context(), insight.Query{Within: c.within})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents {
			got["documents"] = append(got["documents"], string(d.Cluster)+"/"+d.Environment.Namespace)
		}
		facts, err := s.Facts(t.Context(), insight.Query{Within: c.within})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range facts {
			got["facts"] = append(got["facts"], string(f.Cluster)+"/"+f.Environment.Project)
		}
		inNamespaces := slices.DeleteFunc(slices.Clone(c.want), func(p string) bool { return strings.HasSuffix(p, "/") })
		for what, want := range map[string][]string{"scans": c.want, "alerts": c.want, "documents": c.want, "facts": c.want, policy.Fleet: inNamespaces, "github/edge": nil} {
			if _, ofPolicies := judged[what]; ofPolicies && c.within == nil {
				want = []string{"edge/shop", "edge/team-a", "edge-2/shop", "core/team-b", "core/edge/shop"}
			}
			if d := cmp.Diff(want, got[what], cmpopts.SortSlices(strings.Compare)); d != "" {
				t.Errorf("%s: %s (-want +got):\n%s", name, what, d)
			}
		}
	}
}
