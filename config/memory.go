package config

import (
	"fmt"
	"strings"
)

const (
	// processBytes is what the process takes without a client: its code, the runtime, what an idle broker knows.
	processBytes = 16 << 20
	// connectionBytes is what an idle connection takes: its goroutine, and what the broker knows of it.
	connectionBytes = 6 << 10
	// sessionPartitionBytes is what a fetch session remembers of one partition.
	sessionPartitionBytes = 700
	// defaultConnections and defaultSessionPartitions hold without a limit of memory.
	defaultConnections       = 20_000
	defaultSessionPartitions = 1_000_000
	// defaultOtherFrameBytes bounds requests that are no Produce: several times the largest honest one.
	defaultOtherFrameBytes = 8 << 20
	// decodedTimes is how many times the bytes of a request it may take decoded.
	decodedTimes = 26
	// recordsBytes bounds the size that a batch may have decompressed (log/batch.MaxRecordsBytes).
	recordsBytes = 256 << 20
	// stateParts is which part of the limit is for connections and for what clients make: groups, topics and so on.
	stateParts = 2
)

// Memory says who may take how much of the process's memory: what rotpeter.memory.max becomes.
type Memory struct {
	// Max is the limit in bytes that all of this stays below, 0 if there is none.
	Max int64
	// GoBytes is the soft limit of Go's memory (debug.SetMemoryLimit), 0: none.
	GoBytes int64
	// StateBytes is the live heap from which on nothing new is taken on: no connection, member, topic, transactional id
	// or fetch session. 0: no such bound.
	StateBytes int64

	RequestBytes      int64 // requests and answers that are held, over all connections
	FrameBytes        int64 // the largest Produce
	OtherFrameBytes   int64 // the largest other request
	Connections       int   // of each listener
	SessionPartitions int   // over all fetch sessions
	DedupeBytes       int64 // keys of compaction, over all its threads
	RecordsBytes      int64 // a producer's batch, decompressed

	shares []memoryPart
}

// memoryPart is one part of the sum.
type memoryPart struct {
	what    string
	bytes   int64
	setting string // that the user gave; "" if the part follows from the limit
}

// Memory divides max bytes, 0 for no limit, between those that take memory. What the user set stands; the error says
// how large max has to be for that.
func (c *Config) Memory(max int64) (Memory, error) {
	if max <= 0 {
		return c.unlimited(), nil
	}
	m := c.divide(max)
	if m.sum() <= max-max/stateParts {
		return m, nil
	}
	least := c.LeastMemory()
	m = c.divide(least)
	var parts []string
	for _, s := range m.shares {
		text := fmt.Sprintf("%d MiB for %s", (s.bytes+mebibyte-1)/mebibyte, s.what)
		if s.setting != "" {
			text += " (" + s.setting + ")"
		}
		parts = append(parts, text)
	}
	return Memory{}, c.at("rotpeter.memory.max", &ValueError{"rotpeter.memory.max", fmt.Sprintf(
		"%d bytes are too few: the smallest limit with these settings is %d (%d MiB), of which half is for connections and what clients make, and the other half for %s",
		max, least, least/mebibyte, strings.Join(parts, ", "))})
}

// LeastMemory is the smallest limit that Memory does not refuse, in whole MiB.
func (c *Config) LeastMemory() int64 {
	least := int64(mebibyte)
	for ; c.divideNeeds(least) > 0; least *= 2 {
	}
	for step := least / 4; step >= mebibyte; step /= 2 {
		if c.divideNeeds(least-step) <= 0 {
			least -= step
		}
	}
	return least
}

func (c *Config) divideNeeds(max int64) int64 {
	m := c.divide(max)
	return m.sum() - (max - max/stateParts)
}

func (m *Memory) sum() (n int64) {
	for _, s := range m.shares {
		n += s.bytes
	}
	return n
}

// unlimited is what holds without a limit.
func (c *Config) unlimited() Memory {
	return Memory{
		RequestBytes: c.RequestMemoryBytes(), FrameBytes: c.Int("socket.request.max.bytes"), OtherFrameBytes: defaultOtherFrameBytes,
		Connections: c.connections(defaultConnections), SessionPartitions: defaultSessionPartitions,
		DedupeBytes: c.Int("log.cleaner.dedupe.buffer.size"), RecordsBytes: recordsBytes,
	}
}

// divide gives each its part of max: what the user set, or what follows from max.
func (c *Config) divide(max int64) Memory {
	m := c.unlimited()
	m.Max = max
	m.GoBytes = max - processBytes*3/4 - max/32 // the code is not Go's memory, and the limit is a soft one
	m.StateBytes = max / 8 * 5                  // between collections there is garbage, too
	rest := max - max/stateParts - processBytes
	requests := memoryPart{what: "requests and their buffers"}
	for _, name := range []string{"queued.max.request.bytes", "rotpeter.request.memory.bytes"} {
		if c.given(name) && c.Int(name) > 0 && requests.setting == "" {
			requests.setting = name
		}
	}
	if requests.setting == "" {
		m.RequestBytes = bounded(rest/4, 4*bufferFor(c.Int("message.max.bytes")+mebibyte/16), m.RequestBytes)
	}
	requests.bytes = 2 * m.RequestBytes // buffers wait in pools, too, until they are collected
	m.FrameBytes = min(m.FrameBytes, frameIn(m.RequestBytes/4))
	m.OtherFrameBytes = min(m.OtherFrameBytes, m.FrameBytes, bounded(m.RequestBytes/decodedTimes*3/4, 256<<10, m.RequestBytes))

	threads := c.Int("log.cleaner.threads")
	if !c.Bool("log.cleaner.enable") {
		threads = 0
	}
	keys := memoryPart{what: "keys of compaction"}
	if c.given("log.cleaner.dedupe.buffer.size") {
		keys.setting = "log.cleaner.dedupe.buffer.size"
	} else {
		m.DedupeBytes = bounded(rest/8, threads*mebibyte+mebibyte, m.DedupeBytes)
	}
	if keys.bytes = m.DedupeBytes; threads == 0 {
		keys.bytes = 0
	}
	m.RecordsBytes = bounded(rest/16, 4*c.Int("message.max.bytes"), m.RecordsBytes)
	batches := memoryPart{what: "batches that are compacted", bytes: threads * (m.RecordsBytes + 2*c.Int("log.cleaner.io.buffer.size"))}
	sessions := memoryPart{what: "fetch sessions", bytes: bounded(rest/32, mebibyte, rest)}
	m.SessionPartitions = min(m.SessionPartitions, int(sessions.bytes/sessionPartitionBytes))
	m.Connections = c.connections(min(defaultConnections, int(max/stateParts/connectionBytes)))
	m.shares = []memoryPart{{what: "the process itself", bytes: processBytes}, requests, keys, batches, sessions}
	return m
}

