// Package kubeapi asks a Kubernetes API server for the few kinds that Reeve
// works with.
//
// client-go's typed clients, and what imports them, register every kind of
// every group when the process starts: ten milliseconds and megabytes of
// memory in each run of the program, whatever it is asked to do. So nothing
// but tests may import k8s.io/client-go/kubernetes, or what lies beneath it.
package kubeapi

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// New returns a client of the core group, version 1, for pods, config maps,
// namespaces, secrets, and service accounts with their tokens. It doesn't
// change config.
func New(config *rest.Config) (*rest.RESTClient, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion,
		&corev1.Pod{}, &corev1.PodList{}, &corev1.ConfigMap{}, &corev1.Namespace{}, &corev1.Secret{}, &corev1.SecretList{}, &corev1.ServiceAccount{})
	scheme.AddKnownTypes(authenticationv1.SchemeGroupVersion, &authenticationv1.TokenRequest{})
	return Of(config, scheme, corev1.SchemeGroupVersion)
}

// RBAC returns a client of the group rbac.authorization.k8s.io, version 1, for
// roles and their bindings.
func RBAC(config *rest.Config) (*rest.RESTClient, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(rbacv1.SchemeGroupVersion, &rbacv1.Role{}, &rbacv1.RoleBinding{})
	return Of(config, scheme, rbacv1.SchemeGroupVersion)
}

// Of returns a client of a group and version, for the kinds of a scheme. It
// doesn't change config.
func Of(config *rest.Config, scheme *runtime.Scheme, group schema.GroupVersion) (*rest.RESTClient, error) {
	metav1.AddToGroupVersion(scheme, group)
	config = rest.CopyConfig(config)
	config.APIPath = "/apis"
	if group.Group == "" {
		config.APIPath = "/api"
	}
	config.GroupVersion = &group
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	return rest.RESTClientFor(config)
}
