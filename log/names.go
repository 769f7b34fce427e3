package log

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// File name suffixes (LogFileUtils).
const (
	logSuffix       = ".log"
	indexSuffix     = ".index"
	timeIndexSuffix = ".timeindex"
	txnIndexSuffix  = ".txnindex"
	snapshotSuffix  = ".snapshot"
	deletedSuffix   = ".deleted"
	cleanedSuffix   = ".cleaned"
	swapSuffix      = ".swap"
	deleteDirSuffix = "-delete"
	strayDirSuffix  = "-stray"
	futureDirSuffix = "-future"
)

// maxDirNameBytes is what file systems allow; Kafka cuts the topic's name to fit.
const maxDirNameBytes = 255

// offsetName is the first part of a segment's file names: 20 digits.
func offsetName(offset int64) string { return fmt.Sprintf("%020d", offset) }

// offsetOf reads the offset of a file name with this suffix.
func offsetOf(name, suffix string) (offset int64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	offset, err := strconv.ParseInt(digits, 10, 64)
	return offset, err == nil && offset >= 0
}

// placeOf reads a partition directory's name; false for others, such as those that
// are being deleted.
func placeOf(name string) (place, bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || strings.HasSuffix(name, deleteDirSuffix) || strings.HasSuffix(name, strayDirSuffix) || strings.HasSuffix(name, futureDirSuffix) {
		return place{}, false
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != name[i+1:] {
		return place{}, false
	}
	return place{name[:i], int32(n)}, true
}

// futureOf reads the name of a directory that is to take a partition's place
// (UnifiedLog.logFutureDirName).
func futureOf(name string) (place, bool) {
	rest, ok := strings.CutSuffix(name, futureDirSuffix)
	i := len(rest) - hex.EncodedLen(16) - 1
	if !ok || i < 0 || rest[i] != '.' {
		return place{}, false
	}
	if _, err := hex.DecodeString(rest[i+1:]); err != nil {
		return place{}, false
	}
	return placeOf(rest[:i])
}

// retiredName is the name of a partition directory that is out of use:
// topic-partition.<32 hex digits><suffix> (LogFileUtils.logDirNameWithSuffixCap).
func retiredName(p place, id [16]byte, suffix string) string {
	tail := "-" + strconv.Itoa(int(p.partition)) + "." + hex.EncodeToString(id[:]) + suffix
	return p.topic[:min(len(p.topic), maxDirNameBytes-len(tail))] + tail
}

// formatID is Kafka's text form of an id: base64 for URLs, without padding.
func formatID(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseID(s string) (id [16]byte, err error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is not an id", s)
	}
	return [16]byte(b), nil
}
