package metadata

import (
	"slices"
	"strings"
)

// Names of the features that are looked at by name.
const (
	FeatureMetadataVersion = "metadata.version"
	FeatureKRaftVersion    = "kraft.version"
	FeatureELRVersion      = "eligible.leader.replicas.version"
)

// Feature is one row of the table of features.
type Feature struct {
	Name  string
	Min   int16 // lowest supported level
	Max   int16 // highest supported level
	Fresh int16 // level finalized when a cluster is created; 0 is not finalized
	Needs int16 // metadata.version that levels above 0 need; 0 is any

	// Unserved: its APIs are not served. The metadata log finalizes it, as Kafka's
	// does, but clients must not count on it (decision 2).
	Unserved bool
}

// Features returns the features of Kafka 4.3, sorted by name: the supported ranges
// and the levels that a fresh cluster finalizes, as seen on a running 4.3.1 with
// static voters. kraft.version is not finalized by a metadata record but by a
// control record, and not at all with static voters.
func Features() []Feature {
	return []Feature{
		{Name: FeatureELRVersion, Min: 0, Max: 1, Fresh: 1, Needs: levelELR},
		{Name: "group.version", Min: 0, Max: 1, Fresh: 1},
		{Name: FeatureKRaftVersion, Min: 0, Max: 1, Fresh: 0},
		{Name: FeatureMetadataVersion, Min: 7, Max: 30, Fresh: 30},
		{Name: "share.version", Min: 0, Max: 1, Fresh: 1, Unserved: true},
		{Name: "streams.version", Min: 0, Max: 1, Fresh: 1, Unserved: true},
		{Name: "transaction.version", Min: 0, Max: 2, Fresh: 2},
	}
}

// FreshFeatureRecords returns the records that finalize the levels of a fresh
// cluster, in Kafka's order: metadata.version first, because it says how to read
// the rest, then by name. They also make up bootstrap.checkpoint.
func FreshFeatureRecords(fs []Feature) []*FeatureLevelRecord {
	rs := []*FeatureLevelRecord{}
	for _, f := range fs {
		if f.Fresh > 0 && f.Name != FeatureKRaftVersion {
			rs = append(rs, &FeatureLevelRecord{Name: f.Name, FeatureLevel: f.Fresh})
		}
	}
	slices.SortFunc(rs, func(a, b *FeatureLevelRecord) int {
		if (a.Name == FeatureMetadataVersion) != (b.Name == FeatureMetadataVersion) {
			if a.Name == FeatureMetadataVersion {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return rs
}

// The levels of metadata.version from which on something may be written.
const (
	levelZkMigration            int16 = 8  // 3.4-IV0
	levelScram                  int16 = 11 // 3.5-IV2
	levelMetadataTransactions   int16 = 13 // 3.6-IV1
	levelDelegationTokens       int16 = 14 // 3.6-IV2
	levelControllerRegistration int16 = 15 // 3.7-IV0
	levelDirectoryAssignment    int16 = 17 // 3.7-IV2
	levelELR                    int16 = 23 // 4.0-IV1
	levelCordonedDirectories    int16 = 30 // 4.3-IV0
)

// recordVersion returns the version in which a record of that type is written at a
// level of metadata.version, so that every Kafka that may read the log can.
func recordVersion(m Message, level int16) int16 {
	switch m := m.(type) {
	case *RegisterBrokerRecord:
		switch {
		case level >= levelCordonedDirectories:
			return 4
		case level >= levelDirectoryAssignment:
			return 3
		case level >= levelZkMigration:
			return 2
		}
		return 1
	case *PartitionRecord, *PartitionChangeRecord:
		switch {
		case level >= levelELR:
			return 2
		case level >= levelDirectoryAssignment:
			return 1
		}
		return 0
	case *BrokerRegistrationChangeRecord:
		switch {
		case m.CordonedLogDirs != nil:
			return 3
		case len(m.LogDirs) > 0:
			return 2
		case m.InControlledShutdown != changeNone:
			return 1
		}
		return 0
	}
	return 0
}
