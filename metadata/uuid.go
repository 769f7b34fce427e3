package metadata

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// The ids that Kafka reserves. A topic or process never gets one of them.
const (
	reservedIDs          = 2   // 0: none; 1: the metadata topic
	reservedDirectoryIDs = 100 // 0 to 2 have a meaning, the rest is for later
)

// Special directory ids of a replica (Kafka's DirectoryId).
var (
	// DirectoryMigrating: written before directories had ids (metadata.version < 17).
	DirectoryMigrating = [16]byte{}
	// DirectoryUnassigned: the broker will choose one of its directories.
	DirectoryUnassigned = [16]byte{15: 1}
	// DirectoryLost: in a directory that is offline.
	DirectoryLost = [16]byte{15: 2}
)

// UUIDString returns Kafka's text form of an id: URL-safe base64 without padding,
// 22 characters.
func UUIDString(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ParseUUID reads what UUIDString wrote. Like Kafka it also takes padding.
func ParseUUID(s string) ([16]byte, error) {
	const padded, plain = 24, 22
	if len(s) == padded && s[plain:] == "==" {
		s = s[:plain]
	}
	if len(s) != plain {
		return [16]byte{}, fmt.Errorf("id %.40q has %d characters, not %d", s, len(s), plain)
	}
	var id [16]byte
	if _, err := base64.RawURLEncoding.Decode(id[:], []byte(s)); err != nil {
		return [16]byte{}, fmt.Errorf("id %q: %w", s, err)
	}
	return id, nil
}

// RandomUUID makes a version 4 id out of 16 random bytes. Not every id it makes is
// usable: see UsableUUID.
func RandomUUID(random [16]byte) [16]byte {
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	return random
}

// UsableUUID reports whether an id may name a topic, a cluster or a process: not a
// reserved one, and not one whose text begins with "-", which tools would take for
// an option.
func UsableUUID(id [16]byte) bool {
	return !smallerThan(id, reservedIDs) && startsWell(id)
}

// UsableDirectoryID is UsableUUID for the id of a log directory, of which more are
// reserved.
func UsableDirectoryID(id [16]byte) bool {
	return !smallerThan(id, reservedDirectoryIDs) && startsWell(id)
}

// startsWell is false when the first six bits are 62, the "-" of URL-safe base64.
func startsWell(id [16]byte) bool { return id[0]>>2 != 62 }

func smallerThan(id [16]byte, limit uint64) bool {
	return binary.BigEndian.Uint64(id[:8]) == 0 && binary.BigEndian.Uint64(id[8:]) < limit
}
