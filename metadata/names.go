package metadata

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// Names of the topics that Kafka itself keeps.
const (
	GroupMetadataTopic    = "__consumer_offsets"
	TransactionStateTopic = "__transaction_state"
	ShareGroupStateTopic  = "__share_group_state"
	ClusterMetadataTopic  = "__cluster_metadata"
)

// ClusterMetadataTopicID is the id of the metadata topic.
var ClusterMetadataTopicID = [16]byte{15: 1}

// MaxTopicNameLength is the longest name of a topic, in characters: with "-" and a
// partition number it must still fit into a file name of 255.
const MaxTopicNameLength = 249

// Internal reports whether clients see the topic as internal. The metadata topic
// is none of these: clients do not see it at all.
func Internal(topic string) bool {
	switch topic {
	case GroupMetadataTopic, TransactionStateTopic, ShareGroupStateTopic:
		return true
	}
	return false
}

// InvalidTopicName returns why a name cannot be that of a topic, in the words of
// Kafka's InvalidTopicException, or "" if it can.
func InvalidTopicName(name string) string {
	if why := invalidName(name); why != "" {
		return "Topic name is invalid: " + why
	}
	return ""
}

func invalidName(name string) string {
	switch {
	case name == "":
		return "the empty string is not allowed"
	case name == "." || name == "..":
		return "'" + name + "' is not allowed"
	case len(utf16.Encode([]rune(name))) > MaxTopicNameLength:
		return fmt.Sprintf("the length of '%s' is longer than the max allowed length %d", name, MaxTopicNameLength)
	}
	for i := 0; i < len(name); i++ {
		if !legalInTopicName(name[i]) {
			return "'" + name + "' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
		}
	}
	return ""
}

func legalInTopicName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// collisionKey returns the name with "." replaced by "_" and whether it has either
// of them. Topics with the same key would share the names of their metrics.
func collisionKey(topic string) (string, bool) {
	if !strings.ContainsAny(topic, "._") {
		return "", false
	}
	return strings.ReplaceAll(topic, ".", "_"), true
}

// PartitionFor returns the partition of an internal topic of n partitions that
// keeps the state of a key: of a group id in __consumer_offsets, a transactional
// id in __transaction_state, "group:topicId:partition" in __share_group_state. It
// is |String.hashCode(key)| modulo n, where the hash that has no positive
// counterpart counts as 0 (Kafka's Utils.abs). n must be positive.
func PartitionFor(key string, n int32) int32 {
	h := javaHash(key)
	if h < 0 {
		h = -h
	}
	if h < 0 {
		h = 0
	}
	return h % n
}

// javaHash is String.hashCode: 31-polynomial over the UTF-16 code units.
func javaHash(s string) int32 {
	var h int32
	for _, r := range s {
		if r < 0x10000 {
			h = 31*h + r
			continue
		}
		hi, lo := utf16.EncodeRune(r)
		h = 31*(31*h+hi) + lo
	}
	return h
}
