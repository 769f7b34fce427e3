package group

import (
	"container/heap"
	"time"
)

// timerKind says what a timer does when it is due.
type timerKind int8

const (
	sessionTimer timerKind = iota // a member or a pending member has been silent
	initialTimer                  // the first rebalance of a group may be extended
	joinTimer                     // a rebalance completes without those who did not rejoin
	syncTimer                     // members that did not send SyncGroup are removed
	expiryTimer                   // offsets are looked through

	// Of members of consumer groups, from here on.
	consumerSessionTimer   // it has been silent
	consumerRebalanceTimer // it has not given up what it should
	consumerJoinTimer      // of the classic protocol: it has not joined again
	consumerSyncTimer      // of the classic protocol: it has not asked for its assignment
)

// timer is one deadline. Its owner keeps it; it is in the heap while it is armed.
type timer struct {
	kind     timerKind
	group    *group // of a classic group; else nil
	consumer string // id of a consumer group
	member   string // for sessionTimer and those of consumer groups
	epoch    int32  // for consumerRebalanceTimer: the member has not left it

	at    time.Time
	order uint64 // of arming: timers due at the same time fire in this order
	index int    // in the heap, plus one; 0 while not armed
}

// timers is a heap by deadline: arming, stopping and asking for the next one are
// O(log n) or better.
type timers struct {
	due   dueHeap
	armed uint64
}

// arm sets the timer to fire at the given time, whether or not it was armed.
func (ts *timers) arm(t *timer, at time.Time) {
	ts.armed++
	t.at, t.order = at, ts.armed
	if t.index > 0 {
		heap.Fix(&ts.due, t.index-1)
		return
	}
	heap.Push(&ts.due, t)
}

// stop disarms the timer if it was armed.
func (ts *timers) stop(t *timer) {
	if t.index > 0 {
		heap.Remove(&ts.due, t.index-1)
	}
}

// next returns the deadline of the first timer.
func (ts *timers) next() (time.Time, bool) {
	if len(ts.due) == 0 {
		return time.Time{}, false
	}
	return ts.due[0].at, true
}

// pop disarms and returns the first timer that is due, nil if none is.
func (ts *timers) pop(now time.Time) *timer {
	if len(ts.due) == 0 || ts.due[0].at.After(now) {
		return nil
	}
	return heap.Pop(&ts.due).(*timer)
}

// dueHeap is the heap.Interface of timers.
type dueHeap []*timer

func (h dueHeap) Len() int { return len(h) }

func (h dueHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].order < h[j].order
}

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

func (h *dueHeap) Push(x any) {
	t := x.(*timer)
	*h = append(*h, t)
	t.index = len(*h)
}

func (h *dueHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = 0
	return t
}
