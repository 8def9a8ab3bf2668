package forward

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"reeve.dev/reeve/fleet"
)

// Upstream is one service that an agent offers, or the hub itself, as the
// configuration has it.
type Upstream struct {
	Name fleet.ServiceName `yaml:"name"`
	Type fleet.ServiceType `yaml:"type"`
	// Enabled is true unless it says otherwise.
	Enabled *bool `yaml:"enabled"`
	// URL is where the service is. A path in it is put before each request's.
	// A Kubernetes API has none: see KubeConfig.
	URL string `yaml:"url"`
	// Insecure accepts any certificate from the service. The agent warns of
	// it at each start.
	Insecure bool `yaml:"insecure"`
	// CAFile is the PEM file that the service's certificate is checked
	// against; empty means the system's.
	CAFile      string      `yaml:"caFile"`
	Credentials Credentials `yaml:"credentials"`
	// Protocol is what a service of a type of the user's own speaks: http1 (or
	// empty), or http2, which gRPC needs. With an http URL that is HTTP/2 in
	// clear text, by prior knowledge. An Upgrade is asked for by HTTP/1.1 in
	// any case.
	Protocol string `yaml:"protocol"`
	// KubeConfig is the kubeconfig file of a Kubernetes API; empty means the
	// pod's service account. It is read again when it changes.
	KubeConfig string `yaml:"kubeConfig"`
	// AWS says which account a service of type aws acts for.
	AWS *AWSConfig `yaml:"aws"`
	// Annotations and Namespaces are told to the hub.
	Annotations map[string]string `yaml:"annotations"`
	Namespaces  []string          `yaml:"namespaces"`
}

// Credentials are what the agent shows to a service. Secrets come from a file
// or a Secret of Kubernetes, which are read again when they change, or from
// the environment.
type Credentials struct {
	// Type is none (or empty), basic, bearer, token ("Authorization: token
	// …") or certificate.
	Type         string `yaml:"type"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"passwordFile"`
	PasswordEnv  string `yaml:"passwordEnv"`
	TokenFile    string `yaml:"tokenFile"`
	TokenEnv     string `yaml:"tokenEnv"`
	CertFile     string `yaml:"certFile"`
	KeyFile      string `yaml:"keyFile"`
	// SecretName is a Secret with the keys username and password, token, or
	// tls.crt and tls.key, instead of files and variables. A Username beside
	// it comes first. SecretNamespace is empty for the agent's own.
	SecretName      string `yaml:"secretName"`
	SecretNamespace string `yaml:"secretNamespace"`

	// held is the password or token itself, of a file in Birger's format,
	// which has them inside.
	held string
}

// On reports whether the agent offers u.
func (u Upstream) On() bool { return u.Enabled == nil || *u.Enabled }

// Service is what the hub is told of u.
func (u Upstream) Service() fleet.Service {
	return fleet.Service{Type: u.Type, Name: u.Name, Annotations: u.Annotations, Namespaces: u.Namespaces}
}

// Validate reports the first thing that is wrong with u. It reads no files.
func (u Upstream) Validate() error {
	if err := u.Service().Validate(); err != nil {
		return err
	}
	if err := u.validate(); err != nil {
		return fmt.Errorf("service %s: %w", target(u.Type, u.Name), err)
	}
	return nil
}

// Validate reports the first thing that is wrong with c.
func (c Credentials) Validate() error {
	// What each type needs, and in return what the others must not have.
	need := map[string]struct{ password, token, pair, username bool }{
		"": {}, "none": {},
		"basic":       {password: true, username: true},
		"bearer":      {token: true},
		"token":       {token: true},
		"certificate": {pair: true},
	}
	n, ok := need[c.Type]
	if !ok {
		return fmt.Errorf("credentials.type %q: must be none, basic, bearer, token or certificate", c.Type)
	}
	name := c.Type
	if name == "" {
		name = "none"
	}
	if c.SecretNamespace != "" && c.SecretName == "" {
		return errors.New("credentials.secretNamespace: needs secretName")
	}
	if c.SecretName != "" {
		if !n.password && !n.token && !n.pair {
			return fmt.Errorf("credentials.secretName: %s", wanted(false, name))
		}
		n.password, n.token, n.pair = false, false, false
		name += " with secretName"
	}
	if c.held != "" {
		n.password, n.token = false, false
	}
	if got := c.Username != ""; got != n.username && (c.SecretName == "" || !n.username) {
		return fmt.Errorf("credentials.username: %s", wanted(n.username, name))
	}
	if err := oneOf(c.PasswordFile, c.PasswordEnv, "password", n.password, name); err != nil {
		return err
	}
	if err := oneOf(c.TokenFile, c.TokenEnv, "token", n.token, name); err != nil {
		return err
	}
	if (c.CertFile != "") != n.pair || (c.KeyFile != "") != n.pair {
		return fmt.Errorf("credentials.certFile and keyFile: %s", wanted(n.pair, name))
	}
	return nil
}

func wanted(want bool, typ string) string {
	if want {
		return "missing; type " + typ + " needs it"
	}
	return "not for type " + typ
}

func oneOf(file, env, key string, want bool, typ string) error {
	switch {
	case file != "" && env != "":
		return fmt.Errorf("credentials: %sFile and %sEnv exclude each other", key, key)
	case (file != "" || env != "") != want:
		return fmt.Errorf("credentials.%sFile or %sEnv: %s", key, key, wanted(want, typ))
	case env != "" && os.Getenv(env) == "":
		return fmt.Errorf("credentials.%sEnv: the environment has no %s", key, env)
	}
	return nil
}

// climbs reports whether a decoded path has a step upwards in it, also for a
// server that cuts parameters off each step (RFC 3986, 3.3), as servlets do.
func climbs(path string) bool {
	for step := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if step, _, _ = strings.Cut(step, ";"); step == ".." {
			return true
		}
	}
	again, err := url.PathUnescape(path)
	return err == nil && again != path && climbs(again)
}
