// Package dtrack sends SBOMs to a Dependency-Track (https://dependencytrack.org),
// by POST /api/v1/bom of its REST API. Each service has a project there, by its
// environment, which Dependency-Track creates when its first SBOM comes; an SBOM
// replaces what the project had.
//
// The API key needs the permissions BOM_UPLOAD and, unless projects are made by
// hand, PROJECT_CREATION_UPLOAD. It is read for each SBOM, and sent to the
// configured address only: no redirect is followed.
package dtrack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/template"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
)

// Config says where Dependency-Track is, and what projects are called there.
type Config struct {
	// URL is where its API is, without /api; http:// only to this machine, or
	// with Insecure.
	URL        string `yaml:"url"`
	APIKeyFile string `yaml:"apiKeyFile"`
	// CAFile verifies the server; empty: the system's CAs do.
	CAFile   string `yaml:"caFile"`
	Insecure bool   `yaml:"insecure"`
	// Project and Version are templates of the names; see Names.
	Project string `yaml:"project"`
	Version string `yaml:"version"`
	// ExistingOnly: projects that aren't there aren't made.
	ExistingOnly bool `yaml:"existingOnly"`
}

// The names of projects where the configuration has none: the service in its
// project and environment, or in its namespace and cluster.
const (
	DefaultProject = "{{or .Project .Namespace}}/{{.Service}}"
	DefaultVersion = "{{or .Environment .Agent}}"
)

// Names are what a template may say.
type Names struct{ Agent, Namespace, Project, Environment, Service, Build string }

const (
	maxName   = 255 // bytes of a project's name or version, in Dependency-Track
	maxAnswer = 64 << 10
)

// Client sends to one Dependency-Track.
type Client struct {
	cfg              Config
	endpoint         string
	project, version *template.Template
	http             *http.Client
}

