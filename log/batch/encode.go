package batch

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// snappyBlockBytes is the block size of snappy-java's stream.
const snappyBlockBytes = 32 << 10

// zstdEncodeWindowBytes keeps the encoder small: batches are not larger.
const zstdEncodeWindowBytes = 1 << 20

// Encoder compresses batches. It keeps its compressors for the next batch, so it
// is worth pooling. For one goroutine at a time; the zero value is ready.
type Encoder struct {
	gzip      *gzip.Writer
	gzipLevel int
	lz4       *lz4.Writer
	zstd      *zstd.Encoder
	zstdLevel int
	stream    stream
	kept      []kept // of the batch that is filtered
}

// stream is one batch on its way through a compressor into out.
type stream struct {
	out    []byte
	end    int    // size of out that may not be passed, 0: none
	prefix []byte // the first fields of one record of a rewrite
	to     io.WriteCloser
	snappy []byte // what does not fill a block yet
	xerial bool
}

// Write makes the stream the sink of its compressor.
func (s *stream) Write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	return len(p), nil
}

// open starts a stream that appends to dst. Level 0 means the codec's default.
func (e *Encoder) open(dst []byte, c Codec, level int) (*stream, error) {
	s := &e.stream
	*s = stream{out: dst, prefix: s.prefix[:0], snappy: s.snappy[:0]}
	var err error
	switch c {
	case None:
	case Gzip:
		s.to, err = e.gzipWriter(s, level)
	case Snappy:
		s.xerial = true
		s.out = append(s.out, xerialMagic...)
		s.out = binary.BigEndian.AppendUint32(s.out, 1) // version
		s.out = binary.BigEndian.AppendUint32(s.out, 1) // lowest version that can read it
	case LZ4:
		s.to, err = e.lz4Writer(s, level)
	case Zstd:
		s.to, err = e.zstdWriter(s, level)
	default:
		err = fmt.Errorf("%w %d", ErrCodec, c)
	}
	return s, err
}

// write takes bytes to compress. Error: ErrTooLarge past the end, or the compressor's.
func (s *stream) write(p []byte) error {
	if s.end > 0 && len(s.out) > s.end {
		return ErrTooLarge
	}
	switch {
	case s.to != nil:
		_, err := s.to.Write(p)
		return err
	case !s.xerial:
		s.out = append(s.out, p...)
		return nil
	}
	s.snappy = append(s.snappy, p...)
	for len(s.snappy) >= snappyBlockBytes {
		s.block(s.snappy[:snappyBlockBytes])
		s.snappy = s.snappy[:copy(s.snappy, s.snappy[snappyBlockBytes:])]
	}
	return nil
}

// block appends one xerial chunk.
func (s *stream) block(p []byte) {
	at := len(s.out)
	n := snappy.MaxEncodedLen(len(p))
	s.out = append(s.out, make([]byte, 4+n)...)
	size := len(snappy.Encode(s.out[at+4:], p))
	binary.BigEndian.PutUint32(s.out[at:], uint32(size))
	s.out = s.out[:at+4+size]
}

// close ends the stream and gives up its output.
func (s *stream) close() ([]byte, error) {
	var err error
	if s.to != nil {
		err = s.to.Close()
	}
	if s.xerial && len(s.snappy) > 0 {
		s.block(s.snappy)
	}
	out := s.out
	s.out = nil
	return out, err
}

// compress appends src compressed.
func (e *Encoder) compress(dst []byte, c Codec, level int, src []byte) ([]byte, error) {
	s, err := e.open(dst, c, level)
	if err != nil {
		return dst, err
	}
	if err := s.write(src); err != nil {
		return dst, err
	}
	return s.close()
}

func (e *Encoder) gzipWriter(s *stream, level int) (io.WriteCloser, error) {
	if level == 0 {
		level = gzip.DefaultCompression
	}
	if e.gzip == nil || e.gzipLevel != level {
		w, err := gzip.NewWriterLevel(s, level)
		if err != nil {
			return nil, fmt.Errorf("gzip level %d: %w", level, err)
		}
		e.gzip, e.gzipLevel = w, level
	}
	e.gzip.Reset(s)
	return e.gzip, nil
}

// lz4Writer maps Kafka's levels 1-17 to those of the library, which end at 9.
func (e *Encoder) lz4Writer(s *stream, level int) (io.WriteCloser, error) {
	if e.lz4 == nil {
		e.lz4 = lz4.NewWriter(s)
	}
	e.lz4.Reset(s)
	speed := lz4.Fast
	if level >= 2 {
		speed = lz4.CompressionLevel(1 << (8 + min(level, 9)))
	}
	err := e.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.CompressionLevelOption(speed))
	if err != nil {
		return nil, fmt.Errorf("lz4 level %d: %w", level, err)
	}
	return e.lz4, nil
}

func (e *Encoder) zstdWriter(s *stream, level int) (io.WriteCloser, error) {
	if level == 0 {
		level = 3
	}
	if e.zstd == nil || e.zstdLevel != level {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(zstdEncodeWindowBytes), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, fmt.Errorf("zstd level %d: %w", level, err)
		}
		e.zstd, e.zstdLevel = w, level
	}
	e.zstd.Reset(s)
	return e.zstd, nil
}
