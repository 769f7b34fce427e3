package log

import (
	"sync"
	"sync/atomic"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// handle is an open file that is closed when its last user lets go of it.
type handle struct {
	vfs.File
	users atomic.Int64 // 0: closed for good
	used  atomic.Bool  // since the cache looked last
}

// hold takes part in the handle; false if it is closed already.
func (h *handle) hold() bool {
	for {
		n := h.users.Load()
		if n == 0 {
			return false
		}
		if h.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives up one hold. An error of close(2) says nothing that fdatasync
// would not have said.
func (h *handle) release() {
	if h.users.Add(-1) == 0 {
		_ = h.File.Close()
	}
}

// lazyFile is a file that is opened when somebody needs it and may be closed by
// the cache in between.
type lazyFile struct {
	cache *fileCache
	cur   atomic.Pointer[handle]
	// pinned keeps the file open: it has bytes that are not on stable storage, and a
	// failed write-back may be reported only to a descriptor that was open.
	pinned atomic.Bool

	mu      sync.Mutex // one opener at a time
	retired bool       // another file has its name, or will have
}

// held returns a held handle if the file is open. The caller releases it.
func (f *lazyFile) held() (h *handle, ok bool) {
	if h = f.cur.Load(); h == nil || !h.hold() {
		return nil, false
	}
	h.used.Store(true)
	return h, true
}

// open returns a held handle. The caller releases it. Where a name costs something to make, ask for held first.
func (f *lazyFile) open(name string, flag int) (*handle, error) {
	if h, ok := f.held(); ok {
		return h, nil
	}
	f.mu.Lock()
	if h := f.cur.Load(); h != nil && h.hold() {
		f.mu.Unlock()
		return h, nil
	}
	if f.retired {
		f.mu.Unlock()
		return nil, errReplaced
	}
	file, err := f.cache.fs.OpenFile(name, flag, 0o600)
	if err != nil {
		f.mu.Unlock()
		return nil, err
	}
	h := &handle{File: file}
	h.users.Store(2) // ours and the caller's
	h.used.Store(true)
	f.cur.Store(h)
	f.mu.Unlock()
	f.cache.add(f)
	return h, nil
}

// retire keeps the file from being opened again. Who holds it goes on with it.
func (f *lazyFile) retire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = true
}

func (f *lazyFile) isRetired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.retired
}

// drop closes the file as soon as nobody uses it.
func (f *lazyFile) drop() {
	if h := f.cur.Swap(nil); h != nil {
		h.release()
	}
}

// fileCache bounds how many files are open. Which one to close is decided by the
// clock rule: the first on the ring that was not used since the hand passed.
type fileCache struct {
	fs    vfs.FS
	limit int

	mu   sync.Mutex
	ring []*lazyFile
	hand int
}

// add puts a file that was just opened on the ring and closes another if there are
// too many. Files that are pinned or in use may push the number above the limit.
func (c *fileCache) add(f *lazyFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 2 * len(c.ring) {
		if len(c.ring) < c.limit {
			break
		}
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		old := c.ring[c.hand]
		h := old.cur.Load()
		if old == f {
			c.removeLocked(c.hand) // opened again: it goes to the end
			continue
		}
		if h != nil && (old.pinned.Load() || h.used.Swap(false)) {
			c.hand++
			continue
		}
		c.removeLocked(c.hand)
		old.drop()
	}
	c.ring = append(c.ring, f)
}

func (c *fileCache) removeLocked(i int) {
	last := len(c.ring) - 1
	c.ring[i] = c.ring[last]
	c.ring[last] = nil
	c.ring = c.ring[:last]
}
