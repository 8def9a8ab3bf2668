package forward

import (
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
)

// maxSecret bounds a file with a password or token.
const maxSecret = 64 << 10

// authorize answers what puts c onto a request, or nil when nothing is to be
// put on it.
func (c Credentials) authorize() func(*http.Request) error {
	var value func() (string, error)
	switch c.Type {
	case "basic":
		password := secret(c.PasswordFile, c.PasswordEnv)
		value = func() (string, error) {
			p, err := password()
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+p)), err
		}
	case "bearer", "token":
		scheme := map[string]string{"bearer": "Bearer ", "token": "token "}[c.Type]
		token := secret(c.TokenFile, c.TokenEnv)
		value = func() (string, error) {
			t, err := token()
			return scheme + t, err
		}
	default:
		return nil
	}
	return func(r *http.Request) error {
		v, err := value()
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", v)
		return nil
	}
}

// secret reads a secret, without the line's end that editors leave, from the
// environment once or from a file whenever that has changed.
func secret(file, env string) func() (string, error) {
	if file == "" {
		v := os.Getenv(env)
		return func() (string, error) { return v, nil }
	}
	return reloaded(func() (string, error) {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
		if err != nil {
			return "", err
		}
		v := strings.TrimRight(string(b), "\r\n")
		if v == "" || len(b) > maxSecret || strings.ContainsAny(v, "\r\n") {
			return "", fmt.Errorf("%s must hold one secret on one line", file)
		}
		return v, nil
	}, file)
}

// keyPair answers c's client certificate, as it is on the disk.
func (c Credentials) keyPair() func() (*tls.Certificate, error) {
	return reloaded(func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate %s: %w", c.CertFile, err)
		}
		return &pair, nil
	}, c.CertFile, c.KeyFile)
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
