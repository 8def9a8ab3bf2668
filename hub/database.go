package hub

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/blob"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/sqlite"
)

// DocumentsConfig says where replicas keep their documents together: in a
// folder, or in object storage with an s3:// URL.
type DocumentsConfig struct {
	Dir string `yaml:"dir"`
	URL string `yaml:"url"`
}

// passwordIn finds a password in a connection string that isn't a URL.
var passwordIn = regexp.MustCompile(`(?i)\bpassword\s*=`)

// validateReplicas reports what is wrong with what a hub of several replicas
// needs.
func (c Config) validateReplicas() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	d := c.Database
	if d.URL == "" {
		if d.PasswordFile != "" || d.PasswordEnv != "" {
			bad("database.url: it is missing, though a password is there")
		}
		if c.Documents != (DocumentsConfig{}) {
			bad("documents: it is for a hub with database.url; without, documents are in dataDir")
		}
		return errs
	}
	// The URL isn't shown: it may hold the password.
	u, err := url.Parse(d.URL)
	switch {
	case err != nil:
		bad("database.url: it must be postgres://USER@HOST:PORT/DATABASE")
	case u.User != nil && hasPassword(u), u.Query().Has("password"), passwordIn.MatchString(d.URL):
		bad("database.url: a password must not be in it; name a file with it in database.passwordFile, or a variable in database.passwordEnv")
	}
	if d.PasswordFile != "" && d.PasswordEnv != "" {
		bad("database: passwordFile and passwordEnv are both there; keep one")
	}
	if d.MaxConnections < 2 {
		bad("database.maxConnections %d: it must be at least 2", d.MaxConnections)
	}
	switch at := c.Documents; {
	case at.URL != "" && at.Dir != "":
		bad("documents: dir and url are both there; keep one")
	case at.URL != "":
		if err := blob.ValidateBucketURL(at.URL); err != nil {
			bad("documents.url: %w", err)
		}
	case at.Dir == "":
		bad("documents: with database.url, url must name object storage (s3://BUCKET?region=REGION), or dir a folder that all replicas share, such as a volume of the kind ReadWriteMany")
	}
	if _, _, err := net.SplitHostPort(c.Listen.Replicas); err != nil {
		bad("listen.replicas %q: it must be HOST:PORT or :PORT", c.Listen.Replicas)
	}
	if a := c.Replica.Address; a != "" {
		if host, port, err := net.SplitHostPort(a); net.ParseIP(a) == nil && (err != nil || host == "" || port == "") {
			bad("replica.address %q: it must be HOST:PORT, or an IP address alone", a)
		}
	}
	return errs
}

func hasPassword(u *url.URL) bool {
	_, ok := u.User.Password()
	return ok
}

func openStore(ctx context.Context, cfg Config, log *slog.Logger) (*store.Store, error) {
	if cfg.Database.URL == "" {
		return sqlite.Open(ctx, filepath.Join(cfg.DataDir, "reeve.db"), log)
	}
	s, err := postgres.Open(ctx, cfg.postgres(), log)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return s, nil
}

// postgres is the database that replicas share.
func (c Config) postgres() postgres.Config {
	return postgres.Config{
		URL: c.Database.URL, Password: c.Database.password(), Connections: c.Database.MaxConnections,
		Documents: c.Documents.Dir, Bucket: c.Documents.URL, Scratch: c.DataDir,
	}
}

// password reads the password anew for each connection; nil where it is left
// to libpq's ways.
func (d DatabaseConfig) password() func() (string, error) {
	switch {
	case d.PasswordFile != "":
		return func() (string, error) {
			text, err := os.ReadFile(d.PasswordFile)
			if err != nil {
				return "", fmt.Errorf("database.passwordFile: %w", err)
			}
			return strings.TrimRight(string(text), "\r\n"), nil
		}
	case d.PasswordEnv != "":
		return func() (string, error) {
			text, ok := os.LookupEnv(d.PasswordEnv)
			if !ok {
				return "", fmt.Errorf("database.passwordEnv: the variable %s isn't set", d.PasswordEnv)
			}
			return text, nil
		}
	}
	return nil
}

// openReplicas listens for the other replicas, and has agents asked by them.
func (h *Hub) openReplicas(cfg Config, version string) (net.Listener, error) {
	l, err := h.listen("replicas", cfg.Listen.Replicas)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("replica.address: it isn't set, and the host has no name: %w", err)
		}
	}
	address := cmp.Or(cfg.Replica.Address, net.JoinHostPort(host, port))
	if net.ParseIP(address) != nil { // as Kubernetes tells a pod its own
		address = net.JoinHostPort(address, port)
	}
	if h.replicas, err = openReplicas(cfg.DataDir, address, h.ca, h.links, version, h.log.With("component", "replicas")); err != nil {
		return nil, err
	}
	h.agents, h.addrs.Replicas = h.replicas, l.Addr()
	return l, nil
}
