package batch

import (
	"bytes"
	"fmt"
	"testing"
)

// What Filter leaves has the records that were kept, where and as they were, and the
// header fields that a producer's sequence and a reader's next offset hang on.
func TestFilter(t *testing.T) {
	for _, codec := range []Codec{None, Gzip, Snappy, LZ4, Zstd} {
		for _, appendTime := range []bool{false, true} {
			t.Run(fmt.Sprint(codec, appendTime), func(t *testing.T) { testFilter(t, codec, appendTime) })
		}
	}
}

func testFilter(t *testing.T, codec Codec, appendTime bool) {
	o := Options{BaseOffset: 1000, LeaderEpoch: 3, ProducerID: 7, ProducerEpoch: 2, BaseSequence: 40, Transactional: true, Codec: codec, LogAppendTime: appendTime, AppendTime: 9000}
	var messages []Message
	for i := range 10 {
		m := Message{Timestamp: 5000 + int64(i*i%17), Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte{byte('a' + i)}, 30), Headers: []RecordHeader{{Key: []byte("h"), Value: nil}}}
		if i == 4 {
			m.Value = nil
		}
		messages = append(messages, m)
	}
	raw, err := new(Encoder).Append(nil, o, messages)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	filter := func(f Filtering, keep func(*Record) bool) ([]byte, Filtered) {
		t.Helper()
		f.Limit = 1 << 20
		out, done, err := new(Encoder).Filter([]byte("before"), new(Decoder), &h, raw, f, keep)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(out, []byte("before")) {
			t.Fatal("what was there before is gone")
		}
		return out[len("before"):], done
	}
	all := func(*Record) bool { return true }
	none := func(*Record) bool { return false }
	odd := func(r *Record) bool { return r.OffsetDelta%2 == 1 }

	if out, done := filter(Filtering{Horizon: NoTimestamp}, all); !done.Same || !bytes.Equal(out, raw) {
		t.Error("a batch of which all is kept is another one")
	}
	if out, done := filter(Filtering{Horizon: NoTimestamp}, none); len(out) != 0 || done.Same {
		t.Errorf("%d bytes are left of nothing", len(out))
	}
	out, _ := filter(Filtering{Horizon: NoTimestamp, KeepEmpty: true}, none)
	e := sound(t, out)
	if len(out) != HeaderBytes || e.Count != 0 || e.BaseOffset != 1000 || e.LastOffset() != 1009 || e.LastSequence() != 49 || e.ProducerID != 7 ||
		!e.Transactional() || e.Codec() != None || e.MaxTimestamp != h.MaxTimestamp || e.LogAppendTime() != appendTime {
		t.Errorf("an emptied batch is %+v, was %+v", e, h)
	}
	out, done := filter(Filtering{Horizon: 77_000}, odd) // the tombstone is not among them
	e = sound(t, out)
	if _, set := e.DeleteHorizon(); set || done.Kept != 5 || e.Count != 5 || e.BaseOffset != 1000 || e.LastOffset() != 1009 || e.LastSequence() != 49 || e.Codec() != codec || e.LeaderEpoch != 3 {
		t.Errorf("half a batch is %+v, was %+v", e, h)
	}
	compareKept(t, out, messages, &h, odd)
	out, done = filter(Filtering{Horizon: 77_000}, all)
	e = sound(t, out)
	if horizon, set := e.DeleteHorizon(); !set || horizon != 77_000 || done.Same || e.MaxTimestamp != h.MaxTimestamp {
		t.Errorf("a batch with a tombstone is %+v, was %+v", e, h)
	}
	compareKept(t, out, messages, &h, all)
	// A horizon that is there is kept, also when nothing is left that needs it.
	h, raw = e, out
	out, _ = filter(Filtering{Horizon: 99_000}, odd)
	e = sound(t, out)
	if horizon, set := e.DeleteHorizon(); !set || horizon != 77_000 {
		t.Errorf("the horizon has become %d, %t", horizon, set)
	}
	compareKept(t, out, messages, &h, odd)
}

// sound parses a batch and checks its CRC.
func sound(t *testing.T, b []byte) Header {
	t.Helper()
	h, err := Parse(b)
	if err == nil {
		err = CheckCRC(&h, b)
	}
	if err == nil {
		err = CheckShape(&h)
	}
	if err != nil || h.Size() != len(b) {
		t.Fatalf("%d bytes are no batch: %v", len(b), err)
	}
	return h
}

// compareKept holds the records of a batch against those that were to be kept.
func compareKept(t *testing.T, b []byte, messages []Message, was *Header, keep func(*Record) bool) {
	t.Helper()
	h := sound(t, b)
	i, largest := 0, NoTimestamp
	err := Records(b, 1<<20, func(r Record) error {
		for !keep(&Record{OffsetDelta: int32(i)}) {
			i++
		}
		m := messages[i]
		timestamp := h.BaseTimestamp + r.TimestampDelta
		want := m.Timestamp
		if was.LogAppendTime() {
			timestamp, want = h.MaxTimestamp, was.MaxTimestamp
		}
		largest = max(largest, timestamp)
		if r.OffsetDelta != int32(i) || timestamp != want || !bytes.Equal(r.Key, m.Key) || !bytes.Equal(r.Value, m.Value) || (r.Value == nil) != (m.Value == nil) || len(r.Headers) != 1 {
			t.Errorf("record %d is %+v at %d, was %+v", i, r, timestamp, m)
		}
		i++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if largest != h.MaxTimestamp {
		t.Errorf("the largest timestamp is %d, the header says %d", largest, h.MaxTimestamp)
	}
}

// Records that are not what the header says are an error, and leave nothing behind.
func TestFilterRefuses(t *testing.T) {
	raw := Append(nil, Plain(), []Message{{Key: []byte("k"), Value: []byte("v")}})
	h, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	h.Count = 2
	out, _, err := new(Encoder).Filter(nil, new(Decoder), &h, raw, Filtering{Limit: 1 << 20}, func(*Record) bool { return true })
	if err == nil || len(out) != 0 {
		t.Errorf("two records were found in a batch of one: %d bytes, %v", len(out), err)
	}
}
