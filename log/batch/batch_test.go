package batch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

func messages(n int) []Message {
	r := rand.New(rand.NewSource(int64(n)))
	out := make([]Message, n)
	for i := range out {
		m := Message{Timestamp: 1_700_000_000_000 + int64(r.Intn(5000)) - 100, Key: []byte(fmt.Sprint("key", i)), Value: []byte(strings.Repeat("value ", r.Intn(300)))}
		switch i % 5 {
		case 1:
			m.Key = nil
		case 2:
			m.Value = nil
		case 3:
			m.Headers = []RecordHeader{{Key: []byte("h"), Value: []byte("v")}, {Key: []byte{}, Value: nil}}
		}
		out[i] = m
	}
	return out
}

// read collects a batch's records as messages.
func read(t *testing.T, b []byte) []Message {
	t.Helper()
	h, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	var out []Message
	next := int32(0)
	err = Records(b, MaxRecordsBytes, func(r Record) error {
		if r.OffsetDelta != next {
			t.Fatalf("offset delta %d, want %d", r.OffsetDelta, next)
		}
		next++
		m := Message{Timestamp: h.BaseTimestamp + r.TimestampDelta, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
		for _, rh := range r.Headers {
			m.Headers = append(m.Headers, RecordHeader{bytes.Clone(rh.Key), bytes.Clone(rh.Value)})
		}
		out = append(out, m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equal(a, b []Message) bool {
	return slices.EqualFunc(a, b, func(x, y Message) bool {
		return x.Timestamp == y.Timestamp && bytes.Equal(x.Key, y.Key) && (x.Key == nil) == (y.Key == nil) &&
			bytes.Equal(x.Value, y.Value) && (x.Value == nil) == (y.Value == nil) &&
			slices.EqualFunc(x.Headers, y.Headers, func(p, q RecordHeader) bool {
				return bytes.Equal(p.Key, q.Key) && bytes.Equal(p.Value, q.Value) && (p.Value == nil) == (q.Value == nil)
			})
	})
}

func build(t testing.TB, o Options, ms []Message) []byte {
	t.Helper()
	var e Encoder
	b, err := e.Append(nil, o, ms)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBuildAndRead(t *testing.T) {
	for _, c := range codecs {
		for _, n := range []int{1, 2, 7, 500} {
			t.Run(fmt.Sprint(c, n), func(t *testing.T) {
				o := Plain()
				o.Codec = c
				ms := messages(n)
				b := build(t, o, ms)
				h, err := Check(b, len(b))
				if err != nil {
					t.Fatal(err)
				}
				if h.Codec() != c || h.Count != int32(n) || h.LastOffset() != int64(n-1) || h.Size() != len(b) {
					t.Fatalf("header %+v", h)
				}
				if got := read(t, b); !equal(got, ms) {
					t.Fatal("records differ")
				}
				most, count := int64(-1), 0
				var d Decoder
				for range 2 { // the second time with kept decompressors
					count = 0
					err = d.Scan(&h, b, MaxRecordsBytes, func(r Brief) error {
						most = max(most, h.BaseTimestamp+r.TimestampDelta)
						if r.Index != count || (r.KeyBytes < 0) != (ms[count].Key == nil) {
							t.Fatalf("record %d: %+v", count, r)
						}
						count++
						return nil
					})
					if err != nil || count != n || most != h.MaxTimestamp {
						t.Fatalf("scan: %v, %d records, max timestamp %d, want %d", err, count, most, h.MaxTimestamp)
					}
				}
			})
		}
	}
}

func TestRecordBytesIsExact(t *testing.T) {
	for i, m := range messages(20) {
		if got, want := RecordBytes(int32(i), 5, &m), len(appendRecord(nil, int32(i), 5, &m)); got != want {
			t.Errorf("record %d: %d bytes, want %d", i, got, want)
		}
	}
}

func TestRecodeKeepsRecords(t *testing.T) {
	var e Encoder
	var d Decoder
	ms := messages(300)
	for _, from := range codecs {
		for _, to := range codecs {
			o := Plain()
			o.Codec, o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = from, 7, 3, 40, true
			b := build(t, o, ms)
			h, _ := Parse(b)
			visited := 0
			got, err := e.Recode([]byte("front"), &d, &h, b, to, 0, MaxRecordsBytes, 1<<20, func(Brief) error { visited++; return nil })
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			got = got[len("front"):]
			nh, err := Check(got, 1<<20)
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			if nh.Codec() != to || nh.ProducerID != 7 || nh.BaseSequence != 40 || !nh.Transactional() || visited != len(ms) {
				t.Fatalf("%s to %s: %+v, visited %d", from, to, nh, visited)
			}
			if !equal(read(t, got), ms) {
				t.Fatalf("%s to %s: records differ", from, to)
			}
		}
	}
}

func TestRecodeNumbersFromZero(t *testing.T) {
	var records []byte
	for i, delta := range []int32{5, 900, 3} {
		records = appendRecord(records, delta, 0, &Message{Value: []byte(fmt.Sprint(i))})
	}
	b := append(make([]byte, HeaderBytes), records...)
	h := Header{LeaderEpoch: -1, LastOffsetDelta: 2, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1, Count: 3}
	encode(b, &h)
	h = decode(b)
	var e Encoder
	var d Decoder
	got, err := e.Recode(nil, &d, &h, b, None, 0, 1<<20, 1<<20, func(Brief) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if ms := read(t, got); len(ms) != 3 || string(ms[2].Value) != "2" {
		t.Fatalf("%v", ms)
	}
}

func TestRecodeLimit(t *testing.T) {
	o := Plain()
	o.Codec = Zstd
	b := build(t, o, []Message{{Value: make([]byte, 1<<20)}})
	h, _ := Parse(b)
	var e Encoder
	var d Decoder
	for _, to := range []Codec{None, Snappy} {
		out, err := e.Recode([]byte("x"), &d, &h, b, to, 0, MaxRecordsBytes, 10_000, func(Brief) error { return nil })
		if !errors.Is(err, ErrTooLarge) || string(out) != "x" {
			t.Errorf("%s: %v, %d bytes", to, err, len(out))
		}
	}
}

func TestCheckOrder(t *testing.T) {
	plain := func(change func(h *Header)) []byte {
		b := build(t, Plain(), messages(3))
		h := decode(b)
		change(&h)
		encode(b, &h)
		return b
	}
	good := plain(func(*Header) {})
	for _, c := range []struct {
		name string
		b    []byte
		max  int
		want error
	}{
		{"good", good, 1 << 20, nil},
		{"incomplete second batch is trimmed", append(slices.Clone(good), good[:40]...), 1 << 20, nil},
		{"empty", nil, 1 << 20, ErrNone},
		{"cut", good[:len(good)-1], 1 << 20, ErrNone},
		{"two", append(slices.Clone(good), good...), 1 << 20, ErrMany},
		{"bad second length", append(slices.Clone(good), make([]byte, 20)...), 1 << 20, ErrCorrupt},
		{"magic 1", set(good, magicAt, 1), 1 << 20, ErrMagic},
		{"magic 3", set(good, magicAt, 3), 1 << 20, ErrCorrupt},
		{"length 3", set(good, lengthAt+3, 3), 1 << 20, ErrCorrupt},
		{"negative length", set(good, lengthAt, 0x80), 1 << 20, ErrCorrupt},
		{"base offset before size", plain(func(h *Header) { h.BaseOffset = 9 }), 10, ErrBaseOffset},
		{"size before crc", set(good, len(good)-1, 77), 10, ErrTooLarge},
		{"crc", set(good, len(good)-1, 77), 1 << 20, ErrCorrupt},
		{"crc before counts", set(plain(func(h *Header) { h.Count = 9 }), HeaderBytes, 1), 1 << 20, ErrCorrupt},
		{"count", plain(func(h *Header) { h.Count = 9 }), 1 << 20, ErrCount},
		{"count 0", plain(func(h *Header) { h.Count, h.LastOffsetDelta = 0, 0 }), 1 << 20, ErrCount},
		{"offset range", plain(func(h *Header) { h.LastOffsetDelta = -1 }), 1 << 20, ErrCount},
		{"control", plain(func(h *Header) { h.Attributes |= controlBit }), 1 << 20, ErrControl},
		{"sequence", plain(func(h *Header) { h.ProducerID, h.BaseSequence = 1, -1 }), 1 << 20, ErrSequence},
		{"codec 6", plain(func(h *Header) { h.Attributes |= 6 }), 1 << 20, ErrCodec},
	} {
		if _, err := Check(c.b, c.max); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func set(b []byte, at int, v byte) []byte {
	b = slices.Clone(b)
	b[at] = v
	return b
}

func TestLyingCounts(t *testing.T) {
	for _, c := range codecs {
		for _, count := range []int32{1, 4, 6, 1 << 30} {
			o := Plain()
			o.Codec = c
			b := build(t, o, messages(5))
			h := decode(b)
			h.Count = count
			var d Decoder
			if err := d.Scan(&h, b, 1<<20, func(Brief) error { return nil }); !errors.Is(err, ErrRecord) {
				t.Errorf("%s, %d records declared: %v", c, count, err)
			}
		}
	}
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, 64<<20)
	for _, c := range []Codec{Gzip, LZ4, Zstd} {
		o := Plain()
		o.Codec = c
		b := build(t, o, []Message{{Value: zeros}})
		h := decode(b)
		var d Decoder
		if err := d.Scan(&h, b, 16<<20, func(Brief) error { return nil }); !errors.Is(err, ErrExpands) {
			t.Errorf("%s: %v", c, err)
		}
		if err := d.Records(b, 16<<20, func(Record) error { return nil }); !errors.Is(err, ErrExpands) {
			t.Errorf("%s: %v", c, err)
		}
	}
	frame := func(c Codec, body []byte) (Header, []byte) {
		b := append(make([]byte, HeaderBytes), body...)
		h := Header{Attributes: int16(c), Count: 1, ProducerID: -1}
		encode(b, &h)
		return decode(b), b
	}
	wide, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		codec Codec
		body  []byte
	}{
		"snappy block of 2 GiB":   {Snappy, binary.AppendUvarint(nil, 1<<31-1)},
		"snappy block of 200 MiB": {Snappy, binary.AppendUvarint(nil, 200<<20)},
		"zstd frame of 512 MiB":   {Zstd, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, 0, 0, 0, 0x20, 1, 0, 0)},
		"zstd frame of 30 MiB":    {Zstd, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, 0, 0, 0xe0, 0x01, 1, 0, 0)},
		"zstd wide window":        {Zstd, wide.EncodeAll(zeros, nil)},
	} {
		h, b := frame(c.codec, c.body)
		var d Decoder
		before := allocated()
		if err := d.Scan(&h, b, MaxRecordsBytes, func(Brief) error { return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := allocated() - before; got > 2*zstdWideBytes+4<<20 {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
}

// allocated is all the memory ever taken from the heap.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestWideZstdWindow(t *testing.T) {
	records := appendRecord(nil, 0, 0, &Message{Value: []byte("hello")})
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w.Reset(&buf)
	w.Write(records)
	w.Flush() // so that the frame does not know its size
	w.Close()
	b := append(make([]byte, HeaderBytes), buf.Bytes()...)
	encode(b, &Header{Attributes: int16(Zstd), Count: 1, ProducerID: -1})
	if ms := read(t, b); len(ms) != 1 || string(ms[0].Value) != "hello" {
		t.Fatalf("%v", ms)
	}
}

func TestRawSnappy(t *testing.T) {
	records := appendRecord(nil, 0, 0, &Message{Value: bytes.Repeat([]byte("hello"), 100)})
	b := append(make([]byte, HeaderBytes), snappy.Encode(nil, records)...)
	encode(b, &Header{Attributes: int16(Snappy), Count: 1, ProducerID: -1})
	if ms := read(t, b); len(ms) != 1 || len(ms[0].Value) != 500 {
		t.Fatalf("%v", ms)
	}
}

func TestSetters(t *testing.T) {
	b := build(t, Plain(), messages(3))
	SetBaseOffset(b, 42)
	SetLeaderEpoch(b, 9)
	h, err := Parse(b)
	if err != nil || h.BaseOffset != 42 || h.LastOffset() != 44 || h.LeaderEpoch != 9 {
		t.Fatalf("%v %+v", err, h)
	}
	if err := CheckCRC(&h, b); err != nil {
		t.Fatal(err)
	}
	SetTimestamp(b, 77, true)
	if h, _ = Parse(b); h.MaxTimestamp != 77 || !h.LogAppendTime() || CheckCRC(&h, b) != nil {
		t.Fatalf("%+v", h)
	}
	SetTimestamp(b, 78, false)
	if h, _ = Parse(b); h.MaxTimestamp != 78 || h.LogAppendTime() || CheckCRC(&h, b) != nil {
		t.Fatalf("%+v", h)
	}
}

func TestSequencesWrap(t *testing.T) {
	const most = 1<<31 - 1
	for _, c := range []struct{ at, n, want int32 }{{0, 1, 1}, {most, 1, 0}, {most - 2, 5, 2}, {7, 0, 7}} {
		if got := AddSequence(c.at, c.n); got != c.want {
			t.Errorf("%d + %d = %d, want %d", c.at, c.n, got, c.want)
		}
		if got := SubSequence(c.want, c.n); got != c.at {
			t.Errorf("%d - %d = %d, want %d", c.want, c.n, got, c.at)
		}
	}
}

// A commit marker as Kafka 4.3.1 writes it: header, then key 0,1 and value 0,epoch.
func TestMarker(t *testing.T) {
	b := AppendMarker(nil, 5, 2, ControlCommit, 11, 1_700_000_000_000)
	h, err := Parse(b)
	if err != nil || !h.Control() || !h.Transactional() || h.ProducerID != 5 || h.ProducerEpoch != 2 || h.BaseSequence != -1 || h.Count != 1 {
		t.Fatalf("%v %+v", err, h)
	}
	if len(b) != 78 {
		t.Errorf("%d bytes, want 78", len(b))
	}
	if got, want := hex.EncodeToString(b[HeaderBytes:]), "20"+"000000"+"08"+"00000001"+"0c"+"00000000000b"+"00"; got != want {
		t.Errorf("record %s, want %s", got, want)
	}
	err = Records(b, 1000, func(r Record) error {
		kind, ok := ControlType(r.Key)
		epoch, ok2 := MarkerEpoch(r.Value)
		if !ok || !ok2 || kind != ControlCommit || epoch != 11 {
			t.Errorf("kind %d, epoch %d", kind, epoch)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kafkaSnapshot is a bootstrap.checkpoint that Kafka 4.3.1 wrote: a control batch,
// a batch of six metadata records, a control batch.
const kafkaSnapshot = "" +
	"000000000000000000000047000000000207c560db002000000000000001a20bcc0fcc000001a20bcc0fccffffffffffffffffffffffffffff000000" +
	"012a0000000800000003160000000000000000000000000000000000000001000000f1000000000200cb2cdb000000000005000001a20bcc0ff10000" +
	"01a20bcc0ff1ffffffffffffffffffffffffffff000000063a000000012e010c00116d657461646174612e76657273696f6e001e00005a000002014e" +
	"010c0021656c696769626c652e6c65616465722e7265706c696361732e76657273696f6e00010000340000040128010c000e67726f75702e76657273" +
	"696f6e00010000340000060128010c000e73686172652e76657273696f6e0001000038000008012c010c001073747265616d732e76657273696f6e00" +
	"0100004000000a0134010c00147472616e73616374696f6e2e76657273696f6e0002000000000000000000070000003f00000000028f1fc1f6002000" +
	"000000000001a20bcc0ff3000001a20bcc0ff3ffffffffffffffffffffffffffff000000011a00000008000000040600000000"

// Our builder gives the very bytes that Kafka gives for the same records.
func TestBuildsKafkasBytes(t *testing.T) {
	all, err := hex.DecodeString(kafkaSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	var counts []int32
	for b := all; len(b) > 0; {
		h, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(CheckCRC(&h, b), CheckShape(&h)); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, h.Count)
		o := Plain()
		o.BaseOffset, o.LeaderEpoch, o.Control = h.BaseOffset, h.LeaderEpoch, h.Control()
		ms := read(t, b[:h.Size()])
		if got := Append(nil, o, ms); !bytes.Equal(got, b[:h.Size()]) {
			t.Errorf("batch at offset %d:\n got %x\nwant %x", h.BaseOffset, got, b[:h.Size()])
		}
		b = b[h.Size():]
	}
	if !slices.Equal(counts, []int32{1, 6, 1}) {
		t.Errorf("records %v", counts)
	}
}
