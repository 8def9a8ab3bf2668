package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"reeve.dev/reeve/internal/kubeapi"
)

// Client is what this package asks of an API server. Errors are those of
// k8s.io/apimachinery/pkg/api/errors.
type Client interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	// PatchConfigMap applies a JSON merge patch.
	PatchConfigMap(ctx context.Context, namespace, name string, patch []byte) error
	DeleteConfigMap(ctx context.Context, namespace, name string, only metav1.Preconditions) error
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	// Secrets lists those that a label selects.
	Secrets(ctx context.Context, namespace, selector string) ([]corev1.Secret, error)
	CreateSecret(ctx context.Context, namespace string, secret *corev1.Secret) error
	// PatchSecret applies a JSON merge patch.
	PatchSecret(ctx context.Context, namespace, name string, patch []byte) error
	DeleteSecret(ctx context.Context, namespace, name string, only metav1.Preconditions) error
}

// NewClient returns the client of the cluster that config names.
func NewClient(config *rest.Config) (Client, error) {
	c, err := kubeapi.New(config)
	return client{c}, err
}

type client struct{ rest rest.Interface }

func (c client) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	var cm corev1.ConfigMap
	err := c.rest.Get().Namespace(namespace).Resource("configmaps").Name(name).Do(ctx).Into(&cm)
	return &cm, err
}

func (c client) PatchConfigMap(ctx context.Context, namespace, name string, patch []byte) error {
	return c.rest.Patch(types.MergePatchType).Namespace(namespace).Resource("configmaps").Name(name).Body(patch).Do(ctx).Error()
}

func (c client) DeleteConfigMap(ctx context.Context, namespace, name string, only metav1.Preconditions) error {
	return c.delete(ctx, namespace, "configmaps", name, only)
}

func (c client) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	var ns corev1.Namespace
	err := c.rest.Get().Resource("namespaces").Name(name).Do(ctx).Into(&ns)
	return &ns, err
}

func (c client) Secrets(ctx context.Context, namespace, selector string) ([]corev1.Secret, error) {
	var list corev1.SecretList
	err := c.rest.Get().Namespace(namespace).Resource("secrets").Param("labelSelector", selector).Do(ctx).Into(&list)
	return list.Items, err
}

func (c client) CreateSecret(ctx context.Context, namespace string, secret *corev1.Secret) error {
	return c.rest.Post().Namespace(namespace).Resource("secrets").Body(secret).Do(ctx).Error()
}

func (c client) PatchSecret(ctx context.Context, namespace, name string, patch []byte) error {
	return c.rest.Patch(types.MergePatchType).Namespace(namespace).Resource("secrets").Name(name).Body(patch).Do(ctx).Error()
}

func (c client) DeleteSecret(ctx context.Context, namespace, name string, only metav1.Preconditions) error {
	return c.delete(ctx, namespace, "secrets", name, only)
}

func (c client) delete(ctx context.Context, namespace, resource, name string, only metav1.Preconditions) error {
	return c.rest.Delete().Namespace(namespace).Resource(resource).Name(name).Body(&metav1.DeleteOptions{Preconditions: &only}).Do(ctx).Error()
}
