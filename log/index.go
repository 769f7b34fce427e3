package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"sync/atomic"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

const (
	// indexEntryBytes is the size of an offset index entry: relative offset i32,
	// position i32 (OffsetIndex).
	indexEntryBytes = 8
	// timeEntryBytes is the size of a time index entry: timestamp i64, relative
	// offset i32 (TimeIndex).
	timeEntryBytes = 12
	// indexStride is how many entries of a sealed segment's index one entry in
	// memory stands for; they are read in one piece of 4 KiB (decision D13).
	indexStride = 512
)

// indexEntry says where a batch begins: rel is its last offset less the segment's
// base offset.
type indexEntry struct{ rel, pos int32 }

// timeEntry says that no batch up to the one whose last offset is rel (less the
// base) has a timestamp above timestamp.
type timeEntry struct {
	timestamp int64
	rel       int32
}

func appendIndex(b []byte, entries []indexEntry) []byte {
	for _, e := range entries {
		b = binary.BigEndian.AppendUint32(b, uint32(e.rel))
		b = binary.BigEndian.AppendUint32(b, uint32(e.pos))
	}
	return b
}

func appendTimeIndex(b []byte, entries []timeEntry) []byte {
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, uint64(e.timestamp))
		b = binary.BigEndian.AppendUint32(b, uint32(e.rel))
	}
	return b
}

func decodeIndexEntry(b []byte) indexEntry {
	return indexEntry{int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:]))}
}

func decodeTimeEntry(b []byte) timeEntry {
	return timeEntry{int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[8:]))}
}

// errDoubt marks a file that was read and cannot be believed. An index is then made again.
var errDoubt = errors.New("not to be trusted")

// parseIndex reads an offset index file. An active segment's file of Kafka ends in
// zeros, which are left out. An entry may stand there twice (gaps.go). Error: errDoubt.
func parseIndex(b []byte, segmentBytes int64) ([]indexEntry, error) {
	entries := make([]indexEntry, 0, len(b)/indexEntryBytes)
	for ; len(b) >= indexEntryBytes; b = b[indexEntryBytes:] {
		e := decodeIndexEntry(b)
		n := len(entries)
		if e == (indexEntry{}) && !(beginsWithZero(b, n) && (n == 0 || entries[0] == e)) {
			break
		}
		if e.rel < 0 || e.pos < 0 || int64(e.pos) >= segmentBytes ||
			n > 0 && (e.rel <= entries[n-1].rel || e.pos <= entries[n-1].pos) && e != entries[n-1] {
			return nil, fmt.Errorf("%w: entry %d (%d, %d)", errDoubt, n, e.rel, e.pos)
		}
		entries = append(entries, e)
	}
	if err := restIsZero(b); err != nil {
		return nil, err
	}
	return entries, nil
}

// beginsWithZero tells that the n-th entry of an index, at the start of b, is zero because the first batch of the
// segment ends at its base offset, and not because no more entries follow.
func beginsWithZero(b []byte, n int) bool {
	switch {
	case n > 1:
		return false
	case len(b) == (2-n)*indexEntryBytes: // the only batch
		return true
	}
	return restIsZero(b[:min(len(b), (3-n)*indexEntryBytes)]) != nil
}

// parseTimeIndex reads a time index file, like parseIndex.
func parseTimeIndex(b []byte) ([]timeEntry, error) {
	entries := make([]timeEntry, 0, len(b)/timeEntryBytes)
	for ; len(b) >= timeEntryBytes; b = b[timeEntryBytes:] {
		e := decodeTimeEntry(b)
		if e == (timeEntry{}) {
			break
		}
		if n := len(entries); e.rel < 0 || e.timestamp < 0 || n > 0 && (e.timestamp <= entries[n-1].timestamp || e.rel < entries[n-1].rel) {
			return nil, fmt.Errorf("%w: time entry %d (%d, %d)", errDoubt, n, e.timestamp, e.rel)
		}
		entries = append(entries, e)
	}
	if err := restIsZero(b); err != nil {
		return nil, err
	}
	return entries, nil
}

func restIsZero(b []byte) error {
	for _, c := range b {
		if c != 0 {
			return fmt.Errorf("%w: bytes after the last entry", errDoubt)
		}
	}
	return nil
}

// floorOf gives the last entry for which after is false.
func floorOf(entries []indexEntry, after func(indexEntry) bool) (e indexEntry, ok bool) {
	i := sort.Search(len(entries), func(i int) bool { return after(entries[i]) })
	if i == 0 {
		return indexEntry{}, false
	}
	return entries[i-1], true
}

// floorRel gives the last entry whose offset is at most rel.
func floorRel(entries []indexEntry, rel int64) (e indexEntry, ok bool) {
	return floorOf(entries, func(e indexEntry) bool { return int64(e.rel) > rel })
}

