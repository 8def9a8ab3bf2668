package github

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Config is one GitHub whose repositories are checked, and as whom: an App or
// the holder of a token.
type Config struct {
	// Name is the operator's for it.
	Name string `yaml:"name"`
	// URL is where people reach it; empty is https://github.com.
	URL string `yaml:"url"`
	// CAFile holds the certificates that a GitHub Enterprise Server's is verified
	// with; empty means the system's.
	CAFile string `yaml:"caFile"`
	// AppID and the private key are the App's. The key, and the token that may
	// be in its place, are in a file or a variable, and read anew each time.
	AppID          int64  `yaml:"appID"`
	PrivateKeyFile string `yaml:"privateKeyFile"`
	PrivateKeyEnv  string `yaml:"privateKeyEnv"`
	TokenFile      string `yaml:"tokenFile"`
	TokenEnv       string `yaml:"tokenEnv"`
	// Organisations are those, or users, whose repositories are checked; with an
	// App none means all that have installed it.
	Organisations []string `yaml:"organisations"`
	// Interval is how often all repositories are checked (1 h).
	Interval time.Duration `yaml:"interval"`
	// Concurrency is how many repositories of an organisation are checked at
	// once (24).
	Concurrency int `yaml:"concurrency"`
	// WebhookSecretFile and WebhookSecretEnv name the secret that GitHub signs its
	// webhooks with; with none they are refused.
	WebhookSecretFile string `yaml:"webhookSecretFile"`
	WebhookSecretEnv  string `yaml:"webhookSecretEnv"`
	// RPC names the sinks that the action rpc leads to where an organisation's
	// files name no rpcEndpoint.
	RPC       []string        `yaml:"rpc"`
	Issues    IssueConfig     `yaml:"issues"`
	Scorecard ScorecardConfig `yaml:"scorecard"`
}

// IssueConfig is the operator's part of the action issue.
type IssueConfig struct {
	// Label marks and finds the issues, unless an organisation's or repository's
	// files name another (allstar).
	Label string `yaml:"label"`
	// Footer ends each issue.
	Footer string `yaml:"footer"`
	// PingAfter is how long an issue stays quiet before it is commented on again
	// (24 h).
	PingAfter time.Duration `yaml:"pingAfter"`
}

// ScorecardConfig says where scores of OpenSSF Scorecard come from.
type ScorecardConfig struct {
	// URL is where scores are published (https://api.scorecard.dev); "none" asks
	// nobody.
	URL string `yaml:"url"`
	// Command is the scorecard program, which is run where nothing is published;
	// empty takes scorecard from the PATH if it is there, "none" runs nothing.
	Command string `yaml:"command"`
}

// Defaults of a Config.
const (
	DefaultInterval    = time.Hour
	DefaultConcurrency = 24
	DefaultLabel       = "allstar"
	DefaultPing        = 24 * time.Hour
	DefaultScores      = "https://api.scorecard.dev"
	DefaultFooter      = "This issue closes by itself once the policy is met. It was opened by Reeve for the owners of the organisation; ask them, or the administrators of this repository, about it."
	none               = "none"
)

