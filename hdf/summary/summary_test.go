package summary_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"reeve.dev/reeve/hdf/hdftest"
	"reeve.dev/reeve/hdf/summary"
)

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := summary.Write(&b, hdftest.Sample()); err != nil {
		t.Fatal(err)
	}
	hdftest.Golden(t, "sample.json", b.Bytes())
}

func TestWrite_hostileText(t *testing.T) {
	var b bytes.Buffer
	if err := summary.Write(&b, hdftest.Hostile()); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b.Bytes()) {
		t.Errorf("no JSON: %s", b.String())
	}
}
