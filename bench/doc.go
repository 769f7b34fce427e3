// Command bench measures brokers side by side: the built binary, Apache Kafka,
// franz-go's kfake and the null broker, or any HOST:PORT.
//
//	go run ./bench [-targets LIST] [-scenarios REGEXP] [-repetitions N] [-seconds N] [-quick] [-growth] [-out DIR]
//
// `make bench` runs all of it, `make bench-quick` a part in about five minutes. Each
// scenario starts its brokers on fresh data directories and then runs them in turn,
// again and again, so that a drift of the machine meets all of them. Of each figure the
// median of the repetitions counts, and the ratio of medians to Apache Kafka's and to
// the null broker's. DIR gets report.json, report.txt and report.html.
//
// Scenarios are of four families, in files of their names: loads (P, F, E: scenario.go), what
// users know (K: Kafka's own perf tools, perf.go), what a broker holds (F4, C, G, T: idle.go,
// groups.go, topics.go), and what it forgets and takes up again (F2, S, R, X: catchup.go,
// starts.go, soak.go). X1 and X2 take long and run only by -scenarios.
//
// -growth, and a call without -scenarios and -quick after its scenarios, measures how cost
// grows: a table of pairs, such as a produce beside 10 and beside 10,000 partitions, each
// measured in turn on the broker alone, with a limit for the ratio (growth_table.go).
// Ratios of one run hold on any machine, where absolute figures do not.
//
// What is done so that the figures mean something: everything runs in a network
// namespace of its own with the congestion control cubic, where this process may make
// one; before each run as much memory is touched as it may need, so that the host's
// first touch of pages is not part of it; the CPU time of everything else is measured,
// and a run beside which more than 0.3 of a core was busy is repeated; a JVM is warmed
// up by a run that does not count.
package main
