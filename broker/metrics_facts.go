package broker

import "github.com/rotpeter/rotpeter/log"

// brokerState is Kafka's figure for the life of a broker (BrokerState).
type brokerState int

const (
	stateNotRunning      brokerState = 0
	stateStarting        brokerState = 1
	stateRecovery        brokerState = 2
	stateRunning         brokerState = 3
	statePendingShutdown brokerState = 6
	stateShuttingDown    brokerState = 7
)

// brokerFacts are what metrics cannot count themselves and ask the broker for
// at each scrape: one snapshot, made when it is wanted.
type brokerFacts struct {
	State  brokerState
	NodeID int32

	// Topics are the names of all topics that exist, internal ones too;
	// Partitions is the number of all their partitions.
	Topics     []string
	Partitions int

	// Logs are the logs that are open, with those of internal topics.
	Logs []logFacts
	// OfflineLogDirs and OfflinePartitions are what a storage error took out of service.
	OfflineLogDirs, OfflinePartitions int
	// LogDirs are the data directories of partitions.
	LogDirs []logDirFacts

	// Cleaner is how compaction goes.
	Cleaner log.CleanerStats

	Groups groupFacts

	Transactions transactionFacts

	// Metadata is the state of __cluster_metadata-0.
	Metadata metadataFacts

	FetchSessions, FetchSessionPartitions int
	FetchSessionEvictions                 int64

	// Listeners by name.
	Listeners map[string]listenerFacts
	// Closed counts connections by the reason why they were closed.
	Closed map[string]int64

	// RequestMemory is what requests hold of the memory credit, and its limit, in bytes.
	RequestMemory, RequestMemoryLimit int64
}

// logDirFacts are the figures of one data directory.
type logDirFacts struct {
	Name    string
	Offline bool
}

// damagedPartitions counts the logs with damage.
func (f *brokerFacts) damagedPartitions() int {
	n := 0
	for i := range f.Logs {
		if f.Logs[i].Damaged > 0 {
			n++
		}
	}
	return n
}

// logFacts are the figures of one partition's log.
type logFacts struct {
	Topic              string
	Partition          int32
	Start, Stable, End int64 // offsets
	Bytes              int64
	Segments           int
	Damaged            int // ranges of offsets that cannot be read
}

// groupFacts count groups by state, and the offsets that they have committed.
type groupFacts struct {
	Empty, PreparingRebalance, CompletingRebalance, Stable, Dead int
	Offsets                                                      int

	// Of the consumer protocol.
	ConsumerEmpty, ConsumerAssigning, ConsumerReconciling, ConsumerStable int
}

func (g *groupFacts) all() int {
	return g.Empty + g.PreparingRebalance + g.CompletingRebalance + g.Stable + g.Dead
}

func (g *groupFacts) consumers() int {
	return g.ConsumerEmpty + g.ConsumerAssigning + g.ConsumerReconciling + g.ConsumerStable
}

// metadataFacts are the figures of the metadata log. Offsets are those of the
// next record: the end, and the end of what is on stable storage.
type metadataFacts struct {
	Epoch     int32
	End, High int64
}

// listenerFacts are the figures of one listener since its start.
type listenerFacts struct {
	Open             int
	Accepted, Closed int64
}
