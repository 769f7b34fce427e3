package protocol

// ProduceRequest is Produce (0), versions 3 to 13. Decode reuses the memory of the
// value it is called on: strings may be kept, slices and pointers may not.
type ProduceRequest struct {
	TransactionalID *string // nil without a transaction
	Acks            int16   // 0, 1 or -1; other values are the handler's to refuse
	TimeoutMillis   int32
	Topics          []ProduceTopic

	transactionalID string             // what TransactionalID points to
	partitions      []ProducePartition // what Topics' partitions are parts of
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

const (
	produceMin, produceMax = 3, 13
	produceFlexible        = 9
	produceTopicID         = 13
)

// Decode reads the body of a Produce request of one of the versions 3 to 13. The
// partitions' Records are parts of body. Bytes behind the request are ignored, as
// Kafka does. The error wraps ErrMalformed.
func (r *ProduceRequest) Decode(version int16, body []byte) error {
	if version < produceMin || version > produceMax {
		return malformed("ProduceRequest", version, "version")
	}
	in := reader{b: body, flexible: version >= produceFlexible}
	id, null := in.nullableString(r.transactionalID)
	r.transactionalID, r.TransactionalID = id, &r.transactionalID
	if null {
		r.TransactionalID = nil
	}
	r.Acks = in.int16()
	r.TimeoutMillis = in.int32()
	r.decodeTopics(&in, version)
	in.skipTags()
	if in.bad {
		return malformed("ProduceRequest", version, "body")
	}
	return nil
}

// decodeTopics fills Topics. Beyond maxNamed topics and partitions the reader
// turns bad.
func (r *ProduceRequest) decodeTopics(in *reader, version int16) {
	topicBytes, partitionBytes := 2+4, 4+4
	if in.flexible {
		topicBytes, partitionBytes = 1+1+1, 4+1+1
	}
	before := r.Topics
	n := in.arrayLen(topicBytes)
	left := maxNamed - n
	if left < 0 {
		in.fail()
		n = 0
	}
	if cap(r.Topics) < n {
		r.Topics = make([]ProduceTopic, n)
		copy(r.Topics, before)
	}
	r.Topics = r.Topics[:n]
	if n < len(before) {
		clear(before[n:]) // not to collect names over time
	}
	r.partitions = r.partitions[:0]
	for i := range r.Topics {
		t := &r.Topics[i]
		if version >= produceTopicID {
			t.ID, t.Name = in.uuid(), ""
		} else {
			t.ID, t.Name = [16]byte{}, in.string(t.Name)
		}
		n := in.arrayLen(partitionBytes)
		if left -= n; left < 0 {
			in.fail()
		}
		if in.bad {
			clear(r.Topics[i:])
			r.Topics = r.Topics[:i]
			return
		}
		r.partitions = grow(r.partitions, n)
		start := len(r.partitions)
		for range n {
			r.partitions = append(r.partitions, ProducePartition{Index: in.int32(), Records: in.nullableBytes()})
			in.skipTags()
		}
		in.skipTags()
		t.Partitions = r.partitions[start:len(r.partitions):len(r.partitions)]
	}
}

// AppendTo encodes the response in its Version, 3 to 13.
func (r *ProduceResponse) AppendTo(dst []byte) []byte {
	flexible := r.Version >= produceFlexible
	dst = putArrayLen(dst, len(r.Topics), flexible)
	for i := range r.Topics {
		t := &r.Topics[i]
		if r.Version >= produceTopicID {
			dst = append(dst, t.ID[:]...)
		} else {
			dst = putString(dst, t.Name, flexible)
		}
		dst = putArrayLen(dst, len(t.Partitions), flexible)
		for j := range t.Partitions {
			dst = t.Partitions[j].appendTo(dst, r.Version, flexible)
		}
		dst = putNoTags(dst, flexible)
	}
	dst = putInt32(dst, r.ThrottleMillis)
	if r.Version >= 10 {
		return putEndpoints(dst, r.NodeEndpoints)
	}
	return putNoTags(dst, flexible)
}

func (p *ProduceResponsePartition) appendTo(dst []byte, version int16, flexible bool) []byte {
	dst = putInt32(dst, p.Index)
	dst = putInt16(dst, p.ErrorCode)
	dst = putInt64(dst, p.BaseOffset)
	dst = putInt64(dst, p.LogAppendTimeMillis)
	if version >= 5 {
		dst = putInt64(dst, p.LogStartOffset)
	}
	if version >= 8 {
		dst = putArrayLen(dst, len(p.RecordErrors), flexible)
		for i := range p.RecordErrors {
			e := &p.RecordErrors[i]
			dst = putInt32(dst, e.BatchIndex)
			dst = putNullableString(dst, e.Message, flexible)
			dst = putNoTags(dst, flexible)
		}
		dst = putNullableString(dst, p.ErrorMessage, flexible)
	}
	if version >= 10 && p.CurrentLeader.ID != -1 {
		return putLeader(append(dst, 1), 0, p.CurrentLeader)
	}
	return putNoTags(dst, flexible)
}
