package metadata

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/script"
)

// checkImage holds what is true of every image.
func checkImage(img *Image) error {
	topics, partitions := 0, 0
	last := ""
	for t := range img.All() {
		if topics > 0 && t.Name <= last {
			return fmt.Errorf("topics %q and %q are not in order", last, t.Name)
		}
		last = t.Name
		topics++
		partitions += len(t.Partitions)
		if img.Topic(t.Name) != t || img.TopicByID(t.ID) != t {
			return fmt.Errorf("topic %s is not found by name and id", t.Name)
		}
		for i, p := range t.Partitions {
			if int(p.Index) != i || t.Partition(p.Index) != &t.Partitions[i] {
				return fmt.Errorf("partition %d of topic %s is at %d", p.Index, t.Name, i)
			}
			if len(p.Replicas) != len(p.Directories) {
				return fmt.Errorf("partition %d of topic %s has %d replicas and %d directories", i, t.Name, len(p.Replicas), len(p.Directories))
			}
			if p.Leader != NoLeader && !slices.Contains(p.ISR, p.Leader) {
				return fmt.Errorf("leader %d of %s-%d is not in the ISR %v", p.Leader, t.Name, i, p.ISR)
			}
		}
	}
	if topics != img.TopicCount() || partitions != img.PartitionCount() {
		return fmt.Errorf("%d topics with %d partitions, counted as %d and %d", topics, partitions, img.TopicCount(), img.PartitionCount())
	}
	n := 0
	for _, part := range img.byID.part {
		if part != nil {
			n += len(part.m)
		}
	}
	if n != topics {
		return fmt.Errorf("%d topics by id, %d in the list", n, topics)
	}
	return nil
}

// model is what a random run expects: the partitions of each topic, by name.
type model map[string]int

// TestRandomRuns makes random requests and holds the image against a map. Images
// taken on the way must not change, load must equal live, and Diff must tell what
// happened in between.
func TestRandomRuns(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			n := newNode(t)
			n.do(Bootstrap{})
			n.do(n.registration(args{}))
			m := model{}
			type kept struct {
				img    *Image
				text   string
				topics model
			}
			var old []kept
			for step := range 150 {
				n.step(rng, m)
				if step%10 == 0 {
					old = append(old, kept{n.s.Image(), dumpImage(n.s.Image()), maps.Clone(m)})
				}
				if rng.IntN(40) == 0 {
					n.checkLoad()
					n.s = n.load()
				}
			}
			n.checkLoad()
			checkModel(t, n.s.Image(), m)
			for _, k := range old {
				if got := dumpImage(k.img); got != k.text {
					t.Fatalf("a published image changed: %s", script.Difference(k.text, got))
				}
				checkModel(t, k.img, k.topics)
				if err := checkImage(k.img); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				a, b := old[rng.IntN(len(old))].img, old[rng.IntN(len(old))].img
				checkDiff(t, a, b)
			}
		})
	}
}

func checkModel(t *testing.T, img *Image, m model) {
	t.Helper()
	got := model{}
	for _, topic := range img.Topics() {
		got[topic.Name] = len(topic.Partitions)
	}
	if !maps.Equal(got, m) {
		t.Fatalf("topics %v, want %v", got, m)
	}
}

// step makes one random request.
func (n *node) step(rng *rand.Rand, m model) {
	name := func() string {
		return []string{"t", "u.", "u_", "__x", "w-"}[rng.IntN(5)] + fmt.Sprint(rng.IntN(40))
	}
	switch rng.IntN(10) {
	case 0, 1, 2, 3, 4:
		c := CreateTopics{ValidateOnly: rng.IntN(5) == 0}
		for range 1 + rng.IntN(4) {
			c.Topics = append(c.Topics, NewTopic{Name: name(), Partitions: rng.Int32N(5) - 1, ReplicationFactor: 1})
		}
		for _, r := range n.ask(c).(TopicsCreated).Topics {
			if r.Code == 0 && !c.ValidateOnly {
				m[r.Name] = int(r.Partitions)
			}
		}
	case 5, 6:
		d := DeleteTopics{}
		for range 1 + rng.IntN(3) {
			s := name()
			d.Topics = append(d.Topics, TopicRef{Name: &s})
		}
		for _, r := range n.ask(d).(TopicsDeleted).Topics {
			if r.Code == 0 {
				delete(m, *r.Name)
			}
		}
	case 7, 8:
		c := CreatePartitions{Topics: []MorePartitions{{Name: name(), Count: rng.Int32N(9)}}}
		if r := n.ask(c).(PartitionsCreated).Topics[0]; r.Code == 0 {
			m[r.Name] = int(c.Topics[0].Count)
		}
	case 9:
		before := n.s.Image().NextProducerID
		if b := n.ask(AllocateProducerIDs{}).(ProducerIDBlock); b.First != before || n.s.Image().NextProducerID != before+int64(b.Count) {
			n.t.Fatalf("block %+v after %d", b, before)
		}
		if rng.IntN(3) == 0 {
			n.do(RegisterBroker{Epoch: rng.Int64N(1000), Directories: [][16]byte{testID(9000)}, Clean: rng.IntN(2) == 0})
		}
	}
}

