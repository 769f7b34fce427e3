package log

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log/batch"
)

// scanBytes is what recovery reads at once: large sequential reads, every byte
// checked, cost least (performance.md).
const scanBytes = 1 << 20

// scanner reads the batches of a segment from a position on, and checks their CRCs
// and that their offsets go forward. It jumps over damage that is known.
type scanner struct {
	g      *segment
	f      io.ReaderAt
	pos    int64 // of the next batch
	at     int64 // of the batch returned last
	size   int64
	expect int64
	bound  int64 // offsets lie below: the next segment's base
	// strict asks that each batch begins where the one before ended: true of what
	// was never compacted.
	strict bool
	dense  bool // the topic is not compacted, though it may have been once
	holes  []damage

	gaps     []indexEntry // a complete index (gaps.go), or nil
	epochs   epochs       // as they are below the offset known
	known    int64        // -1: epochs are not looked at
	epoch    int32        // of the batch before, -1: none
	odd      bool         // epochs contradict the batch before
	rejected int64        // a whole batch begins here, but not with the offset or epoch that it was written with; -1: none

	buf []byte
	off int64 // position of buf[0]
	n   int
}

func newScanner(g *segment, f io.ReaderAt, pos, size int64) *scanner {
	return &scanner{g: g, f: f, pos: pos, size: size, expect: -1, bound: math.MaxInt64, known: -1, epoch: batch.NoLeaderEpoch, rejected: -1, buf: make([]byte, min(scanBytes, max(size-pos, batch.HeaderBytes)))}
}

