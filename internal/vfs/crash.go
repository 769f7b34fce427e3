package vfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash is a file system in memory that knows what is durable: of each file the
// bytes at its last Sync and the operations since, of each directory the names at
// its last SyncDir and the operations since.
type Crash struct{ *tree }

// NewCrash returns an empty file system.
func NewCrash() *Crash { return &Crash{newTree(true)} }

// OnOp has look called after each operation that changed something (bytes, sizes,
// names, or what is durable) and before that operation returns to its caller. In
// look the file system may be used, above all Crash. nil ends it.
func (c *Crash) OnOp(look func(Op)) {
	if look == nil {
		c.stop.look.Store(nil)
		return
	}
	c.stop.look.Store(&look)
}

// Trace has the operations that OnOp sees tell where they come from, Op.Site.
func (c *Crash) Trace(sites *Sites) { c.stop.trace.Store(sites) }

// Ops returns how many operations have changed something.
func (c *Crash) Ops() int { return int(c.stop.count.Load()) }

// StopAfter lets n more operations change something. Everything after that
// returns ErrCrashed, reading too, except Close.
func (c *Crash) StopAfter(n int) {
	c.stop.last.Store(c.stop.count.Load() + int64(n))
	c.stop.crashed.Store(n == 0)
}

// Mode says what a crash leaves of what was not durable.
type Mode int

// The modes. Whatever was durable survives all of them.
const (
	// LoseUnsynced: nothing else survives.
	LoseUnsynced Mode = iota
	// KeepAll: everything had just reached the disk.
	KeepAll
	// LoseNames: all bytes, but no name since SyncDir.
	LoseNames
	// LoseBytes: all names, but no bytes and sizes since Sync: new files are empty.
	LoseBytes
	// ZeroTail: all names and sizes, but no bytes: files have grown by zeros.
	ZeroTail
	// Torn: a random part. Of the bytes since Sync any subset of 512-byte sectors,
	// each as it was after any of its writes; a size the file had; of the name
	// operations a prefix or a subset. An operation survives only together with
	// earlier ones on the same name, file or directory, and bytes past a truncation
	// only together with it: file systems keep their own structures in order.
	Torn
	// Kill: the process died and the machine did not. Everything written is there,
	// but is no more durable than it was. A write from which OnOp has not returned
	// may have stored only its first sectors, unless the seed is 0.
	Kill
)

// Modes returns all modes.
func Modes() []Mode {
	return []Mode{LoseUnsynced, KeepAll, LoseNames, LoseBytes, ZeroTail, Torn, Kill}
}

var modeNames = [...]string{"lose-unsynced", "keep-all", "lose-names", "lose-bytes", "zero-tail", "torn", "kill"}

// String returns the name of the mode.
func (m Mode) String() string {
	if m >= 0 && int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", int(m))
}

// Crash returns the file system that is found after a crash at this moment. c
// itself goes on as if nothing had happened. Locks are free in the new one, and
// neither OnOp nor StopAfter is set. The seed chooses where the mode is random;
// the same operations, mode and seed give the same result.
func (c *Crash) Crash(mode Mode, seed uint64) *Crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &wreck{from: c.tree, to: newTree(true), mode: mode, seed: seed, copies: map[*inode]*inode{}}
	w.rng = rand.New(rand.NewPCG(seed, uint64(mode)))
	w.to.limit.Store(c.limit.Load())
	if mode == Kill {
		w.duplicateAll()
	} else {
		w.names = w.chooseNames()
		w.to.root = w.salvage(c.root)
	}
	return &Crash{w.to}
}

// Moment returns a copy of c at this moment: Crash gives of it what it would have
// given of c, and calls that are under way stay so. It costs as much as one crash
// and shares all bytes, so a test can take a moment at each operation and look at
// what the modes make of it afterwards, elsewhere.
func (c *Crash) Moment() *Crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &wreck{from: c.tree, to: newTree(true), mode: Kill, whole: true, copies: map[*inode]*inode{}}
	w.to.limit.Store(c.limit.Load())
	w.duplicateAll()
	return &Crash{w.to}
}

