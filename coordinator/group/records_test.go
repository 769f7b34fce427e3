package group

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/script"
)

// unspaced decodes hex digits with blanks between.
func unspaced(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes are spelled out from Kafka's schemas, OffsetCommitKey/Value.json and
// GroupMetadataKey/Value.json.
func TestRecordBytes(t *testing.T) {
	now := time.UnixMilli(0x0102)
	instance, protocol := "i", "r"
	id := [16]byte{0xA0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	tp := topicPartition{"t", 3}
	offsetKey := "0001 0001 67 0001 74 00000003"
	for _, c := range []struct {
		name       string
		record     coordinator.Record
		key, value string
	}{
		{
			"offset", offsetRecord(now, "g", tp, offset{offset: 5, leaderEpoch: 7, metadata: "m", committed: 0x0102, expires: noTime}),
			offsetKey, "0004 0000000000000005 00000007 02 6d 0000000000000102 00",
		},
		{
			"offset with topic id", offsetRecord(now, "g", tp, offset{offset: 5, leaderEpoch: -1, committed: 0x0102, expires: noTime, topicID: id}),
			offsetKey, "0004 0000000000000005 ffffffff 01 0000000000000102 01 00 10 a00102030405060708090a0b0c0d0e0f",
		},
		{
			"offset with retention", offsetRecord(now, "g", tp, offset{offset: 5, leaderEpoch: 7, metadata: "m", committed: 0x0102, expires: 0x0203, topicID: id}),
			offsetKey, "0001 0000000000000005 0001 6d 0000000000000102 0000000000000203",
		},
		{"offset gone", offsetTombstone(now, "g", tp), offsetKey, ""},
		{
			"empty group", groupRecord(now, "g", &groupMetadata{since: 0x0102}),
			"0002 0001 67", "0003 0000 00000000 ffff ffff 0000000000000102 00000000",
		},
		{
			"group", groupRecord(now, "g", &groupMetadata{
				protocolType: "c", generation: 9, protocol: &protocol, leader: "a", since: 0x0102,
				members: []memberMetadata{
					{id: "a", instanceID: &instance, clientID: "k", clientHost: "/h", rebalanceMillis: 0x10, sessionMillis: 0x20, subscription: []byte{0xAA}, assignment: []byte{0xBB, 0xCC}},
					{id: "b", rebalanceMillis: 1, sessionMillis: 2},
				},
			}),
			"0002 0001 67",
			"0003 0001 63 00000009 0001 72 0001 61 0000000000000102 00000002" +
				"0001 61 0001 69 0001 6b 0002 2f68 00000010 00000020 00000001 aa 00000002 bbcc" +
				"0001 62 ffff 0000 0000 00000001 00000002 00000000 00000000",
		},
		{"group gone", groupTombstone(now, "g"), "0002 0001 67", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if want := unspaced(t, c.key); string(c.record.Key) != string(want) {
				t.Errorf("key   %x\nwant  %x", c.record.Key, want)
			}
			if want := unspaced(t, c.value); string(c.record.Value) != string(want) {
				t.Errorf("value %x\nwant  %x", c.record.Value, want)
			}
			if (c.record.Value == nil) != (c.value == "") {
				t.Error("only a tombstone has no value")
			}
			if c.record.Timestamp != 0x0102 {
				t.Errorf("timestamp %d", c.record.Timestamp)
			}
		})
	}
}

// Records that older Kafka brokers wrote are read: all versions of both values.
func TestOlderRecordsAreRead(t *testing.T) {
	tail := "00000001 0001 61"
	for _, c := range []struct{ key, value, want string }{
		{"0000 0001 67 0001 74 00000000", "0000 0000000000000005 0001 6d 0000000000000009", "offset=5 epoch=-1 metadata=m committed=9 expires=-1"},
		{"0001 0001 67 0001 74 00000000", "0001 0000000000000005 0001 6d 0000000000000009 0000000000000010", "offset=5 epoch=-1 metadata=m committed=9 expires=16"},
		{"0001 0001 67 0001 74 00000000", "0002 0000000000000005 0001 6d 0000000000000009", "offset=5 epoch=-1 metadata=m committed=9 expires=-1"},
		{"0001 0001 67 0001 74 00000000", "0003 0000000000000005 00000007 0001 6d 0000000000000009", "offset=5 epoch=7 metadata=m committed=9 expires=-1"},
		{"0001 0001 67 0001 74 00000000", "0004 0000000000000005 00000007 02 6d 0000000000000009 00", "offset=5 epoch=7 metadata=m committed=9 expires=-1"},
		{"0002 0001 67", "0000 0001 63 00000002 0001 72 0001 61" + tail + "0000 0000 00000020 00000000 00000000", "generation=2 since=-1 session=32 rebalance=32"},
		{"0002 0001 67", "0001 0001 63 00000002 0001 72 0001 61" + tail + "0000 0000 00000010 00000020 00000000 00000000", "generation=2 since=-1 session=32 rebalance=16"},
		{"0002 0001 67", "0002 0001 63 00000002 0001 72 0001 61 0000000000000008" + tail + "0000 0000 00000010 00000020 00000000 00000000", "generation=2 since=8 session=32 rebalance=16"},
		{"0002 0001 67", "0003 0001 63 00000002 0001 72 0001 61 0000000000000008" + tail + "ffff 0000 0000 00000010 00000020 00000000 00000000", "generation=2 since=8 session=32 rebalance=16"},
		{"0002 0001 67", "0004 02 63 00000002 02 72 02 61 0000000000000008 02 02 61 00 01 01 00000010 00000020 01 01 00 00", "generation=2 since=8 session=32 rebalance=16"},
	} {
		s := New(DefaultOptions(nil, nil))
		s.Apply(coordinator.Record{Key: unspaced(t, c.key), Value: unspaced(t, c.value)})
		got := fmt.Sprintf("skipped=%d", s.skipped)
		if g := s.groups["g"]; g != nil && g.kept != nil && len(g.kept.members) == 1 {
			m := g.kept.members[0]
			got = fmt.Sprintf("generation=%d since=%d session=%d rebalance=%d", g.kept.generation, g.kept.since, m.sessionMillis, m.rebalanceMillis)
		} else if o, ok := s.offsets["g"][topicPartition{"t", 0}]; ok {
			got = fmt.Sprintf("offset=%d epoch=%d metadata=%s committed=%d expires=%d", o.offset, o.leaderEpoch, o.metadata, o.committed, o.expires)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.value, got, c.want)
		}
	}
}

