package vfs

import "golang.org/x/sys/unix"

func syncData(fd int) error { return unix.Fdatasync(fd) }

func reserve(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// syncFS reports write errors of any file since the last call from Linux 5.8 on.
func syncFS(fd int) error {
	return ignoringEINTR(func() error { return unix.Syncfs(fd) })
}

// lockFile takes a record lock that belongs to the open file, not to the process.
// Unlike flock(2) it also keeps out, and is kept out by, the locks that Java's
// FileChannel takes: a real Kafka on the same directory.
func lockFile(fd int) error {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return ignoringEINTR(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l) })
}

// lockOwner returns the process that holds a lock of the classic kind on fd, or a
// number below 1.
func lockOwner(fd int) int {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil || l.Type == unix.F_UNLCK {
		return 0
	}
	return int(l.Pid)
}
