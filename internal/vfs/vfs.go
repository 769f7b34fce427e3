package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked: another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("locked")

// FS is a file system. Names are paths as the os package takes them. Errors are
// those of the os package: errors.Is with fs.ErrNotExist, fs.ErrExist,
// syscall.ENOSPC and so on works for every implementation.
type FS interface {
	// OpenFile opens a file, never a directory. O_APPEND does not go with WriteAt
	// and is not supported.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename moves a file or directory, replacing a file of the new name at once.
	// Durable after SyncDir of the directories involved.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes name and all below it; nil if there is none.
	RemoveAll(name string) error
	// MkdirAll creates a directory and its missing parents.
	MkdirAll(name string, perm fs.FileMode) error
	// ReadDir lists a directory sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes a file or directory.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable: files created, renamed and
	// removed in it. Not the name of the directory itself, nor the files' bytes.
	SyncDir(name string) error
	// SyncFS makes everything durable in the file system that holds name
	// (syncfs(2)). errors.ErrUnsupported where the system has no such call.
	SyncFS(name string) error
	// Lock takes an exclusive advisory lock on the file, which is created if
	// missing. It does not wait: if another holds it, the error is ErrLocked
	// (errors.Is) and names the holder where known. Close releases it.
	Lock(name string) (io.Closer, error)
	// Usage tells the space of the file system that holds name.
	Usage(name string) (Usage, error)
}

// File is an open file. It may be used from several goroutines.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteBuffersAt writes the buffers one after the other (pwritev). It returns
	// the bytes written and an error unless that is all of them. The elements of
	// bufs may be changed, the bytes are not.
	WriteBuffersAt(bufs [][]byte, off int64) (int, error)
	// Truncate changes the size; a longer file is filled with zeros. Blocks that
	// Preallocate reserved past the new size are given back, also if the size
	// stays as it was.
	Truncate(size int64) error
	// Preallocate reserves blocks for n bytes at off without changing the size
	// (fallocate KEEP_SIZE). It does nothing where unsupported.
	Preallocate(off, n int64) error
	// Sync makes bytes and size durable (fdatasync). After an error the bytes
	// written since the last Sync may be lost, and a later Sync that succeeds says
	// nothing about them.
	Sync() error
	// Size returns the size in bytes.
	Size() (int64, error)
	// Name returns the name the file was opened with.
	Name() string
	// Fd returns the raw descriptor, valid until Close; 0 means there is none.
	Fd() uintptr
}

// Usage is the space of a file system in bytes.
type Usage struct {
	Total  int64 // size of the file system
	Usable int64 // free and available to this process
}
