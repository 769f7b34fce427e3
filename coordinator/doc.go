// Package coordinator runs plain state machines over a journal.
//
// A Shard decides: it turns an event into records to keep, replies to give and
// errands to run. A Shell acts: it is one goroutine that feeds events to one
// shard, appends the records, waits until they are durable and only then sends
// the replies. Group coordinators, the transaction coordinator and the cluster
// metadata are shards; the partitions of __consumer_offsets, __transaction_state
// and __cluster_metadata are their journals.
//
//	Do/Post ──> inbox ──> Handle ──> Apply ──> Journal.Append ──> durable ──> Committed ──> replies ──> errands
//	                        ^                                        │
//	                        └───── fresh shard, Journal.Load <───────┘ failed
//
// Invariants:
//
//   - Hard state of a shard changes only through Apply, so a shard loaded from
//     its journal equals the one that wrote it.
//   - A reply is sent only after every record handled before it is durable. This
//     holds for read-only results too: nobody hears of state that a crash could
//     take back.
//   - When an append fails the shard is thrown away and loaded again, so recovery
//     from a failed disk is the restart path. Everybody waiting gets
//     ErrNotCoordinator and asks again.
//
// The package knows neither logs nor Kafka requests.
package coordinator
