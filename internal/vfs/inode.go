package vfs

import (
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// inode is a file or directory of a tree.
type inode struct {
	id   uint64
	mode fs.FileMode

	// A directory. entries is guarded by tree.mu, and so is stable: the entries
	// that are durable, nil while that is all of them.
	entries map[string]*inode
	stable  map[string]*inode
	unsafe  int // changes in tree.changes that are about this directory

	// A file.
	mu    sync.RWMutex
	data  content
	mtime time.Time
	links int // 0 = removed, only handles are left; guarded by tree.mu too

	// What a Crash knows besides: the durable content, valid while there are
	// pending operations or dropped is set (otherwise it is data), and the
	// operations since the last Sync.
	durable content
	pending []*fileOp
	dropped bool // a failed Sync lost operations: data is no longer what was written
}

// fileOp is a write, or a Truncate if data is nil.
type fileOp struct {
	off  int64
	data []byte
	size int64       // of the file afterwards
	done atomic.Bool // the call has returned
}

func (n *inode) dir() bool { return n.mode.IsDir() }

// write stores b, which stays the caller's. With track the operation is kept.
func (n *inode) writeLocked(b []byte, off int64, track bool) *fileOp {
	if !track {
		n.data.writeAt(b, off)
		return nil
	}
	n.forkLocked()
	n.data.writeAt(b, off)
	op := &fileOp{off: off, data: slices.Clone(b), size: n.data.size}
	n.pending = append(n.pending, op)
	return op
}

func (n *inode) truncateLocked(size int64, track bool) {
	if size == n.data.size {
		return
	}
	if track {
		n.forkLocked()
		op := &fileOp{off: size, size: size}
		op.done.Store(true)
		n.pending = append(n.pending, op)
	}
	n.data.setSize(size)
}

// forkLocked keeps the durable content before the first operation after a Sync.
func (n *inode) forkLocked() {
	if len(n.pending) == 0 && !n.dropped {
		n.durable = n.data.clone()
	}
}

// syncLocked makes the pending operations durable.
func (n *inode) syncLocked() {
	if n.dropped {
		for _, op := range n.pending {
			op.apply(&n.durable)
		}
	} else {
		n.durable = content{}
	}
	n.pending = nil
}

// dropLocked is a Sync that failed: the pages count as clean but never reached
// the disk. Sizes are kept in the file system's own journal and do survive.
func (n *inode) dropLocked() {
	if len(n.pending) == 0 {
		return
	}
	for _, op := range n.pending {
		op.applySize(&n.durable)
	}
	n.pending, n.dropped = nil, true
}

// apply carries the operation out on c.
func (op *fileOp) apply(c *content) {
	if op.data == nil {
		c.setSize(op.size)
		return
	}
	c.writeAt(op.data, op.off)
}

// applySize does to the size what the operation does, without the bytes.
func (op *fileOp) applySize(c *content) {
	if op.data == nil || op.size > c.size {
		c.setSize(op.size)
	}
}

// change gives a name in a directory to another inode, or removes it (to == nil).
type change struct {
	dir  *inode
	name string
	to   *inode
}

// nameOp is one atomic operation on names: one change, or two for a rename.
type nameOp []change

// applyTo carries out on entries what the operation does to dir.
func (op nameOp) applyTo(dir *inode, entries map[string]*inode) {
	for _, ch := range op {
		if ch.dir != dir {
			continue
		}
		if ch.to == nil {
			delete(entries, ch.name)
		} else {
			entries[ch.name] = ch.to
		}
	}
}

// alter carries out a name operation. With t.track it stays pending until SyncDir.
func (t *tree) alterLocked(op ...change) {
	if t.track {
		t.changes = append(t.changes, op)
		for _, ch := range op {
			if ch.dir.stable == nil {
				ch.dir.stable = maps.Clone(ch.dir.entries)
			}
			ch.dir.unsafe++
		}
	}
	for _, ch := range op {
		if was := ch.dir.entries[ch.name]; was != nil && was != ch.to {
			t.unlinkLocked(was)
		}
		if ch.to != nil {
			t.linkLocked(ch.to)
		}
		nameOp{ch}.applyTo(ch.dir, ch.dir.entries)
	}
}

func (t *tree) linkLocked(n *inode) {
	n.links++
	if n.links == 1 {
		t.used.Add(n.data.size)
	}
}

func (t *tree) unlinkLocked(n *inode) {
	n.links--
	if n.links == 0 {
		t.used.Add(-n.data.size)
	}
}

// syncDirLocked makes the changes in dir durable, and the earlier changes that
// they build on: a rename into dir brings its other directory along.
func (t *tree) syncDirLocked(dir *inode) {
	type place struct {
		dir  *inode
		name string
	}
	needed := map[place]bool{}
	var now, later []nameOp
	for _, op := range slices.Backward(t.changes) {
		if slices.ContainsFunc(op, func(ch change) bool { return ch.dir == dir || needed[place{ch.dir, ch.name}] }) {
			now = append(now, op)
			for _, ch := range op {
				needed[place{ch.dir, ch.name}] = true
			}
		} else {
			later = append(later, op)
		}
	}
	for _, op := range slices.Backward(now) {
		t.settleLocked(op)
	}
	slices.Reverse(later)
	t.changes = later
}

// settleLocked makes one change durable.
func (t *tree) settleLocked(op nameOp) {
	for _, ch := range op {
		nameOp{ch}.applyTo(ch.dir, ch.dir.stable)
		ch.dir.unsafe--
		if ch.dir.unsafe == 0 {
			ch.dir.stable = nil
		}
	}
}
