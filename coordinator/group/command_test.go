package group

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/script"
)

// args are the key=value arguments of a command.
type args map[string]string

func (a args) str(key, otherwise string) string { return script.Text(a, key, otherwise) }

func (a args) int(key string, otherwise int64) int64 { return script.Int(a, key, otherwise) }

func (a args) duration(key string, otherwise time.Duration) time.Duration {
	return script.Duration(a, key, otherwise)
}

// ptr returns nil where the argument is absent.
func (a args) ptr(key string) *string {
	if v, ok := a[key]; ok {
		return &v
	}
	return nil
}

func (a args) millis(key string, otherwise time.Duration) int32 {
	return int32(a.duration(key, otherwise).Milliseconds())
}

// list splits at commas; absent is nil.
func (a args) list(key string) []string {
	v, ok := a[key]
	if !ok {
		return nil
	}
	if v == "" {
		return []string{}
	}
	return strings.Split(v, ",")
}

func (a args) version(otherwise int16) int16 { return int16(a.int("version", int64(otherwise))) }

// command runs one line of a script.
func (w *world) command(line string) {
	name, given, rest := script.Command(line)
	a := args(given)
	switch name {
	case "options":
		if a["ids"] == "anew" {
			w.ids = 0
		}
		w.start(readOptions(a))
	case "load-options": // after the next crash
		w.o = readOptions(a)
		w.o.NewMemberID, w.o.NewConsumerMemberID, w.o.Cluster = w.shard.o.NewMemberID, w.shard.o.NewConsumerMemberID, w.cluster
	case "advance":
		w.advance(a.duration("for", 0))
	case "crash":
		w.o.LoadedAfter = uint64(a.int("conn", 0))
		w.load()
	case "topics":
		w.topics(strings.Fields(rest)...)
	case "settings":
		w.changed(w.cluster.with(func(c *cluster) {
			c.settings.Session, c.settings.AssignmentInterval = a.duration("session", c.settings.Session), a.duration("interval", c.settings.AssignmentInterval)
		}), nil, false)
	case "resolve":
		w.resolve()
	default:
		w.send(a.str("token", w.token()), readEvent(name, a))
	}
}

func readOptions(a args) Options {
	o := DefaultOptions(nil, nil)
	o.InitialRebalanceDelay = a.duration("initial", o.InitialRebalanceDelay)
	o.MaxSize = int(a.int("max-size", int64(o.MaxSize)))
	o.OffsetsRetention = a.duration("retention", o.OffsetsRetention)
	o.OffsetsRetentionCheckInterval = a.duration("check", o.OffsetsRetentionCheckInterval)
	o.MaxRecordBytes = int(a.int("max-record", int64(o.MaxRecordBytes)))
	o.ConsumerMaxSize = int(a.int("consumer-max-size", int64(o.ConsumerMaxSize)))
	o.Migration = Migration(slices.Index([]string{"bidirectional", "upgrade", "downgrade", "disabled"}, a.str("migration", "bidirectional")))
	return o
}

// readEvent makes the event of a command.
func readEvent(name string, a args) any {
	switch name {
	case "join":
		return readJoin(a)
	case "sync":
		r := kmsg.NewPtrSyncGroupRequest()
		r.Group, r.MemberID, r.InstanceID, r.Generation = a.str("group", "g"), a.str("member", ""), a.ptr("instance"), int32(a.int("generation", 1))
		r.ProtocolType, r.Protocol = a.ptr("type"), a.ptr("protocol")
		for _, f := range a.list("assign") {
			id, to, _ := strings.Cut(f, ":")
			ga := kmsg.NewSyncGroupRequestGroupAssignment()
			ga.MemberID, ga.MemberAssignment = id, []byte(to)
			r.GroupAssignment = append(r.GroupAssignment, ga)
		}
		for _, f := range a.list("share") {
			id, to, _ := strings.Cut(f, ":")
			ga := kmsg.NewSyncGroupRequestGroupAssignment()
			ga.MemberID, ga.MemberAssignment = id, assignment(to, a.str("userdata", ""))
			r.GroupAssignment = append(r.GroupAssignment, ga)
		}
		return Sync{Req: r, Version: a.version(4)}
	case "heartbeat":
		r := kmsg.NewPtrHeartbeatRequest()
		r.Group, r.MemberID, r.InstanceID, r.Generation = a.str("group", "g"), a.str("member", ""), a.ptr("instance"), int32(a.int("generation", 1))
		return Heartbeat{Req: r, Version: a.version(4)}
	case "leave":
		return readLeave(a)
	case "beat":
		return readBeat(a)
	case "consumer-describe":
		return ConsumerDescribe{Group: a.str("group", "g")}
	case "describe":
		return Describe{Group: a.str("group", "g"), Version: a.version(6)}
	case "list":
		return List{States: a.list("states"), Types: a.list("types")}
	case "delete":
		return Delete{Group: a.str("group", "g")}
	case "count":
		return Count{}
	}
	return readOffsetEvent(name, a)
}

