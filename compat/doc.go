// Command compat runs real Kafka clients and tools, each with its own client
// code in its own language, against a broker that it starts itself: the built
// binary, or Apache Kafka as the judge of the checks themselves.
//
//	go run ./compat [-target rotpeter|kafka] [-suite NAMES] [-only REGEXP] [-lines N | -full]
//
// It sees the broker from outside only: processes, sockets, files and signals.
// The suites:
//
//	startup  exec to the first acknowledged record, idle memory, size of the binary
//	answers  conversations of raw requests, compared with what Apache Kafka answered (package answers)
//	clients  every client does every check that it can do
//	corpus   the Go standard library's source, a record a line, in through some clients and out through others
//	kill     the same with the broker killed with SIGKILL and restarted three times in the middle
//	metadata the metadata log goes from kafka-storage to the broker, to Kafka, to the broker that makes snapshots, and back
//	features kafka-features, the records that it leaves, and a directory that is raised from old levels and served by Kafka in between
//	swap     one data directory served by Apache Kafka and by the broker in turn, clean and killed: each finds all that the other left
//	transactions consume-transform-produce by clients that are killed, and their broker too; kafka-transactions; late and delayed ends; Kafka Streams and Kafka Connect
//	dump     kafka-dump-log reads the data directories that the suites before left behind
//	groups   members of groups by many clients and both protocols, with crashes and restarts, judged by what happens to them; tools for groups
//	hostile  mutated requests of real clients, and connections that mean no good
//	checker  a workload under kills, pauses and restarts, whose history must break none of some twenty rules
//	         (package checker); it runs only when it is named, for as long as -duration says
//
// How a client is driven: clients with a library are asked through a small
// driver in their language (clients/), one JSON request a line (driver.go);
// command line tools are run as a person would run them (kcat.go, javatools.go).
// What a client wrote is read back by franz-go in this process, and what it
// reads was written by it (reference.go), so that a failure names one side.
//
// What cannot be installed is "not run" with the reason; under CI=true that is
// a failure.
package main
