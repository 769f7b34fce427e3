package metadata

// Endpoint is where a broker or controller listens.
type Endpoint struct {
	Name             string // listener name, for example "PLAINTEXT"
	Host             string
	Port             uint16
	SecurityProtocol int16 // 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL
	Unknown          TaggedFields
}

// FeatureRange is the range of levels of a feature that a node supports.
type FeatureRange struct {
	Name                string
	MinSupportedVersion int16
	MaxSupportedVersion int16
	Unknown             TaggedFields
}

// minEndpointBytes and minFeatureBytes are the sizes of the smallest encodings:
// empty strings (1 byte each), fixed fields, no tagged fields (1 byte).
const (
	minEndpointBytes = 1 + 1 + 2 + 2 + 1
	minFeatureBytes  = 1 + 2 + 2 + 1
)

func appendEndpoints(b []byte, es []Endpoint) []byte {
	b = appendLength(b, len(es))
	for _, e := range es {
		b = appendString(b, e.Name)
		b = appendString(b, e.Host)
		b = appendInt16(b, int16(e.Port))
		b = appendInt16(b, e.SecurityProtocol)
		b = appendTags(b, e.Unknown)
	}
	return b
}

func (r *reader) endpoints() []Endpoint {
	es := []Endpoint{}
	r.required(minEndpointBytes, func() {
		e := Endpoint{Name: r.string(), Host: r.string(), Port: uint16(r.int16()), SecurityProtocol: r.int16()}
		e.Unknown = r.tags(nil)
		es = append(es, e)
	})
	return es
}

func appendFeatureRanges(b []byte, fs []FeatureRange) []byte {
	b = appendLength(b, len(fs))
	for _, f := range fs {
		b = appendString(b, f.Name)
		b = appendInt16(b, f.MinSupportedVersion)
		b = appendInt16(b, f.MaxSupportedVersion)
		b = appendTags(b, f.Unknown)
	}
	return b
}

func (r *reader) featureRanges() []FeatureRange {
	fs := []FeatureRange{}
	r.required(minFeatureBytes, func() {
		f := FeatureRange{Name: r.string(), MinSupportedVersion: r.int16(), MaxSupportedVersion: r.int16()}
		f.Unknown = r.tags(nil)
		fs = append(fs, f)
	})
	return fs
}

// RegisterBrokerRecord registers a broker process. Valid versions 0 to 4.
type RegisterBrokerRecord struct {
	BrokerID             int32
	IsMigratingZkBroker  bool // version 2 and later; always false since Kafka 4.0
	IncarnationID        [16]byte
	BrokerEpoch          int64
	EndPoints            []Endpoint
	Features             []FeatureRange
	Rack                 *string
	Fenced               bool
	InControlledShutdown bool       // version 1 and later
	LogDirs              [][16]byte // version 3 and later
	CordonedLogDirs      [][16]byte // version 4 and later; nil is null: not told yet
	Unknown              TaggedFields
}

// Type implements Message.
func (*RegisterBrokerRecord) Type() RecordType { return TypeRegisterBroker }

func (m *RegisterBrokerRecord) appendTo(b []byte, version int16) []byte {
	b = appendInt32(b, m.BrokerID)
	if version >= 2 {
		b = appendBool(b, m.IsMigratingZkBroker)
	}
	b = append(b, m.IncarnationID[:]...)
	b = appendInt64(b, m.BrokerEpoch)
	b = appendEndpoints(b, m.EndPoints)
	b = appendFeatureRanges(b, m.Features)
	b = appendNullableString(b, m.Rack)
	b = appendBool(b, m.Fenced)
	if version >= 1 {
		b = appendBool(b, m.InControlledShutdown)
	}
	var w tagWriter
	if version >= 3 && len(m.LogDirs) > 0 {
		w.add(0, appendUUIDs(nil, m.LogDirs))
	}
	if version >= 4 && m.CordonedLogDirs != nil {
		w.add(1, appendUUIDs(nil, m.CordonedLogDirs))
	}
	return w.appendTo(b, m.Unknown)
}

