package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
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

// Precondition is of what somebody else may have changed meanwhile (RFC 9110,
// sections 13.1.1 and 13.1.2).
type Precondition struct {
	IfMatch string `header:"If-Match" doc:"The ETag of what this replaces: with something else in its place nothing is changed"`
	Unless  string `header:"If-None-Match" enum:"*" doc:"*: where there is one already nothing is changed"`
}

// check refuses what isn't so: whether there is one, and of which version.
func (p Precondition) check(there bool, version string) error {
	switch {
	case p.Unless != "" && there:
		return huma.Error412PreconditionFailed("there is one already; change that one, or choose another name")
	case p.IfMatch != "" && (!there || p.IfMatch != "*" && strings.Trim(p.IfMatch, `"`) != version):
		return huma.Error412PreconditionFailed("it was changed meanwhile; read it again")
	}
	return nil
}

// told is err, or what check says where it tells that there is one meanwhile.
func (p Precondition) told(err error) error {
	if p.Unless != "" && (errors.Is(err, scan.ErrChanged) || errors.Is(err, policy.ErrChanged)) {
		return p.check(true, "")
	}
	return err
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
