package metadata

import (
	"fmt"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/invariant"
)

// MaxRecordsPerBatch is how many records Kafka puts into one batch of the metadata
// log, and the limit of one request that must happen as a whole
// (QuorumController.MAX_RECORDS_PER_USER_OP). A Result with more records than this
// is a metadata transaction: the journal may cut it into several batches, and a
// log that ends in its middle loads as if it had not begun.
const MaxRecordsPerBatch = 10_000

// ShardOptions says what a Shard needs to know of its surroundings.
type ShardOptions struct {
	ClusterID string
	NodeID    int32 // of this node, broker and controller in one

	// NewID makes ids for topics, see RandomUUID. Ids that are not usable or in use
	// are thrown away and asked for again.
	NewID func() [16]byte

	// num.partitions, default.replication.factor, and min.insync.replicas, which
	// becomes the cluster's default in a fresh log. Less than 1 means 1.
	DefaultPartitions        int32
	DefaultReplicationFactor int16
	MinInSyncReplicas        int32

	DeleteTopicEnable bool // delete.topic.enable

	// ValidateTopicConfig returns why settings are not valid for a topic, in Kafka's
	// words: INVALID_CONFIG for the client. nil accepts everything.
	ValidateTopicConfig func(configs map[string]string) error

	Configs ConfigRules // for AlterConfigs

	// Quorum is what control records below the log that is loaded say, and Voter this node
	// as one of its voters: kraft.version 1 writes it down.
	Quorum Quorum
	Voter  KRaftVoter

	// Features is what this node supports, and what a fresh log finalizes. nil means
	// Features().
	Features []Feature
}

// Shard is the controller of a one-node cluster: a coordinator.Shard over the
// metadata log. A coordinator.Record of it has a nil key and, as its value, one
// record as AppendRecord writes it; one with a key is a control record of the log
// (AppendControlKey). It has no timers.
//
// Each event is answered with the reply type named at the event, or with
// Unreadable.
type Shard struct {
	o ShardOptions
	d *draft

	published *Image // what Image returns; nil when a record came since
	// before is the image before the metadata transaction that is open, nil if none is.
	before *Image
	live   bool  // Handle has been called: an error of Apply is ours
	err    error // why the log could not be applied; it was not applied any further
}

// Unreadable answers every event of a shard whose log does not make sense.
type Unreadable struct{ Err error }

// Error returns what is wrong with the log.
func (u Unreadable) Error() string { return u.Err.Error() }

// Unwrap returns the cause.
func (u Unreadable) Unwrap() error { return u.Err }

// NewShard returns the shard of an empty log.
func NewShard(o ShardOptions) *Shard {
	if o.Features == nil {
		o.Features = Features()
	}
	o.DefaultPartitions = max(o.DefaultPartitions, 1)
	o.DefaultReplicationFactor = max(o.DefaultReplicationFactor, 1)
	o.MinInSyncReplicas = max(o.MinInSyncReplicas, 1)
	s := &Shard{o: o, d: newDraft(o.ClusterID, o.NodeID)}
	s.d.img.Quorum = o.Quorum
	return s
}

// Image returns the state as of the last applied record. Inside a metadata
// transaction it is the state before it. Without new records it returns the same
// image again.
func (s *Shard) Image() *Image {
	if s.before != nil {
		return s.before
	}
	if s.published == nil {
		s.published = s.d.freeze()
	}
	return s.published
}

// InTransaction reports that a metadata transaction is open, so that Image is older
// than the last applied record.
func (s *Shard) InTransaction() bool { return s.before != nil }

// Err returns why the log could not be loaded, nil if it could. The image is then
// that of the records before, and must not be acted on.
func (s *Shard) Err() error { return s.err }

// Deadline implements coordinator.Shard.
func (s *Shard) Deadline() (time.Time, bool) { return time.Time{}, false }

