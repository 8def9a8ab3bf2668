package html_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"reeve.dev/reeve/hdf/hdftest"
	"reeve.dev/reeve/hdf/html"
)

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := html.Write(&b, hdftest.Sample()); err != nil {
		t.Fatal(err)
	}
	hdftest.Golden(t, "sample.html", b.Bytes())
}

// Nothing that the page holds makes a browser run or fetch anything.
func TestWrite_hostileText(t *testing.T) {
	var b bytes.Buffer
	if err := html.Write(&b, hdftest.Hostile()); err != nil {
		t.Fatal(err)
	}
	page := strings.ToLower(b.String())
	for _, bad := range []string{"<script", "<!--", "-->", " src=", " href=", " action=", "@import", "url("} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %s", bad)
		}
	}
	if tag := regexp.MustCompile(`<[^>]*\son\w+=`).FindString(page); tag != "" {
		t.Errorf("the page holds %s", tag)
	}
	if !strings.Contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the text is lost")
	}
	if !strings.Contains(page, `content="default-src 'none';`) {
		t.Error("the page has no policy")
	}
}
