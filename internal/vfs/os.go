package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxIovecs is IOV_MAX of Linux and Darwin: more buffers in one call are refused.
const maxIovecs = 1024

// OS returns the file system of the operating system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("descriptor of %s: %w", name, err), f.Close())
	}
	return &osFile{File: f, raw: raw}, nil
}

func (osFS) Rename(oldname, newname string) error         { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                     { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                  { return os.RemoveAll(name) }
func (osFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }

func (osFS) SyncDir(name string) error {
	d, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) SyncFS(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	if err := syncFS(int(d.Fd())); err != nil {
		return errors.Join(&fs.PathError{Op: "syncfs", Path: name, Err: err}, d.Close())
	}
	return d.Close()
}

func (osFS) Usage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Usage{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	block := int64(st.Bsize)
	return Usage{Total: int64(st.Blocks) * block, Usable: int64(st.Bavail) * block}, nil
}

// Lock keeps the process id in the file, for the error of whoever comes second.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(int(f.Fd())); err != nil {
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
			err = fmt.Errorf("%w by %s", ErrLocked, holder(f))
		}
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: name, Err: err}, f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osLock{f}, nil
}

type osLock struct{ f *os.File }

// Close removes our process id first, so that a lock taken by a program that
// writes none is not blamed on us.
func (l *osLock) Close() error { return errors.Join(l.f.Truncate(0), l.f.Close()) }

// holder says who holds the lock on f, as well as can be known.
func holder(f *os.File) string {
	var b [20]byte
	n, err := f.ReadAt(b[:], 0)
	if pid, perr := strconv.Atoi(string(bytes.TrimSpace(b[:n]))); (err == nil || err == io.EOF) && perr == nil {
		return fmt.Sprintf("process %d", pid)
	}
	if pid := lockOwner(int(f.Fd())); pid > 0 {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// osFile takes ReadAt, WriteAt, Truncate, Close, Name and Fd from os.File.
type osFile struct {
	*os.File
	raw syscall.RawConn
}

func (f *osFile) WriteBuffersAt(bufs [][]byte, off int64) (int, error) {
	if len(bufs) == 1 {
		return f.WriteAt(bufs[0], off)
	}
	total := 0
	for {
		bufs = skip(bufs, 0)
		if len(bufs) == 0 {
			return total, nil
		}
		n, err := f.writev(bufs[:min(len(bufs), maxIovecs)], off)
		total += n
		off += int64(n)
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, &fs.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		bufs = skip(bufs, n)
	}
}

// writev is one pwritev, which may write less than asked.
func (f *osFile) writev(bufs [][]byte, off int64) (n int, err error) {
	cerr := f.control(func(fd int) error {
		n, err = unix.Pwritev(fd, bufs, off)
		return err
	})
	return max(n, 0), cerr
}

// skip drops the first n bytes of bufs, and empty buffers after them.
func skip(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

func (f *osFile) Preallocate(off, n int64) error {
	if n <= 0 {
		return nil
	}
	err := f.control(func(fd int) error { return reserve(fd, off, n) })
	if err == nil || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}

func (f *osFile) Sync() error {
	if err := f.control(syncData); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// control calls fn with the descriptor, which stays open meanwhile even if
// another goroutine calls Close.
func (f *osFile) control(fn func(fd int) error) error {
	var err error
	cerr := f.raw.Control(func(fd uintptr) {
		err = ignoringEINTR(func() error { return fn(int(fd)) })
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// ignoringEINTR repeats a system call that a signal interrupted: the runtime's
// own signals do that on some file systems.
func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); err != syscall.EINTR {
			return err
		}
	}
}

// IsMount reports whether a directory is where a file system is mounted: it lies
// on another device than its parent. Always false for file systems in memory.
func IsMount(fsys FS, dir string) bool {
	here, err := fsys.Stat(dir)
	if err != nil {
		return false
	}
	above, err := fsys.Stat(filepath.Join(dir, ".."))
	if err != nil {
		return false
	}
	a, ok := here.Sys().(*syscall.Stat_t)
	b, ok2 := above.Sys().(*syscall.Stat_t)
	return ok && ok2 && (a.Dev != b.Dev || a.Ino == b.Ino)
}
