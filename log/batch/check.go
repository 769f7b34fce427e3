package batch

import (
	"encoding/binary"
	"fmt"
)

// Check holds the header rules for what a client sent: exactly one batch, magic
// 2, base offset 0, no more than maxBytes, a correct CRC, counts that agree, no
// control batch, a sequence with a producer id. In this order, so that the first
// error is the one that Kafka answers. The records are left to Decoder.Scan.
//
// An incomplete second batch after the first is ignored, as Kafka trims it; the
// batch is b[:h.Size()].
func Check(b []byte, maxBytes int) (Header, error) {
	size, err := Single(b)
	if err != nil {
		return Header{}, err
	}
	if offset := int64(binary.BigEndian.Uint64(b)); offset != 0 {
		return Header{}, fmt.Errorf("%w, but it is %d", ErrBaseOffset, offset)
	}
	if size > maxBytes {
		return Header{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, maxBytes)
	}
	if size < HeaderBytes {
		return Header{}, fmt.Errorf("%w: its size %d is smaller than the header", ErrCorrupt, size)
	}
	h := decode(b)
	if err := CheckCRC(&h, b); err != nil {
		return Header{}, err
	}
	return h, checkClient(&h)
}

// Single is the part of Check that Kafka does while it reads the request: whether
// b is one batch of magic 2. Errors: ErrNone, ErrCorrupt, ErrMagic, ErrMany.
func Single(b []byte) (size int, err error) {
	size, magic, err := peek(b)
	switch {
	case err != nil:
		return 0, err
	case len(b) < size:
		return 0, ErrNone
	case magic != Magic:
		return 0, fmt.Errorf("%w %d", ErrMagic, magic)
	}
	switch next, _, err := peek(b[size:]); {
	case err == ErrNone:
		return size, nil
	case err != nil:
		return 0, err
	case len(b)-size >= next:
		return 0, ErrMany
	}
	return size, nil
}

// checkClient is LogValidator.validateBatch.
func checkClient(h *Header) error {
	switch {
	case h.LastOffsetDelta < 0:
		return fmt.Errorf("%w: offset range [%d, %d]", ErrCount, h.BaseOffset, h.LastOffset())
	case h.Count <= 0:
		return fmt.Errorf("%w: count %d", ErrCount, h.Count)
	case int64(h.LastOffsetDelta)+1 != int64(h.Count):
		return fmt.Errorf("%w: offset range [%d, %d] and count %d", ErrCount, h.BaseOffset, h.LastOffset(), h.Count)
	case h.Control():
		return ErrControl
	case h.HasProducer() && h.BaseSequence < 0:
		return fmt.Errorf("%w: producer id %d, sequence %d", ErrSequence, h.ProducerID, h.BaseSequence)
	case h.Codec() > Zstd:
		return fmt.Errorf("%w %d", ErrCodec, h.Codec())
	}
	return nil
}
