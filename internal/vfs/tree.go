package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tree is a file system in memory: what Mem and Crash have in common. There are
// no links and no permissions. Relative names start at the root.
//
// Calls on files hold mu for reading and the inode's mutex. Calls on names, and
// Crash, hold mu for writing, so that they see one moment.
type tree struct {
	track bool         // keep what is needed to know what is durable
	used  atomic.Int64 // bytes of all files that have a name
	limit atomic.Int64 // 0 = none

	stop gate

	mu      sync.RWMutex
	root    *inode
	lastID  uint64
	locks   map[string]bool
	changes []nameOp // not durable, in order
}

func newTree(track bool) *tree {
	t := &tree{track: track, locks: map[string]bool{}}
	t.root = t.newInodeLocked(fs.ModeDir | 0o700)
	t.root.links = 1
	return t
}

func (t *tree) newInodeLocked(mode fs.FileMode) *inode {
	t.lastID++
	n := &inode{id: t.lastID, mode: mode, mtime: time.Now()}
	if mode.IsDir() {
		n.entries = map[string]*inode{}
	}
	return n
}

// SetLimit sets the size of the disk in bytes; 0 means no limit. A write past it
// stores what fits and returns ENOSPC.
func (t *tree) SetLimit(bytes int64) { t.limit.Store(bytes) }

// clean brings name into the form that locks are kept under.
func clean(name string) string { return path.Clean("/" + filepath.ToSlash(name)) }

