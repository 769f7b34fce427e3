package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// MaxRecordsBytes is the limit on the decompressed size of a batch that the
	// log uses. A batch of the default max.message.bytes may expand 256 times;
	// more is a decompression bomb, not data.
	MaxRecordsBytes = 256 << 20
	// zstdWindowBytes is the largest zstd window that is decoded as a stream,
	// because the decoder allocates the whole window: zstd up to level 19.
	zstdWindowBytes = 8 << 20
	// zstdWideBytes is the limit on frames with a larger window (zstd levels 20 to
	// 22 announce up to 128 MiB whatever the data): they are decoded whole.
	zstdWideBytes = 32 << 20
	// zstdMaxWindowBytes is what zstd itself takes without being told.
	zstdMaxWindowBytes = 128 << 20
	// zstdBelievable is the most that such a frame may expand, and zstdFirstRoom
	// what is tried first.
	zstdBelievable = 1024
	zstdFirstRoom  = 8
	// snappyMaxRatio is the most that snappy can expand: 3 bytes to 64.
	snappyMaxRatio = 22
)

// Decoder walks and decompresses batches. It keeps the decompressors for the next
// batch, so it is worth pooling. For one goroutine at a time; the zero value is ready.
type Decoder struct {
	src    bytes.Reader
	window []byte
	whole  []byte
	gzip   *gzip.Reader
	lz4    *lz4.Reader
	zstd   *zstd.Decoder
	wide   *zstd.Decoder
	snappy snappyReader
}

// Scan visits the records of the batch b (exactly one, with header h) without
// their keys and values. It makes sure that there are h.Count records, well formed,
// and nothing after them. limit bounds the decompressed size in bytes.
// Errors: ErrRecord, ErrExpands, ErrCodec, or what visit returned.
func (d *Decoder) Scan(h *Header, b []byte, limit int64, visit func(Brief) error) error {
	w, err := d.open(h, b, limit)
	if err != nil {
		return err
	}
	return w.scan(h.Count, visit)
}

// Records visits the records of the batch at the start of b with their keys,
// values and headers, which are valid during the call only. The whole batch is
// decompressed in memory. limit bounds that in bytes.
// Errors: those of Parse, ErrRecord, ErrExpands, ErrCodec, or what visit returned.
func (d *Decoder) Records(b []byte, limit int64, visit func(Record) error) error {
	h, err := Parse(b)
	if err != nil {
		return err
	}
	if h.Count < 0 {
		return fmt.Errorf("%w: count %d", ErrRecord, h.Count)
	}
	w, err := d.openWhole(&h, b[:h.Size()], limit)
	if err != nil {
		return err
	}
	return w.records(h.Count, visit)
}

// Records is Decoder.Records for a single use.
func Records(b []byte, limit int, visit func(Record) error) error {
	return new(Decoder).Records(b, int64(limit), visit)
}

// open starts a walk over the records of a batch.
func (d *Decoder) open(h *Header, b []byte, limit int64) (walker, error) {
	body := b[HeaderBytes:]
	if h.Codec() == None {
		return walker{buf: body, w: len(body)}, nil
	}
	if h.Count == 0 && len(body) == 0 { // compaction leaves no frame behind
		return walker{}, nil
	}
	in, err := d.reader(h.Codec(), body, limit)
	if err != nil {
		return walker{}, err
	}
	if d.window == nil {
		d.window = make([]byte, windowBytes)
	}
	return walker{buf: d.window, in: in, left: limit}, nil
}

// reader returns the decompressed body as a stream.
func (d *Decoder) reader(c Codec, body []byte, limit int64) (io.Reader, error) {
	d.src.Reset(body)
	switch c {
	case Gzip:
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		if err := d.gzip.Reset(&d.src); err != nil {
			return nil, fmt.Errorf("%w: gzip: %w", ErrRecord, err)
		}
		return d.gzip, nil
	case Snappy:
		return &d.snappy, d.snappy.reset(body, limit)
	case LZ4:
		if d.lz4 == nil {
			d.lz4 = lz4.NewReader(nil)
		}
		d.lz4.Reset(&d.src)
		return d.lz4, nil
	case Zstd:
		return d.zstdReader(body, limit)
	}
	return nil, fmt.Errorf("%w %d", ErrCodec, c)
}

