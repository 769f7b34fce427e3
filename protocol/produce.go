package protocol

// ProduceRequest is Produce (0), versions 3 to 13. Decode reuses the slices of the
// value it is called on.
type ProduceRequest struct {
	TransactionalID *string // nil without a transaction
	Acks            int16   // 0, 1 or -1; other values are the handler's to refuse
	TimeoutMillis   int32
	Topics          []ProduceTopic
}

// ProduceTopic is one topic of a ProduceRequest: by Name up to version 12, by ID from 13.
type ProduceTopic struct {
	Name       string
	ID         [16]byte
	Partitions []ProducePartition
}

// ProducePartition is what is to be appended to one partition.
type ProducePartition struct {
	Index   int32
	Records []byte // sub-slice of the request's body; nil = null
}

// ProduceResponse is Produce's answer, versions 3 to 13.
type ProduceResponse struct {
	Version        int16
	Topics         []ProduceResponseTopic
	ThrottleMillis int32
	NodeEndpoints  []NodeEndpoint // from version 10; left out if empty
}

// ProduceResponseTopic is one topic: by Name up to version 12, by ID from 13.
type ProduceResponseTopic struct {
	Name       string
	ID         [16]byte
	Partitions []ProduceResponsePartition
}

// ProduceResponsePartition is what became of one partition's records.
type ProduceResponsePartition struct {
	Index               int32
	ErrorCode           int16
	BaseOffset          int64 // -1 on error
	LogAppendTimeMillis int64 // -1 unless the topic uses LogAppendTime
	LogStartOffset      int64
	RecordErrors        []RecordError // from version 8
	ErrorMessage        *string       // from version 8
	CurrentLeader       LeaderIDEpoch // from version 10; ID -1 = absent
}

// RecordError names one record that made its batch fail (KIP-467).
type RecordError struct {
	BatchIndex int32
	Message    *string
}

// LeaderIDEpoch is a partition's leader (KIP-951). With ID -1 it is left out.
type LeaderIDEpoch struct{ ID, Epoch int32 }

// NodeEndpoint is where to find a leader named in the same response (KIP-951).
type NodeEndpoint struct {
	NodeID int32
	Host   string
	Port   int32
	Rack   *string
}
