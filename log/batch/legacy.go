package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Legacy is one entry of a segment that a Kafka before 0.11 wrote, of message format 0 or 1
// (KIP-32): a message, or a wrapper that holds compressed ones.
//
//	 0 offset i64 | 8 length i32 (after it) | 12 crc u32 (from 16 on) | 16 magic i8
//	17 attributes i8 | 18 timestamp i64 (format 1 only) | key i32 + bytes | value i32 + bytes
//
// Nothing here writes such messages.
type Legacy struct {
	Offset     int64 // of a wrapper: the last offset in it
	Length     int32
	CRC        uint32
	Magic      int8
	Attributes int8
	Timestamp  int64 // -1 in format 0
	Key, Value []byte
}

const (
	// LegacyBytes is the size of the smallest message of format 0.
	LegacyBytes = Overhead + minBytesAfterOverhead

	legacyCodecMask = 0x07
	legacyTimeBit   = 0x08
)

// Size is the whole entry in bytes.
func (l *Legacy) Size() int { return Overhead + int(l.Length) }

// Codec tells how a wrapper's messages are compressed; None for a message of its own.
func (l *Legacy) Codec() Codec { return Codec(l.Attributes & legacyCodecMask) }

// LogAppendTime tells that Timestamp is the time of all messages of a wrapper.
func (l *Legacy) LogAppendTime() bool { return l.Magic == 1 && l.Attributes&legacyTimeBit != 0 }

// Peek reads the size and the message format at the start of b, of which 17 bytes are needed.
// Errors: ErrNone if b is too short, ErrCorrupt.
func Peek(b []byte) (size int, magic int8, err error) { return peek(b) }

// ParseLegacy reads the message of format 0 or 1 at the start of b, which holds all of it.
// It does not look at the CRC. Errors: ErrNone, ErrCorrupt, ErrRecord.
func ParseLegacy(b []byte) (Legacy, error) {
	size, magic, err := peek(b)
	switch {
	case err != nil:
		return Legacy{}, err
	case magic > 1:
		return Legacy{}, fmt.Errorf("%w: message format %d where 0 or 1 is expected", ErrCorrupt, magic)
	case len(b) < size:
		return Legacy{}, ErrNone
	}
	b = b[:size]
	l := Legacy{
		Offset: int64(binary.BigEndian.Uint64(b)), Length: int32(binary.BigEndian.Uint32(b[lengthAt:])),
		CRC: binary.BigEndian.Uint32(b[Overhead:]), Magic: magic, Attributes: int8(b[magicAt+1]), Timestamp: NoTimestamp,
	}
	rest := b[magicAt+2:]
	if magic == 1 {
		if len(rest) < 8 {
			return Legacy{}, fmt.Errorf("%w: message of format 1 has %d bytes", ErrCorrupt, size)
		}
		l.Timestamp, rest = int64(binary.BigEndian.Uint64(rest)), rest[8:]
	}
	for _, field := range []*[]byte{&l.Key, &l.Value} {
		if len(rest) < 4 {
			return l, fmt.Errorf("%w: message ends before its key and value", ErrRecord)
		}
		n := int64(int32(binary.BigEndian.Uint32(rest)))
		if rest = rest[4:]; n > int64(len(rest)) {
			return l, fmt.Errorf("%w: a key or value of %d bytes in %d", ErrRecord, n, len(rest))
		}
		if n >= 0 {
			*field, rest = rest[:n:n], rest[n:]
		}
	}
	if len(rest) > 0 {
		return l, fmt.Errorf("%w: %d bytes after the value", ErrRecord, len(rest))
	}
	return l, nil
}

// CheckLegacyCRC compares the stored CRC-32 with that of the message at the start of b.
// Error: ErrCorrupt.
func CheckLegacyCRC(l *Legacy, b []byte) error {
	if sum := crc32.ChecksumIEEE(b[magicAt:l.Size()]); sum != l.CRC {
		return fmt.Errorf("%w: stored crc %d, computed crc %d", ErrCorrupt, l.CRC, sum)
	}
	return nil
}

// ErrLegacyLZ4: Kafka 0.8 and 0.9 wrote LZ4 frames with a wrong checksum of their header
// (KAFKA-3160), which is not read.
var ErrLegacyLZ4 = errors.New("lz4 in message format 0 is not read")

// LegacyMessages visits what an entry holds: itself, or the messages of a wrapper with their
// offsets in the log. They are valid during the call only. limit bounds the decompressed
// size in bytes, all of which is held at once.
// Errors: ErrRecord, ErrExpands, ErrCodec, ErrCorrupt for a wrong CRC, ErrLegacyLZ4, or what visit returned.
func (d *Decoder) LegacyMessages(l *Legacy, limit int64, visit func(Legacy) error) error {
	codec := l.Codec()
	switch {
	case codec == None:
		return visit(*l)
	case codec == LZ4 && l.Magic == 0:
		return ErrLegacyLZ4
	case codec == Zstd:
		return fmt.Errorf("%w %d in message format %d", ErrCodec, codec, l.Magic)
	}
	in, err := d.reader(codec, l.Value, limit)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return fmt.Errorf("%w: decompress: %w", ErrRecord, err)
	}
	if int64(len(b)) > limit {
		return ErrExpands
	}
	base := int64(0)
	if l.Magic == 1 { // offsets in it count from 0, and the wrapper has the last one's
		last, err := lastLegacyOffset(b)
		if err != nil {
			return err
		}
		base = l.Offset - last
	}
	for len(b) > 0 {
		m, err := ParseLegacy(b)
		if errors.Is(err, ErrNone) {
			err = fmt.Errorf("%w: a compressed message is cut short", ErrRecord)
		}
		if err == nil {
			err = CheckLegacyCRC(&m, b)
		}
		if err == nil && m.Codec() != None {
			err = fmt.Errorf("%w: a compressed message inside a compressed one", ErrRecord)
		}
		if err != nil {
			return err
		}
		b = b[m.Size():]
		m.Offset += base
		if l.LogAppendTime() {
			m.Timestamp = l.Timestamp
		}
		if err := visit(m); err != nil {
			return err
		}
	}
	return nil
}

func lastLegacyOffset(b []byte) (last int64, err error) {
	for len(b) > 0 {
		size, _, err := peek(b)
		if err != nil || size > len(b) {
			return 0, fmt.Errorf("%w: a compressed message is cut short", ErrRecord)
		}
		last, b = int64(binary.BigEndian.Uint64(b)), b[size:]
	}
	return last, nil
}
