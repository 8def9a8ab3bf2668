package csv_test

import (
	"bytes"
	stdcsv "encoding/csv"
	"strings"
	"testing"

	"reeve.dev/reeve/hdf/csv"
	"reeve.dev/reeve/hdf/hdftest"
)

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := csv.Write(&b, hdftest.Sample()); err != nil {
		t.Fatal(err)
	}
	hdftest.Golden(t, "sample.csv", b.Bytes())
}

func TestWrite_hostileText(t *testing.T) {
	r := hdftest.Hostile()
	for i := range r.Profiles {
		for j := range r.Profiles[i].Controls {
			r.Profiles[i].Controls[j].Title = hdftest.Text // which begins as a formula does
		}
	}
	var b bytes.Buffer
	if err := csv.Write(&b, r); err != nil {
		t.Fatal(err)
	}
	rows, err := stdcsv.NewReader(&b).ReadAll() // which asks for the same number of cells in each row
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		if !strings.HasPrefix(row[3], "'=1+1") {
			t.Errorf("title %q", row[3])
		}
		for _, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") || strings.ContainsAny(cell, "\x00\x07\x1b") {
				t.Errorf("cell %q", cell)
			}
		}
	}
	if len(rows) < 2 {
		t.Error("no rows")
	}
}
