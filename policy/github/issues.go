package github

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	gh "github.com/google/go-github/v89/github"
)

// Tracker is a repository where issues are made that aren't about repositories.
type Tracker struct {
	// Owner and Repo name it, Web is where people reach its GitHub.
	Owner, Repo, Web string

	conn *connection
}

// TrackerConfig says where a Tracker is, and as whom it is reached.
type TrackerConfig struct {
	// Repository is OWNER/NAME, and Label marks its issues.
	Repository, Label string
	// The rest is as a Config has it.
	URL, CAFile                                        string
	AppID                                              int64
	PrivateKeyFile, PrivateKeyEnv, TokenFile, TokenEnv string
}

const maxLabel = 50

var repositoryName = regexp.MustCompile(`^[-._A-Za-z0-9]{1,100}$`)

func (c TrackerConfig) config() Config {
	owner, _, _ := strings.Cut(c.Repository, "/")
	return Config{
		Name: "issues", URL: c.URL, CAFile: c.CAFile, AppID: c.AppID, PrivateKeyFile: c.PrivateKeyFile, PrivateKeyEnv: c.PrivateKeyEnv,
		TokenFile: c.TokenFile, TokenEnv: c.TokenEnv, Organisations: []string{owner},
	}
}

// Validate reports everything that is wrong with c, without reading files.
func (c TrackerConfig) Validate() error {
	owner, name, _ := strings.Cut(c.Repository, "/")
	if !login.MatchString(owner) || !repositoryName.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("repository %q: it must be OWNER/NAME, as in its URL", c.Repository)
	}
	if len(c.Label) > maxLabel {
		return fmt.Errorf("label: GitHub takes %d characters", maxLabel)
	}
	if c.URL != "" {
		if err := serverURL(c.URL); err != nil {
			return fmt.Errorf("endpoint %q: %w", c.URL, err)
		}
	}
	return c.config().Validate()
}

// NewTracker reads the secrets of a valid configuration once, so that what is
// wrong with them is said at the start.
func NewTracker(c TrackerConfig, log *slog.Logger) (*Tracker, error) {
	cfg := c.config()
	if err := cfg.CheckSecrets(); err != nil {
		return nil, err
	}
	conn, err := connect(cfg, nil, log)
	if err != nil {
		return nil, err
	}
	owner, name, _ := strings.Cut(c.Repository, "/")
	return &Tracker{Owner: owner, Repo: name, Web: conn.web.String(), conn: conn}, nil
}

// Client asks GitHub as whoever may make issues there. It keeps to GitHub's
// limits by itself.
func (t *Tracker) Client(ctx context.Context) (*gh.Client, error) {
	a, err := t.conn.of(ctx, t.Owner)
	switch {
	case errors.Is(err, ErrNoAccount):
		return nil, fmt.Errorf("%s hasn't installed the GitHub App, or has suspended it", t.Owner)
	case err != nil:
		return nil, err
	}
	return a.client, nil
}

// Close ends idle connections.
func (t *Tracker) Close() error {
	t.conn.close()
	return nil
}
