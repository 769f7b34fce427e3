// Package log keeps partitions on disk in Kafka's own files: a Store is a data
// directory, a Log one partition in it, and Dirs several directories.
//
//	<topic>-<partition>/00000000000000000000.log       batches, as clients sent them
//	                    00000000000000000000.index     offset -> position, sparse
//	                    00000000000000000000.timeindex timestamp -> offset, sparse
//	                    00000000000000000000.txnindex  aborted transactions
//	                    00000000000000004711.snapshot  producers as they were at that offset
//	                    leader-epoch-checkpoint, partition.metadata
//	                    .rotpeter_damage               ranges that cannot be read; ours
//	recovery-point-offset-checkpoint                   below it every file is complete and durable
//	log-start-offset-checkpoint                        first offset that may be read
//	replication-offset-checkpoint                      high watermarks, for Kafka
//	cleaner-offset-checkpoint                          compacted up to there
//	.kafka_cleanshutdown, .lock
//	<topic>-<partition>.<32 hex digits>-future         a copy that is to take a log's place
//	.rotpeter_reserve, .rotpeter_reserve_last          space for what must go on when the disk is full; ours
//
// # Writing
//
// An append is one write at the end of the active segment, under Log.mu; its
// indexes stay in memory. The flusher makes logs durable for whoever asked, all
// that wait together with one round of syncs. The janitor does everything that
// nobody waits for: it finishes sealed segments (sync, indexes, producer
// snapshot), writes checkpoints, applies retention and removes what is old.
//
// The cleaner compacts logs beside all that: it writes what remains of finished segments
// into a new one, and puts that in their place (cleaner.go, compact.go, replace.go).
//
// # What survives
//
// The recovery point of a log moves only past bytes that were synced, and past
// the base of a segment only when that segment's own files, the producer snapshot
// at its end and the leader epochs are durable. So a start after a crash reads
// from the segment that holds the recovery point on, checks each batch, makes its
// indexes again and cuts off what is torn. What is broken below the recovery point
// was durable once: that is damage, which is reported and never cut off.
//
// # Damage
//
// Damage takes a range of offsets out of service and nothing else: reads in it are ErrStorage,
// reads around it and appends go on. The range ends at the next whole batch whose offsets fit, or with the
// segment. It is found by a start that reads the segment, or when somebody reads there and meets a header that
// cannot be; then the whole segment is checked. .rotpeter_damage remembers the ranges, and that all of them was
// durable once. A start that finds whole batches there again (a file was put back) forgets them, and so does a
// log start beyond them.
//
// A segment is deleted only when a log start at or above its end is durable, so
// that a deletion that was half done is completed by the next start.
//
// The marker of a clean stop is removed before anything is written, and believed
// for a log only if the end of its last segment reads well.
//
// An error of a sync, or of a write but for a full disk, takes the directory out of
// service for good: Store.Failed.
//
// # Several directories
//
// Dirs decides in which directory a partition is (dirs.go), moves logs between
// directories while they are in use (move.go has the order of things and why it
// survives, mover.go the goroutine), and ends at a start what a crash left of that
// (dirs_start.go). Which directory a partition is in is recorded by whoever owns Dirs.
package log
