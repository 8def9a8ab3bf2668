package forward

import (
	"bufio"
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

	"golang.org/x/net/http/httpguts"
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

func (s awsScope) String() string {
	return strings.Join([]string{s.date, s.region, s.service, "aws4_request"}, "/")
}

// awsSignature is what an Authorization of SigV4 says, or the query of a
// presigned URL.
type awsSignature struct {
	accessKey string
	scope     awsScope
	headers   []string
	signature []byte
	at        time.Time
	// life is how long a presigned URL is good; 0: the request isn't by one.
	life time.Duration
}

// signedForAWS reports whether a request is an AWS client's. One with a token
// beside a presigned URL is by that token, and the URL for somebody else.
func signedForAWS(r *http.Request) bool {
	if strings.HasPrefix(r.Header.Get("Authorization"), sigV4+" ") {
		return true
	}
	_, token := Token(r)
	return !token && strings.Contains(r.URL.RawQuery, presignedSignature+"=")
}

// signatureOf reads the signature of a request that has one, and makes sure
// that it is of now.
func signatureOf(r *http.Request) (s awsSignature, err error) {
	date := r.Header.Get(amzDate)
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		s, err = parseAWS(authorization)
	} else {
		q := r.URL.Query()
		s, err = parsePresigned(q)
		date = q.Get(amzDate)
	}
	if err != nil {
		return s, err
	}
	s.at, err = time.Parse(amzTime, date)
	switch off := time.Since(s.at); {
	case err != nil || s.at.Format("20060102") != s.scope.date:
		return s, fmt.Errorf("%w: %s is missing or not the signature's", ErrUnauthenticated, amzDate)
	case off < -amzSkew || s.life == 0 && off > amzSkew:
		return s, fmt.Errorf("%w: the request was signed at %s, by the caller's clock; it must be within %v of the hub's", ErrUnauthenticated, s.at.Format(time.RFC3339), amzSkew)
	case s.life > 0 && off > s.life:
		return s, fmt.Errorf("%w: the URL was good until %s; have a new one made", ErrUnauthenticated, s.at.Add(s.life).Format(time.RFC3339))
	}
	return s, nil
}

// The query of a presigned URL, and how long it may be good.
const (
	presignedSignature = "X-Amz-Signature"
	maxPresigned       = 7 * 24 * time.Hour
)

var presignedQuery = []string{
	"X-Amz-Algorithm", "X-Amz-Credential", amzDate, "X-Amz-Expires", "X-Amz-SignedHeaders", presignedSignature, amzToken, amzContentHash,
}

