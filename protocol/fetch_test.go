package protocol

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (d dice) fetchRequest(version int16) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.Version = version
	flexible := r.IsFlexible()
	r.ClusterID = d.maybeText()
	r.ReplicaID = int32(d.IntN(4) - 2)
	r.ReplicaState.ID, r.ReplicaState.Epoch = int32(d.IntN(3)-1), int64(d.IntN(3)-1)
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = d.Int32(), d.Int32(), d.Int32()
	r.IsolationLevel = int8(d.IntN(2))
	r.SessionID, r.SessionEpoch = d.Int32(), d.Int32()
	for range d.IntN(4) {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = d.text(), d.uuid()
		for range d.IntN(5) {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch, p.FetchOffset = d.Int32(), d.Int32(), d.Int64()
			p.LastFetchedEpoch, p.LogStartOffset, p.PartitionMaxBytes = d.Int32(), d.Int64(), d.Int32()
			p.ReplicaDirectoryID, p.HighWatermark = d.uuid(), d.Int64()
			p.UnknownTags = d.tags(flexible)
			t.Partitions = append(t.Partitions, p)
		}
		t.UnknownTags = d.tags(flexible)
		r.Topics = append(r.Topics, t)
	}
	for range d.IntN(3) {
		t := kmsg.NewFetchRequestForgottenTopic()
		t.Topic, t.TopicID = d.text(), d.uuid()
		for range d.IntN(4) {
			t.Partitions = append(t.Partitions, d.Int32())
		}
		t.UnknownTags = d.tags(flexible)
		r.ForgottenTopics = append(r.ForgottenTopics, t)
	}
	r.Rack = d.text()
	r.UnknownTags = d.tags(flexible)
	return r
}

func checkFetchRequest(t *testing.T, want *kmsg.FetchRequest, got *FetchRequest) {
	t.Helper()
	v := want.Version
	replica := want.ReplicaID
	if v >= 15 {
		replica = want.ReplicaState.ID
	}
	head := []any{got.ReplicaID, got.MaxWaitMillis, got.MinBytes, got.MaxBytes, got.Isolation, got.SessionID, got.SessionEpoch, got.Rack, len(got.Topics), len(got.Forgotten)}
	wantHead := []any{replica, want.MaxWaitMillis, want.MinBytes, want.MaxBytes, want.IsolationLevel, want.SessionID, want.SessionEpoch, want.Rack, len(want.Topics), len(want.ForgottenTopics)}
	if v < 7 {
		wantHead[5], wantHead[6], wantHead[9] = int32(0), int32(-1), 0
	}
	if v < 11 {
		wantHead[7] = ""
	}
	if !slices.Equal(head, wantHead) {
		t.Fatalf("v%d: got %v, want %v", v, head, wantHead)
	}
	sameTopic := func(name string, id [16]byte, wantName string, wantID [16]byte) bool {
		if v >= 13 {
			return name == "" && id == wantID
		}
		return name == wantName && id == [16]byte{}
	}
	for i, wt := range want.Topics {
		gt := got.Topics[i]
		if !sameTopic(gt.Name, gt.ID, wt.Topic, wt.TopicID) || len(gt.Partitions) != len(wt.Partitions) {
			t.Fatalf("v%d topic %d: got %+v, want %+v", v, i, gt, wt)
		}
		for j, wp := range wt.Partitions {
			w := FetchPartition{wp.Partition, wp.CurrentLeaderEpoch, wp.FetchOffset, wp.LastFetchedEpoch, wp.LogStartOffset, wp.PartitionMaxBytes}
			if v < 9 {
				w.CurrentLeaderEpoch = -1
			}
			if v < 12 {
				w.LastFetchedEpoch = -1
			}
			if v < 5 {
				w.LogStartOffset = -1
			}
			if gt.Partitions[j] != w {
				t.Fatalf("v%d topic %d partition %d: got %+v, want %+v", v, i, j, gt.Partitions[j], w)
			}
		}
	}
	for i := range got.Forgotten {
		gt, wt := got.Forgotten[i], want.ForgottenTopics[i]
		if !sameTopic(gt.Name, gt.ID, wt.Topic, wt.TopicID) || !slices.Equal(gt.Partitions, wt.Partitions) {
			t.Fatalf("v%d forgotten %d: got %+v, want %+v", v, i, gt, wt)
		}
	}
}

