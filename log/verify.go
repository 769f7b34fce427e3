package log

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/rotpeter/rotpeter/log/batch"
)

// wideBytes is what is read at once to verify small batches.
const wideBytes = 64 << 10

// stretch is what was verified of a segment: the batches between two positions.
type stretch struct {
	low, high int64
	last      indexEntry // of the batch before high
	next      int64      // the offset after it
	odd       bool       // the leader epochs do not go with it
}

// verify makes sure that the batches in [pos, end) of a segment that a start found on disk have the offsets and
// the leader epochs they were written with, before they are handed out: no CRC covers those. What this
// process wrote, or a recovery read, needs no look, and what was verified is not looked at again; so a
// reader that goes through a segment pays a walk over its headers once. from is where the walk began that found pos.
// With all, what it passed is to be right too: it looked for something that was not where it should be.
// Error: a brokenAt, or the disk's.
func (g *segment) verify(from headers, all bool, pos, end int64) error {
	found := g.found.Load()
	if pos >= found {
		return nil
	}
	end = min(end, found)
	low := pos
	if all {
		low = from.pos
	}
	s := g.checked.Load()
	if s != nil && low >= s.low && end <= s.high {
		return nil
	}
	v := &verifier{g: g, f: from.f, w: from, s: stretch{low: from.pos, next: -1}, epochs: *g.l.epochs.Load()}
	defer func() { _ = v.gaps.close() }()
	v.w.size = g.size.Load()
	if s != nil && low >= s.low && pos <= s.high {
		v.s = *s
		v.w = g.walk(v.f, s.high, v.w.size, from.buf)
		v.w.next, v.w.sure = s.next, true
	}
	if end-v.w.pos > wideBytes {
		wide := g.l.store.wide.Get()
		defer g.l.store.wide.Put(wide)
		v.w.wide = wide[:]
	}
	if err := v.until(end); err != nil {
		return err
	}
	g.checked.Store(&v.s)
	return nil
}

// verifyCopy verifies batches that are to be copied.
func (g *segment) verifyCopy(f io.ReaderAt, b []byte, pos int64) error {
	h, err := batch.Stored(b)
	if err != nil {
		return g.uncopied(pos, err)
	}
	w := g.l.store.windows.Get()
	defer g.l.store.windows.Put(w)
	from, err := g.walkTo(f, h.BaseOffset, g.size.Load(), w[:])
	if err != nil {
		return err
	}
	return g.verify(from, false, pos, pos+int64(len(b)))
}

// trust takes over that the whole segment was read, and what is not damaged in it is right.
func (g *segment) trust() { g.found.Store(0) }

// verifier walks over headers on behalf of verify.
type verifier struct {
	g      *segment
	f      io.ReaderAt
	w      headers
	s      stretch
	epochs epochs
	gaps   *gapReader // once there was a gap
}

func (v *verifier) until(end int64) error {
	for v.w.pos < end {
		v.w.skip()
		next, sure, entry := v.w.next, v.w.sure, v.w.entry
		h, pos, err := v.w.step()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if sure && !h.Old && h.BaseOffset > next || entry > h.LastOffset() {
			if err := v.gap(&h, pos); err != nil {
				return err
			}
		}
		odd := v.epochs.contradict(&h)
		if odd && !v.s.odd {
			if after, known := v.w.peek(v.w.pos); !known || !v.epochs.contradict(&after) {
				return &brokenAt{v.g, pos, brokenHeader, errEpoch(&h)}
			}
		}
		v.s.last, v.s.odd = indexEntry{int32(h.LastOffset() - v.g.base), int32(pos)}, odd
		v.s.high, v.s.next = v.w.pos, v.w.next
	}
	// What follows tells whether the last one is in its place.
	after, known := v.w.follower(v.w.pos)
	if v.w.pos == v.w.size {
		after = v.g.limit.Load()
		known = after < math.MaxInt64
	}
	switch {
	case !known || v.s.next < 0 || after == v.s.next:
		return nil
	case after < v.s.next:
		return &brokenAt{v.g, int64(v.s.last.pos), brokenHeader, fmt.Errorf("it ends at offset %d, but the batch after it begins at %d", v.s.next-1, after)}
	}
	return v.gap(nil, 0)
}

// gap holds the batches on both sides of a gap against the index, where that knows of gaps: h, if it is not nil, and
// the one before. An entry that says more of h than its header is dealt with alike: Kafka's before 4.0 may.
func (v *verifier) gap(h *batch.Header, pos int64) (err error) {
	if v.gaps == nil {
		if v.gaps, err = v.g.gaps(v.f); err != nil {
			return err
		}
	}
	check := func(pos, last int64) error {
		if !v.gaps.complete {
			return nil
		}
		ok, err := v.gaps.confirms(pos, last)
		if err == nil && !ok {
			err = &brokenAt{v.g, pos, brokenHeader, fmt.Errorf("the index does not know the gap beside the batch that ends at offset %d", last)}
		}
		return err
	}
	if v.s.next >= 0 {
		err = check(int64(v.s.last.pos), v.g.base+int64(v.s.last.rel))
	}
	if err == nil && h != nil {
		err = check(pos, h.LastOffset())
	}
	return err
}

// contradict tells that a batch has another leader epoch than the list says for its offset. The epochs of old
// messages are not known.
func (es epochs) contradict(h *batch.Header) bool {
	if h.Old || h.LeaderEpoch == batch.NoLeaderEpoch {
		return false
	}
	if h.LeaderEpoch < 0 {
		return true
	}
	epoch := es.of(h.BaseOffset)
	if epoch < 0 {
		epoch = es.of(h.LastOffset()) // the log's start lies in the batch
	}
	return epoch >= 0 && h.LeaderEpoch != epoch
}

