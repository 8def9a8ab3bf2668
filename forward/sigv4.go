package forward

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AWS's Signature Version 4, as a server checks it. See "Create a signed AWS
// API request" in the IAM User Guide.
const (
	sigV4          = "AWS4-HMAC-SHA256"
	amzTime        = "20060102T150405Z"
	amzDate        = "X-Amz-Date"
	amzContentHash = "X-Amz-Content-Sha256"
	amzToken       = "X-Amz-Security-Token"
	// amzSkew is how far a caller's clock may be off, as AWS has it.
	amzSkew = 15 * time.Minute
	// maxUnhashed bounds the body of a request whose sender didn't say its
	// hash: it is collected to find out.
	maxUnhashed = 16 << 20
)

// awsScope is what a signature is for.
type awsScope struct{ date, region, service string }

// awsSignature is what an Authorization of SigV4 says.
type awsSignature struct {
	accessKey string
	scope     awsScope
	headers   []string
	signature []byte
}

// signedForAWS reports whether a request is an AWS client's.
func signedForAWS(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), sigV4+" ")
}

func parseAWS(authorization string) (s awsSignature, err error) {
	bad := fmt.Errorf("%w: the signature isn't %s as AWS defines it", ErrUnauthenticated, sigV4)
	rest, ok := strings.CutPrefix(authorization, sigV4+" ")
	if !ok {
		return s, bad
	}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "Credential":
			c := strings.Split(value, "/")
			if len(c) != 5 || c[4] != "aws4_request" {
				return s, bad
			}
			s.accessKey, s.scope = c[0], awsScope{c[1], c[2], c[3]}
		case "SignedHeaders":
			s.headers = strings.Split(value, ";")
		case "Signature":
			if s.signature, err = hex.DecodeString(value); err != nil {
				return s, bad
			}
		}
	}
	if s.accessKey == "" || len(s.headers) == 0 || len(s.signature) != sha256.Size || !slices.Contains(s.headers, "host") {
		return s, bad
	}
	return s, nil
}

// AWSKeys answers whose an AWS access key is, and the secret that belongs to
// it. An error is one that the caller may be told.
type AWSKeys func(accessKey string) (c Caller, secret string, err error)

