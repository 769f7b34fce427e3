package inspect

import (
	"errors"
	"io"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
)

// maxEntriesBytes bounds an index file: a 2 GiB segment of the smallest batches with an
// entry for each.
const maxEntriesBytes = 512 << 20

// entries goes through the entries of an index file, all of one size. Zeros at the end are
// left out: an active segment's file of Kafka has them.
type entries struct {
	file  vfs.File
	w     window
	bytes int // of an entry
	pos   int64
	end   int64 // before zeros
}

// openEntries opens an index file. Error: fs.ErrNotExist, or the disk's.
func (t *entries) open(fsys vfs.FS, name string, bytes int) error {
	f, size, err := open(fsys, name)
	if err != nil {
		return err
	}
	t.file, t.bytes, t.pos, t.end = f, bytes, 0, size
	t.w.reset(f, size)
	return nil
}

func (t *entries) close() error {
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	t.file = nil
	return err
}

// peek shows the next entry without passing it; io.EOF at the end, io.ErrUnexpectedEOF for
// what is shorter than an entry.
func (t *entries) peek() ([]byte, error) {
	if t.file == nil || t.pos >= t.end {
		return nil, io.EOF
	}
	n := int(min(int64(t.bytes), t.end-t.pos))
	b, err := t.w.at(t.pos, n)
	if err != nil {
		return nil, err
	}
	if n < t.bytes {
		return nil, io.ErrUnexpectedEOF
	}
	for _, c := range b {
		if c != 0 {
			return b, nil
		}
	}
	zero, err := t.w.zeroFrom(t.pos)
	if err != nil {
		return nil, err
	}
	if zero {
		t.end = t.pos
		return nil, io.EOF
	}
	if t.bytes == log.IndexEntryBytes && t.pos <= log.IndexEntryBytes {
		return b, nil // of a first batch that ends at the segment's base offset
	}
	return nil, errHole
}

// errHole: zeros stand before the last entry.
var errHole = errors.New("zeros stand before the last entry")

func (t *entries) pass() { t.pos += int64(t.bytes) }
