package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/clipperhouse/displaywidth"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

var outputFormats = []string{"table", "wide", "json", "yaml", "name"}

// output is the -o flag of a command that prints data: see newTopics for what
// the formats promise. Left out it is a table for people on a terminal, and the
// same rows parted by tabs anywhere else.
type output struct{ format string }

func (o *output) flag(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "`format`: table, wide, json, yaml or name; if left out a table on a terminal, else rows parted by tabs")
	complete(cmd, "output", outputFormats...)
}

// String, Set and Type implement pflag.Value, so that a wrong format is told
// before anything is done.
func (o *output) String() string { return o.format }
func (o *output) Type() string   { return "format" }
func (o *output) Set(format string) error {
	if !slices.Contains(outputFormats, format) {
		return fmt.Errorf("it must be %s", either(outputFormats))
	}
	o.format = format
	return nil
}

// either lists words as in a, b or c.
func either(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// suggest lets the shell complete the values of a flag of cmd, and files.
func suggest(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveDefault)); err != nil {
		panic(err) // as in complete
	}
}

// complete lets the shell complete the values of a flag of cmd, and no files.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag isn't defined, or this is its second completion
	}
}

// table is how people see a list of T.
type table[T any] struct {
	rows func(io.Writer, []T) error
	// wide is rows with more columns; nil: there are none.
	wide func(io.Writer, []T) error
	// name is what other commands call an item by; nil: nothing calls it.
	name func(T) string
}

// told is a table that is a sentence of each item.
func told[T any](sentence func(T) string) table[T] {
	return table[T]{rows: func(w io.Writer, list []T) error {
		for _, item := range list {
			row(w, sentence(item))
		}
		return nil
	}}
}

// printList prints the items of a list, which are the hub's JSON.
func printList[T any](w io.Writer, o *output, raw []json.RawMessage, t table[T]) error {
	items, err := decodeItems[T](raw)
	if err != nil {
		return err
	}
	return printValue(w, o, raw, items, t)
}

// printOne prints one item, which is the hub's JSON.
func printOne[T any](w io.Writer, o *output, data json.RawMessage, t table[T]) error {
	items, err := decodeItems[T]([]json.RawMessage{data})
	if err != nil {
		return err
	}
	return printValue(w, o, data, items, t)
}

// printValue writes value, an item or a list of them, in the format asked for.
// Its items are what people see.
func printValue[T any](w io.Writer, o *output, value any, items []T, t table[T]) error {
	rows := t.rows
	switch o.format {
	case "json", "yaml":
		text, err := encode(value, o.format)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	case "name":
		if t.name == nil {
			return fmt.Errorf("--output name: these have no names that another command takes")
		}
		rows = func(w io.Writer, items []T) error {
			for _, item := range items {
				row(w, t.name(item))
			}
			return nil
		}
	case "wide":
		if t.wide != nil {
			rows = t.wide
		}
	}
	if o.format == "name" || o.format == "" && !terminal(w) {
		b := bufio.NewWriter(w)
		if err := rows(b, items); err != nil {
			return err
		}
		return b.Flush() // the first error of what was written, too
	}
	if len(items) == 0 && terminal(w) {
		_, err := io.WriteString(w, "none\n")
		return err
	}
	var text bytes.Buffer
	if err := rows(&text, items); err != nil {
		return err
	}
	width := 0
	if o.format != "wide" {
		width = screenWidth(w)
	}
	_, err := io.WriteString(w, layOut(text.String(), width, colour(w)))
	return err
}

