package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// IfNoneMatch is of what can be asked for again at little cost (RFC 9110,
// section 13.1.2).
type IfNoneMatch struct {
	Tags string `header:"If-None-Match" doc:"The ETag of the last answer: if it is still so, 304 without a body"`
}

// has reports whether the caller has what the tag stands for.
func (in IfNoneMatch) has(tag string) bool {
	for have := range strings.SplitSeq(in.Tags, ",") {
		have = strings.TrimPrefix(strings.TrimSpace(have), "W/")
		if have == "*" || have == tag {
			return true
		}
	}
	return false
}

// tagged is an answer with an ETag.
type tagged[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func quote(text string) string { return `"` + text + `"` }

// tag answers with body, or says that the caller has it. With no version the
// tag is the body's digest.
func tag[T any](in IfNoneMatch, version string, body T) (*tagged[T], error) {
	if version == "" {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		version = hex.EncodeToString(sum[:16])
	}
	out := &tagged[T]{ETag: quote(version), Body: body}
	if in.has(out.ETag) {
		return nil, huma.ErrorWithHeaders(huma.Status304NotModified(), map[string][]string{"ETag": {out.ETag}})
	}
	return out, nil
}
