package log

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/rotpeter/rotpeter/log/batch"
)

// Timed is a record found by its timestamp.
type Timed struct {
	Offset      int64 // -1: there is none
	Timestamp   int64 // milliseconds, -1 if there is none
	LeaderEpoch int32 // of its batch, -1 if there is none or it has none
}

func notTimed() Timed { return Timed{Offset: -1, Timestamp: -1, LeaderEpoch: -1} }

// OffsetFor finds the first record with at least this timestamp (milliseconds), at
// or after the log's start (ListOffsets).
func (l *Log) OffsetFor(timestamp int64) (found Timed, err error) {
	err = l.around(func() error {
		found, err = l.offsetFor(timestamp)
		return err
	})
	return found, l.readError(err)
}

func (l *Log) offsetFor(timestamp int64) (Timed, error) {
	for _, g := range *l.segments.Load() {
		start := l.marks.load().Start
		largest, _, err := g.largest()
		if err != nil {
			return notTimed(), err
		}
		if g.size.Load() == 0 || largest < timestamp {
			continue
		}
		found, err := g.firstAtOrAfter(timestamp, start)
		if err != nil || found.Offset >= 0 {
			return found, err
		}
	}
	return notTimed(), nil
}

// MaxTimestamp finds the first record with the largest timestamp of the log (KIP-734).
func (l *Log) MaxTimestamp() (found Timed, err error) {
	err = l.around(func() error {
		found, err = l.maxTimestamp()
		return err
	})
	return found, l.readError(err)
}

func (l *Log) maxTimestamp() (Timed, error) {
	all := slices.Clone(*l.segments.Load())
	for {
		best, largest, at := -1, int64(batch.NoTimestamp), int64(-1)
		for i, g := range all {
			t, offset, err := g.largest()
			if err != nil {
				return notTimed(), err
			}
			if t > largest {
				best, largest, at = i, t, offset
			}
		}
		if best < 0 {
			return notTimed(), nil
		}
		found, err := all[best].firstOfBatch(at, largest)
		if err != nil || found.Offset >= 0 || len(all[best].holes()) == 0 {
			return found, err
		}
		all = slices.Delete(all, best, best+1) // it lies in damage
	}
}

// readError hides that a whole log is gone behind one error.
func (l *Log) readError(err error) error {
	if err != nil && l.deleted.Load() {
		return ErrClosed
	}
	return err
}

// largest is the largest timestamp in the segment and the last offset of its
// batch; -1 without any. Of a segment found on disk it is the last entry of the
// time index, read once.
func (g *segment) largest() (timestamp, offset int64, err error) {
	g.l.mu.Lock()
	known, timestamp, offset := g.timesKnown, g.maxTimestamp, g.maxTimestampAt
	g.l.mu.Unlock()
	if known {
		return timestamp, offset, nil
	}
	last, ok, err := g.lastTimeEntry()
	if err != nil {
		return 0, 0, err
	}
	timestamp, offset = batch.NoTimestamp, g.base
	if ok {
		timestamp, offset = last.timestamp, g.base+int64(last.rel)
	}
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	g.maxTimestamp, g.maxTimestampAt, g.timesKnown = timestamp, offset, true
	return timestamp, offset, nil
}

// lastTimeEntry reads the end of the time index file; ok is false without entries. Anything odd about it has the
// indexes made again.
func (g *segment) lastTimeEntry() (e timeEntry, ok bool, err error) {
	f, err := g.openIndex(timeIndexSuffix, timeEntryBytes)
	if err == nil {
		if f == nil {
			return g.withoutTimes()
		}
		var b [timeEntryBytes]byte
		err = errors.Join(f.last(b[:]), f.Close())
		if e = decodeTimeEntry(b[:]); err == nil && (e == (timeEntry{}) || e.timestamp < 0 || e.rel < 0) { // Kafka's files may end in zeros
			err = fmt.Errorf("%w: last time entry (%d, %d)", errDoubt, e.timestamp, e.rel)
		}
	}
	if err == nil {
		err = g.confirmTime(e)
	}
	if err == nil {
		return e, true, nil
	}
	m, err := g.rebuildTimes(err)
	if err != nil {
		return timeEntry{}, false, err
	}
	if times := m.times.all(); len(times) > 0 {
		return times[len(times)-1], true, nil
	}
	return timeEntry{}, false, nil
}

