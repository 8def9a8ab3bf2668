package issue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gh "github.com/google/go-github/v89/github"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/policy/github/githubtest"
)

// desk is a sink with a GitHub that has the repositories acme/shop and acme/audit.
type desk struct {
	*githubtest.Server
	shop, audit *githubtest.Repo
	settings    Settings
	seq         int64
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{Server: githubtest.New()}
	d.shop, d.audit = d.Add("acme", "shop"), d.Add("acme", "audit")
	client, err := gh.NewClient(gh.WithTransport(d.Server), gh.WithDisableRateLimitCheck())
	if err != nil {
		t.Fatal(err)
	}
	d.settings = Settings{Client: client, Web: "https://github.test", Label: "allstar", Footer: "The footer.", PingAfter: 24 * time.Hour}
	return d
}

// tell delivers an outcome of the policy P on acme/shop.
func (d *desk) tell(t *testing.T, pass bool, details string) error {
	t.Helper()
	d.seq++
	return d.deliver(t, alert.Alert{
		ID: alert.ID(strings.Repeat("x", int(d.seq))), Created: time.Now(),
		Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "shop"}, Policy: "P", Pass: pass, Details: details},
	})
}

func (d *desk) deliver(t *testing.T, a alert.Alert) error {
	t.Helper()
	s := New(func(context.Context, string, string) (Settings, error) { return d.settings, nil }, slog.New(slog.DiscardHandler))
	return s.Deliver(t.Context(), a)
}

func (d *desk) must(t *testing.T, pass bool, details string) {
	t.Helper()
	if err := d.tell(t, pass, details); err != nil {
		t.Fatal(err)
	}
}

// expect is how the only issue of a repository stands.
func expect(t *testing.T, r *githubtest.Repo, state string, comments int) *githubtest.Issue {
	t.Helper()
	if len(r.Issues) != 1 {
		t.Fatalf("%s has %d issues, want one", r.Name, len(r.Issues))
	}
	i := r.Issues[0]
	if i.State != state || len(i.Comments) != comments {
		t.Fatalf("the issue is %s with %d comments, want %s with %d:\n%s", i.State, len(i.Comments), state, comments, strings.Join(i.Comments, "\n"))
	}
	return i
}

// TestSink_left: an owner whom nobody may ask any more. What is gone is with them.
func TestSink_left(t *testing.T) {
	s := New(func(context.Context, string, string) (Settings, error) {
		return Settings{}, fmt.Errorf("acme: %w", ErrLeft)
	}, slog.New(slog.DiscardHandler))
	a := alert.Alert{ID: "x", Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "shop"}, Policy: "P", Gone: true}}
	if err := s.Deliver(t.Context(), a); err != nil {
		t.Error(err)
	}
	a.Outcome.Gone = false
	var refused *alert.Error
	if err := s.Deliver(t.Context(), a); !errors.As(err, &refused) || refused.Class != alert.Permanent {
		t.Errorf("a failure: %v", err)
	}
}

// TestSink_life: an issue from its opening to its end, and again.
func TestSink_life(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.must(t, true, "fine")
		if len(d.shop.Issues) > 0 {
			t.Fatal("an issue was opened for a pass")
		}
		d.must(t, false, "one is wrong")
		i := expect(t, d.shop, "open", 0)
		if i.Title != "Security Policy violation P" || len(i.Labels) != 1 || i.Labels[0] != "allstar" {
			t.Errorf("title %q, labels %q", i.Title, i.Labels)
		}
		for _, part := range []string{"**Security Policy Violation**\none is wrong\n", "<!-- Edit section #updates --><!-- Current result text hash: ", "The footer."} {
			if !strings.Contains(i.Body, part) {
				t.Errorf("no %q in\n%s", part, i.Body)
			}
		}
		d.must(t, false, "one is wrong")
		expect(t, d.shop, "open", 0)

		time.Sleep(25 * time.Hour)
		d.must(t, false, "one is wrong") // a ping
		expect(t, d.shop, "open", 1)
		d.must(t, false, "one is wrong")
		expect(t, d.shop, "open", 1)

		d.must(t, false, "two are wrong") // a changed text
		i = expect(t, d.shop, "open", 2)
		if !strings.Contains(i.Body, "issues/1#comment-2") || !strings.Contains(i.Comments[1], "two are wrong") || strings.Count(i.Body, section) != 2 {
			t.Errorf("after the change:\n%s", i.Body)
		}

		i.State = "closed" // by somebody
		d.must(t, false, "two are wrong")
		expect(t, d.shop, "open", 3)

		d.must(t, true, "fine")
		expect(t, d.shop, "closed", 4)
		d.must(t, true, "fine")
		expect(t, d.shop, "closed", 4)

		d.must(t, false, "three are wrong") // changed and closed
		expect(t, d.shop, "open", 5)
	})
}

