// Command summary reads the output of `go test -json` and writes what a
// person wants of it: each failure with its output, each skipped test with
// its reason, the packages that took longest, and a closing line with the
// counts.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	ImportPath                    string
	Elapsed                       float64 // seconds
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: summary FILE")
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if !summarise(f, os.Stdout) {
		os.Exit(1)
	}
}

// summarise reports whether at least one test ran, none failed, and each package
// that began came to its end.
func summarise(r io.Reader, w io.Writer) bool {
	var passed, failed, skipped int
	inPackage := map[string]int{} // failed tests and builds
	output := map[string][]string{}
	running := map[string][]string{} // tests that began, by package; "" is the package itself
	took := map[string]float64{}
	// fail tells of what failed, and of the tests that were under way when their
	// package's process ended.
	fail := func(pkg, test, why string) {
		// A package fails with its tests; without one, by itself.
		if test != "" || inPackage[pkg] == 0 {
			failed++
			inPackage[pkg]++
		}
		key := pkg + " " + test
		fmt.Fprintf(w, "FAILED %s%s\n%s\n", key, why, strings.Join(output[key], ""))
		delete(output, key)
	}
	unfinished := func(pkg string) {
		for _, test := range running[pkg] {
			if test != "" {
				fail(pkg, test, ": it didn't end")
			}
		}
		delete(running, pkg)
	}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var e event
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			fmt.Fprintln(w, scanner.Text())
			continue
		}
		pkg := e.Package + e.ImportPath
		key := pkg + " " + e.Test
		if e.Test == "" && e.Elapsed > 0 {
			took[e.Package] = e.Elapsed
		}
		switch e.Action {
		case "start", "run":
			running[pkg] = append(running[pkg], e.Test)
		case "pass", "skip", "fail":
			if e.Test == "" {
				unfinished(pkg)
			} else {
				if i := slices.Index(running[pkg], e.Test); i >= 0 {
					running[pkg] = slices.Delete(running[pkg], i, i+1)
				}
			}
		}
		switch e.Action {
		case "output", "build-output":
			output[key] = append(output[key], e.Output)
		case "pass":
			if e.Test != "" {
				passed++
			}
			delete(output, key)
		case "skip":
			if e.Test != "" {
				skipped++
				fmt.Fprintf(w, "skipped %s %s: %s\n", e.Package, e.Test, reason(output[key]))
			}
			delete(output, key)
		case "fail", "build-fail":
			fail(pkg, e.Test, "")
		}
	}
	if err := scanner.Err(); err != nil {
		fmt.Fprintln(w, err)
		return false
	}
	for _, pkg := range slices.Sorted(maps.Keys(running)) { // go test was killed
		if len(running[pkg]) > 0 {
			unfinished(pkg)
			fail(pkg, "", ": it didn't end")
		}
	}
	slowest := slices.SortedFunc(maps.Keys(took), func(a, b string) int { return cmp.Compare(took[b], took[a]) })
	for _, p := range slowest[:min(len(slowest), 10)] {
		fmt.Fprintf(w, "%4.0f s %s\n", took[p], p)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return failed == 0 && passed > 0
}

// reason is what a skipped test said, without go test's own lines.
func reason(lines []string) string {
	var said []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l != "" && !strings.HasPrefix(l, "===") && !strings.HasPrefix(l, "---") {
			said = append(said, l)
		}
	}
	return strings.Join(said, " ")
}