func (d *Decoder) zstdReader(body []byte, limit int64) (io.Reader, error) {
	var f zstd.Header
	if err := f.Decode(body); err != nil {
		return nil, fmt.Errorf("%w: zstd: %w", ErrRecord, err)
	}
	if f.WindowSize > zstdWindowBytes || f.SingleSegment && f.FrameContentSize > zstdWindowBytes {
		return d.zstdWhole(&f, body, limit)
	}
	if d.zstd == nil {
		var err error
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindowBytes), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrRecord, err)
		}
	}
	if err := d.zstd.Reset(&d.src); err != nil {
		return nil, fmt.Errorf("%w: zstd: %w", ErrRecord, err)
	}
	return d.zstd, nil
}

// zstdWhole decodes a frame with a large window in one piece: memory grows with
// what comes out and not with what the frame announces.
func (d *Decoder) zstdWhole(f *zstd.Header, body []byte, limit int64) (io.Reader, error) {
	most := int(min(limit, zstdWideBytes, int64(len(body))*zstdBelievable))
	if f.HasFCS && f.FrameContentSize > uint64(most) {
		return nil, ErrExpands
	}
	if d.wide == nil {
		var err error
		d.wide, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdMaxWindowBytes), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrRecord, err)
		}
	}
	for room := min(max(zstdFirstRoom*len(body), windowBytes), most); ; room = min(4*room, most) {
		whole, err := d.wide.DecodeAll(body, make([]byte, 0, room))
		switch {
		case err == nil:
			return bytes.NewReader(whole), nil
		case !errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return nil, fmt.Errorf("%w: zstd: %w", ErrRecord, err)
		case room == most:
			return nil, ErrExpands
		}
	}
}

// xerialMagic begins what snappy-java writes: magic, then two version numbers, then
// chunks of a big-endian length and a snappy block. Without it the body is one block.
const xerialMagic = "\x82SNAPPY\x00"

const xerialHeaderBytes = 16

// snappyReader decompresses block by block.
type snappyReader struct {
	src   []byte
	limit int64
	raw   bool
	block []byte
	r     int
}

func (s *snappyReader) reset(src []byte, limit int64) error {
	*s = snappyReader{src: src, limit: limit, block: s.block[:0]}
	s.raw = !bytes.HasPrefix(src, []byte(xerialMagic))
	if !s.raw && len(src) < xerialHeaderBytes {
		return fmt.Errorf("%w: snappy: header is cut short", ErrRecord)
	}
	if !s.raw {
		s.src = src[xerialHeaderBytes:]
	}
	return nil
}

func (s *snappyReader) Read(p []byte) (int, error) {
	for s.r == len(s.block) {
		if len(s.src) == 0 {
			return 0, io.EOF
		}
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.block[s.r:])
	s.r += n
	return n, nil
}

// next decompresses one block.
func (s *snappyReader) next() error {
	block := s.src
	if s.raw {
		s.src = nil
	} else {
		// Streams may be joined: then a header stands where a length is expected.
		if bytes.HasPrefix(s.src, []byte(xerialMagic)) && len(s.src) >= xerialHeaderBytes {
			s.src = s.src[xerialHeaderBytes:]
			s.block, s.r = s.block[:0], 0
			return nil
		}
		if len(s.src) < 4 {
			return io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(s.src))
		if n > int64(len(s.src)-4) {
			return io.ErrUnexpectedEOF
		}
		block, s.src = s.src[4:4+n], s.src[4+n:]
	}
	size, err := snappy.DecodedLen(block)
	if err != nil {
		return err
	}
	if size > snappyMaxRatio*len(block) || int64(size) > s.limit {
		return snappy.ErrTooLarge
	}
	s.r = 0
	s.block, err = snappy.Decode(s.block[:cap(s.block)], block)
	return err
}
