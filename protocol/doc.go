// Package protocol turns bytes into requests and answers into bytes: framing,
// headers, the order of answers on one connection, every limit that protects
// the server from what comes in, and the hand-written codecs of Produce and
// Fetch. All other messages are kmsg types.
//
// The server answers nothing by itself: it is given a table of rows, one for
// each API, and calls the row's Begin. What an API does is the broker's matter.
//
//	frame -> memory credit -> header -> row -> version, login -> decode -> Begin
//	                                                                      |
//	peer <- one write <- output <- (FIFO of pending answers) <- encode <- Answer
//
// One goroutine serves a connection. Answers leave in the order of their
// requests, always. A row that is not Pipelined is waited for before the next
// request begins, as Kafka mutes the socket; a Pipelined one (Produce) that must
// wait enters a FIFO, which a second goroutine, made at the first need, works
// off from its head.
//
// Only ApiVersions is answered when its version is unknown. Any other request
// that cannot be served by the table closes the connection, as Apache Kafka
// does, and every closed connection is counted with a Reason.
package protocol