// wreck builds the file system after a crash.
type wreck struct {
	from, to *tree
	mode     Mode
	whole    bool // Moment: nothing is cut, and what is under way stays so
	seed     uint64
	rng      *rand.Rand
	names    map[*inode]map[string]*inode // the surviving names where neither stable nor entries
	copies   map[*inode]*inode            // Kill only: by original
}

// chooseNames decides which name operations a torn crash keeps, and returns the
// entries of the directories concerned.
func (w *wreck) chooseNames() map[*inode]map[string]*inode {
	if w.mode != Torn || len(w.from.changes) == 0 {
		return nil
	}
	entries := map[*inode]map[string]*inode{}
	for _, op := range w.keptNames() {
		for _, ch := range op {
			if entries[ch.dir] == nil {
				entries[ch.dir] = maps.Clone(ch.dir.stable)
			}
			nameOp{ch}.applyTo(ch.dir, entries[ch.dir])
		}
	}
	return entries
}

func (w *wreck) keptNames() []nameOp {
	all := w.from.changes
	keep := 0.5 // of 1
	switch w.rng.IntN(4) {
	case 0:
		return all
	case 1:
		return all[:w.rng.IntN(len(all)+1)]
	case 2:
		keep = 0.9
	}
	type place struct {
		dir  *inode
		name string
	}
	lostPlace, lost := map[place]bool{}, map[*inode]bool{}
	var kept []nameOp
	for _, op := range all {
		builds := func(ch change) bool { return lostPlace[place{ch.dir, ch.name}] || lost[ch.dir] || lost[ch.to] }
		if w.rng.Float64() < keep && !slices.ContainsFunc(op, builds) {
			kept = append(kept, op)
			continue
		}
		for _, ch := range op {
			lostPlace[place{ch.dir, ch.name}] = true
			if ch.to != nil {
				lost[ch.to] = true
			}
		}
	}
	return kept
}

// survivors returns the entries of dir that the crash left.
func (w *wreck) survivors(dir *inode) map[string]*inode {
	if chosen, ok := w.names[dir]; ok {
		return chosen
	}
	if dir.stable != nil && (w.mode == LoseUnsynced || w.mode == LoseNames || w.mode == Torn) {
		return dir.stable
	}
	return dir.entries
}

// salvage copies what a power cut left of n. All of the copy is durable.
func (w *wreck) salvage(n *inode) *inode {
	c := w.to.newInodeLocked(n.mode)
	c.mtime, c.links = n.mtime, 1
	if !n.dir() {
		c.data = w.salvageBytes(n)
		w.to.used.Add(c.data.size)
		return c
	}
	from := w.survivors(n)
	for _, name := range sortedNames(from) {
		c.entries[name] = w.salvage(from[name])
	}
	return c
}

func (w *wreck) salvageBytes(n *inode) content {
	if len(n.pending) == 0 && !n.dropped {
		return n.data.clone()
	}
	c := n.durable.clone()
	switch w.mode {
	case KeepAll, LoseNames:
		for _, op := range n.pending {
			op.apply(&c)
		}
	case ZeroTail:
		for _, op := range n.pending {
			op.applySize(&c)
		}
	case Torn:
		w.tear(&c, n)
	}
	return c
}

// tear applies to c, the durable content of n, a random part of what is pending.
func (w *wreck) tear(c *content, n *inode) {
	count := len(n.pending)
	t := tearing{seed: mix(w.seed ^ mix(n.id)), count: count}
	t.keep = []uint64{10, 50, 90, 100}[t.seed%4]
	sizes := count // the operations whose size survives
	if (t.seed>>8)%2 == 0 {
		sizes = int((t.seed >> 16) % uint64(count+1))
	}
	size := c.size
	past := int64(-1) // bytes from here on depend on a truncation that was lost
	for i, op := range n.pending {
		if i < sizes {
			size = op.size
		}
		switch {
		case op.data != nil:
			t.write(c, i, op, past)
		case i < sizes:
			c.setSize(op.size)
		case past < 0 || op.size < past:
			past = op.size
		}
	}
	c.setSize(size)
}

