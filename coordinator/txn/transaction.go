package txn

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// State is the state of a transactional id, as in records (Kafka's TransactionState).
type State int8

// The states. Kafka has two more, Dead and PrepareEpochFence, which no record has.
const (
	Empty State = iota
	Ongoing
	PrepareCommit
	PrepareAbort
	CompleteCommit
	CompleteAbort
)

// String returns Kafka's name.
func (s State) String() string {
	switch s {
	case Ongoing:
		return "Ongoing"
	case PrepareCommit:
		return "PrepareCommit"
	case PrepareAbort:
		return "PrepareAbort"
	case CompleteCommit:
		return "CompleteCommit"
	case CompleteAbort:
		return "CompleteAbort"
	}
	return "Empty"
}

// stateOf finds the state of a name, whatever filters of clients call it. Dead and PrepareEpochFence are names that
// nothing has.
func stateOf(name string) (State, bool) {
	for s := Empty; s <= CompleteAbort; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return -1, name == "Dead" || name == "PrepareEpochFence"
}

func (s State) preparing() bool { return s == PrepareCommit || s == PrepareAbort }

// resting tells that no transaction is open and none is being ended.
func (s State) resting() bool { return s == Empty || s == CompleteCommit || s == CompleteAbort }

const (
	noID    = -1
	noEpoch = -1
	noTime  = -1
	// lastEpoch is the last epoch that a client gets. The one after it ends the transaction of that epoch; a client that
	// comes with it made it up, and Kafka would let it begin a transaction that no marker could end.
	lastEpoch = math.MaxInt16 - 1
)

// epochBumpSince is the transaction version (KIP-890, feature transaction.version) whose clients get a new epoch with every
// transaction.
const epochBumpSince = 2

// Partition names a partition.
type Partition struct {
	Topic string
	Index int32
}

func (p Partition) compare(q Partition) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Index, q.Index))
}

// transaction is one transactional id with its transaction, if there is one. Nobody changes one that is in the shard.
type transaction struct {
	id            string
	producerID    int64
	previousID    int64 // the producer id before the last change, or noID
	nextID        int64 // the producer id to come, because the epochs of this one are used up; or noID
	epoch         int16
	timeoutMillis int32
	state         State
	partitions    map[Partition]bool // nobody changes it
	started       int64              // milliseconds since 1970, or noTime
	updated       int64              // milliseconds since 1970
	version       int16              // transaction version of the client

	// previousEpoch is the epoch before the last InitProducerId, or noEpoch. Soft, as in Kafka: a retry of one does not
	// survive the coordinator.
	previousEpoch int16
	// heard is the newest connection over which the producer spoke. Soft: see Options.LoadedAfter.
	heard Conn
}

func (t *transaction) exhausted() bool { return t.epoch >= lastEpoch }

// keepSoft takes over from what was before, the same in memory, what its record does not say.
func (t *transaction) keepSoft(was *transaction, plain bool) {
	t.previousEpoch, t.heard = was.previousEpoch, was.heard
	if plain && was.producerID == t.producerID && was.epoch == t.epoch && was.state == t.state && was.updated == t.updated {
		t.previousID, t.nextID, t.version = was.previousID, was.nextID, was.version
	}
}

// list returns the partitions, in order.
func (t *transaction) list() []Partition {
	return slices.SortedFunc(maps.Keys(t.partitions), Partition.compare)
}

// hasAll tells whether all partitions are in the transaction.
func (t *transaction) hasAll(ps []Partition) bool {
	return !slices.ContainsFunc(ps, func(p Partition) bool { return !t.partitions[p] })
}

// next is the transaction to come: each change remembers the producer id before it.
func (t *transaction) next(s State, now int64) *transaction {
	n := *t
	n.previousID, n.state, n.updated = t.producerID, s, now
	return &n
}

// initialized is a producer that begins, or begins again, with an epoch.
func (t *transaction) initialized(id int64, epoch, previous int16, timeoutMillis int32, now int64) *transaction {
	n := t.next(Empty, now)
	n.producerID, n.epoch, n.previousEpoch, n.timeoutMillis = id, epoch, previous, timeoutMillis
	n.partitions, n.started, n.nextID = nil, noTime, noID
	return n
}

// with is the transaction with more partitions.
func (t *transaction) with(ps []Partition, version int16, now int64) *transaction {
	n := t.next(Ongoing, now)
	n.partitions = maps.Clone(t.partitions)
	if n.partitions == nil {
		n.partitions = map[Partition]bool{}
	}
	for _, p := range ps {
		n.partitions[p] = true
	}
	if t.state.resting() {
		n.started = now
	}
	n.version = version
	return n
}

// ending is the transaction when it is decided how it ends. bump: with the next epoch, so that what the old one still
// sends is refused (KIP-890). nextID is the producer id to come, or noID.
func (t *transaction) ending(s State, bump bool, version int16, nextID, now int64) *transaction {
	n := t.next(s, now)
	if bump {
		n.epoch, n.previousEpoch = min(t.epoch, lastEpoch)+1, t.epoch
	}
	if t.state != Ongoing {
		n.started = now // an abort of nothing (KIP-890)
	}
	n.nextID, n.version = nextID, version
	return n
}

// ended is the transaction when all its markers are written.
func (t *transaction) ended(now int64) *transaction {
	s := CompleteAbort
	if t.state == PrepareCommit {
		s = CompleteCommit
	}
	n := t.next(s, now)
	if t.version >= epochBumpSince && t.nextID != noID {
		n.producerID, n.epoch, n.previousEpoch = t.nextID, 0, lastEpoch
	}
	n.nextID, n.partitions = noID, nil
	return n
}
