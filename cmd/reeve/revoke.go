package main

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

func newCAIssue() *cobra.Command {
	var dir, out, csr string
	var agent, typ string
	var life time.Duration
	var right rightFlags
	id := pki.Identity{}
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Make a certificate with the authority's key, without a hub",
		Long: `Makes a client certificate, for an administrator (control), a caller of the
hub's API with a role (user), a caller of one service (service) or an agent,
with the key in the authority's folder. A running hub makes them too: see reeve
kubeconfig and reeve token create.

NAME.pem and NAME-key.pem are written; with --csr only NAME.pem, and the key
stays where the request was made.`,
		Example: `  reeve ca issue --purpose control --name alice
  reeve ca issue --purpose user --name ci --role scanner --agents 'prod-*' --namespaces shop
  reeve ca issue --purpose service --agent prod --type kubernetes --name cluster --holder alice --out alice-cluster
  reeve ca issue --purpose agent --agent edge --csr edge.csr`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id.Agent, id.Type = fleet.AgentName(agent), fleet.ServiceType(typ)
			if id.Purpose == pki.User {
				rights, err := right.rights()
				if err != nil {
					return err
				}
				id.Rights = rights.JSON()
			} else if right.given() {
				return errors.New("--role, --agents and --namespaces are for --purpose user")
			}
			if err := checkIssue(id); err != nil {
				return err
			}
			life = cmp.Or(life, map[pki.Purpose]time.Duration{pki.Control: pki.ControlLife, pki.User: pki.UserCertificateLife, pki.Service: pki.ServiceLife, pki.Agent: pki.AgentLife}[id.Purpose])
			ca, err := pki.LoadCA(dir)
			if err != nil {
				return err
			}
			files := map[string][]byte{}
			out = cmp.Or(out, id.Holder, id.Name, string(id.Agent))
			if csr == "" {
				files[out+".pem"], files[out+"-key.pem"], err = ca.NewCredential(id, life)
			} else {
				var request []byte
				if request, err = os.ReadFile(csr); err == nil {
					files[out+".pem"], err = ca.Issue(request, id, life)
				}
			}
			if err != nil {
				return err
			}
			return writeNew(cmd.OutOrStdout(), files)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "ca", "`folder` of the authority")
	flags.StringVar((*string)(&id.Purpose), "purpose", "", "control, user, service or agent")
	flags.StringVar(&id.Name, "name", "", "`name` of the administrator, the user or the service")
	flags.StringVar(&agent, "agent", "", "`name` of the agent")
	flags.StringVar(&typ, "type", "", "`type` of the service")
	flags.StringVar(&id.Holder, "holder", "", "who is given a service's certificate, for rules and records")
	flags.Var(lasting{&life, time.Second}, "expires-in", "`duration` such as 720h; 8760h for control, 2160h for user and service, and 24h for agent if left out")
	flags.StringVar(&csr, "csr", "", "`file` with a certificate request in PEM")
	flags.StringVar(&out, "out", "", "`path` of what is written, without .pem; the holder or name if left out")
	right.flags(cmd, "what a user may do")
	complete(cmd, "purpose", "control", "user", "service", "agent")
	return cmd
}

// checkIssue says which flags don't fit the purpose.
func checkIssue(id pki.Identity) error {
	var need []string
	switch id.Purpose {
	case pki.Control, pki.User:
		need = []string{"name"}
	case pki.Service:
		need = []string{"agent", "type", "name"}
	case pki.Agent:
		need = []string{"agent"}
	default:
		return fmt.Errorf("--purpose %q: it must be control, user, service or agent", string(id.Purpose))
	}
	for _, f := range []struct{ flag, value string }{{"name", id.Name}, {"agent", string(id.Agent)}, {"type", string(id.Type)}} {
		switch wanted := slices.Contains(need, f.flag); {
		case wanted && f.value == "":
			return fmt.Errorf("--%s is missing; --purpose %s needs it", f.flag, id.Purpose)
		case !wanted && f.value != "":
			return fmt.Errorf("--%s isn't for --purpose %s", f.flag, id.Purpose)
		}
	}
	if id.Holder != "" && id.Purpose != pki.Service {
		return errors.New("--holder is for --purpose service")
	}
	return id.Validate()
}

// writeNew writes files that must not be there yet.
func writeNew(w io.Writer, files map[string][]byte) error {
	var made []string
	for path := range files {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already; choose another --out", path)
		}
		made = append(made, path)
	}
	slices.Sort(made)
	for _, path := range made {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(files[path])
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "made %s\n", strings.Join(made, " "))
	return err
}

