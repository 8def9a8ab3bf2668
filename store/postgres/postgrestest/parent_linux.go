package postgrestest

import "syscall"

func dieWithParent(attr syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Pdeathsig = syscall.SIGQUIT
	return &attr
}
