package metadata

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/rotpeter/rotpeter/coordinator"
)

// Bootstrap is the first event after each load. It makes the log of a new cluster
// begin as Kafka's does (ActivationRecordsGenerator): the records that the directory
// was formatted with, and the default of min.insync.replicas, in one metadata
// transaction. In a log that has a beginning it only undoes a transaction that was
// cut off. The answer is Bootstrapped, or Unreadable where the records do not fit.
type Bootstrap struct {
	// Records are those of bootstrap.checkpoint, as AppendRecord writes them. nil
	// finalizes the features of a fresh cluster.
	Records [][]byte
	// Err is why the records could not be read. It matters to an empty log only.
	Err error
}

// Bootstrapped answers Bootstrap.
type Bootstrapped struct {
	Fresh   bool // the log was empty
	Aborted bool // a transaction had been cut off
}

func (s *Shard) bootstrap(e coordinator.Event, boot Bootstrap) coordinator.Result {
	var (
		rs      [][]byte
		reply   Bootstrapped
		restart = "Controller failover"
	)
	if s.before != nil {
		reply.Aborted = true
		rs = append(rs, AppendRecord(nil, &AbortTransactionRecord{Reason: &restart}, 0))
	}
	if img := s.Image(); img.Feature(FeatureMetadataVersion) == 0 {
		first, err := s.firstRecords(boot)
		if err != nil {
			return s.result(e, nil, Unreadable{fmt.Errorf("begin the metadata log with what the directory was formatted with: %w", err)})
		}
		reply.Fresh = true
		rs = append(rs, first...)
	}
	res := s.result(e, nil, reply)
	for _, r := range rs {
		res.Records = append(res.Records, coordinator.Record{Value: r})
	}
	return res
}

// firstRecords are the first records of an empty log. They are applied to an empty
// image first: what does not fit must not get into the log.
func (s *Shard) firstRecords(boot Bootstrap) ([][]byte, error) {
	rs, name := boot.Records, "Bootstrap records"
	if boot.Err != nil {
		return nil, boot.Err
	}
	if rs == nil {
		for _, f := range FreshFeatureRecords(s.o.Features) {
			rs = append(rs, AppendRecord(nil, f, 0))
		}
	}
	trial := newDraft(s.o.ClusterID, s.o.NodeID)
	for _, r := range rs {
		m, _, err := DecodeRecord(r)
		if err == nil {
			err = trial.apply(m)
		}
		if err != nil {
			return nil, err
		}
	}
	level := trial.img.Feature(FeatureMetadataVersion)
	if level == 0 {
		return nil, errors.New("no FeatureLevelRecord for metadata.version was found")
	}
	rs = slices.Clip(rs)
	if trial.img.Feature(FeatureELRVersion) > 0 {
		// With ELR the controller must know the value that holds for the cluster.
		value := strconv.Itoa(int(s.o.MinInSyncReplicas))
		rs = append(rs, AppendRecord(nil, &ConfigRecord{ResourceType: int8(ResourceBroker), Name: minInSyncReplicas, Value: &value}, 0))
	}
	if level < levelMetadataTransactions {
		return rs, nil
	}
	rs = append([][]byte{AppendRecord(nil, &BeginTransactionRecord{Name: &name}, 0)}, rs...)
	return append(rs, AppendRecord(nil, &EndTransactionRecord{}, 0)), nil
}

// RegisterBroker is the second event after each start of the process: it registers
// this node as controller and broker, puts it into service and makes it the leader
// of every partition that it has a replica of. The answer is Registered.
type RegisterBroker struct {
	Incarnation           [16]byte // of this process as a broker
	ControllerIncarnation [16]byte // of this process as a controller

	// Epoch becomes the broker's epoch; Kafka takes the end offset of the metadata
	// log. It is raised if it is not greater than that of the last registration.
	Epoch int64

	Endpoints           []Endpoint // advertised, one for each listener of clients
	ControllerEndpoints []Endpoint
	Rack                *string
	Directories         [][16]byte // ids of the log directories in service
	Cordoned            [][16]byte // of which get no new partitions (KIP-1066)

	// SomeOffline: there is a directory out of service. A partition that is recorded to be in
	// none of Directories has no leader then; else it is made anew.
	SomeOffline bool

	// Clean says that the previous run ended in order: nothing that was acked is
	// missing in any log. Otherwise the leader epoch of every partition is raised,
	// so that clients notice records that are gone (KIP-320).
	Clean bool
}

// Registered answers RegisterBroker.
type Registered struct {
	Epoch   int64 // the broker's epoch, for .kafka_cleanshutdown
	Elected int   // partitions that changed: leader, leader epoch or recovery state
}

func (s *Shard) registerBroker(e coordinator.Event, r RegisterBroker) coordinator.Result {
	level := s.d.img.Feature(FeatureMetadataVersion)
	epoch := r.Epoch
	if b := s.d.img.Broker(s.o.NodeID); b != nil && epoch <= b.Epoch {
		epoch = b.Epoch + 1
	}
	var ms []Message
	if level >= levelControllerRegistration {
		ms = append(ms, s.controllerRegistration(r))
	}
	ms = append(ms, s.brokerRegistration(r, epoch), &BrokerRegistrationChangeRecord{BrokerID: s.o.NodeID, BrokerEpoch: epoch, Fenced: changeUnfence})
	elections := s.elections(&r)
	ms = s.transaction("Broker registration", append(ms, elections...))
	return s.result(e, ms, Registered{Epoch: epoch, Elected: len(elections)})
}

