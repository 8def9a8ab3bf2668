package forward_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"reeve.dev/reeve/forward"
)

// s3Rig is an account whose S3 holds one bucket, and a client of it.
func s3Rig(t *testing.T) (*bench, *s3.Client) {
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	cloud := gofakes3.New(backend, gofakes3.WithTimeSkewLimit(0)).Server()
	b, access, secret := awsRig(t, func(w http.ResponseWriter, r *http.Request) {
		signedByAgent(t, r)
		if strings.Contains(r.URL.RawQuery, "X-Amz-Signature") {
			t.Errorf("a caller's signature reached AWS: %s", r.URL)
		}
		cloud.ServeHTTP(w, r)
	})
	return b, s3.New(s3.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(b.URL), UsePathStyle: true, HTTPClient: b.Anonymous(),
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
	})
}

// AWS's SDK with its own defaults, which put a checksum behind the body.
func TestForward_AWS_S3_client(t *testing.T) {
	_, client := s3Rig(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for name, body := range map[string]io.Reader{
		"what can be read again": bytes.NewReader(want), "a stream": io.MultiReader(bytes.NewReader(want)),
	} {
		t.Run(name, func(t *testing.T) {
			const key = "a folder/é+?&=.txt"
			_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("bucket"), Key: aws.String(key), Body: body, ContentLength: aws.Int64(int64(len(want))),
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key)})
			if err != nil {
				t.Fatal(err)
			}
			defer out.Body.Close()
			if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
			}
		})
	}
}

func TestForward_AWS_S3_presigned(t *testing.T) {
	b, client := s3Rig(t)
	presign := s3.NewPresignClient(client)
	put, err := presign.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a key")})
	if err != nil {
		t.Fatal(err)
	}
	get, err := presign.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a key")}, s3.WithPresignExpires(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := presign.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("plain")}, s3.WithPresignExpires(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c := b.Anonymous()
	t.Cleanup(c.CloseIdleConnections)
	if resp, body := do(t, c, request(t, "PUT", put.URL, strings.NewReader("handed in"))); resp.StatusCode != 200 {
		t.Fatalf("put: %s %s", resp.Status, body)
	}
	if resp, body := do(t, c, request(t, "GET", get.URL, nil)); resp.StatusCode != 200 || body != "handed in" {
		t.Errorf("get: %s %s", resp.Status, body)
	}
	for name, tt := range map[string]struct{ method, url, header, value string }{
		"another method":    {method: "DELETE", url: get.URL},
		"another key":       {method: "GET", url: strings.Replace(get.URL, "a%20key", "other", 1)},
		"an empty folder":   {method: "GET", url: strings.Replace(plain.URL, "/plain", "//plain", 1)},
		"another parameter": {method: "GET", url: get.URL + "&versionId=1"},
		"a longer life":     {method: "GET", url: strings.Replace(get.URL, "X-Amz-Expires=3600", "X-Amz-Expires=7200", 1)},
		"a life for ever":   {method: "GET", url: strings.Replace(get.URL, "X-Amz-Expires=3600", "X-Amz-Expires=99999999", 1)},
		"no life":           {method: "GET", url: strings.Replace(get.URL, "X-Amz-Expires=3600", "", 1)},
		"no signature":      {method: "GET", url: get.URL[:strings.Index(get.URL, "X-Amz-Signature")]},
		"another object":    {"PUT", put.URL, "X-Amz-Copy-Source", "/bucket/secret"},
		"another host":      {"GET", get.URL, "X-Opsmx-Original-Host", "secret.s3.amazonaws.com"},
		"another service":   {"GET", get.URL, "X-Opsmx-Service-Signing-Name", "iam"},
		"without its host":  {"GET", get.URL, "Connection", "keep-alive, Host"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, tt.method, tt.url, nil)
			if tt.header != "" {
				r.Header.Set(tt.header, tt.value)
			}
			if resp, body := do(t, c, r); resp.StatusCode != 401 {
				t.Errorf("%s %s", resp.Status, body)
			}
		})
	}
}

func TestVerifyAWS_presigned_ends(t *testing.T) {
	for name, tt := range map[string]struct {
		at   time.Duration
		says string
	}{
		"within its life":     {-30 * time.Minute, ""},
		"after it":            {-2 * time.Hour, "have a new one made"},
		"before it was asked": {time.Hour, "must be within"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest("GET", "https://hub/bucket/key?X-Amz-Expires=3600", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			url, _, err := signer.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, r, "UNSIGNED-PAYLOAD", "s3", "eu-west-1", time.Now().Add(tt.at),
				func(o *signer.SignerOptions) { o.DisableURIPathEscaping = true })
			if err != nil {
				t.Fatal(err)
			}
			if r, err = http.NewRequest("GET", url, http.NoBody); err != nil {
				t.Fatal(err)
			}
			_, signed, err := forward.VerifyAWS(r, func(string) (forward.Caller, string, error) { return forward.Caller{}, "secret", nil })
			if !signed || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("signed %v, %v; want %q", signed, err, tt.says)
			}
		})
	}
}

// chunked signs a body as a client without TLS does: by the SDK's own signer
// of streams.
type chunked struct {
	*http.Request
	parts []string // of the body; each chunk's head, its data and its end
}

