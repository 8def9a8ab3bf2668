package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/clipperhouse/displaywidth"

	"reeve.dev/reeve/api"
)

// rowsOf is a table of what a hub may answer, as rows parted by tabs.
func rowsOf[T any](t *testing.T, rows func(io.Writer, []T) error, answer string) string {
	t.Helper()
	var items []T
	if err := json.Unmarshal([]byte(answer), &items); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := rows(&out, items); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The tables fit on a terminal, and keep there what they are looked at for.
func TestTables(t *testing.T) {
	const place = `"agent":"production-eu","namespace":"webshop-main","project":"webshop","environment":"main","service":"nginx","build":"lagoon-build-7x2","received":"2026-01-31T12:00:00Z","since":"2026-01-31T12:00:00Z"`
	const target = `"target":{"agent":"production-eu","namespace":"webshop","pod":"nginx-5d8c7b9f6d-x2x4z","container":"nginx"}`
	const digest = `"digest":"sha256:0fba2b224ebf3d9a9a7fe6615970b77d977727a7e0487308a5efe3700105a2ac"`
	const id = `"id":"01a20394-4849-7c61-b221-ab5a55432d26"`
	scan := `[{` + id + `,"status":"completed","outcome":"failed","counts":{"passed":118,"failed":28,"skipped":4,"error":0},` + target + `,"scan":{"profile":"container-baseline","threshold":"moderate"},"created":"2026-01-31T12:00:00Z"}`
	for name, tt := range map[string]struct {
		text string
		// small are the columns that stay at 80; wide those that stay at 120.
		small, wide string
	}{
		"scans":        {rowsOf(t, scanRows, scan+`]`), "ID OUTCOME AGENT TARGET", "ID OUTCOME PASSED AGENT TARGET PROFILE CREATED"},
		"broken scans": {rowsOf(t, scanRows, scan+`,{`+id+`,"status":"error",`+target+`,"scan":{"profile":"container-baseline"},"created":"2026-01-31T12:00:00Z","reason":"the container ended while it was scanned"}]`), "ID OUTCOME AGENT TARGET REASON", ""},
		"targets": {
			rowsOf(t, targetRows, `[{`+target+`,"profile":"container-baseline","last":{"scan":"01a20394-4849-7c61-b221-ab5a55432d26","outcome":"failed","counts":{"passed":118,"failed":28},"finished":"2026-01-31T12:00:00Z"}}]`),
			"", "",
		},
		"alerts":     {rowsOf(t, alertRows, `[{"id":"c9f37817220686bd50de8dd13a47ea47","state":"delivered","sink":"security-team","owner":"production-eu/webshop","repo":"Deployment/nginx","policy":"critical-cves","pass":false,"attempts":1,"created":"2026-01-31T12:00:00Z"}]`), "", ""},
		"sinks":      {rowsOf(t, sinkRows, `[{"name":"security-team","type":"slack","pending":12,"delivered":1204,"dead":1,"oldestPending":"2026-01-31T12:00:00Z","pausedUntil":"2026-01-31T12:00:00Z","reason":"connection refused"}]`), "", ""},
		"components": {rowsOf(t, componentRows, `[{"name":"log4j-core","version":"2.14.1","purl":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",`+place+`}]`), "", ""},
		"documents":  {rowsOf(t, documentRows, `[{`+digest+`,"components":1204,`+place+`}]`), "", ""},
		"facts":      {rowsOf(t, factRows, `[{"name":"drupal-core","value":"10.2.3","source":"sbom:syft",`+place+`}]`), "", ""},
		"problems":   {rowsOf(t, problemRows, `[{"identifier":"CVE-2021-44228","severity":"CRITICAL","associatedPackage":"log4j-core","fixedVersion":"2.17.1",`+place+`}]`), "AGENT PROJECT IDENTIFIER SEVERITY PACKAGE FIXED IN SINCE", ""},
		"workloads":  {rowsOf(t, workloadRows, `[{"agent":"production-eu","namespace":"webshop","kind":"Deployment","name":"nginx","container":"nginx","pods":3,"image":"registry.example.com/webshop/nginx:1.25.3",`+digest+`,"firstSeen":"2026-01-31T12:00:00Z"}]`), "AGENT NAMESPACE WORKLOAD CONTAINER PODS FIRST SEEN", ""},
		"who runs":   {rowsOf(t, whereRows, `[{"name":"log4j-core","version":"2.14.1","agent":"production-eu","namespace":"webshop","service":"nginx","kind":"Deployment","workload":"nginx","container":"nginx","pods":3,"image":"registry.example.com/webshop/nginx:1.25.3","since":"2026-01-31T12:00:00Z"}]`), "COMPONENT VERSION AGENT SERVICE WORKLOAD CONTAINER PODS", ""},
		"policies":   {rowsOf(t, policyRows, `[{"name":"critical-cves","check":"problems of severity critical, older than 7 days","passed":120,"failed":4,"unknown":1,"actions":["slack/security-team","issue"],"lastRun":{"began":"2026-01-31T12:00:00Z"}}]`), "", ""},
		"subjects":   {rowsOf(t, policySubjectRows, `[{"policy":"critical-cves","owner":"production-eu/webshop","repo":"Deployment/nginx","verdict":"failed","since":"2026-01-31T12:00:00Z","checked":"2026-01-31T12:00:00Z","details":"CVE-2021-44228 in log4j-core 2.14.1, fixed in 2.17.1"}]`), "POLICY OWNER REPO VERDICT DETAILS", ""},
		"schedules":  {rowsOf(t, scheduleRows, `[{"name":"nightly","cron":"0 3 * * *","timeZone":"Europe/Berlin","selector":{"namespace":"webshop","labels":"app=nginx"},"profile":"container-baseline","threshold":"moderate","next":"2026-01-31T12:00:00Z"}]`), "NAME CRON OF PROFILE NEXT", ""},
		"tokens":     {rowsOf(t, tokenRows, `[{"id":"ea6dwseeef","kind":"api","name":"ci-of-the-webshop","created":"2026-01-31T12:00:00Z","expires":"2026-01-31T12:00:00Z","usedAt":"2026-01-31T12:00:00Z"}]`), "", ""},
		"audit":      {rowsOf(t, auditRows, `[{"at":"2026-01-31T12:00:00Z","actor":"certificate:admin","action":"put-schedule","path":"/api/v1/schedules/nightly","status":201,"seconds":0.012,"sent":1024}]`), "AT WHO ACTION WHAT STATUS", ""},
		"recordings": {rowsOf(t, recordingRows, `[{`+id+`,"began":"2026-01-31T12:00:00Z","ended":"2026-01-31T12:20:00Z","actor":"spiffe://reeve/user/alice","agent":"production-eu","namespace":"webshop","pod":"nginx-5d8c7b9f6d-x2x4z","container":"nginx","command":["bash"],"size":120400}]`), "", ""},
		"events":     {rowsOf(t, eventRows, `[{`+id+`,"type":"com.example.image.pushed","source":"https://registry.example.com","agent":"production-eu","namespace":"webshop","received":"2026-01-31T12:00:00Z","state":"handled"}]`), "", ""},
		"agents":     {rowsOf(t, agentRows, `[{"name":"production-eu","connected":true,"instances":[{"version":"1.2.3"}],"lastSeen":"2026-01-31T12:00:00Z","annotations":{"description":"the clusters of the webshop in Europe"}}]`), "", ""},
		"a name in Chinese": {rowsOf(t, func(w io.Writer, list []api.Agent) error {
			row(w, "NAME", "STATE", "DESCRIPTION")
			for range 2 {
				row(w, "網店", "connected", "網店的服務在歐洲的集群裡運行，還有 👩‍👩‍👧 和 café é̂ 以及其他許多許多的東西和東西")
			}
			return nil
		}, `[]`), "NAME STATE DESCRIPTION", ""},
	} {
		for width, columns := range map[int]string{80: tt.small, 120: tt.wide} {
			got := layOut(tt.text, width, false)
			t.Logf("%s at %d:\n%s", name, width, got)
			for line := range strings.Lines(got) {
				if n := displaywidth.String(strings.TrimSuffix(line, "\n")); n > width && name != "documents" { // digests are as long as a line

					t.Errorf("%s: %d columns of %d: %q", name, n, width, line)
				}
			}
			heading, _, _ := strings.Cut(got, "\n")
			if columns != "" && strings.Join(strings.Fields(heading), " ") != columns {
				t.Errorf("%s at %d: %s", name, width, heading)
			}
		}
	}
}
