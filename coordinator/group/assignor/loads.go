package assignor

import (
	"cmp"
	"slices"
)

// loads picks the least and the most loaded of a set of members, again and again,
// while partitions move from the one to the other (Kafka's MemberAssignmentBalancer
// in UniformHeterogeneousAssignmentBuilder).
//
// The members are sorted by their number of partitions. Two ranges of them take
// turns, each beginning with one level of load: the one at the left gets a partition
// for each of its members and then takes in those that now have as many, and the one
// at the right does the same downwards.
//
//	partitions |          ##[  #  ]##  <- these were excluded: nothing to give
//	           |        ####[<-###]##
//	           | [## ->]####[#####]##
//	           +-----------------------
//	             least       most
type loads struct {
	sizes  []int32 // partitions of each member; the owner of this struct keeps it up to date
	sorted []int32 // the members
	counts []int32 // scratch of sort

	leastEnd   int   // the range of the least loaded ends before this
	leastLevel int32 // partitions of each of them before this turn
	leastNext  int   // whose turn it is

	mostStart, mostEnd int   // the range of the most loaded
	mostLevel          int32 // partitions of each of them before this turn
	mostNext           int   // whose turn it is
}

// spread gives the difference between the largest and the smallest number of partitions.
func (l *loads) spread(members []int32) int32 {
	low, high := l.extent(members)
	return high - low
}

// extent gives the smallest and the largest number of partitions.
func (l *loads) extent(members []int32) (low, high int32) {
	low = l.sizes[members[0]]
	high = low
	for _, k := range members[1:] {
		n := l.sizes[k]
		low, high = min(low, n), max(high, n)
	}
	return low, high
}

// start begins with a set of members: at least one, ascending.
func (l *loads) start(members []int32) {
	low, high := l.extent(members)
	l.sort(members, low, high)
	l.leastEnd, l.leastLevel, l.leastNext = 0, low-1, 0
	l.mostStart, l.mostEnd = len(members), len(members)
	l.mostLevel, l.mostNext = high+1, len(members)-1
}

// startLeast begins with a set of members for no more than n calls of nextLeast, and no
// other. If n of them have the smallest number of partitions, it need not sort the others.
func (l *loads) startLeast(members []int32, n int) {
	low, high := l.extent(members)
	l.sorted = l.sorted[:0]
	for _, k := range members {
		if len(l.sorted) == n {
			break
		}
		if l.sizes[k] == low {
			l.sorted = append(l.sorted, k)
		}
	}
	if len(l.sorted) < n {
		l.sort(members, low, high)
	}
	l.leastEnd, l.leastLevel, l.leastNext = 0, low-1, 0
}

// sort sorts ascending members by their number of partitions, then by number. The
// numbers of partitions mostly lie close together; then it takes linear time.
func (l *loads) sort(members []int32, low, high int32) {
	l.sorted = slices.Grow(l.sorted[:0], len(members))[:len(members)]
	if int(high-low) > 4*len(members) {
		copy(l.sorted, members)
		slices.SortFunc(l.sorted, func(a, b int32) int {
			return cmp.Or(cmp.Compare(l.sizes[a], l.sizes[b]), cmp.Compare(a, b))
		})
		return
	}
	levels := int(high-low) + 1
	l.counts = slices.Grow(l.counts[:0], levels)[:levels]
	clear(l.counts)
	for _, k := range members {
		l.counts[l.sizes[k]-low]++
	}
	var at int32
	for i, n := range l.counts {
		l.counts[i] = at
		at += n
	}
	for _, k := range members {
		place := &l.counts[l.sizes[k]-low]
		l.sorted[*place] = k
		*place++
	}
}

// nextLeast gives the member that gets the next partition.
func (l *loads) nextLeast() int32 {
	if l.leastNext >= l.leastEnd {
		l.leastLevel++
		for l.leastEnd < len(l.sorted) && l.sizes[l.sorted[l.leastEnd]] == l.leastLevel {
			l.leastEnd++
		}
		l.leastNext = 0
	}
	k := l.sorted[l.leastNext]
	l.leastNext++
	return k
}

// nextMost gives the member that the next partition is taken from; ok is false when
// all are excluded.
func (l *loads) nextMost() (k int32, ok bool) {
	if l.mostNext < l.mostStart {
		if l.mostEnd <= l.mostStart && l.mostStart > 0 {
			// All of the range were excluded: go on at the level of the next below it.
			l.mostLevel = l.sizes[l.sorted[l.mostStart-1]]
		} else {
			l.mostLevel--
		}
		for l.mostStart > 0 && l.sizes[l.sorted[l.mostStart-1]] == l.mostLevel {
			l.mostStart--
		}
		l.mostNext = l.mostEnd - 1
	}
	if l.mostNext < 0 {
		return nobody, false
	}
	k = l.sorted[l.mostNext]
	l.mostNext--
	return k, true
}

// exclude takes the member that nextMost gave last out of the range of the most loaded.
func (l *loads) exclude() {
	at, end := l.mostNext+1, l.mostEnd-1
	l.sorted[at], l.sorted[end] = l.sorted[end], l.sorted[at]
	l.mostEnd--
}

// balanced says that the levels of the two ranges differ by one at most.
func (l *loads) balanced() bool { return l.mostLevel-l.leastLevel <= 1 }
