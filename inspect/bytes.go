package inspect

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"unicode"
	"unicode/utf8"
)

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// sortedNames are the keys in order.
func sortedNames(m map[string]int64) []string { return slices.Sorted(maps.Keys(m)) }

// printable tells that bytes are text that a terminal shows as it is.
func printable(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexFunc(b, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' && r != '\r' }) < 0
}
