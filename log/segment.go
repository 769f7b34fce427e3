package log

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/rotpeter/rotpeter/internal/invariant"
	"github.com/rotpeter/rotpeter/log/batch"
)

const (
	// headerWindowBytes is what is read at once to walk batch headers: the distance
	// between two index entries.
	headerWindowBytes = 4096
	// maxIndexBytes bounds an index file that is read whole: a 2 GiB segment of
	// the smallest batches with an entry for each.
	maxIndexBytes = 512 << 20
)

// segment is a stretch of the log in a file of its own. Fields without a comment
// about locks are set before the segment is published.
type segment struct {
	l    *Log
	base int64
	log  lazyFile
	idx  lazyFile

	size atomic.Int64 // valid bytes; published last, after everything about them

	// mem is the indexes while only memory has them whole: of the active segment, and
	// of a sealed one until the janitor has written them.
	mem     atomic.Pointer[memIndex]
	sealed  atomic.Pointer[sealedIndex] // else, once it was needed
	aborted atomic.Pointer[growing[abortedTxn]]
	load    sync.Mutex  // one loader at a time
	doubted atomic.Bool // the index led to what is no batch, and was made again once

	// The rest is guarded by l.mu, apart from single-threaded recovery.
	end            int64 // offset after the last batch
	maxTimestamp   int64 // -1: none
	maxTimestampAt int64 // last offset of the batch that has it
	timesKnown     bool  // maxTimestamp was looked up
	firstTimestamp int64 // of the first batch, decides the roll; -1: none
	firstKnown     bool
	created        int64 // milliseconds
	modified       int64 // milliseconds of the last write: stands in for the timestamps of records without any
	jitter         int64 // milliseconds that the roll comes early
	sinceIndex     int   // bytes since the last index entry
	reserved       int64 // blocks are reserved up to here
	exists         bool  // the file was created
	finished       bool  // sealed, and its files are complete and synced
}

// memIndex is the offset and time index of a segment in memory.
type memIndex struct {
	offsets growing[indexEntry]
	times   growing[timeEntry]
}

func (l *Log) newSegment(base, nowMillis int64) *segment {
	g := &segment{l: l, base: base, end: base, maxTimestamp: batch.NoTimestamp, maxTimestampAt: base, timesKnown: true, firstTimestamp: batch.NoTimestamp, created: nowMillis, modified: nowMillis}
	g.log.cache, g.idx.cache = &l.store.files, &l.store.files
	g.mem.Store(new(memIndex))
	g.aborted.Store(new(growing[abortedTxn]))
	return g
}

func (g *segment) path(suffix string) string {
	return filepath.Join(g.l.path(), offsetName(g.base)+suffix)
}

// open returns the held log file.
func (g *segment) open() (*handle, error) { return g.log.open(g.path(logSuffix), os.O_RDWR) }

// close lets go of the files; readers that hold them finish undisturbed.
func (g *segment) close() {
	g.log.drop()
	g.idx.drop()
}

// index appends the entries for a batch about to be published at position pos, as
// LogSegment.append does. The caller holds l.mu or is recovery.
func (g *segment) index(m *memIndex, h *batch.Header, pos int64, interval int) {
	if h.MaxTimestamp > g.maxTimestamp {
		g.maxTimestamp, g.maxTimestampAt = h.MaxTimestamp, h.LastOffset()
	}
	if !g.firstKnown {
		g.firstKnown, g.firstTimestamp = true, h.MaxTimestamp
	}
	if g.sinceIndex > interval {
		m.offsets.add(indexEntry{int32(h.LastOffset() - g.base), int32(pos)})
		g.addTime(m)
		g.sinceIndex = 0
	}
	g.sinceIndex += h.Size()
}

// addTime appends the largest timestamp so far if it is news.
func (g *segment) addTime(m *memIndex) {
	times := m.times.all()
	if g.maxTimestamp < 0 || len(times) > 0 && times[len(times)-1].timestamp >= g.maxTimestamp {
		return
	}
	m.times.add(timeEntry{g.maxTimestamp, int32(g.maxTimestampAt - g.base)})
}

// full reports that a batch up to lastOffset has no place in the segment's indexes.
func (g *segment) full(c *Config, lastOffset int64) bool {
	m := g.mem.Load()
	return lastOffset-g.base > math.MaxInt32 || m.offsets.size() >= c.maxIndexEntries() || m.times.size() >= c.maxTimeIndexEntries()
}

// floor gives the position of a batch at or before the one that holds the offset.
func (g *segment) floor(offset int64) (pos int64, err error) {
	if m := g.mem.Load(); m != nil {
		return floorRel(m.offsets.all(), offset-g.base), nil
	}
	block, err := g.block(func(e indexEntry) bool { return int64(e.rel) > offset-g.base })
	return floorRel(block, offset-g.base), err
}

// floorPos gives the last index entry at or before a position.
func (g *segment) floorPos(pos int64) (e indexEntry, ok bool, err error) {
	if m := g.mem.Load(); m != nil {
		e, ok = floorPos(m.offsets.all(), pos)
		return e, ok, nil
	}
	block, err := g.block(func(e indexEntry) bool { return int64(e.pos) > pos })
	e, ok = floorPos(block, pos)
	return e, ok, err
}

