package assignor

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// subscriptions numbers the topics of a group, and says who subscribes to which.
// Members with equal subscriptions form a class.
type subscriptions struct {
	topics  []Topic   // ascending, as compareTopics orders them
	counts  []int32   // number of partitions of each topic
	classes [][]int32 // topics of each class, ascending
	classOf []int32   // class of each member, in the order of visit
}

// subscribe reads the subscriptions of the members, in the order of visit.
func subscribe(spec *Spec, order []int32) (*subscriptions, error) {
	s := &subscriptions{classOf: make([]int32, len(order))}
	lists := [][]Topic{spec.Members[order[0]].Topics}
	if !spec.Homogeneous {
		lists = classify(spec, order, s.classOf)
	}
	s.number(lists)
	s.counts = make([]int32, len(s.topics))
	var total int64
	for i, t := range s.topics {
		n := spec.Partitions(t)
		if n <= 0 {
			return nil, fmt.Errorf("members subscribe to topic %x, which has no partitions", t)
		}
		s.counts[i] = n
		total += int64(n)
	}
	if total > math.MaxInt32 {
		return nil, fmt.Errorf("members subscribe to %d partitions, more than can be numbered", total)
	}
	return s, nil
}

// classify finds the different subscriptions of the members and writes into classOf
// which of them each member has.
func classify(spec *Spec, order, classOf []int32) [][]Topic {
	var lists [][]Topic
	byStart := make(map[*Topic]int32)  // the slice that members share
	byHash := make(map[uint64][]int32) // equal lists in different slices
	for k, m := range order {
		topics := spec.Members[m].Topics
		if len(topics) > 0 {
			if c, ok := byStart[&topics[0]]; ok && len(lists[c]) == len(topics) {
				classOf[k] = c
				continue
			}
		}
		hash := hashTopics(topics)
		same := byHash[hash]
		i := slices.IndexFunc(same, func(c int32) bool { return slices.Equal(lists[c], topics) })
		if i < 0 {
			i = len(same)
			same = append(same, int32(len(lists)))
			byHash[hash] = same
			lists = append(lists, topics)
		}
		classOf[k] = same[i]
		if len(topics) > 0 {
			byStart[&topics[0]] = same[i]
		}
	}
	return lists
}

// hashTopics mixes the ids of a list; lists with equal hashes are compared.
func hashTopics(topics []Topic) uint64 {
	hash := uint64(len(topics))
	for i := range topics {
		hi, lo := binary.BigEndian.Uint64(topics[i][:8]), binary.BigEndian.Uint64(topics[i][8:])
		hash = (hash ^ hi) * 0x9e3779b97f4a7c15
		hash = (hash>>29 ^ hash ^ lo) * 0xbf58476d1ce4e5b9
	}
	return hash
}

// number gives each topic of the lists its number, and turns the lists into classes.
func (s *subscriptions) number(lists [][]Topic) {
	seen := make(map[Topic]int32, len(lists[0]))
	for _, list := range lists {
		numbers := make([]int32, len(list))
		for i, t := range list {
			n, ok := seen[t]
			if !ok {
				n = int32(len(s.topics))
				seen[t] = n
				s.topics = append(s.topics, t)
			}
			numbers[i] = n
		}
		s.classes = append(s.classes, numbers)
	}
	// The numbers so far are those of the order in which topics came up.
	sorted := make([]int32, len(s.topics))
	for i := range sorted {
		sorted[i] = int32(i)
	}
	slices.SortFunc(sorted, func(a, b int32) int { return compareTopics(s.topics[a], s.topics[b]) })
	rank, topics := make([]int32, len(sorted)), make([]Topic, len(sorted))
	for r, n := range sorted {
		rank[n] = int32(r)
		topics[r] = s.topics[n]
	}
	s.topics = topics
	for c, class := range s.classes {
		for i, n := range class {
			class[i] = rank[n]
		}
		slices.Sort(class)
		s.classes[c] = slices.Compact(class)
	}
}

// of gives the topics of a member, by its place in the order of visit.
func (s *subscriptions) of(k int) []int32 { return s.classes[s.classOf[k]] }

// find gives the number of a topic that a member subscribes to.
func (s *subscriptions) find(k int, topic Topic) (t int32, subscribed bool) {
	n, ok := slices.BinarySearchFunc(s.topics, topic, compareTopics)
	if !ok {
		return 0, false
	}
	_, subscribed = slices.BinarySearch(s.of(k), int32(n))
	return int32(n), subscribed
}

// compareTopics is the order of Kafka's Uuid.compareTo: two signed numbers.
func compareTopics(a, b Topic) int {
	if c := cmp.Compare(int64(binary.BigEndian.Uint64(a[:8])), int64(binary.BigEndian.Uint64(b[:8]))); c != 0 {
		return c
	}
	return cmp.Compare(int64(binary.BigEndian.Uint64(a[8:])), int64(binary.BigEndian.Uint64(b[8:])))
}
