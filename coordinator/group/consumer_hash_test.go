package group

import (
	"testing"

	"github.com/rotpeter/rotpeter/metadata"
)

// rackCluster is a cluster of one topic whose partitions are in racks.
type rackCluster struct {
	noCluster
	topics []*metadata.Topic
	racks  map[int32][]string // by partition
}

func (c *rackCluster) Topic(name string) *metadata.Topic {
	for _, t := range c.topics {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func (c *rackCluster) Racks(p *metadata.Partition) []string {
	return append([]string{}, c.racks[p.Index]...)
}

// TestHashTopics holds the hashes of topics against those of Kafka 4.3.1 (Utils.computeTopicHash and computeGroupHash,
// with hash4j 0.22.0): a group that moves between the two must not seem to have changed.
func TestHashTopics(t *testing.T) {
	topic := func(name string, first, second byte, partitions int) *metadata.Topic {
		tp := &metadata.Topic{Name: name, Partitions: make([]metadata.Partition, partitions)}
		for i := range tp.ID {
			tp.ID[i] = byte(i + 1)
		}
		tp.ID[0], tp.ID[8] = first, second
		for i := range tp.Partitions {
			tp.Partitions[i].Index = int32(i)
		}
		return tp
	}
	long := "a.topic_with-a-name-that-is-rather-long-so-that-xxh3-takes-its-path-for-long-inputs-which-begins-at-240-bytes"
	for _, c := range []struct {
		topic *metadata.Topic
		racks map[int32][]string
		want  int64
	}{
		{topic("orders", 1, 9, 3), nil, 3653115502262934565},
		{topic("a", 0xf1, 0x89, 1), map[int32][]string{0: {"z", "rack-a"}}, -8634369514394986015},
		{topic(long, 1, 9, 40), map[int32][]string{0: {"a"}, 1: {"b", "a"}}, -1659205609621936583},
	} {
		s := Shard{cluster: &rackCluster{racks: c.racks}, hashes: map[string]hashedTopic{}}
		if got := int64(s.hashTopic(c.topic)); got != c.want {
			t.Errorf("the hash of %s is %d, want %d", c.topic.Name, got, c.want)
		}
	}

	a, orders := topic("a", 0xf1, 0x89, 1), topic("orders", 1, 9, 3)
	known := map[string]int64{"a": -8634369514394986015, "orders": 3653115502262934565}
	s := &Shard{cluster: &rackCluster{topics: []*metadata.Topic{orders, a}}, hashes: map[string]hashedTopic{
		"a": {a, uint64(known["a"])}, "orders": {orders, uint64(known["orders"])},
	}}
	turn := turn{Shard: s}
	for _, c := range []struct {
		names []string
		want  int64
	}{
		{nil, 0},
		{[]string{"none"}, 0},
		{[]string{"orders", "none"}, 4469793264692497189},
		{[]string{"orders", "a"}, 8556161867943961339},
	} {
		topics := map[string]topicCount{}
		for _, name := range c.names {
			topics[name] = topicCount{names: 1}
		}
		if got := turn.hashTopics(topics); got != c.want {
			t.Errorf("the hash of %v is %d, want %d", c.names, got, c.want)
		}
	}
}
