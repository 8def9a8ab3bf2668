package resource

import (
	"fmt"
	"strings"
)

// yamlProblem words the error of a YAML parser as Ruby's does, which reports
// show: "(<unknown>): PROBLEM CONTEXT at line L column C", where the place is
// that of the context. Of contexts it knows the ones that can be found again
// in the text; the rest stay in the parser's own words.
func yamlProblem(text, msg string) string {
	problem := strings.TrimPrefix(msg, "yaml: ")
	if rest, ok := strings.CutPrefix(problem, "line "); ok {
		if _, rest, ok = strings.Cut(rest, ": "); ok {
			problem = rest
		}
	}
	line, column, open := unclosed(text)
	context := map[string]string{
		"did not find expected ',' or ']'":    "[while parsing a flow sequence",
		"did not find expected ',' or '}'":    "{while parsing a flow mapping",
		"found unexpected end of stream":      "'while scanning a quoted scalar",
		"found unexpected document indicator": "'while scanning a quoted scalar",
	}[problem]
	if context == "" || open == 0 || context[0] != open {
		return "(<unknown>): " + strings.TrimPrefix(msg, "yaml: ")
	}
	return fmt.Sprintf("(<unknown>): %s %s at line %d column %d", problem, context[1:], line, column)
}

// unclosed finds where the innermost bracket or quote begins that a YAML text
// leaves open or closes by the other kind; of a quote, open is '.
func unclosed(text string) (line, column int, open byte) {
	type mark struct {
		line, column int
		open         byte
	}
	var stack []mark
	line, column = 1, 0
	previous := byte('\n')
	for i := 0; i < len(text); i++ {
		c := text[i]
		column++
		here := mark{line, column, c}
		// Inside of a word a quote, and outside of brackets a bracket, is text.
		starts := len(stack) > 0 && strings.IndexByte("[{,:", previous) >= 0 || strings.IndexByte(" \t\n", previous) >= 0
		switch {
		case c == '\n':
			line, column = line+1, 0
		case c == '#' && strings.IndexByte(" \t\n", previous) >= 0:
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case (c == '"' || c == '\'') && starts:
			closed := false
			for i++; i < len(text); i++ {
				column++
				switch {
				case text[i] == '\n':
					line, column = line+1, 0
				case text[i] == '\\' && c == '"':
					i++
					column++
				case text[i] == c && c == '\'' && i+1 < len(text) && text[i+1] == c:
					i++
					column++
				case text[i] == c:
					closed = true
				}
				if closed {
					break
				}
			}
			if !closed {
				return here.line, here.column, '\''
			}
		case (c == '[' || c == '{') && starts:
			stack = append(stack, here)
		case (c == ']' || c == '}') && len(stack) > 0:
			top := stack[len(stack)-1]
			if top.open == '[' != (c == ']') {
				return top.line, top.column, top.open
			}
			stack = stack[:len(stack)-1]
		}
		previous = c
	}
	if len(stack) == 0 {
		return 0, 0, 0
	}
	top := stack[len(stack)-1]
	return top.line, top.column, top.open
}
