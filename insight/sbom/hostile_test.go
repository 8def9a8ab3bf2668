package sbom_test

import (
	"archive/zip"
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// zeros is so many of one byte.
func zeros(n int64) io.Reader { return io.LimitReader(same('a'), n) }

type same byte

func (s same) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s)
	}
	return len(b), nil
}

// zipBomb is an archive with one entry of lines of a manifest, n bytes of them.
func zipBomb(t *testing.T, name string, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	const line = "Requires-Dist: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
	io.Copy(w, strings.NewReader("Name: bomb\nVersion: 1\n"+strings.Repeat(line, n/len(line))))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// directoryBomb is an archive of nothing but a directory of n bytes, of the
// smallest entries that there are.
func directoryBomb(n int) []byte {
	entry := make([]byte, 46)
	copy(entry, "PK\x01\x02")
	out := bytes.Repeat(entry, n/len(entry))
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	binary.LittleEndian.PutUint32(end[12:], uint32(len(out)))
	return append(out, end...)
}

// auditBomb is an ELF file whose section of cargo-auditable inflates to n bytes.
func auditBomb(t *testing.T, n int64) []byte {
	t.Helper()
	var data bytes.Buffer
	z := zlib.NewWriter(&data)
	io.Copy(z, zeros(n))
	z.Close()
	const names = "\x00.dep-v0\x00.shstrtab\x00"
	const head, section = 64, 64
	at := uint64(head + 3*section)
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	put(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: 2, Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: head, Ehsize: head, Shentsize: section, Shnum: 3, Shstrndx: 2,
	})
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at + uint64(len(names)), Size: uint64(data.Len())})
	put(elf.Section64{Name: 9, Type: uint32(elf.SHT_STRTAB), Off: at, Size: uint64(len(names))})
	b.WriteString(names)
	b.Write(data.Bytes())
	return b.Bytes()
}

// TestRead_Hostile: what would take much more memory than it has bytes isn't
// parsed, and is told.
func TestRead_Hostile(t *testing.T) {
	const big = 200 << 20
	for path, content := range map[string][]byte{
		"opt/bomb.jar":                           zipBomb(t, "META-INF/MANIFEST.MF", big),
		"opt/outer.jar":                          zipped(t, map[string][]byte{"inner.jar": zipBomb(t, "META-INF/MANIFEST.MF", big)}),
		"usr/lib/python3/dist-packages/bomb.egg": zipBomb(t, "EGG-INFO/PKG-INFO", big),
		"usr/bin/bomb":                           auditBomb(t, big),
		"opt/entries.jar":                        directoryBomb(big),
		"opt/more/outer.jar":                     zipped(t, map[string][]byte{"inner.jar": directoryBomb(big / 10)}),
		"usr/lib/python3/dist-packages/more.whl": directoryBomb(big / 3),
	} {
		t.Run(path, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, path, content, 0o755)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			inv := read(t, open(t, "dir:"+root))
			runtime.ReadMemStats(&after)
			if len(inv.Unread) != 1 || inv.Unread[0].Path != "/"+path {
				t.Errorf("it tells of %v, wants of it alone", inv.Unread)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > big {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
}

// Files too large for their extractors are told, and aren't read.
func TestRead_LargeFiles(t *testing.T) {
	root := t.TempDir()
	paths := []string{"app/package.json", "lib/apk/db/installed", "var/lib/dpkg/status", "var/lib/rpm/rpmdb.sqlite"}
	for _, path := range paths {
		write(t, root, path, nil, 0o644)
		if err := os.Truncate(filepath.Join(root, path), 1<<40); err != nil {
			t.Skipf("a file of 1 TiB without content: %v", err)
		}
	}
	inv := read(t, open(t, "dir:"+root))
	told := map[string]bool{}
	for _, u := range inv.Unread {
		told[u.Path] = true
	}
	for _, path := range paths {
		if !told["/"+path] {
			t.Errorf("%s isn't told of: %v", path, inv.Unread)
		}
	}
}
