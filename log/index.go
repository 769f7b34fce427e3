package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"

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

// errUnread marks what the disk would not give: it may be as it should, and what is
// made of the rest must not stand for it.
var errUnread = errors.New("could not be read")

// parseIndex reads an offset index file. An active segment's file of Kafka ends in
// zeros, which are left out. Error: errDoubt.
func parseIndex(b []byte, segmentBytes int64) ([]indexEntry, error) {
	entries := make([]indexEntry, 0, len(b)/indexEntryBytes)
	for ; len(b) >= indexEntryBytes; b = b[indexEntryBytes:] {
		e := decodeIndexEntry(b)
		if e == (indexEntry{}) {
			break
		}
		if n := len(entries); e.rel < 0 || e.pos < 0 || int64(e.pos) >= segmentBytes ||
			n > 0 && (e.rel <= entries[n-1].rel || e.pos <= entries[n-1].pos) {
			return nil, fmt.Errorf("%w: entry %d (%d, %d)", errDoubt, n, e.rel, e.pos)
		}
		entries = append(entries, e)
	}
	if err := restIsZero(b); err != nil {
		return nil, err
	}
	return entries, nil
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

// floorRel gives the position of the last entry whose offset is at most rel; 0
// if there is none.
func floorRel(entries []indexEntry, rel int64) int64 {
	i := sort.Search(len(entries), func(i int) bool { return int64(entries[i].rel) > rel })
	if i == 0 {
		return 0
	}
	return int64(entries[i-1].pos)
}

// floorPos gives the last entry whose position is at most pos.
func floorPos(entries []indexEntry, pos int64) (e indexEntry, ok bool) {
	i := sort.Search(len(entries), func(i int) bool { return int64(entries[i].pos) > pos })
	if i == 0 {
		return indexEntry{}, false
	}
	return entries[i-1], true
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
}

func newSealedIndex(entries []indexEntry) *sealedIndex {
	s := &sealedIndex{count: len(entries)}
	for i := 0; i < len(entries); i += indexStride {
		s.top = append(s.top, entries[i])
	}
	return s
}

// block reads the stretch of the index that begins with the last top entry for
// which after is false. Empty if there is none.
func (s *sealedIndex) block(f io.ReaderAt, after func(indexEntry) bool) ([]indexEntry, error) {
	i := sort.Search(len(s.top), func(i int) bool { return after(s.top[i]) })
	if i == 0 {
		return nil, nil
	}
	first := (i - 1) * indexStride
	n := min(indexStride, s.count-first)
	var buf [indexStride * indexEntryBytes]byte
	b := buf[:n*indexEntryBytes]
	if _, err := f.ReadAt(b, int64(first)*indexEntryBytes); err != nil {
		return nil, fmt.Errorf("read index entries from %d: %w", first, err)
	}
	entries := make([]indexEntry, n)
	for i := range entries {
		entries[i] = decodeIndexEntry(b[i*indexEntryBytes:])
	}
	return entries, nil
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
