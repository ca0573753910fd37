package plugin

import "syscall"

// hide closes /proc/PID/environ and /proc/PID/mem to the programs that the plugin starts: the mesh's token is there. It also means no core
// dumps, and no debugger of the same user. What anybody may read, such as /proc/PID/status, stays open.
func hide() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
