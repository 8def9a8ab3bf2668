package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"reeve.dev/reeve/insight/lagoon"
)

// TokenConfig is what a TokenMaker works with. Client, Metadata, Secret and
// Logger are required.
type TokenConfig struct {
	Client   Client
	Metadata metadata.Interface
	// Secret is what the tokens are signed with.
	Secret []byte
	// TargetLabel narrows the namespaces to those that have it; empty means
	// all Lagoon environments.
	TargetLabel string
	// Life is how long a token is good; it is replaced when a third of that is
	// left. 0 is for ever.
	Life   time.Duration
	Logger *slog.Logger
}

// TokenMaker keeps a Secret insights-token with a valid token in every
// namespace that is a Lagoon environment.
type TokenMaker struct{ cfg TokenConfig }

// NewTokenMaker makes a TokenMaker.
func NewTokenMaker(cfg TokenConfig) (*TokenMaker, error) {
	if len(cfg.Secret) == 0 {
		return nil, errors.New("insights: the secret of the namespaces' tokens is empty: fill what insights.tokenSecretFile or insights.tokenSecretEnv names")
	}
	return &TokenMaker{cfg}, nil
}

// Run watches until ctx is done, whose cause it returns. A Secret that is
// deleted or damaged comes back within ten minutes.
func (t *TokenMaker) Run(ctx context.Context) error {
	selector := lagoon.LabelEnvironmentID + "," + lagoon.LabelProject + "," + lagoon.LabelEnvironment
	if t.cfg.TargetLabel != "" {
		selector += "," + t.cfg.TargetLabel
	}
	c := &controller{
		name:     "namespaces",
		resource: corev1.SchemeGroupVersion.WithResource("namespaces"),
		client:   t.cfg.Metadata, selector: selector,
		sync: t.sync, log: t.cfg.Logger,
	}
	return c.run(ctx)
}

func (t *TokenMaker) sync(ctx context.Context, m *metav1.PartialObjectMetadata) (time.Duration, error) {
	if m.DeletionTimestamp != nil {
		return 0, nil
	}
	want := lagoon.Namespace{
		Name:            m.Name,
		EnvironmentID:   m.Labels[lagoon.LabelEnvironmentID],
		ProjectName:     m.Labels[lagoon.LabelProject],
		EnvironmentName: m.Labels[lagoon.LabelEnvironment],
	}
	found, err := t.cfg.Client.Secrets(ctx, m.Name, lagoon.LabelToken)
	if err != nil {
		return 0, fmt.Errorf("list secrets: %w", err)
	}
	for i := range found {
		secret := &found[i]
		token := string(secret.Data[lagoon.TokenKey])
		ns, err := lagoon.ParseToken(token, t.cfg.Secret)
		if err == nil && ns == want {
			return t.keep(ctx, secret, want, lagoon.TokenEnd(token))
		}
		t.cfg.Logger.Info("insights token replaced", "namespace", m.Name, "secret", secret.Name, "error", err)
		err = t.cfg.Client.DeleteSecret(ctx, m.Name, secret.Name, metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("delete secret %s: %w", secret.Name, err)
		}
	}
	if err := t.create(ctx, want); err != nil {
		return 0, err
	}
	return t.cfg.Life * 2 / 3, nil
}

// keep has a Secret whose token is good until end renewed in time, in its
// place: pods that mount it see the new one within a minute.
func (t *TokenMaker) keep(ctx context.Context, secret *corev1.Secret, ns lagoon.Namespace, end time.Time) (time.Duration, error) {
	if t.cfg.Life == 0 && end.IsZero() {
		return 0, nil
	}
	// A token of another configuration ends later than any of ours, or never.
	left := time.Until(end)
	if t.cfg.Life > 0 && left > t.cfg.Life/3 && left <= t.cfg.Life {
		return left - t.cfg.Life/3, nil
	}
	token, err := t.token(ns)
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": secret.ResourceVersion},
		"data":     map[string][]byte{lagoon.TokenKey: []byte(token)},
	})
	if err != nil {
		return 0, err
	}
	if err := t.cfg.Client.PatchSecret(ctx, ns.Name, secret.Name, body); err != nil {
		return 0, fmt.Errorf("renew secret %s: %w", secret.Name, err)
	}
	t.cfg.Logger.Info("insights token renewed", "namespace", ns.Name, "secret", secret.Name)
	return t.cfg.Life * 2 / 3, nil
}

func (t *TokenMaker) token(ns lagoon.Namespace) (string, error) {
	var end time.Time
	if t.cfg.Life > 0 {
		end = time.Now().Add(t.cfg.Life)
	}
	return lagoon.NewToken(t.cfg.Secret, ns, end)
}

func (t *TokenMaker) create(ctx context.Context, ns lagoon.Namespace) error {
	token, err := t.token(ns)
	if err != nil {
		return err
	}
	err = t.cfg.Client.CreateSecret(ctx, ns.Name, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: lagoon.TokenSecret,
			Labels: map[string]string{
				lagoon.LabelToken:         "true",
				lagoon.LabelDynamicSecret: lagoon.TokenSecret,
			},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{lagoon.TokenKey: []byte(token)},
	})
	if err != nil {
		return fmt.Errorf("create secret %s: %w", lagoon.TokenSecret, err)
	}
	return nil
}
