package github

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	gh "github.com/google/go-github/v89/github"
)

// scorecard is the policy OpenSSF Scorecard: checks of OpenSSF's scorecard must
// reach a score.
type scorecard struct {
	acting
	Checks    []string    `key:"checks"`
	Threshold int         `key:"threshold"`
	Upload    scoreUpload `key:"upload"`
}

// scoreUpload says whether findings are sent to GitHub's code scanning, too.
type scoreUpload struct {
	SARIF bool `key:"sarif"`
}

const (
	maxScore  = 10
	scoreTime = 10 * time.Minute
	maxScores = 16 << 20
)

// scoreChecks are the names of scorecard's checks.
var scoreChecks = []string{
	"Binary-Artifacts", "Branch-Protection", "CI-Tests", "CII-Best-Practices", "Code-Review", "Contributors", "Dangerous-Workflow", "Dependency-Update-Tool",
	"Fuzzing", "License", "Maintained", "Packaging", "Pinned-Dependencies", "SAST", "SBOM", "Security-Policy", "Signed-Releases", "Token-Permissions",
	"Vulnerabilities", "Webhooks",
}

func (p *scorecard) validate(report func(key, text string)) {
	p.acting.validate(report, false)
	if n := p.Threshold; n < 0 || n > maxScore {
		p.Threshold = max(0, min(n, maxScore))
		report("threshold", fmt.Sprintf("%d: scores are 0 to %d; %d is taken", n, maxScore, p.Threshold))
	}
	for i, c := range p.Checks {
		if !slices.Contains(scoreChecks, c) {
			report(fmt.Sprintf("checks[%d]", i), fmt.Sprintf("%.100q: scorecard has no such check that Reeve knows; it has %s", c, strings.Join(scoreChecks, ", ")))
		}
	}
}

// score is what scorecard says of one check; below 0 it couldn't tell.
type score struct {
	Name    string   `json:"name"`
	Score   int      `json:"score"`
	Reason  string   `json:"reason"`
	Details []string `json:"details"`
}

func (p *scorecard) judge(ctx context.Context, r *repository) (verdict, error) {
	if len(p.Checks) == 0 {
		return passed("The policy names no check."), nil
	}
	all, from, err := r.scores.of(ctx, r, p.Checks)
	if err != nil {
		return verdict{}, err
	}
	var found, absent []string
	for _, name := range p.Checks {
		i := slices.IndexFunc(all, func(s score) bool { return s.Name == name })
		if i < 0 {
			absent = append(absent, name)
			continue
		}
		s := all[i]
		if s.Score < 0 && strings.HasPrefix(s.Reason, "internal error") {
			absent = append(absent, name)
			continue
		}
		if s.Score >= p.Threshold || s.Score < 0 {
			continue
		}
		text := fmt.Sprintf("%s: %d of %d, at least %d is required: %s\n", s.Name, s.Score, maxScore, p.Threshold, s.Reason)
		found = append(found, text+lines("details", s.Details))
	}
	if p.Upload.SARIF {
		if err := r.scores.upload(ctx, r, p); err != nil {
			r.conn.log.WarnContext(ctx, "scores weren't sent to code scanning", "repository", r.full(), "error", err)
		}
	}
	switch {
	case len(found) > 0:
		return failed("OpenSSF Scorecard's scores are below what the organisation requires.\n\n%s\nFrom %s. What each check wants, and how to get there: https://github.com/ossf/scorecard/blob/main/docs/checks.md", strings.Join(found, "\n"), from), nil
	case len(absent) > 0:
		return verdict{}, unjudged("%s has no score for %s", from, strings.Join(absent, ", "))
	}
	return passed(fmt.Sprintf("None of %d checks of OpenSSF Scorecard that could be scored is below %d, from %s.", len(p.Checks), p.Threshold, from)), nil
}

// scores gets scorecard's results: published ones, or those of the program.
type scores struct {
	cfg    ScorecardConfig
	client *http.Client
	slots  chan struct{} // the program runs so often at once
}

func newScores(cfg ScorecardConfig, base http.RoundTripper) *scores {
	return &scores{cfg: cfg, client: &http.Client{Transport: remembered{base}, Timeout: requestTime}, slots: make(chan struct{}, 2)}
}

