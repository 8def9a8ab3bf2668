package forward

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // what a kubeconfig may ask for
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func validateKubernetes(u Upstream) error {
	if u.URL != "" || u.CAFile != "" || u.Credentials != (Credentials{}) || u.Insecure {
		return errors.New("url, caFile, insecure and credentials aren't for a Kubernetes API; put them into a kubeconfig and name it in kubeConfig")
	}
	return nil
}

// openKubernetes is the way to the API that a kubeconfig names, or to the one
// whose pod this is. client-go renews tokens and certificates, runs the
// commands that a kubeconfig names for them and reads token files again; a
// kubeconfig that was replaced is read again here.
func openKubernetes(u Upstream, env environment) (func() (*route, error), error) {
	if u.KubeConfig == "" {
		only, err := kubeRoute("", env)
		return fixed(only), err
	}
	current := reloaded(func() (*route, error) { return kubeRoute(u.KubeConfig, env) }, u.KubeConfig)
	first, err := current()
	if err != nil {
		return nil, err
	}
	var last atomic.Pointer[route]
	last.Store(first)
	return func() (*route, error) {
		// A file that is being replaced, or was replaced by a bad one, takes
		// nothing from those who call: what was good goes on.
		r, err := current()
		if err != nil {
			env.up.log.Error("kubeconfig can't be read again; the one before stays", "error", err)
			return last.Load(), nil
		}
		last.Store(r)
		return r, nil
	}, nil
}

func kubeRoute(kubeConfig string, env environment) (*route, error) {
	cfg, err := kubeClient(kubeConfig)
	if err != nil {
		return nil, err
	}
	if cfg.Insecure {
		env.up.log.Warn("the cluster's certificate isn't checked: insecure-skip-tls-verify is set in the kubeconfig")
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	base.RawPath = strings.TrimSuffix(base.RawPath, "/")
	plain, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, err
	}
	// exec, attach and port-forward ask for an Upgrade, which HTTP/2 has not.
	h1 := rest.CopyConfig(cfg)
	h1.NextProtos = []string{"http/1.1"}
	upgrade, err := rest.TransportFor(h1)
	if err != nil {
		return nil, err
	}
	rt := upgradesBy(upgrade, plain)
	if cfg.Impersonate.UserName != "" {
		next := rt
		rt = roundTripperFunc(func(r *http.Request) (*http.Response, error) {
			if impersonates(r.Header) {
				return nil, errImpersonates
			}
			return next.RoundTrip(r)
		})
	}
	return env.route(base, rt), nil
}

var errImpersonates = fmt.Errorf("%w: this service acts as a fixed user of the cluster; call it without --as and --as-group", ErrForbidden)

// impersonates reports whether a caller asks to act as somebody else. Where
// the kubeconfig says itself as whom, client-go would let the caller's word
// stand, or add the caller's groups to it.
func impersonates(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") {
			return true
		}
	}
	return false
}

func kubeClient(kubeConfig string) (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if kubeConfig == "" {
		if cfg, err = rest.InClusterConfig(); err != nil {
			return nil, fmt.Errorf("this isn't a pod with a service account: give kubeConfig, or the agent's kubeconfig (%w)", err)
		}
	} else if cfg, err = clientcmd.BuildConfigFromFlags("", kubeConfig); err != nil {
		return nil, fmt.Errorf("kubeConfig %s: %w", kubeConfig, err)
	}
	cfg.DisableCompression = true // bodies pass as they are
	cfg.NextProtos = slices.Clone(cfg.NextProtos)
	return cfg, nil
}