// withoutTimes is for a time index without entries: right where records have no timestamps.
func (g *segment) withoutTimes() (e timeEntry, ok bool, err error) {
	first, err := g.firstBatchTimestamp()
	var bad *brokenAt
	if errors.As(err, &bad) || err == nil && first < 0 {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	m, err := g.rebuildTimes(fmt.Errorf("%w: no time entry for a batch of timestamp %d", errDoubt, first))
	if err != nil {
		return e, false, err
	}
	times := m.times.all()
	if len(times) == 0 {
		return e, false, nil
	}
	return times[len(times)-1], true, nil
}

// confirmTime holds an entry against the batch that it speaks of: nothing else protects it,
// retention goes by it, and a search would miss records. One of Kafka's before 4.0, which may
// speak of another batch of the same append, has the index made again too. Error: errDoubt,
// or the disk's.
func (g *segment) confirmTime(e timeEntry) error {
	w := g.l.store.windows.Get()
	defer g.l.store.windows.Put(w)
	f, err := g.open()
	if err != nil {
		return g.failed("open", err)
	}
	defer f.release()
	h, _, err := g.find(f, g.base+int64(e.rel), g.size.Load(), w[:])
	var bad *brokenAt
	switch {
	case errors.As(err, &bad):
		return nil // damage is another matter
	case err == io.EOF, err == nil && h.MaxTimestamp != e.timestamp:
		return fmt.Errorf("%w: the batch at offset %d has not the timestamp %d", errDoubt, g.base+int64(e.rel), e.timestamp)
	}
	return err
}

// firstAtOrAfter looks in one segment for the first record with at least this
// timestamp and this offset.
func (g *segment) firstAtOrAfter(timestamp, start int64) (Timed, error) {
	e, ok, err := g.floorTime(timestamp - 1)
	if err != nil {
		return notTimed(), err
	}
	found, err := g.searchFrom(e, ok, timestamp, start)
	if !errors.Is(err, errDoubt) {
		return found, err
	}
	m, err := g.rebuildTimes(err)
	if err != nil {
		return notTimed(), err
	}
	e, ok = floorTime(m.times.all(), timestamp-1)
	if found, err = g.searchFrom(e, ok, timestamp, start); errors.Is(err, errDoubt) {
		err = g.failed("read time index", err)
	}
	return found, err
}

// searchFrom walks from the batch of a time entry on, if there is one: no batch up to that
// has a timestamp as large. Error: errDoubt if the entry is not that batch's.
func (g *segment) searchFrom(e timeEntry, ok bool, timestamp, first int64) (Timed, error) {
	from := max(g.base, first)
	at := g.base + int64(e.rel)
	doubt := ok && at >= from
	if doubt {
		from = at
	}
	w := g.l.store.windows.Get()
	defer g.l.store.windows.Put(w)
	f, err := g.open()
	if err != nil {
		return notTimed(), g.failed("open", err)
	}
	defer f.release()
	walk, err := g.walkTo(f, from, g.size.Load(), w[:])
	if err != nil {
		return notTimed(), err
	}
	start := walk
	for {
		h, pos, err := walk.step()
		if err == io.EOF && !doubt {
			return notTimed(), g.passed(start, walk.pos)
		}
		if err != nil && err != io.EOF {
			return notTimed(), g.reading(err)
		}
		if err == nil && h.LastOffset() < from {
			continue
		}
		if doubt && (err == io.EOF || h.MaxTimestamp != e.timestamp) && len(g.holes()) == 0 {
			return notTimed(), fmt.Errorf("%w: the batch at offset %d has not the timestamp %d", errDoubt, at, e.timestamp)
		}
		if err == io.EOF {
			return notTimed(), g.passed(start, walk.pos)
		}
		doubt = false
		if h.MaxTimestamp < timestamp || h.Count == 0 {
			continue
		}
		found, err := g.recordAt(f, &h, pos, func(offset, t int64) bool { return offset >= first && t >= timestamp })
		if err == nil && found.Offset >= 0 {
			err = g.passed(start, walk.pos)
		}
		if err != nil || found.Offset >= 0 {
			return found, err
		}
	}
}

// firstOfBatch finds the first record of a batch that has its largest timestamp.
func (g *segment) firstOfBatch(lastOffset, timestamp int64) (Timed, error) {
	w := g.l.store.windows.Get()
	defer g.l.store.windows.Put(w)
	f, err := g.open()
	if err != nil {
		return notTimed(), g.failed("open", err)
	}
	defer f.release()
	walk, err := g.walkTo(f, lastOffset, g.size.Load(), w[:])
	if err != nil {
		return notTimed(), g.reading(err)
	}
	start := walk
	h, pos, err := walk.find(lastOffset)
	if err == io.EOF {
		return notTimed(), nil
	}
	if err == nil {
		err = g.passed(start, walk.pos)
	}
	if err != nil {
		return notTimed(), g.reading(err)
	}
	return g.recordAt(f, &h, pos, func(_, t int64) bool { return t >= timestamp })
}

// passed verifies what a search by time went over.
func (g *segment) passed(from headers, end int64) error {
	if err := g.verify(from, true, from.pos, end); err != nil {
		return g.reading(err)
	}
	return nil
}

// errFound ends a walk over records.
var errFound = errors.New("found")

// recordAt looks through the records of one batch.
func (g *segment) recordAt(f io.ReaderAt, h *batch.Header, pos int64, want func(offset, timestamp int64) bool) (Timed, error) {
	b := make([]byte, h.Size())
	if n, err := f.ReadAt(b, pos); n < len(b) {
		return notTimed(), g.failed("read", err)
	}
	found := notTimed()
	t := g.l.store.tools.Get()
	defer g.l.store.tools.Put(t)
	visit := func(r batch.Brief) error {
		offset, timestamp := h.BaseOffset+int64(r.OffsetDelta), h.BaseTimestamp+r.TimestampDelta
		if h.LogAppendTime() {
			timestamp = h.MaxTimestamp
		}
		if !want(offset, timestamp) {
			return nil
		}
		found = Timed{offset, timestamp, h.LeaderEpoch}
		return errFound
	}
	var err error
	if h.Old {
		err = t.decoder.StoredRecords(h, b, batch.MaxRecordsBytes, func(r batch.Record) error {
			return visit(batch.Brief{OffsetDelta: r.OffsetDelta, TimestampDelta: r.TimestampDelta})
		})
	} else {
		err = t.decoder.Scan(h, b, batch.MaxRecordsBytes, visit)
	}
	if err != nil && !errors.Is(err, errFound) {
		return notTimed(), &brokenAt{g, pos, brokenRecords, err}
	}
	return found, nil
}
