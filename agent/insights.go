package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"

	"reeve.dev/reeve/insight/amqp"
	"reeve.dev/reeve/insight/ingest"
	insightkube "reeve.dev/reeve/insight/kube"
	"reeve.dev/reeve/insight/lagoon"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/internal/spool"
	scanlink "reeve.dev/reeve/scan/link"
)

// The ways out of the insights' spool. The names are on the disk.
const (
	wayHub    = "hub"
	wayBroker = "broker"
)

// sender delivers what a way is given. connect shows at the start whether it
// can.
type sender struct {
	connect func(context.Context) error
	most    spool.Batch
	send    func(context.Context, []spool.Item) (int, error)
}

// hubless reports whether this agent only collects insights, for a broker.
func (c Config) hubless() bool {
	return c.Hub.URL == "" && len(c.Hub.URLs) == 0 && c.Insights.Broker.URL != ""
}

// openInsights opens the spool of the insights with its ways out, and the
// port where workloads hand them in.
func (a *Agent) openInsights() (err error) {
	cfg := a.cfg.Insights
	a.ways, a.brokerTrouble = map[string]sender{}, func() string { return "" }
	if !a.cfg.hubless() {
		client := &insightlink.Client{Base: scanlink.BaseURL, HTTP: &http.Client{Transport: a.up}, Logger: a.component("insight")}
		a.ways[wayHub] = sender{
			connect: func(context.Context) error { return nil }, // the link does
			send: func(ctx context.Context, items []spool.Item) (int, error) {
				if err := client.Send(ctx, items[0]); err != nil {
					return 0, err
				}
				return 1, nil
			},
		}
	}
	if cfg.Broker.URL != "" {
		broker := amqp.NewPublisher(cfg.Broker, a.component("broker"))
		a.brokerTrouble = broker.Trouble
		a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "reeve_agent_broker_trouble", Help: "1 while Lagoon's broker takes nothing: it can't be reached, refuses, or blocks publishers.",
		}, func() float64 {
			if broker.Trouble() != "" {
				return 1
			}
			return 0
		}))
		a.closers = append(a.closers, broker.Close)
		a.ways[wayBroker] = sender{connect: broker.Connect, most: amqp.Batch, send: toBroker(broker)}
	}
	var names []string
	for name := range a.ways {
		names = append(names, name)
	}
	a.insights, err = a.spool("insights", spool.Config{Ways: names, MaxItems: cfg.Spool.MaxItems, MaxBytes: cfg.Spool.MaxBytes})
	if err != nil {
		return err
	}
	for _, name := range names {
		a.gauges(prometheus.Labels{"spool": "insights", "way": name}, func() spool.Stats { return a.insights.Waiting(name) })
	}
	if a.ingest, err = a.listen("insights.listen", cfg.Listen); err != nil || a.ingest == nil {
		return err
	}
	if cfg.TLS.CertFile != "" {
		pair := &keyPair{cfg: cfg.TLS}
		if _, err := pair.get(nil); err != nil {
			return fmt.Errorf("insights.tls: %w", err)
		}
		a.ingest = tls.NewListener(a.ingest, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get})
	}
	key, err := cfg.secret()
	if err != nil {
		return err
	}
	old, err := cfg.oldSecrets()
	if err != nil {
		return err
	}
	a.collect, err = ingest.Handler(ingest.Config{Secret: key, OldSecrets: old, Spool: a.insights, NoHub: a.cfg.hubless(), Logger: a.component("ingest")})
	return err
}

// toBroker publishes what isn't for the hub alone.
func toBroker(broker *amqp.Publisher) func(context.Context, []spool.Item) (int, error) {
	return func(ctx context.Context, items []spool.Item) (int, error) {
		hubs := func(it spool.Item) bool { return it.Kind == lagoon.SpoolHub }
		wanted := slices.DeleteFunc(slices.Clone(items), hubs)
		if len(wanted) == 0 {
			return len(items), nil
		}
		n, err := broker.Send(ctx, wanted)
		if n == len(wanted) {
			return len(items), err
		}
		return slices.IndexFunc(items, func(it spool.Item) bool { return it.ID == wanted[n].ID }), err
	}
}

