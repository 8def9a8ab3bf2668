package main

import (
	"strings"
	"testing"
)

func TestSummarise(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		ok   bool
		says []string
	}{
		"all well": {
			`{"Action":"pass","Package":"p","Test":"A"}`, true, []string{"1 passed, 0 failed, 0 skipped"},
		},
		"a skip is named with its reason": {
			`{"Action":"output","Package":"p","Test":"A","Output":"=== RUN A\n"}
{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:1: needs root\n"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"B"}`, true, []string{"skipped p A: a_test.go:1: needs root", "1 passed, 0 failed, 1 skipped"},
		},
		"a failure shows its output": {
			`{"Action":"output","Package":"p","Test":"A","Output":"want 1, got 2\n"}
{"Action":"fail","Package":"p","Test":"A"}`, false, []string{"want 1, got 2", "0 passed, 1 failed"},
		},
		"a build failure counts": {
			`{"Action":"build-output","ImportPath":"p","Output":"undefined: x\n"}
{"Action":"build-fail","ImportPath":"p"}
{"Action":"pass","Package":"q","Test":"B"}`, false, []string{"undefined: x", "1 passed, 1 failed"},
		},
		"a package that fails outside a test counts": {
			`{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"panic: late\n"}
{"Action":"fail","Package":"p"}`, false, []string{"panic: late", "1 passed, 1 failed"},
		},
		"the slowest packages come first": {
			`{"Action":"pass","Package":"quick","Test":"A","Elapsed":70}
{"Action":"pass","Package":"quick","Elapsed":2}
{"Action":"pass","Package":"slow","Elapsed":61.7}`, true, []string{"  62 s slow\n   2 s quick\n1 passed"},
		},
		"a test that is under way when its process is killed": {
			`{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"output","Package":"p","Test":"B","Output":"panic: test timed out\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t3s\n"}
{"Action":"fail","Package":"p","Elapsed":3}`, false, []string{"FAILED p B: it didn't end\npanic: test timed out", "FAIL\tp", "1 passed, 1 failed"},
		},
		"go test is killed": {
			`{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"so far"}
{"Action":"start","Package":"q"}
{"Action":"pass","Package":"q"}`, false, []string{"FAILED p : it didn't end\nso far", "1 passed, 1 failed"},
		},
		"no test is no success": {``, false, []string{"0 passed"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if ok := summarise(strings.NewReader(tc.in), &out); ok != tc.ok {
				t.Errorf("got %v: %s", ok, &out)
			}
			for _, s := range tc.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("%q isn't in %s", s, &out)
				}
			}
		})
	}
}