// floorPos gives the last entry whose position is at most pos.
func floorPos(entries []indexEntry, pos int64) (e indexEntry, ok bool) {
	return floorOf(entries, func(e indexEntry) bool { return int64(e.pos) > pos })
}

// floorTime gives the last entry whose timestamp is at most timestamp.
func floorTime(entries []timeEntry, timestamp int64) (e timeEntry, ok bool) {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].timestamp > timestamp })
	if i == 0 {
		return timeEntry{}, false
	}
	return entries[i-1], true
}

// sealedIndex is the index of a segment that grows no more: every 512th entry in
// memory, the rest in the file.
type sealedIndex struct {
	top   []indexEntry // entries 0, 512, 1024, ...
	count int
	used  atomic.Bool // since the janitor looked last
}

func newSealedIndex(entries []indexEntry) *sealedIndex {
	s := &sealedIndex{count: len(entries)}
	for i := 0; i < len(entries); i += indexStride {
		s.top = append(s.top, entries[i])
	}
	return s
}

// indexPiece is the part of an index file from one top entry to the next.
type indexPiece [indexStride * indexEntryBytes]byte

// floor gives the last entry for which after is false: it is in the piece that begins with the last such top entry.
func (s *sealedIndex) floor(f io.ReaderAt, buf *indexPiece, after func(indexEntry) bool) (e indexEntry, ok bool, err error) {
	s.used.Store(true)
	i := sort.Search(len(s.top), func(i int) bool { return after(s.top[i]) })
	if i == 0 {
		return e, false, nil
	}
	first := (i - 1) * indexStride
	n := min(indexStride, s.count-first)
	b := buf[:n*indexEntryBytes]
	if _, err := f.ReadAt(b, int64(first)*indexEntryBytes); err != nil {
		return e, false, fmt.Errorf("read index entries from %d: %w", first, err)
	}
	entry := func(i int) indexEntry { return decodeIndexEntry(b[i*indexEntryBytes:]) }
	if i = sort.Search(n, func(i int) bool { return after(entry(i)) }); i == 0 {
		return e, false, nil
	}
	return entry(i - 1), true, nil
}

// indexFile is an index on disk that is searched where it is.
type indexFile struct {
	vfs.File
	entry int   // bytes of an entry
	count int64 // entries
}

// openIndex opens an index file of this segment; nil if it is empty. Errors: fs.ErrNotExist, errDoubt for a size that cannot be,
// or the disk's.
func (g *segment) openIndex(suffix string, entryBytes int) (*indexFile, error) {
	f, err := g.l.store.fs.OpenFile(g.path(suffix), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	err = errors.Join(err, g.current())
	if err == nil && (size%int64(entryBytes) != 0 || size > maxIndexBytes) {
		err = fmt.Errorf("%w: it has %d bytes", errDoubt, size)
	}
	if err != nil || size == 0 {
		return nil, errors.Join(err, f.Close())
	}
	return &indexFile{f, entryBytes, size / int64(entryBytes)}, nil
}

// at reads n entries from the i-th on into b.
func (f *indexFile) at(b []byte, i int64) error {
	if n, err := f.ReadAt(b, i*int64(f.entry)); n < len(b) {
		return fmt.Errorf("read index entries from %d: %w", i, err)
	}
	return nil
}

// last reads the last entry.
func (f *indexFile) last(b []byte) error { return f.at(b, f.count-1) }

// probeBytes is what a search reads at last, in one piece.
const probeBytes = 512

// find looks for the last entry for which after is false. An active segment's file of Kafka ends in zeros, for which
// after must be true. It reads at most one entry for each halving of the file, and one piece.
func (f *indexFile) find(after func(entry []byte) bool) (entry []byte, ok bool, err error) {
	low, high := int64(0), f.count // entries below low are not after, those from high on are
	one := make([]byte, f.entry)
	for few := int64(probeBytes / f.entry); high-low > few; {
		middle := (low + high) / 2
		if err := f.at(one, middle); err != nil {
			return nil, false, err
		}
		if after(one) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	first := max(low-1, 0)
	piece := make([]byte, int(high-first)*f.entry)
	if len(piece) == 0 {
		return nil, false, nil
	}
	if err := f.at(piece, first); err != nil {
		return nil, false, err
	}
	n := sort.Search(len(piece)/f.entry, func(i int) bool { return after(piece[i*f.entry:][:f.entry]) })
	if n == 0 {
		return nil, false, nil
	}
	return piece[(n-1)*f.entry:][:f.entry], true, nil
}

// readFile reads a small file whole. fs.ErrNotExist if there is none; one of more
// than maxBytes is refused.
func readFile(fsys vfs.FS, name string, maxBytes int64) (b []byte, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxBytes {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are expected", name, size, maxBytes)
	}
	b = make([]byte, size)
	if n, err := f.ReadAt(b, 0); err != nil && !(err == io.EOF && n == len(b)) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// missing reports that an error means there is no such file.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
