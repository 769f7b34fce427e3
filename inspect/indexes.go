package inspect

import (
	"errors"
	"io"
	"math"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
)

// again is what to do about an index of this segment that is wrong. An offset index that is
// missing makes a start, or the first use, read the segment; Kafka makes both indexes then. A
// missing transaction index means that nothing was aborted, so only recovery makes it.
func (s *segment) again(suffix string) string {
	switch {
	case s.inUse:
		return "it may be being written: look again when the broker is stopped"
	case suffix == txnIndexSuffix:
		return "if nothing is damaged, delete .kafka_cleanshutdown and " + recoveryPointFile + " while the broker is stopped: the next start reads the logs and makes it again"
	}
	return "delete the segment's .index and .timeindex while the broker is stopped: they are made again"
}

// openIndexes opens what indexes the segment has.
func (s *segment) openIndexes(size int64) {
	for _, t := range []struct {
		in     *entries
		suffix string
		bytes  int
	}{{&s.index, indexSuffix, log.IndexEntryBytes}, {&s.times, timeIndexSuffix, log.TimeEntryBytes}, {&s.aborted, txnIndexSuffix, log.AbortedEntryBytes}} {
		name := segmentFile(s.base, t.suffix)
		err := t.in.open(s.fs, s.path(name), t.bytes)
		switch {
		case err == nil && t.in.end > maxEntriesBytes:
			s.say(s.made(), name, none, none, s.again(t.suffix), "it has %d bytes, which is too many", t.in.end)
			t.in.end = 0
		case err == nil && t.in.end%int64(t.bytes) != 0:
			s.say(s.made(), name, t.in.end-t.in.end%int64(t.bytes), none, s.again(t.suffix), "its size %d is no multiple of %d", t.in.end, t.bytes)
		case missing(err):
			if t.suffix != txnIndexSuffix && size > 0 && !(s.inUse && s.last) { // a running broker may have them in memory
				s.say(s.made(), name, none, none, "the next start makes it", "it is missing")
			}
		case err != nil:
			s.unreadable(name, err)
		}
	}
}

// made is the grade of an index of this segment that has to be made again: a start after a
// crash makes those from the recovery point on anyway, and of a running broker of ours they
// are in memory first.
func (s *segment) made() Grade {
	if s.around && !s.clean && (s.upper == none || s.upper > s.recovery) {
		return Notice
	}
	return Derived
}

// entry gives the next entry of an index. A file that goes wrong is not looked at further.
func (s *segment) entry(t *entries, suffix string) []byte {
	b, err := t.peek()
	switch {
	case err == nil:
		return b
	case err == io.EOF:
		return nil
	case errors.Is(err, errHole):
		s.say(s.made(), segmentFile(s.base, suffix), t.pos, none, s.again(suffix), "%v", err)
	case !errors.Is(err, io.ErrUnexpectedEOF):
		s.unreadable(segmentFile(s.base, suffix), err)
	}
	t.end = t.pos
	return nil
}

// wrongEntry reports an entry of an index.
func (s *segment) wrongEntry(t *entries, suffix string, offset int64, format string, args ...any) {
	s.say(s.made(), segmentFile(s.base, suffix), t.pos, offset, s.again(suffix), format, args...)
}

// checkIndex holds the entries of the offset index that belong to a batch against it: an
// entry is a batch's last offset and its position.
func (s *segment) checkIndex(e *entry) {
	last := e.last()
	s.lastPos = e.pos
	if s.ahead.open && last >= s.ahead.offset {
		s.settleAhead(last)
	}
	for {
		b := s.entry(&s.index, indexSuffix)
		if b == nil {
			return
		}
		rel, pos := log.DecodeIndexEntry(b)
		offset := s.base + int64(rel)
		if rel >= 0 && int64(pos) > e.pos {
			return
		}
		switch {
		case rel < 0 || pos < 0:
			s.wrongEntry(&s.index, indexSuffix, none, "entry (%d, %d) is negative", rel, pos)
		case int64(pos) < e.pos:
			s.wrongEntry(&s.index, indexSuffix, offset, "no batch begins at byte %d of the segment", pos)
		case offset < last || offset > last && s.ahead.open:
			s.wrongEntry(&s.index, indexSuffix, offset, "the batch at byte %d ends at offset %d", pos, last)
		case offset > last:
			s.ahead = indexAhead{offset, s.index.pos, true}
		}
		if int64(pos) == e.pos && e.pos > s.indexed { // a batch next to a gap has two
			s.leastGap = min(s.leastGap, e.pos-s.indexed)
			s.indexed = e.pos
		}
		s.index.pass()
	}
}

