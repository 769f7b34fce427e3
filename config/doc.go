// Package config holds every setting of the broker: one table (Table) and what
// is made from it alone.
//
//	server.properties, KAFKA_*, --set ──> Load ──> Config ──> typed values, views
//	dynamic broker settings ──────────────────────^  │
//	topic and group overrides ───────────────────────┼──> DescribeConfigs entries
//	table ──> parsing, validation, docs/CONFIG.md ───┘
//
// The facts in the table (names, types, defaults, checks, update modes,
// synonyms) are those of Apache Kafka 4.3.1, and so are the messages of wrong
// values, the order in which values win and the answers to DescribeConfigs;
// testdata holds what Kafka itself answered. The documentation texts are ours.
// A setting that Kafka knows and that has no effect here says so in its row.
//
// Four things differ from Kafka on purpose:
//
//   - An unknown name in a file, on the command line or in the environment is
//     an error that names the nearest known one; Kafka warns.
//   - A value that would be unsafe to ignore (an authorizer, a policy class, a
//     TLS listener) is refused at start as long as there is nothing behind it.
//   - node.id, process.roles and the other settings that Kafka requires have
//     values for a single node (Preset), as the default file of Kafka's own
//     container image has.
//   - Entries of DescribeConfigs are sorted by name; Kafka's order is that of a
//     Java hash map.
//
// The package is pure: it reads no file and no environment. Values are
// immutable: With... returns a new Config.
package config
