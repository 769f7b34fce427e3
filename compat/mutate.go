package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// loadFrames reads the recorded requests (see recorder), in order of their names.
func loadFrames(dir string) ([][]byte, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*-v*"))
	if err != nil {
		return nil, err
	}
	var frames [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		frames = append(frames, b)
	}
	if len(frames) == 0 {
		return nil, fmt.Errorf("%s holds no recorded requests", dir)
	}
	return frames, nil
}

// mutate alters a request as sent, length included, in one to four places.
func mutate(random *rand.Rand, frame []byte) []byte {
	b := slices.Clone(frame)
	for range 1 + random.IntN(4) {
		b = mutateOnce(random, b)
	}
	out := withLength(b)
	// One in sixteen lies about its length.
	switch random.IntN(32) {
	case 0:
		binary.BigEndian.PutUint32(out, uint32(len(b)+1+random.IntN(1000)))
	case 1:
		binary.BigEndian.PutUint32(out, uint32(random.IntN(len(b)+1)))
	}
	return out
}

func mutateOnce(random *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return []byte{byte(random.Uint32())}
	}
	// The header is eight bytes and the client id; most of what matters is behind.
	at := random.IntN(len(b))
	switch random.IntN(9) {
	case 0:
		b[at] ^= 1 << random.IntN(8)
	case 1:
		b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[random.IntN(5)]
	case 2:
		b[at] = byte(random.Uint32())
	case 3: // an int32: array lengths, sizes, partitions
		if at+4 <= len(b) {
			values := []uint32{0, 1, 1 << 16, 1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1}
			binary.BigEndian.PutUint32(b[at:], values[random.IntN(len(values))])
		}
	case 4: // an int16: string lengths, versions
		if at+2 <= len(b) {
			values := []uint16{0, 1, 0x7fff, 0x8000, 0xffff, uint16(random.IntN(100))}
			binary.BigEndian.PutUint16(b[at:], values[random.IntN(len(values))])
		}
	case 5: // a long unsigned varint: compact lengths
		long := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
		b = slices.Insert(b, at, long[random.IntN(len(long)):]...)
	case 6:
		b = slices.Delete(b, at, min(len(b), at+1+random.IntN(8)))
	case 7:
		b = b[:at]
	case 8: // a part of it again
		end := min(len(b), at+1+random.IntN(64))
		b = slices.Insert(b, at, slices.Clone(b[at:end])...)
	}
	return b
}
