package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

// Birger's control API: five calls under /api/v1 with the names, members and
// errors that its clients know (github.com/OpsMx/oes-birger, internal/fwdapi,
// versions 3 to 5 together). They need the role admin, by any credential of
// this API, also where Birger looked for its tokens: in X-Opsmx-Token or as
// the password of Basic. Certificates and keys are PEM in base64. They are in
// no OpenAPI description, since new programs have better calls.
//
// What differs: a method that a call doesn't take is answered 405, a missing
// or bad credential 401, a good one without the right 403, in each case with
// Birger's body; types with a dash, such as x-web, are taken; credentials
// end, as those of the API's own calls do.

type (
	birgerRequest struct {
		AgentName string `json:"agentName"`
		Type      string `json:"type"`
		Name      string `json:"name"`
	}
	birgerKubectl struct {
		AgentName       string `json:"agentName"`
		Name            string `json:"name"`
		ServerURL       string `json:"serverUrl"`
		UserCertificate string `json:"userCertificate"`
		UserKey         string `json:"userKey"`
		CACert          string `json:"caCert"`
		Token           string `json:"token"`
	}
	birgerManifest struct {
		AgentName        string `json:"agentName"`
		ServerHostname   string `json:"serverHostname"`
		ServerPort       uint16 `json:"serverPort"`
		AgentVersion     string `json:"agentVersion"`
		AgentCertificate string `json:"agentCertificate"`
		AgentKey         string `json:"agentKey"`
		CACert           string `json:"caCert"`
		AgentToken       string `json:"agentToken"`
	}
	birgerService struct {
		AgentName      string `json:"agentName"`
		Name           string `json:"name"`
		Type           string `json:"type"`
		CredentialType string `json:"credentialType"`
		Credential     any    `json:"credential"`
		URL            string `json:"url"`
		CACert         string `json:"caCert"`
	}
	birgerBasic struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	birgerAWS struct {
		AccessKey string `json:"awsAccessKey"`
		Secret    string `json:"awsSecretAccessKey"`
	}
	birgerControl struct {
		Name            string `json:"name"`
		URL             string `json:"url"`
		UserCertificate string `json:"userCertificate"`
		UserKey         string `json:"userKey"`
		CACert          string `json:"caCert"`
		Token           string `json:"token"`
	}
	birgerStatistics struct {
		ServerTime      int64         `json:"serverTime"` // milliseconds, as all times here
		Version         string        `json:"version"`
		ConnectedAgents []birgerAgent `json:"connectedAgents"`
	}
	birgerAgent struct {
		AgentID        fleet.AgentName  `json:"agentId"`
		Session        string           `json:"session"`
		Name           fleet.AgentName  `json:"name"`
		SessionID      string           `json:"sessionId"`
		ConnectionType string           `json:"connectionType"`
		Endpoints      []birgerEndpoint `json:"endpoints"`
		Version        string           `json:"version"`
		Hostname       string           `json:"hostname"`
		ConnectedAt    int64            `json:"connectedAt"`
		LastPing       int64            `json:"lastPing"`
		LastUse        int64            `json:"lastUse"`
		AgentInfo      birgerAgentInfo  `json:"agentInfo"`
	}
	birgerEndpoint struct {
		Name        fleet.ServiceName `json:"name"`
		Type        fleet.ServiceType `json:"type"`
		Configured  bool              `json:"configured"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Namespaces  []string          `json:"namespaces,omitempty"`
	}
	birgerAgentInfo struct {
		Annotations []birgerAnnotation `json:"annotations,omitempty"`
	}
	birgerAnnotation struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

func (a *API) birger() {
	a.birgerCall(http.MethodPost, "generateKubectlComponents", a.kubectlComponents)
	a.birgerCall(http.MethodPost, "generateAgentManifestComponents", a.agentManifest)
	a.birgerCall(http.MethodPost, "generateServiceCredentials", a.serviceCredentials)
	a.birgerCall(http.MethodPost, "generateControlCredentials", a.controlCredentials)
	a.birgerCall(http.MethodGet, "getAgentStatistics", a.agentStatistics)
}

// maxBirger bounds a request's body.
const maxBirger = 64 << 10

// badRequest is an error that the caller can mend.
type badRequest struct{ error }

// birgerCall serves one call. An error of call is the caller's if it is a
// badRequest.
func (a *API) birgerCall(method, name string, call func(context.Context, birgerRequest) (any, error)) {
	a.mux.HandleFunc(prefix+"/"+name, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method {
			w.Header().Set("Allow", method)
			birgerFail(w, http.StatusMethodNotAllowed, fmt.Sprintf("only '%s' is accepted (not '%s')", method, r.Method))
			return
		}
		var caller Caller
		var err error
		if _, _, basic := r.BasicAuth(); basic && a.csrf.Check(r) != nil {
			err = errCrossOrigin // browsers send a password by themselves
		} else {
			caller, err = a.Authenticate(withBirgerToken(r))
		}
		record, status := begin(r, name, caller), http.StatusOK
		defer func() { a.audited(record, status) }()
		birgerFail := func(w http.ResponseWriter, s int, text string) {
			status = s
			birgerFail(w, s, text)
		}
		if err != nil {
			status, text := a.refusal(r.Context(), err)
			birgerFail(w, status, text)
			return
		}
		if err := caller.may(pki.Admin, false); err != nil {
			birgerFail(w, http.StatusForbidden, err.Error())
			return
		}
		var req birgerRequest
		if method == http.MethodPost {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBirger)).Decode(&req); err != nil {
				if errors.Is(err, io.EOF) {
					err = errors.New("the body is empty")
				}
				birgerFail(w, http.StatusBadRequest, fmt.Sprintf("the body isn't the JSON that it should be: %v", err))
				return
			}
		}
		record.Agent = req.AgentName
		if req.Name != "" {
			record.Details = map[string]string{"type": req.Type, "name": req.Name}
		}
		answer, err := call(r.Context(), req)
		if bad := (badRequest{}); errors.As(err, &bad) {
			birgerFail(w, http.StatusBadRequest, err.Error())
			return
		}
		if err != nil {
			a.cfg.Logger.ErrorContext(r.Context(), name, "error", err)
			birgerFail(w, http.StatusInternalServerError, "the hub couldn't do it; its log says why")
			return
		}
		if method == http.MethodPost {
			a.cfg.Logger.InfoContext(r.Context(), "credential created", "call", name, "agent", req.AgentName, "service", req.Type+"/"+req.Name, "by", caller.String())
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	})
}

// withBirgerToken puts a token from where Birger's clients may have it to
// where Authenticate looks.
func withBirgerToken(r *http.Request) *http.Request {
	token := r.Header.Get("X-Opsmx-Token")
	if _, password, ok := r.BasicAuth(); ok && token == "" {
		token = password
	}
	if token == "" {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func birgerFail(w http.ResponseWriter, status int, message string) {
	var body struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	body.Error.Message = "Unable to process request: " + message
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="reeve"`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// valid reports the first name of a call's request that is wrong.
func valid(checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return badRequest{err}
		}
	}
	return nil
}

