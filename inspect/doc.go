// Package inspect looks at a data directory, Kafka's or ours, without a broker: it checks
// that every file is what it should be, and prints what is in files.
//
//	Check(fs, dirs)  ──> one pass over each partition ──> Findings, a Summary
//	Dump(fs, file)   ──> batches, records, entries of indexes, as text or JSON
//
// It never creates, locks, writes or deletes anything. Nothing in a directory is believed:
// files are read through windows of fixed size, what is held whole has a limit, and the
// number of findings is limited for each file. A directory that a broker is writing to can
// be looked at; what it says about the end of logs is then no more than a notice.
//
// The formats of a partition's files are those of package log, records of the metadata log
// those of package metadata; the records of other internal topics are read by tables here
// (schemas.go), because no other room needs them all.
package inspect
