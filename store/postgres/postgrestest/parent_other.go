//go:build !linux

package postgrestest

import "syscall"

func dieWithParent(attr syscall.SysProcAttr) *syscall.SysProcAttr { return &attr }
