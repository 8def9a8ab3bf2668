package ckl_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"reeve.dev/reeve/hdf/ckl"
	"reeve.dev/reeve/hdf/hdftest"
)

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := ckl.Write(&b, hdftest.Sample()); err != nil {
		t.Fatal(err)
	}
	hdftest.Golden(t, "sample.ckl", b.Bytes())
}

func TestWrite_hostileText(t *testing.T) {
	var b bytes.Buffer
	if err := ckl.Write(&b, hdftest.Hostile()); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(&b)
	text := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "script" {
				t.Error("a text became an element")
			}
			for _, a := range token.Attr {
				text = text || strings.Contains(a.Value, "</script>")
			}
		case xml.CharData:
			text = text || strings.Contains(string(token), "</script>")
		case xml.Comment, xml.Directive:
			t.Errorf("a text became %T", token)
		}
	}
	if !text {
		t.Error("the text is lost")
	}
}