// Records that make no sense are passed over, whatever is wrong with them.
func TestBadRecordsArePassedOver(t *testing.T) {
	good := []coordinator.Record{
		offsetRecord(time.UnixMilli(1), "g", topicPartition{"t", 0}, offset{expires: noTime}),
		groupRecord(time.UnixMilli(1), "g", &groupMetadata{protocolType: "consumer", members: []memberMetadata{{id: "a"}}}),
	}
	s := New(DefaultOptions(nil, nil))
	n := int64(0)
	for _, r := range append(good, consumerRecords()...) {
		for i := range len(r.Key) {
			s.Apply(coordinator.Record{Key: r.Key[:i], Value: r.Value})
			n++
		}
		for i := range len(r.Value) {
			s.Apply(coordinator.Record{Key: r.Key, Value: r.Value[:i]})
			n++
		}
		newer := append([]byte{0, 9}, r.Value[2:]...)
		s.Apply(coordinator.Record{Key: r.Key, Value: newer})
		n++
	}
	s.Apply(coordinator.Record{Key: []byte{0, consumerGroupKey}, Value: []byte{}})
	n++
	if s.skipped != n || len(s.groups) != 0 || len(s.offsets) != 0 || len(s.consumers) != 0 {
		t.Errorf("%d of %d bad records passed over, %d and %d groups and %d offsets made of them", s.skipped, n, len(s.groups), len(s.consumers), len(s.offsets))
	}
	s.Apply(coordinator.Record{Key: []byte{0, 99, 1, 2, 3}, Value: []byte{1}}) // a type of the future
	s.Apply(coordinator.Record{Control: coordinator.Commit, ProducerID: 5})    // of a transaction elsewhere
	if s.skipped != n {
		t.Errorf("%d passed over, want %d: these two are fine", s.skipped, n)
	}
}

