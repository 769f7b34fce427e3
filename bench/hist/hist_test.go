package hist

import (
	"math"
	"testing"
	"time"
)

// Each bucket holds what lies between the one before and its upper end, which are at most 1.6 % apart.
func TestBuckets(t *testing.T) {
	last := time.Duration(-1)
	for i := range 57 * fine {
		u := upper(i)
		if u <= last || bucket(u) != i || bucket(last+1) != i {
			t.Fatalf("bucket %d is (%d, %d], its ends are in %d and %d", i, last, u, bucket(last+1), bucket(u))
		}
		if i > fine && float64(u-last) > 0.016*float64(u)+1 {
			t.Fatalf("bucket %d is (%d, %d]: too wide", i, last, u)
		}
		last = u
	}
	if bucket(math.MaxInt64) >= 64*fine {
		t.Error("the longest time has no bucket")
	}
}

func TestQuantiles(t *testing.T) {
	var a, b, none Histogram
	for i := 1; i <= 1000; i++ {
		h := &a
		if i%2 == 0 {
			h = &b
		}
		h.Record(time.Duration(i) * time.Microsecond)
	}
	a.Add(&b)
	for q, want := range map[float64]float64{0.001: 1, 0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := a.Quantile(q).Seconds() * 1e6; got < want || got > want*1.016 {
			t.Errorf("quantile %g is %.1f us, want %.0f", q, got, want)
		}
	}
	if a.N() != 1000 || a.Max() != time.Millisecond || none.Quantile(0.5) != 0 {
		t.Errorf("n %d, max %v, of none %v", a.N(), a.Max(), none.Quantile(0.5))
	}
}
