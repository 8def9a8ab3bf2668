// Command drop drops its code and goes on.
package main

import (
	"fmt"

	"reeve.dev/reeve/internal/memory"
)

func main() {
	for range 2 {
		memory.DropCode()
	}
	fmt.Println("still here")
}
