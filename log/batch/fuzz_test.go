package batch

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// fuzzLimit keeps one execution small.
const fuzzLimit = 1 << 20

func seeds(f *testing.F) {
	for _, c := range codecs {
		for _, n := range []int{1, 3, 40} {
			o := Plain()
			o.Codec = c
			f.Add(build(f, o, messages(n)))
		}
	}
	snapshot, err := hex.DecodeString(kafkaSnapshot)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(snapshot)
	f.Add(AppendMarker(nil, 1, 2, ControlAbort, 3, 4))
	f.Add([]byte{})
}

// FuzzCheck feeds anything to what a client's batch meets first. If it passes, the
// records are walked; if they are well formed, a rewrite of them is, too.
func FuzzCheck(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Check(b, fuzzLimit)
		if err != nil {
			return
		}
		b = b[:h.Size()]
		var d Decoder
		var e Encoder
		if err := d.Scan(&h, b, fuzzLimit, func(Brief) error { return nil }); err != nil {
			return
		}
		out, err := e.Recode(nil, &d, &h, b, None, 0, fuzzLimit, 2*fuzzLimit, func(Brief) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		nh, err := Check(out, 2*fuzzLimit)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Scan(&nh, out, fuzzLimit, func(Brief) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRecords reaches the record walk and the decompressors whatever the CRC is.
func FuzzRecords(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			return
		}
		b = b[:h.Size()]
		var d Decoder
		n := 0
		scan := d.Scan(&h, b, fuzzLimit, func(Brief) error { n++; return nil })
		m := 0
		records := d.Records(b, fuzzLimit, func(Record) error { m++; return nil })
		if (scan == nil) != (records == nil) || scan == nil && n != m {
			t.Fatalf("scan: %v, %d records; records: %v, %d", scan, n, records, m)
		}
	})
}

// FuzzBuild: what was built is read back.
func FuzzBuild(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), []byte("h"), int64(5), uint8(2))
	f.Add([]byte(nil), []byte(nil), []byte{}, int64(-1), uint8(0))
	f.Fuzz(func(t *testing.T, key, value, header []byte, timestamp int64, codec uint8) {
		o := Plain()
		o.Codec = Codec(codec % 5)
		ms := []Message{{Timestamp: 0, Value: value}, {Timestamp: timestamp, Key: key, Value: value, Headers: []RecordHeader{{header, key}}}}
		b := build(t, o, ms)
		if _, err := Check(b, len(b)); err != nil {
			t.Fatal(err)
		}
		var got []Record
		err := Records(b, 1<<30, func(r Record) error {
			r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			got = append(got, r)
			return nil
		})
		if err != nil || len(got) != 2 || !bytes.Equal(got[1].Key, key) || !bytes.Equal(got[0].Value, value) || got[1].TimestampDelta != timestamp {
			t.Fatalf("%v %+v", err, got)
		}
	})
}

func BenchmarkCheckAndScan(b *testing.B) {
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			o := Plain()
			o.Codec = c
			data := build(b, o, messages(200))
			size := 0
			for _, m := range messages(200) {
				size += len(m.Value)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var d Decoder
			for b.Loop() {
				h, err := Check(data, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				if err := d.Scan(&h, data, MaxRecordsBytes, func(Brief) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
