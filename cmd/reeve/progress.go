package main

import (
	"fmt"
	"io"
	"strings"
)

// progress is one line on a terminal that is written over as work goes on;
// anywhere else it is nothing.
type progress struct{ w io.Writer }

func newProgress(w io.Writer) *progress {
	if !terminal(w) {
		w = io.Discard
	}
	return &progress{w}
}

func (p *progress) show(done, total int, what string) {
	const width = 24
	filled := 0
	if total > 0 {
		filled = width * done / total
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s%s %d/%d %.40s", strings.Repeat("█", filled), strings.Repeat("░", width-filled), done, total, printable(what))
}

func (p *progress) clear() { fmt.Fprint(p.w, "\r\x1b[K") }