// consumerRecords are one record of each type that a consumer group has, with a member of each protocol.
func consumerRecords() []coordinator.Record {
	t := turn{now: time.UnixMilli(1), Shard: New(DefaultOptions(nil, nil))}
	instance, rack, regex, assignor := "i", "r", "a.*", "uniform"
	topic := [16]byte{0: 1, 15: 1}
	m := &consumerMember{
		id: "a", instanceID: &instance, rackID: &rack, clientID: "c", clientHost: "/127.0.0.1", rebalanceMillis: 5, topics: []string{"t"}, regex: &regex, assignor: &assignor,
		epoch: 2, previousEpoch: 1, state: memberUnrevoked, assigned: owned{topic: {{0, 2}}}, revoking: owned{topic: {{1, 1}}},
	}
	classic := newConsumerMember("b")
	classic.classic = &classicMetadata{6000, []protocol{{"range", subscription("t")}}}
	t.noteEpoch("g", 2, 77)
	t.noteMember("g", m)
	t.noteMember("g", classic)
	t.noteTarget("g", "a", partitions{topic: {0, 1}})
	t.noteTargetEpoch("g", 2, t.now)
	t.noteCurrent("g", m)
	t.note(consumerKey(consumerRegexKey, "g", regex), regexValue(&resolvedRegex{topics: []string{"ab"}, version: 3, at: 4}))
	b := kbin.AppendUuid(kbin.AppendCompactArrayLen(consumerValue(), 1), topic) // as Kafka wrote it before 4.1
	b = kbin.AppendInt32(kbin.AppendCompactString(b, "t"), 1)
	b = kbin.AppendInt32(kbin.AppendCompactArrayLen(b, 1), 0)
	b = kbin.AppendCompactString(kbin.AppendCompactArrayLen(b, 1), rack)
	t.note(consumerKey(consumerPartitionKey, "g"), append(b, 0, 0, 0))
	return t.out.Records
}

// foreignRecord is a record of a group of another type, its key and value in hex digits.
func foreignRecord(t *testing.T, key, value string) coordinator.Record {
	r := coordinator.Record{Key: unspaced(t, key)}
	if value != "" {
		r.Value = unspaced(t, value)
	}
	return r
}

// A group of another type with a member keeps its id and its offsets, and nobody of the
// classic protocol gets in.
func TestForeignGroupWithMember(t *testing.T) {
	w := newWorld(t, DefaultOptions(nil, nil))
	w.journal = append(w.journal,
		foreignRecord(t, "0013 0001 67 0001 6d", "0000 00"),
		foreignRecord(t, "0011 0001 67", "0000 00000002 00"),
		offsetRecord(w.now, "g", topicPartition{"a", 0}, offset{offset: 5, expires: noTime}),
	)
	w.load()
	for _, line := range []string{
		"join", "join member=m", "sync member=m", "heartbeat member=m", "leave members=m", "describe", "list", "delete",
		"fetch topics=a/0", "fetch", "commit generation=1 member=m offsets=a/0:1", "commit offsets=a/0:6", "fetch",
	} {
		w.command(line)
	}
	want := `
reply   t1 JoinGroup error=23/INCONSISTENT_GROUP_PROTOCOL member=
reply   t2 JoinGroup error=23/INCONSISTENT_GROUP_PROTOCOL member=
reply   t3 SyncGroup error=25/UNKNOWN_MEMBER_ID assignment=
reply   t4 Heartbeat error=25/UNKNOWN_MEMBER_ID
reply   t5 LeaveGroup [m error=25/UNKNOWN_MEMBER_ID]
reply   t6 Describe g Dead type= protocol= error=69/GROUP_ID_NOT_FOUND message=Group g is not a classic group.
reply   t7 List [g type=streams Assigning streams]
reply   t8 Delete g error=68/NON_EMPTY_GROUP
reply   t9 OffsetFetch g [a/0 = 5 leader-epoch=0]
reply   t10 OffsetFetch g [a/0 = 5 leader-epoch=0]
reply   t11 OffsetCommit [a/0 error=25/UNKNOWN_MEMBER_ID]
reply   t12 OffsetCommit [a/0 error=25/UNKNOWN_MEMBER_ID]
reply   t13 OffsetFetch g [a/0 = 5 leader-epoch=0]
`
	if got := "\n" + w.out.String(); got != want {
		t.Errorf("%s", script.Difference(want, got))
	}
	for state, records := range map[string][]coordinator.Record{
		"Reconciling": {foreignRecord(t, "0014 0001 67", "0000 00000002 00")},
		"Stable":      {foreignRecord(t, "0014 0001 67", "0000 00000002 00"), foreignRecord(t, "0016 0001 67 0001 6d", "0000 00000002 00000001 01 01 01 00")},
	} {
		s := New(DefaultOptions(nil, nil))
		for _, r := range append(w.journal[:3:3], records...) {
			s.Apply(r)
		}
		if got := s.foreign["g"].state(); got != state {
			t.Errorf("the group is %s, want %s", got, state)
		}
	}
}

