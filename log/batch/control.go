package batch

import "encoding/binary"

// ControlKind is the second field of a control record's key.
type ControlKind int16

// Control record types (ControlRecordType). Only the first two end transactions;
// the rest belong to KRaft's metadata log.
const (
	ControlAbort ControlKind = iota
	ControlCommit
	ControlLeaderChange
	ControlSnapshotHeader
	ControlSnapshotFooter
	ControlKRaftVersion
	ControlKRaftVoters
)

const (
	controlKeyBytes  = 4
	markerValueBytes = 6
)

// ControlType reads a control record's key. False if it is too short.
func ControlType(key []byte) (ControlKind, bool) {
	if len(key) < controlKeyBytes {
		return 0, false
	}
	return ControlKind(binary.BigEndian.Uint16(key[2:])), true
}

// ControlKey is the key of a control record: version 0, then the type.
func ControlKey(k ControlKind) []byte {
	return binary.BigEndian.AppendUint16(make([]byte, 2, controlKeyBytes), uint16(k))
}

// MarkerValue is the value of a commit or abort marker: version 0, then the epoch
// of the transaction coordinator (EndTxnMarker).
func MarkerValue(coordinatorEpoch int32) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 2, markerValueBytes), uint32(coordinatorEpoch))
}

// MarkerEpoch reads the coordinator epoch from a marker's value.
func MarkerEpoch(value []byte) (coordinatorEpoch int32, ok bool) {
	if len(value) < markerValueBytes {
		return 0, false
	}
	return int32(binary.BigEndian.Uint32(value[2:])), true
}

// AppendMarker appends a control batch that ends a transaction.
func AppendMarker(dst []byte, producerID int64, producerEpoch int16, kind ControlKind, coordinatorEpoch int32, timestamp int64) []byte {
	o := Options{ProducerID: producerID, ProducerEpoch: producerEpoch, BaseSequence: NoSequence, Transactional: true, Control: true, LeaderEpoch: NoLeaderEpoch}
	return appendPlain(dst, &o, []Message{{Timestamp: timestamp, Key: ControlKey(kind), Value: MarkerValue(coordinatorEpoch)}})
}
