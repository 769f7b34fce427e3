package log

import (
	"fmt"
	"sort"
	"strconv"
)

// epochStart says at which offset a leader epoch begins.
type epochStart struct {
	epoch int32
	start int64
}

// epochs is the leader epoch cache (LeaderEpochFileCache): by epoch, starts
// increasing. The slice is never changed, only replaced, so readers need no lock.
type epochs []epochStart

// assign returns the list with a batch of this epoch at this offset. changed is
// false on the hot path, where nothing is new.
func (es epochs) assign(epoch int32, offset int64) (out epochs, changed bool) {
	if epoch < 0 {
		return es, false
	}
	if n := len(es); n > 0 && es[n-1].epoch == epoch && es[n-1].start <= offset {
		return es, false
	}
	keep := len(es)
	for keep > 0 && (es[keep-1].epoch >= epoch || es[keep-1].start >= offset) {
		keep--
	}
	out = make(epochs, keep, keep+1)
	copy(out, es)
	return append(out, epochStart{epoch, offset}), true
}

// latest is the newest epoch, -1 if there is none.
func (es epochs) latest() int32 {
	if len(es) == 0 {
		return -1
	}
	return es[len(es)-1].epoch
}

// of is the epoch that an offset was written in, -1 if unknown.
func (es epochs) of(offset int64) int32 {
	i := sort.Search(len(es), func(i int) bool { return es[i].start > offset })
	if i == 0 {
		return -1
	}
	return es[i-1].epoch
}

// end tells where an epoch ended (endOffsetFor): for the latest the log's end, for
// an earlier one the largest known epoch up to it and where the next begins, for one
// before all known ones itself and where the first begins, else (-1, -1).
func (es epochs) end(epoch int32, logEnd int64) (int32, int64) {
	if epoch == -1 || len(es) == 0 {
		return -1, -1
	}
	if epoch == es.latest() {
		return epoch, logEnd
	}
	next := sort.Search(len(es), func(i int) bool { return es[i].epoch > epoch })
	switch next {
	case len(es):
		return -1, -1
	case 0:
		return epoch, es[0].start
	}
	return es[next-1].epoch, es[next].start
}

// from drops what lies before a new log start (truncateFromStart).
func (es epochs) from(start int64) (out epochs, changed bool) {
	first := sort.Search(len(es), func(i int) bool { return es[i].start > start }) - 1
	if first < 0 || first == 0 && es[0].start == start {
		return es, false
	}
	out = append(out, es[first:]...)
	out[0].start = start
	return out, true
}

// until drops what begins at or after the end (truncateFromEnd).
func (es epochs) until(end int64) epochs {
	return es[:sort.Search(len(es), func(i int) bool { return es[i].start >= end })]
}

func (es epochs) format() []byte {
	b := fmt.Appendf(nil, "0\n%d\n", len(es))
	for _, e := range es {
		b = fmt.Appendf(b, "%d %d\n", e.epoch, e.start)
	}
	return b
}

// parseEpochs reads leader-epoch-checkpoint.
func parseEpochs(b []byte) (epochs, error) {
	var es epochs
	err := checkpointRows(b, 2, func(r []string) error {
		epoch, err1 := strconv.ParseInt(r[0], 10, 32)
		start, err2 := strconv.ParseInt(r[1], 10, 64)
		n := len(es)
		if err1 != nil || err2 != nil || epoch < 0 || start < 0 || n > 0 && (int32(epoch) <= es[n-1].epoch || start <= es[n-1].start) {
			return fmt.Errorf("leader epochs have a wrong line %v", r)
		}
		es = append(es, epochStart{int32(epoch), start})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return es, nil
}
