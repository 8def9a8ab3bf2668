package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"path/filepath"

	"reeve.dev/reeve/doctor"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
)

// Doctor checks, from where the agent runs, the way to each address of the hub
// and each service's credential. It changes nothing, and may be run beside the
// agent.
func Doctor(ctx context.Context, cfg Config) ([]doctor.Finding, error) {
	cfg, _, err := cfg.withBirger()
	if err != nil {
		return nil, err
	}
	var out []doctor.Finding
	for _, u := range cfg.Hub.all() {
		h := doctor.Hub{URL: u, CA: "the one that it joined", Carriers: cfg.Hub.Carriers}
		identity, err := pki.Load(filepath.Join(cfg.DataDir, "identity"))
		switch {
		case err == nil:
			h.Client = identity.TLSConfig()
			h.Roots = h.Client.RootCAs
		case errors.Is(err, fs.ErrNotExist):
			if h.Verify, err = cfg.joinVerify(u); err != nil {
				out = append(out, doctor.Finding{
					Check: "tls", Level: doctor.Problem, What: "this agent has no certificate yet, and no join token: " + err.Error(),
					Do: "make one (reeve token create --kind join --agent NAME) and hand it over in " + cfg.Hub.JoinTokenEnv + " or hub.joinTokenFile",
				})
			}
			h.CA = "the one that the join token names"
		default:
			out = append(out, doctor.Finding{
				Check: "tls", Level: doctor.Problem, What: err.Error(),
				Do: "an agent that was away for long needs a new join token: reeve token create --kind join --agent NAME",
			})
			if identity != nil {
				h.Roots = identity.TLSConfig().RootCAs
			}
		}
		out = append(out, h.Check(ctx)...)
	}
	services, err := forward.NewAgent(forward.AgentConfig{Upstreams: cfg.upstreams(), Kubeconfig: cfg.Kubeconfig, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return append(out, doctor.Finding{Check: "service", Level: doctor.Problem, What: err.Error(), Do: "correct it in the agent's configuration"}), nil
	}
	for _, p := range services.Probe(ctx) {
		f := doctor.Finding{Check: "service", Level: doctor.OK}
		if f.What, f.Do = p.Verdict(); f.Do != "" {
			f.Level = doctor.Problem
		}
		out = append(out, f)
	}
	return out, nil
}

// joinVerify is what tells the hub by the join token.
func (c Config) joinVerify(hub string) (func(tls.ConnectionState) error, error) {
	token, err := secret(c.Hub.JoinTokenFile, c.Hub.JoinTokenEnv)
	if err == nil && token == "" {
		err = errors.New("none is set")
	}
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(hub)
	if err != nil {
		return nil, fmt.Errorf("hub.url: %w", err)
	}
	return pki.JoinVerify(token, u.Hostname())
}
