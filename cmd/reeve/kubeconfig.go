package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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

With --kind exec it holds no credential: kubectl, and what else is made with
client-go, runs "reeve kubeconfig credential" for one that is good for a short
time, and again when that ends. It does so with the credential for the hub that
is used now; a token in REEVE_TOKEN must then be in kubectl's environment too.`,
		Example: `  reeve kubeconfig --agent prod --service cluster > prod.kubeconfig
  reeve kubeconfig --agent prod --service cluster --kind exec > prod.kubeconfig
  kubectl --kubeconfig prod.kubeconfig get pods -A`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := hub.client()
			if err != nil {
				return err
			}
			asked, kind := c, c.kind
			if kind == "exec" { // made now only to learn the rest, and whether it can be
				asked.life, kind = "1s", "token"
			}
			cred, err := asked.credential(cmd.Context(), client, kind)
			if err != nil {
				return err
			}
			user := cred.user()
			if c.kind == "exec" {
				if user, err = c.plugin(&hub); err != nil {
					return err
				}
			}
			text, err := yaml.Marshal(cred.kubeconfig(c.agent+"-"+c.service, user))
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	hub.flags(cmd)
	cmd.Flags().StringVar(&c.kind, "kind", "certificate", "credential: certificate, token, or exec for one that renews itself")
	cmd.Flags().StringVar(&c.life, "expires-in", "", "`duration` such as 720h; 2160h if left out, or 1h at a time with --kind exec")
	c.flags(cmd)
	complete(cmd, "kind", "certificate", "token", "exec")
	cmd.AddCommand(newKubeconfigCredential())
	return cmd
}

// serviceCredential is the hub's answer to POST /credentials/service.
type serviceCredential struct {
	URL, CA, Certificate, Key, Token string
	Expires                          time.Time
}

// user is the credential in the form that kubectl reads.
func (c serviceCredential) user() map[string]any {
	if c.Token != "" {
		return map[string]any{"token": c.Token}
	}
	return map[string]any{"client-certificate-data": in64(c.Certificate), "client-key-data": in64(c.Key)}
}

func (c serviceCredential) kubeconfig(name string, user map[string]any) any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]string{"server": c.URL, "certificate-authority-data": in64(c.CA)}}},
		"users":    []any{map[string]any{"name": name, "user": user}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]string{"cluster": name, "user": name}}},
	}
}

func in64(pem string) string { return base64.StdEncoding.EncodeToString([]byte(pem)) }

// plugin is a user who asks reeve for a credential, with the flags that this
// command has.
func (c *cluster) plugin(hub *hubFlags) (map[string]any, error) {
	args := []string{"kubeconfig", "credential", "--agent", c.agent, "--service", c.service, "--hub", hub.url}
	for _, f := range []struct{ flag, path string }{{"--ca", hub.ca}, {"--cert", hub.cert}, {"--key", hub.key}, {"--token-file", hub.token}} {
		if f.path == "" {
			continue
		}
		path, err := filepath.Abs(f.path)
		if err != nil {
			return nil, err
		}
		args = append(args, f.flag, path)
	}
	for _, f := range []struct{ flag, value string }{{"--holder", c.holder}, {"--expires-in", c.life}} {
		if f.value != "" {
			args = append(args, f.flag, f.value)
		}
	}
	if c.force {
		args = append(args, "--force")
	}
	command, err := os.Executable()
	if err != nil {
		command = "reeve"
	}
	return map[string]any{"exec": map[string]any{
		"apiVersion": execAPI, "command": command, "args": args, "interactiveMode": "Never",
		"installHint": "reeve isn't where it was when this kubeconfig was made: install it there, or make the kubeconfig anew with reeve kubeconfig",
	}}, nil
}
