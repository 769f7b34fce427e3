package metadata

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/script"
)

// apply puts records into the journal of a node, as if it had always had them.
func (n *node) apply(level int16, ms ...Message) {
	n.t.Helper()
	for _, m := range ms {
		b := AppendRecord(nil, m, recordVersion(m, level))
		n.journal = append(n.journal, b)
		n.s.Apply(coordinator.Record{Value: b})
	}
	if n.s.Err() != nil {
		n.t.Fatal(n.s.Err())
	}
}

// The journal may hold registrations of other brokers: then assignments and
// replication factors are held against them too.
func TestSeveralBrokers(t *testing.T) {
	n := newNode(t)
	n.apply(30, &FeatureLevelRecord{Name: FeatureMetadataVersion, FeatureLevel: 30})
	for id := int32(1); id <= 3; id++ {
		n.apply(30, &RegisterBrokerRecord{BrokerID: id, BrokerEpoch: 5, LogDirs: [][16]byte{testID(uint64(9000 + id))}, Fenced: id == 3})
	}
	for _, c := range []struct {
		topic NewTopic
		want  string // the message, or the replicas
	}{
		{NewTopic{Name: "two", Partitions: 3, ReplicationFactor: 2}, "[[1 2] [2 1] [1 2]]"},
		{NewTopic{Name: "three", Partitions: 2, ReplicationFactor: 3}, "[[1 2 3] [2 1 3]]"},
		{NewTopic{Name: "four", Partitions: 2, ReplicationFactor: 4}, "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because only 3 broker(s) are registered or some brokers have all their log directories cordoned."},
		{NewTopic{Name: "hand", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{1, []int32{2, 1}}, {0, []int32{3, 2}}}}, "[[3 2] [2 1]]"},
		{NewTopic{Name: "odd", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{0, []int32{2, 1}}, {1, []int32{1}}}}, "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with previous partitions, which have 2 replica(s)."},
		{NewTopic{Name: "asleep", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{0, []int32{3}}}}, "All brokers specified in the manual partition assignment for partition 0 are fenced or in controlled shutdown."},
	} {
		r := n.ask(CreateTopics{Topics: []NewTopic{c.topic}}).(TopicsCreated).Topics[0]
		got := ""
		if r.Code != 0 {
			got = *r.Message
		} else {
			replicas := [][]int32{}
			for _, p := range n.s.Image().Topic(c.topic.Name).Partitions {
				replicas = append(replicas, p.Replicas)
				if p.Leader == 3 || slices.Contains(p.ISR, 3) || p.Directories[0] != testID(uint64(9000+p.Replicas[0])) {
					t.Errorf("%s: %+v", c.topic.Name, p)
				}
			}
			got = fmt.Sprint(replicas)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.topic.Name, got, c.want)
		}
	}
	n.ask(CreatePartitions{Topics: []MorePartitions{{Name: "two", Count: 5}}})
	if p := n.s.Image().Topic("two").Partitions; !slices.Equal(p[3].Replicas, []int32{2, 1}) || !slices.Equal(p[4].Replicas, []int32{1, 2}) {
		t.Errorf("%+v", p)
	}
	n.apply(30, &UnregisterBrokerRecord{BrokerID: 2, BrokerEpoch: 5}, &BrokerRegistrationChangeRecord{BrokerID: 1, BrokerEpoch: 5, InControlledShutdown: 1})
	r := n.ask(CreatePartitions{Topics: []MorePartitions{{Name: "two", Count: 6}}}).(PartitionsCreated).Topics[0]
	if r.Code != 38 || *r.Message != "All brokers are currently fenced, or have all their log directories cordoned." {
		t.Errorf("%+v", r)
	}
	n.checkLoad()
}

// A log of an older Kafka is written on in the record versions that it knows.
func TestOlderMetadataVersion(t *testing.T) {
	for _, level := range []int16{7, 14, 17, 23, 29} {
		n := newNode(t)
		n.apply(level, &FeatureLevelRecord{Name: FeatureMetadataVersion, FeatureLevel: level})
		if b := n.ask(Bootstrap{}).(Bootstrapped); b.Fresh || b.Aborted {
			t.Errorf("level %d: %+v", level, b)
		}
		n.ask(n.registration(args{}))
		n.ask(CreateTopics{Topics: []NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 1}}})
		for _, b := range n.journal {
			m, version, err := DecodeRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			if want := recordVersion(m, level); version != want {
				t.Errorf("level %d: %s in version %d, want %d", level, m.Type(), version, want)
			}
			if m.Type() == TypeRegisterController && level < levelControllerRegistration {
				t.Errorf("level %d has controller registrations", level)
			}
		}
		want := DirectoryMigrating
		if level >= levelDirectoryAssignment {
			want = testID(9000)
		}
		if p := n.s.Image().Topic("t").Partition(0); !reflect.DeepEqual(p.Directories, [][16]byte{want}) {
			t.Errorf("level %d: directories %v", level, p.Directories)
		}
		n.checkLoad()
	}
}

