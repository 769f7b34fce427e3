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

	"github.com/rotpeter/rotpeter/internal/mutant"
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

	size  atomic.Int64 // valid bytes; published last, after everything about them
	limit atomic.Int64 // offsets lie below: the base of the next segment, once there is one

	// mem is the indexes while only memory has them whole: of the active segment, and
	// of a sealed one until the janitor has written them.
	mem     atomic.Pointer[memIndex]
	sealed  atomic.Pointer[sealedIndex] // else, once it was needed often
	lookups atomic.Int32                // without sealed
	aborted atomic.Pointer[growing[abortedTxn]]
	load    sync.Mutex // one loader at a time

	// A start found so many bytes on disk and did not read them: see verify.
	found   atomic.Int64
	checked atomic.Pointer[stretch]

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
	// For whoever adds to it: see gaps.go.
	last   indexEntry // of the last batch
	next   int64      // the offset after that
	sparse bool       // it does not know of gaps
}

func (l *Log) newSegment(base, nowMillis int64) *segment {
	g := &segment{l: l, base: base, end: base, maxTimestamp: batch.NoTimestamp, maxTimestampAt: base, timesKnown: true, firstTimestamp: batch.NoTimestamp, created: nowMillis, modified: nowMillis}
	g.log.cache, g.idx.cache = &l.store.files, &l.store.files
	g.mem.Store(new(memIndex))
	g.aborted.Store(new(growing[abortedTxn]))
	g.limit.Store(math.MaxInt64)
	return g
}

func (g *segment) path(suffix string) string {
	return filepath.Join(g.l.path(), offsetName(g.base)+suffix)
}

// open returns the held log file.
func (g *segment) open() (*handle, error) {
	if h, ok := g.log.held(); ok {
		return h, nil
	}
	return g.log.open(g.path(logSuffix), os.O_RDWR)
}

// close lets go of the files; readers that hold them finish undisturbed.
func (g *segment) close() {
	g.log.drop()
	g.idx.drop()
}

