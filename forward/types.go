package forward

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"reeve.dev/reeve/fleet"
)

// The registered types beside [fleet.Kubernetes]. Any other is of the user's
// own and begins with x-.
const (
	// ArgoCD is the API of an Argo CD, called as one of its local users.
	ArgoCD fleet.ServiceType = "argocd"
	// Jenkins is the API of a Jenkins.
	Jenkins fleet.ServiceType = "jenkins"
	// Clouddriver, Front50 and Fiat are Spinnaker's: see users.go.
	Clouddriver fleet.ServiceType = "clouddriver"
	Front50     fleet.ServiceType = "front50"
	Fiat        fleet.ServiceType = "fiat"
	// AWS is every API of Amazon's cloud, called with an AWS client: see
	// aws.go.
	AWS fleet.ServiceType = "aws"
)

// kind is what sets the services of one type apart.
type kind struct {
	// credentials are the types of credential that such a service takes;
	// empty means all of them.
	credentials []string
	// validate reports what else is wrong with the configuration; nil is
	// validateHTTP.
	validate func(Upstream) error
	// open finds the way to the service; nil is openHTTP.
	open func(Upstream, environment) (func() (*route, error), error)
	// spinnaker says that its requests may name a user, in whose name it then
	// asks others.
	spinnaker bool
}

var kinds = map[fleet.ServiceType]kind{
	fleet.Kubernetes: {validate: validateKubernetes, open: openKubernetes},
	AWS:              {validate: validateAWS, open: openAWS},
	ArgoCD:           {credentials: []string{"bearer"}},
	Jenkins:          {credentials: []string{"basic", "token"}},
	Clouddriver:      {spinnaker: true},
	Front50:          {spinnaker: true},
	Fiat:             {spinnaker: true},
}

// kindOf answers how services of a type are handled; ok is false for a type
// that is neither registered nor the user's own.
func kindOf(t fleet.ServiceType) (k kind, ok bool) {
	if t.Custom() {
		return kind{}, true
	}
	k, ok = kinds[t]
	return k, ok
}

func (u Upstream) validate() error {
	k, ok := kindOf(u.Type)
	if !ok {
		var known []string
		for t := range kinds {
			known = append(known, string(t))
		}
		slices.Sort(known)
		return fmt.Errorf("type %q isn't supported; use one of %s, or a name with the prefix x- for any HTTP service", u.Type, strings.Join(known, ", "))
	}
	if u.KubeConfig != "" && u.Type != fleet.Kubernetes {
		return fmt.Errorf("kubeConfig is only for type %q", fleet.Kubernetes)
	}
	if u.AWS != nil && u.Type != AWS {
		return fmt.Errorf("aws is only for type %q", AWS)
	}
	if u.Protocol != "" && !u.Type.Custom() {
		return errors.New("protocol is only for types with the prefix x-")
	}
	if k.validate != nil {
		return k.validate(u)
	}
	if err := validateHTTP(u); err != nil {
		return err
	}
	if c := u.Credentials.Type; len(k.credentials) > 0 && !slices.Contains(k.credentials, c) {
		if c == "" {
			c = "none"
		}
		return fmt.Errorf("credentials.type %q: type %s takes %s", c, u.Type, strings.Join(k.credentials, " or "))
	}
	return nil
}