// Elections of more partitions than fit a batch are one transaction: a journal
// that was cut off in its middle loads as if there had been none.
func TestManyElections(t *testing.T) {
	n := newNode(t)
	n.do(Bootstrap{})
	n.do(n.registration(args{}))
	for _, name := range []string{"a", "b"} {
		n.do(CreateTopics{Topics: []NewTopic{{Name: name, Partitions: 6000, ReplicationFactor: 1}}})
	}
	whole := n.journal
	before := n.s.Image()
	res := n.do(n.registration(args{"epoch": "20"}))
	if r := res.Replies[0].Body.(Registered); r.Elected != 12_000 || len(res.Records) != 12_000+3+2 {
		t.Fatalf("%+v with %d records", r, len(res.Records))
	}
	first, _, _ := DecodeRecord(res.Records[0].Value)
	last, _, _ := DecodeRecord(res.Records[len(res.Records)-1].Value)
	if first.Type() != TypeBeginTransaction || last.Type() != TypeEndTransaction {
		t.Errorf("from %s to %s", first.Type(), last.Type())
	}
	if p := n.s.Image().Topic("b").Partition(5999); p.LeaderEpoch != 1 {
		t.Errorf("leader epoch %d", p.LeaderEpoch)
	}
	if before.Topic("b").Partition(5999).LeaderEpoch != 0 {
		t.Error("a published image changed")
	}
	n.checkLoad()

	n.journal = append(slices.Clone(whole), n.journal[len(whole):len(whole)+MaxRecordsPerBatch]...)
	n.s = n.load()
	if got, want := dumpImage(n.s.Image()), dumpImage(before); got != want {
		t.Fatalf("half a transaction shows: %s", script.Difference(want, got))
	}
	if b := n.ask(Bootstrap{}).(Bootstrapped); !b.Aborted || b.Fresh {
		t.Errorf("%+v", b)
	}
	n.checkLoad()
}

func TestProducerIDsRunOut(t *testing.T) {
	n := newNode(t)
	n.apply(30, &ProducerIDsRecord{NextProducerID: math.MaxInt64 - ProducerIDBlockSize})
	if b := n.ask(AllocateProducerIDs{}).(ProducerIDBlock); b.Count != ProducerIDBlockSize || b.First+int64(b.Count) != math.MaxInt64 {
		t.Errorf("%+v", b)
	}
	if res := n.do(AllocateProducerIDs{}); res.Replies[0].Body.(ProducerIDBlock).Count != 0 || len(res.Records) != 0 {
		t.Errorf("%+v", res)
	}
	// A record that goes back does not bring ids back.
	n.apply(30, &ProducerIDsRecord{NextProducerID: 5})
	if n.s.Image().NextProducerID != math.MaxInt64 {
		t.Errorf("next %d", n.s.Image().NextProducerID)
	}
}

// Settings of a topic follow it, also when they come first; they go with it.
func TestConfigsOfTopics(t *testing.T) {
	n := newNode(t)
	v := "1"
	set := func(typ ResourceType, name, key string, value *string) *ConfigRecord {
		return &ConfigRecord{ResourceType: int8(typ), ResourceName: name, Name: key, Value: value}
	}
	n.apply(30, set(ResourceTopic, "t", "a", &v), &TopicRecord{Name: "t", TopicID: testID(50)}, set(ResourceTopic, "t", "b", &v),
		set(ResourceBroker, "1", "x", &v), set(ResourceBroker, "", "y", &v), set(ResourceGroup, "g2", "z", &v), set(ResourceGroup, "g1", "z", &v))
	img := n.s.Image()
	want := map[string]string{"a": "1", "b": "1"}
	if !reflect.DeepEqual(img.TopicConfigs("t"), want) || !reflect.DeepEqual(img.Topic("t").Configs, want) {
		t.Errorf("topic has %v", img.TopicConfigs("t"))
	}
	if img.BrokerConfigs(1)["x"] != "1" || img.ClusterConfigs()["y"] != "1" || img.BrokerConfigs(2) != nil || img.TopicConfigs("u") != nil {
		t.Error("settings of brokers")
	}
	if got := img.ConfiguredNames(ResourceGroup); !slices.Equal(got, []string{"g1", "g2"}) {
		t.Errorf("groups %v", got)
	}
	if got := img.ConfiguredNames(ResourceTopic); !slices.Equal(got, []string{"t"}) {
		t.Errorf("topics %v", got)
	}
	n.apply(30, set(ResourceTopic, "t", "a", nil), set(ResourceGroup, "g1", "z", nil))
	if got := n.s.Image(); len(got.TopicConfigs("t")) != 1 || got.Configs(Resource{ResourceGroup, "g1"}) != nil || !reflect.DeepEqual(img.TopicConfigs("t"), want) {
		t.Error("settings removed")
	}
	n.apply(30, &RemoveTopicRecord{TopicID: testID(50)}, &TopicRecord{Name: "t", TopicID: testID(51)})
	if got := n.s.Image().TopicConfigs("t"); got != nil {
		t.Errorf("the new topic has %v", got)
	}
	n.checkLoad()
}

