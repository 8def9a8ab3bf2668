package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// execAPI is the version of Kubernetes' credential plugins.
const execAPI = "client.authentication.k8s.io/v1"

// execCredential is what a credential plugin prints: ExecCredential of
// client.authentication.k8s.io/v1.
type execCredential struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Status     execStatus `json:"status"`
}

type execStatus struct {
	ExpirationTimestamp time.Time `json:"expirationTimestamp"`
	Token               string    `json:"token"`
}

// grantVariable is where the plugin finds its grant.
const grantVariable = "REEVE_GRANT"

func newKubeconfigCredential() *cobra.Command {
	var hub hubFlags
	cmd := &cobra.Command{
		Use:   "credential",
		Short: "Print a short-lived credential, as kubectl's credential plugin",
		Long: `Prints a token for a cluster behind the hub, as an ExecCredential of
` + execAPI + `, for kubeconfigs made with --kind exec. The grant
is in ` + grantVariable + `. The token is kept in the user's cache folder
(XDG_CACHE_HOME), readable by the user alone, and another one is made when two
thirds of its life are over.`,
		Example: "  REEVE_GRANT=… reeve kubeconfig credential --hub https://hub.example.com:8443",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := renewer{hub: &hub, grant: os.Getenv(grantVariable)}
			if r.grant == "" {
				return errors.New("there is no grant in " + grantVariable + "; kubectl runs this with a kubeconfig made by reeve kubeconfig --kind exec")
			}
			status, err := r.cached(cmd.Context(), time.Now())
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(execCredential{execAPI, "ExecCredential", status})
		},
	}
	hub.place(cmd)
	return cmd
}

// renewer has tokens made of a grant.
type renewer struct {
	hub   *hubFlags
	grant string
}

// kept is a credential in the cache. It is a token, since client-go breaks all
// connections off when it gets another certificate.
type kept struct {
	Token string
	// Renew is when another one should be made, Expires when it is over.
	Renew, Expires time.Time
}

// status says that the credential is over when it should be renewed, so that
// kubectl asks again by then; and at its end if it couldn't be.
func (k kept) status(until time.Time) execStatus {
	return execStatus{until.UTC().Truncate(time.Second), k.Token}
}

// cached answers the credential that is in the cache while it is young. An
// older one serves as long as the hub can't be reached, or can't do it now.
func (r *renewer) cached(ctx context.Context, now time.Time) (execStatus, error) {
	path, err := r.cacheFile()
	if err != nil {
		return execStatus{}, err
	}
	old := readKept(path)
	if now.Before(old.Renew) {
		return old.status(old.Renew), nil
	}
	k, err := r.renew(ctx, now)
	var answer *problem
	refused := errors.As(err, &answer) && answer.Status < http.StatusInternalServerError
	switch {
	case err == nil:
	case now.Before(old.Expires) && !refused:
		return old.status(old.Expires), nil
	default:
		return execStatus{}, err
	}
	if err := writeKept(path, k); err != nil {
		return execStatus{}, fmt.Errorf("keep the credential: %w", err)
	}
	return k.status(k.Renew), nil
}

func (r *renewer) renew(ctx context.Context, now time.Time) (kept, error) {
	hub, conf := *r.hub, &tls.Config{MinVersion: tls.VersionTLS13}
	if conf.RootCAs = clusterCA(); conf.RootCAs != nil {
		hub.ca = "" // of the shell, perhaps for another hub
	}
	client, err := hub.anonymous(conf)
	if err != nil {
		return kept{}, err
	}
	defer client.http.CloseIdleConnections()
	client.token = r.grant
	data, err := client.do(ctx, http.MethodPost, "/credentials/renew", nil)
	if err != nil {
		return kept{}, err
	}
	var cred serviceCredential
	if err := json.Unmarshal(data, &cred); err != nil {
		return kept{}, fmt.Errorf("the hub's answer: %w", err)
	}
	return kept{Token: cred.Token, Renew: now.Add(cred.Expires.Sub(now) / 3 * 2), Expires: cred.Expires}, nil
}

// clusterCA is what kubectl says that the cluster's certificate is verified
// with, which is the hub's CA; nil where it says nothing.
func clusterCA() *x509.CertPool {
	var info struct {
		Spec struct {
			Cluster struct {
				CA []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"spec"`
	}
	pool := x509.NewCertPool()
	if json.Unmarshal([]byte(os.Getenv("KUBERNETES_EXEC_INFO")), &info) != nil || !pool.AppendCertsFromPEM(info.Spec.Cluster.CA) {
		return nil
	}
	return pool
}

// cacheFile is where the token of this grant lies.
func (r *renewer) cacheFile() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("the cache folder: %w; set XDG_CACHE_HOME", err)
	}
	name := sha256.Sum256([]byte(r.hub.url + "\x00" + r.grant))
	return filepath.Join(dir, "reeve", "kubeconfig", hex.EncodeToString(name[:16])+".json"), nil
}

// readKept answers nothing for what it can't read: it will be made anew.
func readKept(path string) (k kept) {
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &k) != nil {
		return kept{}
	}
	return k
}

func writeKept(path string, k kept) error {
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