func (m *RegisterBrokerRecord) decode(r *reader, version int16) {
	m.BrokerID = r.int32()
	if version >= 2 {
		m.IsMigratingZkBroker = r.bool()
	}
	m.IncarnationID = r.uuid()
	m.BrokerEpoch = r.int64()
	m.EndPoints = r.endpoints()
	m.Features = r.featureRanges()
	m.Rack = r.nullableString()
	m.Fenced = r.bool()
	if version >= 1 {
		m.InControlledShutdown = r.bool()
	}
	m.LogDirs = [][16]byte{}
	m.Unknown = r.tags(func(tag uint32, v *reader) bool {
		switch {
		case tag == 0 && version >= 3:
			m.LogDirs = v.uuids()
		case tag == 1 && version >= 4:
			m.CordonedLogDirs = v.nullableUUIDs()
		default:
			return false
		}
		return true
	})
}

// UnregisterBrokerRecord forgets a broker. Version 0.
type UnregisterBrokerRecord struct {
	BrokerID    int32
	BrokerEpoch int64
	Unknown     TaggedFields
}

// Type implements Message.
func (*UnregisterBrokerRecord) Type() RecordType { return TypeUnregisterBroker }

func (m *UnregisterBrokerRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(appendInt64(appendInt32(b, m.BrokerID), m.BrokerEpoch), m.Unknown)
}

func (m *UnregisterBrokerRecord) decode(r *reader, _ int16) {
	m.BrokerID, m.BrokerEpoch = r.int32(), r.int64()
	m.Unknown = r.tags(nil)
}

// FenceBrokerRecord takes a broker out of service. Version 0. Kafka has written
// BrokerRegistrationChangeRecord instead since 3.3.
type FenceBrokerRecord struct {
	ID      int32
	Epoch   int64
	Unknown TaggedFields
}

// Type implements Message.
func (*FenceBrokerRecord) Type() RecordType { return TypeFenceBroker }

func (m *FenceBrokerRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(appendInt64(appendInt32(b, m.ID), m.Epoch), m.Unknown)
}

func (m *FenceBrokerRecord) decode(r *reader, _ int16) {
	m.ID, m.Epoch = r.int32(), r.int64()
	m.Unknown = r.tags(nil)
}

// UnfenceBrokerRecord puts a broker into service. Version 0. Kafka has written
// BrokerRegistrationChangeRecord instead since 3.3.
type UnfenceBrokerRecord struct {
	ID      int32
	Epoch   int64
	Unknown TaggedFields
}

// Type implements Message.
func (*UnfenceBrokerRecord) Type() RecordType { return TypeUnfenceBroker }

func (m *UnfenceBrokerRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(appendInt64(appendInt32(b, m.ID), m.Epoch), m.Unknown)
}

func (m *UnfenceBrokerRecord) decode(r *reader, _ int16) {
	m.ID, m.Epoch = r.int32(), r.int64()
	m.Unknown = r.tags(nil)
}

// The values of BrokerRegistrationChangeRecord.Fenced and InControlledShutdown.
const (
	changeUnfence              int8 = -1
	changeNone                 int8 = 0
	changeFence                int8 = 1
	changeInControlledShutdown int8 = 1
)

// BrokerRegistrationChangeRecord changes parts of a registration. Valid versions
// 0 to 3.
type BrokerRegistrationChangeRecord struct {
	BrokerID             int32
	BrokerEpoch          int64
	Fenced               int8       // -1 unfenced, 0 no change, 1 fenced
	InControlledShutdown int8       // version 1 and later: 0 no change, 1 entered
	LogDirs              [][16]byte // version 2 and later; empty is no change
	CordonedLogDirs      [][16]byte // version 3 and later; nil is no change
	Unknown              TaggedFields
}

