package zipdir_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"reeve.dev/reeve/internal/zipdir"
)

func TestOpen(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for n := range 1000 {
		w, err := z.Create(fmt.Sprint("a file of that number: ", n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte{'a'}, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zipdir.Open(bytes.NewReader(b.Bytes()), int64(b.Len()), 100_000)
	if err != nil || len(r.File) != 1000 {
		t.Fatal(err)
	}
	for _, f := range r.File { // which is more than the limit
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(in); err != nil || len(text) != 1000 {
			t.Fatal(len(text), err)
		}
	}
	// Whatever it says of its size: the directory is 1 byte, and has 10 MB.
	entry := make([]byte, 46)
	copy(entry, "PK\x01\x02")
	large := bytes.Repeat(entry, 10<<20/len(entry))
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	for _, says := range []uint32{uint32(len(large)), 1} {
		binary.LittleEndian.PutUint32(end[12:], says)
		text := append(bytes.Clone(large), end...)
		if _, err := zipdir.Open(bytes.NewReader(text), int64(len(text)), 1<<20); !errors.Is(err, zipdir.ErrLarge) {
			t.Errorf("a directory that says it has %d bytes: %v", says, err)
		}
	}
	if _, err := zipdir.Open(bytes.NewReader(nil), 0, 1<<20); !errors.Is(err, zip.ErrFormat) {
		t.Errorf("nothing: %v", err)
	}
}
