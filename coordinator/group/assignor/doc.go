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
// RangeAssignor), partition by partition. Where the uniform assignor of Kafka walks
// a hash map, this one walks members by id, topics by id and partitions by number:
// which of several members gets one partition more, and which partition moves, may
// be another than in Kafka; how many each member type gets and how many move is not,
// as long as all subscriptions are the same. The range assignor has no such place.
//
// Racks are not looked at. Kafka's assignors did so up to 4.0 at most; those of
// 4.3.1 never ask for the rack of a member or of a replica.
//
// Left to others: who is subscribed to what, regular expressions, the handing over
// of a static member's assignment to its successor, epochs and records (the group
// coordinator).
package assignor
