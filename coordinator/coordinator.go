package coordinator

import (
	"errors"
	"time"
)

// Errors that Do answers instead of a reply.
var (
	// ErrNotCoordinator: the event was lost because the journal failed; ask again.
	// In Kafka's words NOT_COORDINATOR.
	ErrNotCoordinator = errors.New("coordinator: not coordinator")
	// ErrLoading: the journal is being read and the inbox is full.
	// In Kafka's words COORDINATOR_LOAD_IN_PROGRESS.
	ErrLoading = errors.New("coordinator: load in progress")
	// ErrClosed: the shell has been closed.
	ErrClosed = errors.New("coordinator: closed")
)

// Control says whether a Record is a transaction marker.
type Control int8

// The kinds of records. A marker has neither key nor value; it ends the
// transaction of its producer id on this partition.
const (
	None Control = iota
	Commit
	Abort
)

// String returns the name used in scripts and logs.
func (c Control) String() string {
	switch c {
	case Commit:
		return "commit"
	case Abort:
		return "abort"
	}
	return "none"
}

// Record is one record of a journal.
type Record struct {
	Key   []byte
	Value []byte // nil is a tombstone

	// ProducerID and ProducerEpoch name the transactional producer when
	// Transactional is set or Control is not None. Otherwise they mean nothing.
	ProducerID    int64
	ProducerEpoch int16
	Transactional bool
	Control       Control

	// CoordinatorEpoch is written into a marker: the epoch of the transaction
	// coordinator that decided. It means nothing where Control is None.
	CoordinatorEpoch int32

	Timestamp int64 // milliseconds since 1970; 0 lets the journal choose
}

// Token names who waits for a reply. Only the shell that made it can read it;
// tests make their own.
type Token any

// Event is one thing that happened to a shard.
type Event struct {
	Token Token // nil when nobody waits: Post and Tick
	Body  any
}

// Tick is the Body of the event that the shell sends at Shard.Deadline.
type Tick struct{}

// Reply answers the event that carried the Token To. A shard may answer in a
// later Result than the one of the event; it must answer every token once.
type Reply struct {
	To   Token
	Body any
}

// Errand is something to ask of others once the records are durable.
type Errand any

// Result is what a shard decided about one event.
type Result struct {
	Records []Record // what to remember: durable together or not at all
	Replies []Reply  // whom to answer, once the records are durable
	Errands []Errand // what to ask of others after that
}

// Shard is a plain state machine: no lock, no clock, no goroutine, no channel.
type Shard interface {
	// Handle decides about one event. It may change soft state (who waits, timers)
	// but hard state only by returning records, which the caller applies at once.
	Handle(now time.Time, e Event) Result
	// Apply makes one record true. The same call serves live and while loading.
	Apply(r Record)
	// Deadline tells when the shard next wants a Tick; false means never. It is
	// asked after every batch, so it must be cheap.
	Deadline() (time.Time, bool)
}

// LoadedShard is implemented by a shard that must arm timers after its journal
// was replayed, for example to restart the sessions of a group's members.
type LoadedShard interface {
	Shard
	// Loaded is called once, after the last Apply of a load and before the first
	// Handle. Its Result is treated like that of an event.
	Loaded(now time.Time) Result
}

// Journal is where a shard's records are kept.
type Journal interface {
	// Load calls apply for each record from the beginning of the partition to its
	// end, in order. It stops at the first error of apply and returns it.
	Load(apply func(Record) error) error
	// Append adds the records, all or none of them. A nil Receipt means they are
	// durable already. The journal may keep the keys and values; nobody changes them.
	Append(now time.Time, rs []Record) (Receipt, error)
}

// Receipt tells when appended records are durable. *log.Commit fits.
type Receipt interface {
	Done() <-chan struct{}
	Err() error // why they are not durable; valid once Done is closed
}
