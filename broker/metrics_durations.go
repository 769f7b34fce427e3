package broker

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Durations are counted in buckets that grow with the value: eight to each
// doubling, so a quantile read off them is at most 12.5 % away from the true one.
const (
	// durationFirstBit puts everything up to 8.2 us in the first bucket: no
	// request with a network under it is faster.
	durationFirstBit = 13
	// durationLastBit puts everything over 137 s in the last one: twice the
	// longest wait a client may ask for by default.
	durationLastBit = 36
	durationSteps   = 8 // buckets to a doubling
	durationBuckets = 1 + (durationLastBit-durationFirstBit+1)*durationSteps + 1
)

// durations counts how long something took. Counting is two atomic additions
// and needs no lock; reading sees each bucket as it is at that moment.
type durations struct {
	buckets [durationBuckets]atomic.Uint64
	nanos   atomic.Int64
}

func (d *durations) observe(took time.Duration) {
	took = max(took, 0)
	d.buckets[durationBucket(took)].Add(1)
	d.nanos.Add(int64(took))
}

// durationBucket gives the bucket of a duration that is not negative. Bucket i
// holds what is longer than durationLimit(i-1) and at most durationLimit(i).
func durationBucket(took time.Duration) int {
	v := uint64(max(took-1, 0)) // limits belong to the bucket below, as Prometheus wants it
	bit := bits.Len64(v) - 1
	switch {
	case bit < durationFirstBit:
		return 0
	case bit > durationLastBit:
		return durationBuckets - 1
	}
	step := int(v>>(bit-3)) & (durationSteps - 1)
	return 1 + (bit-durationFirstBit)*durationSteps + step
}

// durationLimit gives the longest duration that bucket i holds, in nanoseconds;
// the last bucket has no limit.
func durationLimit(i int) float64 {
	if i == durationBuckets-1 {
		return math.Inf(1)
	}
	bit := durationFirstBit + i/durationSteps
	return math.Ldexp(float64(durationSteps+i%durationSteps), bit-3)
}

// durationCounts is the state of the buckets at one moment.
type durationCounts [durationBuckets]uint64

func (d *durations) counts() *durationCounts {
	c := new(durationCounts)
	for i := range d.buckets {
		c[i] = d.buckets[i].Load()
	}
	return c
}

func (c *durationCounts) total() uint64 {
	var n uint64
	for _, x := range c {
		n += x
	}
	return n
}

// cumulative gives the buckets of a Prometheus histogram in seconds: one bound
// to each doubling from 33 us to 34 s.
func (c *durationCounts) cumulative() map[float64]uint64 {
	const first, last = 15, 35
	byBound := make(map[float64]uint64, last-first+1)
	var n uint64
	i := 0
	for bit := first; bit <= last; bit++ {
		for ; i <= (bit-durationFirstBit)*durationSteps; i++ {
			n += c[i]
		}
		byBound[math.Ldexp(1, bit)/1e9] = n
	}
	return byBound
}

// quantile gives the duration in milliseconds that a share q of what was
// counted since the earlier state did not exceed, or NaN when nothing was.
func (c *durationCounts) quantile(q float64, earlier *durationCounts) float64 {
	total := c.total() - earlier.total()
	if total == 0 {
		return math.NaN()
	}
	rank := q * float64(total)
	below := 0.0
	for i := range c {
		here := float64(c[i] - earlier[i])
		if here == 0 || below+here < rank {
			below += here
			continue
		}
		low, high := 0.0, durationLimit(i)
		if i > 0 {
			low = durationLimit(i - 1)
		}
		if math.IsInf(high, 1) {
			return low / 1e6
		}
		return (low + (high-low)*(rank-below)/here) / 1e6
	}
	return math.NaN() // a bucket was counted between two reads of it: no rank fits
}

// durationWindow keeps earlier states of many durations, so that quantiles
// speak of the recent past and not of everything since the start. It is used
// by one scrape at a time.
type durationWindow struct {
	states []windowState // oldest first
}

type windowState struct {
	at     time.Time
	counts []*durationCounts
}

const (
	// windowLength is the past that quantiles speak of: what Kafka's decaying
	// reservoir weighs most.
	windowLength = 5 * time.Minute
	// windowStep is the distance of the states that are kept: at most six of them.
	windowStep = time.Minute
)

// move takes the present states and returns the earlier ones to subtract: those
// of five minutes ago, or of the last scrape before that when scrapes are
// rarer; zeros until the first five minutes have passed.
func (w *durationWindow) move(now time.Time, present []*durationCounts) []*durationCounts {
	for len(w.states) > 1 && now.Sub(w.states[1].at) >= windowLength {
		w.states = w.states[1:]
	}
	var base []*durationCounts
	if len(w.states) > 0 && now.Sub(w.states[0].at) >= windowLength {
		base = w.states[0].counts
	} else {
		base = make([]*durationCounts, len(present))
		for i := range base {
			base[i] = new(durationCounts)
		}
	}
	if n := len(w.states); n == 0 || now.Sub(w.states[n-1].at) >= windowStep {
		w.states = append(w.states, windowState{now, present})
	}
	return base
}
