// Package issue makes outcomes known as issues on GitHub, as Allstar's action of
// that name does: one issue for each policy that a repository fails, opened once,
// kept up to date, reopened while the policy isn't met, and closed when it is.
//
// An issue is found by its exact title and its label, whatever its state, so an
// issue that Allstar opened is taken over. A hash of the text is kept in its
// body, between two marks, beside the link to the newest comment: only a text
// that changed is told again at once, and one that stands for longer than the
// ping interval. On days of silence no issue is opened, reopened or pinged.
//
// An alert may come twice. What it led to is found by the marks, so that it is
// done once.
package issue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	gh "github.com/google/go-github/v89/github"

	"reeve.dev/reeve/alert"
)

// Settings say how issues about a repository are made.
type Settings struct {
	// Client asks GitHub. It keeps to GitHub's limits by itself.
	Client *gh.Client
	// Web is where people reach that GitHub.
	Web string
	// Repo is the repository that the issues are in; empty is the one that they
	// are about. Owner is who has it where what they are about isn't a repository,
	// such as a workload; empty is the owner of that which they are about.
	Owner, Repo string
	// Label marks and finds the issues. Details and Footer end their text.
	Label, Details, Footer string
	// Silent reports whether nobody is to be told now that something failed.
	Silent bool
	// PingAfter is how long an issue may stay quiet.
	PingAfter time.Duration
	// Remember, if it isn't nil, has what is asked for in the context asked for
	// only if it changed; the function that it returns ends that.
	Remember func(context.Context) (context.Context, func())
}

// ErrLeft is a Source's if there is nobody any more who could make a repository's
// issues, or close them.
var ErrLeft = errors.New("nobody may ask for the issues of the repository any more")

// Source finds the settings for a repository.
type Source func(ctx context.Context, owner, repo string) (Settings, error)

// Sink is the alert.Sink of issues.
type Sink struct {
	settings Source
	log      *slog.Logger
}

var _ alert.Sink = (*Sink)(nil)

// New returns the sink of issues.
func New(settings Source, log *slog.Logger) *Sink { return &Sink{settings, log} }

// The titles, and the marks in the text. They are Allstar's, so that its issues
// are found and understood.
const (
	ownTitle   = "Security Policy violation %s"
	otherTitle = "Security Policy violation for repository %q %s"
	// placeTitle is our own, for what is no repository.
	placeTitle = "Policy violation: %s on %s %s"
	section    = "<!-- Edit section #updates -->"
	hashMark   = "<!-- Current result text hash: %s -->"
	// alertMark is in each comment, so that one that was made isn't made again.
	alertMark = "<!-- Alert: %s -->"
)

const (
	// maxTitle is what GitHub takes of a title, in characters.
	maxTitle = 256
	// maxText is what is shown of an outcome's text; GitHub takes 65536 characters
	// in all.
	maxText  = 48 << 10
	maxPages = 100
	perPage  = 100
)

// errMoved means that GitHub leads to where the subject's own repository is by
// now. The issue there is of what is checked by that name.
var errMoved = errors.New("the repository was renamed or moved, and is checked by its new name")

// issues is what one alert leads to.
type issues struct {
	Settings
	a           alert.Alert
	owner, repo string // where the issues are
	title       string
	hash        string
	log         *slog.Logger
}

// Deliver implements alert.Sink.
func (s *Sink) Deliver(ctx context.Context, a alert.Alert) error {
	o := a.Outcome
	settings, err := s.settings(ctx, o.Subject.Owner, o.Subject.Repo)
	if errors.Is(err, ErrLeft) {
		if o.Gone {
			return nil
		}
		return permanent(err)
	}
	if err != nil {
		return classify(err)
	}
	if settings.Remember != nil {
		remembering, end := settings.Remember(ctx)
		defer end()
		ctx = remembering
	}
	sum := sha256.Sum256([]byte(o.Details))
	i := &issues{
		Settings: settings, a: a, owner: o.Subject.Owner, repo: o.Subject.Repo, title: fmt.Sprintf(ownTitle, o.Policy),
		hash: hex.EncodeToString(sum[:]), log: s.log.With("repository", o.Subject.Owner+"/"+o.Subject.Repo, "policy", o.Policy),
	}
	switch {
	case settings.Owner != "":
		i.owner, i.repo, i.title = settings.Owner, settings.Repo, title(fmt.Sprintf(placeTitle, o.Policy, o.Subject.Owner, o.Subject.Repo))
	case settings.Repo != "":
		i.repo, i.title = settings.Repo, fmt.Sprintf(otherTitle, o.Subject.Repo, o.Policy)
	}
	found, err := i.find(ctx, o.Pass || o.Gone)
	switch {
	case o.Gone && i.own() && (gone(err) || errors.Is(err, errMoved)): // with its issues
		return nil
	case err != nil:
	case o.Gone:
		err = i.close(ctx, found, "Closing the issue, though nobody knows whether the policy is met.\n\n---\n\n"+i.text())
	case o.Pass:
		err = i.close(ctx, found, "The policy is met now. Closing the issue.")
	case found == nil:
		err = i.create(ctx)
	default:
		err = i.keepOpen(ctx, found)
	}
	return classify(err)
}

