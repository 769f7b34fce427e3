package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// Kind is what the records of a topic are.
type Kind int8

// The kinds of records that can be decoded.
const (
	KindPlain        Kind = iota // of clients: not decoded
	KindOffsets                  // __consumer_offsets
	KindMetadata                 // __cluster_metadata
	KindTransactions             // __transaction_state
	KindShare                    // __share_group_state
)

// kindNames are the values of --as.
var kindNames = [...]string{"plain", "offsets", "metadata", "transactions", "share"}

// ParseKind reads a name of a kind: plain, offsets, metadata, transactions or share.
func ParseKind(name string) (Kind, bool) {
	for i, n := range kindNames {
		if n == name {
			return Kind(i), true
		}
	}
	return KindPlain, false
}

// kindOf tells by a topic's name what its records are.
func kindOf(topic string) Kind {
	switch topic {
	case "__consumer_offsets":
		return KindOffsets
	case metadata.ClusterMetadataTopic:
		return KindMetadata
	case "__transaction_state":
		return KindTransactions
	case "__share_group_state":
		return KindShare
	}
	return KindPlain
}

// recordReader decodes records of internal topics.
type recordReader struct{ scratch []byte }

// find gives the row of a key's type.
func (k Kind) find(key []byte) (*recordType, error) {
	if len(key) < 2 {
		return nil, fmt.Errorf("a key of %d bytes has no type", len(key))
	}
	rows := map[Kind][]recordType{KindOffsets: groupRecords, KindTransactions: transactionRecords, KindShare: shareRecords}[k]
	number := int16(be16(key))
	for i := range rows {
		if rows[i].number == number {
			return &rows[i], nil
		}
	}
	return nil, fmt.Errorf("%w: type %d", errUnknownRecord, number)
}

// record makes sure that a record of an internal topic can be decoded.
func (r *recordReader) record(k Kind, key, value []byte) error {
	if k == KindMetadata {
		_, _, err := metadata.DecodeRecord(value)
		if errors.Is(err, metadata.ErrUnknownRecord) {
			err = fmt.Errorf("%w: %w", errUnknownRecord, err)
		}
		return err
	}
	if k == KindPlain {
		return nil
	}
	row, err := k.find(key)
	if err != nil {
		return err
	}
	if _, err := row.key.read(r.scratch[:0], key[2:], 0, true); err != nil || value == nil {
		return err
	}
	if len(value) < 2 {
		return fmt.Errorf("%s: %w", row.value.name, errShort)
	}
	_, err = row.value.read(r.scratch[:0], value[2:], int16(be16(value)), true)
	return err
}

// json appends the key and the value of a record as kafka-dump-log prints them: the key as
// {"type","data"}, the value as {"version","data"}, of the metadata log the value only, as
// {"type","version","data"}. value is empty for a tombstone.
func (r *recordReader) json(k Kind, key, value []byte) (keyJSON, valueJSON []byte, err error) {
	if k == KindMetadata {
		m, version, err := metadata.DecodeRecord(value)
		if err != nil {
			return nil, nil, err
		}
		return nil, fmt.Appendf(nil, `{"type":%q,"version":%d,"data":%s}`, m.Type(), version, fieldsJSON(reflect.ValueOf(m))), nil
	}
	row, err := k.find(key)
	if err != nil {
		return nil, nil, err
	}
	keyJSON, err = row.key.read(fmt.Appendf(nil, `{"type":"%d","data":`, row.number), key[2:], 0, false)
	if err != nil {
		return nil, nil, err
	}
	keyJSON = append(keyJSON, '}')
	if value == nil {
		return keyJSON, nil, nil
	}
	if len(value) < 2 {
		return keyJSON, nil, fmt.Errorf("%s: %w", row.value.name, errShort)
	}
	version := int16(be16(value))
	valueJSON, err = row.value.read(fmt.Appendf(nil, `{"version":"%d","data":`, version), value[2:], version, false)
	if err != nil {
		return keyJSON, nil, err
	}
	valueJSON = append(valueJSON, '}')
	if row.value.name == "GroupMetadataValue" {
		valueJSON = openMembers(valueJSON)
	}
	return keyJSON, valueJSON, nil
}

