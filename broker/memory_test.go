package broker

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// While memory is short what is there goes on, and nothing new that lasts is taken on, by errors that clients try again.
func TestNothingNewWhileMemoryIsShort(t *testing.T) {
	inBubble(t, func(h *harness) {
		t := h.t
		inUse := int64(0)
		h.b.memory.inUse = func() int64 { return inUse }
		cl := h.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer cl.Close()
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		cl.PollFetches(t.Context()) // a member, with a fetch session

		ask, end := h.asker()
		defer end()
		inUse = h.b.memory.limits.StateBytes
		time.Sleep(time.Second)
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("w")}).FirstErr(); err != nil {
			t.Error("produce:", err)
		}
		if n := cl.PollFetches(t.Context()).NumRecords(); n != 1 {
			t.Errorf("%d records were fetched", n)
		}
		if err := cl.CommitUncommittedOffsets(t.Context()); err != nil {
			t.Error("a member's commit:", err)
		}
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.SessionTimeoutMillis, join.ProtocolType = 3, "other", 30_000, "consumer"
		init := kmsg.NewPtrInitProducerIDRequest()
		init.Version, init.TransactionalID, init.TransactionTimeoutMillis = 3, ptr("x"), 60_000
		heartbeat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		heartbeat.Version, heartbeat.Group, heartbeat.MemberID = 1, "other", "m"
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Version, commit.Group, commit.Generation = 7, "other", -1
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic, topic.Partitions = "t", []kmsg.OffsetCommitRequestTopicPartition{{}}
		commit.Topics = append(commit.Topics, topic)
		for name, got := range map[string]int16{
			"join":      ask(join).(*kmsg.JoinGroupResponse).ErrorCode,
			"init":      ask(init).(*kmsg.InitProducerIDResponse).ErrorCode,
			"heartbeat": ask(heartbeat).(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode,
			"commit":    ask(commit).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode,
		} {
			if got != kerr.CoordinatorLoadInProgress.Code {
				t.Errorf("%s: code %d", name, got)
			}
		}
		create := kmsg.NewPtrCreateTopicsRequest()
		create.Version, create.TimeoutMillis = 2, 1000
		wanted := kmsg.NewCreateTopicsRequestTopic()
		wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = "new", 1, 1
		create.Topics = append(create.Topics, wanted)
		if got := ask(create).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode; got != kerr.PolicyViolation.Code {
			t.Errorf("a new topic: code %d", got)
		}

		inUse = 0
		time.Sleep(time.Second)
		if got := ask(create).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode; got != 0 {
			t.Errorf("after it: code %d", got)
		}
	}, "rotpeter.memory.max=134217728")
}

// asker sends requests over one connection, each when the one before it is answered.
func (h *harness) asker() (ask func(kmsg.Request) kmsg.Response, end func() error) {
	conn, err := h.net.Load().DialContext(h.t.Context(), "tcp", "127.0.0.1:9092")
	if err != nil {
		h.t.Fatal(err)
	}
	return func(req kmsg.Request) kmsg.Response {
		h.t.Helper()
		if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
			h.t.Fatal(err)
		}
		head := make([]byte, 8) // length and correlation id
		if _, err := io.ReadFull(conn, head); err != nil {
			h.t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head)-4)
		if _, err := io.ReadFull(conn, body); err != nil {
			h.t.Fatal(err)
		}
		if req.IsFlexible() {
			body = body[1:]
		}
		resp := req.ResponseKind()
		if err := resp.ReadFrom(body); err != nil {
			h.t.Fatal(err)
		}
		return resp
	}, conn.Close
}

// Partitions of sessions are counted: one that finds no room is not made, and one that grows too large ends.
func TestFetchSessionsHaveRoomForSoManyPartitions(t *testing.T) {
	c := newSessionCache(10, 4, countingIDs())
	now := time.Unix(1000, 0)
	first, _ := c.begin(sessionRequest(0, 0, 0, 1, 2), 12, now)
	if first == nil {
		t.Fatal("no session")
	}
	if s, err := c.begin(sessionRequest(0, 0, 0, 1), 12, now); s != nil || err != nil {
		t.Errorf("a session without room: %v, %v", s, err)
	}
	if s, err := c.begin(sessionRequest(first.id, 1, 3), 12, now); s != first || err != nil {
		t.Errorf("the last room: %v, %v", s, err)
	}
	if _, err := c.begin(sessionRequest(first.id, 2, 4), 12, now); err != kerr.FetchSessionIDNotFound {
		t.Errorf("too large: %v", err)
	}
	if sessions, parts, _ := c.stats(); sessions != 0 || parts != 0 {
		t.Errorf("%d sessions with %d partitions", sessions, parts)
	}
}
