package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"time"

	"github.com/rotpeter/rotpeter/log/batch"
)

// A log moves to another data directory while it is in use (KIP-113). A copy, the
// future log, grows in <topic>-<partition>.<32 hex digits>-future: each segment
// with the same base and the same bytes. When it is nearly complete the log's gate
// closes: appends wait. Then, in this order,
//
//	the rest is copied, and all of it made durable,
//	the new place is recorded where it survives (the metadata log),
//	the log's directory is renamed -delete, in its own directory,
//	the copy's directory gets the partition's name,
//
// and the gate opens onto the copy. Whenever it stops in between, the next start
// finds out: as long as both directories are there, the log is the log and the
// move begins again; where only the copy is left, and recorded as the place, it is
// complete. Kafka started there does the same (recoverAbandonedFutureLogs). Kafka
// itself renames the other way round, which leaves two logs after a crash that it
// refuses to start with, and records the place before the copy is complete.

const (
	// moveStepBytes is how much is copied at once.
	moveStepBytes = 1 << 20
	// moveSyncBytes is how much is copied before it is synced: what a disk has to write
	// at once keeps the syncs of others waiting.
	moveSyncBytes = 16 << 20
	// moveSwapBytes is how much may be missing when the gate is closed: appends wait
	// for as long as it takes to copy that.
	moveSwapBytes = 1 << 20
)

// Directory names the data directory that the log is in.
func (l *Log) Directory() string { return l.store.dir }

// Offline says why the log's data directory is out of service, nil if it is not.
func (l *Log) Offline() error { return l.store.Err() }

// lockForChange locks the log, or the one that took its place, for a change. It
// waits while a swap is under way.
func (l *Log) lockForChange() *Log {
	for {
		l.mu.Lock()
		gate, to := l.gate, l.successor
		switch {
		case gate != nil:
			l.mu.Unlock()
			<-gate
		case to != nil:
			l.mu.Unlock()
			l = to
		default:
			return l
		}
	}
}

// movedTo is the log that took this one's place, nil if there is none. It waits
// while a swap is under way.
func (l *Log) movedTo() *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	if gate := l.gate; gate != nil {
		l.mu.Unlock()
		<-gate
		l.mu.Lock()
	}
	return l.successor
}

// openFuture returns the copies that grow in this directory, in no order.
func (s *Store) openFuture() []*Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Log, 0, len(s.future))
	for _, l := range s.future {
		all = append(all, l)
	}
	return all
}

// beginFuture makes an empty copy of a log, which begins where the log's first segment does.
func (s *Store) beginFuture(from *Log) (*Log, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if err := s.forget(from.at); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, retiredName(from.at, s.o.NewID(), futureDirSuffix))
	l := s.newLog(from.at, dir, from.id, from.config.Load())
	l.watchers = from.watchers
	base := (*from.segments.Load())[0].base
	l.begin(base, time.Now().UnixMilli())
	if ps := from.producersAt(base); ps != nil {
		l.producers = ps
		l.snapshots = []pendingSnapshot{{base, ps.snapshot()}}
	}
	return l, s.addFuture(l)
}

// producersAt is what the log knew of its producers at the base of a segment, from the
// snapshot that was taken there; nil if there is none.
func (l *Log) producersAt(base int64) *producers {
	var b []byte
	l.mu.Lock()
	for _, p := range l.snapshots {
		if p.offset == base {
			b = p.bytes
		}
	}
	l.mu.Unlock()
	if b == nil {
		var err error
		if b, err = readFile(l.store.fs, l.snapshotPath(base), maxSnapshotBytes); err != nil {
			return nil
		}
	}
	ps, err := parseSnapshot(b)
	if err != nil {
		return nil
	}
	return ps
}

