package vfs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Blocks reserved past the end are given back by a Truncate to the same size.
func TestTruncateGivesReservedBlocksBack(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f := open(t, OS(), name, os.O_RDWR|os.O_CREATE)
	_, err := f.WriteAt([]byte("abc"), 0)
	ok(t, err)
	blocks := func() int64 {
		var st unix.Stat_t
		ok(t, unix.Stat(name, &st))
		return st.Blocks
	}
	ok(t, f.Preallocate(0, 1<<20))
	if blocks() < 2048 {
		t.Skip("this file system reserves nothing")
	}
	ok(t, f.Truncate(3))
	if n := blocks(); n > 64 {
		t.Errorf("%d blocks left", n)
	}
}

// The lock of Java's FileChannel, which Kafka takes on .lock, is a POSIX record
// lock. Within one process such a lock conflicts with ours too.
func TestLockRespectsRecordLocks(t *testing.T) {
	name := filepath.Join(t.TempDir(), ".lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	ok(t, err)
	defer f.Close()
	ok(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	if _, err := OS().Lock(name); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	// The failed attempt closed another descriptor of the file, which by the rules
	// of POSIX frees this process's record locks.
	l, err := OS().Lock(name)
	ok(t, err)
	defer l.Close()
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("record lock beside ours: %v, want EAGAIN", err)
	}
}