// member says which member of the request err is about.
func member(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("'%s' is invalid: %w", name, err)
}

func in64(pem []byte) string { return base64.StdEncoding.EncodeToString(pem) }

func (a *API) kubectlComponents(_ context.Context, r birgerRequest) (any, error) {
	agent, name := fleet.AgentName(r.AgentName), fleet.ServiceName(r.Name)
	if err := valid(member("agentName", agent.Validate()), member("name", name.Validate())); err != nil {
		return nil, err
	}
	cert, key, err := a.cfg.CA.NewCredential(pki.Identity{Purpose: pki.Service, Agent: agent, Type: fleet.Kubernetes, Name: r.Name}, pki.ServiceLife)
	if err != nil {
		return nil, err
	}
	token, err := a.cfg.CA.IssueServiceToken(agent, fleet.Kubernetes, name, pki.ServiceLife)
	return birgerKubectl{
		AgentName: r.AgentName, Name: r.Name, ServerURL: a.cfg.ServicesURL, UserCertificate: in64(cert), UserKey: in64(key),
		CACert: in64(a.cfg.CA.CertPEM()), Token: token,
	}, err
}

// agentManifest gives an agent both ways to begin: a certificate, and a token
// to join with. Both are good for pki.AgentLife; once it has joined the agent
// renews by itself.
func (a *API) agentManifest(ctx context.Context, r birgerRequest) (any, error) {
	agent := fleet.AgentName(r.AgentName)
	err := agent.Validate()
	if agent == fleet.HubAgent {
		err = errors.New("it is the name of the hub's own services")
	}
	if err := valid(member("agentName", err)); err != nil {
		return nil, err
	}
	cert, key, err := a.cfg.CA.NewCredential(pki.Identity{Purpose: pki.Agent, Agent: agent}, pki.AgentLife)
	if err != nil {
		return nil, err
	}
	t, token, err := a.cfg.CA.NewJoinToken(agent, pki.AgentLife)
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Tokens.CreateToken(ctx, t); err != nil {
		return nil, err
	}
	hub, err := url.Parse(a.cfg.PublicURL)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(cmp.Or(hub.Port(), "443"), 10, 16)
	return birgerManifest{
		AgentName: r.AgentName, ServerHostname: hub.Hostname(), ServerPort: uint16(port), AgentVersion: a.cfg.Version,
		AgentCertificate: in64(cert), AgentKey: in64(key), CACert: in64(a.cfg.CA.CertPEM()), AgentToken: token,
	}, err
}

