package forward

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// maxSecret bounds a file with a password or token.
const maxSecret = 64 << 10

// source answers a secret as it is now.
type source func(context.Context) (string, error)

// authorize answers what puts c onto a request, or nil when nothing is to be
// put on it; and what to call when the service refuses it.
func (c Credentials) authorize(secrets Secrets) (authorize func(*http.Request) error, changed func()) {
	changed = func() {}
	if c.SecretName != "" {
		changed = func() { secrets.Changed(c.SecretNamespace, c.SecretName) }
	}
	var value source
	switch c.Type {
	case "basic":
		username, password := fixedSource(c.Username), c.secret(secrets, c.PasswordFile, c.PasswordEnv, "password")
		if c.Username == "" {
			username = fromSecret(secrets, c.SecretNamespace, c.SecretName, "username")
		}
		value = func(ctx context.Context) (string, error) {
			u, err := username(ctx)
			if err != nil {
				return "", err
			}
			p, err := password(ctx)
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(u+":"+p)), err
		}
	case "bearer", "token":
		scheme := map[string]string{"bearer": "Bearer ", "token": "token "}[c.Type]
		token := c.secret(secrets, c.TokenFile, c.TokenEnv, "token")
		value = func(ctx context.Context) (string, error) {
			t, err := token(ctx)
			return scheme + t, err
		}
	default:
		return nil, changed
	}
	return func(r *http.Request) error {
		v, err := value(r.Context())
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", v)
		return nil
	}, changed
}

// secret is c's password or token: from where c says that it is.
func (c Credentials) secret(secrets Secrets, file, env, key string) source {
	switch {
	case c.SecretName != "":
		return fromSecret(secrets, c.SecretNamespace, c.SecretName, key)
	case c.held != "":
		return fixedSource(c.held)
	default:
		return fromFile(file, env)
	}
}

func fixedSource(v string) source {
	return func(context.Context) (string, error) { return v, nil }
}

// fromSecret is one key of a Secret.
func fromSecret(secrets Secrets, namespace, name, key string) source {
	return func(ctx context.Context) (string, error) {
		data, err := secrets.Secret(ctx, namespace, name)
		if err != nil {
			return "", err
		}
		v, err := oneLine(data[key])
		if err != nil {
			return "", fmt.Errorf("Secret %s: its key %s %w", name, key, err)
		}
		return v, nil
	}
}

var errOneLine = errors.New("must hold one secret on one line")

// oneLine is a secret without the line's end that editors leave.
func oneLine(b []byte) (string, error) {
	v := strings.TrimRight(string(b), "\r\n")
	if v == "" || len(b) > maxSecret || strings.ContainsAny(v, "\r\n") {
		return "", errOneLine
	}
	return v, nil
}

// fromFile reads a secret from the environment once, or from a file whenever
// that has changed.
func fromFile(file, env string) source {
	if file == "" {
		return fixedSource(os.Getenv(env))
	}
	read := reloaded(func() (string, error) {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
		if err != nil {
			return "", err
		}
		v, err := oneLine(b)
		if err != nil {
			return "", fmt.Errorf("%s %w", file, err)
		}
		return v, nil
	}, file)
	return func(context.Context) (string, error) { return read() }
}

// keyPair answers c's client certificate, as it is now. One on the disk must
// be good already.
func (c Credentials) keyPair(secrets Secrets) (func(context.Context) (*tls.Certificate, error), error) {
	if c.SecretName != "" {
		return func(ctx context.Context) (*tls.Certificate, error) {
			data, err := secrets.Secret(ctx, c.SecretNamespace, c.SecretName)
			if err != nil {
				return nil, err
			}
			pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
			if err != nil {
				return nil, fmt.Errorf("Secret %s: client certificate in %s and %s: %w", c.SecretName, corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
			}
			return &pair, nil
		}, nil
	}
	read := reloaded(func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate %s: %w", c.CertFile, err)
		}
		return &pair, nil
	}, c.CertFile, c.KeyFile)
	if _, err := read(); err != nil {
		return nil, err
	}
	return func(context.Context) (*tls.Certificate, error) { return read() }, nil
}

// reloaded remembers what load answers until one of the files has another
// time or size.
func reloaded[T any](load func() (T, error), files ...string) func() (T, error) {
	type stamp struct {
		at   time.Time
		size int64
	}
	var (
		mu    sync.Mutex // guards what follows
		seen  []stamp
		value T
	)
	return func() (T, error) {
		var now []stamp
		var zero T
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				return zero, err
			}
			now = append(now, stamp{info.ModTime(), info.Size()})
		}
		mu.Lock()
		defer mu.Unlock()
		fresh := len(seen) == len(now)
		for i := range seen {
			fresh = fresh && seen[i] == now[i]
		}
		if fresh {
			return value, nil
		}
		v, err := load()
		if err != nil {
			return zero, err
		}
		seen, value = now, v
		return v, nil
	}
}

// errCredential says that a service's credential can't be had.
var errCredential = errors.New("credential of the service")
