package metadata

// The records below are kept in the image as they are (see kept.go).

// ClientQuotaRecord sets or removes a quota (KIP-546). Version 0.
type ClientQuotaRecord struct {
	Entity  []QuotaEntity
	Key     string
	Value   float64
	Remove  bool
	Unknown TaggedFields
}

// QuotaEntity is one part of whom a quota is for.
type QuotaEntity struct {
	EntityType string  // "user", "client-id" or "ip"
	EntityName *string // nil is the default entity
	Unknown    TaggedFields
}

// Type implements Message.
func (*ClientQuotaRecord) Type() RecordType { return TypeClientQuota }

func (m *ClientQuotaRecord) appendTo(b []byte, _ int16) []byte {
	b = appendLength(b, len(m.Entity))
	for _, e := range m.Entity {
		b = appendTags(appendNullableString(appendString(b, e.EntityType), e.EntityName), e.Unknown)
	}
	b = appendString(b, m.Key)
	b = appendFloat64(b, m.Value)
	return appendTags(appendBool(b, m.Remove), m.Unknown)
}

func (m *ClientQuotaRecord) decode(r *reader, _ int16) {
	m.Entity = []QuotaEntity{}
	r.required(3, func() {
		e := QuotaEntity{EntityType: r.string(), EntityName: r.nullableString()}
		e.Unknown = r.tags(nil)
		m.Entity = append(m.Entity, e)
	})
	m.Key = r.string()
	m.Value = r.float64()
	m.Remove = r.bool()
	m.Unknown = r.tags(nil)
}

// UserScramCredentialRecord sets a user's SCRAM credential (KIP-900). Version 0.
type UserScramCredentialRecord struct {
	Name       string
	Mechanism  int8 // 1 SCRAM-SHA-256, 2 SCRAM-SHA-512
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte
	Iterations int32
	Unknown    TaggedFields
}

// Type implements Message.
func (*UserScramCredentialRecord) Type() RecordType { return TypeUserScramCredential }

func (m *UserScramCredentialRecord) appendTo(b []byte, _ int16) []byte {
	b = append(appendString(b, m.Name), byte(m.Mechanism))
	b = appendBytes(b, m.Salt)
	b = appendBytes(b, m.StoredKey)
	b = appendBytes(b, m.ServerKey)
	return appendTags(appendInt32(b, m.Iterations), m.Unknown)
}

func (m *UserScramCredentialRecord) decode(r *reader, _ int16) {
	m.Name, m.Mechanism = r.string(), r.int8()
	m.Salt, m.StoredKey, m.ServerKey = r.bytes(), r.bytes(), r.bytes()
	m.Iterations = r.int32()
	m.Unknown = r.tags(nil)
}

// RemoveUserScramCredentialRecord removes a SCRAM credential. Version 0.
type RemoveUserScramCredentialRecord struct {
	Name      string
	Mechanism int8
	Unknown   TaggedFields
}

// Type implements Message.
func (*RemoveUserScramCredentialRecord) Type() RecordType { return TypeRemoveUserScram }

func (m *RemoveUserScramCredentialRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(append(appendString(b, m.Name), byte(m.Mechanism)), m.Unknown)
}

func (m *RemoveUserScramCredentialRecord) decode(r *reader, _ int16) {
	m.Name, m.Mechanism = r.string(), r.int8()
	m.Unknown = r.tags(nil)
}

// AccessControlEntryRecord adds an ACL (KIP-801). Version 0.
type AccessControlEntryRecord struct {
	ID             [16]byte
	ResourceType   int8
	ResourceName   string
	PatternType    int8
	Principal      string
	Host           string
	Operation      int8
	PermissionType int8
	Unknown        TaggedFields
}

// Type implements Message.
func (*AccessControlEntryRecord) Type() RecordType { return TypeAccessControlEntry }

func (m *AccessControlEntryRecord) appendTo(b []byte, _ int16) []byte {
	b = append(append(b, m.ID[:]...), byte(m.ResourceType))
	b = append(appendString(b, m.ResourceName), byte(m.PatternType))
	b = appendString(appendString(b, m.Principal), m.Host)
	return appendTags(append(b, byte(m.Operation), byte(m.PermissionType)), m.Unknown)
}

func (m *AccessControlEntryRecord) decode(r *reader, _ int16) {
	m.ID, m.ResourceType = r.uuid(), r.int8()
	m.ResourceName, m.PatternType = r.string(), r.int8()
	m.Principal, m.Host = r.string(), r.string()
	m.Operation, m.PermissionType = r.int8(), r.int8()
	m.Unknown = r.tags(nil)
}

// RemoveAccessControlEntryRecord removes an ACL. Version 0.
type RemoveAccessControlEntryRecord struct {
	ID      [16]byte
	Unknown TaggedFields
}

// Type implements Message.
func (*RemoveAccessControlEntryRecord) Type() RecordType { return TypeRemoveAccessControlEntry }

func (m *RemoveAccessControlEntryRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(append(b, m.ID[:]...), m.Unknown)
}

func (m *RemoveAccessControlEntryRecord) decode(r *reader, _ int16) {
	m.ID = r.uuid()
	m.Unknown = r.tags(nil)
}

// DelegationTokenRecord adds or renews a delegation token (KIP-900). Version 0.
type DelegationTokenRecord struct {
	Owner               string
	Requester           string
	Renewers            []string
	IssueTimestamp      int64 // milliseconds since 1970, here and below
	MaxTimestamp        int64
	ExpirationTimestamp int64
	TokenID             string
	Unknown             TaggedFields
}

// Type implements Message.
func (*DelegationTokenRecord) Type() RecordType { return TypeDelegationToken }

func (m *DelegationTokenRecord) appendTo(b []byte, _ int16) []byte {
	b = appendString(appendString(b, m.Owner), m.Requester)
	b = appendLength(b, len(m.Renewers))
	for _, s := range m.Renewers {
		b = appendString(b, s)
	}
	b = appendInt64(appendInt64(b, m.IssueTimestamp), m.MaxTimestamp)
	b = appendInt64(b, m.ExpirationTimestamp)
	return appendTags(appendString(b, m.TokenID), m.Unknown)
}

func (m *DelegationTokenRecord) decode(r *reader, _ int16) {
	m.Owner, m.Requester = r.string(), r.string()
	m.Renewers = []string{}
	r.required(1, func() { m.Renewers = append(m.Renewers, r.string()) })
	m.IssueTimestamp, m.MaxTimestamp, m.ExpirationTimestamp = r.int64(), r.int64(), r.int64()
	m.TokenID = r.string()
	m.Unknown = r.tags(nil)
}

// RemoveDelegationTokenRecord removes a delegation token. Version 0.
type RemoveDelegationTokenRecord struct {
	TokenID string
	Unknown TaggedFields
}

// Type implements Message.
func (*RemoveDelegationTokenRecord) Type() RecordType { return TypeRemoveDelegationToken }

func (m *RemoveDelegationTokenRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(appendString(b, m.TokenID), m.Unknown)
}

func (m *RemoveDelegationTokenRecord) decode(r *reader, _ int16) {
	m.TokenID = r.string()
	m.Unknown = r.tags(nil)
}
