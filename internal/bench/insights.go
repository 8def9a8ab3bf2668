package main

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/store/sqlite"
)

const (
	sbomComponents = 600
	// sbomPackages is how many packages there are, each in sbomVersions.
	sbomPackages = 30_000
	sbomVersions = 7
	// osvEntries is how many vulnerabilities are imported, osvChanged how many
	// of them come again, changed.
	osvEntries = 200_000
	osvChanged = 100
)

// insights has several agents send SBOMs, of as many services, to a hub's
// store in SQLite, asks it where components run, and gives it vulnerabilities.
func insights(ctx context.Context, opt options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.DiscardHandler)
	s, err := sqlite.Open(ctx, filepath.Join(dir, "reeve.db"), log)
	if err != nil {
		return err
	}
	defer s.Close()
	service := insight.NewService(s, insight.Limits{}, log)

	began := time.Now()
	if err := sendSBOMs(ctx, service, opt.sboms); err != nil {
		return err
	}
	rate := float64(opt.sboms) / time.Since(began).Seconds()
	rows := opt.sboms * sbomComponents
	report.Add(Row{
		Name: fmt.Sprintf("SBOMs of %d components stored, up to %d rows", sbomComponents, rows), Value: rate, Unit: "1/s",
		Peer: "what is asked for", PeerValue: 100, Bar: 1, More: true,
	})

	r := rand.New(rand.NewPCG(3, 4))
	var took []time.Duration
	for range 300 {
		began := time.Now()
		found, err := s.WhoRuns(ctx, insight.Query{Q: fmt.Sprintf("pkg:npm/package-%d", r.IntN(sbomPackages))}, func(c insight.Component) bool { return osv.Between(c, "", "1.4") })
		if err != nil {
			return err
		}
		took = append(took, time.Since(began))
		if len(found) > 1000 {
			return fmt.Errorf("%d places on a page", len(found))
		}
	}
	slices.Sort(took)
	report.Add(
		Row{Name: "who runs a package below a version, p50", Value: ms(took[len(took)/2]), Unit: "ms", Peer: "what is asked for", PeerValue: 50, Bar: 1},
		Row{Name: "who runs a package below a version, p99", Value: ms(took[len(took)*99/100]), Unit: "ms", Peer: "what is asked for", PeerValue: 50, Bar: 1},
	)

	matcher := osv.Matcher{Store: s, Logger: log}
	for _, step := range []struct {
		name    string
		entries int
		fixed   string
		bar     float64
	}{
		{fmt.Sprintf("%d vulnerabilities imported", osvEntries), osvEntries, "1.3.0", 60},
		{fmt.Sprintf("%d SBOMs matched anew after %d of them changed", opt.sboms, osvChanged), osvChanged, "1.5.0", 5},
	} {
		file, err := database(step.entries, step.fixed)
		if err != nil {
			return err
		}
		began := time.Now()
		got, err := osv.Import(ctx, s, file, file.Size())
		if err != nil {
			return err
		}
		imported := time.Since(began)
		if got.Changed != step.entries {
			return fmt.Errorf("%+v imported, want %d changed", got, step.entries)
		}
		began = time.Now()
		if err := matcher.Match(ctx); err != nil {
			return err
		}
		matched := time.Since(began)
		value := imported
		if step.entries == osvChanged {
			value += matched
		} else {
			report.Add(Row{Name: "their first match with all SBOMs", Value: matched.Seconds(), Unit: "s"})
		}
		report.Add(Row{Name: step.name, Value: value.Seconds(), Unit: "s", Peer: "what is asked for", PeerValue: step.bar, Bar: 1})
	}
	began = time.Now()
	found, err := s.Problems(ctx, insight.Query{Source: insight.SourceOSV})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("no problems were found")
	}
	report.Add(Row{Name: "the first page of the problems found", Value: ms(time.Since(began)), Unit: "ms"})
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sendSBOMs has four agents send n SBOMs, each of a service of its own.
func sendSBOMs(ctx context.Context, service *insight.Service, n int) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for agent := range 4 {
		group.Go(func() error {
			for {
				i := int(next.Add(1))
				if i > n {
					return nil
				}
				if err := service.Accept(ctx, insight.Item{
					ID: insight.ItemID(fmt.Sprint(i)), Cluster: fleet.AgentName(fmt.Sprint("agent-", agent)),
					Environment: insight.Environment{Namespace: fmt.Sprint("ns-", i/10)},
					Content:     insight.Document{Kind: insight.KindSBOM, Service: fmt.Sprint("service-", i%10), Data: bom(i)},
				}); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// bom is a document of components among those that there are.
func bom(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:%d","components":[`, n)
	for i := range sbomComponents {
		if i > 0 {
			b.WriteByte(',')
		}
		// One of each of as many ranges: no package twice.
		p, v := i*(sbomPackages/sbomComponents)+r.IntN(sbomPackages/sbomComponents), r.IntN(sbomVersions)
		fmt.Fprintf(&b, `{"type":"library","name":"package-%d","version":"1.%d.0","purl":"pkg:npm/package-%d@1.%d.0","licenses":[{"license":{"id":"MIT"}}]}`, p, v, p, v)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// database is a zip file of entries, the first of them about the packages.
func database(n int, fixed string) (*bytes.Reader, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	details := strings.Repeat("What it is, and what it does to whom. ", 20)
	for i := range n {
		w, err := z.Create(fmt.Sprintf("BENCH-%d.json", i))
		if err == nil {
			_, err = fmt.Fprintf(w, `{"schema_version":"1.6.0","id":"BENCH-%d","modified":"2026-01-01T00:00:%02dZ","aliases":["CVE-2026-%d"],"summary":"A flaw","details":%q,
				"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}],
				"affected":[{"package":{"ecosystem":"npm","name":"package-%d"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":%q}]}],"versions":["0.1.0","0.2.0","0.3.0"]}],
				"references":[{"type":"WEB","url":"https://example.org/%d"}]}`, i, int(fixed[2])%60, i, details, i, fixed, i)
		}
		if err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return bytes.NewReader(b.Bytes()), err
}
