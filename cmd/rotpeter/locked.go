//go:build unix

package main

import (
	"io"
	"os"
	"syscall"
)

// locked tells whether another process holds the lock of a data directory. It only asks:
// nothing is locked, not even for a moment. Locks of flock(2), which the broker takes on
// Darwin, are not seen.
func locked(lockFile string) bool {
	f, err := os.Open(lockFile)
	if err != nil {
		return false
	}
	defer f.Close()
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &l); err != nil {
		return false
	}
	return l.Type != syscall.F_UNLCK
}
