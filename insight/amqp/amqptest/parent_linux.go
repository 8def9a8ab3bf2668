package amqptest

import "syscall"

func dieWithParent() syscall.SysProcAttr { return syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
