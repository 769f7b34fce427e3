// Package hist counts times in buckets of about 1.5 % width.
package hist

import (
	"math/bits"
	"time"
)

const (
	fine    = 64 // buckets between two powers of two
	fineLog = 6
)

// Histogram counts durations. The zero value is empty. It is not for several goroutines: each has its own, and Add joins them.
type Histogram struct {
	counts [64 * fine]int64
	n      int64
	max    time.Duration
}

// Record counts one duration; one below zero counts as zero.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucket(max(d, 0))]++
	h.n++
	h.max = max(h.max, d)
}

func bucket(d time.Duration) int {
	v := uint64(d)
	if v < fine {
		return int(v)
	}
	e := bits.Len64(v) - 1 // at least fineLog
	return (e-fineLog+1)*fine + int(v>>(e-fineLog))&(fine-1)
}

// upper is the largest duration of a bucket.
func upper(i int) time.Duration {
	if i < fine {
		return time.Duration(i)
	}
	e := i/fine + fineLog - 1
	low := uint64(1)<<e + uint64(i%fine)<<(e-fineLog)
	return time.Duration(low + uint64(1)<<(e-fineLog) - 1)
}

// Add counts what another histogram has counted.
func (h *Histogram) Add(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// N is how many durations were counted.
func (h *Histogram) N() int64 { return h.n }

// Max is the longest.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is a duration that a part q (0 to 1) of all do not exceed, 1.6 % too long at most; 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := int64(q*float64(h.n) + 0.999999)
	var seen int64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= want {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
