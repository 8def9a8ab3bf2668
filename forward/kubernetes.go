package forward

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kubernetes connects to the API that a kubeconfig names, or to the one whose
// pod this is. client-go renews tokens and certificates.
func kubernetes(kubeConfig string) (*url.URL, http.RoundTripper, error) {
	cfg, err := kubeClient(kubeConfig)
	if err != nil {
		return nil, nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, nil, err
	}
	plain, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, nil, err
	}
	// exec, attach and port-forward ask for an Upgrade, which HTTP/2 has not.
	h1 := rest.CopyConfig(cfg)
	h1.NextProtos = []string{"http/1.1"}
	upgrade, err := rest.TransportFor(h1)
	if err != nil {
		return nil, nil, err
	}
	acts := cfg.Impersonate.UserName != ""
	return base, roundTripperFunc(func(r *http.Request) (*http.Response, error) {
		if acts && impersonates(r.Header) {
			return nil, errImpersonates
		}
		if r.Header.Get("Upgrade") != "" {
			return upgrade.RoundTrip(r)
		}
		return plain.RoundTrip(r)
	}), nil
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