// loadFuture opens the copy of a log that an earlier process began.
func (s *Store) loadFuture(from *Log, dir string) (*Log, error) {
	entries, err := s.listSettled(dir)
	if err != nil {
		return nil, worldly("read "+dir, err)
	}
	f := &found{}
	for _, e := range entries {
		if err := s.sort(f, dir, e); err != nil {
			return nil, err
		}
	}
	l := s.newLog(from.at, dir, from.id, from.config.Load())
	if err := l.loadFrom(f); err != nil {
		return nil, err
	}
	l.watchers = from.watchers
	return l, s.addFuture(l)
}

func (s *Store) addFuture(l *Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if l.onDisk {
		s.dropPointsLocked(l.at)
	}
	s.future[l.at] = l
	l.unveil()
	return nil
}

// dropFuture has the copy of a log removed. discard is false if its files are to stay as they are.
func (s *Store) dropFuture(l *Log, discard bool) error {
	s.mu.Lock()
	if s.future[l.at] == l {
		delete(s.future, l.at)
	}
	s.mu.Unlock()
	l.mu.Lock()
	l.closed = true
	onDisk := l.onDisk
	l.mu.Unlock()
	var err error
	if discard && onDisk && s.Err() == nil {
		l.deleted.Store(true)
		l.keep()
		var to string
		if to, err = s.retireDir(l.at, l.path(), deleteDirSuffix, l.config.Load().FileDeleteDelayMillis); err == nil {
			l.dir.Store(&to)
		}
		l.unkeep()
	}
	for _, g := range *l.segments.Load() {
		g.close()
	}
	return err
}

// copier copies one log into another one.
type copier struct {
	from, to *Log
	src      *segment // of from: that of to's active segment
	buf      []byte
	in       []incoming
}

// errRewritten: segments of the log were replaced by others while they were copied. The copy
// is to begin again.
var errRewritten = errors.New("the log was rewritten while it was copied")

// missing is how many bytes the copy lacks, from its active segment on.
func (c *copier) missing() int64 {
	base, n := c.to.active().base, int64(0)
	for _, g := range *c.from.segments.Load() {
		if g.base >= base {
			n += g.size.Load()
		}
	}
	return max(n-c.to.active().size.Load(), 0)
}

// step copies some whole batches, at most limit bytes unless the first one is
// larger. done tells that there was nothing left. Error: the world's, of either
// log; ErrStorage also where the log is damaged.
func (c *copier) step(limit int) (n int, done bool, err error) {
	if err := c.from.Err(); err != nil { // a copy would hide it
		return 0, false, err
	}
	if err := c.to.wake(); err != nil {
		return 0, false, err
	}
	all := *c.from.segments.Load()
	g := c.to.active()
	i := floor(all, g.base)
	if i < 0 { // retention took it away: nothing below the first one is wanted
		return 0, false, c.mirror(nil, all)
	}
	src, pos := all[i], g.size.Load()
	if src.base != g.base || c.src != nil && c.src.base == src.base && c.src != src {
		return 0, false, fmt.Errorf("%w: %s, segment %d", errRewritten, c.from.at, g.base)
	}
	c.src = src
	size := src.size.Load()
	if pos < size {
		b, err := c.read(src, pos, size, limit)
		if err != nil && c.from.segmentOf(src.base) != src {
			return 0, false, nil
		}
		if err == nil {
			err = c.follow(b)
		}
		return len(b), false, err
	}
	if i+1 == len(all) {
		return 0, true, nil
	}
	return 0, false, c.mirror(src, all[i+1:])
}

// read reads whole batches of a segment from a position on.
func (c *copier) read(src *segment, pos, size int64, limit int) ([]byte, error) {
	f, err := src.open()
	if err != nil {
		return nil, src.failed("open", err)
	}
	defer f.release()
	for want := min(int64(limit), size-pos); ; {
		if int64(len(c.buf)) < want {
			c.buf = make([]byte, want)
		}
		b := c.buf[:want]
		if n, err := f.ReadAt(b, pos); n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, src.uncopied(pos, err)
		}
		end := wholeBatches(b)
		if end > 0 {
			return b[:end], src.verifyCopy(f, b[:end], pos)
		}
		need := int64(min(batch.HeaderBytes, size-pos))
		if want >= need {
			h, err := batch.Stored(b)
			if err != nil {
				return nil, src.uncopied(pos, err)
			}
			need = int64(h.Size())
		}
		if need <= want || need > size-pos {
			return nil, src.uncopied(pos, fmt.Errorf("a batch of %d bytes passes the end at %d", need, size))
		}
		want = need
	}
}

