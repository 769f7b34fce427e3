package group

import (
	"iter"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/mutant"
)

// groupNotFoundSince is the version of OffsetCommit whose clients know
// GROUP_ID_NOT_FOUND (KIP-848).
const groupNotFoundSince = 9

// newTransactionsSince is the version of TxnOffsetCommit whose clients have an epoch for each transaction (KIP-890).
const newTransactionsSince = 5

// committer is who commits offsets.
type committer struct {
	group         string
	memberID      string
	instanceID    *string
	generation    int32
	transactional bool
}

// commit handles an OffsetCommit request (OffsetMetadataManager.commitOffset).
func (t *turn) commit(e Commit) *kmsg.OffsetCommitResponse {
	c := committer{group: e.Req.Group, memberID: e.Req.MemberID, instanceID: e.Req.InstanceID, generation: e.Req.Generation}
	err := t.checkCommit(c, e.Version)
	if err == nil {
		err = t.checkOwned(c, func(yield func(committed) bool) {
			for i := range e.Req.Topics {
				for j := range e.Req.Topics[i].Partitions {
					p := &e.Req.Topics[i].Partitions[j]
					if !yield(committed{e.Req.Topics[i].Topic, e.Req.Topics[i].TopicID, p.Partition, p.Metadata}) {
						return
					}
				}
			}
		})
	}
	if err == nil {
		t.extendOnCommit(c)
	}
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = e.Version
	for i := range e.Req.Topics {
		topic := &e.Req.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			o := offset{
				offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: deref(p.Metadata), topicID: topic.TopicID,
				committed: t.now.UnixMilli(), expires: expiry(t.now, e.Req.RetentionTimeMillis),
			}
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode = t.commitOne(c, topicPartition{topic.Topic, p.Partition}, o, err, nil)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// txnCommit handles a TxnOffsetCommit request
// (OffsetMetadataManager.commitTransactionalOffset).
func (t *turn) txnCommit(e TxnCommit) *kmsg.TxnOffsetCommitResponse {
	c := committer{
		group: e.Req.Group, memberID: e.Req.MemberID, instanceID: e.Req.InstanceID, generation: e.Req.Generation, transactional: true,
	}
	err := t.checkCommit(c, e.Version)
	if err == nil {
		err = t.checkOwned(c, func(yield func(committed) bool) {
			for i := range e.Req.Topics {
				for j := range e.Req.Topics[i].Partitions {
					p := &e.Req.Topics[i].Partitions[j]
					if !yield(committed{e.Req.Topics[i].Topic, [16]byte{}, p.Partition, p.Metadata}) {
						return
					}
				}
			}
		})
	}
	if err == kerr.StaleMemberEpoch {
		err = kerr.IllegalGeneration // TxnOffsetCommit does not have the other
	}
	if e.Req.Group == "" {
		err = kerr.InvalidGroupID
	}
	if txn := t.open[e.Req.ProducerID]; txn != nil && e.Req.ProducerEpoch < txn.epoch {
		err = kerr.InvalidProducerEpoch
	}
	if err == nil {
		err = e.Guard.refusal(t.Shard, e.Req.ProducerID)
	}
	if err == nil && e.Version < newTransactionsSince {
		if t.connections.late(e.Req.ProducerID, e.Req.ProducerEpoch, e.Conn, t.o.LoadedAfter) {
			return nil
		}
		t.connections.spoke(e.Req.ProducerID, e.Req.ProducerEpoch, e.Conn)
	}
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	resp.Version = e.Version
	for i := range e.Req.Topics {
		topic := &e.Req.Topics[i]
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = topic.Topic
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			o := offset{
				offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: deref(p.Metadata),
				committed: t.now.UnixMilli(), expires: noTime,
			}
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode = t.commitOne(c, topicPartition{topic.Topic, p.Partition}, o, err, e.Req)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// commitOne records one offset and returns its error code. A group's error refuses
// them all.
func (t *turn) commitOne(c committer, tp topicPartition, o offset, err *kerr.Error, txn *kmsg.TxnOffsetCommitRequest) int16 {
	switch {
	case err != nil:
		return err.Code
	case len(tp.topic) > maxRecordString:
		return kerr.UnknownTopicOrPartition.Code
	case t.tooLong(o.metadata):
		return kerr.OffsetMetadataTooLarge.Code
	}
	r := offsetRecord(t.now, c.group, tp, o)
	if txn != nil {
		r.Transactional, r.ProducerID, r.ProducerEpoch = true, txn.ProducerID, txn.ProducerEpoch
	}
	t.record(r)
	return 0
}

// tooLong reports whether the metadata of a commit is longer than allowed.
func (t *turn) tooLong(metadata string) bool {
	return len(metadata) > maxRecordString || utf16Len(metadata) > t.o.OffsetMetadataMaxChars
}

// committed is a partition that a request commits.
type committed struct {
	topic     string
	topicID   [16]byte // zero: not told
	partition int32
	metadata  *string
}

// checkOwned checks the partitions of a commit by a member of a consumer group at an epoch before its own: those
// that it has had since then it may commit, one other refuses them all
// (KIP-1251, ConsumerGroup.createAssignmentEpochValidator).
func (t *turn) checkOwned(c committer, each iter.Seq[committed]) *kerr.Error {
	g := t.consumers[c.group]
	if g == nil {
		return nil
	}
	m := g.members[c.memberID]
	if m == nil || c.generation == m.epoch {
		return nil
	}
	stale := kerr.StaleMemberEpoch
	if m.classic != nil {
		stale = kerr.IllegalGeneration
	}
	for p := range each {
		if t.tooLong(deref(p.metadata)) {
			continue // that one is refused by itself
		}
		topic := p.topicID
		if known := t.cluster.Topic(p.topic); topic == ([16]byte{}) && known != nil {
			topic = known.ID
		}
		since, ok := m.assigned.epoch(topic, p.partition)
		if !ok {
			since, ok = m.revoking.epoch(topic, p.partition)
		}
		if !ok || c.generation < since {
			return stale
		}
	}
	return nil
}

// checkCommit checks whether the committer may commit to a consumer group
// (ConsumerGroup.validateOffsetCommit).
func (g *consumerGroup) checkCommit(c committer, version int16) *kerr.Error {
	if c.generation < 0 && len(g.members) == 0 || c.transactional && c.generation == -1 && c.memberID == "" && c.instanceID == nil {
		return nil
	}
	m := g.members[c.memberID]
	switch {
	case m == nil:
		return kerr.UnknownMemberID
	case !c.transactional && m.classic == nil && version < groupNotFoundSince:
		return kerr.UnsupportedVersion
	case c.generation > m.epoch && m.classic != nil:
		return kerr.IllegalGeneration
	case c.generation > m.epoch:
		return kerr.StaleMemberEpoch
	}
	return nil
}

// checkCommit checks whether the committer may commit
// (ClassicGroup.validateOffsetCommit).
func (t *turn) checkCommit(c committer, version int16) *kerr.Error {
	if len(c.group) > maxRecordString {
		return kerr.InvalidGroupID
	}
	if other := t.foreign[c.group]; other != nil {
		return other.checkCommit(c)
	}
	if g := t.consumers[c.group]; g != nil {
		return g.checkCommit(c, version)
	}
	g := t.groups[c.group]
	if g == nil {
		return t.checkGroupless(c, version)
	}
	anonymous := c.generation < 0 && c.memberID == "" && c.instanceID == nil
	switch {
	case c.generation < 0 && g.state == empty:
		return nil // a tool, or a consumer that manages its partitions itself
	case anonymous && c.transactional:
		return nil // older clients do not say who they are (KIP-447)
	case anonymous:
		return kerr.UnknownMemberID
	}
	if _, err := g.check(c.memberID, c.instanceID); err != nil {
		return err
	}
	switch {
	case c.generation != g.generation && !mutant.On(mutant.OldGenerationCommits):
		return kerr.IllegalGeneration
	case g.state == completingRebalance && !c.transactional:
		return kerr.RebalanceInProgress // the member has not got its partitions yet
	}
	return nil
}

// checkGroupless checks a commit for a group that does not exist: whoever manages
// partitions itself may commit, and so makes a group.
func (t *turn) checkGroupless(c committer, version int16) *kerr.Error {
	switch {
	case c.generation < 0:
		return nil
	case c.transactional || version < groupNotFoundSince:
		return kerr.IllegalGeneration
	}
	return kerr.GroupIDNotFound
}

// extendOnCommit keeps a member alive that commits.
func (t *turn) extendOnCommit(c committer) {
	g := t.groups[c.group]
	if g == nil || g.state != stable && g.state != preparingRebalance {
		return
	}
	if m := g.byID[c.memberID]; m != nil {
		t.extend(m)
	}
}

// endTransaction writes a transaction marker.
func (t *turn) endTransaction(e EndTransaction) int16 {
	if txn := t.open[e.ProducerID]; txn != nil && e.ProducerEpoch < txn.epoch {
		return kerr.InvalidProducerEpoch.Code
	}
	control := coordinator.Abort
	if e.Commit {
		control = coordinator.Commit
	}
	t.record(coordinator.Record{
		ProducerID: e.ProducerID, ProducerEpoch: e.ProducerEpoch, Transactional: true,
		Control: control, CoordinatorEpoch: e.CoordinatorEpoch, Timestamp: t.now.UnixMilli(),
	})
	return 0
}

// expiry returns when an offset with a retention of its own expires, noTime if it
// has none (OffsetCommit 2 to 4).
func expiry(now time.Time, retentionMillis int64) int64 {
	at := now.UnixMilli()
	switch {
	case retentionMillis == -1:
		return noTime
	case retentionMillis > math.MaxInt64-at:
		return math.MaxInt64
	case retentionMillis < 0:
		return at
	}
	return at + retentionMillis
}

// deref returns the string, "" for null.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// utf16Len returns the length that Java sees.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		if n++; r > 0xFFFF {
			n++
		}
	}
	return n
}
