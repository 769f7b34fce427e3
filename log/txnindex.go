package log

import (
	"encoding/binary"
	"fmt"
)

// abortedBytes is the size of a transaction index entry (AbortedTxn): version i16,
// producer id, first offset, last offset, last stable offset, each i64.
const abortedBytes = 2 + 4*8

// abortedTxn is an aborted transaction, kept in the segment that holds its marker.
type abortedTxn struct {
	producerID              int64
	firstOffset, lastOffset int64 // lastOffset is the marker's
	stable                  int64 // the last stable offset after the marker
}

// AbortedTxn tells a read_committed reader to skip the producer's records from
// FirstOffset to its next abort marker.
type AbortedTxn struct{ ProducerID, FirstOffset int64 }

func appendAborted(b []byte, entries []abortedTxn) []byte {
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint64(b, uint64(e.producerID))
		b = binary.BigEndian.AppendUint64(b, uint64(e.firstOffset))
		b = binary.BigEndian.AppendUint64(b, uint64(e.lastOffset))
		b = binary.BigEndian.AppendUint64(b, uint64(e.stable))
	}
	return b
}

func decodeAborted(b []byte) abortedTxn {
	return abortedTxn{
		producerID: int64(binary.BigEndian.Uint64(b[2:])), firstOffset: int64(binary.BigEndian.Uint64(b[10:])),
		lastOffset: int64(binary.BigEndian.Uint64(b[18:])), stable: int64(binary.BigEndian.Uint64(b[26:])),
	}
}

// parseAborted reads a transaction index file. Error: errDoubt.
func parseAborted(b []byte, baseOffset int64) ([]abortedTxn, error) {
	if len(b)%abortedBytes != 0 {
		return nil, fmt.Errorf("%w: transaction index has %d bytes", errDoubt, len(b))
	}
	entries := make([]abortedTxn, 0, len(b)/abortedBytes)
	for ; len(b) > 0; b = b[abortedBytes:] {
		e := decodeAborted(b)
		n := len(entries)
		if binary.BigEndian.Uint16(b) != 0 || e.lastOffset < baseOffset || e.firstOffset > e.lastOffset || n > 0 && e.lastOffset <= entries[n-1].lastOffset {
			return nil, fmt.Errorf("%w: transaction entry %d %+v", errDoubt, n, e)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// collectAborted appends the transactions that touch [from, upper). done tells that
// later segments have nothing to add (TransactionIndex.collectAbortedTxns).
func collectAborted(dst []AbortedTxn, entries []abortedTxn, from, upper int64) (out []AbortedTxn, done bool) {
	for _, e := range entries {
		if e.lastOffset >= from && e.firstOffset < upper {
			dst = append(dst, AbortedTxn{e.producerID, e.firstOffset})
		}
		if e.stable >= upper {
			return dst, true
		}
	}
	return dst, false
}
