package vfs

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// syncData asks the drive itself to write: fsync(2) on Darwin stops short of that.
func syncData(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	return err
}

// reserve does nothing: Darwin's F_PREALLOCATE is kept away from files that grow.
func reserve(int, int64, int64) error { return syscall.EOPNOTSUPP }

// syncFS is not offered: sync(2) returns before the data is written.
func syncFS(int) error { return errors.ErrUnsupported }

func lockFile(fd int) error {
	return ignoringEINTR(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
}

// lockOwner cannot be known for flock(2).
func lockOwner(int) int { return 0 }