// own reports whether the issues are in the repository that is checked, and so
// gone with it.
func (i *issues) own() bool { return i.Owner == "" && i.Repo == "" }

// title is text as GitHub takes it: two long ones that differ stay different.
func title(text string) string {
	r := []rune(text)
	if len(r) <= maxTitle {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	end := "… " + hex.EncodeToString(sum[:4])
	return string(r[:maxTitle-utf8.RuneCountInString(end)]) + end
}

// find returns the issue, open or, unless only open ones are meant, not; nil if
// there is none.
func (i *issues) find(ctx context.Context, open bool) (*gh.Issue, error) {
	state := "all"
	if open {
		state = "open"
	}
	opts := &gh.IssueListByRepoOptions{State: state, Labels: []string{i.Label}, ListOptions: gh.ListOptions{PerPage: perPage}}
	var found *gh.Issue
	for range maxPages {
		page, resp, err := i.Client.Issues.ListByRepo(ctx, i.owner, i.repo, opts)
		if err != nil {
			return nil, err
		}
		for _, is := range page {
			if is.GetTitle() != i.title || is.IsPullRequest() {
				continue
			}
			if at := is.GetRepositoryURL(); i.own() && at != "" && !strings.HasSuffix(strings.ToLower(at), strings.ToLower("/repos/"+i.owner+"/"+i.repo)) {
				return nil, permanent(errMoved)
			}
			if is.GetState() == "open" {
				return is, nil
			}
			if found == nil {
				found = is
			}
		}
		if resp.NextPage == 0 {
			return found, nil
		}
		opts.ListOptions.Page = resp.NextPage
	}
	// What isn't found may be on a page behind these: it isn't opened twice.
	return nil, permanent(fmt.Errorf("%s/%s has more than %d issues with the label %q; delete old ones, or choose another label", i.owner, i.repo, maxPages*perPage, i.Label))
}

func (i *issues) create(ctx context.Context) error {
	if i.Silent {
		return nil
	}
	body, labels := i.body(), []string{i.Label}
	made, _, err := i.Client.Issues.Create(ctx, i.owner, i.repo, &gh.IssueRequest{Title: &i.title, Body: &body, Labels: &labels})
	if err == nil {
		i.log.InfoContext(ctx, "issue opened", "issue", made.GetHTMLURL())
	}
	return err
}

// body is the text of a new issue.
func (i *issues) body() string {
	about, full := "", i.a.Outcome.Subject.Owner+"/"+i.a.Outcome.Subject.Repo
	switch {
	case i.Owner != "":
		about = fmt.Sprintf(" and refers to `%s`", strings.ReplaceAll(full, "`", "'"))
	case i.repo != i.a.Outcome.Subject.Repo:
		about = fmt.Sprintf(" and refers to [%s](%s/%s)", full, i.Web, full)
	}
	details := ""
	if i.Details != "" {
		details = "For more: " + i.Details
	}
	return fmt.Sprintf("_This issue was opened automatically by Reeve%s._\n\n**Security Policy Violation**\n%s\n\n---\n\n%s%s%s\n%s\n\n%s",
		about, i.text(), section, fmt.Sprintf(hashMark, i.hash), section, details, i.Footer)
}

// text is the outcome's, as far as an issue can show it. What is told of
// workloads has words of theirs, which mention nobody and are no Markdown.
func (i *issues) text() string {
	text := cut(i.a.Outcome.Details)
	for strings.Contains(text, section) { // what is left may make another
		text = strings.ReplaceAll(text, section, "")
	}
	if i.Owner != "" {
		text = "```text\n" + strings.TrimRight(strings.ReplaceAll(text, "```", "'''"), "\n") + "\n```"
	}
	return text
}

func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + fmt.Sprintf("\n\n… [cut: %d bytes in all]", len(text))
}

