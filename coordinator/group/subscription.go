package group

import "encoding/binary"

// readSubscription adds the topics of an embedded consumer protocol subscription:
// int16 version, [topic], user data and what newer versions add, which is not
// read. It returns false if the metadata is nothing like that; members may put
// anything there. (Kafka's ConsumerProtocol, read as version 0.)
func readSubscription(metadata []byte, topics map[string]bool) bool {
	b := metadata
	if len(b) < 6 || int16(binary.BigEndian.Uint16(b)) < 0 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	if n < 0 || int(n) > len(b)/2 {
		return false
	}
	found := make([]string, 0, n)
	for range n {
		if len(b) < 2 {
			return false
		}
		size := int(int16(binary.BigEndian.Uint16(b)))
		b = b[2:]
		if size < 0 || size > len(b) {
			return false
		}
		found = append(found, string(b[:size]))
		b = b[size:]
	}
	if len(b) < 4 {
		return false
	}
	if userData := int32(binary.BigEndian.Uint32(b)); userData < -1 || int(userData) > len(b)-4 {
		return false
	}
	for _, topic := range found {
		topics[topic] = true
	}
	return true
}
