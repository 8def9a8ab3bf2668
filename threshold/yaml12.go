package threshold

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mapping12 is a YAML mapping whose keys keep their order.
type mapping12 struct {
	keys   []string
	values map[string]any
}

// maxAliases is how many aliases SAF's parser follows.
const maxAliases = 100

// parseYAML12 reads one document by the core schema of YAML 1.2, as SAF's
// parser does: 010 is ten, 1_000 and 2026-01-02 are texts, << is a key like
// others. Values are *mapping12, []any, string, float64, bool and nil.
func parseYAML12(text []byte) (any, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("threshold has %d bytes; %d are allowed", len(text), MaxFile)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("threshold is not YAML: %w", err)
	}
	if err := d.Decode(&next); !errors.Is(err, io.EOF) {
		return nil, errors.New("threshold: the file must hold one YAML document")
	}
	aliases := 0
	return value12(doc.Content[0], &aliases)
}

func value12(n *yaml.Node, aliases *int) (any, error) {
	switch n.Kind {
	case yaml.AliasNode:
		if *aliases++; *aliases > maxAliases {
			return nil, fmt.Errorf("threshold: line %d: more than %d aliases", n.Line, maxAliases)
		}
		return value12(n.Alias, aliases)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, c := range n.Content {
			var err error
			if list[i], err = value12(c, aliases); err != nil {
				return nil, err
			}
		}
		return list, nil
	case yaml.MappingNode:
		m := &mapping12{values: map[string]any{}}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, ok := m.values[key]; ok {
				return nil, fmt.Errorf("threshold: line %d: %s is there twice", n.Content[i].Line, key)
			}
			v, err := value12(n.Content[i+1], aliases)
			if err != nil {
				return nil, err
			}
			m.keys, m.values[key] = append(m.keys, key), v
		}
		return m, nil
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Style&yaml.TaggedStyle != 0 && n.Tag == "!!str" {
		return n.Value, nil
	}
	return scalar12(n.Value), nil
}

var (
	prefixed = regexp.MustCompile(`^0(x[0-9a-fA-F]+|o[0-7]+|b[01]+)$`)
	floating = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
)

// scalar12 is what a plain scalar stands for.
func scalar12(s string) any {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	case ".nan", ".NaN", ".NAN":
		return math.NaN()
	}
	switch strings.TrimLeft(s, "+-") {
	case ".inf", ".Inf", ".INF":
		if len(s) <= len("+.inf") {
			return math.Inf(1 - 2*strings.Count(s, "-"))
		}
	}
	switch {
	case floating.MatchString(s):
		f, _ := strconv.ParseFloat(s, 64) // beyond its range: infinite, as in JavaScript
		return f
	case prefixed.MatchString(s) && s[1] != 'b':
		if n, ok := new(big.Int).SetString(s, 0); ok {
			f, _ := new(big.Float).SetInt(n).Float64()
			return f
		}
	}
	return s
}
