package agent

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/policy/remedy"
	scankube "reeve.dev/reeve/scan/kube"
)

// RemediationConfig is what the cluster's owner lets be done because of
// outcomes, when the hub's rules ask for it.
type RemediationConfig struct {
	// Kubeconfig is the file for the account that the hooks act by; empty is
	// the agent's own.
	Kubeconfig string        `yaml:"kubeconfig"`
	Hooks      []remedy.Hook `yaml:"hooks"`
}

func (c RemediationConfig) validate() error {
	var errs []error
	seen := map[string]bool{}
	for i, h := range c.Hooks {
		if err := h.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("remediation.hooks[%d]: %w", i, err))
		}
		if seen[h.Name] {
			errs = append(errs, fmt.Errorf("remediation.hooks[%d]: %s is there twice", i, h.Name))
		}
		seen[h.Name] = true
	}
	return errors.Join(errs...)
}

// openRemedies makes the hooks; without any there is nobody to ask.
func (a *Agent) openRemedies() error {
	c := a.cfg.Remediation
	if len(c.Hooks) == 0 {
		return nil
	}
	path := c.Kubeconfig
	if path == "" {
		path = a.cfg.Kubeconfig
	}
	cluster, err := scankube.Config(path, "")
	if err != nil {
		return fmt.Errorf("remediation: %w", err)
	}
	hooks, err := remedy.New(remedy.Config{Hooks: c.Hooks, Cluster: cluster, Logger: a.component("remedy")})
	if err != nil {
		return fmt.Errorf("remediation: %w", err)
	}
	a.remedies = hooks
	return nil
}

// fromHub serves what comes by a link: what callers ask of services, which
// always names one, and what the hub itself asks.
func (a *Agent) fromHub(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(forward.ServiceHeader) == "" && strings.HasPrefix(r.URL.Path, remedy.Path) {
		if a.remedies == nil {
			http.Error(w, "this agent has no hooks; its owner must put them into remediation.hooks of the agent's configuration", http.StatusNotFound)
			return
		}
		a.remedies.ServeHTTP(w, r)
		return
	}
	a.forward.ServeHTTP(w, r)
}
