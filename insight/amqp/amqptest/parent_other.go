//go:build !linux

package amqptest

import "syscall"

func dieWithParent() syscall.SysProcAttr { return syscall.SysProcAttr{} }
