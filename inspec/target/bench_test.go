package target_test

import (
	"os/exec"
	"strings"
	"testing"

	"reeve.dev/reeve/inspec/target"
)

// BenchmarkRun compares a command through a shell's stream with the floor: the
// same commands in a script that one shell reads, output thrown away.
func BenchmarkRun(b *testing.B) {
	const cmd = "printf x"
	b.Run("floor", func(b *testing.B) {
		script := strings.Repeat("/bin/sh -c 'printf x' </dev/null >/dev/null\n", b.N)
		sh := exec.Command("/bin/sh")
		sh.Stdin = strings.NewReader(script)
		b.ResetTimer()
		if err := sh.Run(); err != nil {
			b.Fatal(err)
		}
	})
	for _, uri := range []string{"shell:/bin/sh", "local:"} {
		b.Run(uri, func(b *testing.B) {
			t, err := target.Open(b.Context(), uri)
			if err != nil {
				b.Fatal(err)
			}
			defer t.Close()
			b.ResetTimer()
			for b.Loop() {
				if _, err := t.Run(b.Context(), cmd); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
