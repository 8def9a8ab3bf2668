// Package fetch gets the profiles that a profile depends on by url or git. It
// needs no git: forges give any revision as an archive.
//
// What was got is kept in a folder and asked for anew each time, so that it is
// never out of date: an answer of "not modified" costs no download. A revision
// that is a whole commit can't change, and isn't asked for again.
package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"reeve.dev/reeve/inspec"
)

// A Fetcher gets dependencies. Several goroutines may use it, and several
// processes one Cache.
type Fetcher struct {
	// Transport makes the requests; nil: http.DefaultTransport.
	Transport http.RoundTripper
	// Cache is the folder to keep archives in; empty: none.
	Cache string
	// Started, if set, is called with each address before it is asked.
	Started func(address string)
}

// errStatus is an answer that isn't the archive.
type errStatus struct{ status string }

func (e errStatus) Error() string { return "the answer was " + e.status }

// Fetch gets the archive of a dependency; it is meant for
// inspec.LoadFetching. An address must be https.
func (f *Fetcher) Fetch(ctx context.Context, d inspec.Dependency) ([]byte, error) {
	addresses, pinned, err := Addresses(d)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addresses {
		data, err := f.get(ctx, a, pinned)
		if err == nil {
			return data, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", a, err))
		var status errStatus
		if !errors.As(err, &status) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

var commit = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Addresses are where the archive of a dependency may be, in the order to ask.
// pinned reports that it can't change.
func Addresses(d inspec.Dependency) (addresses []string, pinned bool, err error) {
	source := d.URL
	if d.Git != "" {
		source = scpLike.ReplaceAllString(d.Git, "https://$1/")
		source = strings.Replace(source, "ssh://git@", "https://", 1)
		source = strings.Replace(source, "git://", "https://", 1)
	}
	u, err := url.Parse(source)
	switch {
	case err != nil || u.Host == "":
		return nil, false, fmt.Errorf("%q is no address: give an https:// one", source)
	case u.Scheme != "https":
		return nil, false, fmt.Errorf("%s is fetched by https only", u.Redacted())
	case u.User != nil:
		return nil, false, fmt.Errorf("%s must not hold a password: put the profile below vendor/", u.Redacted())
	}
	if d.Git != "" {
		ref := first(d.Ref, d.Tag, d.Branch, "HEAD")
		return archives(u, ref), commit.MatchString(ref), nil
	}
	// The page of a repository stands for its archive, as in InSpec.
	if m := repository.FindStringSubmatch(u.Path); m != nil && (u.Host == "github.com" || u.Host == "www.github.com") {
		page := *u
		page.Host, page.Path = "github.com", m[1]
		return archives(&page, first(m[2], "HEAD")), commit.MatchString(m[2]), nil
	}
	return []string{u.String()}, d.SHA256 != "", nil
}

var (
	scpLike    = regexp.MustCompile(`^git@([^:/]+):`)
	repository = regexp.MustCompile(`^(/[^/]+/[^/]+?)(?:\.git)?/?(?:/(?:tree|commit)/([^/]+)/?)?$`)
)

// archives are where forges offer a revision of a repository.
func archives(u *url.URL, ref string) []string {
	base := *u
	base.RawQuery, base.Fragment = "", ""
	base.Path = strings.TrimSuffix(strings.TrimSuffix(base.Path, "/"), ".git")
	name := base.Path[strings.LastIndexByte(base.Path, '/')+1:]
	root, ref := base.String(), url.PathEscape(ref)
	plain := root + "/archive/" + ref + ".tar.gz" // GitHub, Gitea, Forgejo
	gitlab := root + "/-/archive/" + ref + "/" + name + ".tar.gz"
	bitbucket := root + "/get/" + ref + ".tar.gz"
	switch {
	case u.Host == "github.com" || u.Host == "codeberg.org":
		return []string{plain}
	case u.Host == "bitbucket.org":
		return []string{bitbucket}
	case strings.Contains(u.Host, "gitlab"):
		return []string{gitlab}
	}
	return []string{gitlab, plain, bitbucket}
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func (f *Fetcher) get(ctx context.Context, address string, pinned bool) ([]byte, error) {
	kept, tag := f.kept(address)
	if kept != nil && pinned {
		return kept, nil
	}
	if f.Started != nil {
		f.Started(address)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if kept != nil && tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	resp, err := f.client().Do(req)
	if err != nil {
		return nil, reason(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && kept != nil:
		return kept, nil
	case resp.StatusCode != http.StatusOK:
		return nil, errStatus{resp.Status}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, inspec.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > inspec.MaxBytes {
		return nil, fmt.Errorf("larger than %d MiB", inspec.MaxBytes>>20)
	}
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) && !bytes.HasPrefix(data, []byte("PK")) && !(len(data) > 262 && string(data[257:262]) == "ustar") {
		return nil, errStatus{resp.Status + ", but it is no archive"}
	}
	f.keep(address, resp.Header.Get("ETag"), data)
	return data, nil
}

// reason takes the address out of a request's error: the caller says it.
func reason(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// client follows redirections to https alone, as a forge sends one on to its
// store.
func (f *Fetcher) client() *http.Client {
	return &http.Client{
		Transport: f.Transport,
		Timeout:   2 * time.Minute,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Scheme != "https" || len(via) >= 10 {
				return fmt.Errorf("redirected to %s: only https is followed, ten times", req.URL.Redacted())
			}
			return nil
		},
	}
}

// A kept archive begins with a line of its digest and the server's tag, so
// that one that was cut off, or written by another process at the same time,
// is known and ignored.
func (f *Fetcher) file(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(f.Cache, hex.EncodeToString(sum[:])+".archive")
}

func (f *Fetcher) kept(address string) (data []byte, tag string) {
	if f.Cache == "" {
		return nil, ""
	}
	text, err := os.ReadFile(f.file(address))
	if err != nil {
		return nil, ""
	}
	head, data, _ := bytes.Cut(text, []byte("\n"))
	digest, tag, _ := strings.Cut(string(head), " ")
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != digest {
		return nil, ""
	}
	return data, tag
}

// keep does its best: without it the archive is got again.
func (f *Fetcher) keep(address, tag string, data []byte) {
	if f.Cache == "" || strings.ContainsAny(tag, "\r\n") {
		return
	}
	if err := os.MkdirAll(f.Cache, 0o700); err != nil {
		return
	}
	tmp, err := os.CreateTemp(f.Cache, ".new-*")
	if err != nil {
		return
	}
	defer os.Remove(tmp.Name())
	sum := sha256.Sum256(data)
	_, err = fmt.Fprintf(tmp, "%s %s\n", hex.EncodeToString(sum[:]), tag)
	if err == nil {
		_, err = tmp.Write(data)
	}
	if cerr := tmp.Close(); err == nil && cerr == nil {
		_ = os.Rename(tmp.Name(), f.file(address))
	}
}
