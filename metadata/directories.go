package metadata

import (
	"bytes"
	"slices"

	"github.com/rotpeter/rotpeter/coordinator"
)

// AssignDirectories records in which log directory of this node partitions are
// (AssignReplicasToDirs, KIP-858). Partitions that do not exist any more are left
// out, and those that are recorded so already. The answer is DirectoriesAssigned.
type AssignDirectories struct{ Assignments []DirectoryAssignment }

// DirectoryAssignment says that a partition is in a directory.
type DirectoryAssignment struct {
	Topic     [16]byte
	Partition int32
	Directory [16]byte
}

// DirectoriesAssigned answers AssignDirectories.
type DirectoriesAssigned struct{}

func (s *Shard) assignDirectories(e coordinator.Event, a AssignDirectories) coordinator.Result {
	var ms []Message
	if s.d.img.Feature(FeatureMetadataVersion) >= levelDirectoryAssignment {
		for _, one := range a.Assignments {
			t := s.d.img.TopicByID(one.Topic)
			if t == nil {
				continue
			}
			if p := t.Partition(one.Partition); p != nil && p.Directory(s.o.NodeID) != one.Directory {
				if m := s.inDirectory(t, p, one.Directory); m != nil {
					ms = append(ms, m)
				}
			}
		}
	}
	return s.result(e, s.transaction("Directory assignment", ms), DirectoriesAssigned{})
}

// inDirectory is the change that puts this node's replica into a directory, nil if
// it has none.
func (s *Shard) inDirectory(t *Topic, p *Partition, dir [16]byte) *PartitionChangeRecord {
	i := slices.Index(p.Replicas, s.o.NodeID)
	if i < 0 || i >= len(p.Directories) {
		return nil
	}
	m := &PartitionChangeRecord{PartitionID: p.Index, TopicID: t.ID, Leader: NoLeaderChange, LeaderRecoveryState: noRecoveryChange, Directories: slices.Clone(p.Directories)}
	m.Directories[i] = dir
	return m
}

// DirectoriesOffline says that log directories of this node are out of service:
// the partitions in them lose their leader (ReplicationControlManager.
// handleDirectoriesOffline). Lost are the partitions that are in one of them though
// they are not recorded so. The answer is Offline.
type DirectoriesOffline struct {
	Directories [][16]byte
	Lost        []DirectoryAssignment // Directory is not looked at
}

// Offline answers DirectoriesOffline.
type Offline struct {
	Partitions int // that have no leader now
}

func (s *Shard) directoriesOffline(e coordinator.Event, o DirectoriesOffline) coordinator.Result {
	b := s.d.img.Broker(s.o.NodeID)
	if b == nil {
		return s.result(e, nil, Offline{})
	}
	var ms []Message
	rest := slices.DeleteFunc(slices.Clone(b.Directories), func(dir [16]byte) bool { return slices.Contains(o.Directories, dir) })
	if len(rest) < len(b.Directories) && len(rest) > 0 && s.d.img.Feature(FeatureMetadataVersion) >= levelDirectoryAssignment {
		ms = append(ms, &BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, LogDirs: rest})
	}
	partitions := 0
	lost := map[DirectoryAssignment]bool{}
	for _, one := range o.Lost {
		lost[DirectoryAssignment{Topic: one.Topic, Partition: one.Partition}] = true
	}
	for t := range s.d.img.All() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			recorded := slices.Contains(o.Directories, p.Directory(s.o.NodeID))
			if !recorded && !lost[DirectoryAssignment{Topic: t.ID, Partition: p.Index}] {
				continue
			}
			m := s.withoutLeader(t, p)
			if m == nil {
				continue
			}
			if !recorded {
				if d := s.inDirectory(t, p, DirectoryLost); d != nil {
					m.Directories = d.Directories
				}
			}
			ms = append(ms, m)
			partitions++
		}
	}
	return s.result(e, s.transaction("Directories offline", ms), Offline{Partitions: partitions})
}

// withoutLeader is the change that takes this node out of the lead of a partition,
// nil if it has no leader. There is no other replica to follow it. With ELR (KIP-966)
// it leaves the ISR and stays eligible, else it stays in the ISR alone.
func (s *Shard) withoutLeader(t *Topic, p *Partition) *PartitionChangeRecord {
	if p.Leader == NoLeader {
		return nil
	}
	m := &PartitionChangeRecord{PartitionID: p.Index, TopicID: t.ID, Leader: NoLeader, LeaderRecoveryState: noRecoveryChange}
	if s.d.img.Feature(FeatureELRVersion) > 0 {
		m.Isr = []int32{}
		m.EligibleLeaderReplicas, m.LastKnownElr = []int32{s.o.NodeID}, []int32{s.o.NodeID}
	}
	return m
}

// CordonDirectories says which log directories of this node get no new partitions
// (KIP-1066). The answer is DirectoriesCordoned.
type CordonDirectories struct{ Directories [][16]byte }

// DirectoriesCordoned answers CordonDirectories.
type DirectoriesCordoned struct{}

func (s *Shard) cordonDirectories(e coordinator.Event, c CordonDirectories) coordinator.Result {
	b, dirs := s.d.img.Broker(s.o.NodeID), sortedIDs(c.Directories)
	var ms []Message
	if b != nil && s.d.img.Feature(FeatureMetadataVersion) >= levelCordonedDirectories && !slices.Equal(b.CordonedDirectories, dirs) {
		if dirs == nil {
			dirs = [][16]byte{}
		}
		ms = append(ms, &BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, CordonedLogDirs: dirs})
	}
	return s.result(e, ms, DirectoriesCordoned{})
}

// Cordoned tells that none of the broker's log directories may get new partitions.
func (b *Broker) Cordoned() bool {
	return len(b.Directories) > 0 && !slices.ContainsFunc(b.Directories, func(dir [16]byte) bool { return !slices.Contains(b.CordonedDirectories, dir) })
}

// Directory is the id of the log directory that a broker's replica is in,
// DirectoryMigrating if it has none.
func (p *Partition) Directory(broker int32) [16]byte {
	if i := slices.Index(p.Replicas, broker); i >= 0 && i < len(p.Directories) {
		return p.Directories[i]
	}
	return DirectoryMigrating
}

// OfflineReplicas are the replicas of a partition whose broker or log directory is
// out of service, in their order (KRaftMetadataCache.getOfflineReplicas).
func (img *Image) OfflineReplicas(p *Partition) []int32 {
	var offline []int32
	for _, id := range p.Replicas {
		if b := img.Broker(id); b == nil || b.Fenced || !b.HasDirectory(p.Directory(id)) {
			offline = append(offline, id)
		}
	}
	return offline
}

// HasDirectory tells whether a replica with this directory id may be served: it is
// in one of the broker's directories, or its directory is not known yet
// (DirectoryId.isOnline).
func (b *Broker) HasDirectory(dir [16]byte) bool {
	switch dir {
	case DirectoryUnassigned, DirectoryMigrating:
		return true
	case DirectoryLost:
		return false
	}
	return len(b.Directories) == 0 || slices.Contains(b.Directories, dir)
}

// sortedIDs is Kafka's order of directories in a registration.
func sortedIDs(ids [][16]byte) [][16]byte {
	sorted := slices.Clone(ids)
	slices.SortFunc(sorted, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	return sorted
}
