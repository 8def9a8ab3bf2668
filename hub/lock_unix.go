//go:build unix

package hub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock takes dir for this process: two hubs on one database would each think
// that the other's leases are its own from an earlier life. The system gives
// it back when the process ends, however it ends.
func lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another hub runs on %s: stop it, or give this one a folder of its own", dir)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	return f.Close, nil
}
