package broker

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log/batch"
)

// produce sends n records one after the other in their partitions and fails the
// test on any error.
func (h *harness) produce(cl *kgo.Client, topic string, n int) {
	h.t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i % 7)), Value: []byte(strconv.Itoa(i))})
	}
	if err := cl.ProduceSync(h.t.Context(), records...).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
}

// consume polls until it has n records, and returns their values in order.
func (h *harness) consume(cl *kgo.Client, n int) []string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Minute)
	defer cancel()
	var values []string
	for len(values) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			h.t.Fatalf("after %d records: %v", len(values), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestProduceAndConsumeWithEveryCodec(t *testing.T) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				cl := h.client(kgo.ProducerBatchCompression(codec), kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
				defer cl.Close()
				h.produce(cl, name, 1000)
				for i, v := range h.consume(cl, 1000) {
					if v != strconv.Itoa(i) {
						t.Fatalf("record %d is %q", i, v)
					}
				}
			})
		})
	}
}

// What was acked is there after a clean stop and start, under the same ids.
func TestEverythingSurvivesARestart(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("kept"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
		h.produce(cl, "kept", 100)
		h.consume(cl, 100)
		if err := cl.CommitUncommittedOffsets(h.t.Context()); err != nil {
			t.Fatal(err)
		}
		id, cluster := h.b.image().Topic("kept").ID, h.b.clusterID
		cl.Close()
		h.restart()
		if got := h.b.image().Topic("kept"); got == nil || got.ID != id || h.b.clusterID != cluster {
			t.Fatalf("after the restart: topic %+v, cluster %s", got, h.b.clusterID)
		}
		again := h.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("kept"))
		defer again.Close()
		h.produce(again, "kept", 1)
		if got := h.consume(again, 1); len(got) != 1 || got[0] != "0" {
			t.Errorf("the group goes on with %q, want only the new record", got)
		}
	})
}

// Three members share twelve partitions; each record reaches one of them once.
func TestGroupOfThree(t *testing.T) {
	inBubble(t, func(h *harness) {
		seen := make(chan string, 1000)
		ctx, cancel := context.WithCancel(h.t.Context())
		done := make(chan struct{})
		for i := range 3 {
			cl := h.client(kgo.ConsumerGroup("three"), kgo.ConsumeTopics("wide"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ClientID(fmt.Sprint("member", i)),
				// kgo commits behind a mutex that it holds while it joins, and waiting for a mutex stops fake time.
				kgo.DisableAutoCommit())
			go func() {
				defer func() { done <- struct{}{} }()
				defer cl.Close()
				for ctx.Err() == nil {
					cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen <- string(r.Value) })
				}
			}()
		}
		cl := h.client()
		h.produce(cl, "wide", 500)
		count := map[string]int{}
		for len(count) < 500 {
			count[<-seen]++
		}
		for v, n := range count {
			if n != 1 {
				t.Errorf("%q was seen %d times", v, n)
			}
		}
		resp := ask[*kmsg.DescribeGroupsResponse](h, cl, &kmsg.DescribeGroupsRequest{Version: 5, Groups: []string{"three"}})
		if g := resp.Groups[0]; g.State != "Stable" || len(g.Members) != 3 {
			t.Errorf("the group is %s with %d members", g.State, len(g.Members))
		}
		cl.Close()
		cancel()
		for range 3 {
			<-done
		}
	}, "num.partitions=12")
}

// Deleting a topic takes its logs and its committed offsets; a new one of the
// same name is empty and has another id.
func TestDeleteAndRecreate(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
		h.produce(cl, "t", 10)
		h.consume(cl, 10)
		if err := cl.CommitUncommittedOffsets(h.t.Context()); err != nil {
			t.Fatal(err)
		}
		cl.Close()
		admin := h.client()
		defer admin.Close()
		id := h.b.image().Topic("t").ID
		name := "t"
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}
		if resp := ask[*kmsg.DeleteTopicsResponse](h, admin, req); resp.Topics[0].ErrorCode != 0 || resp.Topics[0].TopicID != id {
			t.Fatalf("delete: %+v", resp.Topics[0])
		}
		if h.b.image().Topic("t") != nil {
			t.Fatal("the topic is still there")
		}
		h.produce(admin, "t", 3)
		if h.b.image().Topic("t").ID == id {
			t.Error("the new topic has the old id")
		}
		list := kmsg.NewPtrListOffsetsRequest()
		list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}}}}
		if p := ask[*kmsg.ListOffsetsResponse](h, admin, list).Topics[0].Partitions[0]; p.Offset != 3 {
			t.Errorf("the new topic ends at %d, want 3", p.Offset)
		}
		offsets := kmsg.NewPtrOffsetFetchRequest()
		offsets.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberEpoch: -1}}
		if g := ask[*kmsg.OffsetFetchResponse](h, admin, offsets).Groups[0]; len(g.Topics) != 0 {
			t.Errorf("the group still has offsets: %+v", g.Topics)
		}
	})
}

// An idempotent producer may repeat a batch: it is answered with the first
// offset and stored once. A gap in the sequence is refused.
func TestIdempotence(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		h.produce(cl, "i", 1)
		c := h.raw()
		defer c.nc.Close()
		init, err := c.call(&kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1}, 4)
		if err != nil || init.(*kmsg.InitProducerIDResponse).ErrorCode != 0 {
			t.Fatalf("%+v, %v", init, err)
		}
		pid := init.(*kmsg.InitProducerIDResponse).ProducerID
		send := func(sequence int32) (offset int64, code int16) {
			t.Helper()
			resp, err := c.call(produceRequest("i", testBatch(pid, 0, sequence, "v")), 9)
			if err != nil {
				t.Fatal(err)
			}
			p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
			return p.BaseOffset, p.ErrorCode
		}
		for _, step := range []struct {
			sequence int32
			offset   int64
			code     int16
		}{{0, 1, 0}, {1, 2, 0}, {0, 1, 0}, {1, 2, 0}, {5, -1, kerr.OutOfOrderSequenceNumber.Code}, {2, 3, 0}} {
			if offset, code := send(step.sequence); offset != step.offset || code != step.code {
				t.Errorf("sequence %d: offset %d code %d, want %d and %d", step.sequence, offset, code, step.offset, step.code)
			}
		}
	})
}

// testBatch is one uncompressed batch of an idempotent producer.
func testBatch(producer int64, epoch int16, sequence int32, values ...string) []byte {
	o := batch.Plain()
	o.ProducerID, o.ProducerEpoch, o.BaseSequence = producer, epoch, sequence
	var messages []batch.Message
	for _, v := range values {
		messages = append(messages, batch.Message{Timestamp: time.Now().UnixMilli(), Value: []byte(v)})
	}
	return batch.Append(nil, o, messages)
}

// produceRequest puts records into partition 0 of a topic, to be acked by all.
func produceRequest(topic string, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: records}}}}
	return req
}
