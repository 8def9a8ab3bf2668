package forward

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// kubeRequest is what a request asks of a Kubernetes API, in the words of its
// RBAC: https://kubernetes.io/docs/reference/access-authn-authz/authorization/.
// A request that isn't for a resource, such as /version, has only a verb.
type kubeRequest struct {
	verb        string
	group       string // empty: the core group
	namespace   string // empty: the cluster's, or all namespaces
	resource    string
	subresource string
	name        string
	// discovery says that it asks only what the API has, which Kubernetes
	// itself lets everybody.
	discovery bool
	// odd says that its path could mean something else to a server that
	// cleans paths, so that no rule may rely on the other members.
	odd bool
}

var kubeVerbs = map[string]string{
	http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create",
	http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

// parseKube reads a request as k8s.io/apiserver does (request.RequestInfo,
// https://github.com/kubernetes/apiserver/blob/master/pkg/endpoints/request/requestinfo.go).
// path is without escapes.
func parseKube(method, path string, query func() url.Values) kubeRequest {
	k := kubeRequest{verb: kubeVerbs[method]}
	if k.verb == "" {
		k.verb = strings.ToLower(method)
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	prefix := 2 // api, version
	if parts[0] == "apis" {
		prefix = 3 // apis, group, version
	}
	if parts[0] != "api" && parts[0] != "apis" || len(parts) <= prefix {
		k.odd = odd(parts)
		k.discovery = k.verb == "get" && !k.odd && discovers(parts)
		return k
	}
	if parts[0] == "apis" {
		k.group = parts[1]
	}
	rest := parts[prefix:]
	special := rest[0] == "watch" || rest[0] == "proxy"
	if special && len(rest) > 1 {
		k.verb, rest = rest[0], rest[1:]
	}
	if rest[0] == "namespaces" && len(rest) > 1 {
		k.namespace = rest[1]
		if len(rest) > 2 && rest[2] != "status" && rest[2] != "finalize" {
			rest = rest[2:]
		}
	}
	k.resource = rest[0]
	if len(rest) > 1 {
		k.name = rest[1]
	}
	if len(rest) > 2 && k.verb != "proxy" {
		k.subresource = rest[2]
	}
	// What follows is the service's or pod's that it is proxied to.
	k.odd = odd(parts[:len(parts)-max(0, len(rest)-3)])
	switch {
	case k.verb == "watch" && kubeVerbs[method] != "get":
		k.odd = true // a watch for Kubernetes, too, but nothing asks for it so
	case k.resource == "pods" && slices.Contains([]string{"exec", "attach", "portforward"}, k.subresource):
		// A WebSocket begins with a GET, and does what a POST does.
		k.verb = "create"
	case k.name == "" && k.verb == "get":
		k.verb = "list"
		if watches(query()) {
			k.verb = "watch"
		}
	case k.name == "" && k.verb == "delete":
		k.verb = "deletecollection"
	}
	return k
}

// everywhere reports whether k is for what is in all namespaces together: their
// objects, or what a node's proxy has of their containers. Of a custom resource
// nothing here says whether its objects are in namespaces.
func (k *kubeRequest) everywhere() bool {
	if k.resource == "nodes" && (k.subresource == "proxy" || k.verb == "proxy") {
		return true
	}
	return k.namespace == "" && k.name == "" && slices.Contains([]string{"list", "watch", "deletecollection"}, k.verb) &&
		!slices.Contains(clusterWide[k.group], k.resource) && !slices.Contains(clusterWide[k.group], "*")
}

// clusterWide are Kubernetes' own resources that are in no namespace, by group.
var clusterWide = map[string][]string{
	"":                             {"namespaces", "nodes", "persistentvolumes", "componentstatuses"},
	"admissionregistration.k8s.io": {"*"},
	"apiextensions.k8s.io":         {"*"},
	"apiregistration.k8s.io":       {"*"},
	"certificates.k8s.io":          {"certificatesigningrequests", "clustertrustbundles"},
	"flowcontrol.apiserver.k8s.io": {"*"},
	"internal.apiserver.k8s.io":    {"*"},
	"metrics.k8s.io":               {"nodes"},
	"networking.k8s.io":            {"ingressclasses", "ipaddresses", "servicecidrs"},
	"node.k8s.io":                  {"*"},
	"rbac.authorization.k8s.io":    {"clusterroles", "clusterrolebindings"},
	"resource.k8s.io":              {"deviceclasses", "resourceslices", "devicetaintrules"},
	"scheduling.k8s.io":            {"priorityclasses"},
	"storage.k8s.io":               {"storageclasses", "volumeattachments", "csidrivers", "csinodes", "volumeattributesclasses"},
	"storagemigration.k8s.io":      {"*"},
}

// runs reports whether k, if it isn't a GET, may have a node run a command in a
// container: by its proxy, POST /run/NAMESPACE/POD/CONTAINER takes no Upgrade.
func (k *kubeRequest) runs() bool {
	return k.odd || k.resource == "nodes" && (k.subresource == "proxy" || k.verb == "proxy")
}

// kubeOf is what r asks of a Kubernetes API.
func kubeOf(r *http.Request) kubeRequest {
	k := parseKube(r.Method, r.URL.Path, r.URL.Query)
	if k.subresource == "proxy" && r.Header.Get("Upgrade") != "" {
		// By a node's proxy it runs commands.
		k.verb = "create"
	}
	return k
}

// odd reports whether a server that cleans paths could read another one.
func odd(parts []string) bool {
	return len(parts) > 1 && slices.Contains(parts, "") || slices.ContainsFunc(parts, func(p string) bool {
		return p == "." || p == ".." || strings.ContainsAny(p, `\;`)
	})
}

// watches reads the query's watch as Kubernetes reads a boolean.
func watches(q url.Values) bool {
	v, ok := q["watch"]
	return ok && v[0] != "0" && !strings.EqualFold(v[0], "false")
}

// discovers reports whether the path is one of those that the role
// system:discovery has, or that of a health check.
func discovers(parts []string) bool {
	switch parts[0] {
	case "api", "apis", "openapi":
		return true
	case "version", "healthz", "livez", "readyz":
		return true
	}
	return false
}
