package storetest

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

// The database of a hub that has done a bit of everything, in schema 80.
const (
	formerFile   = "../testdata/schema-80.json"
	formerSchema = 80
)

// Former is a database in which an earlier Reeve is imitated.
type Former struct {
	DB         *sql.DB
	Dialect    goose.Dialect
	Migrations fs.FS // as this database takes them
	// Columns answers those of a table; none if there is no such table.
	Columns func(t *testing.T, table string) []string
	// Value is how the n-th value of an INSERT is written.
	Value func(n int) string
	// Open opens the store on it.
	Open func(t *testing.T) *store.Store
}

// Schemas are the versions of the migrations, the oldest first.
func Schemas(t *testing.T, migrations fs.FS) (versions []int64) {
	t.Helper()
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v)
	}
	slices.Sort(versions)
	return versions
}

// Upgrade opens a database that an earlier Reeve has left at a version: what
// was in it is still there, and it goes on.
func Upgrade(t *testing.T, f Former, version int64) {
	ctx := t.Context()
	p, err := goose.NewProvider(f.Dialect, f.DB, f.Migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, min(version, formerSchema)); err != nil {
		t.Fatal(err)
	}
	rows := f.fill(t)
	if version > formerSchema {
		if _, err := p.UpTo(ctx, version); err != nil {
			t.Fatal(err)
		}
	}
	s := f.Open(t)
	if err := s.Ready(ctx); err != nil {
		t.Error(err)
	}
	stillThere(t, s, rows)
	c := scan.Scan{
		ID: scan.NewID(), Status: scan.Queued, Created: time.Now(), Expires: time.Now().Add(time.Hour),
		Request: scan.Request{Target: scan.Target{Agent: "demo", URI: "dir:/"}, Profile: "base", Timeout: time.Minute},
	}
	if err := s.CreateScan(ctx, c); err != nil {
		t.Errorf("a new scan: %v", err)
	}
}

// fill puts in what that schema can hold, and answers how many rows of which
// table.
func (f Former) fill(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(formerFile)
	if err != nil {
		t.Fatal(err)
	}
	var tables map[string]struct {
		Columns []string
		Rows    [][]any
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&tables); err != nil {
		t.Fatal(err)
	}
	filled := map[string]int{}
	names := slices.Sorted(maps.Keys(tables))
	// What others refer to comes first.
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(referred, b) - slices.Index(referred, a) })
	for _, name := range names {
		table := tables[name]
		have := f.Columns(t, name)
		if len(have) == 0 {
			continue
		}
		for _, row := range table.Rows {
			var columns, values []string
			var args []any
			for i, column := range table.Columns {
				if slices.Contains(have, column) {
					columns, values = append(columns, column), append(values, f.Value(len(values)+1))
					args = append(args, value(t, row[i]))
				}
			}
			insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", name, strings.Join(columns, ", "), strings.Join(values, ", "))
			if _, err := f.DB.ExecContext(context.WithoutCancel(t.Context()), insert, args...); err != nil {
				t.Fatalf("%s: %v", insert, err)
			}
		}
		filled[name] = len(table.Rows)
	}
	return filled
}

// referred are tables that foreign keys lead to, the first of them last.
var referred = []string{"osv_entries", "schedules", "insight_documents", "alert_key"}

func value(t *testing.T, v any) any {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			f, err := v.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		return n
	case map[string]any:
		b, err := base64.StdEncoding.DecodeString(v["base64"].(string))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return v
}

// stillThere reads by the store what was put in without it.
func stillThere(t *testing.T, s *store.Store, rows map[string]int) {
	t.Helper()
	ctx := t.Context()
	agents, err := s.Agents(ctx)
	if err != nil || len(agents) != rows["agents"] {
		t.Errorf("%d agents of %d: %v", len(agents), rows["agents"], err)
	}
	if rows["scans"] > 0 {
		c, err := s.Scan(ctx, "01a20278-4e78-7205-b477-8caa1f62b2e6")
		if err != nil || c.Status != scan.Completed || c.Outcome != scan.Failed || c.Request.Target.Agent != "demo" || c.Counts.Failed == 0 {
			t.Errorf("the scan: %+v, %v", c, err)
		}
		waiting, err := s.Unfinished(ctx)
		if err != nil || waiting[scan.Queued].Scans != 1 {
			t.Errorf("scans that wait: %+v, %v", waiting, err)
		}
		at := waiting[scan.Queued].Oldest.Add(time.Minute)
		c, err = s.LeaseScan(ctx, scan.Taker{Agent: "demo", Instance: "i", Kinds: []string{"dir"}, LeaseFor: leaseFor, Grace: grace}, at)
		if err != nil || c.Request.Profile != "p" || c.Request.Standing || c.Request.Actions != nil || c.Request.SBOM {
			t.Fatalf("the scan that waits is leased as %+v, %v", c, err)
		}
		f := completed(c.ID, c.Attempt)
		f.Agent, f.Outcomes, f.Sinks = "demo", nil, nil
		if err := s.FinishScan(ctx, f, at); err != nil {
			t.Errorf("it ends: %v", err)
		}
		latest, err := s.Latest(ctx, scan.LatestFilter{Limit: 10})
		if err != nil || len(latest) != 2 {
			t.Fatalf("the last scans: %+v, %v", latest, err)
		}
		until := latest[0].Finished
		if latest[1].Finished.After(until) {
			until = latest[1].Finished
		}
		posture, err := s.Posture(ctx, scan.PostureFilter{Until: until, Days: 366})
		if err != nil || posture[0].Days[365].Failed != 2 || posture[0].Days[0].Failed != 0 {
			t.Errorf("the posture: %+v, %v", posture, err)
		}
	}
	if rows["schedules"] > 0 {
		c, err := s.Schedule(ctx, "", "nightly")
		if err != nil || c.Next.IsZero() || c.Paused != "" || c.Maker != nil || c.Request.Standing {
			t.Errorf("the schedule: %+v, %v", c, err)
		}
	}
	if rows["alert"] > 0 {
		alerts, err := s.Alerts(ctx, alert.Filter{Limit: 10})
		if err != nil || len(alerts) != rows["alert"] || alerts[0].Outcome.Subject != (fleet.Subject{Owner: "demo", Repo: "dir:/srv/root"}) {
			t.Errorf("alerts: %+v, %v", alerts, err)
		}
	}
	if rows["insight_facts"] > 0 {
		facts, err := s.Facts(ctx, insight.Query{Limit: 10})
		if err != nil || len(facts) != rows["insight_facts"] {
			t.Errorf("facts: %+v, %v", facts, err)
		}
	}
}
