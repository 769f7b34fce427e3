package protocol

import (
	"context"
	"net/netip"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Row is all that the server needs to know of one API.
type Row struct {
	// Key is Kafka's API key.
	Key int16

	// Min and Max are the versions that are served. A request with any other
	// version closes the connection, but for ApiVersions (KIP-511).
	Min, Max int16

	// AdvertisedMin is what ApiVersions says. It equals Min for every API but
	// Produce, which is advertised from 0 and served from 3 (KAFKA-18659). The
	// server itself does not use it.
	AdvertisedMin int16

	// FlexibleFrom is the first version with tagged fields (KIP-482), which also
	// decides the header's version; -1 if there is none.
	FlexibleFrom int16

	// Open marks a row that may be called before login.
	Open bool

	// Pipelined lets the next request of the connection begin before this one is
	// answered. Answers still leave in order. It also allows frames up to
	// Limits.FrameBytes; rows without it are bound by Limits.OtherFrameBytes.
	Pipelined bool

	// Waits marks a row whose Later waits for what other clients do: the request gives back its memory credit before.
	// What it is remembered for is state of the broker then, which has bounds of its own.
	Waits bool

	// Raw means that Begin decodes Call.Body itself. Otherwise Call.Req holds the
	// decoded request.
	Raw bool

	// Begin starts one request. It must not wait: what waits belongs in a Later.
	// The context ends when the server shuts down.
	Begin func(context.Context, *Call) Answer
}

// Call is one request with what its connection knows. It is valid until the
// request's answer is encoded; the server uses it again afterwards.
type Call struct {
	Key, Version  int16
	CorrelationID int32

	// ClientID is empty, and ClientIDNull set, when the client sent null. Kafka
	// treats both alike.
	ClientID     string
	ClientIDNull bool

	// Req is the decoded request of a row that is not Raw. It owns its bytes and
	// may be kept. It is nil for an ApiVersions request of an unknown version.
	Req kmsg.Request

	// Body is the encoded request after its header. Of a Raw row it is a pooled
	// buffer, valid until the answer is encoded: nothing may keep a part of it.
	Body []byte

	// Arrived is when the request's last byte was read.
	Arrived time.Time

	// Principal is who logged in, "User:ANONYMOUS" where no login is asked for.
	Principal string

	Peer     netip.Addr
	PeerPort uint16
	Listener string

	// SoftwareName and SoftwareVersion are what the client called itself in
	// ApiVersions v3 or later (KIP-511), empty until then.
	SoftwareName, SoftwareVersion string

	// ConnID tells connections apart, of one server or of all that share Options.ConnIDs. It is 1 or more, grows with each
	// connection that is accepted, and is never used twice.
	ConnID uint64

	login string // set by Login, taken over by the connection with the answer
}

// Login makes the connection a logged-in one from this call's answer on, in the
// name of principal ("User:alice"). It is for rows that are Open and not
// Pipelined, and must be called before the response is given.
func (c *Call) Login(principal string) { c.login = principal }

// Response is the body of an answer; kmsg.Response fits. AppendTo is called
// once, by the connection, in the order of the answers; the server sets the
// version of a kmsg.Response from Call.Version.
type Response interface {
	AppendTo(dst []byte) []byte
}

// Answer is what Begin makes of a request: Now, Later, LaterWhen, None or Hangup.
// The zero value is None.
type Answer struct {
	kind     answerKind
	response Response
	wait     func(context.Context) Response
	ready    <-chan struct{}
	err      error
	throttle time.Duration
}

type answerKind uint8

const (
	answerNone answerKind = iota
	answerNow
	answerLater
	answerHangup
)

// Now answers with a response that is complete.
func Now(r Response) Answer { return Answer{kind: answerNow, response: r} }

// Later answers with what wait returns. The row's Pipelined flag decides where it
// runs: in the connection's goroutine, with a context that ends at the start of a
// shutdown or when the peer is known to be gone; or, pipelined, in the flusher's,
// with a context that ends only when a shutdown runs out of time. A nil response
// closes the connection.
func Later(wait func(context.Context) Response) Answer {
	return Answer{kind: answerLater, wait: wait}
}

// LaterWhen is Later with a hint: once ready is closed, wait hardly waits. With it
// a pipelined connection joins the answers of all requests that became ready
// together into one write; without it each is written by itself.
func LaterWhen(ready <-chan struct{}, wait func(context.Context) Response) Answer {
	return Answer{kind: answerLater, wait: wait, ready: ready}
}

// None sends nothing: Produce with acks=0.
func None() Answer { return Answer{kind: answerNone} }

// Hangup closes the connection once everything before this request is answered.
// The error says why, for the log.
func Hangup(err error) Answer { return Answer{kind: answerHangup, err: err} }

// Throttled makes the connection stop reading for d after this answer is written,
// as KIP-219 asks for together with a ThrottleTimeMs in the response.
func (a Answer) Throttled(d time.Duration) Answer {
	a.throttle = d
	return a
}