// findLocked walks to name.
func (t *tree) findLocked(name string) (*inode, error) {
	n := t.root
	for part := range strings.SplitSeq(clean(name), "/") {
		if part == "" {
			continue
		}
		if !n.dir() {
			return nil, syscall.ENOTDIR
		}
		if n = n.entries[part]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// parentLocked returns the directory that holds or would hold name, and the last
// part of name: empty for the root.
func (t *tree) parentLocked(name string) (*inode, string, error) {
	dir, base := path.Split(clean(name))
	n, err := t.findLocked(dir)
	if err == nil && !n.dir() {
		err = syscall.ENOTDIR
	}
	return n, base, err
}

func failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (t *tree) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err := t.stop.enter(); err != nil {
		return nil, failed("open", name, err)
	}
	n, changed, err := t.open(name, flag, perm)
	if err != nil {
		return nil, failed("open", name, err)
	}
	if changed {
		t.stop.leave(Op{Kind: OpOpen, Name: name})
	}
	return &memFile{t: t, n: n, name: name, flag: flag}, nil
}

func (t *tree) open(name string, flag int, perm fs.FileMode) (n *inode, changed bool, err error) {
	if flag&os.O_APPEND != 0 {
		return nil, false, syscall.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, base, err := t.parentLocked(name)
	if err != nil {
		return nil, false, err
	}
	if base == "" {
		return nil, false, syscall.EISDIR
	}
	n = dir.entries[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, false, syscall.ENOENT
	case n == nil:
		n = t.newInodeLocked(perm.Perm())
		t.alterLocked(change{dir, base, n})
		return n, true, nil
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, false, syscall.EEXIST
	case n.dir():
		return nil, false, syscall.EISDIR
	case flag&os.O_TRUNC != 0 && n.data.size > 0:
		t.used.Add(-n.data.size)
		n.truncateLocked(0, t.track)
		return n, true, nil
	}
	return n, false, nil
}

func (t *tree) Rename(oldname, newname string) error {
	err := t.stop.enter()
	if err == nil {
		err = t.rename(oldname, newname)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	t.stop.leave(Op{Kind: OpRename, Name: oldname, To: newname})
	return nil
}

func (t *tree) rename(oldname, newname string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, oldbase, err := t.parentLocked(oldname)
	if err != nil {
		return err
	}
	to, newbase, err := t.parentLocked(newname)
	if err != nil {
		return err
	}
	n := from.entries[oldbase]
	was := to.entries[newbase]
	switch {
	case n == nil:
		return syscall.ENOENT
	case n == was && !n.dir():
		return nil
	case newbase == "" || was != nil && was.dir():
		return syscall.EEXIST
	case n.dir() && strings.HasPrefix(clean(newname), clean(oldname)+"/"):
		return syscall.EINVAL
	case was != nil && n.dir():
		return syscall.ENOTDIR
	}
	t.alterLocked(change{to, newbase, n}, change{from, oldbase, nil})
	return nil
}

func (t *tree) Remove(name string) error {
	err := t.stop.enter()
	if err == nil {
		err = t.remove(name)
	}
	if err != nil {
		return failed("remove", name, err)
	}
	t.stop.leave(Op{Kind: OpRemove, Name: name})
	return nil
}

func (t *tree) remove(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, base, err := t.parentLocked(name)
	if err != nil {
		return err
	}
	n := dir.entries[base]
	switch {
	case base == "":
		return syscall.EBUSY
	case n == nil:
		return syscall.ENOENT
	case len(n.entries) > 0:
		return syscall.ENOTEMPTY
	}
	t.alterLocked(change{dir, base, nil})
	return nil
}

// RemoveAll removes entry by entry, as the os package does: a crash may come
// between any two.
func (t *tree) RemoveAll(name string) error {
	err := t.stop.enter()
	if err != nil {
		return failed("remove", name, err)
	}
	t.mu.RLock()
	n, err := t.findLocked(name)
	var names []string
	if err == nil {
		names = sortedNames(n.entries)
	}
	t.mu.RUnlock()
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return failed("remove", name, err)
	}
	for _, base := range names {
		if err := t.RemoveAll(path.Join(name, base)); err != nil {
			return err
		}
	}
	return t.Remove(name)
}

// MkdirAll creates directory by directory, like RemoveAll.
func (t *tree) MkdirAll(name string, perm fs.FileMode) error {
	if err := t.stop.enter(); err != nil {
		return failed("mkdir", name, err)
	}
	at := ""
	for part := range strings.SplitSeq(clean(name), "/") {
		at = path.Join(at, "/", part)
		made, err := t.mkdir(at, perm)
		if err != nil {
			return failed("mkdir", name, err)
		}
		if made {
			t.stop.leave(Op{Kind: OpMkdir, Name: at})
		}
	}
	return nil
}

func (t *tree) mkdir(name string, perm fs.FileMode) (made bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.findLocked(name)
	if err == nil {
		if !n.dir() {
			return false, syscall.ENOTDIR
		}
		return false, nil
	}
	if err := t.stop.enter(); err != nil {
		return false, err
	}
	dir, base, err := t.parentLocked(name)
	if err != nil {
		return false, err
	}
	t.alterLocked(change{dir, base, t.newInodeLocked(fs.ModeDir | perm.Perm())})
	return true, nil
}

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := t.stop.enter(); err != nil {
		return nil, failed("readdir", name, err)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, err := t.findLocked(name)
	if err == nil && !n.dir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, failed("readdir", name, err)
	}
	list := make([]fs.DirEntry, 0, len(n.entries))
	for _, base := range sortedNames(n.entries) {
		list = append(list, fs.FileInfoToDirEntry(n.entries[base].info(base)))
	}
	return list, nil
}

func (t *tree) Stat(name string) (fs.FileInfo, error) {
	if err := t.stop.enter(); err != nil {
		return nil, failed("stat", name, err)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, err := t.findLocked(name)
	if err != nil {
		return nil, failed("stat", name, err)
	}
	return n.info(path.Base(clean(name))), nil
}

func (t *tree) SyncDir(name string) error {
	err := t.stop.enter()
	if err == nil {
		err = t.syncDir(name)
	}
	if err != nil {
		return failed("fsync", name, err)
	}
	t.stop.leave(Op{Kind: OpSyncDir, Name: name})
	return nil
}

func (t *tree) syncDir(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.findLocked(name)
	if err == nil && !n.dir() {
		err = syscall.ENOTDIR
	}
	if err == nil && t.track {
		t.syncDirLocked(n)
	}
	return err
}

func (t *tree) SyncFS(name string) error {
	err := t.stop.enter()
	if err == nil {
		err = t.syncFS(name)
	}
	if err != nil {
		return failed("syncfs", name, err)
	}
	t.stop.leave(Op{Kind: OpSyncFS, Name: name})
	return nil
}

func (t *tree) syncFS(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.findLocked(name); err != nil || !t.track {
		return err
	}
	for _, op := range t.changes {
		t.settleLocked(op)
	}
	t.changes = nil
	walk(t.root, func(n *inode) { n.syncLocked() })
	return nil
}

// dropPending is what a failed SyncFS does to the bytes of all files.
func (t *tree) dropPending() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.track {
		walk(t.root, func(n *inode) { n.dropLocked() })
	}
}

// walk calls fn for each file below n. A file that lost its name is not synced:
// nobody can tell after a crash.
func walk(n *inode, fn func(*inode)) {
	if !n.dir() {
		fn(n)
	}
	for _, child := range n.entries {
		walk(child, fn)
	}
}

func (t *tree) Lock(name string) (io.Closer, error) {
	f, err := t.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := clean(name)
	if t.locks[key] {
		return nil, failed("lock", name, fmt.Errorf("%w by process %d", ErrLocked, os.Getpid()))
	}
	t.locks[key] = true
	return &memLock{File: f, t: t, key: key}, nil
}

type memLock struct {
	File
	t   *tree
	key string
}

func (l *memLock) Close() error {
	if err := l.File.Close(); err != nil {
		return err
	}
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	delete(l.t.locks, l.key)
	return nil
}

// unlimited is the size of a disk without SetLimit: 1 TiB.
const unlimited = 1 << 40

func (t *tree) Usage(name string) (Usage, error) {
	if _, err := t.Stat(name); err != nil {
		return Usage{}, err
	}
	total := t.limit.Load()
	if total == 0 {
		total = unlimited
	}
	return Usage{Total: total, Usable: max(0, total-t.used.Load())}, nil
}

// info describes n under the given name.
func (n *inode) info(name string) fs.FileInfo {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return &memInfo{name: name, size: n.data.size, mode: n.mode, mtime: n.mtime}
}

type memInfo struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func (i *memInfo) Name() string       { return i.name }
func (i *memInfo) Size() int64        { return i.size }
func (i *memInfo) Mode() fs.FileMode  { return i.mode }
func (i *memInfo) ModTime() time.Time { return i.mtime }
func (i *memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i *memInfo) Sys() any           { return nil }

// sortedNames are the names in a directory, in order: what is random stays the same by seed.
func sortedNames(entries map[string]*inode) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
