package batch

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// legacy is a message of format 0 or 1.
func legacy(offset int64, magic, attributes byte, timestamp int64, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, magic, attributes)
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	}
	b = append(b, 0xff, 0xff, 0xff, 0xff)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// wrapper compresses messages as a Kafka before 0.11 did.
func wrapper(t testing.TB, offset int64, magic byte, timestamp int64, inner ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	for _, m := range inner {
		if _, err := w.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return legacy(offset, magic, byte(Gzip), timestamp, out.Bytes())
}

func TestLegacy(t *testing.T) {
	for _, tc := range []struct {
		name    string
		b       []byte
		offsets []int64
	}{
		{"format 0", legacy(7, 0, 0, -1, []byte("v")), []int64{7}},
		{"format 1", legacy(8, 1, 0, 5, []byte("v")), []int64{8}},
		{"empty value", legacy(9, 0, 0, -1, nil), []int64{9}},
		{"wrapper of format 0: offsets are absolute", wrapper(t, 12, 0, -1, legacy(10, 0, 0, -1, nil), legacy(12, 0, 0, -1, nil)), []int64{10, 12}},
		{"wrapper of format 1: offsets are relative", wrapper(t, 12, 1, 6, legacy(0, 1, 0, 5, nil), legacy(1, 1, 0, 6, nil)), []int64{11, 12}},
		{"wrapper of format 1 after a compaction", wrapper(t, 12, 1, 6, legacy(0, 1, 0, 5, nil), legacy(4, 1, 0, 6, nil)), []int64{8, 12}},
	} {
		l, err := ParseLegacy(tc.b)
		if err == nil {
			err = CheckLegacyCRC(&l, tc.b)
		}
		if err != nil || l.Size() != len(tc.b) {
			t.Errorf("%s: %v, %d of %d bytes", tc.name, err, l.Size(), len(tc.b))
			continue
		}
		var got []int64
		var d Decoder
		if err := d.LegacyMessages(&l, 1<<20, func(m Legacy) error { got = append(got, m.Offset); return nil }); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if len(got) != len(tc.offsets) || got[0] != tc.offsets[0] || got[len(got)-1] != tc.offsets[len(got)-1] {
			t.Errorf("%s: offsets %v, want %v", tc.name, got, tc.offsets)
		}
	}
}

func TestLegacyRefused(t *testing.T) {
	good := legacy(7, 1, 0, 5, []byte("value"))
	change := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for name, tc := range map[string]struct {
		b    []byte
		want error
	}{
		"cut short":       {good[:len(good)-1], ErrNone},
		"format 2":        {change(16, 2), ErrCorrupt},
		"length":          {change(11, 3), ErrCorrupt},
		"key too long":    {change(26, 9), ErrRecord},
		"value too long":  {change(33, 9), ErrRecord},
		"value too short": {change(33, 1), ErrRecord},
	} {
		if _, err := ParseLegacy(tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	b := change(len(good)-1, 'x')
	if l, err := ParseLegacy(b); err != nil || !errors.Is(CheckLegacyCRC(&l, b), ErrCorrupt) {
		t.Errorf("crc: %v", err)
	}
	var d Decoder
	for name, tc := range map[string]struct {
		b    []byte
		want error
	}{
		"too large":              {wrapper(t, 1, 1, 5, legacy(0, 1, 0, 5, make([]byte, 2<<20))), ErrExpands},
		"garbage inside":         {wrapper(t, 1, 1, 5, make([]byte, 40)), ErrRecord},
		"a wrong crc inside":     {wrapper(t, 0, 1, 5, change(len(good)-1, 'x')), ErrCorrupt},
		"a wrapper in another":   {wrapper(t, 0, 1, 5, wrapper(t, 0, 1, 5, good)), ErrRecord},
		"zstd before format 2":   {legacy(0, 1, byte(Zstd), 5, []byte("x")), ErrCodec},
		"lz4 of format 0":        {legacy(0, 0, byte(LZ4), 5, []byte("x")), ErrLegacyLZ4},
		"not what it says to be": {legacy(0, 1, byte(Gzip), 5, []byte("x")), ErrRecord},
	} {
		l, err := ParseLegacy(tc.b)
		if err == nil {
			err = d.LegacyMessages(&l, 1<<20, func(Legacy) error { return nil })
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func FuzzLegacy(f *testing.F) {
	f.Add(legacy(7, 0, 0, -1, []byte("v")))
	f.Add(wrapper(f, 12, 1, 6, legacy(0, 1, 0, 5, nil), legacy(1, 1, 0, 6, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLegacy(b)
		if err != nil {
			return
		}
		var d Decoder
		_ = d.LegacyMessages(&l, 1<<20, func(m Legacy) error {
			if len(m.Key)+len(m.Value) > 1<<20 && m.Offset != l.Offset {
				t.Fatal("more than the limit")
			}
			return nil
		})
	})
}
