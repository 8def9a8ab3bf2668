package sbom

import (
	"archive/zip"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	javaarchive "github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/os/rpm"

	"reeve.dev/reeve/internal/zipdir"
)

// Extractors bound what they are handed, not what it inflates to, and pass over
// what is too large without a word. So that is looked at before they are asked.
const (
	// maxText is for a file that is parsed as a whole.
	maxText = 100 << 20
	// maxRead is for what one extractor reads of one file.
	maxRead = 2 * maxArchive
	// maxMetadata is for one entry of an archive that is parsed as a whole,
	// maxAllMetadata for those of an archive together.
	maxMetadata    = 16 << 20
	maxAllMetadata = 128 << 20
	// maxDirectory is for an archive's directory, whose entries take several times
	// as much memory; the largest of programs have some 10 MB. One of more than
	// lightDirectory is read while no other is.
	maxDirectory   = 16 << 20
	lightDirectory = 256 << 10
	// maxAudit is for cargo-auditable's section, which inflates to at most 1032
	// times as much; those of the largest programs have some 20 KB.
	maxAudit = 64 << 10
)

// largest is the most bytes of a file that e may be handed.
func largest(e filesystem.Extractor) int64 {
	switch e.Name() {
	case gobinary.Name, cargoauditable.Name: // which look at parts
		return 1 << 62
	case javaarchive.Name, rpm.Name: // rpm's copies it to the disk
		return maxArchive
	}
	return maxText
}

// weigh looks at what e would take of f, which is of that size: nothing for
// idle, much memory for heavy. Its error says that it is too much.
func weigh(e filesystem.Extractor, f io.ReaderAt, at string, size int64) (idle, heavy bool, err error) {
	switch e.Name() {
	case cargoauditable.Name:
		n := auditSize(f)
		if n > maxAudit {
			return false, false, fmt.Errorf("its section of cargo-auditable has %d bytes, more than %d", n, int64(maxAudit))
		}
		return n == 0, true, nil
	case wheelegg.Name:
		return false, strings.HasSuffix(at, ".egg") || strings.HasSuffix(at, ".whl"), nil
	case javaarchive.Name:
		// Those without others in them only have their directory read.
		z, err := zipdir.Open(f, size, lightDirectory)
		if errors.Is(err, zipdir.ErrLarge) {
			return false, true, nil
		}
		if err == nil {
			for _, entry := range z.File {
				heavy = heavy || javaarchive.IsArchive(entry.Name)
			}
		}
		if heavy {
			return false, true, nil // of is asked by who has the room
		}
		return false, false, new(inflation).of(f, size, 0)
	}
	return false, false, nil
}

// inflation counts what an archive and those in it come to.
type inflation struct{ archives, metadata uint64 }

// of is for an archive at a depth. One that isn't any is the extractor's to tell.
func (i *inflation) of(r io.ReaderAt, size int64, depth int) error {
	z, err := zipdir.Open(r, size, maxDirectory)
	if errors.Is(err, zipdir.ErrLarge) {
		return err
	}
	if err != nil {
		return nil
	}
	for _, f := range z.File {
		n := f.UncompressedSize64 // package zip gives no more
		switch base := strings.ToLower(path.Base(f.Name)); {
		case base == "manifest.mf", base == "pkg-info", base == "metadata":
			if n > maxMetadata || i.metadata+n > maxAllMetadata {
				return fmt.Errorf("what it says of itself inflates to more than %d bytes, or %d in all: %s", int64(maxMetadata), int64(maxAllMetadata), f.Name)
			}
			i.metadata += n
		case depth < maxDepth && javaarchive.IsArchive(f.Name):
			if n > maxArchive || i.archives+n > maxArchive {
				return fmt.Errorf("the archives in it inflate to more than %d bytes", int64(maxArchive))
			}
			i.archives += n
			if err := i.inner(f, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *inflation) inner(f *zip.File, depth int) error {
	r, err := f.Open()
	if err != nil {
		return nil // which the extractor tells
	}
	defer r.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, r); err != nil {
		return nil
	}
	return i.of(strings.NewReader(b.String()), int64(b.Len()), depth)
}

// auditSize is how much of f is cargo-auditable's section. A module of
// WebAssembly isn't looked at: the parser of those takes their word for sizes.
func auditSize(f io.ReaderAt) uint64 {
	if x, err := elf.NewFile(f); err == nil {
		for _, name := range []string{".dep-v0", ".rust-deps-v0"} {
			if s := x.Section(name); s != nil {
				return max(s.Size, s.FileSize, 1)
			}
		}
	} else if x, err := pe.NewFile(f); err == nil {
		for _, name := range []string{".dep-v0", "rdep-v0"} {
			if s := x.Section(name); s != nil {
				return max(uint64(s.Size), uint64(s.VirtualSize), 1)
			}
		}
	} else if x, err := macho.NewFile(f); err == nil {
		for _, name := range []string{".dep-v0", "rust-deps-v0"} {
			if s := x.Section(name); s != nil {
				return max(s.Size, 1)
			}
		}
	}
	return 0
}