// Type implements Message.
func (*BrokerRegistrationChangeRecord) Type() RecordType { return TypeBrokerRegistrationChange }

func (m *BrokerRegistrationChangeRecord) appendTo(b []byte, version int16) []byte {
	b = appendInt64(appendInt32(b, m.BrokerID), m.BrokerEpoch)
	var w tagWriter
	if m.Fenced != changeNone {
		w.add(0, []byte{byte(m.Fenced)})
	}
	if version >= 1 && m.InControlledShutdown != changeNone {
		w.add(1, []byte{byte(m.InControlledShutdown)})
	}
	if version >= 2 && len(m.LogDirs) > 0 {
		w.add(2, appendUUIDs(nil, m.LogDirs))
	}
	if version >= 3 && m.CordonedLogDirs != nil {
		w.add(3, appendUUIDs(nil, m.CordonedLogDirs))
	}
	return w.appendTo(b, m.Unknown)
}

func (m *BrokerRegistrationChangeRecord) decode(r *reader, version int16) {
	m.BrokerID, m.BrokerEpoch = r.int32(), r.int64()
	m.LogDirs = [][16]byte{}
	m.Unknown = r.tags(func(tag uint32, v *reader) bool {
		switch {
		case tag == 0:
			m.Fenced = v.int8()
		case tag == 1 && version >= 1:
			m.InControlledShutdown = v.int8()
		case tag == 2 && version >= 2:
			m.LogDirs = v.uuids()
		case tag == 3 && version >= 3:
			m.CordonedLogDirs = v.nullableUUIDs()
		default:
			return false
		}
		return true
	})
}

// RegisterControllerRecord registers a controller process (KIP-919). Version 0.
type RegisterControllerRecord struct {
	ControllerID     int32
	IncarnationID    [16]byte
	ZkMigrationReady bool // always false since Kafka 4.0
	EndPoints        []Endpoint
	Features         []FeatureRange
	Unknown          TaggedFields
}

// Type implements Message.
func (*RegisterControllerRecord) Type() RecordType { return TypeRegisterController }

func (m *RegisterControllerRecord) appendTo(b []byte, _ int16) []byte {
	b = appendInt32(b, m.ControllerID)
	b = append(b, m.IncarnationID[:]...)
	b = appendBool(b, m.ZkMigrationReady)
	b = appendEndpoints(b, m.EndPoints)
	b = appendFeatureRanges(b, m.Features)
	return appendTags(b, m.Unknown)
}

func (m *RegisterControllerRecord) decode(r *reader, _ int16) {
	m.ControllerID = r.int32()
	m.IncarnationID = r.uuid()
	m.ZkMigrationReady = r.bool()
	m.EndPoints = r.endpoints()
	m.Features = r.featureRanges()
	m.Unknown = r.tags(nil)
}

// FeatureLevelRecord finalizes the level of a feature; 0 removes it. Version 0
// for ever: every metadata log begins with one, which says how to read the rest.
type FeatureLevelRecord struct {
	Name         string
	FeatureLevel int16
	Unknown      TaggedFields
}

// Type implements Message.
func (*FeatureLevelRecord) Type() RecordType { return TypeFeatureLevel }

func (m *FeatureLevelRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(appendInt16(appendString(b, m.Name), m.FeatureLevel), m.Unknown)
}

func (m *FeatureLevelRecord) decode(r *reader, _ int16) {
	m.Name, m.FeatureLevel = r.string(), r.int16()
	m.Unknown = r.tags(nil)
}

// ProducerIDsRecord hands a block of producer ids to a broker. Version 0.
type ProducerIDsRecord struct {
	BrokerID       int32
	BrokerEpoch    int64
	NextProducerID int64 // the first id of the next block
	Unknown        TaggedFields
}

// Type implements Message.
func (*ProducerIDsRecord) Type() RecordType { return TypeProducerIDs }