func (c InsightConfig) validate() (errs []error) {
	secret := c.TokenSecretFile != "" || c.TokenSecretEnv != ""
	for _, use := range []struct {
		key string
		on  bool
	}{{"insights.listen", c.Listen != ""}, {"insights.tokens", c.Tokens}} {
		if use.on && !secret {
			errs = append(errs, fmt.Errorf("%s needs insights.tokenSecretFile or insights.tokenSecretEnv: what the namespaces' tokens are signed with", use.key))
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("insights.tls.certFile and keyFile: one is missing"))
	}
	if c.Broker.URL != "" {
		if err := c.Broker.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("insights.broker.%w", err))
		}
	}
	if _, err := c.burnAt(); err != nil {
		errs = append(errs, fmt.Errorf("insights.burnSchedule %q: %w", c.BurnSchedule, err))
	}
	if c.DeferFor < 0 || c.MaxRetries < 0 || c.Concurrent < 0 || c.TokenLife < 0 {
		errs = append(errs, errors.New("insights.deferFor, maxRetries, concurrent and tokenLife: they can't be below 0"))
	}
	if c.Spool.MaxItems < 0 || c.Spool.MaxBytes < 0 {
		errs = append(errs, errors.New("insights.spool.maxItems and maxBytes: they must be above 0"))
	}
	return errs
}

// secret is what the namespaces' tokens are signed with.
func (c InsightConfig) secret() ([]byte, error) {
	key, err := secret(c.TokenSecretFile, c.TokenSecretEnv)
	if err != nil {
		return nil, fmt.Errorf("insights.tokenSecretFile: %w", err)
	}
	return []byte(key), nil
}

// oldSecrets are those by which tokens are still taken.
func (c InsightConfig) oldSecrets() ([][]byte, error) {
	key, err := secret(c.OldTokenSecretFile, c.OldTokenSecretEnv)
	if err != nil {
		return nil, fmt.Errorf("insights.oldTokenSecretFile: %w", err)
	}
	if key == "" {
		return nil, nil
	}
	return [][]byte{[]byte(key)}, nil
}

// burnAt has the times at which ConfigMaps are burned; nil for at once.
func (c InsightConfig) burnAt() (insightkube.Schedule, error) {
	if c.BurnSchedule == "" {
		return nil, nil
	}
	return cron.ParseStandard(c.BurnSchedule)
}

// GenerateToken makes the token of a namespace, as the agent does.
func (c Config) GenerateToken(ns lagoon.Namespace) (string, error) {
	key, err := c.Insights.secret()
	if err != nil {
		return "", err
	}
	if len(key) == 0 {
		return "", errors.New("the secret that tokens are signed with is empty: fill what insights.tokenSecretFile or insights.tokenSecretEnv names")
	}
	var end time.Time
	if c.Insights.TokenLife > 0 {
		end = time.Now().Add(c.Insights.TokenLife)
	}
	return lagoon.NewToken(key, ns, end)
}

// keyPairFor is how long a certificate is used before its files are read again.
const keyPairFor = 10 * time.Second

// keyPair is a certificate that is read again now and then, so that it can be
// renewed without a restart.
type keyPair struct {
	cfg TLSConfig

	mu   sync.Mutex
	pair *tls.Certificate // guarded by mu
	read time.Time        // guarded by mu
}

// get is tls.Config's GetCertificate. Files that can't be read leave the
// certificate that there is.
func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pair == nil || time.Since(k.read) > keyPairFor {
		pair, err := tls.LoadX509KeyPair(k.cfg.CertFile, k.cfg.KeyFile)
		if err == nil {
			k.pair = &pair
		} else if k.pair == nil {
			return nil, err
		}
		k.read = time.Now()
	}
	return k.pair, nil
}
