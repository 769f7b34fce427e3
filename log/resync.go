package log

import (
	"encoding/binary"
	"errors"

	"github.com/rotpeter/rotpeter/log/batch"
)

// resyncWork bounds the bytes of which CRCs are computed when the next batch after damage is looked for, as a
// multiple of the bytes searched: what was a client's data may be full of what looks like a header.
const resyncWork = 16

// resync finds the next whole batch at or after a position where none begins as it should. Its offsets must
// fit: at least s.expect, below s.bound. It gives the batch's first offset and position, -1 if there is
// none in the segment. The position itself is found if the batch there is whole and only those before
// it are missing.
//
// First it believes the length that stands there, since most damage does not hit those 4 bytes; then it
// looks at every byte.
func (s *scanner) resync(pos int64) (offset, at int64, err error) {
	left := resyncWork * (s.size - pos)
	try := func(p int64) (found bool, err error) {
		h, err := s.whole(p, left)
		if errors.Is(err, errTorn) || err == nil && p == s.rejected {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		left -= int64(h.Size())
		if h.BaseOffset < max(s.expect, s.g.base) || h.LastOffset() >= s.bound {
			return false, nil
		}
		// Its base offset may be wrong too. The batch after it tells, where that goes on from it; the broken one
		// before it, if the number of its records can be read.
		after, known, err := s.successor(&h, p)
		if err != nil || p == pos && (!known || h.BaseOffset == s.expect) {
			return false, err
		}
		goesBack := known && after.BaseOffset <= h.LastOffset()
		leavesGap := known && s.dense && after.BaseOffset > h.LastOffset()+1 && int64(h.Count) == int64(h.LastOffsetDelta)+1
		if (goesBack || leavesGap) && (p == pos || h.BaseOffset != s.expect+s.span(pos)) {
			return false, nil
		}
		offset, at = h.BaseOffset, p
		return true, nil
	}
	if found, err := try(pos); found || err != nil {
		return offset, at, err
	}
	var b []byte
	if s.size-pos >= batch.HeaderBytes {
		if b, err = s.peek(pos, batch.Overhead); err != nil {
			return 0, -1, err
		}
		if length := int64(int32(binary.BigEndian.Uint32(b[8:]))); length > 0 && length < s.size-pos {
			if found, err := try(pos + batch.Overhead + length); found || err != nil {
				return offset, at, err
			}
		}
	}
	for p := pos + 1; s.size-p >= batch.HeaderBytes && left > 0; {
		n := int(min(s.size-p, int64(len(s.buf))))
		if b, err = s.peek(p, n); err != nil {
			return 0, -1, err
		}
		i := s.candidate(b, s.size-p)
		if i < 0 {
			p += int64(n - batch.HeaderBytes + 1)
			continue
		}
		p += int64(i)
		if found, err := try(p); found || err != nil {
			return offset, at, err
		}
		p++
	}
	return 0, -1, nil
}

// span is how many offsets the broken batch at a position says that it has.
func (s *scanner) span(pos int64) int64 {
	if s.size-pos < batch.HeaderBytes {
		return -1
	}
	b, err := s.peek(pos, batch.HeaderBytes)
	if err != nil {
		return -1
	}
	h, err := batch.ParseHeader(b)
	if err != nil {
		return -1
	}
	return int64(h.LastOffsetDelta) + 1
}

// extent is the damage that begins where no batch begins as it should. It ends at the next whole batch, or else with
// the segment, whose offsets end at limit.
func (s *scanner) extent(pos, limit int64, why error, search bool) (d damage, err error) {
	s.expect = max(s.expect, s.g.base)
	d = damage{from: s.expect, to: limit, base: s.g.base, pos: pos, end: s.size, reason: why}
	if !search {
		return d, nil
	}
	to, at, err := s.resync(pos)
	if err == nil && at >= 0 {
		d.to, d.end = to, at
	}
	return d, err
}

// candidate is the first place in b where a header could begin, -1 without one; left bytes
// are in the segment from b on.
func (s *scanner) candidate(b []byte, left int64) int {
	low := max(s.expect, s.g.base)
	for i := 0; i+batch.HeaderBytes <= len(b); i++ {
		if b[i+16] != batch.Magic {
			continue
		}
		if base := int64(binary.BigEndian.Uint64(b[i:])); base < low || base >= s.bound {
			continue
		}
		if length := int64(int32(binary.BigEndian.Uint32(b[i+8:]))); length >= batch.HeaderBytes-batch.Overhead && int64(i)+batch.Overhead+length <= left {
			return i
		}
	}
	return -1
}

// successor is the header of the batch that follows one at a position; known is false at the end of the
// segment and where no header follows.
func (s *scanner) successor(h *batch.Header, pos int64) (after batch.Header, known bool, err error) {
	next := pos + int64(h.Size())
	for i := range s.holes {
		if next >= s.holes[i].pos && next <= s.holes[i].end {
			return after, false, nil
		}
	}
	if s.size-next < batch.HeaderBytes {
		return after, false, nil
	}
	b, err := s.peek(next, batch.HeaderBytes)
	if err != nil {
		return after, false, err
	}
	after, err = batch.ParseHeader(b)
	return after, err == nil && batch.CheckShape(&after) == nil, nil
}
