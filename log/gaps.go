package log

import (
	"errors"
	"io"
	"math"
	"sort"

	"github.com/rotpeter/rotpeter/log/batch"
)

// Neither base offset nor length and leader epoch of a batch are covered by its CRC, and where compaction
// left gaps between offsets the batches around a batch do not tell its offset either. So an index that we
// write says it, in entries that are right for Kafka too:
//
//   - it begins with an entry for the batch at byte 0, which Kafka never writes: the index is complete;
//   - a batch next to a gap has its entry twice, so that two of three are right when the batch's header, or
//     one entry, goes wrong;
//   - so has the last batch of the segment: a file that was cut short between two batches lacks it.
//
// A complete index speaks of the gaps up to its last entry. An index that has no room for that
// (segment.index.bytes) is an ordinary one.

// completeEntries is how many entries of an index are kept free for what is written when the segment ends.
const completeEntries = 2

// twice puts an entry into the index so often.
func (m *memIndex) twice(e indexEntry) {
	all := m.offsets.all()
	have := 0
	for n := len(all); have < min(n, 2) && all[n-1-have] == e; {
		have++
	}
	for ; have < 2; have++ {
		m.offsets.add(e)
	}
}

// add enters a batch. next is the offset where it was to begin.
func (m *memIndex) add(h *batch.Header, e indexEntry, base int64, indexed bool, c *Config) {
	switch {
	case e.pos == 0:
		m.next = base
	case m.next == 0: // the segment begins with damage
		m.sparse = true
	}
	// Where an old message begins that holds others is not known here.
	gap := !h.Old && h.BaseOffset > m.next && !m.sparse
	if gap && m.offsets.size()+4 > c.maxIndexEntries() {
		m.unmark()
		gap = false
	}
	if gap && e.pos > 0 {
		m.twice(m.last)
	}
	switch {
	case gap:
		m.twice(e)
	case indexed, e.pos == 0 && !m.sparse:
		m.offsets.add(e)
	}
	m.last, m.next = e, h.LastOffset()+1
}

// goOn prepares the index of a segment that was found on disk for more batches. An ordinary index stays one, unless the
// segment's first batches are all that it lacks.
func (m *memIndex) goOn(g *segment) error {
	size := g.size.Load()
	if size == 0 {
		return nil
	}
	f, err := g.open()
	if err != nil {
		return err
	}
	defer f.release()
	entries, from := m.offsets.all(), int64(0)
	if m.sparse = len(entries) > 0 && !isComplete(entries, g.firstBatch(f), g.base); m.sparse {
		return nil
	}
	if n := len(entries); n > 0 {
		from = int64(entries[n-1].pos)
	}
	whole := len(entries) == 0
	for w := g.walk(f, from, size, make([]byte, headerWindowBytes)); ; {
		h, pos, err := w.step()
		var bad *brokenAt
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &bad): // whoever reads there deals with it
			m.unmark()
			return nil
		case err != nil:
			return err
		case whole:
			m.add(&h, indexEntry{int32(h.LastOffset() - g.base), int32(pos)}, g.base, false, g.l.config.Load())
		}
		m.last, m.next = indexEntry{int32(h.LastOffset() - g.base), int32(pos)}, h.LastOffset()+1
	}
}

// unmark makes it an ordinary index. Nobody may be reading it.
func (m *memIndex) unmark() {
	m.sparse = true
	all := m.offsets.all()
	m.offsets = growing[indexEntry]{}
	for i, e := range all {
		if e.pos > 0 && (i == 0 || e != all[i-1]) {
			m.offsets.add(e)
		}
	}
}

// end enters the last batch once more.
func (m *memIndex) end() {
	if all := m.offsets.all(); len(all) > 0 && all[0].pos == 0 && m.next > 0 {
		m.twice(m.last)
	}
}

// isComplete tells from the first entries of an index, and the last offset of the segment's first batch,
// whether it is complete. One flipped bit does not make an index of Kafka's look so.
func isComplete(entries []indexEntry, first int64, base int64) bool {
	return len(entries) > 1 && entries[0].pos == 0 && (entries[1] == entries[0] || base+int64(entries[0].rel) == first)
}