func TestFetchRequestDecode(t *testing.T) {
	var got FetchRequest
	for version := int16(fetchMin); version <= fetchMax; version++ {
		for seed := range seeds(150) {
			want := newDice(seed).fetchRequest(version)
			body := want.AppendTo(nil)
			if err := got.Decode(version, append(body, "trailing"...)); err != nil {
				t.Fatalf("v%d seed %d: %v", version, seed, err)
			}
			checkFetchRequest(t, want, &got)
			for n := range body {
				if err := got.Decode(version, body[:n:n]); !errors.Is(err, ErrMalformed) {
					t.Fatalf("v%d seed %d cut to %d of %d bytes: error %v", version, seed, n, len(body), err)
				}
			}
		}
	}
}

// ram is a File in memory.
type ram []byte

func (r ram) Fd() uintptr { return 0 }
func (r ram) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(r)) {
		return 0, io.EOF
	}
	n := copy(b, r[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// records makes runs of data and of a file, and says what they hold together.
func (d dice) records() (Records, []byte) {
	var r Records
	var all []byte
	for range d.IntN(4) {
		b := make([]byte, d.IntN(3)*10_000+d.IntN(20))
		for i := range b {
			b[i] = byte(d.Uint32())
		}
		all = append(all, b...)
		r.Bytes += len(b)
		if d.IntN(2) == 0 {
			r.Runs = append(r.Runs, Run{Data: b})
		} else {
			r.Runs = append(r.Runs, Run{File: ram("before" + string(b) + "after"), Off: int64(len("before")), Len: len(b)})
		}
	}
	return r, all
}

func (d dice) fetchResponse(version int16) (*FetchResponse, *kmsg.FetchResponse) {
	ours := &FetchResponse{Version: version, ThrottleMillis: d.Int32(), ErrorCode: int16(d.IntN(100)), SessionID: d.Int32()}
	theirs := kmsg.NewPtrFetchResponse()
	theirs.Version, theirs.ThrottleMillis, theirs.ErrorCode, theirs.SessionID = version, ours.ThrottleMillis, ours.ErrorCode, ours.SessionID
	for range d.IntN(4) {
		t, kt := FetchResponseTopic{}, kmsg.NewFetchResponseTopic()
		t.Name, t.ID = d.text(), d.uuid()
		kt.Topic, kt.TopicID = t.Name, t.ID
		for range d.IntN(4) {
			p := FetchResponsePartition{Index: d.Int32(), ErrorCode: int16(d.IntN(100)), HighWatermark: d.Int64(), LastStableOffset: d.Int64(),
				LogStartOffset: d.Int64(), DivergingEpoch: EpochEndOffset{-1, -1}, CurrentLeader: LeaderIDEpoch{-1, -1}, PreferredReadReplica: d.Int32()}
			kp := kmsg.NewFetchResponseTopicPartition()
			kp.Partition, kp.ErrorCode, kp.HighWatermark, kp.LastStableOffset = p.Index, p.ErrorCode, p.HighWatermark, p.LastStableOffset
			kp.LogStartOffset, kp.PreferredReadReplica = p.LogStartOffset, p.PreferredReadReplica
			switch n := d.IntN(4); n {
			case 0: // null
			default:
				p.Aborted, kp.AbortedTransactions = []AbortedTransaction{}, []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
				for range n - 1 {
					a := AbortedTransaction{d.Int64(), d.Int64()}
					p.Aborted = append(p.Aborted, a)
					ka := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
					ka.ProducerID, ka.FirstOffset = a.ProducerID, a.FirstOffset
					kp.AbortedTransactions = append(kp.AbortedTransactions, ka)
				}
			}
			if d.IntN(2) == 0 {
				p.DivergingEpoch = EpochEndOffset{int32(d.IntN(9)), d.Int64()}
				kp.DivergingEpoch.Epoch, kp.DivergingEpoch.EndOffset = p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset
			}
			if d.IntN(2) == 0 {
				p.CurrentLeader = LeaderIDEpoch{int32(d.IntN(9)), d.Int32()}
				kp.CurrentLeader.LeaderID, kp.CurrentLeader.LeaderEpoch = p.CurrentLeader.ID, p.CurrentLeader.Epoch
			}
			var all []byte
			p.Records, all = d.records()
			kp.RecordBatches = append([]byte{}, all...) // never null
			t.Partitions, kt.Partitions = append(t.Partitions, p), append(kt.Partitions, kp)
		}
		ours.Topics, theirs.Topics = append(ours.Topics, t), append(theirs.Topics, kt)
	}
	for range d.IntN(3) {
		n := NodeEndpoint{d.Int32(), d.text(), d.Int32(), d.maybeText()}
		ours.NodeEndpoints = append(ours.NodeEndpoints, n)
		if version < 16 {
			continue
		}
		kn := kmsg.NewFetchResponseBroker()
		kn.NodeID, kn.Host, kn.Port, kn.Rack = n.NodeID, n.Host, n.Port, n.Rack
		theirs.Brokers = append(theirs.Brokers, kn)
	}
	return ours, theirs
}

func TestFetchResponseEncode(t *testing.T) {
	for version := int16(fetchMin); version <= fetchMax; version++ {
		for seed := range seeds(100) {
			ours, theirs := newDice(seed).fetchResponse(version)
			got, want := ours.AppendTo([]byte("before")), theirs.AppendTo([]byte("before"))
			if !bytes.Equal(got, want) {
				t.Fatalf("v%d seed %d: %d bytes differ from kmsg's %d", version, seed, len(got), len(want))
			}
			o := output{}
			ours.appendTo(&o)
			if joined := joinCuts(t, &o); !bytes.Equal(joined, want[len("before"):]) {
				t.Fatalf("v%d seed %d: with cuts: %d bytes differ from kmsg's %d", version, seed, len(joined), len(want))
			}
		}
	}
}

// joinCuts reads an output as a connection sends it.
func joinCuts(t *testing.T, o *output) []byte {
	t.Helper()
	var all []byte
	from := 0
	for _, c := range o.cuts {
		all = append(all, o.buf[from:c.at]...)
		from = c.at
		if c.run.File == nil {
			all = append(all, c.run.Data...)
			continue
		}
		b := make([]byte, c.run.Len)
		if _, err := c.run.File.ReadAt(b, c.run.Off); err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	all = append(all, o.buf[from:]...)
	if len(all) != o.size() {
		t.Fatalf("the output says %d bytes and has %d", o.size(), len(all))
	}
	return all
}

// A file that cannot be read is that partition's error; the others are served.
func TestFetchResponseWithUnreadableFile(t *testing.T) {
	long := Run{Data: make([]byte, sendfileBytes)}
	short := Run{File: ram("ends here"), Off: 0, Len: 100}
	ours := &FetchResponse{Topics: []FetchResponseTopic{{Name: "t", Partitions: []FetchResponsePartition{
		{Index: 0, DivergingEpoch: EpochEndOffset{Epoch: -1}, CurrentLeader: LeaderIDEpoch{ID: -1}, Records: Records{Runs: []Run{long, short}}},
		{Index: 1, DivergingEpoch: EpochEndOffset{Epoch: -1}, CurrentLeader: LeaderIDEpoch{ID: -1}, Records: Records{Runs: []Run{{Data: []byte("fine")}}}},
	}}}}
	for version, code := range map[int16]int16{4: notLeaderOrFollower, 5: notLeaderOrFollower, 6: kafkaStorageError, 12: kafkaStorageError} {
		ours.Version = version
		o := output{}
		ours.appendTo(&o)
		got := kmsg.NewPtrFetchResponse()
		got.Version = version
		if err := got.ReadFrom(joinCuts(t, &o)); err != nil {
			t.Fatal(err)
		}
		p := got.Topics[0].Partitions
		if p[0].ErrorCode != code || len(p[0].RecordBatches) != 0 || p[1].ErrorCode != 0 || string(p[1].RecordBatches) != "fine" {
			t.Errorf("v%d: codes %d and %d, records %q and %q", version, p[0].ErrorCode, p[1].ErrorCode, p[0].RecordBatches, p[1].RecordBatches)
		}
	}
}

// However many short runs there are, one output holds a bounded part of them.
func TestOutputHoldsFewRecords(t *testing.T) {
	ours := &FetchResponse{Version: 12, Topics: []FetchResponseTopic{{Name: "t"}}}
	for i := range 1000 {
		ours.Topics[0].Partitions = append(ours.Topics[0].Partitions, FetchResponsePartition{Index: int32(i),
			Records: Records{Runs: []Run{{File: ram(make([]byte, 10_000)), Len: 10_000}}}})
	}
	o := output{}
	ours.appendTo(&o)
	if o.size() < 10_000_000 || len(o.buf) > inlineBytes+100_000 {
		t.Errorf("%d of %d bytes are held in memory", len(o.buf), o.size())
	}
	joinCuts(t, &o)
}

func FuzzFetchRequestDecode(f *testing.F) {
	for version := int16(fetchMin); version <= fetchMax; version++ {
		f.Add(version, newDice(uint64(version)).fetchRequest(version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var got FetchRequest
		if err := got.Decode(version, body); err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		want := kmsg.NewPtrFetchRequest()
		want.Version = version
		if err := want.ReadFrom(body); err != nil {
			return // kmsg also reads tags that are of no interest here
		}
		checkFetchRequest(t, want, &got)
	})
}
