package protocol

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// dice makes messages from a seed.
type dice struct{ *rand.Rand }

// seeds is how many of n seeds a test goes through.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return n / 20
	}
	return n
}

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 1))} }

func (d dice) uuid() (id [16]byte) {
	for i := range id {
		id[i] = byte(d.Uint32())
	}
	return id
}

func (d dice) text() string {
	words := []string{"", "a", "orders", "topic.with-many_signs", "żółć", strings.Repeat("x", 127), strings.Repeat("y", 300)}
	return words[d.IntN(len(words))]
}

func (d dice) maybeText() *string {
	if d.IntN(3) == 0 {
		return nil
	}
	s := d.text()
	return &s
}

func (d dice) bytes() []byte {
	switch d.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	b := make([]byte, d.IntN(300))
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

func (d dice) tags(flexible bool) (t kmsg.Tags) {
	if flexible && d.IntN(3) == 0 {
		t.Set(1000+uint32(d.IntN(3)), d.bytes())
		t.Set(70000, d.bytes())
	}
	return t
}

func (d dice) produceRequest(version int16) *kmsg.ProduceRequest {
	r := kmsg.NewPtrProduceRequest()
	r.Version = version
	r.TransactionID = d.maybeText()
	r.Acks = int16(d.IntN(3) - 1)
	r.TimeoutMillis = d.Int32()
	flexible := r.IsFlexible()
	for range d.IntN(4) {
		t := kmsg.NewProduceRequestTopic()
		t.Topic, t.TopicID = d.text(), d.uuid()
		for range d.IntN(5) {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records, p.UnknownTags = d.Int32(), d.bytes(), d.tags(flexible)
			t.Partitions = append(t.Partitions, p)
		}
		t.UnknownTags = d.tags(flexible)
		r.Topics = append(r.Topics, t)
	}
	r.UnknownTags = d.tags(flexible)
	return r
}

func checkProduceRequest(t *testing.T, want *kmsg.ProduceRequest, got *ProduceRequest) {
	t.Helper()
	if !reflect.DeepEqual(want.TransactionID, got.TransactionalID) || want.Acks != got.Acks || want.TimeoutMillis != got.TimeoutMillis || len(want.Topics) != len(got.Topics) {
		t.Fatalf("v%d: got %+v, want %+v", want.Version, got, want)
	}
	for i, wt := range want.Topics {
		gt := got.Topics[i]
		if want.Version <= 12 && (gt.Name != wt.Topic || gt.ID != [16]byte{}) || want.Version >= 13 && (gt.ID != wt.TopicID || gt.Name != "") {
			t.Fatalf("v%d topic %d: got %q %x, want %q %x", want.Version, i, gt.Name, gt.ID, wt.Topic, wt.TopicID)
		}
		if len(gt.Partitions) != len(wt.Partitions) {
			t.Fatalf("v%d topic %d: got %d partitions, want %d", want.Version, i, len(gt.Partitions), len(wt.Partitions))
		}
		for j, wp := range wt.Partitions {
			gp := gt.Partitions[j]
			if gp.Index != wp.Partition || !bytes.Equal(gp.Records, wp.Records) || (gp.Records == nil) != (wp.Records == nil) {
				t.Fatalf("v%d topic %d partition %d: got %+v, want %+v", want.Version, i, j, gp, wp)
			}
		}
	}
}

func TestProduceRequestDecode(t *testing.T) {
	var got ProduceRequest // one for all, as a handler reuses it
	for version := int16(produceMin); version <= produceMax; version++ {
		for seed := range seeds(200) {
			want := newDice(seed).produceRequest(version)
			body := want.AppendTo(nil)
			if err := got.Decode(version, append(body, "trailing"...)); err != nil {
				t.Fatalf("v%d seed %d: %v", version, seed, err)
			}
			checkProduceRequest(t, want, &got)
			for n := range body {
				if err := got.Decode(version, body[:n:n]); !errors.Is(err, ErrMalformed) {
					t.Fatalf("v%d seed %d cut to %d of %d bytes: error %v", version, seed, n, len(body), err)
				}
			}
		}
	}
	for _, version := range []int16{-1, 0, 2, 14} {
		if err := got.Decode(version, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("v%d: error %v", version, err)
		}
	}
}

func TestProduceRequestRefusesWhatKafkaRefuses(t *testing.T) {
	cases := []struct {
		name    string
		version int16
		body    string
	}{
		{"null topics", 9, "\x00\x00\x01\x00\x00\x00\x00\x00"},
		{"null topics, old", 3, "\xff\xff\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff"},
		{"null name", 9, "\x00\x00\x01\x00\x00\x00\x00\x02\x00\x01\x00\x00"},
		{"null name, old", 3, "\xff\xff\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00"},
		{"null partitions", 9, "\x00\x00\x01\x00\x00\x00\x00\x02\x02t\x00\x00\x00"},
		{"string length -2", 3, "\xff\xfe\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"records length -2", 3, "\xff\xff\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xfe"},
		{"more topics than bytes", 3, "\xff\xff\x00\x01\x00\x00\x00\x00\x7f\xff\xff\xff"},
		{"more partitions than bytes", 9, "\x00\x00\x01\x00\x00\x00\x00\x02\x02t\xff\xff\xff\xff\x0f\x00\x00"},
		{"varint of six bytes", 9, "\xff\xff\xff\xff\xff\x01"},
		{"varint above 32 bits", 9, "\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff\x1f"},
		{"more tags than bytes", 9, "\x00\x00\x01\x00\x00\x00\x00\x01\xff\xff\xff\xff\x0f"},
	}
	for _, c := range cases {
		var r ProduceRequest
		if err := r.Decode(c.version, []byte(c.body)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

// A frame of 100 MiB could name 30 million empty topics, decoded into 2 GB.
func TestProduceRequestBoundsWhatItNames(t *testing.T) {
	body := []byte("\x00\x00\x01\x00\x00\x00\x00")
	body = putUvarint(body, 3_000_000+1)
	body = append(body, bytes.Repeat([]byte{1, 1, 0}, 3_000_000)...)
	body = append(body, 0)
	var r ProduceRequest
	if err := r.Decode(9, body); !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v", err)
	}
	if cap(r.Topics) > maxNamed {
		t.Errorf("%d topics were made room for", cap(r.Topics))
	}
}

func (d dice) produceResponse(version int16) (*ProduceResponse, *kmsg.ProduceResponse) {
	ours := &ProduceResponse{Version: version, ThrottleMillis: d.Int32()}
	theirs := kmsg.NewPtrProduceResponse()
	theirs.Version, theirs.ThrottleMillis = version, ours.ThrottleMillis
	for range d.IntN(4) {
		t := ProduceResponseTopic{}
		kt := kmsg.NewProduceResponseTopic()
		if version >= 13 {
			t.ID = d.uuid()
			kt.TopicID = t.ID
		} else {
			t.Name = d.text()
			kt.Topic = t.Name
		}
		for range d.IntN(4) {
			p := ProduceResponsePartition{Index: d.Int32(), ErrorCode: int16(d.IntN(100)), BaseOffset: d.Int64(),
				LogAppendTimeMillis: d.Int64(), LogStartOffset: d.Int64(), CurrentLeader: LeaderIDEpoch{-1, -1}}
			kp := kmsg.NewProduceResponseTopicPartition()
			kp.Partition, kp.ErrorCode, kp.BaseOffset, kp.LogAppendTime = p.Index, p.ErrorCode, p.BaseOffset, p.LogAppendTimeMillis
			if version >= 5 {
				kp.LogStartOffset = p.LogStartOffset
			}
			if version >= 8 {
				p.ErrorMessage = d.maybeText()
				kp.ErrorMessage = p.ErrorMessage
				for range d.IntN(3) {
					e := RecordError{d.Int32(), d.maybeText()}
					p.RecordErrors = append(p.RecordErrors, e)
					ke := kmsg.NewProduceResponseTopicPartitionErrorRecord()
					ke.RelativeOffset, ke.ErrorMessage = e.BatchIndex, e.Message
					kp.ErrorRecords = append(kp.ErrorRecords, ke)
				}
			}
			if version >= 10 && d.IntN(2) == 0 {
				p.CurrentLeader = LeaderIDEpoch{int32(d.IntN(5)), d.Int32()}
				kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = p.CurrentLeader.ID, p.CurrentLeader.Epoch
			}
			t.Partitions = append(t.Partitions, p)
			kt.Partitions = append(kt.Partitions, kp)
		}
		ours.Topics = append(ours.Topics, t)
		theirs.Topics = append(theirs.Topics, kt)
	}
	if version >= 10 {
		for range d.IntN(3) {
			n := NodeEndpoint{d.Int32(), d.text(), d.Int32(), d.maybeText()}
			ours.NodeEndpoints = append(ours.NodeEndpoints, n)
			kn := kmsg.NewProduceResponseBroker()
			kn.NodeID, kn.Host, kn.Port, kn.Rack = n.NodeID, n.Host, n.Port, n.Rack
			theirs.Brokers = append(theirs.Brokers, kn)
		}
	}
	return ours, theirs
}

func TestProduceResponseEncode(t *testing.T) {
	for version := int16(produceMin); version <= produceMax; version++ {
		for seed := range seeds(300) {
			ours, theirs := newDice(seed).produceResponse(version)
			got, want := ours.AppendTo([]byte("before")), theirs.AppendTo([]byte("before"))
			if !bytes.Equal(got, want) {
				t.Fatalf("v%d seed %d:\n got %x\nwant %x", version, seed, got, want)
			}
			if err := theirs.ReadFrom(got[len("before"):]); err != nil {
				t.Fatalf("v%d seed %d: kmsg: %v", version, seed, err)
			}
		}
	}
}

func FuzzProduceRequestDecode(f *testing.F) {
	for version := int16(produceMin); version <= produceMax; version++ {
		f.Add(version, newDice(uint64(version)).produceRequest(version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var got ProduceRequest
		if err := got.Decode(version, body); err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		want := kmsg.NewPtrProduceRequest()
		want.Version = version
		if err := want.ReadFrom(body); err != nil {
			t.Fatalf("kmsg refuses what we read: %v", err)
		}
		checkProduceRequest(t, want, &got)
	})
}

func TestHotCodecsAllocateNothing(t *testing.T) {
	var produce ProduceRequest
	id := "transaction"
	pk := kmsg.NewPtrProduceRequest()
	pk.Version, pk.TransactionID = 12, &id
	fetch, fk := FetchRequest{}, kmsg.NewPtrFetchRequest()
	fk.Version, fk.Rack = 12, "rack"
	for _, name := range []string{"orders", "payments"} {
		pt, ft, forgotten := kmsg.NewProduceRequestTopic(), kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestForgottenTopic()
		pt.Topic, ft.Topic, forgotten.Topic = name, name, name
		for range 50 {
			pp := kmsg.NewProduceRequestTopicPartition()
			pp.Records = make([]byte, 100)
			pt.Partitions = append(pt.Partitions, pp)
			ft.Partitions = append(ft.Partitions, kmsg.NewFetchRequestTopicPartition())
		}
		forgotten.Partitions = make([]int32, 5)
		pk.Topics, fk.Topics, fk.ForgottenTopics = append(pk.Topics, pt), append(fk.Topics, ft), append(fk.ForgottenTopics, forgotten)
	}
	produceBody, fetchBody := pk.AppendTo(nil), fk.AppendTo(nil)
	produceResponse, _ := newDice(3).produceResponse(13)
	fetchResponse, _ := newDice(3).fetchResponse(16)
	out := make([]byte, 0, 1<<20)
	o := output{buf: out}
	check := func(name string, f func()) {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	check("ProduceRequest.Decode", func() {
		if err := produce.Decode(12, produceBody); err != nil {
			t.Fatal(err)
		}
	})
	check("FetchRequest.Decode", func() {
		if err := fetch.Decode(12, fetchBody); err != nil {
			t.Fatal(err)
		}
	})
	check("ProduceResponse.AppendTo", func() { out = produceResponse.AppendTo(out[:0]) })
	check("FetchResponse.appendTo", func() {
		o.buf, o.cuts, o.inlined, o.runBytes = o.buf[:0], o.cuts[:0], 0, 0
		fetchResponse.appendTo(&o)
	})
}

func manyPartitions(n int) *kmsg.ProduceRequest {
	r := kmsg.NewPtrProduceRequest()
	r.Version = 12
	t := kmsg.NewProduceRequestTopic()
	t.Topic = "orders"
	for range n {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Records = make([]byte, 100)
		t.Partitions = append(t.Partitions, p)
	}
	r.Topics = append(r.Topics, t)
	return r
}
