package metadata

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

// SnapshotRecords returns the records that make an empty image into this one: the
// content of a snapshot (KIP-630), each as AppendRecord writes it at the image's
// metadata.version. The order is that of Kafka's MetadataImage.write; where that
// leaves it open, the order of names and ids. The slices are the caller's own.
//
// Left out as Kafka leaves it out: the state of a migration from ZooKeeper, which
// means nothing since 4.0, and unknown tagged fields of records of which the image
// keeps the meaning and not the record (topics, partitions, settings, features):
// a field that matters comes with a metadata.version that is refused.
func (img *Image) SnapshotRecords() iter.Seq[[]byte] {
	level := img.Feature(FeatureMetadataVersion)
	return func(yield func([]byte) bool) {
		for m := range img.messages() {
			if !yield(AppendRecord(nil, m, recordVersion(m, level))) {
				return
			}
		}
	}
}

func (img *Image) messages() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for _, part := range []func(func(Message) bool) bool{
			img.featureMessages, img.clusterMessages, img.topicMessages, img.configMessages, img.keptMessages,
		} {
			if !part(yield) {
				return
			}
		}
	}
}

// featureMessages: metadata.version comes first, it says how to read the rest.
func (img *Image) featureMessages(yield func(Message) bool) bool {
	if !yield(&FeatureLevelRecord{Name: FeatureMetadataVersion, FeatureLevel: img.Feature(FeatureMetadataVersion)}) {
		return false
	}
	for _, f := range img.features {
		if f.Name != FeatureMetadataVersion && !yield(&FeatureLevelRecord{Name: f.Name, FeatureLevel: f.Level}) {
			return false
		}
	}
	return true
}

func (img *Image) clusterMessages(yield func(Message) bool) bool {
	for _, b := range img.brokers {
		if !yield(&RegisterBrokerRecord{
			BrokerID: b.ID, IsMigratingZkBroker: b.MigratingZk, IncarnationID: b.Incarnation, BrokerEpoch: b.Epoch,
			EndPoints: b.Endpoints, Features: b.Features, Rack: b.Rack,
			Fenced: b.Fenced, InControlledShutdown: b.InControlledShutdown,
			LogDirs: b.Directories, CordonedLogDirs: b.CordonedDirectories, Unknown: b.Unknown,
		}) {
			return false
		}
	}
	for _, c := range img.controllers {
		if !yield(&RegisterControllerRecord{
			ControllerID: c.ID, IncarnationID: c.Incarnation, ZkMigrationReady: c.ZkMigrationReady,
			EndPoints: c.Endpoints, Features: c.Features, Unknown: c.Unknown,
		}) {
			return false
		}
	}
	return true
}

func (img *Image) topicMessages(yield func(Message) bool) bool {
	elr := img.Feature(FeatureELRVersion) > 0
	for t := range img.All() {
		if !yield(&TopicRecord{Name: t.Name, TopicID: t.ID}) {
			return false
		}
		for i := range t.Partitions {
			m := t.Partitions[i].record(t.ID)
			if !elr { // left from before the feature was taken away
				m.EligibleLeaderReplicas, m.LastKnownElr = nil, nil
			}
			if !yield(m) {
				return false
			}
		}
	}
	return true
}

// record is the whole of a partition.
func (p *Partition) record(topic [16]byte) *PartitionRecord {
	m := &PartitionRecord{
		PartitionID: p.Index, TopicID: topic, Replicas: p.Replicas, Isr: p.ISR,
		RemovingReplicas: p.Removing, AddingReplicas: p.Adding,
		Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch,
		Directories: p.Directories, EligibleLeaderReplicas: p.ELR, LastKnownElr: p.LastKnownELR,
	}
	if p.Recovering {
		m.LeaderRecoveryState = 1
	}
	return m
}

// configMessages: the settings of topics are with the topics.
func (img *Image) configMessages(yield func(Message) bool) bool {
	resources := slices.Collect(maps.Keys(img.configs))
	if mutant.On(mutant.SnapshotLeavesOut) {
		resources = nil
	}
	for t := range img.All() {
		if len(t.Configs) > 0 {
			resources = append(resources, Resource{ResourceTopic, t.Name})
		}
	}
	slices.SortFunc(resources, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
	for _, r := range resources {
		c := img.Configs(r)
		for _, name := range slices.Sorted(maps.Keys(c)) {
			value := c[name]
			if !yield(&ConfigRecord{ResourceType: int8(r.Type), ResourceName: r.Name, Name: name, Value: &value}) {
				return false
			}
		}
	}
	return true
}

func (img *Image) keptMessages(yield func(Message) bool) bool {
	for _, m := range img.Quotas() {
		if !yield(m) {
			return false
		}
	}
	if img.NextProducerID > 0 && !yield(&ProducerIDsRecord{BrokerID: -1, BrokerEpoch: -1, NextProducerID: img.NextProducerID}) {
		return false
	}
	for _, m := range img.ACLs() {
		if !yield(m) {
			return false
		}
	}
	for _, m := range img.ScramCredentials() {
		if !yield(m) {
			return false
		}
	}
	for _, m := range img.DelegationTokens() {
		if !yield(m) {
			return false
		}
	}
	return true
}
