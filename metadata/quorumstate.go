package metadata

import (
	"encoding/json"
	"fmt"
)

// QuorumState is what the file quorum-state of a metadata log says (Kafka's
// QuorumStateData, KIP-595 and KIP-853).
type QuorumState struct {
	// DataVersion is 0 for static voters (kraft.version 0), 1 for dynamic ones.
	DataVersion      int16
	LeaderID         int32 // -1 unknown
	LeaderEpoch      int32
	VotedID          int32    // -1 none
	VotedDirectoryID [16]byte // data version 1
	CurrentVoters    []int32  // data version 0
}

// maxQuorumStateBytes bounds what is parsed: a line of JSON with a few voters.
const maxQuorumStateBytes = 64 << 10

// quorumStateV0 and quorumStateV1 have the fields in Kafka's order.
type quorumStateV0 struct {
	ClusterID     string             `json:"clusterId"`
	LeaderID      int32              `json:"leaderId"`
	LeaderEpoch   int32              `json:"leaderEpoch"`
	VotedID       int32              `json:"votedId"`
	AppliedOffset int64              `json:"appliedOffset"`
	CurrentVoters []quorumStateVoter `json:"currentVoters"`
	DataVersion   int16              `json:"data_version"`
}

type quorumStateVoter struct {
	VoterID int32 `json:"voterId"`
}

type quorumStateV1 struct {
	LeaderID         int32  `json:"leaderId"`
	LeaderEpoch      int32  `json:"leaderEpoch"`
	VotedID          int32  `json:"votedId"`
	VotedDirectoryID string `json:"votedDirectoryId"`
	DataVersion      int16  `json:"data_version"`
}

// Format returns the bytes of the file as Kafka writes them: one line of JSON
// without a newline at the end. Any data version but 1 is written as 0.
func (q QuorumState) Format() []byte {
	var v any
	if q.DataVersion == 1 {
		v = quorumStateV1{
			LeaderID: q.LeaderID, LeaderEpoch: q.LeaderEpoch, VotedID: q.VotedID,
			VotedDirectoryID: UUIDString(q.VotedDirectoryID), DataVersion: 1,
		}
	} else {
		voters := []quorumStateVoter{}
		for _, id := range q.CurrentVoters {
			voters = append(voters, quorumStateVoter{VoterID: id})
		}
		v = quorumStateV0{LeaderID: q.LeaderID, LeaderEpoch: q.LeaderEpoch, VotedID: q.VotedID, CurrentVoters: voters}
	}
	b, err := json.Marshal(v)
	if err != nil { // numbers and strings always marshal
		return nil
	}
	return b
}

// ParseQuorumState reads the file. Only its first line counts, as for Kafka.
func ParseQuorumState(b []byte) (QuorumState, error) {
	if len(b) > maxQuorumStateBytes {
		return QuorumState{}, fmt.Errorf("quorum-state has %d bytes, at most %d are read", len(b), maxQuorumStateBytes)
	}
	for i, c := range b {
		if c == '\n' {
			b = b[:i]
			break
		}
	}
	var version struct {
		DataVersion *int16 `json:"data_version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return QuorumState{}, fmt.Errorf("quorum-state: %w", err)
	}
	switch {
	case version.DataVersion == nil:
		return QuorumState{}, fmt.Errorf("quorum-state: data_version was not found")
	case *version.DataVersion == 0:
		return parseQuorumStateV0(b)
	case *version.DataVersion == 1:
		return parseQuorumStateV1(b)
	}
	return QuorumState{}, fmt.Errorf("quorum-state: data_version %d is not 0 or 1", *version.DataVersion)
}

func parseQuorumStateV0(b []byte) (QuorumState, error) {
	v := quorumStateV0{LeaderID: -1, LeaderEpoch: -1, VotedID: -1}
	if err := json.Unmarshal(b, &v); err != nil {
		return QuorumState{}, fmt.Errorf("quorum-state: %w", err)
	}
	q := QuorumState{LeaderID: v.LeaderID, LeaderEpoch: v.LeaderEpoch, VotedID: v.VotedID}
	for _, voter := range v.CurrentVoters {
		q.CurrentVoters = append(q.CurrentVoters, voter.VoterID)
	}
	return q, nil
}

func parseQuorumStateV1(b []byte) (QuorumState, error) {
	v := quorumStateV1{LeaderID: -1, LeaderEpoch: -1, VotedID: -1}
	if err := json.Unmarshal(b, &v); err != nil {
		return QuorumState{}, fmt.Errorf("quorum-state: %w", err)
	}
	q := QuorumState{DataVersion: 1, LeaderID: v.LeaderID, LeaderEpoch: v.LeaderEpoch, VotedID: v.VotedID}
	if v.VotedDirectoryID != "" {
		id, err := ParseUUID(v.VotedDirectoryID)
		if err != nil {
			return QuorumState{}, fmt.Errorf("quorum-state: votedDirectoryId: %w", err)
		}
		q.VotedDirectoryID = id
	}
	return q, nil
}
