package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

// Config names an issuer, and says what those whom it vouches for may do. The
// zero value is no issuer.
type Config struct {
	// Issuer is the URL that its tokens name, at which
	// /.well-known/openid-configuration is found.
	Issuer string `yaml:"issuer"`
	// Name is what people call it; empty takes the issuer's host.
	Name string `yaml:"name"`
	// CAFile has the certificates that its own is verified with; empty takes
	// the system's.
	CAFile string `yaml:"caFile"`
	// ClientID and the secret are the hub's at the issuer, for the login of
	// people by the page. Without an id there is none. An issuer that takes
	// public clients needs no secret.
	ClientID         string `yaml:"clientID"`
	ClientSecretFile string `yaml:"clientSecretFile"`
	ClientSecretEnv  string `yaml:"clientSecretEnv"`
	// Scopes are asked for beside openid.
	Scopes []string `yaml:"scopes"`
	// Audiences are those of tokens that may be sent to the API; with none
	// there none is taken.
	Audiences []string `yaml:"audiences"`
	// NameClaim is the claim with the name under which somebody is known, and
	// GroupsClaim that with the groups; or the path to it through objects, such as
	// realm_access.roles.
	NameClaim   string `yaml:"nameClaim"`
	GroupsClaim string `yaml:"groupsClaim"`
	// Roles say who may do what; who is in several may do all that they allow.
	Roles []Rule `yaml:"roles"`
}

// Rule gives a right to who is in one of the groups, or has one of the names;
// * stands for everybody whom the issuer knows.
type Rule struct {
	Groups      []string `yaml:"groups"`
	Users       []string `yaml:"users"`
	Role        pki.Role `yaml:"role"`
	fleet.Scope `yaml:",inline"`
}

// Defaults of a Config.
func Defaults() Config {
	return Config{Scopes: []string{"profile", "email", "groups"}, NameClaim: "email", GroupsClaim: "groups"}
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Issuer == "" {
		if c.ClientID != "" || len(c.Audiences) > 0 || len(c.Roles) > 0 {
			bad("oidc.issuer: it is missing")
		}
		return errors.Join(errs...)
	}
	if u, err := url.Parse(c.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		bad("oidc.issuer %q: it must be the URL that tokens name, https://HOST…", c.Issuer)
	}
	if c.ClientID == "" && len(c.Audiences) == 0 {
		bad("oidc: it is for nothing: name the hub's clientID, for people, or audiences, for programs")
	}
	if c.ClientSecretFile != "" && c.ClientSecretEnv != "" {
		bad("oidc: clientSecretFile and clientSecretEnv are both there; keep one")
	}
	if c.NameClaim == "" || c.GroupsClaim == "" {
		bad("oidc: nameClaim and groupsClaim must not be empty")
	}
	if len(c.Roles) == 0 {
		bad("oidc.roles: nobody may do anything; say which groups have which role")
	}
	for i, r := range c.Roles {
		if len(r.Groups)+len(r.Users) == 0 {
			bad("oidc.roles[%d]: it is for nobody; name groups or users", i)
		}
		if err := r.Role.Validate(); err != nil {
			bad("oidc.roles[%d].%w", i, err)
		}
		if err := r.Scope.Validate(); err != nil {
			bad("oidc.roles[%d].%w", i, err)
		}
	}
	return errors.Join(errs...)
}

// secret is the hub's at the issuer, read anew for each login, since it may be
// replaced.
func (c Config) secret() (string, error) {
	switch {
	case c.ClientSecretFile != "":
		text, err := os.ReadFile(c.ClientSecretFile)
		if err != nil {
			return "", fmt.Errorf("oidc.clientSecretFile: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	case c.ClientSecretEnv != "":
		text := os.Getenv(c.ClientSecretEnv)
		if text == "" {
			return "", fmt.Errorf("oidc.clientSecretEnv: the variable %s is empty", c.ClientSecretEnv)
		}
		return text, nil
	}
	return "", nil
}

// rights are those of a person.
func (c Config) rights(name string, groups []string) pki.Rights {
	var rights pki.Rights
	for _, r := range c.Roles {
		if anyOf(r.Groups, groups...) || anyOf(r.Users, name) {
			rights = append(rights, pki.Right{Role: r.Role, Scope: r.Scope})
		}
	}
	return rights
}

func anyOf(wanted []string, has ...string) bool {
	for _, w := range wanted {
		if w == "*" {
			return true
		}
		for _, h := range has {
			if w == h {
				return true
			}
		}
	}
	return false
}