func parsePresigned(q url.Values) (awsSignature, error) {
	// The signature comes first: it alone isn't signed, and whatever it holds
	// beside itself, the others replace.
	s, err := parseAWS(fmt.Sprintf("%s Signature=%s,Credential=%s,SignedHeaders=%s",
		q.Get("X-Amz-Algorithm"), q.Get(presignedSignature), q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders")))
	if err != nil {
		return s, err
	}
	seconds, err := strconv.Atoi(q.Get("X-Amz-Expires"))
	if err != nil || seconds < 1 || seconds > int(maxPresigned/time.Second) {
		return s, fmt.Errorf("%w: X-Amz-Expires must be from 1 to %d seconds", ErrUnauthenticated, int(maxPresigned/time.Second))
	}
	s.life = time.Duration(seconds) * time.Second
	return s, nil
}

// payload is what the signature says of the body; empty: its hash, which isn't
// said.
func (s awsSignature) payload(r *http.Request) string {
	said := r.Header.Get(amzContentHash)
	if said == "" && s.life > 0 {
		said = r.URL.Query().Get(amzContentHash)
		if said == "" && strings.HasPrefix(s.scope.service, "s3") {
			said = unsignedPayload
		}
	}
	return said
}

// covers makes sure that a header which says what AWS does is signed, as AWS
// has it, and that no proxy takes a signed one off. Birger's callers add where
// a request goes after they have signed it; who has a presigned URL doesn't.
func (s awsSignature) covers(h http.Header) error {
	for name := range h {
		says := strings.HasPrefix(name, "X-Amz-") || s.life > 0 && strings.HasPrefix(name, "X-Opsmx-")
		if says && !slices.Contains(s.headers, strings.ToLower(name)) {
			return fmt.Errorf("%w: %s isn't among the signed headers", ErrUnauthenticated, name)
		}
	}
	for _, name := range s.headers {
		if httpguts.HeaderValuesContainsToken(h["Connection"], name) {
			return fmt.Errorf("%w: the header Connection names %.40q, which is signed", ErrUnauthenticated, name)
		}
	}
	return nil
}

// unsign takes out of a presigned URL what the signature was, and has the
// headers say what for.
func (s awsSignature) unsign(r *http.Request) {
	var rest []string
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		if !slices.Contains(presignedQuery, unescaped(name)) {
			rest = append(rest, part)
		}
	}
	r.URL.RawQuery = strings.Join(rest, "&")
	s.scope.tell(r.Header)
}

// tell says in headers what a request is for, unless they do.
func (s awsScope) tell(h http.Header) {
	if h.Get(signingName) == "" || h.Get(signingRegion) == "" {
		h.Set(signingName, s.service)
		h.Set(signingRegion, s.region)
	}
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
	if s.accessKey == "" || len(s.signature) != sha256.Size || !slices.Contains(s.headers, "host") {
		return s, bad
	}
	for i, name := range s.headers {
		// In order, as AWS has them, each is there only once: what they say is
		// put together in memory.
		if !httpguts.ValidHeaderFieldName(name) || i > 0 && name <= s.headers[i-1] {
			return s, bad
		}
	}
	return s, nil
}

// AWSKeys answers whose an AWS access key is, and the secret that belongs to
// it. An error is one that the caller may be told.
type AWSKeys func(accessKey string) (c Caller, secret string, err error)

// VerifyAWS finds out who signed a request with SigV4; ok is false for a
// request that isn't signed so. The signature may be for the host that the
// request was sent to, or for the one that it says it was meant for, as
// Birger's callers do. The body is checked against its hash, or its chunks
// against their signatures, as it is read, and collected beforehand only where
// the client didn't send the hash. What remains in r is for who signs it again.
func VerifyAWS(r *http.Request, keys AWSKeys) (c Caller, ok bool, err error) {
	if !signedForAWS(r) {
		return Caller{}, false, nil
	}
	s, err := signatureOf(r)
	if err != nil {
		return Caller{}, true, err
	}
	if err := s.covers(r.Header); err != nil {
		return Caller{}, true, err
	}
	c, secret, err := keys(s.accessKey)
	if err != nil {
		return Caller{}, true, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	payload := s.payload(r)
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
	key := s.key(secret)
	if !s.matches(r, key, payload) {
		return Caller{}, true, fmt.Errorf("%w: the signature isn't that of access key %.40s…", ErrUnauthenticated, s.accessKey)
	}
	if s.life > 0 {
		s.unsign(r)
		r.Header.Set(amzContentHash, payload)
	}
	switch {
	case payload == signedChunks || payload == signedChunksTrailer:
		if err := unsignChunks(r, s, key); err != nil {
			return Caller{}, true, err
		}
	case collected != nil:
		r.Body = io.NopCloser(bytes.NewReader(collected))
		r.Header.Set(amzContentHash, payload)
	case len(payload) == 2*sha256.Size:
		r.Body = closing{&whole{in: bufio.NewReader(&hashed{r.Body, sha256.New(), payload})}, r.Body}
	}
	return c, true, nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// matches tries the forms of a request that clients sign: they don't agree on
// how the path is tidied up and escaped, nor which host is meant.
func (s awsSignature) matches(r *http.Request, key []byte, payload string) bool {
	hosts := []string{r.Host}
	if host := r.Header.Get(originalHost); host != "" {
		hosts = append(hosts, host)
		if port := r.Header.Get(originalPort); port != "" {
			hosts = append(hosts, host+":"+port)
		}
	}
	escaped := r.URL.EscapedPath()
	paths := []string{amzEscape(r.URL.Path, true), escaped}
	if !strings.HasPrefix(s.scope.service, "s3") { // where these are other objects
		tidy := path.Clean("/" + escaped)
		if strings.HasSuffix(escaped, "/") && tidy != "/" {
			tidy += "/"
		}
		paths = append(paths, amzEscape(escaped, true), amzEscape(tidy, true))
	}
	query := amzQuery(r.URL.RawQuery)
	for _, host := range hosts {
		headers := s.canonicalHeaders(r, host)
		for _, p := range slices.Compact(paths) {
			canonical := strings.Join([]string{r.Method, p, query, headers, strings.Join(s.headers, ";"), payload}, "\n")
			text := strings.Join([]string{sigV4, s.at.Format(amzTime), s.scope.String(), hexSum([]byte(canonical))}, "\n")
			if hmac.Equal(mac(key, text), s.signature) {
				return true
			}
		}
	}
	return false
}

// key is what the signature is made with.
func (s awsSignature) key(secret string) []byte {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(s.scope.String(), "/") {
		key = mac(key, part)
	}
	return key
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
		k, v, _ := strings.Cut(part, "=")
		if part == "" || k == presignedSignature {
			continue
		}
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

// hashed fails at its end unless it has the hash that was signed.
type hashed struct {
	io.Reader
	sum  hash.Hash
	want string
}

func (b *hashed) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && subtle.ConstantTimeCompare([]byte(hex.EncodeToString(b.sum.Sum(nil))), []byte(b.want)) == 0 {
		return n, errBodyHash
	}
	return n, err
}