// featureRanges are what this node supports.
func (s *Shard) featureRanges() []FeatureRange {
	var ranges []FeatureRange
	for _, f := range s.o.Features {
		ranges = append(ranges, FeatureRange{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	return ranges
}

func (s *Shard) controllerRegistration(r RegisterBroker) *RegisterControllerRecord {
	return &RegisterControllerRecord{
		ControllerID: s.o.NodeID, IncarnationID: r.ControllerIncarnation, EndPoints: r.ControllerEndpoints, Features: s.featureRanges(),
	}
}

// brokerRegistration has what the present metadata.version has room for.
func (s *Shard) brokerRegistration(r RegisterBroker, epoch int64) *RegisterBrokerRecord {
	level := s.d.img.Feature(FeatureMetadataVersion)
	m := &RegisterBrokerRecord{
		BrokerID: s.o.NodeID, IncarnationID: r.Incarnation, BrokerEpoch: epoch,
		EndPoints: r.Endpoints, Features: s.featureRanges(), Rack: r.Rack, Fenced: true,
	}
	if level >= levelDirectoryAssignment {
		m.LogDirs = sortedIDs(r.Directories)
	}
	if level >= levelCordonedDirectories && len(r.Cordoned) > 0 {
		m.CordonedLogDirs = sortedIDs(r.Cordoned)
	}
	return m
}

// elections returns the changes that make this node the leader of all partitions
// it has a replica of in a directory in service. A partition that it leads already
// changes only if the last stop was not clean or a recovery is to be declared over.
// There is no other copy to prefer, so a node that is neither in the ISR nor an
// eligible leader is elected as well.
func (s *Shard) elections(r *RegisterBroker) []Message {
	var ms []Message
	raise, dirs := !r.Clean, &Broker{Directories: r.Directories}
	for t := range s.d.img.All() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if !slices.Contains(p.Replicas, s.o.NodeID) {
				continue
			}
			if r.SomeOffline && !dirs.HasDirectory(p.Directory(s.o.NodeID)) {
				if m := s.withoutLeader(t, p); m != nil {
					ms = append(ms, m)
				}
				continue
			}
			if p.Leader == s.o.NodeID && !raise && !p.Recovering {
				continue
			}
			ms = append(ms, s.election(t, p, raise))
		}
	}
	return ms
}

func (s *Shard) election(t *Topic, p *Partition, raise bool) *PartitionChangeRecord {
	m := &PartitionChangeRecord{PartitionID: p.Index, TopicID: t.ID, Leader: NoLeaderChange, LeaderRecoveryState: noRecoveryChange}
	if p.Leader != s.o.NodeID || raise {
		m.Leader = s.o.NodeID
	}
	if !slices.Contains(p.ISR, s.o.NodeID) {
		m.Isr = []int32{s.o.NodeID}
	}
	if len(p.ELR) > 0 {
		m.EligibleLeaderReplicas = []int32{}
	}
	if len(p.LastKnownELR) > 0 {
		m.LastKnownElr = []int32{}
	}
	if p.Recovering {
		m.LeaderRecoveryState = 0
	}
	return m
}

// FenceBroker is the last event of an orderly stop: it takes this node out of
// service in the log, so that a Kafka started on the directory does not wait for
// the end of a session. The answer is Fenced.
type FenceBroker struct{}

// Fenced answers FenceBroker.
type Fenced struct {
	Epoch int64 // the broker's epoch, -1 if it was not registered
}

func (s *Shard) fenceBroker(e coordinator.Event) coordinator.Result {
	b := s.d.img.Broker(s.o.NodeID)
	if b == nil {
		return s.result(e, nil, Fenced{Epoch: -1})
	}
	var ms []Message
	if !b.Fenced {
		ms = append(ms, &BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, Fenced: changeFence})
	}
	return s.result(e, ms, Fenced{Epoch: b.Epoch})
}

// ProducerIDBlockSize is how many producer ids are handed out at once (KIP-730).
const ProducerIDBlockSize = 1000

// AllocateProducerIDs asks for the next block of producer ids. No id is ever
// handed out twice; what is not used of a block when the process ends is lost.
// The answer is ProducerIDBlock.
type AllocateProducerIDs struct{}

// ProducerIDBlock answers AllocateProducerIDs: the ids from First to
// First+Count-1. Count is 0 when all 2^63 ids have been handed out, for which the
// client gets UNKNOWN_SERVER_ERROR.
type ProducerIDBlock struct {
	First int64
	Count int32
}

func (s *Shard) allocateProducerIDs(e coordinator.Event) coordinator.Result {
	first := s.d.img.NextProducerID
	if first > math.MaxInt64-ProducerIDBlockSize {
		return s.result(e, nil, ProducerIDBlock{})
	}
	epoch := int64(-1)
	if b := s.d.img.Broker(s.o.NodeID); b != nil {
		epoch = b.Epoch
	}
	m := &ProducerIDsRecord{BrokerID: s.o.NodeID, BrokerEpoch: epoch, NextProducerID: first + ProducerIDBlockSize}
	return s.result(e, []Message{m}, ProducerIDBlock{First: first, Count: ProducerIDBlockSize})
}
