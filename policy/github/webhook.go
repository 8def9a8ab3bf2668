package github

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// WebhookPath is where GitHub sends its webhooks, with the name of the
// connection after it.
const WebhookPath = "/github/webhooks/"

const (
	// maxWebhook bounds a webhook's body (GitHub sends 25 MB at most), and
	// maxWebhooks how many are read at once.
	maxWebhook  = 25 << 20
	maxWebhooks = 8
	// webhookTime is how long one may take to arrive; GitHub gives it up by then.
	webhookTime = 10 * time.Second
)

// Events that change how a repository stands, and those that change how all of
// an organisation do.
var (
	repoEvents = []string{
		"push", "create", "delete", "repository", "public", "member", "team_add", "branch_protection_rule", "branch_protection_configuration",
		"repository_ruleset",
	}
	// repoEnds are the actions of the event repository after which one of that name
	// isn't there any more.
	repoEnds  = []string{"deleted", "renamed", "transferred"}
	orgEvents = []string{"installation", "installation_repositories", "installation_target", "organization", "team", "membership", "repository_ruleset"}
)

// webhook is what matters of a webhook.
type webhook struct {
	Action     string `json:"action"`
	Repository *struct {
		Name  string `json:"name"`
		Owner struct {
			Login string `json:"login"`
			Name  string `json:"name"`
		} `json:"owner"`
	} `json:"repository"`
	Organization *struct {
		Login string `json:"login"`
	} `json:"organization"`
	Installation *struct {
		Account struct {
			Login string `json:"login"`
		} `json:"account"`
	} `json:"installation"`
}

// Webhooks takes GitHub's webhooks at WebhookPath. One whose signature
// (X-Hub-Signature-256) isn't by the connection's secret is refused; an answer of
// 202 says that what it is about will be checked, whatever becomes of this hub.
func (r *Runner) Webhooks() http.Handler {
	slots := make(chan struct{}, maxWebhooks)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, ok := strings.CutPrefix(req.URL.Path, WebhookPath)
		c := r.connection(name)
		switch {
		case !ok || c == nil || !c.cfg.takesWebhooks():
			http.Error(w, "no webhooks are taken here; see docs/github.md", http.StatusNotFound)
			return
		case req.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "webhooks are posted", http.StatusMethodNotAllowed)
			return
		case req.ContentLength > maxWebhook:
			http.Error(w, "too long", http.StatusRequestEntityTooLarge)
			return
		}
		signature, err := hex.DecodeString(strings.TrimPrefix(req.Header.Get("X-Hub-Signature-256"), "sha256="))
		if err != nil || len(signature) != sha256.Size {
			http.Error(w, "the webhook isn't signed: set its secret, and the content type application/json", http.StatusUnauthorized)
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "too many webhooks at once", http.StatusServiceUnavailable)
			return
		}
		secrets, err := secret(c.cfg.WebhookSecretFile, c.cfg.WebhookSecretEnv)
		if err != nil {
			c.log.ErrorContext(req.Context(), "the webhooks' secret can't be read", "error", err)
			http.Error(w, "the webhook can't be checked now", http.StatusServiceUnavailable)
			return
		}
		// Or whoever sends slowly, without the secret, would keep GitHub's out. What
		// can't set it reads from no network.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(webhookTime))
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxWebhook))
		if err != nil {
			http.Error(w, "the webhook is cut or too long", http.StatusBadRequest)
			return
		}
		if !signed(body, signature, secrets) {
			http.Error(w, "the webhook's signature isn't by the secret of this connection", http.StatusUnauthorized)
			return
		}
		r.take(w, req, c, body)
	})
}

// signed reports whether a body was signed by one of the secrets, one a line: a
// new one beside the old rotates.
func signed(body, signature []byte, secrets string) bool {
	for s := range strings.Lines(secrets) {
		mac := hmac.New(sha256.New, []byte(strings.TrimSpace(s)))
		mac.Write(body)
		if strings.TrimSpace(s) != "" && hmac.Equal(mac.Sum(nil), signature) {
			return true
		}
	}
	return false
}

// take notes what a webhook is about.
func (r *Runner) take(w http.ResponseWriter, req *http.Request, c *connection, body []byte) {
	event := req.Header.Get("X-GitHub-Event")
	var hook webhook
	if err := json.Unmarshal(body, &hook); err != nil {
		http.Error(w, "the webhook isn't JSON; set the content type application/json", http.StatusBadRequest)
		return
	}
	t, ok := c.task(event, hook)
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	t.Due = time.Now().Add(webhookDelay)
	if err := r.cfg.Store.MarkGitHub(req.Context(), t, true); err != nil {
		c.log.ErrorContext(req.Context(), "a webhook can't be kept", "event", event, "error", err)
		http.Error(w, "the webhook can't be kept now", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// task is what an event has checked; false: nothing.
func (c *connection) task(event string, hook webhook) (Task, bool) {
	t := Task{Connection: c.cfg.Name, Cause: event}
	if r := hook.Repository; r != nil && slices.Contains(repoEvents, event) {
		if t.Owner = r.Owner.Login; t.Owner == "" {
			t.Owner = r.Owner.Name
		}
		t.Repo = r.Name
		if t.Repo == orgRepo || t.Repo == orgRepo2 {
			t.Repo = "" // the organisation's configuration may have changed
		}
		if event == "repository" && slices.Contains(repoEnds, hook.Action) {
			t.Repo = "" // only a whole cycle knows what isn't there any more
		}
	} else if slices.Contains(orgEvents, event) {
		switch {
		case hook.Organization != nil:
			t.Owner = hook.Organization.Login
		case hook.Installation != nil:
			t.Owner = hook.Installation.Account.Login
		}
	}
	if !login.MatchString(t.Owner) || t.Repo != "" && !repoName(t.Repo) {
		return Task{}, false
	}
	if len(c.cfg.Organisations) > 0 && !slices.ContainsFunc(c.cfg.Organisations, func(o string) bool { return strings.EqualFold(o, t.Owner) }) {
		return Task{}, false
	}
	return t, true
}
