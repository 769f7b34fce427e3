package checker

import "math"

// Grace is the time, in nanoseconds, after which everything that happened has been told.
const Grace = int64(4e9)

// never is a time or offset beyond all others.
const never = int64(math.MaxInt64)

// Outcome of an operation. The zero value is one whose end is not known yet.
type Outcome uint8

const (
	Pending Outcome = iota
	OK
	Failed  // it has not happened and will not
	Unknown // it may have happened, or may yet
)

func (o Outcome) String() string {
	return [...]string{"pending", "ok", "failed", "unknown"}[o]
}

// Read is a record as a consumer got it; control records have the marker values.
type Read struct {
	Partition int32
	Offset    int64
	Value     Value
}

// History is what is known of the partitions of one topic.
type History struct {
	judge
	parts     []partition
	writers   map[uint32]*writer
	txns      map[uint32]*txn
	undecided []uint32 // transactions with something to decide
	consumers map[string]*consumer
	gaps      []gap
	groups    map[groupPartition]*register
	commits   map[uint32]groupPartition // where each commit that a transaction may take along is
	keys      map[string]*key
	producers *ProducerIDs
	restarts  int64
	finished  bool
	writeOnly int64 // components of the graph that only write-write edges close
}

// New answers an empty history of a topic with so many partitions. Producer ids outlive it.
func New(partitions int, producers *ProducerIDs) *History {
	return &History{judge: judge{facts: map[Rule]int64{}}, parts: make([]partition, partitions), writers: map[uint32]*writer{}, txns: map[uint32]*txn{},
		consumers: map[string]*consumer{}, groups: map[groupPartition]*register{}, commits: map[uint32]groupPartition{}, keys: map[string]*key{}, producers: producers}
}

// Restarted tells that the broker is another process from now on.
func (h *History) Restarted() { h.restarts++ }

// Check judges what can be judged at a time.
func (h *History) Check(now int64) {
	h.checkAcks(false)
	h.checkTxns(now, false)
	h.checkGaps(false)
	h.checkFetches(now-Grace, now)
	h.checkCycles()
}

// Finish judges all the rest: every operation has ended, and the final readers have come to the end.
func (h *History) Finish(now int64) {
	if h.finished {
		return
	}
	h.finished = true
	h.checkAcks(true)
	h.checkTxns(now, true)
	h.checkGaps(true)
	h.checkFetches(never, now)
	h.checkCycles()
	h.checkUnsent()
	h.checkFinalRead()
	h.checkKeys()
}

// WriteCycles answers how many groups of transactions wrote over each other in a circle, once Finish
// was called. Kafka allows that: transactions do not lock partitions.
func (h *History) WriteCycles() int64 { return h.writeOnly }
