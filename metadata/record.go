package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// frameVersion is the version of the frame around a metadata record: frame
// version, record type and record version, each an unsigned varint, then the body
// (Kafka's AbstractApiMessageSerde).
const frameVersion = 1

// RecordType is the api key of a metadata record (Kafka's MetadataRecordType).
type RecordType int16

// The record types that Kafka 4.3 reads. 6, 13 and 16 were never released.
const (
	TypeRegisterBroker           RecordType = 0
	TypeUnregisterBroker         RecordType = 1
	TypeTopic                    RecordType = 2
	TypePartition                RecordType = 3
	TypeConfig                   RecordType = 4
	TypePartitionChange          RecordType = 5
	TypeFenceBroker              RecordType = 7
	TypeUnfenceBroker            RecordType = 8
	TypeRemoveTopic              RecordType = 9
	TypeDelegationToken          RecordType = 10
	TypeUserScramCredential      RecordType = 11
	TypeFeatureLevel             RecordType = 12
	TypeClientQuota              RecordType = 14
	TypeProducerIDs              RecordType = 15
	TypeBrokerRegistrationChange RecordType = 17
	TypeAccessControlEntry       RecordType = 18
	TypeRemoveAccessControlEntry RecordType = 19
	TypeNoOp                     RecordType = 20
	TypeZkMigrationState         RecordType = 21
	TypeRemoveUserScram          RecordType = 22
	TypeBeginTransaction         RecordType = 23
	TypeEndTransaction           RecordType = 24
	TypeAbortTransaction         RecordType = 25
	TypeRemoveDelegationToken    RecordType = 26
	TypeRegisterController       RecordType = 27
	TypeClearElr                 RecordType = 28
)

// ErrUnknownRecord: a record type or version that Kafka 4.3 does not write. The
// log was written by a newer Kafka, and is refused as Kafka refuses it: to keep such
// a record without knowing what it does would make a snapshot that says something
// else than the log (decision 23).
var ErrUnknownRecord = errors.New("unknown metadata record: it was written by a newer version, start that one on this directory")

// Message is the body of one metadata record: one of the ...Record types.
type Message interface {
	// Type returns the record type.
	Type() RecordType
	// appendTo appends the body as of that version, which must be a valid one.
	appendTo(b []byte, version int16) []byte
	// decode reads the body of that version. Fields that the version does not have
	// get their default values.
	decode(r *reader, version int16)
}

// recordKind is one row of the table of record types.
type recordKind struct {
	name  string // as kafka-dump-log prints it
	max   int16  // versions 0 to max are valid
	empty func() Message
}

// kind returns the row of a type. The second result is false for an unknown type.
func (t RecordType) kind() (recordKind, bool) {
	switch t {
	case TypeRegisterBroker:
		return recordKind{"REGISTER_BROKER_RECORD", 4, func() Message { return new(RegisterBrokerRecord) }}, true
	case TypeUnregisterBroker:
		return recordKind{"UNREGISTER_BROKER_RECORD", 0, func() Message { return new(UnregisterBrokerRecord) }}, true
	case TypeTopic:
		return recordKind{"TOPIC_RECORD", 0, func() Message { return new(TopicRecord) }}, true
	case TypePartition:
		return recordKind{"PARTITION_RECORD", 2, func() Message { return new(PartitionRecord) }}, true
	case TypeConfig:
		return recordKind{"CONFIG_RECORD", 0, func() Message { return new(ConfigRecord) }}, true
	case TypePartitionChange:
		return recordKind{"PARTITION_CHANGE_RECORD", 2, func() Message { return new(PartitionChangeRecord) }}, true
	case TypeFenceBroker:
		return recordKind{"FENCE_BROKER_RECORD", 0, func() Message { return new(FenceBrokerRecord) }}, true
	case TypeUnfenceBroker:
		return recordKind{"UNFENCE_BROKER_RECORD", 0, func() Message { return new(UnfenceBrokerRecord) }}, true
	case TypeRemoveTopic:
		return recordKind{"REMOVE_TOPIC_RECORD", 0, func() Message { return new(RemoveTopicRecord) }}, true
	case TypeFeatureLevel:
		return recordKind{"FEATURE_LEVEL_RECORD", 0, func() Message { return new(FeatureLevelRecord) }}, true
	case TypeProducerIDs:
		return recordKind{"PRODUCER_IDS_RECORD", 0, func() Message { return new(ProducerIDsRecord) }}, true
	case TypeBrokerRegistrationChange:
		return recordKind{"BROKER_REGISTRATION_CHANGE_RECORD", 3, func() Message { return new(BrokerRegistrationChangeRecord) }}, true
	case TypeNoOp:
		return recordKind{"NO_OP_RECORD", 0, func() Message { return new(NoOpRecord) }}, true
	case TypeBeginTransaction:
		return recordKind{"BEGIN_TRANSACTION_RECORD", 0, func() Message { return new(BeginTransactionRecord) }}, true
	case TypeEndTransaction:
		return recordKind{"END_TRANSACTION_RECORD", 0, func() Message { return new(EndTransactionRecord) }}, true
	case TypeAbortTransaction:
		return recordKind{"ABORT_TRANSACTION_RECORD", 0, func() Message { return new(AbortTransactionRecord) }}, true
	case TypeRegisterController:
		return recordKind{"REGISTER_CONTROLLER_RECORD", 0, func() Message { return new(RegisterControllerRecord) }}, true
	case TypeClearElr:
		return recordKind{"CLEAR_ELR_RECORD", 0, func() Message { return new(ClearElrRecord) }}, true
	}
	return t.keptKind()
}

