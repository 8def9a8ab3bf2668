package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Row is one measured figure beside the floor or the peer that it is held
// against.
type Row struct {
	Name  string
	Value float64
	Unit  string
	// Peer names what the figure is compared with: a floor that nothing can
	// beat, or another program on the same work. Empty: with nothing.
	Peer      string
	PeerValue float64
	// Bar is what the ratio should keep: at least Bar where more is better,
	// at most where less is. 0: no bar.
	Bar  float64
	More bool // more is better
}

// Ratio is Value over PeerValue.
func (r Row) Ratio() float64 { return r.Value / r.PeerValue }

// Kept reports whether the row keeps its bar.
func (r Row) Kept() bool {
	return r.Bar == 0 || r.More && r.Ratio() >= r.Bar || !r.More && r.Ratio() <= r.Bar
}

// Report collects rows.
type Report struct{ rows []Row }

// Add appends rows.
func (r *Report) Add(rows ...Row) { r.rows = append(r.rows, rows...) }

// Print writes the rows as a table.
func (r *Report) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tVALUE\tBESIDE\tVALUE\tRATIO\tBAR")
	for _, row := range r.rows {
		fmt.Fprintf(t, "%s\t%s %s\t", row.Name, short(row.Value), row.Unit)
		if row.Peer == "" {
			fmt.Fprintln(t, "-\t-\t-\t-")
			continue
		}
		fmt.Fprintf(t, "%s\t%s %s\t%.2f\t%s\n", row.Peer, short(row.PeerValue), row.Unit, row.Ratio(), row.bar())
	}
	t.Flush()
}

func (r Row) bar() string {
	if r.Bar == 0 {
		return "-"
	}
	sign := "≤"
	if r.More {
		sign = "≥"
	}
	verdict := "kept"
	if !r.Kept() {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s %.2f %s", sign, r.Bar, verdict)
}

// short writes three digits, or all of a larger whole number.
func short(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
