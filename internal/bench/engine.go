package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
)

// The bars of a scan from the command line, for a profile of as many controls
// as the largest STIG that `make parity` knows has.
const (
	startBar  = 30  // ms
	memoryBar = 57  // MiB: 60 MB
	largest   = 453 // controls
)

// engine measures what the profile engine costs by itself: how its time grows
// with the controls, and how long and in what memory `reeve scan` works on
// files, where there is nothing to wait for. What it costs beside InSpec on
// the same target and profile is for `make parity`.
func engine(ctx context.Context, opt options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := smallRoot(dir)
	if err != nil {
		return err
	}
	each := map[int]float64{} // µs a control, by the number of controls
	for _, n := range []int{100, 1000, 4000} {
		profile, err := syntheticProfile(dir, n)
		if err != nil {
			return err
		}
		var took []float64
		for range opt.rounds + 2 {
			begin := time.Now()
			if err := judgeAll(ctx, profile, root, n); err != nil {
				return err
			}
			took = append(took, float64(time.Since(begin).Microseconds())/float64(n))
		}
		each[n] = slices.Min(took)
	}
	for _, n := range []int{1000, 4000} {
		report.Add(Row{Name: fmt.Sprintf("engine: %d controls, time for each", n), Value: each[n], Unit: "µs", Peer: "of 100 controls", PeerValue: each[100], Bar: 1.5})
	}

	bin := filepath.Join(dir, "reeve")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "reeve.dev/reeve/cmd/reeve").CombinedOutput(); err != nil {
		return fmt.Errorf("build reeve: %w: %s", err, out)
	}
	if bin, err = installed(ctx, bin); err != nil {
		return err
	}
	one, err := syntheticProfile(dir, 1)
	if err != nil {
		return err
	}
	many, err := syntheticProfile(dir, largest)
	if err != nil {
		return err
	}
	var start, memory []float64
	for range opt.rounds + 2 {
		begin := time.Now()
		if _, err := scanOnce(ctx, bin, one, root); err != nil {
			return err
		}
		start = append(start, float64(time.Since(begin).Microseconds())/1000)
		mib, err := scanOnce(ctx, bin, many, root)
		if err != nil {
			return err
		}
		memory = append(memory, mib)
	}
	report.Add(
		Row{Name: "reeve scan: process start to the end of the first and only control", Value: slices.Min(start), Unit: "ms", Peer: "the bar", PeerValue: startBar, Bar: 1},
		Row{Name: fmt.Sprintf("reeve scan: peak memory with %d controls", largest), Value: slices.Max(memory), Unit: "MiB", Peer: "the bar", PeerValue: memoryBar, Bar: 1},
	)
	return nil
}

// installed is a copy of a program as it comes out of an archive. What a linker
// wrote, Linux may keep in pieces of up to 2 MiB, each of which counts as the
// process's memory as soon as any of it is needed.
func installed(ctx context.Context, program string) (string, error) {
	to := program + ".installed"
	if out, err := exec.CommandContext(ctx, "install", program, to).CombinedOutput(); err != nil {
		return "", fmt.Errorf("install: %w: %s", err, out)
	}
	return to, nil
}

// syntheticProfile writes a profile of n controls that ask about files and
// accounts, a file for each as large profiles have it.
func syntheticProfile(dir string, n int) (string, error) {
	profile := filepath.Join(dir, fmt.Sprintf("profile-%d", n))
	if err := os.MkdirAll(filepath.Join(profile, "controls"), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(profile, "inspec.yml"), []byte("name: synthetic\nversion: 1.0.0\n"), 0o644); err != nil {
		return "", err
	}
	for i := range n {
		text := fmt.Sprintf(`control 'SV-%06[1]d' do
  title 'The tool of number %[1]d must be a program that only its owner may change.'
  desc 'A tool that anybody may change lets anybody act as whoever runs it next.'
  desc 'check', 'Look at the mode of the tool and at who owns it.'
  desc 'fix', 'chmod 755 the tool'
  impact 0.5
  tag severity: 'medium', gid: 'V-%[1]d', nist: ['CM-6 b', 'AC-3']
  tool = file('/usr/bin/tool-%[2]d')
  only_if('there is no such tool') { tool.exist? }
  describe tool do
    it { should_not be_more_permissive_than('0755') }
    its('content') { should match(/^#!\/bin\/(ba)?sh$/) }
  end
  passwd.users.select { |name| name.start_with?('w') }.each do |name|
    describe user(name) do
      its('uid') { should cmp >= 1000 }
    end
  end
end
`, i, i%300)
		if err := os.WriteFile(filepath.Join(profile, "controls", fmt.Sprintf("SV-%06d.rb", i)), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return profile, nil
}

// judgeAll loads and runs a profile on the files in root, which it must find
// in order, and expects n controls.
func judgeAll(ctx context.Context, profile, root string, n int) error {
	p, err := inspec.Load(profile)
	if err != nil {
		return err
	}
	t, err := target.Open(ctx, "dir:"+root)
	if err != nil {
		return err
	}
	defer t.Close()
	results, err := inspec.Run(ctx, p, t, inspec.Options{})
	if err != nil {
		return err
	}
	if len(results.Profiles) != 1 || len(results.Profiles[0].Controls) != n {
		return fmt.Errorf("the results are not those of %d controls", n)
	}
	return nil
}

// scanOnce runs `reeve scan` and answers the peak of its memory, in MiB.
func scanOnce(ctx context.Context, bin, profile, root string) (float64, error) {
	cmd := exec.CommandContext(ctx, bin, "scan", "dir:"+root, "--profile", profile, "--stats", "--reporter", "json:"+filepath.Join(filepath.Dir(bin), "results.json"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 100 {
		err = nil // some control wasn't met: it was judged all the same
	}
	if err != nil {
		return 0, fmt.Errorf("reeve scan: %w: %s", err, out)
	}
	_, after, _ := strings.Cut(string(out), ", memory ")
	var mib float64
	if _, err := fmt.Sscanf(after, "%f MiB", &mib); err != nil {
		return 0, fmt.Errorf("reeve scan --stats tells no memory: %s", out)
	}
	return mib, nil
}