// openMembers replaces the bytes that consumers sent each other by what they say. Of
// other protocols, or bytes that cannot be read, the bytes stay.
func openMembers(valueJSON []byte) []byte {
	var v struct {
		Version string                     `json:"version"`
		Data    map[string]json.RawMessage `json:"data"`
	}
	var members []map[string]json.RawMessage
	if json.Unmarshal(valueJSON, &v) != nil || string(v.Data["protocolType"]) != `"consumer"` || json.Unmarshal(v.Data["members"], &members) != nil {
		return valueJSON
	}
	for _, m := range members {
		for _, name := range []string{"subscription", "assignment"} {
			var b []byte
			s := memberSchema(name)
			if json.Unmarshal(m[name], &b) != nil || len(b) < 2 {
				continue
			}
			version := min(int16(be16(b)), s.max)
			if text, err := s.read(nil, b[2:], version, false); err == nil {
				m[name] = text
			}
		}
	}
	var err error
	if v.Data["members"], err = json.Marshal(members); err != nil {
		return valueJSON
	}
	out, err := json.Marshal(v)
	if err != nil {
		return valueJSON
	}
	return out
}

// controlRecord is a decoded control record: one field is set.
type controlRecord struct {
	kind  metadata.ControlType
	value any // of package metadata; nil for a transaction marker
	epoch int32
}

// controlNames are how kafka-dump-log calls control records, by their type.
var controlNames = [...]string{"ABORT", "COMMIT", "LeaderChange", "SnapshotHeader", "SnapshotFooter", "KRaftVersion", "KRaftVoters"}

// decodeControl reads a control record.
func decodeControl(key, value []byte) (c controlRecord, err error) {
	if c.kind, err = metadata.DecodeControlKey(key); err != nil {
		return c, err
	}
	decode := func(m interface{ Decode([]byte) error }) (controlRecord, error) {
		if len(value) < 2 {
			return c, fmt.Errorf("value of a control record: %w", errShort)
		}
		err := m.Decode(value)
		c.value = m
		return c, err
	}
	switch c.kind {
	case metadata.ControlType(batch.ControlAbort), metadata.ControlType(batch.ControlCommit):
		epoch, ok := batch.MarkerEpoch(value)
		if !ok {
			return c, fmt.Errorf("end transaction marker: %w", errShort)
		}
		c.epoch = epoch
		return c, nil
	case metadata.ControlLeaderChange:
		return decode(new(metadata.LeaderChange))
	case metadata.ControlSnapshotHeader:
		return decode(new(metadata.SnapshotHeader))
	case metadata.ControlSnapshotFooter:
		return decode(new(metadata.SnapshotFooter))
	case metadata.ControlKRaftVersion:
		return decode(new(metadata.KRaftVersion))
	case metadata.ControlKRaftVoters:
		return decode(new(metadata.KRaftVoters))
	}
	return c, fmt.Errorf("%w: control record of type %d", errUnknownRecord, c.kind)
}

// control makes sure that a control record can be decoded.
func (r *recordReader) control(key, value []byte) error {
	_, err := decodeControl(key, value)
	return err
}

// fieldsJSON writes a record of package metadata with Kafka's names of its fields. Fields that
// Kafka leaves out, because the record's version has them not or they have their default, are
// there with their default.
func fieldsJSON(v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return []byte("null")
		}
		return fieldsJSON(v.Elem())
	case reflect.Struct:
		b := []byte{'{'}
		for i := range v.NumField() {
			if v.Field(i).Type() == reflect.TypeFor[metadata.TaggedFields]() && v.Field(i).Len() == 0 {
				continue
			}
			if len(b) > 1 {
				b = append(b, ',')
			}
			name := kafkaName(v.Type().Field(i).Name)
			if v.Type() == reflect.TypeFor[metadata.Voter]() { // Kafka: voterId, voterDirectoryId
				name = "voter" + strings.ToUpper(name[:1]) + name[1:]
			}
			b = append(appendQuoted(b, name), ':')
			b = append(b, fieldsJSON(v.Field(i))...)
		}
		return append(b, '}')
	case reflect.Array:
		if id, ok := v.Interface().([16]byte); ok {
			return appendQuoted(nil, metadata.UUIDString(id))
		}
	case reflect.Slice:
		if v.IsNil() {
			return []byte("null")
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			break // base64
		}
		b := []byte{'['}
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, fieldsJSON(v.Index(i))...)
		}
		return append(b, ']')
	}
	b, err := json.Marshal(v.Interface())
	if err != nil { // a float that is no number
		return appendQuoted(nil, fmt.Sprint(v.Interface()))
	}
	return b
}

// kafkaName is the name of a field in Kafka's JSON: TopicID is topicId.
func kafkaName(name string) string {
	name = strings.ReplaceAll(name, "IDs", "Ids")
	if strings.HasSuffix(name, "ID") {
		name = strings.TrimSuffix(name, "ID") + "Id"
	}
	return strings.ToLower(name[:1]) + name[1:]
}

// appendText appends bytes for people: quoted if they are printable text, else as hex.
func appendText(dst, b []byte) []byte {
	if printable(b) {
		return strconv.AppendQuote(dst, string(b))
	}
	return fmt.Appendf(dst, "0x%x", b)
}
