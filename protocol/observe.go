package protocol

import (
	"net/netip"
	"time"
)

// Observation is one request after its answer was written, or after it turned out
// to need none.
type Observation struct {
	Key, Version  int16
	ConnID        uint64
	RequestBytes  int           // the frame with its length
	ResponseBytes int           // the frame with its length; 0 without an answer
	Queued        time.Duration // from its last byte read to Begin
	Local         time.Duration // in Begin
	Remote        time.Duration // from Begin's return to the finished response: what Later waited for
	Took          time.Duration // from its last byte read to its answer written
}

// ConnEvent is a turn in the life of one connection.
type ConnEvent struct {
	Kind      ConnEventKind
	ConnID    uint64
	Listener  string
	Peer      netip.AddrPort
	Principal string

	// SoftwareName and SoftwareVersion are known from ConnIdentified on.
	SoftwareName, SoftwareVersion string

	Reason Reason // of ConnClosed
	Err    error  // of ConnClosed, if there is more to say
}

// ConnEventKind says what happened to a connection.
type ConnEventKind uint8

const (
	ConnOpened     ConnEventKind = iota // accepted and within its limits
	ConnIdentified                      // ApiVersions told the client's software
	ConnClosed                          // the last event of an opened connection
)

// Reason says why a connection was closed, or refused at once.
type Reason string

const (
	ReasonEOF                Reason = "eof"                 // the peer closed it between two requests
	ReasonReset              Reason = "reset"               // the network or the peer broke it off
	ReasonIdle               Reason = "idle"                // no request for Limits.IdleTime
	ReasonSlowRequest        Reason = "slow_request"        // a frame did not end in its time
	ReasonSlowReader         Reason = "slow_reader"         // an answer was not taken in its time
	ReasonNegativeLength     Reason = "negative_length"     // frame length below 0
	ReasonFrameTooLarge      Reason = "frame_too_large"     // frame length above its limit
	ReasonHTTP               Reason = "http"                // an HTTP request came to the Kafka port
	ReasonTLS                Reason = "tls"                 // a TLS hello came to a plaintext port
	ReasonMalformedHeader    Reason = "malformed_header"    // the request header cannot be decoded
	ReasonUnknownAPI         Reason = "unknown_api"         // no row has the key
	ReasonUnsupportedVersion Reason = "unsupported_version" // the row does not serve the version
	ReasonMalformedRequest   Reason = "malformed_request"   // the body cannot be decoded
	ReasonLoginRequired      Reason = "login_required"      // a row that is not Open before login
	ReasonLoginTime          Reason = "login_time"          // no login within Limits.LoginTime
	ReasonMemory             Reason = "memory"              // no memory credit in time, or never enough
	ReasonTooMany            Reason = "too_many_connections"
	ReasonHangup             Reason = "hangup"     // a row asked for it
	ReasonShortFile          Reason = "short_file" // a file gave fewer bytes than its run
	ReasonShutdown           Reason = "shutdown"
)

// Reasons lists every Reason, for metrics that name them all from the start.
func Reasons() []Reason {
	return []Reason{
		ReasonEOF, ReasonReset, ReasonIdle, ReasonSlowRequest, ReasonSlowReader, ReasonNegativeLength,
		ReasonFrameTooLarge, ReasonHTTP, ReasonTLS, ReasonMalformedHeader, ReasonUnknownAPI,
		ReasonUnsupportedVersion, ReasonMalformedRequest, ReasonLoginRequired, ReasonLoginTime, ReasonMemory,
		ReasonTooMany, ReasonHangup, ReasonShortFile, ReasonShutdown,
	}
}