// ClearElr touches what has an ELR and raises its partition epoch (KIP-966).
func TestClearElr(t *testing.T) {
	n := newNode(t)
	part := func(id uint64, index int32, elr []int32) *PartitionRecord {
		return &PartitionRecord{TopicID: testID(id), PartitionID: index, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1,
			Directories: [][16]byte{{1}}, EligibleLeaderReplicas: elr, LastKnownElr: elr}
	}
	n.apply(30, &TopicRecord{Name: "t", TopicID: testID(50)}, part(50, 0, nil), part(50, 1, []int32{1}),
		&TopicRecord{Name: "u", TopicID: testID(51)}, part(51, 0, []int32{1}))
	epochs := func() []int32 {
		img := n.s.Image()
		return []int32{img.Topic("t").Partition(0).PartitionEpoch, img.Topic("t").Partition(1).PartitionEpoch, img.Topic("u").Partition(0).PartitionEpoch}
	}
	old := n.s.Image()
	n.apply(30, &ClearElrRecord{TopicName: "t"})
	if got := epochs(); !slices.Equal(got, []int32{0, 1, 0}) || len(n.s.Image().Topic("t").Partition(1).ELR) != 0 || len(n.s.Image().Topic("u").Partition(0).ELR) != 1 {
		t.Errorf("one topic: %v", got)
	}
	n.apply(30, &ClearElrRecord{})
	if got := epochs(); !slices.Equal(got, []int32{0, 1, 1}) || len(old.Topic("u").Partition(0).ELR) != 1 {
		t.Errorf("all topics: %v", got)
	}
	n.checkLoad()
}

// Partitions that arrive out of order end up in order, and a topic of which some
// are missing can still be asked.
func TestPartitionsOutOfOrder(t *testing.T) {
	n := newNode(t)
	n.apply(30, &TopicRecord{Name: "t", TopicID: testID(50)})
	for _, i := range []int32{2, 0, 3} {
		n.apply(30, &PartitionRecord{TopicID: testID(50), PartitionID: i, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1, Directories: [][16]byte{{1}}})
	}
	topic := n.s.Image().Topic("t")
	if topic.Partition(1) != nil || topic.Partition(4) != nil || topic.Partition(-1) != nil || topic.Partition(3).Index != 3 || topic.Partition(2).Index != 2 {
		t.Errorf("%+v", topic.Partitions)
	}
}

// The same image comes back while nothing changes; At gives it a position.
func TestImageIdentity(t *testing.T) {
	n := newNode(t)
	n.do(Bootstrap{})
	a := n.s.Image()
	n.apply(30, &NoOpRecord{}, &ZkMigrationStateRecord{})
	if n.s.Image() != a {
		t.Error("a new image without a change")
	}
	b := a.At(17, 3)
	if b.Offset != 17 || b.LeaderEpoch != 3 || a.Offset != -1 || b.Feature(FeatureMetadataVersion) != 30 {
		t.Errorf("%d %d %d", b.Offset, b.LeaderEpoch, a.Offset)
	}
	if c, d, g := Diff(a, b); c != nil || d != nil || g != nil {
		t.Error("a difference")
	}
	if _, ok := n.s.Deadline(); ok {
		t.Error("a deadline")
	}
	if res := n.s.Handle(timeZero, coordinator.Event{Body: coordinator.Tick{}}); len(res.Replies)+len(res.Records) != 0 {
		t.Errorf("%+v", res)
	}
	// Nobody waits: no reply.
	if res := n.s.Handle(timeZero, coordinator.Event{Body: FenceBroker{}}); len(res.Replies) != 0 {
		t.Errorf("%+v", res)
	}
	if f := n.ask(FenceBroker{}).(Fenced); f.Epoch != -1 {
		t.Errorf("%+v", f)
	}
}
