package docs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// Document is a page in Markdown, as GitHub has it.
type Document struct {
	// Path is relative to the checkout, with slashes.
	Path   string
	Blocks []Block
	Links  []Link
	// Code are the spans of code in its prose, headings and tables.
	Code []Span
	// Anchors are what a link can name behind #.
	Anchors map[string]bool
}

// Block is a block of code.
type Block struct {
	Line     int // of its first line of text
	Language string
	Words    []string // behind the language
	Text     string
	Hidden   bool // in a comment
	Indented bool
}

// Is reports whether word stands behind the language.
func (b Block) Is(word string) bool {
	for _, w := range b.Words {
		if w == word {
			return true
		}
	}
	return false
}

// Value is what stands behind NAME= there.
func (b Block) Value(name string) (string, bool) {
	for _, w := range b.Words {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// Link is a link or an image.
type Link struct {
	Line int
	To   string
}

// Span is a span of code.
type Span struct {
	Line int
	Text string
}

// Read reads the document at path below root.
func Read(root, path string) (*Document, error) {
	source, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return nil, err
	}
	d, err := Parse(source)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	d.Path = filepath.ToSlash(path)
	return d, nil
}

var htmlID = regexp.MustCompile(`<[a-z0-9]+[^>]* (?:id|name)="([^"]+)"`)

// Parse reads a document. An error begins with the number of its line.
func Parse(source []byte) (*Document, error) {
	d := &Document{Anchors: map[string]bool{}}
	line := func(at int) int { return bytes.Count(source[:at], []byte("\n")) + 1 }
	root := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.FencedCodeBlock:
			b := Block{Text: lines(n, source)}
			info := ""
			if n.Info != nil {
				info = string(n.Info.Segment.Value(source))
				b.Line = line(n.Info.Segment.Start) + 1
			} else if n.Lines().Len() > 0 {
				b.Line = line(n.Lines().At(0).Start)
			}
			words, err := split(info)
			if err != nil {
				return ast.WalkStop, fmt.Errorf("%d: %w", b.Line-1, err)
			}
			if len(words) > 0 {
				b.Language, b.Words = words[0], words[1:]
			}
			d.Blocks = append(d.Blocks, b)
		case *ast.CodeBlock:
			d.Blocks = append(d.Blocks, Block{Line: line(n.Lines().At(0).Start), Text: lines(n, source), Indented: true})
		case *ast.HTMLBlock:
			for _, id := range htmlID.FindAllStringSubmatch(lines(n, source), -1) {
				d.Anchors[id[1]] = true
			}
			b, ok, err := hidden(lines(n, source))
			if err != nil {
				return ast.WalkStop, fmt.Errorf("%d: %w", line(n.Lines().At(0).Start), err)
			}
			if ok {
				b.Line = line(n.Lines().At(0).Start) + 1
				d.Blocks = append(d.Blocks, b)
			}
		case *ast.RawHTML:
			for _, id := range htmlID.FindAllStringSubmatch(string(n.Segments.Value(source)), -1) {
				d.Anchors[id[1]] = true
			}
		case *ast.Heading:
			anchor := Anchor(plain(n, source))
			for i := 1; d.Anchors[anchor]; i++ {
				anchor = fmt.Sprintf("%s-%d", Anchor(plain(n, source)), i)
			}
			d.Anchors[anchor] = true
		case *ast.Link:
			d.Links = append(d.Links, Link{line(position(n)), string(n.Destination)})
		case *ast.Image:
			d.Links = append(d.Links, Link{line(position(n)), string(n.Destination)})
		case *ast.CodeSpan:
			d.Code = append(d.Code, Span{line(position(n)), plain(n, source)})
		}
		return ast.WalkContinue, nil
	})
	return d, err
}

// hidden is the block in a comment of HTML, if it is one of sh.
func hidden(comment string) (Block, bool, error) {
	first, rest, _ := strings.Cut(comment, "\n")
	info, ok := strings.CutPrefix(first, "<!-- sh")
	if !ok || info != "" && info[0] != ' ' {
		return Block{}, false, nil
	}
	commands, _, ok := strings.Cut(rest, "-->")
	if !ok {
		return Block{}, false, fmt.Errorf("a comment `<!-- sh` holds commands on lines of their own, and ends with a line `-->`")
	}
	words, err := split(info)
	return Block{Language: "sh", Words: words, Text: commands, Hidden: true}, true, err
}

// Anchor is what GitHub makes of a heading.
func Anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}

// split cuts at blanks that aren't between double quotes, and takes those away.
func split(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, any := false, false
	for _, r := range s {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case unicode.IsSpace(r) && !quoted:
			if any {
				words = append(words, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(r)
			any = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote in %q isn't closed", strings.TrimSpace(s))
	}
	if any {
		words = append(words, word.String())
	}
	return words, nil
}

func lines(n ast.Node, source []byte) string {
	var b strings.Builder
	for i := range n.Lines().Len() {
		at := n.Lines().At(i)
		b.Write(at.Value(source))
	}
	if h, ok := n.(*ast.HTMLBlock); ok && h.HasClosure() {
		b.Write(h.ClosureLine.Value(source))
	}
	return b.String()
}

// plain is the text below n without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(bytes.ReplaceAll(t.Segment.Value(source), []byte("\n"), []byte(" ")))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// position is where n begins, or about.
func position(n ast.Node) int {
	for c := n.FirstChild(); c != nil; c = c.FirstChild() {
		if t, ok := c.(*ast.Text); ok {
			return t.Segment.Start
		}
	}
	for p := n.Parent(); p != nil; p = p.Parent() {
		if p.Type() == ast.TypeBlock && p.Lines() != nil && p.Lines().Len() > 0 {
			return p.Lines().At(0).Start
		}
	}
	return 0
}