func newCARevoke() *cobra.Command {
	var hub hubFlags
	var file, serial, agent, identity, holder, reason string
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke certificates at once, and cut what is under way with them",
		Long: `Takes back one certificate (--of, --serial), or everything that was issued
until now to an agent, an identity or a holder, service tokens included. Open
requests and links end; what is issued afterwards is good. Single service
tokens: see reeve token revoke.`,
		Example: `  reeve ca revoke --of alice.pem --reason "laptop lost"
  reeve ca revoke --agent edge
  reeve ca revoke --holder alice`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var kind pki.RevocationKind
			var id string
			for _, f := range []struct {
				kind      pki.RevocationKind
				value, id string
			}{
				{pki.ByCertificate, file, ""},
				{pki.ByCertificate, serial, serial},
				{pki.ByIdentity, agent, pki.Identity{Purpose: pki.Agent, Agent: fleet.AgentName(agent)}.String()},
				{pki.ByIdentity, identity, identity},
				{pki.ByHolder, holder, holder},
			} {
				if f.value != "" {
					kind, id = f.kind, f.id
				}
			}
			if file != "" {
				cert, err := readCertificate(file)
				if err != nil {
					return err
				}
				id = cert.SerialNumber.Text(16)
			}
			c, err := hub.client()
			if err != nil {
				return err
			}
			return c.revoke(cmd, kind, id, reason)
		},
	}
	hub.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&file, "of", "", "`file` with the certificate in PEM")
	flags.StringVar(&serial, "serial", "", "its `number` in hexadecimal, as the audit log and openssl x509 -serial write it")
	flags.StringVar(&agent, "agent", "", "`name` of an agent; it must join again")
	flags.StringVar(&identity, "identity", "", "`SPIFFE id`, such as spiffe://reeve/control/alice")
	flags.StringVar(&holder, "holder", "", "`name` of whom credentials of services were made out to")
	flags.StringVar(&reason, "reason", "", "why, for people")
	agentNames.flag(cmd, "agent", &hub, cobra.ShellCompDirectiveNoFileComp)
	cmd.MarkFlagsOneRequired("of", "serial", "agent", "identity", "holder")
	cmd.MarkFlagsMutuallyExclusive("of", "serial", "agent", "identity", "holder")
	return cmd
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no certificate in PEM", filepath.Base(path))
	}
	return x509.ParseCertificate(block.Bytes)
}

// revoke asks the hub to revoke, and says what it did.
func (c *client) revoke(cmd *cobra.Command, kind pki.RevocationKind, id, reason string) error {
	data, err := c.do(cmd.Context(), http.MethodPost, "/revocations", map[string]string{"kind": string(kind), "id": id, "reason": reason})
	if err != nil {
		return err
	}
	var done api.Revocation
	if err := json.Unmarshal(data, &done); err != nil {
		return fmt.Errorf("the hub's answer: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "revoked %s %s\n", done.Kind, done.ID)
	return err
}

func newCARevocations() *cobra.Command {
	return newList(list[api.Revocation]{
		use: "revocations", short: "List what was revoked, the newest first", example: "  reeve ca revocations", path: "/revocations", name: func(r api.Revocation) string { return r.ID },
		rows: func(w io.Writer, list []api.Revocation) error {
			row(w, "KIND", "ID", "AT", "BY", "REASON")
			for _, r := range list {
				row(w, string(r.Kind), r.ID, ago(r.At), r.By, orDash(r.Reason))
			}
			return nil
		},
	})
}

func newTokenRevoke() *cobra.Command {
	var hub hubFlags
	var file, reason string
	cmd := &cobra.Command{
		Use:   "revoke [ID]",
		Short: "Revoke a token at once, and cut what is under way with it",
		Long: `Takes back an API token or a join token by its id (reeve token list), or a
service token by its jti, which the audit log has; oidc:SUBJECT is whatever ID
token an issuer makes for the subject. With --of the token itself
is read from a file, so that it isn't seen in the list of processes.`,
		Example: `  reeve token revoke abcdefghij
  reeve token revoke --of token.txt --reason "in a commit"`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (file != "") {
				return errors.New("name one token: by its id, or by --of FILE")
			}
			id := strings.Join(args, "")
			if file != "" {
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				if id, err = idOfToken(strings.TrimSpace(string(text))); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
			}
			c, err := hub.client()
			if err != nil {
				return err
			}
			_, err = c.do(cmd.Context(), http.MethodDelete, "/tokens/"+url.PathEscape(id), nil)
			var p *problem
			if errors.As(err, &p) && p.Status == http.StatusNotFound && (strings.Contains(id, "-") || strings.HasPrefix(id, "oidc:")) {
				return c.revoke(cmd, pki.ByToken, id, reason) // the hub keeps neither service tokens nor an issuer's
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "revoked %s\n", id)
			return err
		},
	}
	hub.flags(cmd)
	arguments(cmd, &hub, false, tokenNames)
	cmd.Flags().StringVar(&file, "of", "", "`file` with the token")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people; of a service token")
	return cmd
}

// idOfToken reads a token's id, without judging it.
func idOfToken(text string) (string, error) {
	if parts := strings.Split(text, "_"); len(parts) >= 3 && strings.HasPrefix(text, "reeve") {
		return parts[1], nil
	}
	var claims struct {
		ID string `json:"jti"`
	}
	if parts := strings.Split(text, "."); len(parts) == 3 {
		data, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil && json.Unmarshal(data, &claims) == nil && claims.ID != "" {
			return claims.ID, nil
		}
	}
	return "", errors.New("it holds no token of a hub's")
}