// checkDiff holds Diff against the lists of all topics.
func checkDiff(t *testing.T, a, b *Image) {
	t.Helper()
	var want, got [3][]string
	for _, x := range b.Topics() {
		y := a.TopicByID(x.ID)
		if y == nil {
			want[0] = append(want[0], x.Name)
		} else if len(x.Partitions) > len(y.Partitions) {
			want[2] = append(want[2], x.Name)
		}
	}
	for _, x := range a.Topics() {
		if b.TopicByID(x.ID) == nil {
			want[1] = append(want[1], x.Name)
		}
	}
	created, deleted, grown := Diff(a, b)
	for i, ts := range [][]*Topic{created, deleted, grown} {
		for _, x := range ts {
			got[i] = append(got[i], x.Name)
		}
		if !slices.Equal(got[i], want[i]) {
			t.Fatalf("Diff list %d is %v, want %v", i, got[i], want[i])
		}
	}
}

// Many topics, created and deleted in random order, stay sorted and findable, and
// From begins anywhere.
func TestManyTopics(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	d := newDraft("c", 1)
	want := map[string]bool{}
	for i := range 6000 {
		name := fmt.Sprintf("topic-%05d", rng.IntN(4000))
		if want[name] {
			if err := d.apply(&RemoveTopicRecord{TopicID: d.img.Topic(name).ID}); err != nil {
				t.Fatal(err)
			}
			delete(want, name)
		} else {
			if err := d.apply(&TopicRecord{Name: name, TopicID: testID(uint64(i + 10))}); err != nil {
				t.Fatal(err)
			}
			want[name] = true
		}
		if i%500 == 0 {
			if err := checkImage(d.freeze()); err != nil {
				t.Fatal(err)
			}
		}
	}
	img := d.freeze()
	names := slices.Sorted(maps.Keys(want))
	for range 50 {
		from := fmt.Sprintf("topic-%05d", rng.IntN(4001))
		var got []string
		for x := range img.From(from) {
			if got = append(got, x.Name); len(got) == 3 {
				break
			}
		}
		i, _ := slices.BinarySearch(names, from)
		if w := names[i:min(i+3, len(names))]; !slices.Equal(got, w) {
			t.Fatalf("from %s: %v, want %v", from, got, w)
		}
	}
	for name := range want {
		if err := d.apply(&RemoveTopicRecord{TopicID: d.img.Topic(name).ID}); err != nil {
			t.Fatal(err)
		}
	}
	if empty := d.freeze(); empty.TopicCount() != 0 || len(empty.Topics()) != 0 || len(empty.list.chunks) != 0 {
		t.Fatalf("%d topics left", empty.TopicCount())
	}
}

// An abort leaves no trace, even though the pieces were changed in place.
func TestTransactionAborted(t *testing.T) {
	n := newNode(t)
	n.do(Bootstrap{})
	n.do(n.registration(args{}))
	n.do(CreateTopics{Topics: []NewTopic{{Name: "a.b", Partitions: 2, ReplicationFactor: 1}}})
	before := dumpImage(n.s.Image())
	id := n.s.Image().Topic("a.b").ID
	value := "1"
	apply := func(ms ...Message) {
		for _, m := range ms {
			b := AppendRecord(nil, m, recordVersion(m, 30))
			n.journal = append(n.journal, b)
			n.s.Apply(coordinator.Record{Value: b})
		}
	}
	apply(&BeginTransactionRecord{},
		&TopicRecord{Name: "x.y", TopicID: testID(500)},
		&PartitionChangeRecord{TopicID: id, PartitionID: 1, Leader: NoLeader, LeaderRecoveryState: noRecoveryChange},
		&ConfigRecord{ResourceType: int8(ResourceTopic), ResourceName: "a.b", Name: "retention.ms", Value: &value},
		&ConfigRecord{ResourceType: int8(ResourceGroup), ResourceName: "g", Name: "x", Value: &value},
		&RemoveTopicRecord{TopicID: testID(500)},
		&TopicRecord{Name: "z.z", TopicID: testID(501)},
		&ProducerIDsRecord{NextProducerID: 5000})
	if got := dumpImage(n.s.Image()); got != before {
		t.Fatalf("inside the transaction: %s", script.Difference(before, got))
	}
	apply(&AbortTransactionRecord{})
	if got := dumpImage(n.s.Image()); got != before {
		t.Fatalf("after the abort: %s", script.Difference(before, got))
	}
	n.checkLoad()
	// The names of the aborted transaction collide with nothing.
	r := n.ask(CreateTopics{Topics: []NewTopic{{Name: "z_z", Partitions: 1, ReplicationFactor: 1}, {Name: "a_b", Partitions: 1, ReplicationFactor: 1}}}).(TopicsCreated)
	if r.Topics[0].Code != 0 || r.Topics[1].Code != 17 {
		t.Fatalf("codes %d %d", r.Topics[0].Code, r.Topics[1].Code)
	}
}

