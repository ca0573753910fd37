package plugin_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// What programs of the same user may read of a process belongs to root as soon as they may not.
func TestProgramsThatItStartsCannotReadIt(t *testing.T) {
	const nobody = 65534
	user, own := os.Getuid(), os.Environ()
	var attributes *syscall.SysProcAttr
	if user == 0 {
		user, attributes = nobody, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	p := spawnAs(t, attributes)
	for _, name := range []string{"environ", "mem", "maps"} {
		if owner := ownerOf(t, p.cmd.Process.Pid, name); owner != 0 {
			t.Errorf("%s belongs to %d", name, owner)
		}
	}
	_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.cmd.Process.Pid))
	if os.Getuid() != 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("its environment can be read: %v", err)
	}
	// The mesh reads how much memory it takes; so may everybody.
	if peak := p.peakKiB(); peak == 0 {
		t.Error("its memory is not told")
	}
	other := exec.Command("sleep", "60")
	other.SysProcAttr, other.Env = attributes, own
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	if owner := ownerOf(t, other.Process.Pid, "environ"); owner != user {
		t.Errorf("a program that hides nothing belongs to %d", owner)
	}
}

func ownerOf(t *testing.T, pid int, name string) int {
	t.Helper()
	found, err := os.Stat(filepath.Join("/proc", fmt.Sprint(pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return int(found.Sys().(*syscall.Stat_t).Uid)
}
