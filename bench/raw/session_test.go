package raw

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The first fetch names all partitions, the next only those that are read, from where they are.
func TestSessionFrames(t *testing.T) {
	s := &sessionReader{s: &Session{Topic: "t", Active: 1, Idle: 3, MaxBytes: 1000}, offsets: map[int32]int64{}}
	named := func() (partitions []int32, offset int64, id, epoch int32) {
		var req kmsg.FetchRequest
		req.Version = fetchVersion
		if err := req.ReadFrom(s.frame()[4+2+2+4+2+3:]); err != nil {
			t.Fatal(err)
		}
		for _, p := range req.Topics[0].Partitions {
			partitions = append(partitions, p.Partition)
		}
		return partitions, req.Topics[0].Partitions[0].FetchOffset, req.SessionID, req.SessionEpoch
	}
	if p, offset, id, epoch := named(); !slices.Equal(p, []int32{0, 1, 2, 3}) || offset != 0 || id != 0 || epoch != 0 {
		t.Errorf("the first: %v from %d, session %d, epoch %d", p, offset, id, epoch)
	}
	answer := func(session int32, high int64) error {
		resp := kmsg.NewPtrFetchResponse()
		resp.Version, resp.SessionID = fetchVersion, session
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = "t"
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.HighWatermark, rp.RecordBatches = high, One("t", []int32{0}, 10).Topics[0].Partitions[0].Records
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		records, _, err := s.answer(resp.AppendTo(make([]byte, 4)))
		if err == nil && records != 1 {
			t.Errorf("%d records", records)
		}
		return err
	}
	if err := answer(7, 5); err != nil {
		t.Fatal(err)
	}
	if p, offset, id, epoch := named(); !slices.Equal(p, []int32{0}) || offset != 1 || id != 7 || epoch != 1 {
		t.Errorf("the second: %v from %d, session %d, epoch %d", p, offset, id, epoch)
	}
	if err := answer(7, 1); err != nil { // at the end: from the start again
		t.Fatal(err)
	}
	if _, offset, _, epoch := named(); offset != 0 || epoch != 2 {
		t.Errorf("the third: from %d, epoch %d", offset, epoch)
	}
	if err := answer(0, 1); err == nil {
		t.Error("no error for a broker without sessions")
	}
}

// The members' parts are the topic's partitions, each once.
func TestShares(t *testing.T) {
	g := &Group{Topic: "t", Partitions: 10}
	for i := range 3 {
		m := &member{g: g}
		var a kmsg.ConsumerMemberAssignment
		if err := a.ReadFrom(g.share(i, 3)); err != nil {
			t.Fatal(err)
		}
		m.owned = a.Topics[0].Partitions
		g.members = append(g.members, m)
	}
	if err := g.complete(); err != nil {
		t.Error(err)
	}
	g.members[0].owned = g.members[1].owned
	if err := g.complete(); err == nil {
		t.Error("no error for a partition that nobody has")
	}
	if a, b := uuid("g", 0), uuid("g", 1); a == b || len(a) != 22 {
		t.Errorf("member ids %s and %s", a, b)
	}
}

// Settings and partitions are in the requests, and errors of partitions are found.
func TestRequests(t *testing.T) {
	req := CreateTopic("t", 3, "segment.bytes", "1048576")
	if c := req.Topics[0].Configs; len(c) != 1 || c[0].Name != "segment.bytes" || *c[0].Value != "1048576" || req.Topics[0].NumPartitions != 3 {
		t.Errorf("%+v", req.Topics[0])
	}
	if one := One("t", []int32{2, 5}, 10); len(one.Topics[0].Partitions) != 2 || one.Topics[0].Partitions[1].Partition != 5 || one.Acks != -1 {
		t.Errorf("%+v", one)
	}
	var resp kmsg.ProduceResponse
	resp.Topics = []kmsg.ProduceResponseTopic{{Partitions: []kmsg.ProduceResponseTopicPartition{{}, {ErrorCode: 6}}}}
	if code := FirstError(&resp); code != 6 {
		t.Errorf("code %d", code)
	}
	if code := FirstError(&kmsg.ListOffsetsResponse{}); code != 0 {
		t.Errorf("code %d", code)
	}
}