// keepOpen has an issue tell that the policy isn't met.
func (i *issues) keepOpen(ctx context.Context, is *gh.Issue) error {
	if i.Silent && is.GetState() == "closed" {
		return nil
	}
	if !strings.Contains(is.GetBody(), i.hash) && strings.Count(is.GetBody(), section) == 2 {
		return i.update(ctx, is)
	}
	switch {
	case i.Silent:
		return nil
	case is.GetState() == "closed":
		// The comment comes first: once the issue is open again, nothing would tell
		// that it is missing.
		if _, err := i.comment(ctx, is, "Reopening the issue: the policy still isn't met.\n\n---\n\n"+i.text()); err != nil {
			return err
		}
		return i.edit(ctx, is, &gh.IssueRequest{State: new("open")}, "issue reopened")
	case time.Since(is.GetUpdatedAt().Time) > i.PingAfter:
		_, err := i.comment(ctx, is, "The policy still isn't met.\n\n---\n\n"+i.text())
		return err
	}
	return nil
}

// update tells the text that has changed, and notes that in the issue's own.
func (i *issues) update(ctx context.Context, is *gh.Issue) error {
	c, err := i.comment(ctx, is, "The result of the policy has changed.\n\n---\n\n"+i.text())
	if err != nil {
		return err
	}
	parts := strings.Split(is.GetBody(), section)
	note := fmt.Sprintf("\n%s\n:warning: The result has changed since: [see the newest one](%s)\n\n---\n\n", fmt.Sprintf(hashMark, i.hash), c.GetHTMLURL())
	body := strings.Join([]string{parts[0], note, parts[2]}, section)
	return i.edit(ctx, is, &gh.IssueRequest{State: new("open"), Body: &body}, "issue updated")
}

// close closes an open issue, with a comment that says why.
func (i *issues) close(ctx context.Context, is *gh.Issue, why string) error {
	if is.GetState() != "open" {
		return nil
	}
	if _, err := i.comment(ctx, is, why); err != nil {
		return err
	}
	return i.edit(ctx, is, &gh.IssueRequest{State: new("closed")}, "issue closed")
}

func (i *issues) edit(ctx context.Context, is *gh.Issue, req *gh.IssueRequest, did string) error {
	_, _, err := i.Client.Issues.Edit(ctx, i.owner, i.repo, is.GetNumber(), req)
	if err == nil {
		i.log.InfoContext(ctx, did, "issue", is.GetHTMLURL())
	}
	return err
}

// comment makes a comment unless this alert has made it already.
func (i *issues) comment(ctx context.Context, is *gh.Issue, text string) (*gh.IssueComment, error) {
	mark := fmt.Sprintf(alertMark, i.a.ID)
	since := i.a.Created.Add(-time.Minute) // GitHub's clock may be behind
	opts := &gh.IssueListCommentsOptions{Since: &since, ListOptions: gh.ListOptions{PerPage: perPage}}
	for range maxPages {
		page, resp, err := i.Client.Issues.ListComments(ctx, i.owner, i.repo, is.GetNumber(), opts)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			if strings.Contains(c.GetBody(), mark) {
				return c, nil
			}
		}
		if resp.NextPage == 0 {
			break
		}
		opts.ListOptions.Page = resp.NextPage
	}
	body := text + "\n\n" + mark
	c, _, err := i.Client.Issues.CreateComment(ctx, i.owner, i.repo, is.GetNumber(), &gh.IssueComment{Body: &body})
	return c, err
}

// classify says what a refusal of GitHub's means.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var e *gh.ErrorResponse
	var judged *alert.Error
	switch {
	case errors.As(err, &judged):
		return err
	case !errors.As(err, &e) || e.Response == nil:
		return &alert.Error{Err: err}
	}
	code := e.Response.StatusCode
	err = fmt.Errorf("GitHub answered %d %.200s", code, e.Message)
	switch code {
	case http.StatusUnauthorized:
		return &alert.Error{Class: alert.Pause, Err: fmt.Errorf("%w; the App's key or the token isn't valid any more", err)}
	case http.StatusForbidden:
		return permanent(fmt.Errorf("%w; the App needs the permission Issues: write, and the repository may not be archived", err))
	case http.StatusGone:
		return permanent(fmt.Errorf("%w; issues are turned off in the repository: turn them on, or name an issueRepo", err))
	case http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusMovedPermanently:
		return permanent(err)
	}
	return &alert.Error{Err: err}
}

// gone reports whether GitHub says that the repository isn't there, or has no
// issues.
func gone(err error) bool {
	var e *gh.ErrorResponse
	return errors.As(err, &e) && e.Response != nil && (e.Response.StatusCode == http.StatusNotFound || e.Response.StatusCode == http.StatusGone)
}

func permanent(err error) error { return &alert.Error{Class: alert.Permanent, Err: err} }
