package inspect

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
)

// segment checks one segment and its indexes in one pass.
type segment struct {
	*partition
	base  int64
	upper int64 // base of the next segment, none for the last
	last  bool

	file     string // the .log
	end      int64  // offset after the last batch of this segment
	newest   int64  // largest timestamp so far, -1: none
	newestAt int64  // last offset of the first batch that has it
	lastPos  int64  // position of the last batch

	damaged bool // a batch is, so the largest timestamp is not known

	ahead       indexAhead
	indexed     int64 // position of the last index entry
	leastGap    int64 // least distance between two index entries
	lastTime    int64 // timestamp of the last time index entry
	lastAborted int64 // offset of the last transaction index entry
}

// indexAhead is an index entry that names the batch at its position with a later offset.
type indexAhead struct {
	offset, pos int64
	open        bool
}

func (s *segment) check() {
	s.sum.Segments++
	s.file = segmentFile(s.base, logSuffix)
	s.end, s.newest, s.lastTime, s.lastAborted = s.base, batch.NoTimestamp, batch.NoTimestamp, none
	s.leastGap = math.MaxInt64
	f, size, err := open(s.fs, s.path(s.file))
	if err != nil {
		s.unreadable(s.file, err)
		return
	}
	s.checkBegin()
	s.sum.Bytes += size
	s.reader.reset(f, size)
	s.openIndexes(size)
	whole := s.scan()
	s.finishIndexes(size, whole)
	for _, c := range []interface{ close() error }{&s.index, &s.times, &s.aborted} {
		if err := c.close(); err != nil {
			s.unreadable(s.file, err)
		}
	}
	if err := f.Close(); err != nil {
		s.unreadable(s.file, err)
	}
	s.partition.next = max(s.end, s.partition.next)
}

// checkBegin holds the segment's base against the end of the one before.
func (s *segment) checkBegin() {
	before := s.partition.next
	if before == none || before == s.base {
		s.partition.next = s.base
		return
	}
	if before > s.base {
		s.say(Damage, s.file, 0, s.base, "restore the segments", "the segment begins at %d, the one before ended at %d", s.base, before)
		return
	}
	if !s.lost && before < s.base {
		s.gap(0, before, s.base)
	}
	s.partition.next = s.base
}

// gap reports offsets that no batch has.
func (s *segment) gap(pos, from, to int64) {
	s.replayed = false
	switch s.compact {
	case yes:
		s.compacted = true
	case no:
		s.say(Damage, s.file, pos, from, "restore the segment; if the topic was compacted once nothing is wrong", "offsets %d to %d are missing, and the topic is not compacted", from, to-1)
	default:
		s.say(Notice, s.file, pos, from, "nothing is wrong if the topic is or was compacted", "offsets %d to %d are missing", from, to-1)
	}
}

// scan goes through the batches. False if it ended before the file.
func (s *segment) scan() (whole bool) {
	for {
		e, err := s.reader.next()
		if err == io.EOF {
			return true
		}
		if err != nil && !errors.Is(err, errBroken) {
			s.unreadable(s.file, err)
			return false
		}
		if err != nil {
			s.broken(err)
			return false
		}
		if !s.batch(e) || s.stopped() {
			return false
		}
		s.work.Bytes.Add(e.size)
	}
}

func (t *tools) stopped() bool {
	select {
	case <-t.stop:
		return true
	default:
		return false
	}
}

// broken reports what is no batch: a torn tail, or damage.
func (s *segment) broken(err error) {
	pos, left := s.reader.pos, s.reader.w.size-s.reader.pos
	if zero, zerr := s.reader.w.zeroFrom(pos); zerr == nil && zero {
		err = fmt.Errorf("%w: zeros", errBroken)
	}
	if s.torn(s.end) && (s.last || !s.inUse) {
		do := "the next start cuts it off"
		if s.inUse {
			do = "it may be being written"
		}
		s.say(Notice, s.file, pos, s.end, do, "a torn tail of %d bytes: %v", left, err)
		if !s.inUse && !s.last {
			s.say(Notice, s.file, pos, s.end, "the next start removes them", "segments come after the torn tail")
		}
		s.lost = s.lost || !s.last
		return
	}
	s.lost, s.replayed = true, false
	until := "the end"
	if !s.last {
		until = fmt.Sprint(s.upper - 1)
	}
	s.say(Damage, s.file, pos, s.end, "restore the file; without it the offsets are lost", "%v; %d bytes, offsets from %d to %s, cannot be read", err, left, s.end, until)
}