// readOffsetEvent makes the event of a command about offsets.
func readOffsetEvent(name string, a args) any {
	switch name {
	case "commit":
		return readCommit(a)
	case "txn-commit":
		return readTxnCommit(a)
	case "end-txn":
		return EndTransaction{
			ProducerID: a.int("pid", 1), ProducerEpoch: int16(a.int("epoch", 0)), CoordinatorEpoch: 7, Commit: a.str("result", "") == "commit",
		}
	case "fetch":
		r := kmsg.NewOffsetFetchRequestGroup()
		r.Group, r.MemberID, r.MemberEpoch = a.str("group", "g"), a.ptr("member"), int32(a.int("epoch", -1))
		for _, f := range a.list("topics") {
			topic, partition, _ := strings.Cut(f, "/")
			rt := kmsg.NewOffsetFetchRequestGroupTopic()
			rt.Topic, rt.TopicID = topic, topicID(a.str("id", ""))
			p, _ := strconv.Atoi(partition)
			rt.Partitions = []int32{int32(p)}
			r.Topics = append(r.Topics, rt)
		}
		return Fetch{Group: r, Version: a.version(9), RequireStable: a.str("stable", "") == "true"}
	case "offset-delete":
		r := kmsg.NewPtrOffsetDeleteRequest()
		r.Group = a.str("group", "g")
		for _, f := range a.list("topics") {
			topic, partition, _ := strings.Cut(f, "/")
			rt := kmsg.NewOffsetDeleteRequestTopic()
			rt.Topic = topic
			rp := kmsg.NewOffsetDeleteRequestTopicPartition()
			p, _ := strconv.Atoi(partition)
			rp.Partition = int32(p)
			rt.Partitions = append(rt.Partitions, rp)
			r.Topics = append(r.Topics, rt)
		}
		return OffsetDelete{Req: r}
	case "topic-deleted":
		return TopicDeleted{Topic: a.str("topic", "a"), ID: topicID(a.str("id", ""))}
	}
	panic("no such command: " + name)
}

func readJoin(a args) Join {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.MemberID, r.InstanceID, r.ProtocolType = a.str("group", "g"), a.str("member", ""), a.ptr("instance"), a.str("type", "consumer")
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = a.millis("session", 45*time.Second), a.millis("rebalance", time.Minute)
	protocols := a.list("protocols")
	if protocols == nil {
		protocols = []string{"range"}
	}
	for _, f := range protocols {
		name, metadata, _ := strings.Cut(f, ":")
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, []byte(metadata)
		if _, ok := a["subscribe"]; ok {
			p.Metadata = readSubscribe(a)
		}
		r.Protocols = append(r.Protocols, p)
	}
	return Join{Req: r, Version: a.version(9), ClientID: a.str("client", "c"), ClientHost: "/127.0.0.1"}
}

// subscription encodes version 1 of the consumer protocol, with nothing owned.
func subscription(topics ...string) []byte {
	return readSubscribe(args{"subscribe": strings.Join(topics, "+")})
}

// readSubscribe encodes a subscription of the consumer protocol: subscribe=a+b owned=a/0+a/1 embedded=3 rack=r.
func readSubscribe(a args) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics, m.Rack, m.Generation = int16(a.int("embedded", 1)), strings.Split(a["subscribe"], "+"), a.ptr("rack"), int32(a.int("generation", -1))
	for _, t := range readTopicPartitions(a["owned"]) {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = t.Topic, t.Partitions
		m.OwnedPartitions = append(m.OwnedPartitions, o)
	}
	return m.AppendTo(nil)
}

