package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"reeve.dev/reeve/api"
)

func newKubeconfig() *cobra.Command {
	var hub hubFlags
	var agent, service, kind, life string
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a kubeconfig that leads to a cluster through the hub",
		Example: `  reeve kubeconfig --agent prod --service cluster > prod.kubeconfig
  kubectl --kubeconfig prod.kubeconfig get pods -A`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := hub.client()
			if err != nil {
				return err
			}
			body := map[string]string{"agent": agent, "type": "kubernetes", "name": service, "kind": kind}
			if life != "" {
				body["expiresIn"] = life
			}
			data, err := c.do(cmd.Context(), http.MethodPost, "/credentials/service", body)
			if err != nil {
				return err
			}
			var cred serviceCredential
			if err := json.Unmarshal(data, &cred); err != nil {
				return fmt.Errorf("the hub's answer: %w", err)
			}
			if err := c.checkService(cmd.Context(), agent, service); err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "reeve: note: %v\n", err)
			}
			text, err := yaml.Marshal(cred.kubeconfig(agent + "-" + service))
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	hub.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&agent, "agent", "", "`name` of the agent in the cluster")
	flags.StringVar(&service, "service", "", "`name` of its service of type kubernetes")
	flags.StringVar(&kind, "kind", "certificate", "credential: certificate or token")
	flags.StringVar(&life, "expires-in", "", "`duration` such as 720h; 2160h if left out")
	complete(cmd, "kind", "certificate", "token")
	for _, required := range []string{"agent", "service"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return cmd
}

// checkService says what a credential for a cluster can't do yet: it may be
// made before its agent joins.
func (c *client) checkService(ctx context.Context, agent, service string) error {
	raw, _, err := c.list(ctx, "/services", url.Values{}, false, 0)
	if err != nil {
		return err
	}
	offered, err := decodeItems[api.AgentService](raw)
	if err != nil {
		return err
	}
	var others []string
	for _, s := range offered {
		if s.Type == "kubernetes" && string(s.Agent) == agent {
			if string(s.Name) == service {
				return nil
			}
			others = append(others, string(s.Name))
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("agent %s offers no cluster %q now; it offers %s", agent, service, strings.Join(others, ", "))
	}
	return fmt.Errorf("agent %s offers no cluster now; reeve get services lists what agents offer", agent)
}

// serviceCredential is the hub's answer to POST /credentials/service.
type serviceCredential struct{ URL, CA, Certificate, Key, Token string }

// kubeconfig is the credential in the form that kubectl reads.
func (c serviceCredential) kubeconfig(name string) any {
	base64 := func(pem string) string { return base64.StdEncoding.EncodeToString([]byte(pem)) }
	user := map[string]string{"token": c.Token}
	if c.Token == "" {
		user = map[string]string{"client-certificate-data": base64(c.Certificate), "client-key-data": base64(c.Key)}
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]string{"server": c.URL, "certificate-authority-data": base64(c.CA)}}},
		"users":    []any{map[string]any{"name": name, "user": user}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]string{"cluster": name, "user": name}}},
	}
}
