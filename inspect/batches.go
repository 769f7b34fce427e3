package inspect

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rotpeter/rotpeter/log/batch"
)

const (
	// maxBatchBytes bounds a batch whose records are looked at: more than any client's
	// request may have by default. Of larger ones the CRC is checked.
	maxBatchBytes = 64 << 20
	// maxWholeBytes bounds the decompressed records of a batch that is held whole: those of
	// internal topics, those that are dumped, and those of message formats 0 and 1.
	maxWholeBytes = 32 << 20
	// crcFrom is where the bytes begin that a batch's CRC covers, in message format 2 and before.
	crcFrom       = 21
	legacyCRCFrom = 16
)

// entry is a batch of message format 2, or a message of an older one.
type entry struct {
	pos, size int64
	magic     int8
	h         batch.Header // format 2
	legacy    batch.Legacy // formats 0 and 1
	whole     []byte       // nil: it is too large, or its CRC is wrong
	wrong     error        // the CRC is wrong: nothing but the position can be believed
}

func (e *entry) last() int64 {
	if e.magic < batch.Magic {
		return e.legacy.Offset
	}
	return e.h.LastOffset()
}

func (e *entry) maxTimestamp() int64 {
	if e.magic < batch.Magic {
		return e.legacy.Timestamp
	}
	return e.h.MaxTimestamp
}

// errBroken is what is no batch: nothing after it can be found.
var errBroken = errors.New("no batch begins here")

// batchReader goes through the batches of a file.
type batchReader struct {
	w   window
	pos int64
	big []byte // a batch that is larger than the window
}

func (r *batchReader) reset(f io.ReaderAt, size int64) {
	r.w.reset(f, size)
	r.pos = 0
}

// next gives the next batch, which is valid until the next call. Errors: io.EOF at the
// end, errBroken, or the disk's.
func (r *batchReader) next() (*entry, error) {
	left := r.w.size - r.pos
	if left == 0 {
		return nil, io.EOF
	}
	head, err := r.w.at(r.pos, int(min(left, batch.HeaderBytes)))
	if err != nil {
		return nil, err
	}
	size, magic, err := batch.Peek(head)
	switch {
	case errors.Is(err, batch.ErrNone):
		return nil, fmt.Errorf("%w: %d bytes are left, which is too few", errBroken, left)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	case int64(size) > left:
		return nil, fmt.Errorf("%w: it should have %d bytes, %d are left", errBroken, size, left)
	}
	e := &entry{pos: r.pos, size: int64(size), magic: magic}
	if magic == batch.Magic {
		if e.h, err = batch.ParseHeader(head); err != nil {
			return nil, fmt.Errorf("%w: %w", errBroken, err)
		}
	} else if e.legacy.Offset, e.legacy.Length = int64(be64(head)), int32(size-batch.Overhead); e.legacy.Offset < 0 {
		return nil, fmt.Errorf("%w: offset %d", errBroken, e.legacy.Offset)
	}
	if err := r.load(e); err != nil {
		return nil, err
	}
	r.pos += e.size
	return e, nil
}

// load brings the batch into memory and checks its CRC.
func (r *batchReader) load(e *entry) (err error) {
	if e.size <= windowBytes {
		if e.whole, err = r.w.at(e.pos, int(e.size)); err != nil {
			return err
		}
		return e.check()
	}
	sum, want, err := r.sum(e)
	if err != nil {
		return err
	}
	if sum != want {
		e.wrong = fmt.Errorf("stored crc %d, computed crc %d", want, sum)
		return nil
	}
	if e.size > maxBatchBytes {
		return nil
	}
	if int64(cap(r.big)) < e.size {
		r.big = make([]byte, e.size)
	}
	e.whole = r.big[:e.size]
	if n, err := r.w.f.ReadAt(e.whole, e.pos); int64(n) < e.size {
		return errors.Join(io.ErrUnexpectedEOF, err)
	}
	return e.check()
}

// check checks the CRC of a batch that is in memory, and reads a message of an old format.
func (e *entry) check() (err error) {
	if e.magic == batch.Magic {
		e.wrong = batch.CheckCRC(&e.h, e.whole)
	} else if e.legacy, err = batch.ParseLegacy(e.whole); err == nil {
		e.wrong = batch.CheckLegacyCRC(&e.legacy, e.whole)
	} else {
		e.wrong = err
		e.legacy.Offset = int64(be64(e.whole))
	}
	if e.wrong != nil {
		e.whole = nil
	}
	return nil
}

// sum computes the CRC piece by piece.
func (r *batchReader) sum(e *entry) (sum, want uint32, err error) {
	table, from := crc32.MakeTable(crc32.Castagnoli), int64(crcFrom)
	want = e.h.CRC
	if e.magic < batch.Magic {
		table, from = crc32.IEEETable, legacyCRCFrom
		b, err := r.w.at(e.pos+batch.Overhead, 4)
		if err != nil {
			return 0, 0, err
		}
		want = be32(b)
	}
	for at, end := e.pos+from, e.pos+e.size; at < end; {
		b, err := r.w.at(at, int(min(end-at, windowBytes)))
		if err != nil {
			return 0, 0, err
		}
		sum = crc32.Update(sum, table, b)
		at += int64(len(b))
	}
	return sum, want, nil
}
