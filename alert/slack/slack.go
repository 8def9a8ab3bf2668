// Package slack tells a channel that people read of outcomes, by an incoming
// webhook as Slack has it (Mattermost, Rocket.Chat, Discord's /slack and
// Google Chat's bridges take the same): a message of plain text in mrkdwn.
//
// Several outcomes make one message, those that failed first. What an outcome
// says comes from outside: it is escaped, so that it mentions nobody and links
// nowhere, and cut.
package slack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/internal/post"
)

// Config is a channel.
type Config struct {
	// URL is the incoming webhook; since who knows it can write to the channel,
	// URLFile, which holds it, is better.
	URL, URLFile string
	TLS          credential.TLS
	// Hub is where people see more; empty: nowhere.
	Hub string
}

func (c Config) post() post.Config { return post.Config{URL: c.URL, URLFile: c.URLFile, TLS: c.TLS} }

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c Config) Validate() error { return c.post().Validate() }

// Sink is the alert.Grouped of a channel.
type Sink struct {
	cfg    Config
	client *post.Client
}

var _ alert.Grouped = (*Sink)(nil)

// New returns a Sink; the caller closes it.
func New(c Config) (*Sink, error) {
	client, err := post.New(c.post())
	if err != nil {
		return nil, err
	}
	return &Sink{c, client}, nil
}

// Close ends idle connections.
func (s *Sink) Close() error { return s.client.Close() }

// Deliver implements alert.Sink.
func (s *Sink) Deliver(ctx context.Context, a alert.Alert) error {
	return s.DeliverGroup(ctx, []alert.Alert{a})
}

// DeliverGroup implements alert.Grouped.
func (s *Sink) DeliverGroup(ctx context.Context, as []alert.Alert) error {
	// What isn't said to be a link or a mention is none, and nothing is fetched to
	// be shown beside the message.
	body, err := json.Marshal(struct {
		Text        string `json:"text"`
		Mrkdwn      bool   `json:"mrkdwn"`
		Parse       string `json:"parse"`
		LinkNames   bool   `json:"link_names"`
		UnfurlLinks bool   `json:"unfurl_links"`
		UnfurlMedia bool   `json:"unfurl_media"`
	}{Text: s.text(as), Mrkdwn: true, Parse: "none"})
	if err != nil {
		return &alert.Error{Class: alert.Permanent, Err: err}
	}
	return s.client.Post(ctx, "application/json", nil, body)
}

// Limits of a message: Slack cuts one off at 40,000 characters, and nobody
// reads that much.
const (
	shown      = 20
	maxDetails = 300
	maxName    = 200
)

// text is the message.
func (s *Sink) text(as []alert.Alert) string {
	failed, gone := 0, 0
	sorted := slices.Clone(as)
	for _, a := range as {
		switch {
		case a.Outcome.Gone:
			gone++
		case !a.Outcome.Pass:
			failed++
		}
	}
	slices.SortStableFunc(sorted, func(a, b alert.Alert) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(name(a), name(b)))
	})
	var b strings.Builder
	if len(as) > 1 {
		fmt.Fprintf(&b, "*%d failed, %d pass again", failed, len(as)-failed-gone)
		if gone > 0 {
			fmt.Fprintf(&b, ", %d aren't checked any more", gone)
		}
		b.WriteString("*\n")
	}
	for _, a := range sorted[:min(len(sorted), shown)] {
		s.line(&b, a)
	}
	if more := len(sorted) - shown; more > 0 {
		fmt.Fprintf(&b, "… and %d more\n", more)
	}
	if s.cfg.Hub != "" {
		fmt.Fprintf(&b, "<%s/alerts|Alerts>\n", s.cfg.Hub)
	}
	return b.String()
}

// rank puts what failed first, and what is gone last.
func rank(a alert.Alert) int {
	switch {
	case a.Outcome.Gone:
		return 2
	case a.Outcome.Pass:
		return 1
	}
	return 0
}

func name(a alert.Alert) string {
	o := a.Outcome
	return o.Subject.Owner + "/" + o.Subject.Repo + " " + o.Policy
}

func (s *Sink) line(b *strings.Builder, a alert.Alert) {
	o := a.Outcome
	subject := escape(o.Subject.Owner+"/"+o.Subject.Repo, maxName)
	policy := escape(o.Policy, maxName)
	if o.Gone {
		fmt.Fprintf(b, ":wastebasket: *%s* isn't checked by %s any more\n", subject, policy)
		return
	}
	if o.Pass {
		fmt.Fprintf(b, ":white_check_mark: *%s* passes %s again\n", subject, policy)
		return
	}
	still := ""
	if !a.Told.At.IsZero() && !a.Told.Pass && !a.Told.Gone {
		still = "still "
	}
	fmt.Fprintf(b, ":x: *%s* %sfails %s\n", subject, still, policy)
	if details := escape(o.Details, maxDetails); details != "" {
		fmt.Fprintf(b, "> %s\n", details)
	}
}

// escape makes text of at most limit bytes that means only itself, on one
// line.
func escape(text string, limit int) string {
	text = strings.Join(strings.Fields(strings.Map(shownAsIs, text)), " ")
	if len(text) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + " …"
	}
	return links.ReplaceAllStringFunc(escapes.Replace(text), unlinked.Replace)
}

// shownAsIs leaves out what isn't shown but changes how the rest is, such as in
// which direction.
func shownAsIs(r rune) rune {
	if unicode.Is(unicode.Bidi_Control, r) || unicode.IsControl(r) && !unicode.IsSpace(r) {
		return -1
	}
	return r
}

// links are what chats make links of by themselves: URLs, and what begins like
// the name of a host and goes on like an address in it. People still read what it
// says.
var (
	links    = regexp.MustCompile(`[A-Za-z][-A-Za-z0-9+.]*:/+[^\s/]*|(?i:\b(?:mailto|tel|sms|data|javascript):|\b(?:www|ftp)\.)|[-A-Za-z0-9\x{80}-\x{10ffff}]+(?:\.[-A-Za-z0-9\x{80}-\x{10ffff}]+)*\.[A-Za-z\x{80}-\x{10ffff}]{2,}(?:[/?#]|:[0-9])`)
	unlinked = strings.NewReplacer(":", "：", ".", "．")
)

// & < > are Slack's; @ [ ] would mention and link in Mattermost and Rocket.Chat;
// the rest would begin formatting.
var escapes = strings.NewReplacer("@", "＠", "[", "［", "]", "］", "&", "&amp;", "<", "&lt;", ">", "&gt;", "*", "∗", "_", "\uFF3F", "`", "'", "~", "∼")