// A log that does not make sense is not applied any further, and says why.
func TestUnreadableLogs(t *testing.T) {
	topic := &TopicRecord{Name: "t", TopicID: testID(50)}
	for name, c := range map[string]struct {
		ms   []Message
		want string
	}{
		"topic twice":              {[]Message{topic, topic}, "exists already"},
		"id twice":                 {[]Message{topic, &TopicRecord{Name: "u", TopicID: testID(50)}}, "another topic has the id"},
		"partition without topic":  {[]Message{&PartitionRecord{TopicID: testID(9)}}, "unknown topic"},
		"negative partition":       {[]Message{topic, &PartitionRecord{TopicID: testID(50), PartitionID: -1}}, "partition -1"},
		"change without topic":     {[]Message{&PartitionChangeRecord{TopicID: testID(9)}}, "unknown topic"},
		"change without partition": {[]Message{topic, &PartitionChangeRecord{TopicID: testID(50)}}, "unknown partition"},
		"removal without topic":    {[]Message{&RemoveTopicRecord{TopicID: testID(9)}}, "unknown topic"},
		"ELR without topic":        {[]Message{&ClearElrRecord{TopicName: "x"}}, "unknown topic"},
		"newer metadata.version":   {[]Message{&FeatureLevelRecord{Name: "metadata.version", FeatureLevel: 31}}, "levels 7 to 30"},
		"older metadata.version":   {[]Message{&FeatureLevelRecord{Name: "metadata.version", FeatureLevel: 6}}, "levels 7 to 30"},
		"unknown feature":          {[]Message{&FeatureLevelRecord{Name: "new.version", FeatureLevel: 1}}, "new.version is not supported"},
		"unknown broker":           {[]Message{&UnfenceBrokerRecord{ID: 1, Epoch: 1}}, "no registration of broker 1"},
		"other epoch":              {[]Message{&RegisterBrokerRecord{BrokerID: 1, BrokerEpoch: 5}, &FenceBrokerRecord{ID: 1, Epoch: 4}}, "its epoch is 5"},
		"end without begin":        {[]Message{&EndTransactionRecord{}}, "no transaction is open"},
		"abort without begin":      {[]Message{&AbortTransactionRecord{}}, "no transaction is open"},
		"begin twice":              {[]Message{&BeginTransactionRecord{}, &BeginTransactionRecord{}}, "inside another one"},
		"value for fenced":         {[]Message{&RegisterBrokerRecord{BrokerID: 1}, &BrokerRegistrationChangeRecord{BrokerID: 1, Fenced: 2}}, "value 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewShard(ShardOptions{NodeID: 1})
			for _, m := range c.ms {
				s.Apply(coordinator.Record{Value: AppendRecord(nil, m, recordVersion(m, 30))})
			}
			if s.Err() == nil || !strings.Contains(s.Err().Error(), c.want) {
				t.Fatalf("error %v, want %s", s.Err(), c.want)
			}
			before := dumpImage(s.Image())
			s.Apply(coordinator.Record{Value: AppendRecord(nil, &TopicRecord{Name: "later", TopicID: testID(60)}, 0)})
			if got := dumpImage(s.Image()); got != before {
				t.Fatal("applied after the error")
			}
			res := s.Handle(timeZero, coordinator.Event{Token: 1, Body: Bootstrap{}})
			if u, ok := res.Replies[0].Body.(Unreadable); !ok || u.Err != s.Err() || len(res.Records) != 0 {
				t.Fatalf("result %+v", res)
			}
		})
	}
	s := NewShard(ShardOptions{NodeID: 1})
	s.Apply(coordinator.Record{Value: []byte{1, 99, 0, 0}})
	if s.Err() == nil {
		t.Fatal("an unknown record was accepted")
	}
}