// block reads the piece of the sealed index that may hold what is looked for.
func (g *segment) block(after func(indexEntry) bool) ([]indexEntry, error) {
	s, err := g.sealedIndex()
	if err != nil || s.count == 0 {
		return nil, err
	}
	if m := g.mem.Load(); m != nil { // it was made again, and is not written yet
		return m.offsets.all(), nil
	}
	f, err := g.idx.open(g.path(indexSuffix), os.O_RDONLY)
	if err != nil {
		return nil, g.failed("open index", err)
	}
	defer f.release()
	block, err := s.block(f, after)
	if err != nil {
		return nil, g.failed("read index", err)
	}
	return block, nil
}

// sealedIndex loads the index of a segment found on disk at its first use. One that
// is missing or not to be believed is made again from the batches.
func (g *segment) sealedIndex() (*sealedIndex, error) {
	if s := g.sealed.Load(); s != nil {
		return s, nil
	}
	g.load.Lock()
	defer g.load.Unlock()
	if s := g.sealed.Load(); s != nil {
		return s, nil
	}
	entries, err := g.readIndex()
	if missing(err) || errors.Is(err, errDoubt) {
		if m, err := g.rebuild(err); err != nil {
			return nil, err
		} else {
			entries = m.offsets.all()
		}
	} else if err != nil {
		return nil, g.failed("read index", err)
	}
	s := newSealedIndex(entries)
	g.sealed.Store(s)
	return s, nil
}

func (g *segment) readIndex() ([]indexEntry, error) {
	b, err := readFile(g.l.store.fs, g.path(indexSuffix), maxIndexBytes)
	if err != nil {
		return nil, err
	}
	return parseIndex(b, g.size.Load())
}

// timeEntries gives the time index, from memory or from the file.
func (g *segment) timeEntries() ([]timeEntry, error) {
	if m := g.mem.Load(); m != nil {
		return m.times.all(), nil
	}
	b, err := readFile(g.l.store.fs, g.path(timeIndexSuffix), maxIndexBytes)
	if err == nil {
		var entries []timeEntry
		if entries, err = parseTimeIndex(b); err == nil {
			return entries, nil
		}
	}
	if missing(err) || errors.Is(err, errDoubt) {
		m, err := g.rebuild(err)
		if err != nil {
			return nil, err
		}
		return m.times.all(), nil
	}
	return nil, g.failed("read time index", err)
}

// rebuild makes both indexes again from the batches; the janitor writes them.
func (g *segment) rebuild(why error) (*memIndex, error) {
	if g.l.segmentOf(g.base) != g {
		return nil, fmt.Errorf("%w: segment %d was deleted", ErrOutOfRange, g.base)
	}
	g.l.store.slog.Warn("making the indexes of a segment again", "log", g.l.place().String(), "segment", g.base, "reason", why)
	f, err := g.open()
	if err != nil {
		return nil, g.failed("open", err)
	}
	defer f.release()
	m := new(memIndex)
	fresh := &segment{l: g.l, base: g.base, maxTimestamp: batch.NoTimestamp, maxTimestampAt: g.base}
	w := g.walk(f, 0, g.size.Load(), make([]byte, headerWindowBytes))
	interval := g.l.config.Load().IndexIntervalBytes
	for {
		h, pos, err := w.step()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		fresh.index(m, &h, pos, interval)
	}
	fresh.addTime(m)
	g.l.rewrite(g, m)
	return m, nil
}

// abortedTxns gives the transaction index; most segments have none.
func (g *segment) abortedTxns() (*growing[abortedTxn], error) {
	if a := g.aborted.Load(); a != nil {
		return a, nil
	}
	g.load.Lock()
	defer g.load.Unlock()
	if a := g.aborted.Load(); a != nil {
		return a, nil
	}
	a := new(growing[abortedTxn])
	b, err := readFile(g.l.store.fs, g.path(txnIndexSuffix), maxIndexBytes)
	if err != nil && !missing(err) {
		return nil, g.failed("read transaction index", err)
	}
	entries, err := parseAborted(b, g.base)
	if err != nil {
		return nil, g.failed("read transaction index", err)
	}
	for _, e := range entries {
		a.add(e)
	}
	g.aborted.Store(a)
	return a, nil
}

// failed wraps a failure about this segment. One that was deleted meanwhile is out
// of range and not broken.
func (g *segment) failed(what string, err error) error {
	if missing(err) && g.l.segmentOf(g.base) != g {
		return fmt.Errorf("%w: segment %d was deleted", ErrOutOfRange, g.base)
	}
	return fmt.Errorf("%w: %s of segment %d of %s: %w", ErrStorage, what, g.base, g.l.place(), err)
}

// damagedAt says that what should be a batch is none.
func (g *segment) damagedAt(pos int64, err error) error {
	return fmt.Errorf("%w: %s at byte %d: %w", ErrStorage, g.path(logSuffix), pos, err)
}

