package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress is one line on a terminal that is written over as work goes on;
// anywhere else it is nothing. Whoever makes one clears it before anything else
// is written there, and at the end.
type progress struct {
	w     io.Writer
	shown bool
	last  time.Time // when it was written
}

func newProgress(w io.Writer) *progress {
	if !terminal(w) {
		w = io.Discard
	}
	return &progress{w: w}
}

// show shows how much of total is done, and what is under way.
func (p *progress) show(done, total int, what string) {
	const width = 24
	filled := 0
	if total > 0 {
		filled = width * min(done, total) / total
	}
	p.line("%s%s %d/%d %s", strings.Repeat("█", filled), strings.Repeat("░", width-filled), done, total, what)
}

// count shows how many things there are so far, of an unknown number.
func (p *progress) count(n int, thing string) { p.line("%s …", count(n, thing)) }

// reader is r with the bytes shown that are read of it, of size if that isn't 0.
func (p *progress) reader(r io.Reader, size int64, what string) io.Reader {
	if p.w == io.Discard {
		return r
	}
	return &shownReader{p, r, 0, size, what}
}

type shownReader struct {
	p          *progress
	r          io.Reader
	done, size int64
	what       string
}

// often is how long a line of bytes stays at least.
const often = 50 * time.Millisecond

func (s *shownReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.done += int64(n)
	if now := time.Now(); now.Sub(s.p.last) > often || err != nil {
		s.p.last = now
		const mib = 1 << 20
		switch {
		case err == io.EOF:
			s.p.line("%s: sent; the hub works on it …", s.what)
		case s.size > 0:
			s.p.line("%s: %.1f of %.1f MiB", s.what, float64(s.done)/mib, float64(s.size)/mib)
		default:
			s.p.line("%s: %.1f MiB", s.what, float64(s.done)/mib)
		}
	}
	return n, err
}

// line writes the line, cut to the terminal's width.
func (p *progress) line(format string, args ...any) {
	if p.w == io.Discard {
		return
	}
	text := printable(fmt.Sprintf(format, args...))
	if width := screenWidth(p.w); width > 0 {
		text = cut(text, width-1)
	}
	p.shown = true
	fmt.Fprint(p.w, "\r\x1b[K", text)
}

func (p *progress) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