// TestSink_gone: what isn't checked any more has its issue closed with the reason,
// and none opened; where its repository is gone, so are its issues.
func TestSink_gone(t *testing.T) {
	d := newDesk(t)
	gone := func() error {
		d.seq++
		return d.deliver(t, alert.Alert{
			ID: alert.ID(strings.Repeat("g", int(d.seq))), Created: time.Now(),
			Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "shop"}, Policy: "P", Gone: true, Details: "it was left out"},
		})
	}
	if err := gone(); err != nil || len(d.shop.Issues) > 0 {
		t.Fatalf("without an issue: %v, %v", d.shop.Issues, err)
	}
	d.must(t, false, "wrong")
	for range 2 {
		if err := gone(); err != nil {
			t.Fatal(err)
		}
		if i := expect(t, d.shop, "closed", 1); !strings.Contains(i.Comments[0], "it was left out") || strings.Contains(i.Comments[0], "is met now") {
			t.Errorf("comment %q", i.Comments[0])
		}
	}
	d.must(t, false, "wrong") // it is back
	expect(t, d.shop, "open", 2)
	for _, status := range []int{http.StatusNotFound, http.StatusGone} {
		d.Faults["GET /repos/acme/shop/issues"] = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
		if err := gone(); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// TestSink_renamed: what is told of a former name leaves the issue of the new one
// alone.
func TestSink_renamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.must(t, false, "broken")
		expect(t, d.shop, "open", 0)
		d.Rename("acme/shop", "acme", "store")
		a := alert.Alert{ID: "gone", Created: time.Now(), Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "shop"}, Policy: "P", Gone: true, Details: "it isn't there"}}
		if err := d.deliver(t, a); err != nil {
			t.Error(err)
		}
		var refused *alert.Error
		if err := d.tell(t, true, "fine"); !errors.As(err, &refused) || refused.Class != alert.Permanent {
			t.Errorf("an outcome of the former name: %v", err)
		}
		expect(t, d.shop, "open", 0)
		a.Outcome.Subject.Repo = "store"
		if err := d.deliver(t, a); err != nil {
			t.Error(err)
		}
		expect(t, d.shop, "closed", 1)
	})
}

// TestSink_renamedTracker: a repository that has the issues of others may be renamed,
// and one that can't be reached hasn't lost them.
func TestSink_renamedTracker(t *testing.T) {
	d := newDesk(t)
	d.settings.Repo = "audit"
	gone := alert.Alert{ID: "gone", Created: time.Now(), Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "shop"}, Policy: "P", Gone: true, Details: "it isn't there"}}
	d.must(t, false, "broken")
	d.Rename("acme/audit", "acme", "security")
	d.must(t, true, "fine")
	expect(t, d.audit, "closed", 1)
	d.must(t, false, "broken")
	d.Faults["GET /repos/acme/audit/issues"] = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusNotFound); return true }
	if err := d.deliver(t, gone); err == nil {
		t.Error("an issue that couldn't be reached was taken for closed")
	}
	clear(d.Faults)
	if err := d.deliver(t, gone); err != nil {
		t.Fatal(err)
	}
	expect(t, d.audit, "closed", 3)
}

// TestSink_silent: on days of silence nothing is opened, reopened or pinged; what
// changed and what is met is told.
func TestSink_silent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.settings.Silent = true
		d.must(t, false, "wrong")
		if len(d.shop.Issues) > 0 {
			t.Fatal("an issue was opened")
		}
		d.settings.Silent = false
		d.must(t, false, "wrong")
		d.settings.Silent = true
		time.Sleep(48 * time.Hour)
		d.must(t, false, "wrong")
		expect(t, d.shop, "open", 0)
		d.shop.Issues[0].State = "closed"
		d.must(t, false, "wrong")
		expect(t, d.shop, "closed", 0)
		d.must(t, false, "changed")
		expect(t, d.shop, "closed", 0)
		d.shop.Issues[0].State = "open"
		d.must(t, false, "otherwise wrong")
		expect(t, d.shop, "open", 1)
		d.must(t, true, "fine")
		expect(t, d.shop, "closed", 2)
	})
}

func TestSink_elsewhere(t *testing.T) {
	d := newDesk(t)
	d.settings.Repo, d.settings.Details, d.settings.Label = "audit", "https://wiki.test", "sec"
	d.must(t, false, "wrong")
	i := expect(t, d.audit, "open", 0)
	if i.Title != `Security Policy violation for repository "shop" P` || i.Labels[0] != "sec" ||
		!strings.Contains(i.Body, "refers to [acme/shop](https://github.test/acme/shop)") || !strings.Contains(i.Body, "For more: https://wiki.test") {
		t.Errorf("%q:\n%s", i.Title, i.Body)
	}
	if len(d.shop.Issues) > 0 {
		t.Error("the repository itself has an issue")
	}
}

