package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/cinc"
	"reeve.dev/reeve/inspec/fetch"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/inspec/target/image"
	"reeve.dev/reeve/internal/memory"
	"reeve.dev/reeve/internal/near"
	"reeve.dev/reeve/internal/version"
	"reeve.dev/reeve/profiles"
	"reeve.dev/reeve/scan/kube"
	"reeve.dev/reeve/threshold"
)

// Exit codes of scan without a threshold, as InSpec has them.
const (
	exitControlFailed  = 100
	exitControlSkipped = 101
)

func newScan() *cobra.Command {
	s := scanCommand{}
	remote := remoteScan{}
	cmd := &cobra.Command{
		Use:   "scan TARGET",
		Short: "Hold a target against a profile, here or through a hub",
		Long: `Holds a target against an InSpec profile and reports what it finds.

TARGET is one of
  k8s-container://NAMESPACE/POD/CONTAINER   a running container (see --method)
  pod/NAME                                  a pod's container: --container, or kubectl's default
  deployment/NAME                           all containers of a workload; also statefulset/NAME,
                                            daemonset/NAME, replicaset/NAME, job/NAME, cronjob/NAME
  all                                       all containers of --namespace, or of the cluster
  local:                                    this machine
  dir:PATH                                  a root file system; nothing is run
  chroot:PATH                               a root file system; its own commands run in it
  archive:FILE                              an image as docker save or skopeo write it; nothing is run
  image:REFERENCE                           an image in a registry; nothing is run
  shell:COMMAND                             whatever gives a shell on its standard input

The profile is the name of a shipped one, a folder or an archive.

Containers are entered with the user's own kubeconfig, as kubectl finds it. With
--selector those of the pods that it chooses are scanned.

With --hub (or REEVE_HUB, for the targets that are named as kubectl does) the hub
has an agent make the scan: all is then the whole fleet, and profile and threshold
are names that the hub has: see reeve profile upload and reeve threshold upload.

Exit code: with a threshold 0 if it is met and 1 if not; without one 0 if every
control passed, 100 if one failed or couldn't be judged, 101 if some were only
skipped; 2 if the scan couldn't be made.`,
		Example: `  reeve scan dir:/ --profile container-baseline
  reeve scan pod/web-app -n default -c web --profile ./my-profile --threshold moderate
  reeve scan 'shell:docker exec -i web sh' --profile container-baseline --reporter cli json:out.json
  reeve scan --hub https://hub:8443 pod/web-app -n default -c web --profile container-baseline
  reeve scan --hub https://hub:8443 -l app=web -n shop --profile container-baseline --threshold moderate`,
		Args: func(cmd *cobra.Command, args []string) error {
			if remote.asked(cmd, args) || remote.chosen(cmd.Flags(), args) {
				return nil
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if remote.asked(cmd, args) {
				return s.through(cmd, &remote, args)
			}
			if remote.chosen(cmd.Flags(), args) {
				target := ""
				if len(args) > 0 {
					target, s.reporters = args[0], append(s.reporters, args[1:]...)
				}
				return s.inCluster(cmd, chosen{target, remote.namespace, remote.container, remote.labels})
			}
			if s.output.format != "" {
				return errOneScan
			}
			// --reporter cli json:FILE, as InSpec takes it: what follows the
			// flag's own value arrives as arguments.
			s.reporters = append(s.reporters, args[1:]...)
			return s.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	s.output.flag(cmd)
	flags.Lookup("output").Usage = "`format` of the list of several scans: table, wide, json, yaml or name; see --reporter for the results of one"
	flags.StringVar(&s.profile, "profile", "", "`profile`: the name of a shipped one, a folder or an archive")
	flags.StringVar(&s.threshold, "threshold", "", "`threshold`: the name of a shipped one or a file")
	flags.StringArrayVar(&s.inputs, "input", nil, "`name=value` of an input; may be repeated")
	flags.StringArrayVar(&s.inputFiles, "input-file", nil, "YAML `file` with inputs; may be repeated")
	flags.StringArrayVar(&s.controls, "controls", nil, "`id` or /regular expression/ of the controls to run; may be repeated")
	flags.StringArrayVar(&s.tags, "tags", nil, "`tag`: the name or a value of a tag, or a /regular expression/, of the controls to run; may be repeated")
	flags.StringArrayVar(&s.waivers, "waiver-file", nil, "YAML, JSON or CSV `file` of waivers; may be repeated")
	flags.StringArrayVar(&s.attestations, "attestation-file", nil, "YAML or JSON `file` of attestations, as the SAF tools write it; may be repeated")
	flags.StringArrayVar(&s.reporters, "reporter", nil, "`reporter`: "+reporterNames()+", or FORMAT:FILE; several may follow")
	s.account.flags(flags)
	flags.StringVar(&s.engine, "engine", "native", "`engine`: native, or cinc for an installed cinc-auditor or inspec")
	s.jobs = inspec.Jobs
	flags.Var(whole{&s.jobs, 1}, "jobs", "`number` of commands that may run on the target side by side")
	flags.BoolVar(&s.stats, "stats", false, "print what the scan cost: commands, round trips, time spent waiting for the target and by the engine itself, and the most memory")
	s.access.flags(cmd)
	remote.flags(cmd)
	if err := cmd.MarkFlagRequired("profile"); err != nil {
		panic(err) // the flag is defined above
	}
	complete(cmd, "engine", "native", "cinc")
	cmd.MarkFlagsMutuallyExclusive("output", "reporter")
	profileNames.flag(cmd, "profile", &remote.hub, cobra.ShellCompDirectiveDefault, profiles.Names...)
	thresholdNames.flag(cmd, "threshold", &remote.hub, cobra.ShellCompDirectiveDefault, shippedThresholds()...)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if strings.HasPrefix(typed, "pod/") && !remote.asked(cmd, []string{typed}) {
			return completePods(cmd.Context(), &s.access, remote.namespace), cobra.ShellCompDirectiveNoFileComp
		}
		return append([]string{"pod/", "deployment/", "all"}, localTargets...), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return cmd
}

// errOneScan is of a list that is asked for of what makes none.
var errOneScan = errors.New("--output is for the list of several scans; for the results of one give --reporter, such as json")

// scanMemory is what a scan works in unless its profile needs more: a program
// to be run beside others stays small, and most scans end before it is used up.
const scanMemory = 30 << 20

// slowTarget is when it is told that a target hasn't answered.
var slowTarget = 3 * time.Second

type scanCommand struct {
	profile, threshold string
	inputs, inputFiles []string
	controls, tags     []string
	waivers            []string // files
	attestations       []string // files
	reporters          []string
	access             clusterAccess
	account            awsAccount
	engine             string
	jobs               int
	stats              bool
	output             output
	// prefix is what the progress of a scan begins with.
	prefix string
}

// job is a scan that has nothing wrong with it, as far as can be told before
// the target is touched.
type job struct {
	engine    func(ctx context.Context, uri string, inputs map[string]any, errs io.Writer) (*hdf.Results, error)
	inputs    map[string]any
	reporters []reporter
	threshold *threshold.Threshold // nil: there is none
}

func (s *scanCommand) prepare() (j job, err error) {
	if j.reporters, err = parseReporters(s.reporters, s.account); err != nil {
		return j, err
	}
	if j.inputs, err = readInputs(s.inputs, s.inputFiles); err != nil {
		return j, err
	}
	if err := s.access.validate(); err != nil {
		return j, err
	}
	if s.jobs < 1 {
		return j, fmt.Errorf("--jobs %d: it must be at least 1", s.jobs)
	}
	switch s.engine {
	case "native":
		j.engine = s.native
	case "cinc":
		j.engine = s.cinc
	default:
		return j, fmt.Errorf("--engine %q: it must be native or cinc", s.engine)
	}
	if s.threshold != "" {
		j.threshold, err = threshold.Find(s.threshold)
	}
	return j, err
}

func (s *scanCommand) run(ctx context.Context, uri string, out, errs io.Writer) error {
	defer memory.Bound(scanMemory)()
	j, err := s.prepare()
	if err != nil {
		return err
	}
	results, err := s.make(ctx, j, uri, errs)
	if err != nil {
		return err
	}
	// The reports are made in the room that the run no longer needs.
	debug.FreeOSMemory()
	memory.DropCode()
	for _, r := range j.reporters {
		if err := r.write(out, results); err != nil {
			return err
		}
	}
	if j.threshold != nil {
		return verdict(errs, errs, j.threshold.Check(results))
	}
	return exitCode(results.Counts(), false, false)
}

// make makes the scan. One of no control says nothing of the target.
func (s *scanCommand) make(ctx context.Context, j job, uri string, errs io.Writer) (*hdf.Results, error) {
	results, err := j.engine(ctx, uri, j.inputs, errs)
	if err == nil && len(s.controls)+len(s.tags) > 0 && total(results.Counts()) == 0 {
		err = fmt.Errorf("--controls, --tags: %s has no control that %s names", s.profile, strings.Join(slices.Concat(s.controls, s.tags), " or "))
	}
	return results, err
}

// through has a hub make the scan.
func (s *scanCommand) through(cmd *cobra.Command, r *remoteScan, args []string) (err error) {
	for _, flag := range []string{"controls", "tags", "waiver-file", "attestation-file", "engine", "jobs", "stats", "kubeconfig", "context", "scanner-image"} {
		if cmd.Flags().Changed(flag) {
			return fmt.Errorf("--%s is for scans that are made here, without --hub", flag)
		}
	}
	target := ""
	if len(args) > 0 {
		target, s.reporters = args[0], append(s.reporters, args[1:]...)
	}
	if len(s.reporters) > 0 {
		if r.reporters, err = parseReporters(s.reporters, s.account); err != nil {
			return err
		}
	}
	if r.inputs, err = readInputs(s.inputs, s.inputFiles); err != nil {
		return err
	}
	r.profile, r.threshold, r.output = s.profile, s.threshold, &s.output
	if cmd.Flags().Changed("method") {
		r.method = s.access.method
	}
	return r.run(cmd.Context(), target, cmd.OutOrStdout(), cmd.ErrOrStderr())
}

// native runs the profile on Reeve's own engine.
func (s *scanCommand) native(ctx context.Context, uri string, inputs map[string]any, errs io.Writer) (*hdf.Results, error) {
	waivers, err := inspec.ReadWaivers(s.waivers...)
	if err != nil {
		return nil, err
	}
	attestations, err := inspec.ReadAttestations(s.attestations...)
	if err != nil {
		return nil, err
	}
	profile, err := openProfile(ctx, s.profile)
	if err != nil {
		return nil, err
	}
	// A way that leads nowhere is given up after half a minute, since one by ssh
	// may take its time; who waits is told what for.
	slow := time.AfterFunc(slowTarget, func() { fmt.Fprintf(errs, "reeve: %s hasn't answered yet; waiting for it\n", uri) })
	t, entry, err := s.open(ctx, uri)
	slow.Stop()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	progress := newProgress(errs)
	defer progress.clear()
	var stats inspec.Stats
	memory.DropCode() // of what came before
	results, err := inspec.Run(ctx, profile, t, inspec.Options{
		Inputs: inputs, Controls: s.controls, Tags: s.tags, Version: version.Text(),
		Waivers: waivers, Attestations: attestations, Jobs: s.jobs, Stats: &stats,
		Progress: func(p inspec.Progress) { progress.show(p.Done, p.Total, s.prefix+p.Control) },
	})
	if err != nil {
		return nil, fmt.Errorf("scan of %s: %w", uri, err)
	}
	results.Entry = entry
	progress.clear()
	s.tellUnknown(ctx, profile, results, errs)
	if s.stats {
		ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
		fmt.Fprintf(errs, "commands %d, files %d, round trips %d, wall %v, waiting %v, own %v, memory %.1f MiB\n",
			stats.Commands, stats.Files, stats.RoundTrips, ms(stats.Wall), ms(stats.Waiting), ms(stats.Own), float64(memory.Peak())/(1<<20))
	}
	return results, nil
}

// cinc runs the profile on CINC Auditor or InSpec, where one is installed. The
// native engine isn't asked whether it could read the profile.
func (s *scanCommand) cinc(ctx context.Context, uri string, inputs map[string]any, _ io.Writer) (*hdf.Results, error) {
	if len(s.attestations) > 0 || s.access.context != "" || s.stats || s.access.method != "auto" {
		return nil, errors.New("--attestation-file, --context, --method and --stats are for the native engine: cinc-auditor knows none of them")
	}
	engine, err := cinc.Find()
	if err != nil {
		return nil, err
	}
	profile := s.profile
	if _, err := os.Stat(profile); err != nil {
		shipped, err := openProfile(ctx, profile)
		if err != nil {
			return nil, err
		}
		f, err := os.CreateTemp("", "reeve-profile-*.tar.gz")
		if err != nil {
			return nil, err
		}
		defer os.Remove(f.Name())
		if err := errors.Join(shipped.Archive(f), f.Close()); err != nil {
			return nil, err
		}
		profile = f.Name()
	}
	results, err := engine.Run(ctx, cinc.Request{
		Profile: profile, Target: uri, Inputs: inputs, Controls: s.controls, Tags: s.tags,
		Waivers: s.waivers, Kubeconfig: s.access.kubeconfig,
	})
	if err != nil {
		return nil, fmt.Errorf("scan of %s: %w", uri, err)
	}
	return results, nil
}

func (s *scanCommand) open(ctx context.Context, uri string) (target.Target, *hdf.Entry, error) {
	t, entry, err := s.access.open(ctx, uri)
	if err != nil || entry.Method == "" {
		return t, nil, err
	}
	return t, &hdf.Entry{Method: string(entry.Method), Reason: entry.Reason}, nil
}

// clusterAccess is how a container in a cluster is entered.
type clusterAccess struct{ kubeconfig, context, method, scanner string }

func (a *clusterAccess) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&a.kubeconfig, "kubeconfig", "", "`file`; found as kubectl finds it if left out")
	flags.StringVar(&a.context, "context", "", "`name` of the kubeconfig's context")
	flags.StringVar(&a.method, "method", "auto", "`way` into a container of a cluster: exec of its shell, an ephemeral container, a sidecar that is there, or auto: the first that works")
	flags.StringVar(&a.scanner, "scanner-image", "", "`image` of reeve-scanner, which ephemeral containers are made of")
	complete(cmd, "method", kube.Methods...)
}

func (a *clusterAccess) validate() error {
	if !slices.Contains(kube.Methods, a.method) {
		return fmt.Errorf("--method %q: it must be one of %s", a.method, strings.Join(kube.Methods, ", "))
	}
	return nil
}

// localTargets are how the targets begin that need no hub.
var localTargets = []string{"local:", "dir:/", "chroot:/", "archive:", "image:", "shell:", "k8s-container://"}

// open opens the target that uri names. The entry is that of a container in a
// cluster, and the zero value for any other.
func (a *clusterAccess) open(ctx context.Context, uri string) (target.Target, kube.Entry, error) {
	if image.Takes(uri) {
		t, err := image.Open(ctx, uri)
		return t, kube.Entry{}, err
	}
	if !strings.HasPrefix(uri, "k8s-container:") {
		t, err := target.Open(ctx, uri)
		return t, kube.Entry{}, err
	}
	namespace, pod, container, err := kube.ParseURI(uri)
	if err != nil {
		return nil, kube.Entry{}, err
	}
	config, err := kube.Config(a.kubeconfig, a.context)
	if err != nil {
		return nil, kube.Entry{}, err
	}
	return kube.Open(ctx, config, namespace, pod, container, kube.Options{
		Method: kube.Method(a.method), Scanner: kube.Scanner{Image: a.scanner},
	})
}

var errNoProfile = errors.New("it is no folder, no archive, and none of the shipped profiles")

// openProfile loads the profile that a flag names: a folder or an archive, or
// else a shipped one; errNoProfile if it is none of them. What it depends on by
// url or git is fetched, and kept in the user's cache.
func openProfile(ctx context.Context, name string) (*inspec.Profile, error) {
	if _, err := os.Stat(name); err == nil {
		f := &fetch.Fetcher{Started: func(address string) { tell(os.Stderr, "reeve: fetching %s", address) }}
		if cache, err := os.UserCacheDir(); err == nil {
			f.Cache = filepath.Join(cache, "reeve", "profiles")
		}
		return inspec.LoadFetching(ctx, name, f.Fetch)
	}
	if !slices.Contains(profiles.Names, name) {
		return nil, fmt.Errorf("profile %q: %w; %s", name, errNoProfile, near.Instead(name, profiles.Names))
	}
	return shippedProfile(name)
}

func shippedProfile(name string) (*inspec.Profile, error) {
	files, err := fs.Sub(profiles.FS, name)
	if err != nil {
		return nil, err
	}
	return inspec.LoadFS(files)
}

var (
	wholeNumber = regexp.MustCompile(`^-?\d+$`)
	decimal     = regexp.MustCompile(`^-?\d+\.\d+$`)
)

// readInputs gathers the inputs of files and of the command line, which wins.
func readInputs(pairs, files []string) (map[string]any, error) {
	inputs := map[string]any{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--input-file: %w", err)
		}
		if err := yaml.Unmarshal(text, &inputs); err != nil {
			return nil, fmt.Errorf("--input-file %s: %w", path, err)
		}
	}
	for _, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--input %q: it must be name=value", pair)
		}
		value, err := inputValue(text)
		if err != nil {
			return nil, fmt.Errorf("--input %s: %w", name, err)
		}
		inputs[name] = value
	}
	return inputs, nil
}

// inputValue reads the value of an input as InSpec's command line does: a
// number, true, false, or a list or map in YAML; anything else is text.
func inputValue(text string) (any, error) {
	text = strings.TrimSuffix(text, ",")
	if strings.EqualFold(text, "true") || strings.EqualFold(text, "false") {
		return strings.EqualFold(text, "true"), nil
	}
	if wholeNumber.MatchString(text) { // 0644 is 644, as InSpec has it
		if n, err := strconv.Atoi(text); err == nil {
			return n, nil
		}
	}
	if decimal.MatchString(text) {
		return strconv.ParseFloat(text, 64)
	}
	if strings.HasPrefix(text, "[") || strings.HasPrefix(text, "{") {
		var v any
		err := yaml.Unmarshal([]byte(text), &v)
		return v, err
	}
	return text, nil
}
