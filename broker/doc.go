// Package broker is where a request meets metadata, logs and coordinators: the
// API table (rows.go), one file for each API named after its key, and the Broker
// that opens everything, serves, and stops it in reverse.
//
//	protocol ── Call ──> NN_name.go ──> metadata.Image    what exists (no lock)
//	                         │  ├──────> partitions       which log is it
//	                         │  └──────> groups           which shell coordinates it
//	                         └── Answer ──> protocol
//
// A handler checks, in this order: the shape of the request, the authorizer, and
// what exists; then it asks the log or a coordinator. Go errors become Kafka's
// codes in errors.go and nowhere else.
//
// The package is also a library: Start gives Go tests a real broker in their own
// process, on memory storage and an in-memory listener if they like. It keeps no
// package-level state: ten brokers fit in one test.
package broker
