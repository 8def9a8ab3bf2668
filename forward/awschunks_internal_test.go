package forward

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// awsExample is the request of the two examples in the Amazon S3 API
// Reference, whose body is 65 KiB of the letter a.
func awsExample(t *testing.T, kind, seed string, body string) (*http.Request, error) {
	t.Helper()
	at, err := time.Parse(amzTime, "20130524T000000Z")
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseAWS(sigV4 + " Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=" + seed)
	if err != nil {
		t.Fatal(err)
	}
	s.at = at
	r, err := http.NewRequest("PUT", "https://s3.amazonaws.com/examplebucket/chunkObject.txt", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(amzContentHash, kind)
	r.Header.Set(decodedLength, "66560")
	r.Header.Set("Content-Encoding", "aws-chunked")
	return r, unsignChunks(r, s, s.key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
}

func exampleBody(first, second, last, trailer string) string {
	return "10000;chunk-signature=" + first + "\r\n" + strings.Repeat("a", 65536) + "\r\n" +
		"400;chunk-signature=" + second + "\r\n" + strings.Repeat("a", 1024) + "\r\n" +
		"0;chunk-signature=" + last + "\r\n" + trailer + "\r\n"
}

func TestUnsignChunks(t *testing.T) {
	body := exampleBody(
		"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
		"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
		"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", "")
	r, err := awsExample(t, signedChunks, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", body)
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentLength != 66560 || r.Header.Get(amzContentHash) != unsignedPayload || r.Header.Get("Content-Encoding") != "" {
		t.Errorf("%d bytes, %v", r.ContentLength, r.Header)
	}
	if err := iotest.TestReader(r.Body, bytes.Repeat([]byte("a"), 66560)); err != nil {
		t.Error(err)
	}
}

func TestUnsignChunks_trailer(t *testing.T) {
	const (
		seed     = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
		first    = "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"
		second   = "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"
		last     = "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"
		checksum = "x-amz-checksum-crc32c:sOO8/Q=="
		trailer  = checksum + "\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
	)
	r, err := awsExample(t, signedChunksTrailer, seed, exampleBody(first, second, last, trailer))
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentLength != -1 || r.Header.Get(amzContentHash) != plainChunksTrailer || r.Header.Get("Content-Encoding") != "aws-chunked" || r.Header.Get(decodedLength) != "66560" {
		t.Errorf("%d bytes, %v", r.ContentLength, r.Header)
	}
	want := "10000\r\n" + strings.Repeat("a", 65536) + "\r\n400\r\n" + strings.Repeat("a", 1024) + "\r\n0\r\n" + checksum + "\r\n\r\n"
	if err := iotest.TestReader(r.Body, []byte(want)); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"another checksum": strings.Replace(trailer, "sOO8", "sOO9", 1),
		"no checksum":      trailer[len(checksum)+2:],
		"no signature":     checksum + "\r\n",
		"too long a one":   strings.Repeat("a:b\r\n", maxChunkLines) + trailer,
		"none":             "",
	} {
		t.Run(name, func(t *testing.T) {
			r, err := awsExample(t, signedChunksTrailer, seed, exampleBody(first, second, last, bad))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r.Body); !errors.Is(err, errChunks) || strings.Contains(string(got), "\r\n0\r\n") {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func FuzzChunkReader(f *testing.F) {
	f.Add([]byte(exampleBody(strings.Repeat("0", 64), strings.Repeat("0", 64), strings.Repeat("0", 64), "")), signedChunks)
	f.Add([]byte("0;chunk-signature="+strings.Repeat("0", 64)+"\r\na:b\r\nx-amz-trailer-signature:"+strings.Repeat("0", 64)+"\r\n\r\n"), signedChunksTrailer)
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		r, err := http.NewRequest("PUT", "https://hub/bucket/key", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(amzContentHash, kind)
		r.Header.Set(decodedLength, "10")
		if err := unsignChunks(r, awsSignature{signature: make([]byte, 32)}, []byte("key")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r.Body); err == nil {
			t.Error("verified")
		}
	})
}
