package vfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// quotaBlock is the piece in which space is given out.
const quotaBlock = 4096

// Quota is a file system with an end: it wraps another one and counts the blocks of the files that were
// written through it. What does not fit fails with ENOSPC, after as many bytes as do. Names cost nothing.
type Quota struct {
	FS

	mu    sync.Mutex
	limit int64
	used  int64
	files map[string]*space
}

// space is the blocks of one file in bytes.
type space struct {
	bytes int64
	gone  bool // the file was removed; what is still written to it is not counted
}

// NewQuota wraps inner, where there is nothing yet, with room for bytes.
func NewQuota(inner FS, bytes int64) *Quota {
	return &Quota{FS: inner, limit: bytes, files: map[string]*space{}}
}

// SetLimit changes the room; it may be less than what is used.
func (q *Quota) SetLimit(bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = bytes
}

// Free is the room that is left, not negative.
func (q *Quota) Free() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(q.limit-q.used, 0)
}

func (q *Quota) Usage(string) (Usage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Usage{Total: q.limit, Usable: max(q.limit-q.used, 0)}, nil
}

func (q *Quota) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := q.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	key := filepath.Clean(name)
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.files[key]
	if s == nil {
		s = &space{}
		q.files[key] = s
	}
	if flag&os.O_TRUNC != 0 {
		q.used -= s.bytes
		s.bytes = 0
	}
	return &quotaFile{f, q, s}, nil
}

func (q *Quota) Rename(oldname, newname string) error {
	if err := q.FS.Rename(oldname, newname); err != nil {
		return err
	}
	from, to := filepath.Clean(oldname), filepath.Clean(newname)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forgetLocked(to)
	moved := map[string]*space{}
	for name, s := range q.files {
		if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == filepath.Separator) {
			delete(q.files, name)
			moved[to+rest] = s
		}
	}
	for name, s := range moved {
		q.files[name] = s
	}
	return nil
}

func (q *Quota) Remove(name string) error {
	if err := q.FS.Remove(name); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forgetLocked(filepath.Clean(name))
	return nil
}

func (q *Quota) RemoveAll(name string) error {
	if err := q.FS.RemoveAll(name); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forgetLocked(filepath.Clean(name))
	return nil
}

// forgetLocked gives back the blocks of a file, or of all files of a directory.
func (q *Quota) forgetLocked(name string) {
	for file, s := range q.files {
		if rest, ok := strings.CutPrefix(file, name); ok && (rest == "" || rest[0] == filepath.Separator) {
			q.used -= s.bytes
			s.bytes, s.gone = 0, true
			delete(q.files, file)
		}
	}
}

// growLocked takes blocks up to a size and gives the size for which there was room.
func (q *Quota) growLocked(s *space, size int64) int64 {
	want := (size + quotaBlock - 1) / quotaBlock * quotaBlock
	if s.gone || want <= s.bytes {
		return size
	}
	room := max(q.limit-q.used, 0) / quotaBlock * quotaBlock
	got := min(want-s.bytes, room)
	s.bytes += got
	q.used += got
	return min(size, s.bytes)
}

type quotaFile struct {
	File
	q *Quota
	s *space
}

// fit takes room for n bytes at off and tells how many of them fit.
func (f *quotaFile) fit(off int64, n int) int {
	f.q.mu.Lock()
	defer f.q.mu.Unlock()
	return int(max(min(f.q.growLocked(f.s, off+int64(n))-off, int64(n)), 0))
}

func (f *quotaFile) WriteAt(b []byte, off int64) (int, error) {
	n := f.fit(off, len(b))
	if n == len(b) {
		return f.File.WriteAt(b, off)
	}
	written, err := f.File.WriteAt(b[:n], off)
	if err == nil {
		err = failed("write", f.Name(), syscall.ENOSPC)
	}
	return written, err
}

func (f *quotaFile) WriteBuffersAt(bufs [][]byte, off int64) (int, error) {
	total := 0
	for _, b := range bufs {
		total += len(b)
	}
	n := f.fit(off, total)
	if n == total {
		return f.File.WriteBuffersAt(bufs, off)
	}
	written, err := f.File.WriteBuffersAt(first(bufs, n), off)
	if err == nil {
		err = failed("write", f.Name(), syscall.ENOSPC)
	}
	return written, err
}

func (f *quotaFile) Preallocate(off, n int64) error {
	f.q.mu.Lock()
	was := f.s.bytes
	if f.q.growLocked(f.s, off+n) < off+n {
		f.q.used -= f.s.bytes - was
		f.s.bytes = was
		f.q.mu.Unlock()
		return failed("fallocate", f.Name(), syscall.ENOSPC)
	}
	f.q.mu.Unlock()
	return f.File.Preallocate(off, n)
}

func (f *quotaFile) Truncate(size int64) error {
	if err := f.File.Truncate(size); err != nil {
		return err
	}
	f.q.mu.Lock()
	defer f.q.mu.Unlock()
	if blocks := (size + quotaBlock - 1) / quotaBlock * quotaBlock; blocks < f.s.bytes {
		f.q.used -= f.s.bytes - blocks
		f.s.bytes = blocks
	}
	return nil
}
