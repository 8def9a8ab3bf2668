package memory

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// DropCode unmaps what was read of the program's own file so far; what is
// needed again is mapped again from the system's cache, without a copy. A
// program of hundreds of packages touches half of its file before main, and
// most of that never more. Where the system doesn't tell, nothing is done.
func DropCode() {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uintptr
		var mode string
		n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode)
		// What may be written holds the program's data.
		if n == 3 && len(mode) == 4 && mode[1] == '-' && strings.HasSuffix(lines.Text(), " "+program) {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}
