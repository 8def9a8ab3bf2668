//go:build !linux

package memory

// DropCode does nothing here.
func DropCode() {}
