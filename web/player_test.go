package web_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/pki"
)

// record keeps a recording of a terminal of 40 columns and 6 rows, to which each
// text is written a second after the one before.
func (w *world) record(t *testing.T, id string, texts ...string) {
	t.Helper()
	var cast strings.Builder
	fmt.Fprintln(&cast, `{"version":2,"width":40,"height":6,"timestamp":1769860800}`)
	for i, text := range texts {
		line, err := json.Marshal([]any{i + 1, "o", text})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&cast, "%s\n", line)
	}
	digest, size, err := w.store.PutDocument(strings.NewReader(cast.String()), 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := w.store.SaveRecording(t.Context(), audit.Recording{
		ID: id, Began: now.Add(-time.Hour), Ended: now, Actor: "certificate:alice", Agent: "east", Service: "kubernetes/main", Namespace: "shop", Pod: "web", Container: "app",
		Command: []string{"bash", "-l"}, Width: 40, Height: 6, Size: size, Digest: digest,
	}); err != nil {
		t.Fatal(err)
	}
}

// A recording is played, paused, gone through, and looked at from its end back.
func TestBrowser_recording(t *testing.T) {
	t.Parallel()
	w, _ := furnished(t)
	w.record(t, "r", "$ echo one\r\n", "one\r\n", "<script>document.title=1</script>\r\n", "\x1b[2J\x1b[H\x1b[31mthe end\x1b[0m")
	b := openBrowser(t, w)
	b.login(w.store, pki.Admin)
	b.open("/audit/recordings")
	b.click("a[href='/audit/recordings/r']")
	b.says("bash -l", "certificate:alice")
	b.accessible("a recording before it plays")
	b.click("[data-player=play]")
	b.until("document.querySelector('.screen').innerText.includes('one')")
	b.click("[data-player=play]")
	b.until("document.querySelector('[data-player=play]').textContent === 'Play'")

	screenAt := func(seconds float64) string {
		return eval[string](b, fmt.Sprintf(`(() => {
			const seek = document.querySelector('[data-player=seek]');
			seek.value = %v;
			seek.dispatchEvent(new Event('input'));
			return [...document.querySelectorAll('.screen div')].map((row) => row.textContent.trimEnd()).join('\n').trimEnd();
		})()`, seconds))
	}
	for _, at := range []struct {
		seconds float64
		want    string
	}{
		{4, "the end"},
		{2, "$ echo one\none"},
		{3, "$ echo one\none\n<script>document.title=1</script>"},
		{0, ""},
		{1, "$ echo one"},
	} {
		if got := screenAt(at.seconds); got != at.want {
			t.Errorf("after %v s:\n%s\nwant:\n%s", at.seconds, got, at.want)
		}
	}
	if title := eval[string](b, "document.title"); title != "Recording · Reeve" {
		t.Errorf("the title is %q", title)
	}
	if said := eval[string](b, "document.querySelector('[data-player=seek]').getAttribute('aria-valuetext')"); said != "0:01 of 0:04" {
		t.Errorf("the slider says %q", said)
	}
	// From somewhere it goes on to the end, four times as fast.
	b.set("[data-player=speed]", "4")
	b.click("[data-player=play]")
	b.until("document.querySelector('.screen').innerText.includes('the end') && document.querySelector('[data-player=play]').textContent === 'Play'")
	b.accessible("a recording")
	b.picture("recording")
}

