package kube

import (
	"context"
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
	Logger      *slog.Logger
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
	valid := false
	for i := range found {
		s := &found[i]
		ns, err := lagoon.ParseToken(t.cfg.Secret, string(s.Data[lagoon.TokenKey]))
		if err == nil && ns == want {
			valid = true
			continue
		}
		t.cfg.Logger.Info("insights token replaced", "namespace", m.Name, "secret", s.Name, "error", err)
		err = t.cfg.Client.DeleteSecret(ctx, m.Name, s.Name, metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("delete secret %s: %w", s.Name, err)
		}
	}
	if valid {
		return 0, nil
	}
	return 0, t.create(ctx, want)
}

func (t *TokenMaker) create(ctx context.Context, ns lagoon.Namespace) error {
	token, err := lagoon.NewToken(t.cfg.Secret, ns)
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
