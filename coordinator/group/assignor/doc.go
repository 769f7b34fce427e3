// Package assignor decides which member of a consumer group of the newer protocol
// (KIP-848) reads which partitions: Kafka's assignors "uniform" and "range". It is
// pure and keeps nothing between calls.
//
// Uniform first balances, then moves as little as it can:
//
//	all members subscribe to the same topics     each keeps its quota of what it has,
//	                                             the rest fills those below theirs
//	subscriptions differ                         each keeps what it still subscribes to;
//	                                             free partitions go to the least loaded
//	                                             subscriber, topic by topic; then topics
//	                                             are balanced until nothing moves
//
// Range cuts each topic into contiguous ranges, in the order of instance ids and
// then of member ids. What members have now does not matter to it. Topics with the
// same subscribers and the same number of partitions are cut at the same places
// (co-partitioning).
//
// Given the same group in the same order of visit, the outcome is that of Apache
// Kafka 4.3.1 (org.apache.kafka.coordinator.group.assignor: UniformAssignor,
// UniformHomogeneousAssignmentBuilder, UniformHeterogeneousAssignmentBuilder,
// RangeAssignor), partition by partition. The range assignor says in which order it
// visits. The uniform assignor of Kafka walks hash maps; this one walks members by
// id, topics by id and partitions by number. So which of several members has one
// partition more, and which of its partitions a member gives up, may differ from
// Kafka. Where all subscribe to the same topics, how many members have how many
// partitions, and how many partitions move, does not. Where subscriptions differ, the
// order of topics is Kafka's too, and only ties between members depend on theirs.
//
// Racks are not looked at: Kafka's assignors of 4.3.1 ask neither for the rack of a
// member nor for those of a partition's replicas. Racks only make a new group epoch
// there, as part of the hash of the group's topics.
//
// Left to others: who is subscribed to what, regular expressions, the handing over
// of a static member's assignment to its successor, epochs and records (the group
// coordinator).
package assignor
