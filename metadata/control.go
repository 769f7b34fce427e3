package metadata

import (
	"encoding/binary"
	"fmt"
)

// ControlType is the kind of a control record in a metadata log or snapshot. The
// kinds 0 and 1 are the transaction markers of other logs.
type ControlType int16

// The control records that KRaft writes.
const (
	ControlLeaderChange   ControlType = 2 // opens every epoch
	ControlSnapshotHeader ControlType = 3 // opens a snapshot
	ControlSnapshotFooter ControlType = 4 // ends a snapshot
	ControlKRaftVersion   ControlType = 5 // only with kraft.version 1 and later
	ControlKRaftVoters    ControlType = 6 // only with kraft.version 1 and later
)

// AppendControlKey appends the key of a control record: version 0 and the kind.
func AppendControlKey(b []byte, t ControlType) []byte {
	return appendInt16(appendInt16(b, 0), int16(t))
}

// DecodeControlKey reads the key of a control record. Later versions of the key
// only add fields at the end, so any version that is not negative is accepted.
func DecodeControlKey(b []byte) (ControlType, error) {
	if len(b) < 4 {
		return 0, fmt.Errorf("key of a control record: %w", errShort)
	}
	if v := int16(binary.BigEndian.Uint16(b)); v < 0 {
		return 0, fmt.Errorf("key of a control record: version %d", v)
	}
	return ControlType(binary.BigEndian.Uint16(b[2:])), nil
}

// LeaderChange is the value of the control record that opens an epoch of a
// metadata log. Kafka 4.3 writes version 0, which has no directory ids, even when
// its voters are known by directory.
type LeaderChange struct {
	Version        int16
	LeaderID       int32
	Voters         []Voter
	GrantingVoters []Voter // who voted for the leader
}

// Voter names a voter in a LeaderChange.
type Voter struct {
	ID          int32
	DirectoryID [16]byte // version 1 and later
}

// AppendTo appends the record's value.
func (m *LeaderChange) AppendTo(b []byte) []byte {
	b = appendInt32(appendInt16(b, m.Version), m.LeaderID)
	for _, vs := range [][]Voter{m.Voters, m.GrantingVoters} {
		b = appendLength(b, len(vs))
		for _, v := range vs {
			b = appendInt32(b, v.ID)
			if m.Version >= 1 {
				b = append(b, v.DirectoryID[:]...)
			}
			b = append(b, 0)
		}
	}
	return append(b, 0)
}

// Decode reads the record's value, which must be of version 0 or 1.
func (m *LeaderChange) Decode(b []byte) error {
	r := &reader{b: b}
	*m = LeaderChange{Version: r.int16(), LeaderID: r.int32()}
	if m.Version < 0 || m.Version > 1 {
		return fmt.Errorf("LeaderChange of version %d", m.Version)
	}
	for _, vs := range []*[]Voter{&m.Voters, &m.GrantingVoters} {
		r.required(5, func() {
			v := Voter{ID: r.int32()}
			if m.Version >= 1 {
				v.DirectoryID = r.uuid()
			}
			r.tags(nil)
			*vs = append(*vs, v)
		})
	}
	r.tags(nil)
	return wrapControl("LeaderChange", r.end())
}

// KRaftVersion is the value of the control record that sets kraft.version. A
// cluster with static voters (kraft.version 0) has none.
type KRaftVersion struct {
	Version      int16 // of the record: 0
	KRaftVersion int16
}

// AppendTo appends the record's value.
func (m *KRaftVersion) AppendTo(b []byte) []byte {
	return append(appendInt16(appendInt16(b, m.Version), m.KRaftVersion), 0)
}

// Decode reads the record's value.
func (m *KRaftVersion) Decode(b []byte) error {
	r := &reader{b: b}
	*m = KRaftVersion{Version: r.int16(), KRaftVersion: r.int16()}
	r.tags(nil)
	return wrapControl("KRaftVersion", r.end())
}

// KRaftVoters is the value of the control record that names the voters (KIP-853).
type KRaftVoters struct {
	Version int16 // of the record: 0
	Voters  []KRaftVoter
}

// KRaftVoter is one voter of a KRaftVoters record.
type KRaftVoter struct {
	ID          int32
	DirectoryID [16]byte
	Endpoints   []VoterEndpoint

	MinSupportedVersion int16 // of kraft.version
	MaxSupportedVersion int16
}

// VoterEndpoint is where a voter listens.
type VoterEndpoint struct {
	Name string // listener name
	Host string
	Port uint16
}

// minVoterBytes and minVoterEndpointBytes are the sizes of the smallest encodings.
const (
	minVoterBytes         = 4 + 16 + 1 + 2 + 2 + 1 + 1
	minVoterEndpointBytes = 1 + 1 + 2 + 1
)

// AppendTo appends the record's value.
func (m *KRaftVoters) AppendTo(b []byte) []byte {
	b = appendLength(appendInt16(b, m.Version), len(m.Voters))
	for _, v := range m.Voters {
		b = append(appendInt32(b, v.ID), v.DirectoryID[:]...)
		b = appendLength(b, len(v.Endpoints))
		for _, e := range v.Endpoints {
			b = appendString(appendString(b, e.Name), e.Host)
			b = append(appendInt16(b, int16(e.Port)), 0)
		}
		b = appendInt16(appendInt16(b, v.MinSupportedVersion), v.MaxSupportedVersion)
		b = append(b, 0, 0) // of the version range, of the voter
	}
	return append(b, 0)
}

// Decode reads the record's value.
func (m *KRaftVoters) Decode(b []byte) error {
	r := &reader{b: b}
	*m = KRaftVoters{Version: r.int16()}
	r.required(minVoterBytes, func() {
		v := KRaftVoter{ID: r.int32(), DirectoryID: r.uuid()}
		r.required(minVoterEndpointBytes, func() {
			v.Endpoints = append(v.Endpoints, VoterEndpoint{Name: r.string(), Host: r.string(), Port: uint16(r.int16())})
			r.tags(nil)
		})
		v.MinSupportedVersion, v.MaxSupportedVersion = r.int16(), r.int16()
		r.tags(nil)
		r.tags(nil)
		m.Voters = append(m.Voters, v)
	})
	r.tags(nil)
	return wrapControl("KRaftVoters", r.end())
}

// SnapshotHeader is the value of the first record of a snapshot.
type SnapshotHeader struct {
	Version                   int16 // of the record: 0
	LastContainedLogTimestamp int64 // milliseconds since 1970
}

// AppendTo appends the record's value.
func (m *SnapshotHeader) AppendTo(b []byte) []byte {
	return append(appendInt64(appendInt16(b, m.Version), m.LastContainedLogTimestamp), 0)
}

// Decode reads the record's value.
func (m *SnapshotHeader) Decode(b []byte) error {
	r := &reader{b: b}
	*m = SnapshotHeader{Version: r.int16(), LastContainedLogTimestamp: r.int64()}
	r.tags(nil)
	return wrapControl("SnapshotHeader", r.end())
}

// SnapshotFooter is the value of the last record of a snapshot: one without it is
// not complete.
type SnapshotFooter struct{ Version int16 } // of the record: 0

// AppendTo appends the record's value.
func (m *SnapshotFooter) AppendTo(b []byte) []byte { return append(appendInt16(b, m.Version), 0) }

// Decode reads the record's value.
func (m *SnapshotFooter) Decode(b []byte) error {
	r := &reader{b: b}
	*m = SnapshotFooter{Version: r.int16()}
	r.tags(nil)
	return wrapControl("SnapshotFooter", r.end())
}

func wrapControl(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("value of a %s record: %w", name, err)
}