// Apply implements coordinator.Shard.
func (s *Shard) Apply(r coordinator.Record) {
	if s.err != nil {
		return
	}
	if r.Key != nil {
		s.applyControl(r)
		return
	}
	m, _, err := DecodeRecord(r.Value)
	if err == nil {
		if err = s.apply(m); err != nil {
			err = fmt.Errorf("%s: %w", m.Type(), err)
		}
	}
	if err != nil {
		invariant.That(!s.live, "the shard's own records fit", "error", err)
		s.err = fmt.Errorf("metadata log: %w", err)
	}
}

// applyControl takes over what a control record says about the voters.
func (s *Shard) applyControl(r coordinator.Record) {
	t, err := DecodeControlKey(r.Key)
	if err == nil {
		err = s.d.img.Quorum.Apply(t, r.Value)
	}
	if err != nil {
		invariant.That(!s.live, "the shard's own control records fit", "error", err)
		s.err = fmt.Errorf("metadata log: %w", err)
	}
	s.published = nil
}

func (s *Shard) apply(m Message) error {
	switch m := m.(type) {
	case *BeginTransactionRecord:
		if s.before != nil {
			return fmt.Errorf("a transaction begins inside another one")
		}
		s.before = s.Image()
		s.published = nil
	case *EndTransactionRecord:
		if s.before == nil {
			return fmt.Errorf("no transaction is open")
		}
		s.before = nil
	case *AbortTransactionRecord:
		if s.before == nil {
			return fmt.Errorf("no transaction is open")
		}
		s.d.revert(s.before)
		s.published, s.before = s.before, nil
	default:
		if changesImage(m) {
			s.published = nil
		}
		return s.d.apply(m)
	}
	return nil
}

// changesImage is false for the records that leave the image as it is.
func changesImage(m Message) bool {
	return m.Type() != TypeNoOp && m.Type() != TypeZkMigrationState
}

// Handle implements coordinator.Shard.
func (s *Shard) Handle(_ time.Time, e coordinator.Event) coordinator.Result {
	if _, ok := e.Body.(coordinator.Tick); ok {
		return coordinator.Result{}
	}
	if s.err != nil {
		return s.result(e, nil, Unreadable{s.err})
	}
	s.live = true
	switch body := e.Body.(type) {
	case Bootstrap:
		return s.bootstrap(e, body)
	case RegisterBroker:
		return s.registerBroker(e, body)
	case AssignDirectories:
		return s.assignDirectories(e, body)
	case CordonDirectories:
		return s.cordonDirectories(e, body)
	case DirectoriesOffline:
		return s.directoriesOffline(e, body)
	case FenceBroker:
		return s.fenceBroker(e)
	case CreateTopics:
		return s.createTopics(e, body)
	case DeleteTopics:
		return s.deleteTopics(e, body)
	case AlterConfigs:
		return s.alterConfigs(e, body)
	case CreatePartitions:
		return s.createPartitions(e, body)
	case UpdateFeatures:
		return s.updateFeatures(e, body)
	case RefreshRegistration:
		return s.refreshRegistration(e, body)
	case AllocateProducerIDs:
		return s.allocateProducerIDs(e)
	}
	invariant.That(false, "the shard knows its events", "event", fmt.Sprintf("%T", e.Body))
	return coordinator.Result{}
}

// result encodes records at the log's metadata.version and answers the event.
func (s *Shard) result(e coordinator.Event, ms []Message, reply any) coordinator.Result {
	var res coordinator.Result
	level := s.d.img.Feature(FeatureMetadataVersion)
	for _, m := range ms {
		res.Records = append(res.Records, coordinator.Record{Value: AppendRecord(nil, m, recordVersion(m, level))})
	}
	if e.Token != nil {
		res.Replies = []coordinator.Reply{{To: e.Token, Body: reply}}
	}
	return res
}

// transaction wraps records in a metadata transaction if they are too many for one
// batch. Logs of a metadata.version before 3.6 have no transactions.
func (s *Shard) transaction(name string, ms []Message) []Message {
	if len(ms) <= MaxRecordsPerBatch || s.d.img.Feature(FeatureMetadataVersion) < levelMetadataTransactions {
		return ms
	}
	all := make([]Message, 0, len(ms)+2)
	all = append(all, &BeginTransactionRecord{Name: &name})
	all = append(all, ms...)
	return append(all, &EndTransactionRecord{})
}
