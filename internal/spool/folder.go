package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockDir takes the folder's lock, which the kernel gives free when the
// process ends, however it ends.
func lockDir(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	return f, nil
}

// Map gives the document's bytes as the system reads them from the disk, which
// takes nothing of the process's own memory however long it is. They are good
// until unmap is called, also if the document is delivered meanwhile.
func (it Item) Map() (data []byte, unmap func(), err error) {
	f, err := os.Open(it.path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if fi.Size() != it.offset+it.Size {
		return nil, nil, fmt.Errorf("%s: it has %d bytes and had %d", it.path, fi.Size(), it.offset+it.Size)
	}
	whole, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, &os.PathError{Op: "mmap", Path: it.path, Err: err}
	}
	return whole[it.offset:], func() { unix.Munmap(whole) }, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
