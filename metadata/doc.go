// Package metadata keeps the facts about the cluster: topics, partitions, brokers,
// features, settings, producer ids. It is Kafka's KRaft controller for one node,
// as a plain state machine over the log __cluster_metadata-0.
//
//	event ──> Shard.Handle ──> records ──> Shard.Apply ──> Shard.Image ──> *Image
//	                              └─> the log (the caller's journal)
//
// An Image is immutable and read without locks. The next image shares everything
// with its predecessor that did not change: creating one topic copies a few short
// pieces, not the other topics (see index.go).
//
// The records and their bytes are Kafka's (schemas of metadata.version 7 to 30,
// that is Kafka 3.3 to 4.3), so kafka-dump-log reads our log, a real Kafka can be
// started on our directory, and we on that of a Kafka that ran as one combined
// node. Records about things that are not served yet (quotas, SCRAM credentials,
// ACLs, delegation tokens) are in the image as they are (kept.go): an image can be
// written as the records of a snapshot (snapshot.go), after which the log that it
// stands for is deleted, and nothing may be lost by that.
//
// Invariants:
//
//   - Hard state changes only through Apply: a shard loaded from its log equals
//     the one that wrote it.
//   - What Image returns never changes afterwards.
//   - A record that does not fit the state it is applied to (a partition of an
//     unknown topic, an unknown record type, a newer metadata.version) stops the
//     loading: see Shard.Err. Guessing would lose data when a replica is deleted
//     because the metadata did not mention it.
//   - The image of a snapshot and the log behind it is that of the whole log.
//
// The package also reads and writes the small files and control records that
// belong to a metadata log: meta.properties, quorum-state, LeaderChange and its
// kin, and what they say about the voters (quorum.go). It opens no file itself.
//
// Left to others: which client may do what (the caller filters, or hands in a
// function), the meaning of settings (package config), answers as wire messages,
// when snapshots are made and their files, more than one node.
package metadata