// TestSink_finds: the issue of another policy, without the label, or a pull
// request of the same title isn't taken; one on a later page, and Allstar's, is.
func TestSink_finds(t *testing.T) {
	d := newDesk(t)
	d.PerPage = 2
	body := "_This issue was automatically created by [Allstar](https://github.com/ossf/allstar/)._\n\n" + section + "<!-- Current result text hash: 00 -->" + section + "\n"
	for n, title := range []string{"Security Policy violation P", "Security Policy violation P2", "x", "y", "z"} {
		d.shop.Issues = append(d.shop.Issues, &githubtest.Issue{Number: n + 1, Title: title, Body: body, State: "open", Labels: []string{"allstar"}, Updated: time.Now()})
	}
	d.must(t, true, "fine")
	for _, i := range d.shop.Issues {
		if (i.State == "closed") != (i.Number == 1) {
			t.Errorf("%q is %s", i.Title, i.State)
		}
	}
	d.shop.Issues[0].Labels = nil
	d.must(t, false, "wrong")
	if len(d.shop.Issues) != 6 {
		t.Errorf("there are %d issues; one without the label was taken", len(d.shop.Issues))
	}
}

// TestSink_repeated: an alert that comes again, whatever of it was done, is done
// once.
func TestSink_repeated(t *testing.T) {
	d := newDesk(t)
	d.must(t, false, "wrong")
	a := alert.Alert{ID: "again", Created: time.Now(), Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "shop"}, Policy: "P", Details: "otherwise wrong"}}
	d.Faults["PATCH /repos/acme/shop/issues/1"] = githubtest.Times(1, githubtest.Broken)
	if err := d.deliver(t, a); err == nil {
		t.Fatal("the edit failed, and nothing said so")
	}
	expect(t, d.shop, "open", 1)
	for range 2 {
		if err := d.deliver(t, a); err != nil {
			t.Fatal(err)
		}
		if i := expect(t, d.shop, "open", 1); !strings.Contains(i.Body, "comment-1") {
			t.Errorf("the body doesn't lead to the comment:\n%s", i.Body)
		}
	}
}

func TestSink_long(t *testing.T) {
	d := newDesk(t)
	d.must(t, false, section[:9]+section+section[9:]+strings.Repeat("ä", 100_000))
	i := expect(t, d.shop, "open", 0)
	if len([]rune(i.Body)) > 65536 || !strings.Contains(i.Body, "[cut: ") || strings.Count(i.Body, section) != 2 {
		t.Errorf("%d characters", len([]rune(i.Body)))
	}
	d.must(t, false, section[:9]+section+section[9:]+strings.Repeat("ä", 100_000))
	expect(t, d.shop, "open", 0)
}

func TestSink_refused(t *testing.T) {
	answer := func(status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
	}
	for _, c := range []struct {
		status int
		want   alert.Class
	}{
		{http.StatusInternalServerError, alert.Retry},
		{http.StatusBadGateway, alert.Retry},
		{http.StatusUnauthorized, alert.Pause},
		{http.StatusForbidden, alert.Permanent},
		{http.StatusNotFound, alert.Permanent},
		{http.StatusGone, alert.Permanent},
		{http.StatusUnprocessableEntity, alert.Permanent},
	} {
		d := newDesk(t)
		d.Faults["POST /repos/acme/shop/issues"] = answer(c.status)
		err := d.tell(t, false, "wrong")
		var e *alert.Error
		if !errors.As(err, &e) || e.Class != c.want {
			t.Errorf("%d: %v", c.status, err)
		}
	}
}

// TestSink_places: what isn't about a repository has issues in a given one, each
// subject its own, and its words mention nobody.
func TestSink_places(t *testing.T) {
	d := newDesk(t)
	d.settings.Owner, d.settings.Repo = "acme", "audit"
	long := "Deployment/" + strings.Repeat("w", 250)
	seq := 0
	about := func(owner, repo string, pass bool) {
		t.Helper()
		seq++
		err := d.deliver(t, alert.Alert{ID: alert.ID(strings.Repeat("y", seq)), Created: time.Now(), Outcome: fleet.Outcome{
			Subject: fleet.Subject{Owner: owner, Repo: repo}, Policy: "cves", Pass: pass, Details: "team is @everyone\n```\n# No heading\n",
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	about("prod/shop", "Deployment/web/c", false)
	about("prod/blog", "Deployment/web/c", false)
	about("prod/shop", long+"/a", false)
	about("prod/shop", long+"/b", false)
	about("prod/shop", "Deployment/web/c", false)
	if len(d.audit.Issues) != 4 {
		t.Fatalf("%d issues, want 4", len(d.audit.Issues))
	}
	first := d.audit.Issues[0]
	if first.Title != "Policy violation: cves on prod/shop Deployment/web/c" {
		t.Errorf("title %q", first.Title)
	}
	for _, part := range []string{"refers to `prod/shop/Deployment/web/c`", "```text\nteam is @everyone\n'''\n# No heading\n```\n"} {
		if !strings.Contains(first.Body, part) {
			t.Errorf("no %q in\n%s", part, first.Body)
		}
	}
	for _, i := range d.audit.Issues[2:] {
		if n := len([]rune(i.Title)); n != 256 {
			t.Errorf("a title of %d characters: %q", n, i.Title)
		}
	}
	about("prod/shop", "Deployment/web/c", true)
	about("prod/shop", "Deployment/none/c", true)
	for n, want := range []string{"closed", "open", "open", "open"} {
		if d.audit.Issues[n].State != want {
			t.Errorf("issue %d is %s, want %s", n+1, d.audit.Issues[n].State, want)
		}
	}
}
