package main

// knownTools are the scenarios with Kafka's own tools.
func knownTools() []*scenario {
	const gb = 1 << 30
	return []*scenario{
		{id: "K1", name: "kafka-producer-perf-test, 1,000 B, 10 partitions, acks=all", kind: throughput, bytes: gb, skip: isKfake, run: producerPerf()},
		{id: "K2", name: "kafka-consumer-perf-test, 1,000 B, 10 partitions", kind: throughput, bytes: gb, skip: notKafka, run: consumerPerf()},
	}
}

// isKfake is the broker that is there for clients in Go.
func isKfake(target string) bool { return target == "kfake" }

// lives are the scenarios about what brokers hold, forget and take up again.
func lives() []*scenario {
	const (
		ms        = "ms"
		partition = "us a partition"
		memory    = "KiB a connection"
	)
	// What is measured is work: Kafka's waits for further members and between two assignments are set short, for both.
	groups := []string{"group.initial.rebalance.delay.ms=300", "group.consumer.assignment.interval.ms=0"}
	return []*scenario{
		{id: "F2", name: "open loop, 1 KiB, 20,000 records/s, while a consumer catches up from disk", kind: latency, skip: notKafka, run: catchUp(20_000),
			gate: alsoAtMost(3, "times the p99 alone")},
		{id: "F4", name: "500 consumers with 20 partitions each wait", kind: value, unit: "% of a core", skip: notKafka, run: longPoll(500, 20), gate: valueAtMost(3, "% of a core")},
		{id: "G1a", name: "rebalance of a classic group, 1 member", kind: value, unit: ms, settings: groups, skip: notKafka, run: classicJoin(1), gate: belowKafka()},
		{id: "G1b", name: "rebalance of a classic group, 10 members", kind: value, unit: ms, settings: groups, skip: notKafka, run: classicJoin(10), gate: belowKafka()},
		{id: "G1c", name: "rebalance of a classic group, 50 members", kind: value, unit: ms, settings: groups, skip: notKafka, run: classicJoin(50), gate: belowKafka()},
		{id: "G1d", name: "rebalance of a classic group, 100 members", kind: value, quick: true, unit: ms, settings: groups, skip: notKafka, run: classicJoin(100), gate: belowKafka()},
		{id: "G1e", name: "join by the newer protocol, 1 member", kind: value, unit: ms, settings: groups, skip: notKafka, run: consumerJoin(1), gate: belowKafka()},
		{id: "G1f", name: "join by the newer protocol, 10 members", kind: value, unit: ms, settings: groups, skip: notKafka, run: consumerJoin(10), gate: belowKafka()},
		{id: "G1g", name: "join by the newer protocol, 50 members", kind: value, unit: ms, settings: groups, skip: notKafka, run: consumerJoin(50), gate: belowKafka()},
		{id: "G1h", name: "join by the newer protocol, 100 members", kind: value, unit: ms, settings: groups, skip: notKafka, run: consumerJoin(100), gate: belowKafka()},
		{id: "C1a", name: "100 idle connections", kind: value, fresh: true, unit: memory, skip: isAddress, run: connections(100)},
		{id: "C1b", name: "1,000 idle connections", kind: value, fresh: true, quick: true, unit: memory, skip: isAddress, run: connections(1000), gate: valueAtMost(12, memory)},
		{id: "C1c", name: "5,000 idle connections", kind: value, fresh: true, unit: memory, skip: isAddress, run: connections(5000), gate: valueAtMost(12, memory)},
		{id: "T1a", name: "create 1,000 topics", kind: value, unit: "us a topic", skip: notKafka, run: makeTopics(1000), gate: valueAtMost(100, "us a topic")},
		{id: "T1b", name: "create a topic of 10,000 partitions", kind: value, fresh: true, unit: partition, skip: notKafka, run: makePartitions(10_000), gate: valueAtMost(100, partition)},
		{id: "T1c", name: "metadata of 10,000 partitions", kind: value, unit: partition, skip: notKafka, run: metadataOf(10_000)},
		{id: "T1d", name: "memory of 10,000 partitions without records", kind: value, fresh: true, unit: "KiB a partition", skip: notKafka, run: memoryOf(10_000, false), gate: residentGate(10_000)},
		{id: "T1e", name: "memory of 10,000 partitions with a record each", kind: value, fresh: true, unit: "KiB a partition", skip: notKafka, run: memoryOf(10_000, true), gate: residentGate(10_000)},
		{id: "S1a", name: "start on an empty directory", kind: value, quick: true, unit: ms, skip: notKafka, run: emptyStart(), gate: valueAtMost(20, ms)},
		{id: "S1b", name: "start after a clean stop with 1,000 partitions", kind: value, fresh: true, unit: ms, skip: notKafka, run: cleanStart(1000), gate: valueAtMost(20, ms)},
		{id: "S1c", name: "start after a clean stop with 10,000 partitions", kind: value, fresh: true, unit: ms, skip: notKafka, run: cleanStart(10_000), gate: valueAtMost(200, ms)},
		{id: "R1", name: "start after a kill under load", kind: value, fresh: true, unit: ms, skip: notKafka, run: recovery(), gate: tailGate()},
		{id: "X1", name: "soak: 10,000 records/s to 5 consumers, groups come and go", kind: value, explicit: true, fresh: true, unit: "times the memory", skip: onlyOurs, run: soak(10_000), gate: flat()},
		{id: "X2", name: "produce 1 KiB at full speed for many GiB", kind: throughput, explicit: true, fresh: true, skip: notKafka, run: longWrite(), gate: nearPlain()},
	}
}