// settleAhead decides about an entry whose offset is after its batch's. Kafkas before 4.0
// wrote the last offset of several batches that were appended together, by compaction or
// replication; a lookup finds them all the same.
func (s *segment) settleAhead(last int64) {
	s.ahead.open = false
	name := segmentFile(s.base, indexSuffix)
	if last == s.ahead.offset {
		s.say(Notice, name, s.ahead.pos, last, "", "the entry names the last of several batches, as older Kafkas wrote it")
		return
	}
	s.say(s.made(), name, s.ahead.pos, s.ahead.offset, s.again(indexSuffix), "the entry's offset is no batch's last one")
}

// checkTimes holds the entries of the time index that belong to a batch against it: an entry
// is the largest timestamp so far, and the last offset of the batch that has it.
func (s *segment) checkTimes(e *entry) {
	last := e.last()
	for {
		b := s.entry(&s.times, timeIndexSuffix)
		if b == nil {
			return
		}
		timestamp, rel := log.DecodeTimeEntry(b)
		offset := s.base + int64(rel)
		if rel >= 0 && offset > last {
			return
		}
		switch {
		case rel < 0:
			s.wrongEntry(&s.times, timeIndexSuffix, none, "entry (%d, %d) is negative", timestamp, rel)
		case timestamp <= s.lastTime:
			s.wrongEntry(&s.times, timeIndexSuffix, offset, "timestamp %d does not go forward, the entry before has %d", timestamp, s.lastTime)
		case s.damaged: // the entry may be the damaged batch's
		case offset != last && e.magic == batch.Magic:
			s.wrongEntry(&s.times, timeIndexSuffix, offset, "the batch with the offset ends at %d", last)
		case timestamp != s.newest || e.maxTimestamp() != timestamp:
			s.wrongEntry(&s.times, timeIndexSuffix, offset, "timestamp %d, the batch's is %d, and the largest so far %d", timestamp, e.maxTimestamp(), s.newest)
		case offset != s.newestAt: // lookups by time work, and skip no record
			s.say(Notice, segmentFile(s.base, timeIndexSuffix), s.times.pos, offset, s.again(indexSuffix), "timestamp %d is first in the batch that ends at %d", timestamp, s.newestAt)
		}
		s.lastTime = max(s.lastTime, timestamp)
		s.times.pass()
	}
}

// checkAborted holds an abort marker against the transaction index. done is what the index
// has to say of it, nil if the batch aborts no transaction that is known.
func (s *segment) checkAborted(e *entry, done *log.AbortedEntry) {
	offset := e.h.BaseOffset
	s.passAborted(offset)
	b := s.entry(&s.aborted, txnIndexSuffix)
	var got log.AbortedEntry
	found := false
	if b != nil {
		got = log.DecodeAborted(b)
		found = got.LastOffset == offset
	}
	switch {
	case !found && done != nil && s.replayed:
		s.say(s.made(), segmentFile(s.base, txnIndexSuffix), none, offset, s.again(txnIndexSuffix),
			"the entry of an aborted transaction is missing (producer %d, offsets %d to %d): readers see aborted records", done.ProducerID, done.FirstOffset, done.LastOffset)
		return
	case !found:
		return
	case got.ProducerID != e.h.ProducerID || !e.h.Control():
		s.wrongEntry(&s.aborted, txnIndexSuffix, offset, "producer %d aborts at the offset, says the index; the batch is not its marker", got.ProducerID)
	case got.Version != 0 || got.FirstOffset > got.LastOffset || got.StableOffset > got.LastOffset+1:
		s.wrongEntry(&s.aborted, txnIndexSuffix, offset, "an entry cannot be: %+v", got)
	case done != nil && s.replayed && got != *done:
		s.wrongEntry(&s.aborted, txnIndexSuffix, offset, "the entry is %+v, by the batches it is %+v", got, *done)
	}
	s.lastAborted = got.LastOffset
	s.aborted.pass()
}