// tearing decides about the sectors of one file.
type tearing struct {
	seed  uint64
	count int    // pending operations
	keep  uint64 // of 100 sectors this many survive in their last state
}

// write applies the surviving sectors of operation i. A sector survives as it was
// after some operation: the later ones are lost together.
func (t *tearing) write(c *content, i int, op *fileOp, past int64) {
	for n := 0; n < len(op.data); {
		at := op.off + int64(n)
		end := min(len(op.data), n+int(sectorBytes-at%sectorBytes))
		if t.survives(at/sectorBytes, i) && (past < 0 || at < past) {
			c.writeAt(op.data[n:end], at)
		}
		n = end
	}
}

func (t *tearing) survives(sector int64, i int) bool {
	x := mix(t.seed + uint64(sector))
	return x%100 < t.keep || i < int((x>>32)%uint64(t.count+1))
}

// mix is the finalizer of splitmix64: a cheap hash.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// duplicateAll copies everything, with what is not durable.
func (w *wreck) duplicateAll() {
	w.to.root = w.duplicate(w.from.root)
	for _, op := range w.from.changes {
		w.to.changes = append(w.to.changes, w.duplicateOp(op))
	}
}

// duplicate copies n as a killed process leaves it.
func (w *wreck) duplicate(n *inode) *inode {
	if n == nil {
		return nil
	}
	if c := w.copies[n]; c != nil {
		return c
	}
	c := w.to.newInodeLocked(n.mode)
	w.copies[n] = c
	c.mtime, c.links, c.unsafe = n.mtime, n.links, n.unsafe
	if n.dir() {
		c.entries = w.duplicateNames(n.entries)
		c.stable = w.duplicateNames(n.stable)
		return c
	}
	c.dropped = n.dropped
	c.durable = n.durable.clone()
	w.duplicateBytes(c, n)
	if c.links > 0 {
		w.to.used.Add(c.data.size)
	}
	return c
}

func (w *wreck) duplicateNames(names map[string]*inode) map[string]*inode {
	if names == nil {
		return nil
	}
	c := make(map[string]*inode, len(names))
	for _, name := range sortedNames(names) {
		c[name] = w.duplicate(names[name])
	}
	return c
}

func (w *wreck) duplicateOp(op nameOp) nameOp {
	var c nameOp
	for _, ch := range op {
		c = append(c, change{w.duplicate(ch.dir), ch.name, w.duplicate(ch.to)})
	}
	return c
}

// duplicateBytes copies content and pending operations, cutting short the writes
// that were under way.
func (w *wreck) duplicateBytes(c, n *inode) {
	underway := func(op *fileOp) bool { return !op.done.Load() }
	if w.whole {
		c.data = n.data.clone()
		for _, op := range n.pending {
			if underway(op) {
				op = &fileOp{off: op.off, data: op.data, size: op.size} // the other one ends some time
			}
			c.pending = append(c.pending, op)
		}
		return
	}
	if w.seed == 0 || n.dropped || !slices.ContainsFunc(n.pending, underway) {
		c.data = n.data.clone()
		c.pending = slices.Clone(n.pending)
		return
	}
	c.data = n.durable.clone()
	for _, op := range n.pending {
		if underway(op) {
			op = w.cut(op)
		}
		op.apply(&c.data)
		kept := &fileOp{off: op.off, data: op.data, size: c.data.size}
		kept.done.Store(true)
		c.pending = append(c.pending, kept)
	}
}

// cut returns the first sectors of a write.
func (w *wreck) cut(op *fileOp) *fileOp {
	end := op.off + int64(w.rng.IntN(len(op.data)+1))
	end -= end % sectorBytes
	return &fileOp{off: op.off, data: op.data[:max(0, end-op.off)]}
}