// encode is value as JSON or YAML. What a terminal would act on, and a reader of
// YAML refuses, is spelled out, which is the same to whatever reads it.
func encode(value any, format string) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if format == "yaml" {
		return yaml.JSONToYAML(spelled(data))
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, spelled(data), "", "  "); err != nil {
		return nil, err
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

// spelled is compact JSON without what a terminal would act on, which is in its
// strings alone: JSON itself lets through control characters beyond the space.
func spelled(data []byte) []byte {
	if !bytes.ContainsFunc(data, commands) {
		return data
	}
	var out bytes.Buffer
	for _, r := range string(data) {
		if commands(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.Bytes()
}

// spellLines copies lines of compact JSON to a terminal.
func spellLines(w io.Writer, r io.Reader) error {
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadBytes('\n')
		text, whole := bytes.CutSuffix(line, []byte("\n"))
		text = spelled(text)
		if whole {
			text = append(text, '\n')
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// screenWidth is how many columns a terminal has; 0 for what is none.
func screenWidth(w io.Writer) int {
	if !terminal(w) {
		return 0
	}
	width, _, err := term.GetSize(int(unpainted(w).(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return width
}

const (
	// gap is between columns, and tight where not all fit otherwise.
	gap, tight = 3, 2
	// A column isn't cut below enough as long as another can be spared; then not
	// below narrowest, which the words for a state fit into, nor its heading; and
	// never below bare: the terminal wraps what still doesn't fit.
	enough, narrowest, bare = 16, 10, 5
)

// spared are the headings of what a narrow terminal does without, the first
// first. -o wide shows all.
var spared = []string{
	"BYTES", "SENT", "TOOK", "MISSED", "ATTEMPTS", "METHOD", "BROKER", "ANCHORED", "CURVE", "USED", "AUTHOR", "MADE", "DOCUMENT", "LASTED",
	"SCAN", "DIGEST", "THRESHOLD", "BUILD", "REQUESTS", "UNCHANGED", "SKIPPED", "SOURCE", "EXPECTED", "INSTANCES", "SERVICES", "IMAGE", "ZONE",
	"STATUS", "COMPLIANCE", "ENVIRONMENT", "NAMESPACE", "PASSED", "PROFILE", "CHECKED", "FIRST SEEN", "UNTIL", "SINK", "CREATED", "BY", "ENDED",
	"WHERE", "BEGAN", "SINCE", "VERSION",
}

// layOut makes columns of rows parted by tabs. Where they don't fit into width
// (0: it is no matter), those that say nothing are left out, then those that can
// be spared; of the others the widest are cut. The first stays whole, which
// people copy from.
func layOut(text string, width int, colours bool) string {
	var rows [][]string
	var widths []int
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		rows = append(rows, cells)
		for i, c := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], displaywidth.String(c))
		}
	}
	between := gap
	if width > 0 && across(widths, gap) > width {
		between = tight
		rows, widths = spare(rows, widths, width)
		narrow(widths, rows[0], width)
	}
	var out strings.Builder
	for i, cells := range rows {
		for j, c := range cells {
			c = cut(c, widths[j])
			pad := widths[j] - displaywidth.String(c)
			if colours && i > 0 {
				c = paintWord(c)
			}
			out.WriteString(c)
			if j < len(cells)-1 {
				out.WriteString(strings.Repeat(" ", pad+between))
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// cut is s in so many columns of a terminal.
func cut(s string, width int) string { return displaywidth.TruncateString(s, width, "…") }

// across is how wide columns are that have so much between them.
func across(widths []int, between int) int {
	sum := between * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	return sum
}

// spare leaves out columns until the others, not cut too short, fit into width:
// first those that say nothing.
func spare(rows [][]string, widths []int, width int) ([][]string, []int) {
	out := make([]bool, len(widths))
	fits := func() bool {
		sum := -tight
		for i, w := range widths {
			switch {
			case i == 0:
				sum += w + tight
			case !out[i]:
				sum += min(w, enough) + tight
			}
		}
		return sum <= width
	}
	for i := len(widths) - 1; i > 0; i-- {
		out[i] = len(rows) > 1 && !slices.ContainsFunc(rows[1:], func(cells []string) bool { return i < len(cells) && strings.Trim(cells[i], "-") != "" })
	}
	var left []int
	for _, heading := range spared {
		i := slices.Index(rows[0], heading)
		if i < 1 || out[i] || heading == "STATUS" && !slices.Contains(rows[0], "OUTCOME") { // which says as much
			continue
		}
		if fits() {
			break
		}
		out[i] = true
		left = append(left, i)
	}
	// A wide one that went last may have made room for others.
	for _, i := range slices.Backward(left) {
		if out[i] = false; !fits() {
			out[i] = true
		}
	}
	kept := func(i int) bool { return i >= len(out) || !out[i] }
	for i, cells := range rows {
		rows[i] = only(cells, kept)
	}
	return rows, only(widths, kept)
}

// only are those of list whose indices are wanted.
func only[T any](list []T, wanted func(int) bool) (out []T) {
	for i, v := range list {
		if wanted(i) {
			out = append(out, v)
		}
	}
	return out
}

// narrow takes from the widest columns until all fit into width, if need be more
// than is good for them.
func narrow(widths []int, headings []string, width int) {
	least := make([]int, len(widths))
	for i := range headings {
		least[i] = max(narrowest, displaywidth.String(headings[i]))
	}
	for _, least := range [][]int{least, slices.Repeat([]int{bare}, len(widths))} {
		for across(widths, tight) > width {
			widest := 0
			for i := 1; i < len(widths); i++ {
				if widths[i] > least[i] && (widest == 0 || widths[i] > widths[widest]) {
					widest = i
				}
			}
			if widest == 0 {
				break
			}
			widths[widest]--
		}
	}
}

// Colours of a terminal.
const (
	red, green, yellow, magenta = "31", "32", "33", "35"
)

// words are what cells say of how something stands.
var words = map[string]string{
	"passed": green, "completed": green, "complete": green, "connected": green, "delivered": green, "scanned": green, "sent": green, "fixed": green,
	"failed": red, "dead": red, "refused": red, "invalid": red, "new": red,
	"error": magenta, "unknown": magenta,
	"away": yellow, "queued": yellow, "running": yellow, "pending": yellow, "waiting": yellow, "suspended": yellow, "skipped": yellow, "truncated": yellow,
}

func paintWord(cell string) string {
	if c := words[cell]; c != "" {
		return paint(c, cell)
	}
	return cell
}

func paint(colour, text string) string { return "\x1b[" + colour + "m" + text + "\x1b[0m" }

// painted is an output of which --color says whether it has colours.
type painted struct {
	io.Writer
	colours bool
}

// colourFlag is --color.
type colourFlag string

var colourModes = []string{"auto", "always", "never"}

// String, Set and Type implement pflag.Value.
func (c *colourFlag) String() string { return string(*c) }
func (c *colourFlag) Type() string   { return "when" }
func (c *colourFlag) Set(when string) error {
	if !slices.Contains(colourModes, when) {
		return fmt.Errorf("it must be %s", either(colourModes))
	}
	*c = colourFlag(when)
	return nil
}

// apply has what root prints be coloured, or not, as the flag says.
func (c *colourFlag) apply(root *cobra.Command) {
	if *c != "auto" {
		root.SetOut(painted{root.OutOrStdout(), *c == "always"})
		root.SetErr(painted{root.ErrOrStderr(), *c == "always"})
	}
}

func unpainted(w io.Writer) io.Writer {
	if p, ok := w.(painted); ok {
		return p.Writer
	}
	return w
}

// terminal reports whether w is one that a person looks at.
func terminal(w io.Writer) bool {
	f, ok := unpainted(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colour reports whether what is written to w should be coloured: as --color
// says, else on a terminal that knows colours, unless NO_COLOR is set.
func colour(w io.Writer) bool {
	if p, ok := w.(painted); ok {
		return p.colours
	}
	return terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// row writes one row of a table. What comes from outside can't hold a tab, a
// line break or a terminal's control sequence.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			io.WriteString(w, "\t")
		}
		io.WriteString(w, printable(fmt.Sprint(c)))
	}
	io.WriteString(w, "\n")
}

// count is n things, as in 1 control and 2 controls.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// printable is s without what a terminal would act on, and in one line.
func printable(s string) string { return strings.ReplaceAll(lines(s), "\n", " ") }

// lines is s without what a terminal would act on, but for line breaks.
func lines(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && commands(r) {
			return ' '
		}
		return r
	}, s)
}

// commands reports whether a terminal acts on r instead of showing it: a control
// character, or one that has what is around it read in another order.
func commands(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// tell writes a line, or several, for people.
func tell(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, lines(fmt.Sprintf(format, args...)))
}
