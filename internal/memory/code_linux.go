package memory

import (
	"bufio"
	"debug/elf"
	"os"
	"strconv"
	"strings"
	"sync"

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
		// FROM-TO MODE OFFSET … PROGRAM
		place, rest, _ := strings.Cut(lines.Text(), " ")
		mode, rest, _ := strings.Cut(rest, " ")
		// What may be written holds the program's data.
		if !strings.HasSuffix(rest, " "+program) || len(mode) < 2 || mode[1] != '-' {
			continue
		}
		from, to, _ := strings.Cut(place, "-")
		at, _, _ := strings.Cut(rest, " ")
		begin, err := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		offset, err3 := strconv.ParseUint(at, 16, 64)
		if err != nil || err2 != nil || err3 != nil {
			continue
		}
		for _, s := range asInFile() {
			first, last := max(s.from, offset), min(s.to, offset+end-begin)
			if first < last {
				_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin+first-offset), uintptr(last-first), unix.MADV_DONTNEED)
			}
		}
	}
}

// span is a part of the program's file, in whole pages.
type span struct{ from, to uint64 }

// asInFile lists the parts that are in memory as they are in the file. What a
// loader has filled in, as in a program that runs at any address, isn't:
// afterwards it can't be written either, but would be lost.
var asInFile = sync.OnceValue(func() (spans []span) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil
	}
	defer f.Close()
	page := uint64(os.Getpagesize())
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_W == 0 {
			spans = append(spans, span{(p.Off + page - 1) &^ (page - 1), (p.Off + p.Filesz) &^ (page - 1)})
		}
	}
	return spans
})
