package github

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// Sign signs a webhook's body as GitHub does.
func Sign(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
