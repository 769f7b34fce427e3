// Package checker says what is wrong with a history of operations on the
// partitions of one topic, by several clients, while their broker is killed,
// paused and restarted. It is plain data: who drives clients hands over what
// happened, in the order in which it came to know of it.
//
//	h := checker.New(8, &checker.ProducerIDs{})
//	h.Send(...); h.Sent(...)          a send begins, and its end is known
//	h.Begin(...); h.Ask(...); h.End(...)  a transaction
//	h.Consumer(...); h.Poll(...)      what a consumer was given
//	h.Check(now)                      judges what can be judged by now
//	h.Finish(now)                     the final read is over: judges the rest
//	h.Violations(); h.Facts()
//
// A value is written once, by one producer (a Value is its number and the
// producer's). An outcome is OK, Failed (it has certainly not happened) or
// Unknown: what came of it is then seen from what is read, but it must be
// whole. The rules are in rules.go, and each family of them in a file:
//
//	log.go        sends and the offsets at which their values are read
//	polls.go      the steps of consumers
//	txns.go       transactions
//	cycles.go     who read whom
//	watermarks.go log start, last stable offset, high watermark
//	commits.go    offsets of groups
//	producers.go  producer ids
//	keys.go       the last value of each key of a compacted topic
//
// Times are nanoseconds of one clock that goes forward. Reports of processes
// come late, so nothing is concluded from the order of calls between clients,
// only between those of one client, and from times. After Grace it is assumed
// that all which happened has been told.
package checker
