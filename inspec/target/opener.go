package target

import (
	"context"
	"io"
	"os"
	"syscall"
)

// ReaderAtCloser is an open file.
type ReaderAtCloser interface {
	io.ReaderAt
	io.Closer
}

// Opener is implemented by the targets whose files can be read in parts, which
// spares the memory for the whole. The rules are ReadFile's, but that a file
// whose reading waits for something isn't given up.
type Opener interface {
	// OpenFile opens the regular file at path, links followed, and answers its
	// size. The caller closes it before the target.
	OpenFile(ctx context.Context, path string) (ReaderAtCloser, int64, error)
}

// OpenFile implements Opener.
func (f *files) OpenFile(_ context.Context, name string) (ReaderAtCloser, int64, error) {
	rel, err := f.resolve("open", name, true)
	if err != nil {
		return nil, 0, err
	}
	// Without O_NONBLOCK the open of a named pipe would wait for a writer.
	file, err := f.root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, pathError("open", name, plain(err))
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(info.IsDir())
	}
	if err != nil {
		file.Close()
		return nil, 0, pathError("open", name, plain(err))
	}
	return file, info.Size(), nil
}

// staticOpener is a static target whose files are an Opener.
type staticOpener struct {
	*static
	Opener
}
