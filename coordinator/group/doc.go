// Package group is the coordinator of classic consumer groups and of committed
// offsets: the part of Kafka's group coordinator that JoinGroup, SyncGroup,
// Heartbeat, LeaveGroup, OffsetCommit and OffsetFetch talk to. It is pure; a
// coordinator.Shell runs one Shard over each partition of __consumer_offsets.
//
//	         first member joins                     barrier full, or
//	         (initial rebalance delay)              rebalance timeout
//	Empty ───────────────────────> PreparingRebalance ───────────> CompletingRebalance
//	  ^                               │     ^                              │
//	  └───────────────────────────────┘     └──────────────┬───────────────┤ leader's
//	      nobody left                        join, leave,  │               v SyncGroup
//	                                         expiry        └─────────── Stable
//
// A shard has two kinds of state. Hard state is what its records say: the last
// recorded metadata of each group, the committed offsets and the offsets of open
// transactions. Only Apply changes it, so that a shard loaded from its journal has
// the same hard state as the one that wrote it. Soft state is everything about a
// rebalance on its way: who joined, who waits for which reply, which timer runs.
// It is made anew from the hard state after a load, as Kafka does: members are
// restored with a fresh session, and a rebalance that was on its way starts again
// when the members find out.
//
// Records are written where Kafka writes them: a group's metadata when the group
// is created, when it becomes Empty at a new generation, when the leader's
// assignment arrives and when a static member takes a new member id; an offset at
// each commit; tombstones at expiry and deletion.
//
// Of consumer, share and streams groups the records are kept and their committed
// offsets are served; they are listed, empty ones can be deleted (but share groups)
// or taken over by classic members, as Kafka does it. Their members are not served,
// and neither do their offsets expire here.
//
// Left to others: authorization, whether a committed topic exists, topic ids of
// fetched topics, which shard a group belongs to (the broker).
//
// The behaviour follows Kafka's org.apache.kafka.coordinator.group
// (GroupMetadataManager, ClassicGroup, OffsetMetadataManager).
package group