// keptKind holds the rows of the types about who may do what and how much, and of one
// that means nothing any more.
func (t RecordType) keptKind() (recordKind, bool) {
	switch t {
	case TypeDelegationToken:
		return recordKind{"DELEGATION_TOKEN_RECORD", 0, func() Message { return new(DelegationTokenRecord) }}, true
	case TypeUserScramCredential:
		return recordKind{"USER_SCRAM_CREDENTIAL_RECORD", 0, func() Message { return new(UserScramCredentialRecord) }}, true
	case TypeClientQuota:
		return recordKind{"CLIENT_QUOTA_RECORD", 0, func() Message { return new(ClientQuotaRecord) }}, true
	case TypeAccessControlEntry:
		return recordKind{"ACCESS_CONTROL_ENTRY_RECORD", 0, func() Message { return new(AccessControlEntryRecord) }}, true
	case TypeRemoveAccessControlEntry:
		return recordKind{"REMOVE_ACCESS_CONTROL_ENTRY_RECORD", 0, func() Message { return new(RemoveAccessControlEntryRecord) }}, true
	case TypeZkMigrationState:
		return recordKind{"ZK_MIGRATION_STATE_RECORD", 0, func() Message { return new(ZkMigrationStateRecord) }}, true
	case TypeRemoveUserScram:
		return recordKind{"REMOVE_USER_SCRAM_CREDENTIAL_RECORD", 0, func() Message { return new(RemoveUserScramCredentialRecord) }}, true
	case TypeRemoveDelegationToken:
		return recordKind{"REMOVE_DELEGATION_TOKEN_RECORD", 0, func() Message { return new(RemoveDelegationTokenRecord) }}, true
	}
	return recordKind{}, false
}

// String returns the name that kafka-dump-log prints.
func (t RecordType) String() string {
	if k, ok := t.kind(); ok {
		return k.name
	}
	return fmt.Sprintf("UNKNOWN_RECORD_%d", int16(t))
}

// AppendRecord appends the frame and body of a record: the value of a record in
// __cluster_metadata, whose key is null. The version must be one that the type has.
func AppendRecord(b []byte, m Message, version int16) []byte {
	b = binary.AppendUvarint(b, frameVersion)
	b = binary.AppendUvarint(b, uint64(m.Type()))
	b = binary.AppendUvarint(b, uint64(version))
	return m.appendTo(b, version)
}

// DecodeRecord reads the value of a record of __cluster_metadata. The result does
// not alias b. Unknown tagged fields are skipped; a type or version that Kafka 4.3
// does not know gives ErrUnknownRecord, anything else that is wrong another error.
func DecodeRecord(b []byte) (m Message, version int16, err error) {
	r := &reader{b: b}
	frame, t, v := r.uvarint(), r.uvarint(), r.uvarint()
	if r.err != nil {
		return nil, 0, fmt.Errorf("frame of a metadata record: %w", r.err)
	}
	if frame != frameVersion {
		return nil, 0, fmt.Errorf("%w: frame version %d", ErrUnknownRecord, frame)
	}
	if t > math.MaxInt16 || v > math.MaxInt16 {
		return nil, 0, fmt.Errorf("%w: type %d version %d", ErrUnknownRecord, t, v)
	}
	k, ok := RecordType(t).kind()
	if !ok || int16(v) > k.max {
		return nil, 0, fmt.Errorf("%w: type %d version %d", ErrUnknownRecord, t, v)
	}
	m = k.empty()
	m.decode(r, int16(v))
	if err := r.end(); err != nil {
		return nil, 0, fmt.Errorf("%s version %d: %w", k.name, v, err)
	}
	return m, int16(v), nil
}
