package assignor

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// rounds is the largest number of rounds over all topics in which partitions move
// for balance. Where subscriptions overlap, Kafka assumes that each round halves
// what is out of balance, and stops here.
const rounds = 16

// balance spreads the partitions over members whose subscriptions differ: first what
// is free, then from the most to the least loaded subscribers of each topic (Kafka's
// UniformHeterogeneousAssignmentBuilder).
func (p *plan) balance() {
	if len(p.subs.topics) == 0 {
		return
	}
	h := &balancing{plan: p, loads: loads{sizes: p.sizes},
		start: make([]int32, len(p.order)), end: make([]int32, len(p.order))}
	h.lists, h.listOf = p.subs.subscribers()
	h.quiet = make([]int, len(h.lists))
	topics := h.topicOrder()
	for _, t := range topics {
		h.assignFree(t)
	}
	h.balanceTopics(slices.DeleteFunc(topics, func(t int32) bool { return len(h.subscribers(t)) < 2 }))
}

// balancing is the state of balance.
type balancing struct {
	*plan
	lists  [][]int32 // different sets of members that subscribe to a topic, ascending
	listOf []int32   // list of each topic
	loads  loads

	moves int   // partitions moved so far, and 1
	quiet []int // moves when the members of a list were found to be in balance

	// Scratch for one topic: its free partitions; all of them grouped by owner, of
	// which those that may still be taken from member k are grouped[start[k]:end[k]].
	free       []int32
	grouped    []int32
	start, end []int32
}

// subscribers gives the members that subscribe to a topic.
func (h *balancing) subscribers(t int32) []int32 { return h.lists[h.listOf[t]] }

// subscribers lists the members that subscribe to each topic: topics with the same
// subscribers share a list.
func (s *subscriptions) subscribers() (lists [][]int32, listOf []int32) {
	classes := make([][]int32, len(s.topics)) // classes that subscribe to each topic
	for c, topics := range s.classes {
		for _, t := range topics {
			classes[t] = append(classes[t], int32(c))
		}
	}
	listOf = make([]int32, len(s.topics))
	shared := make(map[string]int32)
	var key []byte
	wanted := make([]int32, len(s.classes)) // classes of topic t are marked t+1
	for t := range listOf {
		key = key[:0]
		for _, c := range classes[t] {
			key = binary.NativeEndian.AppendUint32(key, uint32(c))
			wanted[c] = int32(t) + 1
		}
		n, ok := shared[string(key)]
		if !ok {
			n = int32(len(lists))
			shared[string(key)] = n
			var list []int32
			for k, c := range s.classOf {
				if wanted[c] == int32(t)+1 {
					list = append(list, int32(k))
				}
			}
			lists = append(lists, list)
		}
		listOf[t] = n
	}
	return lists, listOf
}

// topicOrder gives the topics by partitions per subscriber, descending, then by
// number of subscribers and by id, both ascending.
func (h *balancing) topicOrder() []int32 {
	order := make([]int32, len(h.subs.topics))
	for t := range order {
		order[t] = int32(t)
	}
	perSubscriber := func(t int32) float64 {
		return float64(h.subs.counts[t]) / float64(len(h.subscribers(t)))
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(
			cmp.Compare(perSubscriber(b), perSubscriber(a)),
			cmp.Compare(len(h.subscribers(a)), len(h.subscribers(b))),
			cmp.Compare(a, b),
		)
	})
	return order
}

// assignFree gives each free partition of a topic to the least loaded subscriber.
func (h *balancing) assignFree(t int32) {
	h.free = h.free[:0]
	for i := h.first[t]; i < h.first[t+1]; i++ {
		if h.owner[i] == nobody {
			h.free = append(h.free, i)
		}
	}
	if len(h.free) == 0 {
		return
	}
	h.loads.startLeast(h.subscribers(t), len(h.free))
	for _, i := range h.free {
		h.give(i, h.loads.nextLeast())
	}
}

// balanceTopics balances topic after topic, until a whole round moved nothing.
func (h *balancing) balanceTopics(topics []int32) {
	h.moves = 1
	last := -1 // the topic at which something moved last, or the first one of all
	for range rounds {
		for i, t := range topics {
			if i == last {
				return
			}
			moved := h.balanceTopic(t)
			if moved > 0 || last < 0 {
				last = i
			}
			h.moves += moved
		}
	}
}

// balanceTopic moves partitions of a topic from the most to the least loaded
// subscribers, and says how many.
func (h *balancing) balanceTopic(t int32) (moved int) {
	subscribers, quiet := h.subscribers(t), &h.quiet[h.listOf[t]]
	if *quiet == h.moves {
		return 0
	}
	if h.loads.spread(subscribers) <= 1 {
		*quiet = h.moves
		return 0
	}
	h.loads.start(subscribers)
	h.group(t)
	for !h.loads.balanced() {
		from, ok := h.loads.nextMost()
		for ok && h.start[from] >= h.end[from] {
			h.loads.exclude()
			from, ok = h.loads.nextMost()
		}
		if !ok {
			break // nobody has a partition of this topic to give
		}
		h.end[from]--
		partition := h.grouped[h.end[from]]
		to := h.loads.nextLeast()
		if h.loads.balanced() {
			break
		}
		h.give(partition, to)
		moved++
	}
	return moved
}

// group fills grouped, start and end. Every partition of the topic has an owner.
func (h *balancing) group(t int32) {
	owners := h.owner[h.first[t]:h.first[t+1]]
	for _, k := range h.subscribers(t) {
		h.end[k] = 0
	}
	for _, k := range owners {
		h.end[k]++
	}
	var at int32
	for _, k := range h.subscribers(t) {
		n := h.end[k]
		h.start[k], h.end[k] = at, at
		at += n
	}
	h.grouped = slices.Grow(h.grouped[:0], len(owners))[:len(owners)]
	for n, k := range owners {
		h.grouped[h.end[k]] = h.first[t] + int32(n)
		h.end[k]++
	}
}
