package protocol

import "time"

// Limits bound what peers can make the server spend. The zero value of a field
// means its default, which DefaultLimits documents.
type Limits struct {
	// FrameBytes is the largest frame of a Pipelined row (Produce), as
	// socket.request.max.bytes.
	FrameBytes int

	// OtherFrameBytes is the largest frame of every other row. The largest honest
	// ones are a leader's SyncGroup and an OffsetCommit or Metadata request that
	// names tens of thousands of partitions: some MiB.
	OtherFrameBytes int

	// LoginFrameBytes is the largest frame before login, where a login is required.
	LoginFrameBytes int

	// DecodedBytes bounds the memory that decoding one request may take. An array
	// element can cost 26 times its encoded size.
	DecodedBytes int

	// RequestMemoryBytes is the budget of a Credit that the server makes for
	// itself when Options.Credit is nil. A frame of more than half of it is refused.
	RequestMemoryBytes int64

	// MemoryWait is how long a request waits for memory credit before its
	// connection is closed.
	MemoryWait time.Duration

	// Connections is the largest number of connections of the server, and
	// ConnectionsPerAddress of one peer address (max.connections.per.ip).
	Connections           int
	ConnectionsPerAddress int

	// UnansweredRequests is how many requests of one connection may wait for their
	// answers. Then nothing more is read from it.
	UnansweredRequests int

	// IdleTime is how long a connection may stay without a request
	// (connections.max.idle.ms).
	IdleTime time.Duration

	// LoginTime is how long a connection may take from its opening to its login,
	// where a login is required.
	LoginTime time.Duration

	// TransferTime is how long a peer may take to send the rest of a frame, or to
	// take an answer, on top of what MinBytesPerSecond allows for its size.
	TransferTime      time.Duration
	MinBytesPerSecond int
}

// DefaultLimits returns the limits that hold where a field is zero.
func DefaultLimits() Limits {
	return Limits{
		FrameBytes:            100 << 20, // Kafka's socket.request.max.bytes
		OtherFrameBytes:       8 << 20,   // several times the largest honest one
		LoginFrameBytes:       64 << 10,  // a Kerberos ticket or a long token fits
		DecodedBytes:          64 << 20,  // a request of OtherFrameBytes, eightfold
		RequestMemoryBytes:    512 << 20, // five frames of the largest kind
		MemoryWait:            30 * time.Second,
		Connections:           20_000, // idle ones cost about 10 KB each
		ConnectionsPerAddress: 20_000, // Kafka has none; a proxy is one address
		UnansweredRequests:    1000,   // clients send 5 (Java) to 1,000,000 (librdkafka: as many as fit)
		IdleTime:              10 * time.Minute,
		LoginTime:             30 * time.Second,
		TransferTime:          time.Minute, // twice Java's request.timeout.ms
		MinBytesPerSecond:     64 << 10,
	}
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	setInt := func(v *int, or int) {
		if *v <= 0 {
			*v = or
		}
	}
	setTime := func(v *time.Duration, or time.Duration) {
		if *v <= 0 {
			*v = or
		}
	}
	setInt(&l.FrameBytes, d.FrameBytes)
	setInt(&l.OtherFrameBytes, d.OtherFrameBytes)
	setInt(&l.LoginFrameBytes, d.LoginFrameBytes)
	setInt(&l.DecodedBytes, d.DecodedBytes)
	if l.RequestMemoryBytes <= 0 {
		l.RequestMemoryBytes = d.RequestMemoryBytes
	}
	setTime(&l.MemoryWait, d.MemoryWait)
	setInt(&l.Connections, d.Connections)
	setInt(&l.ConnectionsPerAddress, d.ConnectionsPerAddress)
	setInt(&l.UnansweredRequests, d.UnansweredRequests)
	setTime(&l.IdleTime, d.IdleTime)
	setTime(&l.LoginTime, d.LoginTime)
	setTime(&l.TransferTime, d.TransferTime)
	setInt(&l.MinBytesPerSecond, d.MinBytesPerSecond)
	return l
}

// transferTime is how long n bytes may take in one direction.
func (l *Limits) transferTime(n int) time.Duration {
	return l.TransferTime + time.Duration(n)*time.Second/time.Duration(l.MinBytesPerSecond)
}
