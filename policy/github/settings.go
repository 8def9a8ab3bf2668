package github

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v89/github"

	"reeve.dev/reeve/policy"
)

// IssueSettings say how issues about a repository are made.
type IssueSettings struct {
	// Client asks GitHub as whoever may.
	Client *gh.Client
	// Web is where people reach that GitHub.
	Web string
	// Repo is the repository of the same owner that the issues are in; empty is
	// the one that they are about.
	Repo string
	// Label marks and finds them. Details and Footer end their text.
	Label, Details, Footer string
	// Schedule is when nobody is told that something failed.
	Schedule policy.Schedule
	// PingAfter is how long an issue may stay quiet.
	PingAfter time.Duration
	// Remember has the lists that are asked for in the context asked for only if
	// they changed; the function that it returns ends that.
	Remember func(context.Context) (context.Context, func())
}

// settingsFor is how long settings hold that a cycle, or a look of their own,
// found.
const (
	settingsFor = 2 * time.Hour
	maxSettings = 2 * maxRepositories
)

// settingsKept are what the cycles of this process read of allstar.yaml, by
// repository.
type settingsKept struct {
	mu  sync.Mutex
	bot map[string]keptSettings // guarded by mu
}

type keptSettings struct {
	bot botSettings
	at  time.Time
}

func settingsKey(connection, owner, repo string) string {
	return connection + "/" + strings.ToLower(owner+"/"+repo)
}

func (k *settingsKept) keep(key string, bot botSettings) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bot == nil || len(k.bot) >= maxSettings {
		k.bot = map[string]keptSettings{}
	}
	k.bot[key] = keptSettings{bot, time.Now()}
}

func (k *settingsKept) get(key string) (botSettings, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.bot[key]
	return s.bot, ok && time.Since(s.at) < settingsFor
}

// Issues tells how issues about a repository are made.
func (r *Runner) Issues(ctx context.Context, connection, owner, repo string) (IssueSettings, error) {
	c := r.connection(connection)
	if c == nil {
		return IssueSettings{}, fmt.Errorf("there is no GitHub connection %q any more", connection)
	}
	a, err := c.of(ctx, owner)
	if err != nil {
		return IssueSettings{}, err
	}
	bot, ok := r.settings.get(settingsKey(connection, owner, repo))
	if !ok {
		if bot, err = r.readSettings(ctx, c, a, repo); err != nil {
			return IssueSettings{}, err
		}
	}
	cfg := c.cfg.Issues
	footer := cmp.Or(cfg.Footer, DefaultFooter)
	if bot.IssueFooter != "" {
		footer = bot.IssueFooter + "\n\n" + footer
	}
	return IssueSettings{
		Client: a.client, Web: c.web.String(), Repo: bot.IssueRepo, Label: cmp.Or(bot.IssueLabel, cfg.Label, DefaultLabel),
		Details: bot.IssueDetails, Footer: footer, Schedule: bot.Schedule.schedule(), PingAfter: cmp.Or(cfg.PingAfter, DefaultPing),
		Remember: func(ctx context.Context) (context.Context, func()) {
			m, err := recall(ctx, r.cfg.Store, connection, "issues:"+strings.ToLower(owner+"/"+repo))
			if err != nil {
				return ctx, func() {}
			}
			return remembering(ctx, m), func() {
				if err := m.save(context.WithoutCancel(ctx), r.cfg.Store, time.Now()); err != nil {
					c.log.WarnContext(ctx, "what GitHub answered can't be kept; it will be asked for again", "error", err)
				}
			}
		},
	}, nil
}

// readSettings reads allstar.yaml for a repository.
func (r *Runner) readSettings(ctx context.Context, c *connection, a *account, repo string) (botSettings, error) {
	m, err := recall(ctx, r.cfg.Store, c.cfg.Name, orgScope(a))
	if err != nil {
		return botSettings{}, err
	}
	org, err := readOrg(ctx, a, m, r.permit)
	if err != nil {
		return botSettings{}, err
	}
	info, _, err := a.client.Repositories.Get(ctx, a.login, repo)
	if status(err) == http.StatusNotFound {
		var bot botSettings // of a repository that is gone its issues elsewhere are left
		org.resolve(botFile, nil, &bot)
		return bot, nil
	}
	if err != nil {
		return botSettings{}, plain(err)
	}
	cy := &cycle{Runner: r, conn: c, acct: a, org: org}
	if m, err = recall(ctx, r.cfg.Store, c.cfg.Name, repoScope(a, info)); err != nil {
		return botSettings{}, err
	}
	files, err := cy.files(remembering(ctx, m), m, &repository{Repository: info, acct: a, conn: c})
	if err != nil {
		return botSettings{}, err
	}
	var bot botSettings
	org.resolve(botFile, files, &bot)
	r.settings.keep(settingsKey(c.cfg.Name, a.login, repo), bot)
	return bot, nil
}

func orgScope(a *account) string { return "organisation:" + strings.ToLower(a.login) }

func repoScope(a *account, r *gh.Repository) string {
	return "repository:" + strings.ToLower(a.login+"/"+r.GetName())
}