// uncopied says that there is no batch to be copied. That one on disk is corrupt is not a client's fault.
func (g *segment) uncopied(pos int64, err error) error {
	return fmt.Errorf("%w: %s at byte %d: %v", ErrStorage, g.path(logSuffix), pos, err)
}

// wholeBatches is how many of the bytes are whole batches.
func wholeBatches(b []byte) (n int) {
	const lengthAt, before = 8, 12 // the length counts what follows it
	for len(b)-n >= batch.LegacyBytes {
		size := int64(int32(binary.BigEndian.Uint32(b[n+lengthAt:]))) + before
		if size < batch.LegacyBytes || size > int64(len(b)-n) {
			break
		}
		n += int(size)
	}
	return n
}

// follow appends what was copied, after a look at each CRC: batches as they are,
// with their offsets and leader epochs.
func (c *copier) follow(b []byte) error {
	l := c.to
	in, err := splitStored(c.in[:0], b)
	if err != nil {
		return fmt.Errorf("%w: %s is damaged after offset %d: %w", ErrStorage, l.at, l.Offsets().End, err)
	}
	c.in = in
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusalLocked(); err != nil {
		return err
	}
	g, conf := l.active(), l.config.Load()
	if in[0].h.BaseOffset < g.end {
		return fmt.Errorf("%w: a copy of %s ends at offset %d, and is to go on at %d", ErrStorage, l.at, g.end, in[0].h.BaseOffset)
	}
	if err := l.writeLocked(g, []incoming{{b: b}}, len(b), conf); err != nil {
		return err
	}
	l.acceptLocked(millis(time.Now()), g, in, len(b), conf)
	return nil
}

// mirror ends the copy of a segment, nil if the log has it no more, and begins that of the first of the
// next ones.
func (c *copier) mirror(src *segment, next []*segment) error {
	if err := c.settleSegment(src); err != nil || len(next) == 0 {
		return err
	}
	l, base := c.to, next[0].base
	ps := c.from.producersAt(base)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ps != nil { // it knows of batches that are gone
		l.producers = ps
	}
	if src != nil && src.size.Load() == 0 { // compaction left nothing in it, and it is where the log begins or goes on
		h, err := l.createLocked(l.active())
		if err != nil {
			return l.unwritten("create segment "+offsetName(src.base)+" of a copy of "+l.at.String(), err)
		}
		h.release()
	}
	l.startSegmentAtLocked(base, millis(time.Now()), l.config.Load())
	l.publishLocked(l.marks.load().Start, base)
	return nil
}

// settleSegment takes over what the batches of a segment do not tell: its aborted
// transactions may have begun below the log's start.
func (c *copier) settleSegment(src *segment) error {
	if src == nil {
		return nil
	}
	aborted, err := src.abortedTxns()
	if err != nil {
		if c.from.segmentOf(src.base) != src {
			return nil
		}
		return err
	}
	a := new(growing[abortedTxn])
	for _, t := range aborted.all() {
		a.add(t)
	}
	c.from.mu.Lock()
	modified, created := src.modified, src.created
	c.from.mu.Unlock()
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	g := c.to.active()
	g.aborted.Store(a)
	g.modified, g.created = modified, created
	return nil
}

// close shuts the log's gate: it changes no more until open. ErrClosed if the log was removed.
func (c *copier) close() error {
	l := c.from
	l.keep()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusalLocked(); err != nil {
		l.unkeep()
		return err
	}
	l.gate = make(chan struct{})
	return nil
}

// open opens the gate: onto the copy if it has taken the log's place.
func (c *copier) open(swapped bool) {
	l := c.from
	l.mu.Lock()
	if swapped {
		l.closed, l.successor = true, c.to
	}
	close(l.gate)
	l.gate = nil
	l.mu.Unlock()
	l.unkeep()
	l.watchers.poke()
}

