package protocol

// FetchRequest is Fetch (1), versions 4 to 18. Decode reuses the memory of the
// value it is called on: strings may be kept, slices may not.
type FetchRequest struct {
	ReplicaID     int32 // -1 for a consumer; from version 15 out of ReplicaState
	MaxWaitMillis int32
	MinBytes      int32
	MaxBytes      int32
	Isolation     int8  // 0 read_uncommitted, 1 read_committed
	SessionID     int32 // 0 before version 7
	SessionEpoch  int32 // -1 before version 7: no session
	Topics        []FetchTopic
	Forgotten     []ForgottenTopic
	Rack          string // from version 11

	partitions []FetchPartition // what Topics' partitions are parts of
	forgotten  []int32          // what Forgotten's partitions are parts of
}

// FetchTopic is one topic of a FetchRequest: by Name up to version 12, by ID from 13.
type FetchTopic struct {
	Name       string
	ID         [16]byte
	Partitions []FetchPartition
}

// FetchPartition is where to read in one partition.
type FetchPartition struct {
	Index, CurrentLeaderEpoch int32 // epoch -1: no check (before version 9)
	FetchOffset               int64
	LastFetchedEpoch          int32 // -1: none (before version 12)
	LogStartOffset            int64 // of a follower; -1 else
	MaxBytes                  int32
}

// ForgottenTopic names partitions that leave the fetch session (KIP-227).
type ForgottenTopic struct {
	Name       string
	ID         [16]byte
	Partitions []int32
}

// Named is how many partitions the request names to be read.
func (r *FetchRequest) Named() (n int) {
	for i := range r.Topics {
		n += len(r.Topics[i].Partitions)
	}
	return n
}

const (
	fetchMin, fetchMax = 4, 18
	fetchFlexible      = 12
	fetchTopicID       = 13
)

// Decode reads the body of a Fetch request of one of the versions 4 to 18. Bytes
// behind the request are ignored, as Kafka does. The error wraps ErrMalformed.
// The cluster id (tag 0), replica epochs, directory ids and follower high
// watermarks are read over: only followers and voters send them.
func (r *FetchRequest) Decode(version int16, body []byte) error {
	if version < fetchMin || version > fetchMax {
		return malformed("FetchRequest", version, "version")
	}
	in := reader{b: body, flexible: version >= fetchFlexible}
	r.ReplicaID, r.SessionID, r.SessionEpoch = -1, 0, -1
	if version <= 14 {
		r.ReplicaID = in.int32()
	}
	r.MaxWaitMillis = in.int32()
	r.MinBytes = in.int32()
	r.MaxBytes = in.int32()
	r.Isolation = in.int8()
	if version >= 7 {
		r.SessionID = in.int32()
		r.SessionEpoch = in.int32()
	}
	left := r.decodeTopics(&in, version, maxNamed)
	r.decodeForgotten(&in, version, left)
	rack := r.Rack
	r.Rack = ""
	if version >= 11 {
		r.Rack = in.string(rack)
	}
	r.decodeTags(&in, version)
	if in.bad {
		return malformed("FetchRequest", version, "body")
	}
	return nil
}

// decodeTags takes the replica's id out of ReplicaState, tag 1 from version 15.
func (r *FetchRequest) decodeTags(in *reader, version int16) {
	if !in.flexible {
		return
	}
	for n := in.uvarint(); n > 0 && !in.bad; n-- {
		tag := in.uvarint()
		field := reader{b: in.span(in.length()), flexible: true}
		if tag != 1 || version < 15 {
			continue
		}
		r.ReplicaID = field.int32()
		field.int64()
		field.skipTags()
		in.bad = in.bad || field.bad
	}
}

// decodeTopics fills Topics and returns how many more topics and partitions the
// request may name.
func (r *FetchRequest) decodeTopics(in *reader, version int16, left int) int {
	topicBytes, partitionBytes := 2+4, 4+8+4
	if in.flexible {
		topicBytes, partitionBytes = 1+1+1, 4+4+8+4+8+4+1
	}
	before := r.Topics
	n := in.arrayLen(topicBytes)
	if left -= n; left < 0 {
		in.fail()
		n = 0
	}
	if cap(r.Topics) < n {
		r.Topics = make([]FetchTopic, n)
		copy(r.Topics, before)
	}
	r.Topics = r.Topics[:n]
	if n < len(before) {
		clear(before[n:]) // not to collect names over time
	}
	r.partitions = r.partitions[:0]
	for i := range r.Topics {
		t := &r.Topics[i]
		if version >= fetchTopicID {
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
			return 0
		}
		r.partitions = grow(r.partitions, n)
		start := len(r.partitions)
		for range n {
			r.partitions = append(r.partitions, decodeFetchPartition(in, version))
		}
		in.skipTags()
		t.Partitions = r.partitions[start:len(r.partitions):len(r.partitions)]
	}
	return left
}

func decodeFetchPartition(in *reader, version int16) FetchPartition {
	p := FetchPartition{Index: in.int32(), CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, LogStartOffset: -1}
	if version >= 9 {
		p.CurrentLeaderEpoch = in.int32()
	}
	p.FetchOffset = in.int64()
	if version >= 12 {
		p.LastFetchedEpoch = in.int32()
	}
	if version >= 5 {
		p.LogStartOffset = in.int64()
	}
	p.MaxBytes = in.int32()
	in.skipTags()
	return p
}

// decodeForgotten fills Forgotten, which is empty before version 7.
func (r *FetchRequest) decodeForgotten(in *reader, version int16, left int) {
	before := r.Forgotten
	r.Forgotten = r.Forgotten[:0]
	n := 0
	if version >= 7 {
		topicBytes := 2 + 4
		if in.flexible {
			topicBytes = 1 + 1 + 1
		}
		n = in.arrayLen(topicBytes)
	}
	if left -= n; left < 0 {
		in.fail()
		n = 0
	}
	if cap(r.Forgotten) < n {
		r.Forgotten = make([]ForgottenTopic, n)
		copy(r.Forgotten, before)
	}
	r.Forgotten = r.Forgotten[:n]
	if n < len(before) {
		clear(before[n:])
	}
	r.forgotten = r.forgotten[:0]
	for i := range r.Forgotten {
		t := &r.Forgotten[i]
		if version >= fetchTopicID {
			t.ID, t.Name = in.uuid(), ""
		} else {
			t.ID, t.Name = [16]byte{}, in.string(t.Name)
		}
		n := in.arrayLen(4)
		if left -= n; left < 0 {
			in.fail()
		}
		if in.bad {
			clear(r.Forgotten[i:])
			r.Forgotten = r.Forgotten[:i]
			return
		}
		r.forgotten = grow(r.forgotten, n)
		start := len(r.forgotten)
		for range n {
			r.forgotten = append(r.forgotten, in.int32())
		}
		in.skipTags()
		t.Partitions = r.forgotten[start:len(r.forgotten):len(r.forgotten)]
	}
}