var (
	connectionName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,31})$`)
	login          = regexp.MustCompile(`^[A-Za-z0-9](?:[-_A-Za-z0-9]{0,98}[A-Za-z0-9_])?$`)
)

// Validate reports everything that is wrong with c, without reading files.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !connectionName.MatchString(c.Name) {
		bad("name %q: it must be 1 to 32 lower-case letters, digits or '-'", c.Name)
	}
	if c.URL != "" {
		if err := serverURL(c.URL); err != nil {
			bad("url %q: %w", c.URL, err)
		}
	}
	token, key := set(c.TokenFile, c.TokenEnv), set(c.PrivateKeyFile, c.PrivateKeyEnv)
	switch {
	case c.AppID < 0:
		bad("appID %d: it must be the number that GitHub shows for the App", c.AppID)
	case c.AppID == 0 && token == 0:
		bad("appID or tokenFile: there must be an App, with privateKeyFile, or a token")
	case c.AppID != 0 && token > 0:
		bad("appID and a token are both there; keep one")
	case c.AppID != 0 && key == 0:
		bad("privateKeyFile: the App's private key must be there")
	case c.AppID == 0 && key > 0:
		bad("privateKeyFile: it needs appID")
	case token > 1 || key > 1:
		bad("a file and a variable are both there for the same secret; keep one")
	case c.AppID == 0 && len(c.Organisations) == 0:
		bad("organisations: with a token they must be named")
	}
	if set(c.WebhookSecretFile, c.WebhookSecretEnv) > 1 {
		bad("webhookSecretFile and webhookSecretEnv are both there; keep one")
	}
	for i, o := range c.Organisations {
		if !login.MatchString(o) {
			bad("organisations[%d] %q: it must be the name of an organisation or user, as in its URL", i, o)
		}
	}
	if c.Interval != 0 && c.Interval < time.Minute {
		bad("interval %v: it must be at least 1m", c.Interval)
	}
	if c.Concurrency < 0 || c.Concurrency > 100 {
		bad("concurrency %d: it must be 1 to 100; GitHub takes no more requests at once", c.Concurrency)
	}
	if len(c.Issues.Label) > 50 {
		bad("issues.label: GitHub takes 50 characters")
	}
	if c.Issues.PingAfter < 0 {
		bad("issues.pingAfter %v: it must not be negative", c.Issues.PingAfter)
	}
	if u := c.Scorecard.URL; u != "" && u != none {
		if err := serverURL(u); err != nil {
			bad("scorecard.url %q: %w, or none", u, err)
		}
	}
	return errors.Join(errs...)
}

// CheckSecrets reads the secrets once, so that what is wrong with them is said
// at the start.
func (c Config) CheckSecrets() error {
	if c.AppID != 0 {
		text, err := secret(c.PrivateKeyFile, c.PrivateKeyEnv)
		if err != nil {
			return fmt.Errorf("the App's private key: %w", err)
		}
		if _, err := parseKey(text); err != nil {
			return err
		}
	} else if _, err := secret(c.TokenFile, c.TokenEnv); err != nil {
		return fmt.Errorf("the token: %w", err)
	}
	if c.takesWebhooks() {
		if _, err := secret(c.WebhookSecretFile, c.WebhookSecretEnv); err != nil {
			return fmt.Errorf("the webhooks' secret: %w", err)
		}
	}
	return nil
}

func (c Config) takesWebhooks() bool { return set(c.WebhookSecretFile, c.WebhookSecretEnv) > 0 }

func set(values ...string) (n int) {
	for _, v := range values {
		if v != "" {
			n++
		}
	}
	return n
}

func serverURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil || strings.Trim(u.Path, "/") != "":
		return errors.New("it must be https://HOST")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("it must be https, so that the token isn't seen on its way")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// urls are the REST API's and the people's.
func (c Config) urls() (api, web *url.URL) {
	web = &url.URL{Scheme: "https", Host: "github.com"}
	if c.URL != "" {
		web, _ = url.Parse(strings.TrimRight(c.URL, "/"))
	}
	api = &url.URL{Scheme: web.Scheme, Host: web.Host, Path: "/api/v3/"}
	if web.Host == "github.com" || strings.HasSuffix(web.Host, ".ghe.com") {
		api = &url.URL{Scheme: web.Scheme, Host: "api." + web.Host, Path: "/"}
	}
	return api, web
}

// graphql is the URL of the GraphQL API.
func (c Config) graphql() string {
	api, _ := c.urls()
	u := *api
	u.Path = strings.TrimSuffix(u.Path, "v3/") + "graphql"
	return u.String()
}

func (c Config) interval() time.Duration {
	if c.Interval == 0 {
		return DefaultInterval
	}
	return c.Interval
}

func (c Config) concurrency() int {
	if c.Concurrency == 0 {
		return DefaultConcurrency
	}
	return c.Concurrency
}
