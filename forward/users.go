package forward

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"reeve.dev/reeve/fleet"
)

// Users seals the names of Spinnaker's users.
//
//	orca ── alice ──► hub ══ sealed ══► agent ── sealed ──► clouddriver
//	fiat ◄── alice ── hub ══ sealed ══ agent ◄── sealed ──────┘
//
// A clouddriver in somebody else's cluster acts for users of Spinnaker, and
// asks front50 and fiat in their names. Instead of a name it is given a token
// that only the hub can make and that is good for a short time. So it can act
// for those who have just called it, and for nobody else.
type Users interface {
	SealUser(name string) (sealed string, err error)
	OpenUser(sealed string) (name string, err error)
}

// spinnakerUser names the user of Spinnaker for whom a request is made.
const spinnakerUser = "X-Spinnaker-User"

var errUser = fmt.Errorf("%w: %s from an agent must be what the hub gave to it, at most a few minutes ago", ErrForbidden, spinnakerUser)

// seals says what becomes of users' names in a request: they are sealed when
// it leaves for an agent, and opened when it comes back from one.
type seals struct {
	users     Users
	fromAgent bool
	toAgent   bool
}

// sealing answers seals for a request, nil where names pass as they are.
func (h *Hub) sealing(r *http.Request, c Caller) *seals {
	if k, _ := kindOf(c.Type); !k.spinnaker || h.cfg.Users == nil {
		return nil
	}
	_, fromAgent := fleet.PeerFrom(r.Context())
	s := &seals{users: h.cfg.Users, fromAgent: fromAgent, toAgent: c.Agent != fleet.HubAgent}
	if !s.fromAgent && !s.toAgent {
		return nil
	}
	return s
}

// name turns one user's name over.
func (s *seals) name(v string) (string, error) {
	if !s.fromAgent {
		return s.users.SealUser(v)
	}
	name, err := s.users.OpenUser(v)
	switch {
	case err != nil:
		return "", errUser
	case s.toAgent:
		return v, nil // from agent to agent it stays sealed
	}
	return name, nil
}

// request answers r with the names in it turned over. The error wraps
// [ErrForbidden] or is a fault of the hub.
func (s *seals) request(r *http.Request, typ fleet.ServiceType) (*http.Request, error) {
	names := r.Header[spinnakerUser]
	var escaped string
	if typ == Fiat {
		var err error
		if escaped, err = s.fiatPath(r.URL); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 && escaped == "" {
		return r, nil
	}
	if len(names) > 1 {
		return nil, fmt.Errorf("%w: %s is there more than once", ErrForbidden, spinnakerUser)
	}
	out := r.WithContext(r.Context())
	if len(names) == 1 && names[0] != "" {
		v, err := s.name(names[0])
		if err != nil {
			return nil, err
		}
		out.Header = r.Header.Clone()
		out.Header.Set(spinnakerUser, v)
	}
	if escaped != "" {
		u := *r.URL
		u.RawPath = escaped
		var err error
		if u.Path, err = url.PathUnescape(escaped); err != nil {
			return nil, err
		}
		out.URL = &u
	}
	return out, nil
}

// fiatPath is fiat's path /authorize/USER/… with the user turned over, or
// empty when it isn't such a path. What only a server that tidies paths up
// would take for one is refused: it would pass a name by.
func (s *seals) fiatPath(u *url.URL) (string, error) {
	parts := strings.Split(u.EscapedPath(), "/")
	if len(parts) < 3 || parts[0] != "" || parts[1] != "authorize" || parts[2] == "" {
		if tidy := path.Clean("/" + strings.ReplaceAll(u.Path, `\`, "/")); strings.HasPrefix(strings.ToLower(tidy), "/authorize") && strings.Trim(tidy[len("/authorize"):], "/") != "" {
			return "", fmt.Errorf("%w: fiat is asked with a path /authorize/USER", ErrForbidden)
		}
		if climbs(u.Path) {
			return "", fmt.Errorf("%w: fiat's paths have no .. steps", ErrForbidden)
		}
		return "", nil
	}
	if climbs(u.Path) {
		return "", fmt.Errorf("%w: fiat's paths have no .. steps", ErrForbidden)
	}
	name, err := url.PathUnescape(parts[2])
	if err != nil {
		return "", err
	}
	if name, err = s.name(name); err != nil {
		return "", err
	}
	parts[2] = url.PathEscape(name)
	return strings.Join(parts, "/"), nil
}

// response turns the name in an answer over, on its way back. One that an
// agent can't have from the hub is taken off.
func (s *seals) response(h http.Header) error {
	names := h[spinnakerUser]
	if len(names) == 0 {
		return nil
	}
	back := &seals{users: s.users, fromAgent: s.toAgent, toAgent: s.fromAgent}
	v, err := back.name(names[0])
	if errors.Is(err, ErrForbidden) {
		h.Del(spinnakerUser)
		return nil
	}
	if err != nil {
		return err
	}
	h.Set(spinnakerUser, v)
	return nil
}