// batch checks one batch. False if nothing after it is worth reading.
func (s *segment) batch(e *entry) bool {
	s.sum.Batches++
	if e.wrong != nil {
		return s.wrongCRC(e)
	}
	if e.magic < batch.Magic {
		return s.legacy(e)
	}
	h := &e.h
	if err := batch.CheckShape(h); err != nil {
		s.say(Damage, s.file, e.pos, s.end, "restore the file", "%v", err)
		s.lost = true
		return false
	}
	if !s.place(e, h.BaseOffset) {
		return false
	}
	s.checkHeader(e)
	s.checkEpoch(s.file, e)
	s.compareSnapshots(h.BaseOffset + 1)
	s.applyProducer(e)
	s.checkRecords(e)
	s.pass(e)
	return true
}

// wrongCRC reports a batch whose bytes were changed. The next one may be whole: its length
// led to it.
func (s *segment) wrongCRC(e *entry) bool {
	if s.torn(s.end) && s.last {
		s.reader.pos = e.pos
		s.broken(fmt.Errorf("%w: %w", errBroken, e.wrong))
		return false
	}
	s.say(Damage, s.file, e.pos, s.end, "restore the file; without it the batch is lost", "a batch of %d bytes is damaged: %v", e.size, e.wrong)
	s.replayed, s.lost, s.damaged = false, true, true
	s.skipIndexes(e)
	return true
}

// place holds a batch's first offset against where the one before ended.
func (s *segment) place(e *entry, first int64) bool {
	last := e.last()
	switch {
	case first < s.base || last < first || last-s.base > math.MaxInt32:
		s.say(Damage, s.file, e.pos, first, "restore the file", "a batch with offsets %d to %d does not belong in the segment from %d on", first, last, s.base)
		s.lost = true
		return false
	case first < s.end:
		s.say(Damage, s.file, e.pos, first, "restore the file", "offsets go back: a batch begins at %d, the one before ended at %d", first, s.end-1)
		s.lost = true
		return false
	case s.upper != none && last >= s.upper:
		s.say(Damage, s.file, e.pos, first, "restore the file", "a batch with offsets %d to %d reaches into the next segment, %d", first, last, s.upper)
		s.lost = true
		return false
	case first > s.end && !s.lost:
		s.gap(e.pos, s.end, first)
	}
	s.lost = false
	s.end = last + 1
	return true
}

// pass holds the indexes against a batch and goes on.
func (s *segment) pass(e *entry) {
	if t := e.maxTimestamp(); t > s.newest {
		s.newest, s.newestAt = t, e.last()
	}
	s.checkIndex(e)
	s.checkTimes(e)
}

