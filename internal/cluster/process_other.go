//go:build !linux

package cluster

import "syscall"

// dieWithParent has no counterpart here: Stop ends the child.
func dieWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }
