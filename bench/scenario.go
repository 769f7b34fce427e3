package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rotpeter/rotpeter/bench/hist"
	"github.com/rotpeter/rotpeter/bench/load"
	"github.com/rotpeter/rotpeter/bench/raw"
)

// scenario is one row of the table of docs/PERFORMANCE.md.
type scenario struct {
	id, name string
	durable  bool     // acks=all from stable storage
	settings []string // of brokers that have Kafka's
	quick    bool     // also part of a quick run
	explicit bool     // only if it is asked for by -scenarios
	fresh    bool     // each run has a broker that was just started on an empty directory
	bytes    int64
	kind     kind
	unit     string // of the headline, if kind is value
	run      func(e *env) (run, error)
	skip     func(target string) bool
	gate     *gate
}

func (s *scenario) wishes() wishes { return wishes{s.durable, s.settings} }

// kind is what a scenario's headline is.
type kind int

const (
	throughput kind = iota // bytes a second, and CPU a GB
	requests               // requests a second, and CPU a request
	latency                // p99
	value                  // a measure of its own
)

// line tells a run in a line.
func (s *scenario) line(r *run) string {
	cpu, also := "", r.alsoText()
	if r.BrokerCPU > 0 && r.Bytes > 0 {
		cpu = fmt.Sprintf(", %.3f CPU-s/GB", r.BrokerCPU/(float64(r.Bytes)/1e9))
	}
	switch s.kind {
	case throughput:
		return fmt.Sprintf("%8.1f MB/s%s%s, foreign %.2f", float64(r.Bytes)/1e6/r.Seconds, cpu, also, r.Foreign)
	case requests:
		return fmt.Sprintf("%8.0f requests/s, %.1f us of CPU each, p99 %.0f us, foreign %.2f", float64(r.Requests)/r.Seconds, r.BrokerCPU*1e6/float64(max(r.Requests, 1)), r.P99, r.Foreign)
	case latency:
		return fmt.Sprintf("p50 %7.0f us, p99 %7.0f us, p99.9 %7.0f us%s, foreign %.2f", r.P50, r.P99, r.P999, also, r.Foreign)
	}
	return fmt.Sprintf("%s %s%s, %s, foreign %.2f", figure(r.Value), s.unit, also, s.kind.costText(r), r.Foreign)
}

// create makes the run's topic, and waits until its partitions answer.
func (e *env) create(partitions int) error {
	e.made = true
	if err := e.createTopic(partitions); err != nil {
		return err
	}
	_, err := e.ends(partitions) // a new topic's partitions may not have their leader yet
	return err
}

// createTopic makes a topic, by steps where Kafka's controller refuses so many partitions by one request: it writes at most
// 10,000 records for one (ReplicationControlManager).
func (e *env) createTopic(partitions int, settings ...string) error {
	const atOnce = 5000
	if _, err := raw.Ask(e.ctx, e.broker.addr, raw.CreateTopic(e.topic, min(partitions, atOnce), settings...)); err != nil {
		return err
	}
	for n := atOnce; n < partitions; {
		n = min(n+atOnce, partitions)
		if _, err := raw.Ask(e.ctx, e.broker.addr, raw.CreatePartitions(e.topic, n)); err != nil {
			return err
		}
	}
	return nil
}

// clean deletes the run's topic, so that its bytes do not weigh on the next run.
func (e *env) clean() {
	if e.made {
		_, _ = raw.Ask(e.ctx, e.broker.addr, raw.DeleteTopic(e.topic)) // a broker that cannot is measured with more data
	}
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }

func (r *run) latencies(h *hist.Histogram) {
	r.P50, r.P99, r.P999, r.Max = micros(h.Quantile(0.5)), micros(h.Quantile(0.99)), micros(h.Quantile(0.999)), micros(h.Max())
}

func (e *env) rawLoad(connections, inFlight int) raw.Load {
	return raw.Load{Addr: e.broker.addr, Connections: connections, InFlight: inFlight, Warm: e.warm, Measure: e.seconds, Window: e.window}
}

// ofRaw is a run as the raw client saw it.
func (e *env) ofRaw(res *raw.Result, err error) (run, error) {
	if err != nil {
		return run{}, err
	}
	r := run{Requests: res.Requests, Records: res.Records, Bytes: res.Bytes}
	r.latencies(&res.Latency)
	return e.filled(r)
}

// ofLoad is a run as franz-go saw it.
func (e *env) ofLoad(res *load.Result, err error) (run, error) {
	if err != nil {
		return run{}, err
	}
	r := run{Records: res.Records, Bytes: res.Bytes}
	if res.Latency.N() > 0 {
		r.latencies(&res.Latency)
	}
	return e.filled(r)
}

// rawProduce is batches of some bytes over connections with some in flight.
func rawProduce(batch, partitions, connections, inFlight int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.create(partitions); err != nil {
			return run{}, err
		}
		p := raw.Produce{Load: e.rawLoad(connections, inFlight), Topic: e.topic, Partitions: partitions, Batch: batch, Record: min(batch-70, 1000), Acks: -1}
		return e.ofRaw(p.Run(e.ctx))
	}
}

// rawFetch is fetches from the page cache, of a topic that was filled before.
func rawFetch(most, partitions int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.create(partitions); err != nil {
			return run{}, err
		}
		fill := raw.Load{Addr: e.broker.addr, Connections: 1, InFlight: 2, Measure: 700 * time.Millisecond}
		if _, err := (raw.Produce{Load: fill, Topic: e.topic, Partitions: partitions, Batch: max(64<<10/partitions, 4<<10), Record: 1000, Acks: 1}).Run(e.ctx); err != nil {
			return run{}, err
		}
		f := raw.Fetch{Load: e.rawLoad(2, 1), Topic: e.topic, Partitions: partitions, PartitionBytes: most, MaxBytes: most}
		return e.ofRaw(f.Run(e.ctx))
	}
}

func (e *env) load(partitions, record int, linger time.Duration) load.Load {
	return load.Load{
		Addr: e.broker.addr, Topic: e.topic, Partitions: partitions, Record: record, Warm: e.warm, Measure: e.seconds, Window: e.window, Linger: linger,
	}
}

// franzProduce is a producer as fast as it can.
func franzProduce(record, partitions int, codec kgo.CompressionCodec) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.create(partitions); err != nil {
			return run{}, err
		}
		l := e.load(partitions, record, 5*time.Millisecond)
		l.Compression = codec
		return e.ofLoad(l.Produce(e.ctx))
	}
}

// franzConsume is a consumer as fast as it can, of a topic that was filled before.
func franzConsume(partitions int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.create(partitions); err != nil {
			return run{}, err
		}
		fill := raw.Load{Addr: e.broker.addr, Connections: 1, InFlight: 2, Measure: time.Second}
		if _, err := (raw.Produce{Load: fill, Topic: e.topic, Partitions: partitions, Batch: 64 << 10, Record: 1000, Acks: 1}).Run(e.ctx); err != nil {
			return run{}, err
		}
		return e.ofLoad(e.load(partitions, 1000, 0).Consume(e.ctx))
	}
}

// openLoop is a producer at a fixed rate.
func openLoop(perSecond float64) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.create(10); err != nil {
			return run{}, err
		}
		return e.ofLoad(e.load(10, 1000, 0).Rate(e.ctx, perSecond))
	}
}

// delivered is from a producer at a fixed rate to some consumers.
func delivered(perSecond float64, consumers int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.create(10); err != nil {
			return run{}, err
		}
		return e.ofLoad(e.load(10, 1000, 0).Delivered(e.ctx, perSecond, consumers))
	}
}

// table is all scenarios, in order.
func table() []*scenario { return slices.Concat(loads(), knownTools(), lives()) }

// loads are those whose broker only serves.
func loads() []*scenario {
	const gb = 1 << 30
	return []*scenario{
		{id: "P1", name: "produce 100 B, 10 partitions, linger 5 ms (franz-go)", kind: throughput, bytes: gb, run: franzProduce(100, 10, kgo.NoCompression()),
			gate: cpuPerRecord(0.10)},
		{id: "P2a", name: "produce 1 KiB, 1 partition (franz-go)", kind: throughput, bytes: 2 * gb, run: franzProduce(1024, 1, kgo.NoCompression()), gate: cpuPerGB(0.5)},
		{id: "P2b", name: "produce 1 KiB, 10 partitions (franz-go)", kind: throughput, quick: true, bytes: 2 * gb, run: franzProduce(1024, 10, kgo.NoCompression()), gate: cpuPerGB(0.5)},
		{id: "P2c", name: "produce 1 KiB, 100 partitions (franz-go)", kind: throughput, bytes: 2 * gb, run: franzProduce(1024, 100, kgo.NoCompression())},
		{id: "P2d", name: "produce 1 KiB, 10 partitions, lz4 (franz-go)", kind: throughput, bytes: gb, run: franzProduce(1024, 10, kgo.Lz4Compression())},
		{id: "P3a", name: "raw produce 1 KiB, 1 connection, 5 in flight", kind: requests, quick: true, bytes: gb / 2, run: rawProduce(1<<10, 1, 1, 5), gate: cpuPerRequest(13)},
		{id: "P3b", name: "raw produce 1 KiB, 8 connections, 5 in flight", kind: requests, bytes: gb, run: rawProduce(1<<10, 1, 8, 5), gate: cpuPerRequest(13)},
		{id: "P3c", name: "raw produce 16 KiB, 8 connections, 5 in flight", kind: requests, bytes: 4 * gb, run: rawProduce(16<<10, 1, 8, 5)},
		{id: "P3d", name: "raw produce 64 KiB, 1 connection, 5 in flight", kind: requests, quick: true, bytes: 6 * gb, run: rawProduce(64<<10, 1, 1, 5), gate: cpuPerRequest(30)},
		{id: "P3e", name: "raw produce 900 KiB, 1 connection, 5 in flight", kind: throughput, bytes: 8 * gb, run: rawProduce(900<<10, 1, 1, 5)},
		{id: "P4", name: "raw produce, 100 partitions x 4 KiB a request", kind: requests, quick: true, bytes: 4 * gb, run: rawProduce(4<<10, 100, 1, 5), gate: cpuPerRequest(600)},
		{id: "P5a", name: "raw produce 1 KiB, 1 connection, 5 in flight, durable", kind: requests, durable: true, bytes: gb / 4, run: rawProduce(1<<10, 1, 1, 5)},
		{id: "P5b", name: "raw produce 1 KiB, 8 connections, 5 in flight, durable", kind: requests, quick: true, durable: true, bytes: gb / 2, run: rawProduce(1<<10, 1, 8, 5),
			gate: rate(40_000)},
		{id: "P5c", name: "raw produce, 100 partitions x 4 KiB a request, durable", kind: requests, durable: true, bytes: 2 * gb, run: rawProduce(4<<10, 100, 1, 5)},
		{id: "P6a", name: "open loop, 1 KiB, 1,000 records/s", kind: latency, run: openLoop(1000), gate: latencyAgainst()},
		{id: "P6b", name: "open loop, 1 KiB, 20,000 records/s", kind: latency, quick: true, bytes: gb / 2, run: openLoop(20_000), gate: latencyAgainst()},
		{id: "P6c", name: "open loop, 1 KiB, 100,000 records/s", kind: latency, bytes: 2 * gb, run: openLoop(100_000), gate: latencyAgainst()},
		{id: "P7", name: "raw produce 1 KiB, one in flight", kind: latency, quick: true, run: rawProduce(1<<10, 1, 1, 1), gate: plusMicros(10)},
		{id: "F1a", name: "raw fetch 64 KiB, 1 partition, 2 connections", kind: throughput, run: rawFetch(64<<10, 1)},
		{id: "F1b", name: "raw fetch 1 MiB, 1 partition, 2 connections", kind: throughput, quick: true, run: rawFetch(1<<20, 1), gate: cpuPerGB(0.15)},
		{id: "F1c", name: "raw fetch 1 MiB, 10 partitions, 2 connections", kind: throughput, run: rawFetch(1<<20, 10)},
		{id: "F1d", name: "raw fetch 1 MiB, 100 partitions, 2 connections", kind: throughput, run: rawFetch(1<<20, 100)},
		{id: "F1e", name: "consume 1 KiB, 10 partitions (franz-go)", kind: throughput, quick: true, run: franzConsume(10)},
		{id: "F3a", name: "fan-out of 1,000 records/s to 1 consumer", kind: latency, run: delivered(1000, 1)},
		{id: "F3b", name: "fan-out of 1,000 records/s to 10 consumers", kind: latency, quick: true, run: delivered(1000, 10)},
		{id: "F3c", name: "fan-out of 1,000 records/s to 50 consumers", kind: latency, run: delivered(1000, 50)},
		{id: "E1a", name: "end to end, 1 KiB, 1,000 records/s", kind: latency, run: delivered(1000, 1), gate: latencyAgainst()},
		{id: "E1b", name: "end to end, 1 KiB, 20,000 records/s", kind: latency, quick: true, bytes: gb / 2, run: delivered(20_000, 1), gate: latencyAgainst()},
	}
}
