package memory

import (
	"bufio"
	"os"
	"strconv"
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
		// FROM-TO MODE … PROGRAM
		place, rest, _ := strings.Cut(lines.Text(), " ")
		// What may be written holds the program's data.
		if !strings.HasSuffix(rest, " "+program) || len(rest) < 4 || rest[1] != '-' {
			continue
		}
		from, to, _ := strings.Cut(place, "-")
		begin, err := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err == nil && err2 == nil {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED)
		}
	}
}
