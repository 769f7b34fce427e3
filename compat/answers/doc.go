// Package answers plays conversations of raw Kafka requests against a broker
// and compares every answer with the one that Apache Kafka 4.3.1 gave. It is
// compat's suite of that name:
//
//	go run ./compat -suite answers                                       our binary
//	go run ./compat -suite answers -target kafka                         Apache Kafka still answers so
//	go run ./compat -suite answers -target kafka -golden -only fetch     write its answers into the scripts named so
//
// The broker is started with Settings (broker.go). Before each script all
// topics and groups are deleted. Transactional ids cannot be: each script has its own.
//
// # Scripts
//
// A script, testdata/answers/*.txt, is a list of blocks with empty lines
// between them. A line that starts with # is a comment. A block is a command,
// the fields of the request, a line ----, and the answer:
//
//	CreateTopics v7
//	Topics: [{Topic: a, NumPartitions: 2, ReplicationFactor: 1}]
//	----
//	ThrottleMillis: 0
//	Topics:
//	- Topic: a, TopicID: <topic-1>, ErrorCode: 0, ErrorMessage: null, ...
//
// The names of requests and fields are kmsg's. A field that is not set has
// kmsg's default; a field that does not exist, or not in that version, is an
// error in the script. Fields are separated by commas or line ends; values are
// numbers, true, false, null, words, "Go strings", hex"0a0b", now, now-1000,
// lists [..], structs {..}, and for bytes:
//
//	repeat{text: x, times: 300}   (also for strings)
//	batch{..}                     a record batch, see batch.go
//	[batch{..}, hex"00"]          one after the other
//
// Commands:
//
//	[CONN:] API vN [OPTION=VALUE ...]      send a request, read its answer
//	[CONN:] send API vN [OPTION=VALUE ...] send it only (no ---- follows)
//	[CONN:] raw                          send the bytes given as hex, read whatever comes
//	[CONN:] receive                      read the next answer that is due on the connection
//	[CONN:] hangup                       close the connection from our side (no ---- follows)
//	wait DURATION                        let time pass (no ---- follows; 4s in a script at most)
//
// CONN names one of several TCP connections, opened when first used. Options:
//
//	client=ID|null   the client id in the header (default answers)
//	retry=CODE       ask again, 3s long, as long as the answer holds ErrorCode: CODE
//	only=PREFIX      show only items of the top list whose name starts so
//	hide=FIELD,FIELD do not show the fields of these names
//	cut=N, extra=HEX leave out the last N bytes of the body, append bytes
//	tag=N:HEX        add an unknown tagged field to the body
//
// The answer is "closed" when the broker closes the connection, "nothing" when
// it says nothing in a while.
//
// # Answers
//
// An answer shows all fields that its version has. What differs from run to
// run is replaced: UUIDs in texts by <uuid-1>, topic ids by <topic-1>, producer
// and fetch session ids by <producer-1>, <session-1>, member ids in base64 by <member-1>, numbered in the order in
// which the script meets them; the port by <port>, the cluster id by
// <cluster>, the log directory by <dir>, times around now by <now>, <now+60m>. Requests may use these words. Lists
// without an order in Kafka are sorted (unordered, in differences.go). An
// answer that is not encoded in the one normal way ends with a line that says so.
//
// Where our answer is another one on purpose it stands behind Kafka's, under the
// key of the reason (onPurpose, in differences.go):
//
//	---- nothing asked
//	ThrottleMillis: 0, Brokers: [], ClusterID: null, ...
//
// With the line but without the answer, -golden against our binary writes it.
package answers