// What programs write comes to what xterm would show.
func TestBrowser_screen(t *testing.T) {
	t.Parallel()
	w, _ := furnished(t)
	w.record(t, "r", "x")
	b := openBrowser(t, w)
	b.login(w.store, pki.Admin)
	b.open("/audit/recordings/r")
	long := strings.Repeat("0123456789", 4)
	for name, tc := range map[string]struct{ write, want string }{
		"lines":                {"one\r\ntwo\nthree\rT", "one\ntwo\nT  three"},
		"a tab, a backspace":   {"a\tb\b\bc", "a      cb"},
		"wraps at the margin":  {long + "x", long + "\nx"},
		"not yet":              {long + "\r\nx", long + "\nx"},
		"wraps no more":        {"\x1b[?7l" + long + "xyz", long[:39] + "z"},
		"the cursor goes":      {"\x1b[3;5Hx\x1b[Ay\x1b[2Dz\x1b[E1\x1b[9;99H9", "\n    zy\n1   x\n\n\n" + strings.Repeat(" ", 39) + "9"},
		"erases":               {"abcdef\x1b[3D\x1b[K\r\nabc\x1b[1K\r\nabc\x1b[2K\r\nabc\x1b[2G\x1b[X", "abc\n\n\na c"},
		"the screen":           {"one\r\ntwo\r\nthree\x1b[2;2H\x1b[J", "one\nt"},
		"inserts, deletes":     {"abcdef\x1b[3G\x1b[2@\x1b[1G\x1b[P", "b  cdef"},
		"inserts as it writes": {"abc\r\x1b[4hxy\x1b[4lz", "xyzbc"},
		"lines in, lines out":  {"1\r\n2\r\n3\x1b[2;1H\x1b[L\x1b[1;1H\x1b[M", "\n2\n3"},
		"scrolls":              {"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7", "2\n3\n4\n5\n6\n7"},
		"scrolls a part":       {"1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\nx\x1b[2;1H\x1bMy", "1\ny\n3\n4"},
		"another screen":       {"main\x1b[?1049h\x1b[Hvi\x1b[?1049l!", "main!"},
		"saves and restores":   {"ab\x1b7\x1b[5;5Hx\x1b8c", "abc\n\n\n\n    x"},
		"draws lines":          {"\x1b(0lqk\x1b(Blqk \x1b)0\x0ex\x0fx", "┌─┐lqk │x"},
		"colours":              {"\x1b[1;38;5;200;48:2::1:2:3mred\x1b[m.", "red."},
		"says it again":        {"-\x1b[5b", "------"},
		"wide letters":         {"漢字\x1b[3Gx", "漢x"},
		"marks":                {"e\u0301a", "e\u0301a"},
		"no titles, no links":  {"\x1b]0;title\x07a\x1b]8;;https://example.com\x1b\\b\x1bP1$r\x1b\\c", "abc"},
		"a title broken off":   {"\x1b]0;title\x1b[Ca\x1b]0;title\x18b", " ab"},
		"a long string":        {"a\x1b]52;c;" + strings.Repeat("x", 5000), "a"},
		"reads as it is":       {"a\u202eb\u2066c\u200f\u2028d\u009b\ufeffe", "abcde"},
		"a broken sequence":    {"\x1b[12\x01ma\x1b\x1b[2Cb", "[12ma  b"},
		"too far":              {"\x1b[99999999;99999999Hx\x1b[99999999L", ""},
		"begins anew":          {"abc\x1bcd", "d"},
	} {
		text, err := json.Marshal(tc.write)
		if err != nil {
			t.Fatal(err)
		}
		got := eval[[]string](b, fmt.Sprintf(`import(document.querySelector('script[type=module]').src).then(({ Screen }) => {
			const whole = new Screen(40, 6), parts = new Screen(40, 6);
			whole.write(%[1]s);
			for (const c of %[1]s) parts.write(c);
			return [whole.text(), parts.text()];
		})`, text))
		if diff := cmp.Diff([]string{tc.want, tc.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// A terminal that becomes smaller keeps what is at its cursor; none is larger
	// than is good for a browser.
	got := eval[[]string](b, `import(document.querySelector('script[type=module]').src).then(({ Screen }) => {
		const s = new Screen(40, 6);
		s.write('1\r\n2\r\n3\r\nfour');
		s.resize(3, 2);
		const large = new Screen(1e9, 1e9);
		return [s.text(), large.columns + ' ' + large.rows];
	})`)
	if diff := cmp.Diff([]string{"3\nfou", "500 200"}, got); diff != "" {
		t.Errorf("resized (-want +got):\n%s", diff)
	}
	// What is dear to show takes its time in turns, and not all the memory.
	got = eval[[]string](b, `import(document.querySelector('script[type=module]').src).then(({ Play }) => {
		const play = new Play({ columns: 500, rows: 200, events: Array.from({ length: 100 }, () => ({ code: 'o', data: '\x1b]' + 'x'.repeat(1 << 18) + '\x07.' })) });
		const first = play.to(100, -1) + ' ' + play.next;
		const then = play.to(100) + ' ' + play.next;
		return [first, then, play.screen.text().length + ' ' + play.kept.length];
	})`)
	if diff := cmp.Diff([]string{"false 0", "true 100", "100 42"}, got); diff != "" {
		t.Errorf("a long one (-want +got):\n%s", diff)
	}
}

// A recording that is dear to show leaves the page time for its user.
func TestBrowser_dear(t *testing.T) {
	t.Parallel()
	w, _ := furnished(t)
	texts := slices.Repeat([]string{strings.Repeat("\x1bc", 15000)}, 30)
	w.record(t, "r", append(texts, "the end")...)
	b := openBrowser(t, w)
	b.login(w.store, pki.Admin)
	b.open("/audit/recordings/r")
	b.click("[data-player=play]")
	b.until("document.querySelector('[data-player=play]').textContent === 'Pause'")
	b.click("[data-player=play]")
	eval[bool](b, `(() => {
		const seek = document.querySelector('[data-player=seek]');
		seek.value = seek.max;
		return seek.dispatchEvent(new Event('input'));
	})()`)
	b.until("document.querySelector('.screen').innerText.includes('the end')")
}