// connections is max.connections, but for what we bear.
func (c *Config) connections(most int) int { return min(most, int(c.Int("max.connections"))) }

// bounded is n, but at least low, and else at most high.
func bounded(n, low, high int64) int64 { return max(min(n, high), low) }

// bufferFor is the size of the read buffer that n bytes take: a power of two from 1 MiB on.
func bufferFor(n int64) int64 {
	size := int64(mebibyte)
	for size < n {
		size *= 2
	}
	return size
}

// frameIn is the largest frame whose read buffer takes no more than n bytes: buffers up to 16 MiB are pooled, in powers of two.
func frameIn(n int64) int64 {
	size := int64(mebibyte)
	for 2*size <= n {
		size *= 2
	}
	if size >= 16*mebibyte {
		return n
	}
	return size
}

// writeMemory writes the table of parts for some limits.
func writeMemory(b *strings.Builder) {
	c, err := Load()
	if err != nil {
		panic("config: the defaults do not load: " + err.Error())
	}
	b.WriteString(`## Who may take how much memory

` + "`rotpeter.memory.max`" + ` bounds all of the process. What is set by hand stands, as long as the sum fits; the rest follows from the limit.
Half of it is for connections and for what clients make: groups and their offsets, topics, transactional ids, producers. When five eighths of the
limit are in use for good, nothing new of these is taken on (see below), and what is there goes on.

| | no limit |`)
	limits := []int64{128, 256, 512, 1024, 4096}
	for _, l := range limits {
		fmt.Fprintf(b, " %d MiB |", l)
	}
	b.WriteString("\n| --- | --- |" + strings.Repeat(" --- |", len(limits)) + "\n")
	for _, row := range []struct {
		name string
		of   func(m Memory) string
	}{
		{"Go's soft limit", func(m Memory) string { return mib(m.GoBytes) }},
		{"live heap from which nothing new is taken on", func(m Memory) string { return mib(m.StateBytes) }},
		{"requests and answers held (`rotpeter.request.memory.bytes`, `queued.max.request.bytes`); as much again may wait in pools", func(m Memory) string { return mib(m.RequestBytes) }},
		{"the largest Produce request (`socket.request.max.bytes`)", func(m Memory) string { return mib(m.FrameBytes) }},
		{"the largest other request", func(m Memory) string { return mib(m.OtherFrameBytes) }},
		{"connections of a listener (`max.connections`)", func(m Memory) string { return fmt.Sprint(m.Connections) }},
		{"partitions in all fetch sessions", func(m Memory) string { return fmt.Sprint(m.SessionPartitions) }},
		{"keys of compaction (`log.cleaner.dedupe.buffer.size`)", func(m Memory) string { return mib(m.DedupeBytes) }},
		{"a producer's batch, decompressed", func(m Memory) string { return mib(m.RecordsBytes) }},
	} {
		fmt.Fprintf(b, "| %s | %s |", row.name, row.of(c.unlimited()))
		for _, l := range limits {
			m, err := c.Memory(l * mebibyte)
			if err != nil {
				panic("config: " + err.Error())
			}
			b.WriteString(" " + row.of(m) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString(memoryRefusals)
}

func mib(n int64) string {
	if n == 0 {
		return "none"
	}
	return strings.TrimSuffix(strings.TrimSuffix(fmt.Sprintf("%.2f", float64(n)/mebibyte), "0"), ".0") + " MiB"
}

// memoryRefusals says what clients see of the limits.
const memoryRefusals = `
What clients see: a request that is larger, or finds no memory within 30 s, ends its connection (` + "`rotpeter_connections_closed_total`" + `, reason memory). A batch
that grows beyond its bound is INVALID_RECORD. A fetch session that finds no room is not made, and the client goes on with full requests; one that grows too
large ends with FETCH_SESSION_ID_NOT_FOUND, and the client makes another. While nothing new is taken on, connections are closed (reason memory),
members that join, producers that begin and commits of groups without members are answered COORDINATOR_LOAD_IN_PROGRESS, which clients
try again, and topics and partitions are refused with POLICY_VIOLATION. A log remembers 65,536 producers, and 4,096 while memory is short; the idlest
go first, as if ` + "`producer.id.expiration.ms`" + ` had passed.

What has no bound of its own, as in Kafka: the number of groups, of offsets in a group (at most one for each partition), of transactional ids, of
topics, and of settings. They count as state, above. The memory of the kernel (sockets, page cache) is not the process's own; a
cgroup counts it, and takes page cache back when it is needed.

`