// readTopicPartitions reads a/0+a/1+b/0.
func readTopicPartitions(s string) []kmsg.ConsumerMemberAssignmentTopic {
	var all []kmsg.ConsumerMemberAssignmentTopic
	for f := range strings.SplitSeq(s, "+") {
		topic, partition, ok := strings.Cut(f, "/")
		if !ok {
			continue
		}
		p, err := strconv.Atoi(partition)
		if err != nil {
			panic(err)
		}
		if len(all) == 0 || all[len(all)-1].Topic != topic {
			all = append(all, kmsg.ConsumerMemberAssignmentTopic{Topic: topic})
		}
		all[len(all)-1].Partitions = append(all[len(all)-1].Partitions, int32(p))
	}
	return all
}

// assignment encodes version 1 of an assignment of the consumer protocol.
func assignment(s, userData string) []byte {
	m := kmsg.NewConsumerMemberAssignment()
	m.Version, m.Topics = 1, readTopicPartitions(s)
	if userData != "" {
		m.UserData = []byte(userData)
	}
	return m.AppendTo(nil)
}

func readLeave(a args) Leave {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group, r.MemberID = a.str("group", "g"), a.str("member", "")
	for _, id := range a.list("members") {
		m := kmsg.NewLeaveGroupRequestMember()
		id, instance, static := strings.Cut(id, "@")
		m.MemberID = id
		if static {
			m.InstanceID = &instance
		}
		r.Members = append(r.Members, m)
	}
	return Leave{Req: r, Version: a.version(5)}
}

// offsetArg is topic/partition=offset, or with :metadata after it.
type offsetArg struct {
	topic     string
	partition int32
	offset    int64
	metadata  *string
}

// readOffsets reads offsets=a/0:5,a/1:6:meta
func readOffsets(a args) []offsetArg {
	var offsets []offsetArg
	for _, f := range a.list("offsets") {
		fields := strings.SplitN(f, ":", 3)
		var o offsetArg
		topic, partition, _ := strings.Cut(fields[0], "/")
		p, err := strconv.Atoi(partition)
		if err != nil {
			panic(err)
		}
		o.topic, o.partition = topic, int32(p)
		if o.offset, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
			panic(err)
		}
		if len(fields) > 2 {
			o.metadata = &fields[2]
			if text, n, ok := strings.Cut(fields[2], "*"); ok { // x*5 is xxxxx
				times, _ := strconv.Atoi(n)
				long := strings.Repeat(text, times)
				o.metadata = &long
			}
		}
		offsets = append(offsets, o)
	}
	return offsets
}

func readCommit(a args) Commit {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = a.str("group", "g"), a.str("member", ""), a.ptr("instance"), int32(a.int("generation", -1))
	if d, ok := a["retention"]; ok {
		retention, err := time.ParseDuration(d)
		if err != nil {
			panic(err)
		}
		r.RetentionTimeMillis = retention.Milliseconds()
	}
	for _, o := range readOffsets(a) {
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic, rt.TopicID = o.topic, topicID(a.str("id", ""))
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata, rp.LeaderEpoch = o.partition, o.offset, o.metadata, int32(a.int("epoch", -1))
		rt.Partitions = append(rt.Partitions, rp)
		r.Topics = append(r.Topics, rt)
	}
	return Commit{Req: r, Version: a.version(8)}
}

func readTxnCommit(a args) TxnCommit {
	r := kmsg.NewPtrTxnOffsetCommitRequest()
	r.Group, r.MemberID, r.Generation = a.str("group", "g"), a.str("member", ""), int32(a.int("generation", -1))
	r.ProducerID, r.ProducerEpoch = a.int("pid", 1), int16(a.int("epoch", 0))
	for _, o := range readOffsets(a) {
		rt := kmsg.NewTxnOffsetCommitRequestTopic()
		rt.Topic = o.topic
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata = o.partition, o.offset, o.metadata
		rt.Partitions = append(rt.Partitions, rp)
		r.Topics = append(r.Topics, rt)
	}
	return TxnCommit{Req: r, Version: a.version(5), Conn: uint64(a.int("conn", 0))}
}

// topicID makes an id of a few letters.
func topicID(s string) (id [16]byte) {
	copy(id[:], s)
	return id
}

func showTopicID(id [16]byte) string {
	return fmt.Sprintf("%q", strings.TrimRight(string(id[:]), "\x00"))
}