// Validate reports what is wrong, without reading files.
func (c Config) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("url: must be https://HOST[:PORT]")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("url: must be https://HOST[:PORT], without a user or a query; the key is in apiKeyFile")
	case u.Scheme == "http" && !c.Insecure && !loopback(u.Hostname()):
		return errors.New("url: http:// would send the API key in the clear; use https://, or say insecure: true")
	case c.APIKeyFile == "":
		return errors.New("apiKeyFile: is missing: a key of a team with the permissions BOM_UPLOAD and PROJECT_CREATION_UPLOAD")
	}
	_, _, err = c.templates()
	return err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c Config) templates() (project, version *template.Template, err error) {
	read := func(key, text, otherwise string) (*template.Template, error) {
		t, err := template.New(key).Parse(cmp.Or(text, otherwise))
		if err == nil {
			err = t.Execute(io.Discard, Names{})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		return t, nil
	}
	if project, err = read("project", c.Project, DefaultProject); err != nil {
		return nil, nil, err
	}
	version, err = read("version", c.Version, DefaultVersion)
	return project, version, err
}

// New makes a client.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, endpoint: strings.TrimSuffix(cfg.URL, "/") + "/api/v1/bom"}
	var err error
	if c.project, c.version, err = cfg.templates(); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if cfg.CAFile != "" {
		text, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("caFile %s: has no certificate in PEM", cfg.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if _, err := c.key(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) key() (string, error) {
	text, err := os.ReadFile(c.cfg.APIKeyFile)
	if err != nil {
		return "", fmt.Errorf("apiKeyFile: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if key == "" || strings.ContainsAny(key, "\r\n") {
		return "", fmt.Errorf("apiKeyFile %s: must hold one line with the key", c.cfg.APIKeyFile)
	}
	return key, nil
}

// Destination is the project of an environment's service. Its error says that
// the templates don't fit.
func (c *Client) Destination(cluster fleet.AgentName, env insight.Environment, service, build string) (*insight.Destination, error) {
	names := Names{string(cluster), env.Namespace, env.Project, env.Name, service, build}
	var project, version bytes.Buffer
	if err := c.project.Execute(&project, names); err != nil {
		return nil, fmt.Errorf("dependencyTrack.project: %w", err)
	}
	if err := c.version.Execute(&version, names); err != nil {
		return nil, fmt.Errorf("dependencyTrack.version: %w", err)
	}
	d := &insight.Destination{Project: name(project.String()), Version: name(version.String())}
	if d.Project == "" {
		return nil, nil // the templates leave it out
	}
	return d, nil
}

// name is a text as long as Dependency-Track takes.
func name(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return s
}

// Send uploads an SBOM; it is insight.Exporter's Send.
func (c *Client) Send(ctx context.Context, e insight.Export, sbom io.Reader) error {
	head := make([]byte, 4<<10)
	n, err := io.ReadFull(sbom, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	head = head[:n]
	media := "application/json"
	if bytes.HasPrefix(bytes.TrimLeft(head, "\xef\xbb\xbf \t\r\n"), []byte("<")) {
		media = "application/xml"
	}
	key, err := c.key()
	if err != nil {
		return &insight.LaterError{Err: err}
	}
	body, w := io.Pipe()
	form := multipart.NewWriter(w)
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.CloseWithError(c.write(form, e, media, io.MultiReader(bytes.NewReader(head), sbom)))
	}()
	defer func() { body.Close(); <-written }() // sbom isn't read any more
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("X-Api-Key", key)
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return &insight.LaterError{Err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &insight.LaterError{Err: err}
	}
	return judge(resp, text)
}

func (c *Client) write(form *multipart.Writer, e insight.Export, media string, sbom io.Reader) error {
	tags := []string{"agent:" + string(e.Cluster)}
	if e.Environment.Namespace != "" {
		tags = append(tags, "namespace:"+e.Environment.Namespace)
	}
	for _, field := range [][2]string{
		{"autoCreate", strconv.FormatBool(!c.cfg.ExistingOnly)},
		{"projectName", e.Project},
		{"projectVersion", e.Version},
		{"projectTags", strings.Join(tags, ",")},
	} {
		if field[1] == "" {
			continue
		}
		if err := form.WriteField(field[0], field[1]); err != nil {
			return err
		}
	}
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="bom"; filename="bom"`}, "Content-Type": {media},
	})
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, sbom); err != nil {
		return err
	}
	return form.Close()
}

// judge says what an answer means. Text is what the server says of it.
func judge(resp *http.Response, text []byte) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		var answer struct {
			Token string `json:"token"`
		}
		if json.Unmarshal(text, &answer) != nil || answer.Token == "" {
			return &insight.LaterError{Err: errors.New("Dependency-Track's answer has no token: is the URL that of its API server?")}
		}
		return nil
	case code == http.StatusBadRequest, code == http.StatusNotFound && len(text) > 0 && !isHTML(text), code == http.StatusRequestEntityTooLarge,
		code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return &insight.RefusedError{Reason: "Dependency-Track: " + resp.Status + reason(text)}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return later(resp, "the API key isn't known, or its team lacks BOM_UPLOAD, PROJECT_CREATION_UPLOAD or access to the project: ", text)
	case code >= 300 && code < 400:
		return later(resp, "it redirects, which isn't followed; give its own URL: ", nil)
	default: // also 404 by a proxy, 409 where two create one project
		return later(resp, "", text)
	}
}

func later(resp *http.Response, hint string, text []byte) error {
	out := &insight.LaterError{Err: fmt.Errorf("Dependency-Track: %s%s%s", hint, resp.Status, reason(text))}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		out.After = min(time.Duration(s)*time.Second, time.Hour)
	}
	return out
}

func isHTML(text []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte("<")) }

// reason is what an answer says: its problem's detail (RFC 9457) or its text.
func reason(text []byte) string {
	var problem struct {
		Title, Detail string
		Errors        []string
	}
	said := string(text)
	if json.Unmarshal(text, &problem) == nil && problem.Title != "" {
		said = strings.Join(append([]string{problem.Title + ": " + problem.Detail}, problem.Errors...), "; ")
	}
	said = strings.TrimSpace(strings.ToValidUTF8(said, "\uFFFD"))
	if said == "" || isHTML(text) {
		return ""
	}
	const most = 500
	if len(said) > most {
		said = strings.ToValidUTF8(said[:most], "") + "…"
	}
	return ": " + said
}
