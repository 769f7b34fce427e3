package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestEndingsRefuseWhatWasVerifiedBefore(t *testing.T) {
	start := time.UnixMilli(1_000_000)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	e := endings{loaded: at(0)}
	for id := range int64(3000) {
		e.add(id, at(10))
	}
	for _, c := range []struct {
		id    int64
		asked time.Time
		now   time.Time
		want  *kerr.Error
	}{
		{7, time.Time{}, at(20), nil},
		{7, at(9), at(20), kerr.InvalidTxnState},
		{7, at(10), at(20), kerr.InvalidTxnState},
		{7, at(11), at(20), nil},
		{4711, at(9), at(20), nil},
		{4711, at(-1), at(20), kerr.CoordinatorLoadInProgress},
		{4711, at(9), at(10_000), kerr.CoordinatorLoadInProgress},
	} {
		if got := e.refusal(c.id, c.asked, c.now); got != c.want {
			t.Errorf("producer %d asked at %v, now %v: %v, want %v", c.id, c.asked, c.now, got, c.want)
		}
	}
	for id := range int64(3000) {
		e.add(10_000+id, at(10_000))
	}
	if n := len(e.sent); n > 4000 {
		t.Errorf("%d endings are kept, want no old ones", n)
	}
}