// passAborted reports the entries that no marker before an offset stands for.
func (s *segment) passAborted(offset int64) {
	for b := s.entry(&s.aborted, txnIndexSuffix); b != nil; b = s.entry(&s.aborted, txnIndexSuffix) {
		got := log.DecodeAborted(b)
		if got.LastOffset >= offset {
			return
		}
		if got.LastOffset < s.base || got.LastOffset <= s.lastAborted || s.compact == no && !s.lost {
			s.wrongEntry(&s.aborted, txnIndexSuffix, got.LastOffset, "no transaction is aborted at the offset")
		}
		s.lastAborted = max(s.lastAborted, got.LastOffset)
		s.aborted.pass()
	}
}

// skipIndexes passes the entries of a batch that cannot be read.
func (s *segment) skipIndexes(e *entry) {
	for b := s.entry(&s.index, indexSuffix); b != nil; b = s.entry(&s.index, indexSuffix) {
		if _, pos := log.DecodeIndexEntry(b); int64(pos) > e.pos {
			return
		}
		s.index.pass()
	}
}

// finishIndexes looks at the entries that no batch stands for, and at what should be there
// at the end of the segment.
func (s *segment) finishIndexes(size int64, whole bool) {
	if !whole || s.lost {
		return // of what could not be read
	}
	s.passAborted(math.MaxInt64)
	if s.ahead.open {
		s.settleAhead(math.MaxInt64)
	}
	for b := s.entry(&s.index, indexSuffix); b != nil; b = s.entry(&s.index, indexSuffix) {
		rel, pos := log.DecodeIndexEntry(b)
		s.wrongEntry(&s.index, indexSuffix, s.base+int64(rel), "no batch begins at byte %d of the segment", pos)
		s.index.pass()
	}
	for b := s.entry(&s.times, timeIndexSuffix); b != nil; b = s.entry(&s.times, timeIndexSuffix) {
		timestamp, rel := log.DecodeTimeEntry(b)
		s.wrongEntry(&s.times, timeIndexSuffix, s.base+int64(rel), "no batch has the offset (timestamp %d)", timestamp)
		s.times.pass()
		s.lastTime = max(s.lastTime, timestamp)
	}
	name := segmentFile(s.base, timeIndexSuffix)
	if _, there := s.files[name]; there && s.newest > s.lastTime && (s.clean || !s.last) {
		s.say(s.made(), name, none, none, s.again(indexSuffix), "it ends at timestamp %d, and the segment has %d", s.lastTime, s.newest)
	}
	// The settings are not known, but the file shows how far apart its entries are.
	name = segmentFile(s.base, indexSuffix)
	if tail := s.lastPos - s.indexed; s.indexed > 0 && s.leastGap < math.MaxInt64/4 && tail > 4*s.leastGap && tail > bigTail {
		s.say(Notice, name, none, none, s.again(indexSuffix), "no entry for the last %d bytes of the segment: lookups are slow", size-s.indexed)
	} else if s.indexed == 0 && s.lastPos > bigTail {
		if _, there := s.files[name]; there {
			s.say(Notice, name, none, none, s.again(indexSuffix), "no entry for %d bytes: lookups are slow", size)
		}
	}
}

// bigTail is how many bytes without an index entry are worth a word: the interval may have
// been set larger, and a restart begins to count again.
const bigTail = 64 << 10
