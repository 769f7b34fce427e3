package protocol

// keyApiVersions is the one API that the connection knows: its answers have their
// own header rule, it is answered whatever its version, and it names the client.
const keyApiVersions = 18

// header is a request header, version 1 or 2.
type header struct {
	key, version  int16
	correlationID int32
	clientID      []byte // nil = null
}

// parseHeader reads a request header and returns the body behind it. Its version
// depends on the row: from the first flexible version on it ends with tagged
// fields, while the client id stays a string with a two-byte length (KIP-482). A
// row that is not known is nil; then only key and version are set.
func parseHeader(frame []byte, rows func(key int16) *Row) (h header, row *Row, body []byte, ok bool) {
	in := reader{b: frame}
	h.key, h.version = in.int16(), in.int16()
	if in.bad {
		return h, nil, nil, false
	}
	if row = rows(h.key); row == nil {
		return h, nil, nil, true
	}
	h.correlationID = in.int32()
	if n := in.int16(); n >= 0 { // any negative length is null
		h.clientID = in.span(int(n))
	}
	if row.FlexibleFrom >= 0 && h.version >= row.FlexibleFrom {
		in.flexible = true
		in.skipTags()
	}
	return h, row, in.b, !in.bad
}

// notKafka guesses from a frame length that is too large what came instead.
func notKafka(length [4]byte) Reason {
	switch string(length[:]) {
	case "GET ", "POST", "PUT ", "HEAD", "DELE", "OPTI", "CONN", "PATC", "TRAC", "PRI ":
		return ReasonHTTP
	}
	if length[0] == 0x16 && length[1] == 0x03 { // handshake record, TLS 1.x or SSL 3
		return ReasonTLS
	}
	return ReasonFrameTooLarge
}

// validSoftware reports whether s is what KIP-511 allows in a client's software
// name and version, which become labels of metrics. It must match
// [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?
func validSoftware(s string) bool {
	alphanumeric := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && (i == 0 || i == len(s)-1 || s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != "" && len(s) <= maxSoftwareBytes
}

// maxSoftwareBytes bounds what is kept of a client's name. Kafka sets no bound.
const maxSoftwareBytes = 256
