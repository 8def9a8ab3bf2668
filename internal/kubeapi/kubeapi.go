// Package kubeapi asks a Kubernetes API server for the few kinds of its core
// group that Reeve works with.
//
// client-go's typed clients, and what imports them, register every kind of
// every group when the process starts: ten milliseconds and megabytes of
// memory in each run of the program, whatever it is asked to do. So nothing
// but tests may import k8s.io/client-go/kubernetes, or what lies beneath it.
package kubeapi

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// New returns a client of the core group, version 1, for pods, config maps,
// namespaces and secrets. It doesn't change config.
func New(config *rest.Config) (*rest.RESTClient, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion,
		&corev1.Pod{}, &corev1.PodList{}, &corev1.ConfigMap{}, &corev1.Namespace{}, &corev1.Secret{}, &corev1.SecretList{})
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	config = rest.CopyConfig(config)
	config.APIPath = "/api"
	config.GroupVersion = &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	return rest.RESTClientFor(config)
}
