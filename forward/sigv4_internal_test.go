package forward

import (
	"errors"
	"strings"
	"testing"
)

func TestParseAWS_headers(t *testing.T) {
	for headers, good := range map[string]bool{
		"host;x-amz-date":            true,
		"x-amz-date":                 false, // no host
		"x-amz-date;host":            false, // not in order
		"host;x-amz-date;x-amz-date": false,
		"host;":                      false,
		"host;x\ny":                  false,
	} {
		_, err := parseAWS(sigV4 + " Credential=AKID/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + headers + ",Signature=" + strings.Repeat("0", 64))
		if good != (err == nil) || !good && !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%q: %v", headers, err)
		}
	}
}
