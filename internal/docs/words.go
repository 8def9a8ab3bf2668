package docs

import (
	"fmt"
	"strings"
)

// group is some of the names that a page of the reference lists.
type group struct {
	title string
	names []named
}

type named struct{ name, words string }

// groups reads what people call names by: a line `# TITLE` begins a group, the
// others are a name and its words.
func groups(text string) (all []group, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if title, ok := strings.CutPrefix(line, "# "); ok {
			all = append(all, group{title: title})
			continue
		}
		name, words, ok := strings.Cut(line, " ")
		if !ok || len(all) == 0 {
			return nil, fmt.Errorf("%q isn't a name and its words in a group", line)
		}
		g := &all[len(all)-1]
		g.names = append(g.names, named{name, words})
	}
	return all, nil
}
