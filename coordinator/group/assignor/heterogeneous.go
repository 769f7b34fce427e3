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
	h := &balancing{plan: p, subscribers: p.subs.subscribers(), loads: loads{sizes: p.sizes},
		start: make([]int32, len(p.order)), end: make([]int32, len(p.order))}
	topics := h.topicOrder()
	for _, t := range topics {
		h.assignFree(t)
	}
	h.balanceTopics(slices.DeleteFunc(topics, func(t int32) bool { return len(h.subscribers[t]) < 2 }))
}

// balancing is the state of balance.
type balancing struct {
	*plan
	subscribers [][]int32 // members that subscribe to each topic, ascending
	loads       loads

	// Scratch for one topic: its partitions grouped by owner; those of member k that
	// may still be taken from it are grouped[start[k]:end[k]].
	grouped    []int32
	start, end []int32
}

// subscribers lists the members that subscribe to each topic. Topics with the same
// subscribers share a list.
func (s *subscriptions) subscribers() [][]int32 {
	classes := make([][]int32, len(s.topics)) // classes that subscribe to each topic
	for c, topics := range s.classes {
		for _, t := range topics {
			classes[t] = append(classes[t], int32(c))
		}
	}
	lists := make([][]int32, len(s.topics))
	shared := make(map[string][]int32)
	var key []byte
	wanted := make([]int32, len(s.classes)) // classes of topic t are marked t+1
	for t := range lists {
		key = key[:0]
		for _, c := range classes[t] {
			key = binary.NativeEndian.AppendUint32(key, uint32(c))
			wanted[c] = int32(t) + 1
		}
		list, ok := shared[string(key)]
		if !ok {
			for k, c := range s.classOf {
				if wanted[c] == int32(t)+1 {
					list = append(list, int32(k))
				}
			}
			shared[string(key)] = list
		}
		lists[t] = list
	}
	return lists
}

// topicOrder gives the topics by partitions per subscriber, descending, then by
// number of subscribers and by id, both ascending.
func (h *balancing) topicOrder() []int32 {
	order := make([]int32, len(h.subs.topics))
	for t := range order {
		order[t] = int32(t)
	}
	perSubscriber := func(t int32) float64 {
		return float64(h.subs.counts[t]) / float64(len(h.subscribers[t]))
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(
			cmp.Compare(perSubscriber(b), perSubscriber(a)),
			cmp.Compare(len(h.subscribers[a]), len(h.subscribers[b])),
			cmp.Compare(a, b),
		)
	})
	return order
}

// assignFree gives each free partition of a topic to the least loaded subscriber.
func (h *balancing) assignFree(t int32) {
	started := false
	for i := h.first[t]; i < h.first[t+1]; i++ {
		if h.owner[i] != nobody {
			continue
		}
		if !started {
			h.loads.start(h.subscribers[t])
			started = true
		}
		h.give(i, h.loads.nextLeast())
	}
}

// balanceTopics balances topic after topic, until a whole round moved nothing.
func (h *balancing) balanceTopics(topics []int32) {
	last := -1 // the topic at which something moved last, or the first one of all
	for range rounds {
		for i, t := range topics {
			if i == last {
				return
			}
			if moved := h.balanceTopic(t); moved > 0 || last < 0 {
				last = i
			}
		}
	}
}

// balanceTopic moves partitions of a topic from the most to the least loaded
// subscribers, and says how many.
func (h *balancing) balanceTopic(t int32) (moved int) {
	subscribers := h.subscribers[t]
	if h.loads.spread(subscribers) <= 1 {
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
	for _, k := range h.subscribers[t] {
		h.end[k] = 0
	}
	for _, k := range owners {
		h.end[k]++
	}
	var at int32
	for _, k := range h.subscribers[t] {
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