// An empty group of another type takes commits of tools, can be deleted, and makes room
// for classic members (GroupMetadataManager.classicGroupJoinToClassicGroup).
func TestEmptyForeignGroup(t *testing.T) {
	journal := func(w *world) []coordinator.Record {
		return []coordinator.Record{
			offsetRecord(w.now, "g", topicPartition{"a", 0}, offset{offset: 5, expires: noTime}),
			foreignRecord(t, "0013 0001 67 0001 6d", "0000 00"),
			foreignRecord(t, "0011 0001 67", "0000 00000002 00"),
			foreignRecord(t, "0014 0001 67", "0000 00000002 00"),
			foreignRecord(t, "0017 0001 67", "0000 00"),
			foreignRecord(t, "0013 0001 67 0001 6d", ""),
		}
	}
	w := newWorld(t, DefaultOptions(nil, nil))
	w.journal = journal(w)
	w.load()
	for _, line := range []string{"list", "commit offsets=a/0:6", "fetch", "delete", "list", "fetch"} {
		w.command(line)
	}
	want := `
reply   t1 List [g type=streams Empty streams]
record  offset g a/0 = 6 v4
reply   t2 OffsetCommit [a/0]
reply   t3 OffsetFetch g [a/0 = 6]
record  offset g a/0 gone
record  type 20 "g" = 
record  type 23 "g" = 
record  type 17 "g" = 
reply   t4 Delete g
reply   t5 List
reply   t6 OffsetFetch g
`
	if got := "\n" + w.out.String(); got != want {
		t.Errorf("%s", script.Difference(want, got))
	}
	w = newWorld(t, DefaultOptions(nil, nil))
	w.journal = journal(w)
	w.load()
	for _, line := range []string{"join member=stranger", "list", "join", "list", "fetch"} {
		w.command(line)
	}
	want = `
reply   t1 JoinGroup error=25/UNKNOWN_MEMBER_ID member=stranger
reply   t2 List [g type=streams Empty streams]
record  type 20 "g" = 
record  type 23 "g" = 
record  type 17 "g" = 
record  group g type= generation=0 leader=
reply   t3 JoinGroup error=79/MEMBER_ID_REQUIRED member=c-1
reply   t4 List [g type= Empty classic]
reply   t5 OffsetFetch g [a/0 = 5 leader-epoch=0]
`
	if got := "\n" + w.out.String(); got != want {
		t.Errorf("%s", script.Difference(want, got))
	}
	// A share group has state elsewhere, which is not served.
	s := newWorld(t, DefaultOptions(nil, nil))
	s.journal = append(s.journal, foreignRecord(t, "000b 0001 67", "0000 00000002 00"))
	s.load()
	for _, line := range []string{"list", "join", "commit offsets=a/0:6", "delete"} {
		s.command(line)
	}
	want = `
reply   t1 List [g type=share Empty share]
reply   t2 JoinGroup error=23/INCONSISTENT_GROUP_PROTOCOL member=
reply   t3 OffsetCommit [a/0 error=69/GROUP_ID_NOT_FOUND]
reply   t4 Delete g error=35/UNSUPPORTED_VERSION
`
	if got := "\n" + s.out.String(); got != want {
		t.Errorf("%s", script.Difference(want, got))
	}
}

// Strings that a record cannot hold are refused before anything is made of them.
func TestStringsTooLongForRecords(t *testing.T) {
	long := strings.Repeat("x", maxRecordString+1)
	w := newWorld(t, DefaultOptions(nil, nil))
	joins := map[string]args{
		"group": {"group": long}, "type": {"type": long}, "protocol": {"protocols": long}, "instance": {"instance": long},
		"client": {"client": long}, "made id": {"client": long[2:]}, "made static id": {"instance": long[2:]},
	}
	for name, a := range joins {
		r := w.ask(readEvent("join", a)).(*kmsg.JoinGroupResponse)
		want := kerr.InvalidRequest.Code
		if name == "group" {
			want = kerr.InvalidGroupID.Code
		}
		if r.ErrorCode != want {
			t.Errorf("%s: error %d, want %d", name, r.ErrorCode, want)
		}
	}
	o := DefaultOptions(nil, nil)
	o.OffsetMetadataMaxChars = math.MaxInt32
	w.start(o)
	for name, c := range map[string]struct {
		a    args
		want int16
	}{
		"group":    {args{"group": long, "offsets": "a/0:1"}, kerr.InvalidGroupID.Code},
		"topic":    {args{"offsets": long + "/0:1"}, kerr.UnknownTopicOrPartition.Code},
		"metadata": {args{"offsets": "a/0:1:" + long}, kerr.OffsetMetadataTooLarge.Code},
	} {
		r := w.ask(readEvent("commit", c.a)).(*kmsg.OffsetCommitResponse)
		if got := r.Topics[0].Partitions[0].ErrorCode; got != c.want {
			t.Errorf("%s: error %d, want %d", name, got, c.want)
		}
	}
}