func inChunks(t *testing.T, b *bench, access, secret string, chunks ...string) *chunked {
	t.Helper()
	at := time.Now().UTC()
	c := &chunked{Request: request(t, "PUT", b.URL+"/bucket/key", http.NoBody)}
	for name, value := range map[string]string{
		"X-Amz-Content-Sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "Content-Encoding": "aws-chunked, gzip",
		"X-Amz-Decoded-Content-Length": fmt.Sprint(len(strings.Join(chunks, ""))),
	} {
		c.Header.Set(name, value)
	}
	sign(t, c.Request, access, secret, "s3", at)
	_, said, _ := strings.Cut(c.Header.Get("Authorization"), "Signature=")
	seed, err := hex.DecodeString(said)
	if err != nil {
		t.Fatal(err)
	}
	s := signer.NewStreamSigner(aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, "s3", "eu-west-1", seed)
	for _, data := range append(slices.Clone(chunks), "") {
		signature, err := s.GetSignature(t.Context(), nil, []byte(data), at)
		if err != nil {
			t.Fatal(err)
		}
		c.parts = append(c.parts, fmt.Sprintf("%x;chunk-signature=%x\r\n", len(data), signature), data, "\r\n")
	}
	return c
}

func (c *chunked) request() *http.Request {
	body := strings.Join(c.parts, "")
	c.Body, c.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	return c.Request
}

func TestForward_AWS_signed_chunks(t *testing.T) {
	one, two := strings.Repeat("a", 65536), strings.Repeat("b", 40_000)
	var got atomic.Pointer[string]
	b, access, secret := awsRig(t, func(w http.ResponseWriter, r *http.Request) {
		signedByAgent(t, r)
		if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("X-Amz-Decoded-Content-Length") != "" || r.ContentLength != int64(len(one+two)) {
			t.Errorf("at AWS: %v, %d bytes", r.Header, r.ContentLength)
		}
		if body, err := io.ReadAll(r.Body); err == nil {
			whole := string(body)
			got.Store(&whole)
		}
	})
	c := b.Anonymous()
	t.Cleanup(c.CloseIdleConnections)
	t.Run("whole", func(t *testing.T) {
		resp, body := do(t, c, inChunks(t, b, access, secret, one, two).request())
		if p := got.Load(); resp.StatusCode != 200 || p == nil || *p != one+two {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	for name, spoil := range map[string]func(c *chunked){
		"another first chunk":       func(c *chunked) { c.parts[1] = "x" + one[1:] },
		"another last byte":         func(c *chunked) { c.parts[4] = two[1:] + "x" },
		"chunks in another order":   func(c *chunked) { c.parts = slices.Concat(c.parts[3:6], c.parts[:3], c.parts[6:]) },
		"without the last chunk":    func(c *chunked) { c.parts = c.parts[:6] },
		"cut within a chunk":        func(c *chunked) { c.parts = c.parts[:5]; c.parts[4] = two[:100] },
		"another last signature":    func(c *chunked) { c.parts[6] = "0;chunk-signature=" + strings.Repeat("0", 64) + "\r\n" },
		"no signatures":             func(c *chunked) { c.parts[0] = fmt.Sprintf("%x\r\n", len(one)) },
		"more behind the last":      func(c *chunked) { c.parts = append(c.parts, c.parts[:3]...) },
		"a trailer that isn't told": func(c *chunked) { c.parts[8] = "x-amz-checksum-crc32:AAAAAA==\r\n\r\n" },
		"a chunk without an end":    func(c *chunked) { c.parts[0] = strings.Repeat("0", 9000) },
		"a chunk of no length":      func(c *chunked) { c.parts[0] = "-" + c.parts[0] },
		"a chunk beyond the body":   func(c *chunked) { c.parts[0] = "7fffffffffffffff" + c.parts[0][5:] },
	} {
		t.Run(name, func(t *testing.T) {
			got.Store(nil)
			r := inChunks(t, b, access, secret, one, two)
			spoil(r)
			if resp, err := c.Do(r.request()); err == nil {
				resp.Body.Close()
				if resp.StatusCode != 400 {
					t.Errorf("%s", resp.Status)
				}
			}
			if got.Load() != nil {
				t.Error("AWS got a whole body")
			}
		})
	}
	t.Run("a length that is none", func(t *testing.T) {
		r := inChunks(t, b, access, secret, one)
		r.Header.Set("X-Amz-Decoded-Content-Length", "-1")
		sign(t, r.Request, access, secret, "s3", time.Now())
		if resp, body := do(t, c, r.request()); resp.StatusCode != 401 {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
}

// A wrong hash is known only at the body's end, and AWS must not have taken
// the body for whole by then.
func TestForward_AWS_another_long_body(t *testing.T) {
	var whole atomic.Bool
	b, access, secret := awsRig(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			whole.Store(true)
		}
	})
	c := b.Anonymous()
	t.Cleanup(c.CloseIdleConnections)
	for range 5 {
		r := request(t, "PUT", b.URL+"/bucket/key", bytes.NewReader(make([]byte, 1<<20)))
		r.Header.Set("X-Amz-Content-Sha256", "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5")
		sign(t, r, access, secret, "s3", time.Now())
		if resp, err := c.Do(r); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				t.Error(resp.Status)
			}
		}
		if whole.Load() {
			t.Fatal("AWS got the whole of another body")
		}
	}
}
