package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// cluster is a cluster behind an agent, as the flags name it.
type cluster struct {
	agent, service, holder, kind, life string
	force                              bool
}

func (c *cluster) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&c.agent, "agent", "", "`name` of the agent in the cluster")
	flags.StringVar(&c.service, "service", "", "`name` of its service of type kubernetes")
	flags.StringVar(&c.holder, "holder", "", "`name` of who is given it, for rules and records")
	flags.BoolVar(&c.force, "force", false, "also while the agent hasn't joined or doesn't offer the cluster")
	for _, required := range []string{"agent", "service"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // the flag is defined above
		}
	}
}

// credential has the hub make a credential of a kind.
func (c *cluster) credential(ctx context.Context, hub *client, kind string) (serviceCredential, error) {
	body := map[string]any{"agent": c.agent, "type": "kubernetes", "name": c.service, "kind": kind, "force": c.force}
	for name, value := range map[string]string{"expiresIn": c.life, "holder": c.holder} {
		if value != "" {
			body[name] = value
		}
	}
	data, err := hub.do(ctx, http.MethodPost, "/credentials/service", body)
	if err != nil {
		return serviceCredential{}, err
	}
	var cred serviceCredential
	if err := json.Unmarshal(data, &cred); err != nil {
		return serviceCredential{}, fmt.Errorf("the hub's answer: %w", err)
	}
	return cred, nil
}

func newKubeconfig() *cobra.Command {
	var hub hubFlags
	var c cluster
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a kubeconfig that leads to a cluster through the hub",
		Long: `Prints a kubeconfig that leads to a cluster through the hub.

With --kind exec it holds a grant instead of a credential: kubectl, and what
else is made with client-go, runs "reeve kubeconfig credential", which has the
hub make a token of it, good for an hour, and again when that ends. The grant
goes to the hub's API alone and is good for nothing else. Whoever is given the
kubeconfig needs reeve in the PATH, and no other credential for the hub. What
takes back the grant (reeve token revoke, reeve ca revoke --holder) takes back
every token that was made of it, at once.`,
		Example: `  reeve kubeconfig --agent prod --service cluster > prod.kubeconfig
  reeve kubeconfig --agent prod --service cluster --kind exec --holder alice --expires-in 720h > alice.kubeconfig
  kubectl --kubeconfig prod.kubeconfig get pods -A`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := hub.client()
			if err != nil {
				return err
			}
			kind := c.kind
			if kind == "exec" {
				kind = "grant"
			}
			cred, err := c.credential(cmd.Context(), client, kind)
			if err != nil {
				return err
			}
			text, err := yaml.Marshal(cred.kubeconfig(c.agent+"-"+c.service, hub.url))
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	hub.flags(cmd)
	cmd.Flags().StringVar(&c.kind, "kind", "certificate", "credential: certificate, token, or exec for one that renews itself")
	cmd.Flags().StringVar(&c.life, "expires-in", "", "`duration` such as 720h; 2160h if left out")
	c.flags(cmd)
	agentNames.flag(cmd, "agent", &hub, cobra.ShellCompDirectiveNoFileComp)
	serviceNames.flag(cmd, "service", &hub, cobra.ShellCompDirectiveNoFileComp)
	complete(cmd, "kind", "certificate", "token", "exec")
	cmd.AddCommand(newKubeconfigCredential())
	return cmd
}

// serviceCredential is the hub's answer to POST /credentials/service.
type serviceCredential struct {
	URL, CA, Certificate, Key, Token, Grant string
	Expires                                 time.Time
}

// user is the credential in the form that kubectl reads.
func (c serviceCredential) user(hub string) map[string]any {
	switch {
	case c.Grant != "":
		return map[string]any{"exec": plugin(hub, c.Grant)}
	case c.Token != "":
		return map[string]any{"token": c.Token}
	}
	return map[string]any{"client-certificate-data": in64(c.Certificate), "client-key-data": in64(c.Key)}
}

func (c serviceCredential) kubeconfig(name, hub string) any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]string{"server": c.URL, "certificate-authority-data": in64(c.CA)}}},
		"users":    []any{map[string]any{"name": name, "user": c.user(hub)}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]string{"cluster": name, "user": name}}},
	}
}

func in64(pem string) string { return base64.StdEncoding.EncodeToString([]byte(pem)) }

// plugin has kubectl ask reeve for a credential. The grant is in the
// environment, since arguments are seen in the list of processes; the hub's CA
// comes with the cluster's description.
func plugin(hub, grant string) map[string]any {
	return map[string]any{
		"apiVersion": execAPI, "interactiveMode": "Never", "provideClusterInfo": true,
		"command": command(), "args": []string{"kubeconfig", "credential", "--hub", hub},
		"env":         []any{map[string]string{"name": grantVariable, "value": grant}},
		"installHint": "this kubeconfig needs the program reeve in the PATH",
	}
}

// command is how reeve is called: by its name alone where that leads to it, so
// that the kubeconfig works on other machines too.
func command() string {
	self, err := os.Executable()
	if err != nil {
		return "reeve"
	}
	named, err := exec.LookPath("reeve")
	if err != nil {
		return self
	}
	a, err1 := os.Stat(self)
	b, err2 := os.Stat(named)
	if err1 == nil && err2 == nil && os.SameFile(a, b) {
		return "reeve"
	}
	return self
}