// headers walks the batch headers of a segment through a small window.
type headers struct {
	g    *segment
	f    io.ReaderAt
	size int64 // the walk ends here
	pos  int64 // of the next header
	next int64 // lowest offset that it may begin with
	buf  []byte
	at   int64 // position of buf[0]
	n    int
}

// walk starts at a batch boundary. buf is the window.
func (g *segment) walk(f io.ReaderAt, pos, size int64, buf []byte) headers {
	return headers{g: g, f: f, size: size, pos: pos, next: g.base, buf: buf, at: pos}
}

// step reads the header at pos and moves on. io.EOF at the end. Offsets go forward:
// what does not is damage (the CRC does not cover the base offset).
func (w *headers) step() (h batch.Header, pos int64, err error) {
	pos = w.pos
	if pos >= w.size {
		return h, pos, io.EOF
	}
	off := int(pos - w.at)
	if off < 0 || off+batch.HeaderBytes > w.n {
		want := min(int64(len(w.buf)), w.size-pos)
		n, err := w.f.ReadAt(w.buf[:want], pos)
		if int64(n) < want {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			} else {
				err = fmt.Errorf("%w: %w", errUnread, err)
			}
			return h, pos, w.g.damagedAt(pos, err)
		}
		w.at, w.n, off = pos, n, 0
	}
	h, err = batch.ParseHeader(w.buf[off:w.n])
	if err == nil {
		err = batch.CheckShape(&h)
	}
	if err == nil && h.BaseOffset < w.next {
		err = fmt.Errorf("base offset %d is below %d", h.BaseOffset, w.next)
	}
	if err == nil && pos+int64(h.Size()) > w.size {
		err = fmt.Errorf("batch of %d bytes passes the end at %d", h.Size(), w.size)
	}
	if err != nil {
		return h, pos, w.g.damagedAt(pos, err)
	}
	w.pos, w.next = pos+int64(h.Size()), h.LastOffset()+1
	return h, pos, nil
}

// find gives the first batch whose last offset is at least offset. io.EOF if there
// is none below size.
func (g *segment) find(f io.ReaderAt, offset, size int64, buf []byte) (h batch.Header, pos int64, err error) {
	pos, err = g.floor(offset)
	if err != nil {
		return h, 0, err
	}
	w := g.walk(f, pos, size, buf)
	h, pos, err = w.step()
	past := err == nil && h.BaseOffset > offset
	if pos > 0 && (past || errors.Is(err, ErrStorage) && !errors.Is(err, errUnread) && !g.doubted.Swap(true)) {
		// The index named a place that is not at or before the offset, or no batch: it is wrong,
		// or the batch is. To go on from there could leave records out without a word.
		if pos, err = g.doubtIndex(offset); err != nil {
			return h, 0, err
		}
		w = g.walk(f, pos, size, buf)
		h, pos, err = w.step()
	}
	for err == nil && h.LastOffset() < offset {
		h, pos, err = w.step()
	}
	return h, pos, err
}

// doubtIndex is floor without the index as it is: one of a sealed segment is made again,
// that of the active one, which grows, is left alone.
func (g *segment) doubtIndex(offset int64) (pos int64, err error) {
	if g == g.l.active() {
		return 0, nil
	}
	m, err := g.rebuild(fmt.Errorf("%w: it leads past offset %d", errDoubt, offset))
	if err != nil {
		return 0, err
	}
	return floorRel(m.offsets.all(), offset-g.base), nil
}

// fit gives the largest batch boundary that is at most limit, from the boundary pos on.
func (g *segment) fit(f io.ReaderAt, pos, limit, size int64, buf []byte) (int64, error) {
	if limit >= size {
		return size, nil
	}
	e, ok, err := g.floorPos(limit)
	if err != nil {
		return 0, err
	}
	if ok && int64(e.pos) > pos {
		pos = int64(e.pos)
	}
	w := g.walk(f, pos, size, buf)
	for {
		if _, at, err := w.step(); err != nil || w.pos > limit {
			if err == io.EOF {
				err = nil
			}
			return at, err
		}
	}
}

// rollingTimestampLocked is the timestamp of the first batch, -1 if it has none. The
// caller holds l.mu.
func (g *segment) rollingTimestampLocked() (int64, error) {
	if g.firstKnown || g.size.Load() == 0 {
		return g.firstTimestamp, nil
	}
	f, err := g.open()
	if err != nil {
		return 0, g.failed("open", err)
	}
	defer f.release()
	w := g.walk(f, 0, g.size.Load(), make([]byte, batch.HeaderBytes))
	h, _, err := w.step()
	if err != nil {
		return 0, err
	}
	g.firstKnown, g.firstTimestamp = true, h.MaxTimestamp
	return g.firstTimestamp, nil
}

// sealLocked ends the segment's growth: the largest timestamp gets its entry. Files are
// left to the janitor. The caller holds l.mu.
func (g *segment) sealLocked() {
	m := g.mem.Load()
	invariant.That(m != nil, "an active segment has its index in memory", "base", g.base)
	g.addTime(m)
}