// firstBatch gives the last offset of the batch at byte 0, -1 where none can be read.
func (g *segment) firstBatch(f io.ReaderAt) int64 {
	b := make([]byte, min(batch.HeaderBytes, g.size.Load()))
	if n, err := f.ReadAt(b, 0); n < len(b) && err != nil {
		return -1
	}
	h, err := batch.Stored(b)
	if err != nil {
		return -1
	}
	return h.LastOffset()
}

// knownGaps are the entries of a complete index; ok is false if the segment has none. An index
// that cannot be believed is none. It may speak of batches that the file has no more.
func (g *segment) knownGaps(f io.ReaderAt) (entries []indexEntry, ok bool, err error) {
	if m := g.mem.Load(); m != nil {
		entries = m.offsets.all()
	} else if entries, err = g.readEntries(math.MaxInt64); missing(err) || errors.Is(err, errDoubt) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, g.failed("read index", err)
	}
	return entries, isComplete(entries, g.firstBatch(f), g.base), nil
}

// entriesAt are those of a position.
func entriesAt(entries []indexEntry, pos int64) []indexEntry {
	i := sort.Search(len(entries), func(i int) bool { return int64(entries[i].pos) >= pos })
	j := i
	for j < len(entries) && int64(entries[j].pos) == pos {
		j++
	}
	return entries[i:j]
}

// gapReader looks up what a complete index in a file says about one batch after the other. It reads
// pieces, since the file may be large.
type gapReader struct {
	g        *segment
	f        *indexFile
	mem      []indexEntry // instead of f
	last     indexEntry
	piece    []indexEntry // of f
	complete bool
}

// gaps opens the segment's index for that.
func (g *segment) gaps(log io.ReaderAt) (*gapReader, error) {
	r := &gapReader{g: g}
	if m := g.mem.Load(); m != nil {
		r.mem = m.offsets.all()
		if r.complete = isComplete(r.mem, g.firstBatch(log), g.base); r.complete {
			r.last = r.mem[len(r.mem)-1]
		}
		return r, nil
	}
	f, err := g.openIndex(indexSuffix, indexEntryBytes)
	if missing(err) || errors.Is(err, errDoubt) {
		return r, nil
	}
	if err != nil {
		return nil, g.failed("open index", err)
	}
	if r.f = f; f == nil || f.count < 2 {
		return r, nil
	}
	b := make([]byte, 2*indexEntryBytes)
	if err := f.at(b, 0); err != nil {
		return nil, errors.Join(g.failed("read index", err), r.close())
	}
	r.complete = isComplete([]indexEntry{decodeIndexEntry(b), decodeIndexEntry(b[indexEntryBytes:])}, g.firstBatch(log), g.base)
	if err := f.last(b[:indexEntryBytes]); err != nil {
		return nil, errors.Join(g.failed("read index", err), r.close())
	}
	r.last = decodeIndexEntry(b)
	return r, nil
}

func (r *gapReader) close() error {
	if r == nil || r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	return f.Close()
}

// confirms tells that a batch next to a gap has its two entries.
func (r *gapReader) confirms(pos, last int64) (bool, error) {
	entries := r.mem
	if r.f != nil {
		if n := len(r.piece); n == 0 || int64(r.piece[0].pos) >= pos || int64(r.piece[n-1].pos) <= pos {
			if err := r.load(pos); err != nil {
				return false, err
			}
		}
		entries = r.piece
	}
	at := entriesAt(entries, pos)
	return len(at) == 2 && at[0] == at[1] && r.g.base+int64(at[0].rel) == last, nil
}

// load reads the piece of the index from a position on.
func (r *gapReader) load(pos int64) error {
	var one [indexEntryBytes]byte
	low, high := int64(0), r.f.count
	for low < high {
		middle := (low + high) / 2
		if err := r.f.at(one[:], middle); err != nil {
			return r.g.failed("read index", err)
		}
		if int64(decodeIndexEntry(one[:]).pos) < pos {
			low = middle + 1
		} else {
			high = middle
		}
	}
	b := make([]byte, min(indexStride, r.f.count-low)*indexEntryBytes)
	if err := r.f.at(b, low); err != nil {
		return r.g.failed("read index", err)
	}
	r.piece = r.piece[:0]
	for ; len(b) > 0; b = b[indexEntryBytes:] {
		r.piece = append(r.piece, decodeIndexEntry(b))
	}
	return nil
}