func TestPendingMembersAreBounded(t *testing.T) {
	w := newWorld(t, DefaultOptions(nil, nil))
	w.sparse = true
	s := w.shard
	var last *kmsg.JoinGroupResponse
	for range maxPendingMembers + 1 {
		r := s.Handle(w.now, coordinator.Event{Token: "t", Body: readEvent("join", args{})})
		for _, rec := range r.Records {
			s.Apply(rec)
		}
		last = r.Replies[0].Body.(*kmsg.JoinGroupResponse)
	}
	if last.ErrorCode != kerr.GroupMaxSizeReached.Code || len(s.groups["g"].pending) != maxPendingMembers {
		t.Errorf("error %d with %d pending members", last.ErrorCode, len(s.groups["g"].pending))
	}
}

func TestExpiry(t *testing.T) {
	now := time.UnixMilli(1000)
	for retention, want := range map[int64]int64{
		-1: noTime, 0: 1000, 5: 1005, -2: 1000, math.MinInt64: 1000, math.MaxInt64: math.MaxInt64, math.MaxInt64 - 1000: math.MaxInt64,
	} {
		if got := expiry(now, retention); got != want {
			t.Errorf("retention %d expires at %d, want %d", retention, got, want)
		}
	}
}

func TestReadSubscription(t *testing.T) {
	for _, c := range []struct {
		metadata string
		want     string
	}{
		{"0000 00000002 0001 61 0001 62 ffffffff", "map[a:true b:true]"},
		{"0001 00000001 0001 61 00000001 ff 00000000", "map[a:true]"}, // with user data and what is owned
		{"0063 00000000 00000000", "map[]"},                           // a version of the future
		{"", "no"},
		{"0000", "no"},
		{"ffff 00000000 ffffffff", "no"},
		{"0000 ffffffff ffffffff", "no"},
		{"0000 7fffffff 0001 61", "no"},
		{"0000 00000001 0005 61", "no"},
		{"0000 00000001 ffff ffffffff", "no"},
		{"0000 00000001 0001 61", "no"},
		{"0000 00000001 0001 61 00000009 ff", "no"},
		{"0000 00000001 0001 61 fffffffe", "no"},
		{"0000 00000002 0001 61 00", "no"},
		{"0000 00000002 0001 61", "no"},
	} {
		topics := map[string]bool{}
		got := "no"
		if readSubscription(unspaced(t, c.metadata), topics) {
			got = fmt.Sprint(topics)
		} else if len(topics) > 0 {
			t.Errorf("%s: refused, but %v was taken from it", c.metadata, topics)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.metadata, got, c.want)
		}
	}
}

// Every reply can be encoded and read again at every version of its API.
func TestRepliesEncodeAtEveryVersion(t *testing.T) {
	encode := func(r kmsg.Response, version int16) {
		t.Helper()
		if r.GetVersion() != version {
			t.Errorf("%T has version %d, want %d", r, r.GetVersion(), version)
		}
		again := kmsg.ResponseForKey(r.Key())
		again.SetVersion(version)
		if err := again.ReadFrom(r.AppendTo(nil)); err != nil {
			t.Errorf("%T version %d: %v", r, version, err)
		}
	}
	for v := range int16(10) {
		o := DefaultOptions(nil, nil)
		o.InitialRebalanceDelay = 0
		w := newWorld(t, o)
		version := fmt.Sprint(v)
		a := args{"version": version, "client": "a"}
		token := w.token()
		w.send(token, readEvent("join", a))
		if r, ok := w.replies[token].(*kmsg.JoinGroupResponse); ok {
			encode(r, v)
			a["member"] = r.MemberID
			token = w.token()
			w.send(token, readEvent("join", a))
		}
		w.advance(0)
		joined := w.replies[token].(*kmsg.JoinGroupResponse)
		encode(joined, v)
		a["member"], a["generation"], a["type"], a["protocol"] = joined.MemberID, "1", "consumer", "range"
		if v <= 5 {
			encode(w.ask(readEvent("sync", a)).(kmsg.Response), v)
			encode(w.ask(readEvent("leave", args{"version": version, "members": "x", "member": "x"})).(kmsg.Response), v)
			encode(w.ask(readEvent("txn-commit", args{"offsets": "a/0:1"})).(kmsg.Response), 5)
		}
		if v <= 4 {
			encode(w.ask(readEvent("heartbeat", a)).(kmsg.Response), v)
		}
		encode(w.ask(readEvent("commit", args{"version": version, "offsets": "a/0:1"})).(kmsg.Response), v)
	}
}
