package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// credentialLife is how long one credential of the plugin is good.
const credentialLife = "1h"

func newKubeconfigCredential() *cobra.Command {
	var hub hubFlags
	var c cluster
	cmd := &cobra.Command{
		Use:   "credential",
		Short: "Print a short-lived credential, as kubectl's credential plugin",
		Long: `Prints a token for a cluster behind the hub, as an ExecCredential of
` + execAPI + `, for kubeconfigs made with --kind exec. It
keeps the token in the user's cache folder (XDG_CACHE_HOME), readable by the
user alone, and has another one made when two thirds of its life are over.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := c.cached(cmd.Context(), &hub, time.Now())
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(execCredential{execAPI, "ExecCredential", status})
		},
	}
	hub.flags(cmd)
	cmd.Flags().StringVar(&c.life, "expires-in", credentialLife, "`duration` of one credential")
	c.flags(cmd)
	return cmd
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
// older one serves as long as the hub can't be reached.
func (c *cluster) cached(ctx context.Context, hub *hubFlags, now time.Time) (execStatus, error) {
	path, err := c.cacheFile(hub)
	if err != nil {
		return execStatus{}, err
	}
	old := readKept(path)
	if now.Before(old.Renew) {
		return old.status(old.Renew), nil
	}
	k, err := c.renew(ctx, hub, now)
	var refused *problem
	switch {
	case err == nil:
	case now.Before(old.Expires) && !errors.As(err, &refused):
		return old.status(old.Expires), nil
	default:
		return execStatus{}, err
	}
	if err := writeKept(path, k); err != nil {
		return execStatus{}, fmt.Errorf("keep the credential: %w", err)
	}
	return k.status(k.Renew), nil
}

func (c *cluster) renew(ctx context.Context, hub *hubFlags, now time.Time) (kept, error) {
	client, err := hub.client()
	if err != nil {
		return kept{}, err
	}
	cred, err := c.credential(ctx, client, "token")
	if err != nil {
		return kept{}, err
	}
	return kept{Token: cred.Token, Renew: now.Add(cred.Expires.Sub(now) / 3 * 2), Expires: cred.Expires}, nil
}

// cacheFile is where the credential for this cluster, hub and caller lies.
func (c *cluster) cacheFile(hub *hubFlags) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("the cache folder: %w; set XDG_CACHE_HOME", err)
	}
	caller := hub.cert + "\x00" + hub.token
	if hub.cert == "" && hub.token == "" {
		caller = os.Getenv("REEVE_TOKEN")
	}
	name := sha256.Sum256([]byte(strings.Join([]string{hub.url, c.agent, c.service, c.holder, c.life, caller}, "\x00")))
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
