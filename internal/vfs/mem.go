package vfs

import (
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Mem is a file system in memory. It begins as an empty root directory. Names are
// not checked for permissions and Fd is 0.
type Mem struct{ *tree }

// NewMem returns an empty file system in memory.
func NewMem() *Mem { return &Mem{newTree(false)} }

// memFile is an open file of a tree.
type memFile struct {
	t      *tree
	n      *inode
	name   string
	flag   int
	closed atomic.Bool
}

const accessMode = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

// enter is the start of every call: is the file open, and open for this?
func (f *memFile) enter(denied int) error {
	if f.closed.Load() {
		return os.ErrClosed
	}
	if err := f.t.stop.enter(); err != nil {
		return err
	}
	if f.flag&accessMode == denied {
		return syscall.EBADF
	}
	return nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	err := f.enter(os.O_WRONLY)
	if err == nil && off < 0 {
		err = syscall.EINVAL
	}
	if err != nil {
		return 0, failed("read", f.name, err)
	}
	f.n.mu.RLock()
	defer f.n.mu.RUnlock()
	n := f.n.data.readAt(b, off)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	return f.write(b, off)
}

func (f *memFile) WriteBuffersAt(bufs [][]byte, off int64) (int, error) {
	if len(bufs) == 1 {
		return f.write(bufs[0], off)
	}
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	return f.write(all, off)
}

func (f *memFile) write(b []byte, off int64) (int, error) {
	err := f.enter(os.O_RDONLY)
	if err == nil && off < 0 {
		err = syscall.EINVAL
	}
	if err != nil {
		return 0, failed("write", f.name, err)
	}
	op, n, err := f.store(b, off)
	if n > 0 {
		f.t.stop.leave(Op{Kind: OpWrite, Name: f.name, Off: off, Len: n})
	}
	if op != nil {
		op.done.Store(true)
	}
	return n, failed("write", f.name, err)
}

// store writes what fits.
func (f *memFile) store(b []byte, off int64) (op *fileOp, n int, err error) {
	f.t.mu.RLock()
	defer f.t.mu.RUnlock()
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	b, err = f.fitLocked(b, off)
	if len(b) > 0 {
		op = f.n.writeLocked(b, off, f.t.track)
		f.n.mtime = time.Now()
	}
	return op, len(b), err
}

// fitLocked cuts b to the space there is and counts that space as used.
func (f *memFile) fitLocked(b []byte, off int64) ([]byte, error) {
	var err error
	grow := max(0, off+int64(len(b))-f.n.data.size)
	if limit := f.t.limit.Load(); limit > 0 && grow > 0 && grow > limit-f.t.used.Load() {
		free := max(0, limit-f.t.used.Load())
		b = b[:max(0, min(int64(len(b)), f.n.data.size+free-off))]
		grow = max(0, off+int64(len(b))-f.n.data.size)
		err = syscall.ENOSPC
	}
	if len(b) > 0 && f.n.links > 0 {
		f.t.used.Add(grow)
	}
	return b, err
}

func (f *memFile) Truncate(size int64) error {
	err := f.enter(os.O_RDONLY)
	if err == nil && size < 0 {
		err = syscall.EINVAL
	}
	if err != nil {
		return failed("truncate", f.name, err)
	}
	f.truncate(size)
	f.t.stop.leave(Op{Kind: OpTruncate, Name: f.name, Off: size})
	return nil
}

func (f *memFile) truncate(size int64) {
	f.t.mu.RLock()
	defer f.t.mu.RUnlock()
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if f.n.links > 0 {
		f.t.used.Add(size - f.n.data.size)
	}
	f.n.truncateLocked(size, f.t.track)
	f.n.mtime = time.Now()
}

func (f *memFile) Preallocate(off, n int64) error {
	err := f.enter(os.O_RDONLY)
	if err == nil && off < 0 {
		err = syscall.EINVAL
	}
	return failed("fallocate", f.name, err)
}

func (f *memFile) Sync() error {
	if err := f.enter(-1); err != nil {
		return failed("fdatasync", f.name, err)
	}
	f.sync((*inode).syncLocked)
	f.t.stop.leave(Op{Kind: OpSync, Name: f.name})
	return nil
}

func (f *memFile) sync(how func(*inode)) {
	if !f.t.track {
		return
	}
	f.t.mu.RLock()
	defer f.t.mu.RUnlock()
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	how(f.n)
}

// dropPending is what a failed Sync does to a Crash. A Mem forgets nothing: its
// contents are the page cache, which goes on answering reads.
func (f *memFile) dropPending() { f.sync((*inode).dropLocked) }

func (f *memFile) Size() (int64, error) {
	if err := f.enter(-1); err != nil {
		return 0, failed("stat", f.name, err)
	}
	f.n.mu.RLock()
	defer f.n.mu.RUnlock()
	return f.n.data.size, nil
}

func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return failed("close", f.name, os.ErrClosed)
	}
	return nil
}

func (f *memFile) Name() string { return f.name }
func (f *memFile) Fd() uintptr  { return 0 }