// of returns the scores of a repository, and where they are from.
func (s *scores) of(ctx context.Context, r *repository, checks []string) ([]score, string, error) {
	if s.cfg.URL != none && r.conn.web.Host == "github.com" && !r.GetPrivate() {
		all, date, err := s.published(ctx, r)
		if all != nil || err != nil {
			return all, "the scores that OpenSSF published on " + date, err
		}
	}
	program := s.program()
	if program == "" {
		return nil, "", unjudged("OpenSSF publishes no scores of this repository, and there is no program scorecard on the hub's PATH")
	}
	all, err := s.run(ctx, r, program, checks)
	return all, "the program scorecard", err
}

type scoreReport struct {
	Date   string  `json:"date"`
	Checks []score `json:"checks"`
}

// published returns nil where nothing is.
func (s *scores) published(ctx context.Context, r *repository) ([]score, string, error) {
	base := s.cfg.URL
	if base == "" {
		base = DefaultScores
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/projects/github.com/"+r.full(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, "", plain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, "", nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("the published scores: the server answered %d", resp.StatusCode)
	}
	var got scoreReport
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxScores)).Decode(&got); err != nil {
		return nil, "", errors.New("the published scores aren't what they should be")
	}
	return append([]score{}, got.Checks...), got.Date, nil
}

// program is the path of scorecard; empty if there is none.
func (s *scores) program() string {
	if s.cfg.Command == none {
		return ""
	}
	name := s.cfg.Command
	if name == "" {
		name = "scorecard"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

func (s *scores) run(ctx context.Context, r *repository, program string, checks []string) ([]score, error) {
	out, err := s.output(ctx, r, program, checks, "json")
	if err != nil {
		return nil, err
	}
	var got scoreReport
	if err := json.Unmarshal(out, &got); err != nil {
		return nil, errors.New("scorecard: its output isn't the JSON that it should be")
	}
	return got.Checks, nil
}

// output runs the program. It gets our token by its environment, and nothing
// else of ours.
func (s *scores) output(ctx context.Context, r *repository, program string, checks []string, format string) ([]byte, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	token, err := r.acct.token(ctx, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, scoreTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--repo="+r.conn.web.Host+"/"+r.full(), "--checks="+strings.Join(checks, ","), "--format="+format, "--show-details")
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "GITHUB_AUTH_TOKEN=" + token, "ENABLE_SARIF=1"}
	if r.conn.web.Host != "github.com" {
		cmd.Env = append(cmd.Env, "GH_HOST="+r.conn.web.Host)
	}
	var out, complaint bounded
	out.left, complaint.left = maxScores, 4<<10
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("scorecard: %w: %s", err, firstLine(strings.ReplaceAll(complaint.String(), token, "…")))
	}
	return out.Bytes(), nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n, _ := b.Buffer.Write(p[:min(len(p), b.left)])
	b.left -= n
	return len(p), nil
}

// upload sends the findings of the newest commit to GitHub's code scanning, once.
// They come from the program, since only that writes SARIF.
func (s *scores) upload(ctx context.Context, r *repository, p *scorecard) error {
	sha, err := r.at(ctx, r.GetDefaultBranch())
	if err != nil || sha == "" {
		return err
	}
	name, m := "sarif:"+sha, memoryOf(ctx)
	if m != nil {
		if text, ok := m.text(name); ok {
			m.keepText(name, text)
			return nil
		}
	}
	program := s.program()
	if program == "" {
		return errors.New("there is no program scorecard on the hub's PATH")
	}
	sarif, err := s.output(ctx, r, program, p.Checks, "sarif")
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(sarif)
	z.Close()
	text, ref := base64.StdEncoding.EncodeToString(packed.Bytes()), "refs/heads/"+r.GetDefaultBranch()
	_, _, err = r.acct.client.CodeScanning.UploadSarif(ctx, r.owner(), r.GetName(), &gh.SarifAnalysis{CommitSHA: &sha, Ref: &ref, Sarif: &text})
	var accepted *gh.AcceptedError
	if err != nil && !errors.As(err, &accepted) {
		return plain(err)
	}
	if m != nil {
		m.keepText(name, "sent")
	}
	return nil
}
