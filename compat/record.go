package main

// record is one record as a client wrote or read it. Nil keys, values and
// header values are Kafka's nulls.
type record struct {
	Member    int      `json:"member"` // which member of the group read it, from 0
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"` // milliseconds
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []header `json:"headers"`

	codec      string // how its batch was compressed; only the reference reader knows
	producerID int64  // of its batch, -1 none; only the reference reader knows
}

type header struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// codecs are the compressions of record batches, by Kafka's names and in the
// order of their numbers in the batch attributes.
func codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }
