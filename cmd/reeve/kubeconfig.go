package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

func newKubeconfig() *cobra.Command {
	var hub hubFlags
	var agent, service, kind, life string
	var force bool
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
			body := map[string]any{"agent": agent, "type": "kubernetes", "name": service, "kind": kind, "force": force}
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
	flags.BoolVar(&force, "force", false, "also while the agent hasn't joined or doesn't offer the cluster")
	complete(cmd, "kind", "certificate", "token")
	for _, required := range []string{"agent", "service"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return cmd
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