func (m *ProducerIDsRecord) appendTo(b []byte, _ int16) []byte {
	b = appendInt64(appendInt32(b, m.BrokerID), m.BrokerEpoch)
	return appendTags(appendInt64(b, m.NextProducerID), m.Unknown)
}

func (m *ProducerIDsRecord) decode(r *reader, _ int16) {
	m.BrokerID, m.BrokerEpoch, m.NextProducerID = r.int32(), r.int64(), r.int64()
	m.Unknown = r.tags(nil)
}

// NoOpRecord only makes the log grow. Version 0.
type NoOpRecord struct{ Unknown TaggedFields }

// Type implements Message.
func (*NoOpRecord) Type() RecordType { return TypeNoOp }

func (m *NoOpRecord) appendTo(b []byte, _ int16) []byte { return appendTags(b, m.Unknown) }
func (m *NoOpRecord) decode(r *reader, _ int16)         { m.Unknown = r.tags(nil) }

// ZkMigrationStateRecord told how far a migration from ZooKeeper was. Version 0.
// Kafka 4.x does not write it any more.
type ZkMigrationStateRecord struct {
	ZkMigrationState int8
	Unknown          TaggedFields
}

// Type implements Message.
func (*ZkMigrationStateRecord) Type() RecordType { return TypeZkMigrationState }

func (m *ZkMigrationStateRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(append(b, byte(m.ZkMigrationState)), m.Unknown)
}

func (m *ZkMigrationStateRecord) decode(r *reader, _ int16) {
	m.ZkMigrationState = r.int8()
	m.Unknown = r.tags(nil)
}

// BeginTransactionRecord opens a metadata transaction (KIP-868): the records up to
// the EndTransactionRecord become visible together or, after an
// AbortTransactionRecord, not at all. Version 0.
type BeginTransactionRecord struct {
	Name    *string
	Unknown TaggedFields
}

// Type implements Message.
func (*BeginTransactionRecord) Type() RecordType { return TypeBeginTransaction }

func (m *BeginTransactionRecord) appendTo(b []byte, _ int16) []byte {
	return appendOnlyTaggedString(b, m.Name, m.Unknown)
}

func (m *BeginTransactionRecord) decode(r *reader, _ int16) {
	m.Name, m.Unknown = r.onlyTaggedString()
}

// EndTransactionRecord makes a metadata transaction visible. Version 0.
type EndTransactionRecord struct{ Unknown TaggedFields }

// Type implements Message.
func (*EndTransactionRecord) Type() RecordType { return TypeEndTransaction }

func (m *EndTransactionRecord) appendTo(b []byte, _ int16) []byte { return appendTags(b, m.Unknown) }
func (m *EndTransactionRecord) decode(r *reader, _ int16)         { m.Unknown = r.tags(nil) }

// AbortTransactionRecord undoes a metadata transaction. Version 0.
type AbortTransactionRecord struct {
	Reason  *string
	Unknown TaggedFields
}

// Type implements Message.
func (*AbortTransactionRecord) Type() RecordType { return TypeAbortTransaction }

func (m *AbortTransactionRecord) appendTo(b []byte, _ int16) []byte {
	return appendOnlyTaggedString(b, m.Reason, m.Unknown)
}

func (m *AbortTransactionRecord) decode(r *reader, _ int16) {
	m.Reason, m.Unknown = r.onlyTaggedString()
}

// appendOnlyTaggedString writes a body whose one field is the nullable string of
// tag 0, null by default.
func appendOnlyTaggedString(b []byte, s *string, unknown TaggedFields) []byte {
	var w tagWriter
	if s != nil {
		w.add(0, appendString(nil, *s))
	}
	return w.appendTo(b, unknown)
}

func (r *reader) onlyTaggedString() (s *string, unknown TaggedFields) {
	unknown = r.tags(func(tag uint32, v *reader) bool {
		if tag != 0 {
			return false
		}
		s = v.nullableString()
		return true
	})
	return s, unknown
}
