package scan

import (
	"net/url"
	"regexp"
)

// Kubernetes' own rules: RFC 1123 labels, and for pods subdomains.
var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	uriScheme    = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

const (
	maxURI       = 4096
	maxSubdomain = 253
)

func (t Target) validate() error {
	if t.URI != "" {
		return t.validateURI()
	}
	switch {
	case t.Namespace == "":
		return invalid("target.namespace", "is missing; name namespace, pod and container, or a uri")
	case t.Pod == "":
		return invalid("target.pod", "is missing; name namespace, pod and container, or a uri")
	case t.Container == "":
		return invalid("target.container", "is missing; name namespace, pod and container, or a uri")
	case !dnsLabel.MatchString(t.Namespace):
		return invalid("target.namespace", "%q can't be the name of a namespace: lower-case letters, digits and '-', at most 63", t.Namespace)
	case len(t.Pod) > maxSubdomain || !dnsSubdomain.MatchString(t.Pod):
		return invalid("target.pod", "%q can't be the name of a pod: lower-case letters, digits, '-' and '.', at most 253", t.Pod)
	case !dnsLabel.MatchString(t.Container):
		return invalid("target.container", "%q can't be the name of a container: lower-case letters, digits and '-', at most 63", t.Container)
	}
	return nil
}

func (t Target) validateURI() error {
	switch {
	case t.Namespace != "" || t.Pod != "" || t.Container != "":
		return invalid("target.uri", "excludes namespace, pod and container; give one or the other")
	case len(t.URI) > maxURI:
		return invalid("target.uri", "has more than %d bytes", maxURI)
	case !uriScheme.MatchString(t.URI):
		return invalid("target.uri", "%q has no scheme; write for example dir:/ or k8s-container://NAMESPACE/POD/CONTAINER", t.URI)
	case t.Kind() == KindContainer:
		return invalid("target.uri", "%q is not of the form k8s-container://NAMESPACE/POD/CONTAINER", t.URI)
	}
	return nil
}

func (c *Callback) validate() error {
	if c == nil {
		return nil
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return invalid("callback.url", "must be an absolute https or http URL")
	case u.User != nil:
		return invalid("callback.url", "must not hold a user or password; use callback.authentication")
	}
	switch c.Type {
	case "", "none":
	case "bearer":
		if c.Token == "" {
			return invalid("callback.authentication.token", "is missing; the type bearer needs it")
		}
	case "basic":
		if c.Username == "" {
			return invalid("callback.authentication.username", "is missing; the type basic needs it")
		}
	default:
		return invalid("callback.authentication.type", "%q is unknown; use none, bearer or basic", c.Type)
	}
	return nil
}