// index appends the entries for a batch about to be published at position pos, as
// LogSegment.append does. The caller holds l.mu or is recovery.
func (g *segment) index(m *memIndex, h *batch.Header, pos int64, c *Config) {
	if h.MaxTimestamp > g.maxTimestamp {
		g.maxTimestamp, g.maxTimestampAt = h.MaxTimestamp, h.LastOffset()
	}
	if !g.firstKnown {
		g.firstKnown, g.firstTimestamp = true, h.MaxTimestamp
	}
	indexed := g.sinceIndex > c.IndexIntervalBytes
	if mutant.On(mutant.IndexOneBatchLate) {
		pos += int64(h.Size())
	}
	m.add(h, indexEntry{int32(h.LastOffset() - g.base), int32(pos)}, g.base, indexed, c)
	if indexed {
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

// floor gives the index entry of a batch at or before the one that holds the offset; ok is false if
// there is none, so that the segment's begin is it.
func (g *segment) floor(offset int64) (e indexEntry, ok bool, err error) {
	if m := g.mem.Load(); m != nil {
		e, ok = floorRel(m.offsets.all(), offset-g.base)
		return e, ok, nil
	}
	return g.search(func(e indexEntry) bool { return int64(e.rel) > offset-g.base })
}

// walkTo begins a walk at the index entry for an offset.
func (g *segment) walkTo(f io.ReaderAt, offset, size int64, buf []byte) (headers, error) {
	e, ok, err := g.floor(offset)
	if err != nil || !ok {
		return g.walk(f, 0, size, buf), err
	}
	w := g.walk(f, int64(e.pos), size, buf)
	w.entry = g.base + int64(e.rel)
	return w, nil
}

// floorPos gives the last index entry at or before a position.
func (g *segment) floorPos(pos int64) (e indexEntry, ok bool, err error) {
	if m := g.mem.Load(); m != nil {
		e, ok = floorPos(m.offsets.all(), pos)
		return e, ok, nil
	}
	return g.search(func(e indexEntry) bool { return int64(e.pos) > pos })
}

// topFrom is from how many lookups on it pays to read an index whole and keep every 512th entry.
const topFrom = 8

// search gives the last entry of the index file for which after is false.
func (g *segment) search(after func(indexEntry) bool) (e indexEntry, ok bool, err error) {
	if g.sealed.Load() == nil && g.lookups.Add(1) < topFrom {
		e, ok, err := g.probe(after)
		if err == nil || !missing(err) && !errors.Is(err, errDoubt) {
			return e, ok, err
		}
	}
	s, err := g.sealedIndex()
	if err != nil || s.count == 0 {
		return e, false, err
	}
	if m := g.mem.Load(); m != nil { // it was made again, and is not written yet
		e, ok = floorOf(m.offsets.all(), after)
		return e, ok, nil
	}
	f, ok := g.idx.held()
	if !ok {
		f, err = g.idx.open(g.path(indexSuffix), os.O_RDONLY)
	}
	if err != nil {
		return e, false, g.failed("open index", err)
	}
	defer f.release()
	buf := g.l.store.pieces.Get()
	defer g.l.store.pieces.Put(buf)
	if e, ok, err = s.floor(f, buf, after); err != nil {
		return e, false, g.failed("read index", err)
	}
	return e, ok, nil
}

// probe searches the index file where it is.
func (g *segment) probe(after func(indexEntry) bool) (e indexEntry, ok bool, err error) {
	f, err := g.openIndex(indexSuffix, indexEntryBytes)
	if err != nil || f == nil {
		return e, false, err
	}
	b, ok, err := f.find(func(b []byte) bool {
		e := decodeIndexEntry(b)
		return e == (indexEntry{}) || after(e)
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return e, false, g.failed("read index", err)
	}
	if ok {
		if e = decodeIndexEntry(b); e.rel < 0 || e.pos < 0 || int64(e.pos) >= g.size.Load() {
			return e, false, fmt.Errorf("%w: entry (%d, %d)", errDoubt, e.rel, e.pos)
		}
	}
	return e, ok, nil
}

// sealedIndex loads the index of a segment found on disk. One that
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

func (g *segment) readIndex() ([]indexEntry, error) { return g.readEntries(g.size.Load()) }

// readEntries reads the index of a segment that has, or had, so many bytes.
func (g *segment) readEntries(size int64) ([]indexEntry, error) {
	b, err := readFile(g.l.store.fs, g.path(indexSuffix), maxIndexBytes)
	if err := errors.Join(err, g.current()); err != nil {
		return nil, err
	}
	return parseIndex(b, size)
}

// floorTime gives the last entry of the time index whose timestamp is at most timestamp.
func (g *segment) floorTime(timestamp int64) (e timeEntry, ok bool, err error) {
	if m := g.mem.Load(); m != nil {
		e, ok = floorTime(m.times.all(), timestamp)
		return e, ok, nil
	}
	f, err := g.openIndex(timeIndexSuffix, timeEntryBytes)
	if err == nil {
		if f == nil {
			return e, false, nil
		}
		var b []byte
		b, ok, err = f.find(func(b []byte) bool {
			e := decodeTimeEntry(b)
			return e == (timeEntry{}) || e.timestamp > timestamp
		})
		if err = errors.Join(err, f.Close()); err != nil {
			return e, false, g.failed("read time index", err)
		}
		if !ok {
			return e, false, nil
		}
		if e = decodeTimeEntry(b); e.rel >= 0 && e.timestamp >= 0 {
			return e, true, nil
		}
		err = fmt.Errorf("%w: time entry (%d, %d)", errDoubt, e.timestamp, e.rel)
	}
	m, err := g.rebuildTimes(err)
	if err != nil {
		return timeEntry{}, false, err
	}
	e, ok = floorTime(m.times.all(), timestamp)
	return e, ok, nil
}

// rebuildTimes makes the indexes again if that is what an error of the time index asks for.
func (g *segment) rebuildTimes(why error) (*memIndex, error) {
	if !missing(why) && !errors.Is(why, errDoubt) {
		return nil, g.failed("read time index", why)
	}
	if g == g.l.active() {
		return g.rebuildActive(why)
	}
	return g.rebuild(why)
}

// wake reads the indexes of the active segment into memory if they are not there: it is about to grow. It runs
// without l.mu.
func (l *Log) wake() error {
	g := l.active()
	if g.awake() {
		return nil
	}
	m, err := g.readIndexes()
	if missing(err) || errors.Is(err, errDoubt) {
		_, err = g.rebuildActive(err)
	} else if err == nil {
		l.mu.Lock()
		if g.mem.Load() == nil && g == l.active() {
			g.sealed.Store(nil)
			g.mem.Store(m)
		}
		l.mu.Unlock()
	}
	if err == nil {
		_, err = g.abortedTxns()
	}
	if err == nil {
		return nil
	}
	return g.reading(err)
}

// awake reports that the segment may grow.
func (g *segment) awake() bool { return g.mem.Load() != nil && g.aborted.Load() != nil }

func (g *segment) readIndexes() (*memIndex, error) {
	entries, err := g.readIndex()
	if err != nil {
		return nil, err
	}
	b, err := readFile(g.l.store.fs, g.path(timeIndexSuffix), maxIndexBytes)
	if err := errors.Join(err, g.current()); err != nil {
		return nil, err
	}
	times, err := parseTimeIndex(b)
	if err != nil {
		return nil, err
	}
	m := new(memIndex)
	for _, e := range entries {
		m.offsets.add(e)
	}
	for _, e := range times {
		m.times.add(e)
	}
	return m, m.goOn(g)
}

// rebuild makes both indexes again from the batches; the janitor writes them.
func (g *segment) rebuild(why error) (*memIndex, error) {
	if g.l.segmentOf(g.base) != g {
		return nil, g.away()
	}
	if _, err := g.l.cutShort(g); err != nil {
		return nil, err
	}
	g.l.store.slog.Warn("making the indexes of a segment again", "log", g.l.place().String(), "segment", g.base, "reason", why)
	m := new(memIndex)
	fresh := &segment{l: g.l, base: g.base, maxTimestamp: batch.NoTimestamp, maxTimestampAt: g.base}
	c := g.l.config.Load()
	err := g.each(0, func(_ io.ReaderAt, h *batch.Header, pos int64) error {
		fresh.index(m, h, pos, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	fresh.addTime(m)
	m.end()
	g.l.rewrite(g, m)
	return m, nil
}

// rebuildActive does the same for the segment that grows: its index may have been read from a file that is wrong.
func (g *segment) rebuildActive(why error) (*memIndex, error) {
	l := g.l
	l.store.slog.Warn("making the indexes of the active segment again", "log", l.place().String(), "segment", g.base, "reason", why)
	m, end := new(memIndex), int64(0)
	fresh := &segment{l: l, base: g.base, maxTimestamp: batch.NoTimestamp, maxTimestampAt: g.base}
	c := l.config.Load()
	err := g.each(0, func(_ io.ReaderAt, h *batch.Header, pos int64) error {
		fresh.index(m, h, pos, c)
		end = pos + int64(h.Size())
		return nil
	})
	if err != nil {
		return nil, err
	}
	f, err := g.open()
	if err != nil {
		return nil, g.failed("open", err)
	}
	defer f.release()
	l.mu.Lock()
	defer l.mu.Unlock()
	if g != l.active() {
		return m, nil // the next time, as an old one
	}
	for w := g.walk(f, end, g.size.Load(), make([]byte, headerWindowBytes)); ; { // what was appended meanwhile
		h, pos, err := w.step()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, g.reading(err)
		}
		fresh.index(m, &h, pos, c)
	}
	g.maxTimestamp, g.maxTimestampAt, g.sinceIndex = fresh.maxTimestamp, fresh.maxTimestampAt, fresh.sinceIndex
	g.mem.Store(m)
	l.tidy = -1 // its files are wrong
	return m, nil
}

// failed wraps a failure about this segment. One that was deleted meanwhile is out
// of range and not broken.
func (g *segment) failed(what string, err error) error {
	if errors.Is(err, errReplaced) {
		return err
	}
	if missing(err) && g.l.segmentOf(g.base) != g {
		return g.away()
	}
	return fmt.Errorf("%w: %s of segment %d of %s: %w", ErrStorage, what, g.base, g.l.place(), err)
}

// away says why a segment is not in its log any more.
func (g *segment) away() error {
	if g.log.isRetired() {
		return errReplaced
	}
	return fmt.Errorf("%w: segment %d was deleted", ErrOutOfRange, g.base)
}

// current is errReplaced once a file that was read by its name may have been another's.
func (g *segment) current() error {
	if g.log.isRetired() {
		return errReplaced
	}
	return nil
}

// find gives the first batch whose last offset is at least offset. io.EOF if there
// is none below size.
func (g *segment) find(f io.ReaderAt, offset, size int64, buf []byte) (h batch.Header, pos int64, err error) {
	w, err := g.walkTo(f, offset, size, buf)
	if err != nil {
		return h, 0, err
	}
	return w.find(offset)
}

// find goes on to the first batch whose last offset is at least offset.
func (w *headers) find(offset int64) (h batch.Header, pos int64, err error) {
	for {
		h, pos, err = w.step()
		if err != nil {
			return h, pos, err
		}
		if h.LastOffset() < offset {
			continue
		}
		// Readers ask for where a batch begins, as a rule. One that asks for the middle may have been led here
		// by a last offset that is wrong.
		if h.BaseOffset < offset {
			if after, known := w.follower(w.pos); known && after <= h.LastOffset() {
				return h, pos, &brokenAt{w.g, pos, brokenHeader, fmt.Errorf("last offset %d, but the batch after it begins at %d", h.LastOffset(), after)}
			}
		}
		return h, pos, nil
	}
}

// fit gives the largest batch boundary that is at most limit, from the boundary pos on.
func (g *segment) fit(f io.ReaderAt, pos, limit, size int64, buf []byte) (int64, error) {
	if limit >= size {
		return size, nil
	}
	if limit-pos > headerWindowBytes { // else one read shows all headers up to there
		e, ok, err := g.floorPos(limit)
		if err != nil {
			return 0, err
		}
		if ok && int64(e.pos) > pos {
			pos = int64(e.pos)
		}
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
	var bad *brokenAt
	if errors.As(err, &bad) || err == io.EOF { // damage: the segment's age stands in
		h.MaxTimestamp = batch.NoTimestamp
	} else if err != nil {
		return 0, g.failed("read", err)
	}
	g.firstKnown, g.firstTimestamp = true, h.MaxTimestamp
	return g.firstTimestamp, nil
}

// sealLocked ends the segment's growth: the largest timestamp and the last batch get their entries. Files are
// left to the janitor. The caller holds l.mu.
func (g *segment) sealLocked() {
	if m := g.mem.Load(); m != nil { // else it did not grow since its files were written
		g.addTime(m)
		m.end()
	}
}
