package main

import (
	"regexp"
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// column is what stands before a line's second column.
var column = regexp.MustCompile(`^ *\S+(?: \S+)* {2,}`)

// wrapped is a help text for a screen of so many columns. What is too long is
// broken between words: a paragraph anew, a second column within itself, and an
// example so that a shell still takes it.
func wrapped(text string, width int) string {
	var b strings.Builder
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	examples := false
	for len(lines) > 0 {
		line, n := lines[0], 1
		examples = line == "Examples:" || examples && (line == "" || line[0] == ' ')
		indent := len(line) - len(strings.TrimLeft(line, " "))
		head := line[:indent]
		if gap := column.FindString(line); gap != "" && !examples {
			head = gap
		}
		hang := displaywidth.String(head)
		long := displaywidth.String(line) > width
		if line != "" && !examples && (indent == 0 || hang > indent) { // what follows may go on with it
			for ; n < len(lines) && goesOn(lines[n], hang); n++ {
				long = long || displaywidth.String(lines[n]) > width
			}
		}
		switch {
		case !long:
			b.WriteString(strings.Join(lines[:n], "\n"))
		case examples:
			b.WriteString(head + strings.Join(fill(shellWords(line), indent, width-len(` \`)), " \\\n    "+head))
		default:
			words := strings.Fields(strings.Join(lines[:n], " ")[len(head):])
			b.WriteString(head + strings.Join(fill(words, hang, width), "\n"+strings.Repeat(" ", hang)))
		}
		b.WriteByte('\n')
		lines = lines[n:]
	}
	return b.String()
}

// goesOn reports whether a line continues one whose text begins at column hang.
func goesOn(line string, hang int) bool {
	rest := strings.TrimLeft(line, " ")
	return rest != "" && len(line)-len(rest) == hang && !column.MatchString(line)
}

// fill makes lines of words that fit beside hang columns; a word that doesn't
// fit has a line of its own.
func fill(words []string, hang, width int) []string {
	var lines []string
	used := 0
	for i, word := range words {
		n := displaywidth.String(word)
		if i > 0 && hang+used+1+n <= width {
			lines[len(lines)-1] += " " + word
			used += 1 + n
			continue
		}
		lines = append(lines, word)
		used = n
	}
	return lines
}

// shellWords are the words of a command, of which what is quoted is one, and a
// flag with what follows it.
func shellWords(command string) []string {
	quote := rune(0)
	words := strings.FieldsFunc(command, func(r rune) bool {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case r == quote:
			quote = 0
		}
		return r == ' ' && quote == 0
	})
	var together []string
	for i, word := range words {
		if i > 0 && strings.HasPrefix(words[i-1], "-") && !strings.HasPrefix(word, "-") {
			together[len(together)-1] += " " + word
			continue
		}
		together = append(together, word)
	}
	return together
}