// complete makes the copy equal to the log, whose gate is shut, and durable. The
// caller holds the copy's keep.
func (c *copier) complete() error {
	for done := false; !done; {
		var err error
		if _, done, err = c.step(moveStepBytes); err != nil {
			return err
		}
	}
	from, to := c.from, c.to
	if err := c.settleSegment(from.active()); err != nil {
		return err
	}
	if err := c.takeOver(); err != nil {
		return err
	}
	if !to.onDisk { // the caller is the only one who could change that
		return nil
	}
	// The recovery point must be past all sealed segments: compaction leaves gaps in them,
	// which a recovery would take for the end.
	if err := errors.Join(c.sync(), to.finishSealed()); err != nil {
		return err
	}
	return to.store.saveAll()
}

// sync makes the copy durable as far as it goes.
func (c *copier) sync() error {
	l := c.to
	l.mu.Lock()
	if !l.onDisk {
		l.mu.Unlock()
		return nil
	}
	commit := l.joinLocked()
	l.mu.Unlock()
	l.store.flusher.poke()
	<-commit.Done()
	return commit.Err()
}

// takeOver copies what is in memory only.
func (c *copier) takeOver() error {
	from, to := c.from, c.to
	from.mu.Lock()
	ps, es, o, onDisk, cleaned := from.producers.clone(), *from.epochs.Load(), from.marks.load(), from.onDisk, from.cleaned
	from.mu.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	if onDisk {
		if err := to.materializeLocked(); err != nil {
			return worldly("make the directory of a copy of "+to.at.String(), err)
		}
	}
	if to.marks.load().End != o.End {
		return fmt.Errorf("%w: a copy of %s ends at offset %d, the log at %d", ErrStorage, to.at, to.marks.load().End, o.End)
	}
	to.producers = ps
	to.epochs.Store(&es)
	to.config.Store(from.config.Load())
	to.cleaned = cleaned
	to.publishLocked(o.Start, o.End)
	if to.lastSnap != o.End {
		to.snapshots = append(to.snapshots, pendingSnapshot{o.End, ps.snapshot()})
		to.oddSnap = max(to.oddSnap, o.End)
	}
	return nil
}

// clone is a deep copy.
func (ps *producers) clone() *producers {
	c := &producers{short: ps.short, byID: maps.Clone(ps.byID), open: append([]openTxn(nil), ps.open...)}
	for id, p := range c.byID {
		own := *p
		c.byID[id] = &own
	}
	return c
}

// swap puts the complete copy in the log's place. The log's gate is shut, and both
// logs' keeps are held. An error takes the directory out of service in which it
// happened; the copy is the log all the same.
func (c *copier) swap() {
	from, to := c.from, c.to
	s, d := from.store, to.store
	from.deleted.Store(true)
	s.mu.Lock()
	if s.logs[from.at] == from {
		delete(s.logs, from.at)
	}
	s.mu.Unlock()
	if from.onDisk && s.Err() == nil {
		if old, err := s.retire(from.at, deleteDirSuffix, from.config.Load().FileDeleteDelayMillis); err == nil {
			from.dir.Store(&old)
		} else if !errors.Is(err, ErrOffline) {
			_ = s.fail(err) // it would be taken for the log at the next start
		}
	}
	final := partitionDir(d.dir, to.at)
	if to.onDisk {
		err := d.fs.Rename(to.path(), final)
		if err == nil {
			err = d.fs.SyncDir(d.dir)
		}
		if err != nil {
			_ = d.fail(fmt.Errorf("rename the directory of %s: %w", to.at, err))
		}
	}
	to.dir.Store(&final)
	d.mu.Lock()
	delete(d.future, to.at)
	d.logs[to.at] = to
	d.mu.Unlock()
	for _, g := range *from.segments.Load() {
		g.close()
	}
	d.kick(to)
}
