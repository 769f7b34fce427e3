package assignor

import (
	"cmp"
	"slices"
)

// ranges is the range assignor.
type ranges struct{}

func (ranges) Name() string { return "range" }

func (ranges) Assign(spec *Spec) ([]map[Topic][]int32, error) {
	result := make([]map[Topic][]int32, len(spec.Members))
	if len(spec.Members) == 0 {
		return result, nil
	}
	order := rangeOrder(spec.Members)
	subs, err := subscribe(spec, order)
	if err != nil {
		return nil, err
	}
	cuts := make([]cut, len(subs.topics))
	classSizes := make([]int32, len(subs.classes))
	for _, c := range subs.classOf {
		classSizes[c]++
	}
	for c, topics := range subs.classes {
		for _, t := range topics {
			cuts[t].members += classSizes[c]
		}
	}
	var most int32
	for t, n := range subs.counts {
		cuts[t].quota, cuts[t].extra = n/cuts[t].members, n%cuts[t].members
		most = max(most, n)
	}
	// Every range of every topic is a piece of this list.
	numbers := make([]int32, most)
	for i := range numbers {
		numbers[i] = int32(i)
	}
	var pieces []piece
	for k, m := range order {
		pieces = pieces[:0]
		topics := subs.of(k)
		left := topics[:0] // those that the rest of the class may get something of
		for _, t := range topics {
			if cuts[t].next == subs.counts[t] {
				continue
			}
			left = append(left, t)
			if from, to := cuts[t].take(); from < to {
				pieces = append(pieces, piece{subs.topics[t], numbers[from:to:to]})
			}
		}
		subs.classes[subs.classOf[k]] = left
		result[m] = assemble(spec.Members[m].Assigned, pieces)
	}
	return result, nil
}

// cut is the state of cutting one topic into ranges.
type cut struct {
	members int32 // subscribers
	quota   int32 // partitions for each of them
	extra   int32 // how many of those to come get one more
	next    int32 // first partition that nobody has
}

// take gives the next range, from inclusive, to exclusive. The quotas of all
// subscribers add up to the partitions of the topic.
func (c *cut) take() (from, to int32) {
	from = c.next
	c.next += c.quota
	if c.extra > 0 {
		c.next++
		c.extra--
	}
	return from, c.next
}

// piece is the range of one topic that one member gets.
type piece struct {
	topic      Topic
	partitions []int32
}

// assemble gives the assignment of a member: the old one if it consists of the pieces.
func assemble(old map[Topic][]int32, pieces []piece) map[Topic][]int32 {
	same := len(old) == len(pieces)
	for i := 0; same && i < len(pieces); i++ {
		same = slices.Equal(old[pieces[i].topic], pieces[i].partitions)
	}
	if same {
		return old
	}
	assigned := make(map[Topic][]int32, len(pieces))
	for _, p := range pieces {
		assigned[p.topic] = p.partitions
	}
	return assigned
}

// rangeOrder gives the members in the order in which they get their ranges: static
// members by instance id, so that a restart does not shuffle them, then the others
// by member id.
func rangeOrder(members []Member) []int32 {
	return sortMembers(members, func(a, b *Member) int {
		switch {
		case a.InstanceID != "" && b.InstanceID != "":
			return cmp.Or(compareJava(a.InstanceID, b.InstanceID), compareJava(a.ID, b.ID))
		case a.InstanceID != "":
			return -1
		case b.InstanceID != "":
			return 1
		}
		return compareJava(a.ID, b.ID)
	})
}

// sortMembers gives the places of the members in an order.
func sortMembers(members []Member, compare func(a, b *Member) int) []int32 {
	order := make([]int32, len(members))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return compare(&members[a], &members[b]) })
	return order
}