// checkHeader checks what a header says, the CRC being right.
func (s *segment) checkHeader(e *entry) {
	h := &e.h
	if h.Codec() > batch.Zstd {
		s.say(Damage, s.file, e.pos, h.BaseOffset, "restore the file", "compression type %d does not exist", h.Codec())
	}
	if h.Attributes&^knownAttributes != 0 {
		s.say(Notice, s.file, e.pos, h.BaseOffset, "", "unknown attributes %#x", h.Attributes)
	}
	if n := int64(h.LastOffsetDelta) + 1; int64(h.Count) != n {
		s.compacted = true
		switch {
		case s.compact == no:
			s.say(Damage, s.file, e.pos, h.BaseOffset, "if the topic was compacted once nothing is wrong", "%d records for %d offsets, and the topic is not compacted", h.Count, n)
		case s.compact == unknown:
			s.compact = yes // only a compaction leaves this
		}
	}
	// A group coordinator writes offsets in the name of a transaction's producer, and counts none of its batches.
	counted := !h.Control() && !(s.as == KindOffsets && h.Transactional() && h.BaseSequence == batch.NoSequence)
	if h.HasProducer() && (h.ProducerEpoch < 0 || counted && h.BaseSequence < 0) {
		s.say(Damage, s.file, e.pos, h.BaseOffset, "", "producer %d with epoch %d and sequence %d", h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	}
}

// knownAttributes are the bits of a batch's attributes that have a meaning.
const knownAttributes = 0x7f

// applyProducer replays what the batch does to its producer, and holds an abort against
// the transaction index.
func (s *segment) applyProducer(e *entry) {
	h := &e.h
	if !h.HasProducer() || e.whole == nil {
		if h.HasProducer() {
			s.replayed = false
		}
		return
	}
	done, err := s.replay.Apply(h, e.whole)
	if err != nil {
		s.say(Damage, s.file, e.pos, h.BaseOffset, "", "%v", err)
		return
	}
	if s.replay.Len() >= log.MaxReplayed {
		s.replayed = false
	}
	s.checkAborted(e, done)
}

// checkRecords decompresses the batch and checks its records.
func (s *segment) checkRecords(e *entry) {
	h := &e.h
	if e.whole == nil {
		s.say(Notice, s.file, e.pos, h.BaseOffset, "", "a batch of %d bytes is too large to look at its records; its crc is right", e.size)
		return
	}
	newest, delta, contiguous := int64(batch.NoTimestamp), int32(-1), true
	err := s.decoder.Scan(h, e.whole, batch.MaxRecordsBytes, func(r batch.Brief) error {
		s.sum.Records++
		if r.OffsetDelta <= delta || r.OffsetDelta > h.LastOffsetDelta {
			return fmt.Errorf("%w: record %d has offset %d, after %d of at most %d", batch.ErrRecord, r.Index, h.BaseOffset+int64(r.OffsetDelta), h.BaseOffset+int64(delta), h.LastOffset())
		}
		contiguous = contiguous && r.OffsetDelta == delta+1
		delta = r.OffsetDelta
		newest = max(newest, h.BaseTimestamp+r.TimestampDelta)
		return nil
	})
	switch {
	case errors.Is(err, batch.ErrExpands):
		s.say(Notice, s.file, e.pos, h.BaseOffset, "", "the records are not looked at: %v", err)
		return
	case err != nil:
		s.say(Damage, s.file, e.pos, h.BaseOffset, "its crc is right: it was written like this", "%v", err)
		return
	case !contiguous && int64(h.Count) == int64(h.LastOffsetDelta)+1:
		s.say(Damage, s.file, e.pos, h.BaseOffset, "", "the records' offsets do not follow each other")
	case h.Count > 0 && !h.LogAppendTime() && newest != h.MaxTimestamp:
		s.say(Derived, s.file, e.pos, h.BaseOffset, "lookups by time may miss records", "the largest timestamp is %d by the header, %d by the records", h.MaxTimestamp, newest)
	}
	if s.as != KindPlain || h.Control() {
		s.checkInternal(e)
	}
}

// checkInternal decodes the records of internal topics, and control records.
func (s *segment) checkInternal(e *entry) {
	err := s.decoder.Records(e.whole, maxWholeBytes, func(r batch.Record) error {
		offset := e.h.BaseOffset + int64(r.OffsetDelta)
		var err error
		if e.h.Control() {
			err = s.records.control(r.Key, r.Value)
		} else {
			err = s.records.record(s.as, r.Key, r.Value)
		}
		if err == nil {
			return nil
		}
		g, do := Damage, "a start that needs the record fails"
		if errors.Is(err, errUnknownRecord) {
			g, do = Notice, "a newer version may have written it"
		}
		s.say(g, s.file, e.pos, offset, do, "%v", err)
		return nil
	})
	if errors.Is(err, batch.ErrExpands) {
		s.say(Notice, s.file, e.pos, e.h.BaseOffset, "", "the records are not decoded: %v", err)
	} else if err != nil {
		s.say(Damage, s.file, e.pos, e.h.BaseOffset, "", "%v", err)
	}
}

// legacy checks a message of format 0 or 1.
func (s *segment) legacy(e *entry) bool {
	first, messages, newest := e.legacy.Offset, 0, int64(batch.NoTimestamp)
	var err error
	if e.whole != nil {
		expect := int64(none)
		err = s.decoder.LegacyMessages(&e.legacy, maxWholeBytes, func(m batch.Legacy) error {
			if messages == 0 {
				first = m.Offset
			} else if m.Offset <= expect {
				return fmt.Errorf("%w: message %d of a wrapper has offset %d after %d", batch.ErrRecord, messages, m.Offset, expect)
			}
			messages++
			expect = m.Offset
			newest = max(newest, m.Timestamp)
			return nil
		})
		if err == nil && messages > 0 && expect != e.legacy.Offset {
			err = fmt.Errorf("%w: the messages end at offset %d, their wrapper says %d", batch.ErrRecord, expect, e.legacy.Offset)
		}
	}
	if !s.place(e, min(first, e.legacy.Offset)) {
		return false
	}
	s.sum.Records += int64(messages)
	switch {
	case errors.Is(err, batch.ErrLegacyLZ4) || errors.Is(err, batch.ErrExpands):
		s.say(Notice, s.file, e.pos, first, "", "the messages are not looked at: %v", err)
	case err != nil:
		s.say(Damage, s.file, e.pos, first, "restore the file", "%v", err)
	case e.legacy.Magic == 1 && messages > 0 && newest != e.legacy.Timestamp:
		s.say(Derived, s.file, e.pos, first, "lookups by time may miss records", "the largest timestamp is %d by the wrapper, %d by its messages", e.legacy.Timestamp, newest)
	}
	s.pass(e)
	return true
}