func errEpoch(h *batch.Header) error {
	return fmt.Errorf("leader epoch %d of the batch at offset %d is not that of %s", h.LeaderEpoch, h.BaseOffset, epochFile)
}

// cutShort finds out whether a segment's file was cut off between two batches, which its complete index tells,
// and takes what is missing out of service. It is false if nothing is missing.
func (l *Log) cutShort(g *segment) (bool, error) {
	limit := g.limit.Load()
	if limit == math.MaxInt64 || g.mem.Load() != nil {
		return false, nil // a start looks where the last segment ends
	}
	f, err := g.open()
	if err != nil {
		return false, g.failed("open", err)
	}
	defer f.release()
	entries, ok, err := g.knownGaps(f)
	if err != nil || !ok && !(len(entries) > 1 && g.size.Load() == 0 && entries[0].pos == 0) {
		return false, err
	}
	// Both of the last batch's entries: one may be wrong.
	size, n := g.size.Load(), len(entries)
	end := g.base
	if size > 0 {
		at, _ := floorPos(entries, size-1)
		w := g.walk(f, int64(at.pos), size, make([]byte, headerWindowBytes))
		for last := int64(-1); ; {
			h, pos, err := w.step()
			if err == io.EOF {
				if last < 0 || int64(entries[n-1].pos) <= last || int64(entries[n-2].pos) <= last {
					return false, nil
				}
				break
			}
			var bad *brokenAt
			if errors.As(err, &bad) {
				return false, nil // another matter
			}
			if err != nil {
				return false, g.reading(err)
			}
			last, end = pos, h.LastOffset()+1
		}
	}
	if end >= limit || l.knows(g, size) {
		return false, nil
	}
	return true, l.found(g, damage{from: end, to: limit, base: g.base, pos: size, end: size, reason: errors.New("the end of the file is missing, says its index")})
}

// compare has a scanner hold batches against a complete index, if the segment has one, and the leader epochs.
func (s *scanner) compare(g *segment) error {
	entries, ok, err := g.knownGaps(s.f)
	if err != nil {
		return err
	}
	if ok {
		s.gaps = entries
	}
	if s.pos == 0 {
		s.expect = g.base // so that the first batch is held against the second, too
	}
	if es := g.l.epochs.Load(); es != nil {
		s.epochs, s.known = *es, math.MaxInt64
	}
	return nil
}

// indexed checks that a complete index knows the gap before a batch, and that it has not twice another offset for it.
// A single entry may be wrong itself. Beyond the last one it knows nothing: it may have been cut off too.
func (s *scanner) indexed(h *batch.Header, pos int64) error {
	if len(s.gaps) == 0 || pos > int64(s.gaps[len(s.gaps)-1].pos) {
		return nil
	}
	at := entriesAt(s.gaps, pos)
	switch {
	case s.confirmed(h, pos):
		return nil
	case len(at) == 2 && at[0] == at[1]:
		return fmt.Errorf("%w: it ends at offset %d, the index says twice %d", errTorn, h.LastOffset(), s.g.base+int64(at[0].rel))
	case s.expect >= 0 && h.BaseOffset > s.expect && !h.Old:
		return fmt.Errorf("%w: its base offset is %d, the batch before ended at %d, and the index knows no gap", errTorn, h.BaseOffset, s.expect)
	}
	return nil
}

// confirmed tells that the index has a batch as it is.
func (s *scanner) confirmed(h *batch.Header, pos int64) bool {
	for _, e := range entriesAt(s.gaps, pos) {
		if s.g.base+int64(e.rel) == h.LastOffset() {
			return true
		}
	}
	return false
}

// inEpoch checks a batch's leader epoch: against those that are known, where a batch is damaged that contradicts them
// alone among its neighbours, and else against those of its neighbours, since epochs go forward.
func (s *scanner) inEpoch(h *batch.Header, pos int64) error {
	if h.Old || s.known < 0 {
		return nil
	}
	known := h.BaseOffset < s.known
	odd, back := known && s.epochs.contradict(h), !known && h.LeaderEpoch < s.epoch && h.LeaderEpoch != batch.NoLeaderEpoch
	if odd && !s.odd || !known && h.LeaderEpoch > s.epoch {
		after, there, err := s.successor(h, pos)
		if err != nil {
			return err
		}
		if odd && !(there && s.epochs.contradict(&after)) {
			return fmt.Errorf("%w: %w", errTorn, errEpoch(h))
		}
		back = !known && there && after.LeaderEpoch >= s.epoch && after.LeaderEpoch < h.LeaderEpoch && after.LeaderEpoch != batch.NoLeaderEpoch
	}
	if back {
		return fmt.Errorf("%w: its leader epoch is %d, between those of its neighbours it cannot be", errTorn, h.LeaderEpoch)
	}
	s.odd = odd
	s.epoch = max(s.epoch, h.LeaderEpoch)
	return nil
}

// compare is scanner.compare while the log is being opened.
func (r *loading) compare(s *scanner) error {
	entries, ok, err := s.g.knownGaps(s.f)
	if err != nil {
		return err
	}
	if ok {
		s.gaps = entries
	}
	b, err := readFile(r.s.fs, r.l.path()+"/"+epochFile, maxCheckpointBytes)
	if err == nil {
		if es, err := parseEpochs(b); err == nil {
			s.epochs, s.known = es, r.point
		}
	}
	return nil
}
