package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rabbit "github.com/rabbitmq/amqp091-go"

	reeveagent "reeve.dev/reeve/agent"
	"reeve.dev/reeve/insight/amqp"
	"reeve.dev/reeve/insight/amqp/amqptest"
	"reeve.dev/reeve/insight/lagoon"
)

// An agent without a hub is what insights-remote is: what it is handed comes
// out of Lagoon's queue byte for byte as insights-remote writes it. A hub that
// takes the queue takes insights-handler's place.
func TestBroker(t *testing.T) {
	server := amqptest.Start(t, amqptest.TLS{})
	broker := amqp.Config{URL: server.URL(amqptest.Lagoon)}
	t.Setenv("INSIGHTS_SECRET", "secret")
	cfg := reeveagent.Defaults()
	cfg.DataDir, cfg.Metrics = t.TempDir(), ""
	cfg.Insights.Listen, cfg.Insights.TokenSecretEnv, cfg.Insights.Broker = "127.0.0.1:0", "INSIGHTS_SECRET", broker
	a, err := reeveagent.New(cfg, "test", slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	token, err := lagoon.NewToken([]byte("secret"), lagoon.Namespace{Name: "testNS", EnvironmentID: "777", ProjectName: "Test", EnvironmentName: "Dev"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, path, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.IngestAddr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	admin := server.Channel(amqptest.Lagoon)
	take := func() (m rabbit.Delivery) {
		t.Helper()
		until(t, "a message in the queue", func() bool {
			q, err := server.Channel(amqptest.Lagoon).QueueDeclarePassive(amqp.Queue, true, false, false, false, nil)
			return err == nil && q.Messages > 0
		})
		m, _, err := admin.Get(amqp.Queue, true)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, tc := range []struct{ method, path, body, want string }{
		{
			"POST", "/facts",
			`[{"name":"php","value":"8.4","source":"s","description":"d","type":"TEXT","category":"c","service":"cli"},{"name":"n","value":"v","environment":"1"}]`,
			`{"environment":777,"projectName":"Test","environmentName":"Dev","facts":[` +
				`{"environment":"777","projectName":"Test","environmentName":"Dev","name":"php","value":"8.4","source":"s","description":"d","type":"TEXT","category":"c","service":"cli"},` +
				`{"environment":"777","projectName":"Test","environmentName":"Dev","name":"n","value":"v","source":"InsightsRemoteWebService","description":"","type":"","category":"","service":""}],"type":"direct.facts"}`,
		},
		{
			"POST", "/problems",
			`[{"identifier":"CVE-1","data":"{}","severity":"HIGH","severityScore":7.5,"links":"l"}]`,
			`{"environment":777,"projectName":"Test","environmentName":"Dev","problems":[{"environment":777,"identifier":"CVE-1","source":"InsightsRemoteWebService","data":"{}","severity":"HIGH","severityScore":7.5,"links":"l"}],"type":"direct.problems"}`,
		},
		{"DELETE", "/facts/s", "", `{"type":"direct.delete.facts","environment":777,"source":"s","service":""}`},
		{"DELETE", "/problems/s/cli", "", `{"type":"direct.delete.problems","environment":777,"source":"s","service":"cli"}`},
	} {
		call(tc.method, tc.path, tc.body)
		if diff := cmp.Diff(tc.want, string(take().Body)); diff != "" {
			t.Errorf("%s %s: %s", tc.method, tc.path, diff)
		}
	}

	hubCfg := config(t)
	hubCfg.Insights.Broker = broker
	h := start(t, hubCfg)
	call("POST", "/facts", `[{"name":"php","value":"8.4","source":"s"}]`)
	// A legacy remote's: transient, without an id, twice; and one that is poison.
	for _, body := range []string{
		`{"environment":777,"projectName":"Test","environmentName":"Dev","problems":[{"environment":777,"identifier":"CVE-1","source":"x","data":"{}"}],"type":"direct.problems"}`,
		`{"environment":777,"projectName":"Test","environmentName":"Dev","problems":[{"environment":777,"identifier":"CVE-1","source":"x","data":"{}"}],"type":"direct.problems"}`,
		`{"payload":null,"cut":`,
	} {
		if err := admin.PublishWithContext(t.Context(), amqp.Exchange, "", false, false, rabbit.Publishing{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	var facts, problems struct {
		Items []struct{ Agent, Name, Identifier string }
	}
	var poison struct {
		Items []struct{ Agent, Reason string }
	}
	until(t, "the hub has all", func() bool {
		h.call(t, "GET", "/api/v1/insights/facts", nil, http.StatusOK, &facts)
		h.call(t, "GET", "/api/v1/insights/problems", nil, http.StatusOK, &problems)
		h.call(t, "GET", "/api/v1/insights/quarantine", nil, http.StatusOK, &poison)
		return len(facts.Items) > 0 && len(problems.Items) > 0 && len(poison.Items) > 0
	})
	got := fmt.Sprint(facts.Items, problems.Items)
	if want := "[{lagoon php }] [{lagoon  CVE-1}]"; got != want {
		t.Errorf("the hub has %s, want %s", got, want)
	}
	if len(poison.Items) != 1 || poison.Items[0].Agent != "lagoon" || !strings.Contains(poison.Items[0].Reason, "isn't JSON") {
		t.Errorf("quarantine: %+v", poison.Items)
	}
	until(t, "nothing in the agent's spool", func() bool {
		left, err := filepath.Glob(filepath.Join(cfg.DataDir, "spool", "insights", "*.item"))
		return err == nil && left == nil
	})
}
