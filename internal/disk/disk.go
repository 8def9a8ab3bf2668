// Package disk asks whether a folder can be written to.
package disk

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// room is what there must be at least; it is written, and removed.
const room = 256 << 10

// Writable reports why nothing more can be written to dir, such as a full or
// read-only disk. The error names no path.
func Writable(dir string) error {
	f, err := os.CreateTemp(dir, ".room-*")
	if err != nil {
		return reason(err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, room))
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return reason(err)
	}
	return nil
}

func reason(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk is full: %w", cause(err))
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the disk is read-only: %w", cause(err))
	}
	return fmt.Errorf("nothing can be written: %w", cause(err))
}

// cause is the error without the path.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