// VerifyAWS finds out who signed a request with SigV4; ok is false for a
// request that isn't signed so. The signature may be for the host that the
// request was sent to, or for the one that it says it was meant for, as
// Birger's callers do. The body is checked against its hash as it is read, and
// collected beforehand only where the client didn't send the hash.
func VerifyAWS(r *http.Request, keys AWSKeys) (c Caller, ok bool, err error) {
	if !signedForAWS(r) {
		return Caller{}, false, nil
	}
	s, err := parseAWS(r.Header.Get("Authorization"))
	if err != nil {
		return Caller{}, true, err
	}
	at, err := time.Parse(amzTime, r.Header.Get(amzDate))
	switch off := time.Since(at); {
	case err != nil || at.Format("20060102") != s.scope.date:
		return Caller{}, true, fmt.Errorf("%w: %s is missing or not the signature's", ErrUnauthenticated, amzDate)
	case off > amzSkew || off < -amzSkew:
		return Caller{}, true, fmt.Errorf("%w: the request was signed at %s, by the caller's clock; it must be within %v of the hub's", ErrUnauthenticated, at.Format(time.RFC3339), amzSkew)
	}
	c, secret, err := keys(s.accessKey)
	if err != nil {
		return Caller{}, true, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	payload := r.Header.Get(amzContentHash)
	if payload != "" && !slices.Contains(s.headers, strings.ToLower(amzContentHash)) {
		return Caller{}, true, fmt.Errorf("%w: %s isn't among the signed headers", ErrUnauthenticated, amzContentHash)
	}
	var collected []byte
	if payload == "" {
		// Not before the key is known to be one of the hub's: who has none
		// has nothing collected.
		if collected, err = io.ReadAll(io.LimitReader(r.Body, maxUnhashed+1)); err != nil {
			return Caller{}, true, fmt.Errorf("%w: the body didn't arrive whole", ErrUnauthenticated)
		}
		if len(collected) > maxUnhashed {
			return Caller{}, true, fmt.Errorf("%w: a body of more than %d bytes must come with its hash in %s", ErrUnauthenticated, maxUnhashed, amzContentHash)
		}
		payload = hexSum(collected)
	}
	if !s.matches(r, secret, at, payload) {
		return Caller{}, true, fmt.Errorf("%w: the signature isn't that of access key %.40s…", ErrUnauthenticated, s.accessKey)
	}
	switch {
	case collected != nil:
		r.Body = io.NopCloser(bytes.NewReader(collected))
		r.Header.Set(amzContentHash, payload) // for who signs it again
	case len(payload) == 2*sha256.Size:
		r.Body = &hashedBody{r.Body, sha256.New(), payload}
	}
	return c, true, nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// matches tries the forms of a request that clients sign: they don't agree on
// how the path is tidied up and escaped, nor which host is meant.
func (s awsSignature) matches(r *http.Request, secret string, at time.Time, payload string) bool {
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.scope.date, s.scope.region, s.scope.service, "aws4_request"} {
		key = mac(key, part)
	}
	hosts := []string{r.Host}
	if host := r.Header.Get(originalHost); host != "" {
		hosts = append(hosts, host)
		if port := r.Header.Get(originalPort); port != "" {
			hosts = append(hosts, host+":"+port)
		}
	}
	escaped := r.URL.EscapedPath()
	tidy := path.Clean("/" + escaped)
	if strings.HasSuffix(escaped, "/") && tidy != "/" {
		tidy += "/"
	}
	paths := []string{amzEscape(escaped, true), amzEscape(tidy, true), amzEscape(r.URL.Path, true), escaped}
	query := amzQuery(r.URL.RawQuery)
	scope := strings.Join([]string{s.scope.date, s.scope.region, s.scope.service, "aws4_request"}, "/")
	for _, host := range hosts {
		headers := s.canonicalHeaders(r, host)
		for _, p := range slices.Compact(paths) {
			canonical := strings.Join([]string{r.Method, p, query, headers, strings.Join(s.headers, ";"), payload}, "\n")
			text := strings.Join([]string{sigV4, at.Format(amzTime), scope, hexSum([]byte(canonical))}, "\n")
			if hmac.Equal(mac(key, text), s.signature) {
				return true
			}
		}
	}
	return false
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (s awsSignature) canonicalHeaders(r *http.Request, host string) string {
	var b strings.Builder
	for _, name := range s.headers {
		b.WriteString(name)
		b.WriteByte(':')
		switch name {
		case "host":
			b.WriteString(host)
		case "content-length":
			b.WriteString(strconv.FormatInt(max(r.ContentLength, 0), 10))
		case "transfer-encoding":
			b.WriteString(strings.Join(r.TransferEncoding, ","))
		default:
			for i, v := range r.Header.Values(name) {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(strings.Join(strings.Fields(v), " "))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// amzEscape is AWS's UriEncode.
func amzEscape(s string, keepSlash bool) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0, c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', upper[c>>4], upper[c&15]})
		}
	}
	if b.Len() == 0 && keepSlash {
		return "/"
	}
	return b.String()
}

func amzQuery(raw string) string {
	var pairs []string
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		pairs = append(pairs, amzEscape(unescaped(k), false)+"="+amzEscape(unescaped(v), false))
	}
	slices.SortFunc(pairs, func(a, b string) int {
		ak, av, _ := strings.Cut(a, "=")
		bk, bv, _ := strings.Cut(b, "=")
		if c := strings.Compare(ak, bk); c != 0 {
			return c
		}
		return strings.Compare(av, bv)
	})
	return strings.Join(pairs, "&")
}

func unescaped(s string) string {
	if v, err := url.QueryUnescape(s); err == nil {
		return v
	}
	return s
}

var errBodyHash = errors.New("the body isn't what its signature is for")

// hashedBody fails at its end unless it has the hash that was signed.
type hashedBody struct {
	io.ReadCloser
	sum  hash.Hash
	want string
}

func (b *hashedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && subtle.ConstantTimeCompare([]byte(hex.EncodeToString(b.sum.Sum(nil))), []byte(b.want)) == 0 {
		return n, errBodyHash
	}
	return n, err
}
