package forward

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reeve.dev/reeve/internal/kubeapi"
)

// Secrets reads Secrets of Kubernetes. It is safe for concurrent use.
type Secrets interface {
	// Secret answers what a Secret holds; the caller must not change it. An
	// empty namespace means the one that the reader itself lives in.
	Secret(ctx context.Context, namespace, name string) (map[string][]byte, error)
	// Changed says that what a Secret held doesn't work, so that it is read
	// again.
	Changed(namespace, name string)
}

// secretKept is for how long a Secret isn't read again. The API server then
// sees one request in that time, however many are forwarded.
const secretKept = 10 * time.Second

// OpenSecrets reads the Secrets of the cluster that a kubeconfig names; with
// none, of the one that kubectl would find, or whose pod this is. Where a
// configuration doesn't say in which namespace, it is the kubeconfig's, or the
// pod's. Nothing but the right to get them is needed. What an API server that
// doesn't answer has said before stands until it does; a Secret that is gone
// is gone.
func OpenSecrets(kubeconfig string) (Secrets, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	found := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	cfg, err := found.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no cluster is configured: give a kubeconfig, or run inside a pod with a service account")
	}
	if err != nil {
		return nil, err
	}
	namespace, _, err := found.Namespace()
	if err != nil {
		return nil, err
	}
	client, err := kubeapi.New(cfg)
	if err != nil {
		return nil, err
	}
	return &kubeSecrets{client: client, namespace: namespace, kept: map[[2]string]*keptSecret{}}, nil
}

// needsSecrets reports whether a credential of u is in a Secret.
func (u Upstream) needsSecrets() bool {
	return u.Credentials.SecretName != "" || u.AWS != nil && u.AWS.SecretName != ""
}

type kubeSecrets struct {
	client    rest.Interface
	namespace string

	mu   sync.Mutex
	kept map[[2]string]*keptSecret // guarded by mu; by namespace and name
}

type keptSecret struct {
	mu   sync.Mutex        // held while it is read, so that it is read once
	at   time.Time         // guarded by mu; zero: read it again
	data map[string][]byte // guarded by mu
}

func (s *kubeSecrets) of(namespace, name string) (*keptSecret, string) {
	if namespace == "" {
		namespace = s.namespace
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{namespace, name}
	if s.kept[key] == nil {
		s.kept[key] = &keptSecret{}
	}
	return s.kept[key], namespace
}

func (s *kubeSecrets) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	k, namespace := s.of(namespace, name)
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.at) < secretKept {
		return k.data, nil
	}
	var found corev1.Secret
	err := s.client.Get().Namespace(namespace).Resource("secrets").Name(name).Do(ctx).Into(&found)
	switch {
	case err == nil:
		k.at, k.data = time.Now(), found.Data
	case k.data == nil || apierrors.IsNotFound(err) || apierrors.IsForbidden(err):
		k.data = nil
		return nil, fmt.Errorf("Secret %s/%s: %w", namespace, name, err)
	}
	return k.data, nil
}

func (s *kubeSecrets) Changed(namespace, name string) {
	k, _ := s.of(namespace, name)
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.at) > time.Second { // not once for each request that fails
		k.at = time.Time{}
	}
}
