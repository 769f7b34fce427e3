package answers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// batchFields are the fields of batch{..} in a script. Those that are not given
// are what a normal producer would send for the records.
type batchFields struct {
	Base      int64 // base offset
	Epoch     int32 // partition leader epoch
	Magic     int8
	CRC       string // "bad"
	Attrs     int16  // more bits: 8 log append time, 16 transactional, 32 control
	Codec     string // gzip snappy lz4 zstd
	LastDelta int32
	First     int64 // times; First is also that of records without T
	Max       int64
	Producer  int64
	PEpoch    int16
	Seq       int32
	Count     int32
	Length    int32 // of the batch, where it shall be a lie
	Records   []recordFields
	Raw       []byte // instead of Records
}

// recordFields are {K: key, V: value, T: time, Delta: offset delta, H: headers, Attrs: n}.
type recordFields struct {
	K, V  []byte
	T     int64
	Delta int32
	Attrs int8
	H     []headerFields
}

type headerFields struct {
	K string
	V []byte
}

// batchTime is the time of records that have no other: 2001-09-09.
const batchTime = 1_000_000_000_000

// batch makes the bytes of batch{..}.
func (f *filler) batch(n node) ([]byte, error) {
	given := map[string]bool{}
	all := filler{names: f.names, shape: shape{}, version: "batch"}
	for _, t := range []struct {
		path string
		of   reflect.Type
	}{{"", reflect.TypeFor[batchFields]()}, {"Records", reflect.TypeFor[recordFields]()}, {"Records.H", reflect.TypeFor[headerFields]()}} {
		for i := range t.of.NumField() {
			all.shape[join(t.path, t.of.Field(i).Name)] = fieldShape{present: true}
		}
	}
	for _, fd := range n.fields {
		given[fd.name] = true
	}
	b := batchFields{Magic: 2, First: batchTime, Producer: -1, PEpoch: -1, Seq: -1}
	if err := all.set(reflect.ValueOf(&b).Elem(), node{kind: fields, fields: n.fields}, ""); err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	for i, r := range recordNodes(n) {
		if !has(r, "T") {
			b.Records[i].T = b.First
		}
		if !has(r, "Delta") {
			b.Records[i].Delta = int32(i)
		}
	}
	if !given["Count"] {
		b.Count = int32(len(b.Records))
	}
	if !given["LastDelta"] {
		b.LastDelta = max(0, int32(len(b.Records))-1)
	}
	if !given["Max"] {
		b.Max = b.First
		for _, r := range b.Records {
			b.Max = max(b.Max, r.T)
		}
	}
	return b.encode(given["Length"])
}

func recordNodes(n node) []node {
	for _, fd := range n.fields {
		if fd.name == "Records" {
			return fd.value.items
		}
	}
	return nil
}

func has(n node, name string) bool {
	for _, fd := range n.fields {
		if fd.name == name {
			return true
		}
	}
	return false
}

// Codecs in the order of their numbers.
var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

func (b *batchFields) encode(withLength bool) ([]byte, error) {
	body := b.Raw
	for _, r := range b.Records {
		body = append(body, r.encode(b.First)...)
	}
	attrs := b.Attrs
	for i, name := range codecNames {
		if i == 0 || name != b.Codec {
			continue
		}
		c, err := kgo.DefaultCompressor([]kgo.CompressionCodec{{}, kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[i])
		if err != nil {
			return nil, err
		}
		out, kind := c.Compress(new(bytes.Buffer), body)
		body, attrs = out, attrs|int16(kind)
	}
	k := kmsg.RecordBatch{FirstOffset: b.Base, PartitionLeaderEpoch: b.Epoch, Magic: b.Magic, Attributes: attrs,
		LastOffsetDelta: b.LastDelta, FirstTimestamp: b.First, MaxTimestamp: b.Max, ProducerID: b.Producer,
		ProducerEpoch: b.PEpoch, FirstSequence: b.Seq, NumRecords: b.Count, Records: body}
	out := k.AppendTo(nil)
	k.Length = int32(len(out) - 12) // after the base offset and the length
	if withLength {
		k.Length = b.Length
	}
	k.CRC = int32(crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	if b.CRC == "bad" {
		k.CRC ^= 1
	}
	return k.AppendTo(nil), nil
}

func (r *recordFields) encode(first int64) []byte {
	k := kmsg.Record{Attributes: r.Attrs, TimestampDelta64: r.T - first, OffsetDelta: r.Delta, Key: r.K, Value: r.V}
	for _, h := range r.H {
		k.Headers = append(k.Headers, kmsg.Header{Key: h.K, Value: h.V})
	}
	out := k.AppendTo(nil)
	k.Length = int32(len(out) - 1) // a length of 0 took one byte
	return k.AppendTo(nil)
}

// showBatches is the text of the batches in a fetch answer, one line a batch
// and a record; the end of an incomplete batch is told.
func (n *names) showBatches(b []byte, indent string) string {
	var s strings.Builder
	for len(b) > 0 {
		if len(b) < 61 || int64(len(b)) < 12+int64(binary.BigEndian.Uint32(b[8:])) {
			fmt.Fprintf(&s, "%s- incomplete batch, %d bytes\n", indent, len(b))
			break
		}
		size := 12 + int(binary.BigEndian.Uint32(b[8:]))
		n.showBatch(&s, b[:size], indent)
		b = b[size:]
	}
	return s.String()
}

func (n *names) showBatch(s *strings.Builder, b []byte, indent string) {
	var k kmsg.RecordBatch
	if err := k.ReadFrom(b); err != nil {
		fmt.Fprintf(s, "%s- unreadable batch, %d bytes: %v\n", indent, len(b), err)
		return
	}
	crc := ""
	if crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)) != uint32(k.CRC) {
		crc = ", CRC is wrong"
	}
	fmt.Fprintf(s, "%s- offset %d, last delta %d, epoch %d, magic %d, attributes %d, times %s..%s, producer %s/%d, sequence %d, count %d%s\n",
		indent, k.FirstOffset, k.LastOffsetDelta, k.PartitionLeaderEpoch, k.Magic, k.Attributes, n.showTime(k.FirstTimestamp),
		n.showTime(k.MaxTimestamp), n.showNumber("ProducerID", k.ProducerID), k.ProducerEpoch, k.FirstSequence, k.NumRecords, crc)
	records, err := kgo.DefaultDecompressor().Decompress(k.Records, kgo.CompressionCodecType(k.Attributes&7))
	if err != nil {
		fmt.Fprintf(s, "%s  records do not decompress: %v\n", indent, err)
		return
	}
	for len(records) > 0 {
		length, used := binary.Varint(records)
		if used <= 0 || length < 0 || int(length) > len(records)-used {
			fmt.Fprintf(s, "%s  unreadable records: %s\n", indent, showBytes(records))
			return
		}
		var r kmsg.Record
		if err := r.ReadFrom(records[:used+int(length)]); err != nil {
			fmt.Fprintf(s, "%s  unreadable record: %v\n", indent, err)
			return
		}
		records = records[used+int(length):]
		fmt.Fprintf(s, "%s  %d @%s %s=%s", indent, k.FirstOffset+int64(r.OffsetDelta),
			n.showTime(k.FirstTimestamp+r.TimestampDelta64), showBytes(r.Key), showBytes(r.Value))
		for _, h := range r.Headers {
			fmt.Fprintf(s, " [%s=%s]", h.Key, showBytes(h.Value))
		}
		s.WriteByte('\n')
	}
}
