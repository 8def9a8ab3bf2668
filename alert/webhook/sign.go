package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
)

// secretPrefix marks a secret of Standard Webhooks; the rest is its base64.
const secretPrefix = "whsec_"

// ParseSecret reads a secret that callbacks are signed with: whsec_ and the
// base64 of 24 to 64 random bytes. Its errors don't repeat it.
func ParseSecret(text string) ([]byte, error) {
	text, found := strings.CutPrefix(text, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !found || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("a secret for signatures must be whsec_ and the base64 of 24 to 64 random bytes; make one with: echo whsec_$(openssl rand -base64 32)")
	}
	return key, nil
}

// SecretsIn answers what reads the secrets anew each time from the file or,
// without one, the environment variable of that name: one a line, or beside
// each other. While a secret is replaced both are there, and callbacks carry a
// signature by each. nil: neither is named, and there is none.
func SecretsIn(file, env string) func() ([][]byte, error) {
	var read func() (string, error)
	switch {
	case file != "":
		read = func() (string, error) {
			text, err := os.ReadFile(file)
			return string(text), err
		}
	case env != "":
		read = func() (string, error) { return os.Getenv(env), nil }
	default:
		return nil
	}
	return func() ([][]byte, error) {
		text, err := read()
		if err != nil {
			return nil, err
		}
		var keys [][]byte
		for i, word := range strings.Fields(text) {
			key, err := ParseSecret(word)
			if err != nil {
				return nil, fmt.Errorf("secret %d: %w", i+1, err)
			}
			keys = append(keys, key)
		}
		if len(keys) == 0 {
			return nil, errors.New("there is no secret in it")
		}
		return keys, nil
	}
}

// sign is the header webhook-signature by each key, as Standard Webhooks 1.0.0
// has it.
func sign(keys [][]byte, id, timestamp string, body []byte) string {
	signatures := make([]string, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