// peek makes n bytes at a position visible; n is at most len(s.buf).
func (s *scanner) peek(pos int64, n int) ([]byte, error) {
	if pos < s.off || pos+int64(n) > s.off+int64(s.n) {
		want := min(int64(len(s.buf)), s.size-pos)
		got, err := s.f.ReadAt(s.buf[:want], pos)
		s.off, s.n = pos, got
		if got < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return s.buf[pos-s.off:][:n], nil
}

// next returns the next batch's header. Errors: io.EOF at the end, errTorn for what
// is no batch, or the disk's.
func (s *scanner) next() (h batch.Header, pos int64, err error) {
	s.pos, s.expect = skipHoles(s.holes, s.pos, s.expect)
	pos = s.pos
	if pos >= s.size {
		return h, pos, io.EOF
	}
	if h, err = s.whole(pos, s.size); err != nil {
		return h, pos, err
	}
	if err := s.follows(&h, pos); err != nil {
		return h, pos, err
	}
	err = s.indexed(&h, pos)
	if err == nil {
		err = s.inEpoch(&h, pos)
	}
	if err != nil {
		if errors.Is(err, errTorn) {
			s.rejected = pos
		}
		return h, pos, err
	}
	s.at, s.pos, s.expect = pos, pos+int64(h.Size()), h.LastOffset()+1
	return h, pos, nil
}

// whole reads the batch at a position if there is one and its CRC is right. One of more than most bytes
// is refused. Errors: errTorn, or the disk's.
func (s *scanner) whole(pos, most int64) (h batch.Header, err error) {
	left := s.size - pos
	if left < batch.LegacyBytes {
		return h, fmt.Errorf("%w: %d bytes are left", errTorn, left)
	}
	b, err := s.peek(pos, int(min(left, batch.HeaderBytes)))
	if err != nil {
		return h, err
	}
	if h, err = batch.Stored(b); err == nil {
		err = batch.CheckShape(&h)
	}
	if err == nil && int64(h.Size()) > min(left, most) {
		err = fmt.Errorf("it has %d bytes of %d", min(left, most), h.Size())
	}
	if err == nil && h.LastOffset()-s.g.base > maxRelativeOffset {
		err = fmt.Errorf("its offset %d is too far from the segment's base", h.LastOffset())
	}
	if err != nil {
		return h, fmt.Errorf("%w: %w", errTorn, err)
	}
	return h, s.checkCRC(&h, pos)
}

// follows checks that a batch has its place among the offsets: the CRC does not cover its base offset.
func (s *scanner) follows(h *batch.Header, pos int64) error {
	switch {
	case h.BaseOffset < max(s.expect, s.g.base):
		return fmt.Errorf("%w: its base offset is %d, the batch before ended at %d", errTorn, h.BaseOffset, s.expect)
	case h.LastOffset() >= s.bound:
		return fmt.Errorf("%w: its last offset is %d, the next segment begins at %d", errTorn, h.LastOffset(), s.bound)
	case s.expect < 0 || h.BaseOffset == s.expect || h.Old: // of an old wrapper the last offset is known
		return nil
	case s.strict:
		return fmt.Errorf("%w: its base offset is %d, the batch before ended at %d", errTorn, h.BaseOffset, s.expect)
	}
	after, known, err := s.successor(h, pos)
	if err == nil && known && after.BaseOffset <= h.LastOffset() && !s.confirmed(h, pos) {
		err = fmt.Errorf("%w: its base offset is %d, the batch after it begins at %d", errTorn, h.BaseOffset, after.BaseOffset)
	}
	return err
}

// errTorn is what is not a whole batch.
var errTorn = errors.New("not a whole batch")

// checkCRC reads the batch piece by piece: it may be larger than the buffer.
func (s *scanner) checkCRC(h *batch.Header, pos int64) error {
	sum := uint32(0)
	from, table := h.CRCFrom()
	for at, end := pos+from, pos+int64(h.Size()); at < end; {
		n := int(min(end-at, int64(len(s.buf))))
		b, err := s.peek(at, n)
		if err != nil {
			return err
		}
		sum = crc32.Update(sum, table, b)
		at += int64(n)
	}
	if sum != h.CRC && !mutant.On(mutant.TornTailKept) {
		return fmt.Errorf("%w: wrong crc", errTorn)
	}
	return nil
}

// recover opens a log after a crash: everything from the segment of the recovery
// point on is read, its indexes are made again, and what is torn is cut off.
func (r *loading) recover() error {
	l := r.l
	first := max(floor(r.segments, r.point), 0)
	if err := r.readEpochs(r.segments[:first]); err != nil {
		return err
	}
	if err := r.readProducers(r.segments[first].base); err != nil {
		return err
	}
	r.adoptOlder(r.segments[first].base)
	r.known, r.epochs = r.epochs, r.epochs.until(r.segments[first].base)
	for _, g := range r.segments[first:] {
		g.finished = false
		g.trust() // it is read whole now
	}
	r.promised = max(r.promised, r.point)
	// What was found in segments that are read again is found again.
	l.setDamagesLocked(slices.DeleteFunc(slices.Clone(l.damages()), func(d damage) bool { return d.base >= r.segments[first].base }))
	l.durable, l.recovery = r.point, min(r.point, r.segments[first].base)
	if r.s.suspect {
		l.durable = min(r.point, r.segments[first].base)
	}
	l.names, l.rootUnsafe, l.idUnsafe = 1, true, true // the names of what is found may not be durable
	for i := first; i < len(r.segments); i++ {
		whole, err := r.rescan(i)
		if err != nil {
			return err
		}
		if !whole {
			break
		}
	}
	if r.next < r.promised && r.start < r.promised {
		g := r.active()
		r.next = max(r.promised, r.high)
		r.damage(damage{from: max(g.end, g.base), to: r.next, base: g.base, pos: g.size.Load(), end: g.size.Load(), reason: errors.New("the file ends")})
	}
	if r.next < r.start { // nothing that may be read is left
		return r.startOver()
	}
	if g := r.active(); len(l.damages()) > 0 {
		// The recovery point tells damage from a torn tail, so it must not go back.
		l.recovery = r.point
		if g.end < r.next { // what was there once keeps its offsets
			r.goOn(g)
		}
	}
	r.publish(r.next)
	l.epochsSafe = nil
	l.store.kick(l)
	return nil
}

// goOn has appends go to a new segment behind one that ends in damage.
func (r *loading) goOn(g *segment) {
	l := r.l
	g.end = r.next
	g.sealLocked()
	l.snapshots = append(l.snapshots, pendingSnapshot{r.next, l.producers.snapshot()})
	r.segments = append(r.segments, l.newSegment(r.next, r.now))
	l.setSegments(r.segments)
}

// startOver replaces segments that end below the log's start (LogLoader).
func (r *loading) startOver() error {
	l := r.l
	for _, g := range r.segments {
		if err := r.discard(g); err != nil {
			return err
		}
	}
	// They must not come back: the recovery point will be at the start, and what is in them
	// would be damage below it.
	if err := r.s.syncDir(l.path()); err != nil {
		return err
	}
	r.segments = nil
	l.producers = newProducers()
	l.setDamagesLocked(nil)
	l.begin(r.start, r.now)
	r.epochs, r.next = nil, r.start
	r.publish(r.start)
	l.epochsSafe = nil
	return nil
}

// rescan reads one segment whole and makes its indexes again. It is false if the log ends in it.
func (r *loading) rescan(i int) (whole bool, err error) {
	l, g := r.l, r.segments[i]
	f, err := g.open()
	if err != nil {
		return false, worldly("open segment "+offsetName(g.base), err)
	}
	defer f.release()
	if r.s.suspect {
		if err := rewriteBytes(f, g.size.Load()); err != nil {
			return false, worldly("write segment "+offsetName(g.base)+" again", err)
		}
	}
	m := new(memIndex)
	g.mem.Store(m)
	g.aborted.Store(new(growing[abortedTxn]))
	g.timesKnown, g.maxTimestamp, g.maxTimestampAt, g.sinceIndex = true, batch.NoTimestamp, g.base, 0
	g.end = g.base
	s := r.scan(i, f)
	for {
		h, pos, err := s.next()
		if err == io.EOF {
			break
		}
		if err == nil && r.lone(s, &h, i) {
			r.damage(damage{from: g.end, to: h.LastOffset() + 1, base: g.base, pos: pos, end: s.pos, reason: errors.New("the last batch lies behind a gap, where none can be in a segment that grows")})
			r.next = max(r.next, h.LastOffset()+1)
			break
		}
		var mark *marker
		if err == nil {
			mark, err = readMarker(f, &h, pos)
		}
		if errors.Is(err, errTorn) {
			if max(g.end, r.next) >= r.promised {
				return false, r.cut(i, f, pos, err)
			}
			if s.pos > pos { // whole, but no marker: a damaged range of its own
				r.damage(damage{from: h.BaseOffset, to: h.LastOffset() + 1, base: g.base, pos: pos, end: s.pos, reason: err})
				g.end = h.LastOffset() + 1
				continue
			}
			if err = r.around(i, s, pos, err); err == nil {
				continue
			}
		}
		if err != nil {
			return false, worldly("read segment "+offsetName(g.base), err)
		}
		g.index(m, &h, pos, r.c)
		g.end = h.LastOffset() + 1
		r.epochs, _ = r.epochs.assign(h.LeaderEpoch, h.BaseOffset)
		l.applyLocked(g, &h, mark)
	}
	r.next = max(g.end, r.next)
	if i+1 < len(r.segments) {
		return r.seal(i, f, s.strict)
	}
	return true, nil
}

// scan begins to read a segment whole.
func (r *loading) scan(i int, f *handle) *scanner {
	g := r.segments[i]
	s := newScanner(g, f, 0, g.size.Load())
	// What was compacted has gaps, also when the topic is not a compacted one any more.
	strict := !r.c.Compact && g.base >= r.l.cleaned
	s.expect, s.bound, s.strict, s.dense = g.base, g.limit.Load(), strict, strict
	if s.bound == math.MaxInt64 {
		s.bound = g.base + maxRelativeOffset + 1
	}
	if r.ended && i+1 == len(r.segments) {
		s.bound = min(s.bound, max(r.point, r.high)) // both say where the log ended
	}
	if s.known = 0; !r.remade {
		s.epochs, s.known = r.known, r.point
	}
	if len(r.epochs) > 0 {
		s.epoch = r.epochs.latest()
	}
	return s
}

// lone tells that a batch that was read, the last one of the log, lies behind a gap. A segment that grows
// has none, unless it is a copy of one that was compacted: what looks like that is an offset that
// went wrong.
func (r *loading) lone(s *scanner, h *batch.Header, i int) bool {
	g := r.segments[i]
	return !s.strict && !h.Old && s.pos == s.size && i+1 == len(r.segments) && r.young(g) && h.BaseOffset > g.end
}

// young tells that a segment was never compacted, as far as is known, and is not the copy of one that was.
func (r *loading) young(g *segment) bool { return !r.future && g.base >= r.l.cleaned }

// seal ends the reading of a segment that another one follows.
func (r *loading) seal(i int, f *handle, strict bool) (whole bool, err error) {
	l, g, next := r.l, r.segments[i], r.segments[i+1].base
	if next > g.end && (strict || r.young(g) && g.end < r.promised) {
		why := fmt.Errorf("%w: the segment ends at %d, the next begins at %d", errTorn, g.end, next)
		if g.end >= r.promised {
			return false, r.cut(i, f, g.size.Load(), why)
		}
		r.damage(damage{from: g.end, to: next, base: g.base, pos: g.size.Load(), end: g.size.Load(), reason: why})
	}
	g.end, r.next = next, max(r.next, next)
	g.sealLocked()
	if r.lost {
		r.takeSnapshot(next)
	}
	l.snapshots = append(l.snapshots, pendingSnapshot{next, l.producers.snapshot()})
	return true, nil
}

// around finds where whole batches go on after damage, and has the scanner go on there.
func (r *loading) around(i int, s *scanner, pos int64, why error) error {
	g := r.segments[i]
	s.expect = max(g.end, g.base)
	limit := g.limit.Load()
	if limit == math.MaxInt64 {
		limit = max(r.promised, r.high, s.expect)
	}
	d, err := s.extent(pos, limit, why, len(r.l.damages()) < maxRanges)
	if err != nil {
		return err
	}
	r.damage(d)
	s.pos, s.expect = d.end, d.to
	if d.end == s.size && i+1 == len(r.segments) {
		r.next = max(r.next, d.to) // the segment itself ends before: see goOn
	} else {
		g.end = d.to
	}
	return nil
}

// takeSnapshot takes over what a snapshot of an earlier life knows of the producers at an offset: batches
// before it were lost to damage.
func (r *loading) takeSnapshot(at int64) {
	l := r.l
	if _, ok := slices.BinarySearch(r.f.snapshots, at); !ok {
		return
	}
	b, err := readFile(r.s.fs, l.snapshotPath(at), maxSnapshotBytes)
	if err == nil {
		var ps *producers
		if ps, err = parseSnapshot(b); err == nil {
			l.producers, r.lost = ps, false
			return
		}
	}
	r.s.slog.Warn("a producer snapshot cannot be read", "log", l.at.String(), "offset", at, "reason", err)
}

// rewriteBytes writes what is read back, so that a sync covers it.
func rewriteBytes(f *handle, size int64) error {
	buf := make([]byte, min(size, scanBytes))
	for at := int64(0); at < size; {
		b := buf[:min(int64(len(buf)), size-at)]
		if n, err := f.ReadAt(b, at); n < len(b) {
			return err
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}

// cut ends the log at a position of a segment, where something else than a batch
// begins, above everything that was durable once: a torn tail.
func (r *loading) cut(i int, f *handle, pos int64, why error) error {
	l, g := r.l, r.segments[i]
	r.next = max(g.end, g.base)
	lost := g.size.Load() - pos
	for _, later := range r.segments[i+1:] {
		lost += later.size.Load()
	}
	l.store.slog.Warn("a torn tail is cut off", "log", l.at.String(), "offset", r.next, "bytes", lost, "reason", why)
	// The last first, so that a crash in between leaves no hole.
	for j := len(r.segments) - 1; j > i; j-- {
		if err := r.discard(r.segments[j]); err != nil {
			return err
		}
	}
	r.segments = r.segments[:i+1]
	l.setSegments(r.segments)
	if err := f.Truncate(pos); err != nil {
		return worldly("cut off a torn tail", err)
	}
	g.size.Store(pos)
	return nil
}

// damage takes a range out of service. Its bytes stay as they are. The leader epochs that the checkpoint
// has for it are kept.
func (r *loading) damage(d damage) {
	l := r.l
	for _, e := range r.known {
		if e.start >= d.from && e.start < d.to {
			r.epochs, _ = r.epochs.assign(e.epoch, e.start)
		}
	}
	r.lost = true
	producers := "known from before the range and from what follows it; a batch of the range that is sent again is not recognised, and the first new batch of a producer may be refused once"
	if n := len(l.producers.open); n > 0 {
		producers += fmt.Sprintf("; %d transactions are open before the range and stay so if their ends were in it", n)
	}
	l.addDamageLocked(d, producers)
}

// discard removes the files of a segment that holds nothing that was promised.
func (r *loading) discard(g *segment) error {
	g.close()
	for _, suffix := range []string{indexSuffix, timeIndexSuffix, txnIndexSuffix, snapshotSuffix, logSuffix} {
		if err := r.s.fs.Remove(g.path(suffix)); err != nil && !missing(err) {
			return worldly("remove a torn segment", err)
		}
	}
	return nil
}