func (a *API) serviceCredentials(_ context.Context, r birgerRequest) (any, error) {
	agent, typ, name := fleet.AgentName(r.AgentName), fleet.ServiceType(r.Type), fleet.ServiceName(r.Name)
	if err := valid(member("agentName", agent.Validate()), member("type", typ.Validate()), member("name", name.Validate())); err != nil {
		return nil, err
	}
	out := birgerService{
		AgentName: r.AgentName, Name: r.Name, Type: r.Type, URL: a.cfg.ServicesURL, CACert: in64(a.cfg.CA.CertPEM()),
	}
	if typ == pki.AWS {
		key, secret, err := a.cfg.CA.NewAWSCredential(agent, name, pki.ServiceLife)
		out.CredentialType, out.Credential = "aws", birgerAWS{key, secret}
		return out, err
	}
	token, err := a.cfg.CA.IssueServiceToken(agent, typ, name, pki.ServiceLife)
	out.CredentialType, out.Credential = "basic", birgerBasic{r.Name + "." + r.AgentName, token}
	return out, err
}

func (a *API) controlCredentials(ctx context.Context, r birgerRequest) (any, error) {
	if err := valid(member("name", fleet.ServiceName(r.Name).Validate())); err != nil {
		return nil, err
	}
	cert, key, err := a.cfg.CA.NewCredential(pki.Identity{Purpose: pki.Control, Name: r.Name}, pki.ControlLife)
	if err != nil {
		return nil, err
	}
	t, token, err := pki.NewToken(pki.API, r.Name, pki.Admin.Everywhere(), pki.ControlLife)
	if err != nil {
		return nil, err
	}
	return birgerControl{
		Name: r.Name, URL: a.cfg.PublicURL, UserCertificate: in64(cert), UserKey: in64(key), CACert: in64(a.cfg.CA.CertPEM()), Token: token,
	}, a.cfg.Tokens.CreateToken(ctx, t)
}

func (a *API) agentStatistics(ctx context.Context, _ birgerRequest) (any, error) {
	members, err := a.cfg.Fleet.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := birgerStatistics{ServerTime: time.Now().UnixMilli(), Version: a.cfg.Version, ConnectedAgents: []birgerAgent{}}
	for _, m := range members {
		if m.Session == "" {
			continue
		}
		agent := birgerAgent{
			AgentID: m.Agent, Name: m.Agent, Session: m.Session, SessionID: m.Session, ConnectionType: "direct",
			Endpoints: []birgerEndpoint{}, Version: m.Version, Hostname: m.Hostname,
			ConnectedAt: m.Connected.UnixMilli(), LastPing: m.LastSeen.UnixMilli(), LastUse: m.LastSeen.UnixMilli(),
		}
		for _, s := range m.Services {
			agent.Endpoints = append(agent.Endpoints, birgerEndpoint{s.Name, s.Type, true, s.Annotations, s.Namespaces})
		}
		for _, name := range slices.Sorted(maps.Keys(m.Annotations)) {
			agent.AgentInfo.Annotations = append(agent.AgentInfo.Annotations, birgerAnnotation{name, m.Annotations[name]})
		}
		out.ConnectedAgents = append(out.ConnectedAgents, agent)
	}
	return out, nil
}
