package vfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The error names the other process, and its death frees the lock.
func TestLockHeldByAnotherProcess(t *testing.T) {
	if name := os.Getenv("VFS_TEST_HOLD"); name != "" {
		if _, err := OS().Lock(name); err != nil {
			t.Fatal(err)
		}
		fmt.Println("locked")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent lets go
		return
	}
	name := filepath.Join(t.TempDir(), ".lock")
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockHeldByAnotherProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "VFS_TEST_HOLD="+name)
	in, err := cmd.StdinPipe()
	ok(t, err)
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	said := ""
	for b := make([]byte, 100); !strings.Contains(said, "locked"); {
		n, err := out.Read(b)
		ok(t, err)
		said += string(b[:n])
	}
	_, err = OS().Lock(name)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("got %v, want it to name process %d", err, cmd.Process.Pid)
	}
	ok(t, cmd.Process.Kill())
	_ = cmd.Wait() // reports the kill
	_ = in.Close()
	l, err := OS().Lock(name)
	ok(t, err)
	ok(t, l.Close())
}

func TestOSFileHasADescriptor(t *testing.T) {
	f := open(t, OS(), filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE)
	if f.Fd() == 0 {
		t.Error("no descriptor")
	}
	if g := open(t, NewMem(), "/f", os.O_RDWR|os.O_CREATE); g.Fd() != 0 {
		t.Error("memory has a descriptor")
	}
}
