package txn

import "time"

// The bodies of the events that a Shard handles. The type of the reply is given with each. An event about a
// transactional id must go to the shard of that id. Codes are Kafka's error codes; where older clients know another one,
// that is the caller's matter (PRODUCER_FENCED was INVALID_PRODUCER_EPOCH).

// Producer is a producer id with an epoch.
type Producer struct {
	ID    int64
	Epoch int16
}

// Conn is a connection of a producer to its coordinator: a number that grows and is never used twice, so that a smaller one
// is an older connection. A request that would change a transaction and comes over an older connection than one that the
// producer has used since is late: its client has given it up, and gone on. It changes nothing, the reply says that it is
// Late, and whoever asked closes that connection. A client that does use both connects again, and is believed then. What
// carries an epoch of its own for each transaction (End from version 2 on) needs no such care. Kafka has no such rule, and
// loses there (KAFKA-17754).
type Conn uint64

// NoConn is no connection: always believed.
const NoConn Conn = 0

// Init begins a session of a producer, and ends the transaction of the one before it; the reply is Initialized.
type Init struct {
	TransactionalID string
	TimeoutMillis   int32
	// Expected is what the producer has, if it goes on after an error (KIP-360).
	Expected *Producer
	// NewID is a producer id that nobody has had, or -1. Where one is needed and it is -1 the reply says so.
	NewID int64
	Conn  // the request came over it
}

// Initialized answers Init.
type Initialized struct {
	Code int16
	Producer
	NeedsID bool // ask again with a NewID
	Late    bool // see Conn
}

// Add adds partitions to the transaction of a producer, and begins it with the first; the reply is Added.
type Add struct {
	TransactionalID string
	Producer
	Partitions []Partition
	Version    int16 // transaction version of the client
	// Verify only asks whether they are in it.
	Verify bool
	Conn   // the request came over it; NoConn for what the broker adds itself
}

// Added answers Add: with one code for all partitions, or with one for each, in their order.
type Added struct {
	Code  int16
	Codes []int16 // of Verify, if Code is 0
	Late  bool    // see Conn
}

// End commits or aborts the transaction of a producer; the reply is Ended, once that is decided for good.
type End struct {
	TransactionalID string
	Producer
	Commit  bool
	Version int16 // transaction version of the client
	NewID   int64 // as in Init
	Conn          // the request came over it
}

// Ended answers End, from transaction version 2 on with what the producer has from now on.
type Ended struct {
	Code int16
	Producer
	NeedsID bool
	Late    bool // see Conn
}

// WriteMarkers is an errand: write the marker into each of the partitions, however long that takes, and post what Written
// returns. It comes again after a load, for markers that may be written already. Whoever does it must then have given up the
// one of before: until version 2 a marker that is written again once the next transaction is open would end that.
type WriteMarkers struct {
	TransactionalID string
	Producer
	Commit     bool
	Partitions []Partition
	Version    int16 // transaction version of the client
	of         *transaction
}

// Written is the event to post when the errand is done.
func (m WriteMarkers) Written() MarkersWritten {
	return MarkersWritten{TransactionalID: m.TransactionalID, Producer: m.Producer, of: m.of}
}

// MarkersWritten says that the markers of a transaction are in all its partitions that still exist, durable. Nobody waits
// for it. Only WriteMarkers.Written makes one that counts, and only that of the last errand does: until version 2 the
// transactions of a producer look alike, and one of them must not be complete because the one before it is.
type MarkersWritten struct {
	TransactionalID string
	Producer
	of *transaction
}

// Describe asks about one transactional id; the reply is Description.
type Describe struct{ TransactionalID string }

// Description answers Describe.
type Description struct {
	Code int16
	Producer
	State         State
	TimeoutMillis int32
	Started       int64 // milliseconds since 1970, -1: no transaction was begun
	Partitions    []Partition
}

// List asks for the transactional ids of the shard; the reply is []Listed, sorted.
type List struct {
	States      []string                          // names; empty: all
	ProducerIDs []int64                           // empty: all
	LongerThan  time.Duration                     // of transactions; below 0: all
	Match       func(transactionalID string) bool // nil: all
}

// Listed is one transactional id in a list.
type Listed struct {
	TransactionalID string
	ProducerID      int64
	State           State
}

// Level says which level of the feature transaction.version is finalized from now on. Nobody waits for it.
type Level int16
