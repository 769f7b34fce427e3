package checker

// Marks are offsets that only go forward.
type Marks struct {
	Start, Stable, High int64
}

// marks are the restarts that the samples before have seen.
type marks struct {
	start, stable, high int64
}

// Floor answers what a sample of a partition that is asked for from now on must not be below.
func (h *History) Floor(partition int32) Marks { return h.parts[partition].floor }

// Trimmed tells that a DeleteRecords up to an offset was acknowledged.
func (h *History) Trimmed(partition int32, start int64) {
	p := &h.parts[partition]
	p.floor.Start = max(p.floor.Start, start)
}

// SampleStart tells what ListOffsets answered as the log start; floor is what Floor said before the request.
func (h *History) SampleStart(partition int32, floor Marks, offset int64) {
	p := &h.parts[partition]
	h.sample(LogStartBack, partition, floor.Start, offset, &p.floor.Start, &p.sampled.start)
}

// SampleStable tells the last stable offset: ListOffsets with read_committed.
func (h *History) SampleStable(partition int32, floor Marks, offset int64) {
	p := &h.parts[partition]
	h.sample(StableBack, partition, floor.Stable, offset, &p.floor.Stable, &p.sampled.stable)
}

// SampleHigh tells the high watermark: ListOffsets with read_uncommitted.
func (h *History) SampleHigh(partition int32, floor Marks, offset int64) {
	p := &h.parts[partition]
	h.sample(HighWatermarkBack, partition, floor.High, offset, &p.floor.High, &p.sampled.high)
}

// sample counts as a fact when the broker was restarted since the last one.
func (h *History) sample(rule Rule, partition int32, floor, offset int64, keep, restarts *int64) {
	if *restarts != h.restarts {
		*restarts = h.restarts
		h.fact(rule)
	}
	if offset < floor {
		h.breach(Violation{rule, partition, []int64{floor, offset}, nil, nil, "it was at the first offset, or that was acknowledged or read, and is at the second now"})
	}
	*keep = max(*keep, offset)
}
