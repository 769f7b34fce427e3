package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// maxKRaftVersion is the highest kraft.version that is understood.
const maxKRaftVersion = 1

// Quorum is what the control records of a metadata log and its snapshot say about the
// voters (KIP-853). The zero value is that of a log without such records: the voters
// are static, from controller.quorum.voters.
type Quorum struct {
	Version int16 // kraft.version
	Voters  []KRaftVoter

	// record is the newest KRaftVoters as it was read, nil if there is none.
	record []byte
}

// Apply takes over one control record. Kinds that say nothing about the voters are
// left out.
func (q *Quorum) Apply(t ControlType, value []byte) error {
	switch t {
	case ControlKRaftVersion:
		var m KRaftVersion
		if err := m.Decode(value); err != nil {
			return err
		}
		if m.KRaftVersion < 0 || m.KRaftVersion > maxKRaftVersion {
			return fmt.Errorf("feature %s is supported at levels 0 to %d, the log has it at %d", FeatureKRaftVersion, maxKRaftVersion, m.KRaftVersion)
		}
		q.Version = m.KRaftVersion
	case ControlKRaftVoters:
		var m KRaftVoters
		if err := m.Decode(value); err != nil {
			return err
		}
		q.Voters, q.record = m.Voters, bytes.Clone(value)
	}
	return nil
}

// SetVoters makes these the voters, at kraft.version 1.
func (q *Quorum) SetVoters(vs []KRaftVoter) {
	q.Version, q.Voters = 1, vs
	q.record = (&KRaftVoters{Voters: vs}).AppendTo(nil)
}

// Check refuses a quorum that this node cannot lead alone.
func (q *Quorum) Check(nodeID int32) error {
	if q.Version == 0 {
		return nil
	}
	if len(q.Voters) == 0 {
		return errors.New("kraft.version is 1 but no control record names the voters")
	}
	if len(q.Voters) > 1 || q.Voters[0].ID != nodeID {
		ids := make([]int32, len(q.Voters))
		for i, v := range q.Voters {
			ids[i] = v.ID
		}
		slices.Sort(ids)
		return fmt.Errorf("the metadata quorum has the voters %v, and only node %d alone can be served: remove the others with kafka-metadata-quorum first, or serve the directory of the last voter", ids, nodeID)
	}
	return nil
}

// ControlRecord is the kind and value of a control record.
type ControlRecord struct {
	Type  ControlType
	Value []byte
}

// ControlRecords are the records that say the same again: at the head of a snapshot,
// and in the first epoch of a log whose voters only bootstrapping named. There are
// none at kraft.version 0.
func (q *Quorum) ControlRecords() []ControlRecord {
	if q.Version == 0 {
		return nil
	}
	rs := []ControlRecord{{ControlKRaftVersion, (&KRaftVersion{KRaftVersion: q.Version}).AppendTo(nil)}}
	if q.record != nil {
		rs = append(rs, ControlRecord{ControlKRaftVoters, q.record})
	}
	return rs
}
