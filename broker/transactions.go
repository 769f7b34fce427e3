package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// transactionsTopic keeps the state of transactions.
const transactionsTopic = "__transaction_state"

// transactionVersion is the feature whose level says which transaction version clients use (KIP-890).
const transactionVersion = "transaction.version"

// Transaction versions (KIP-890), as far as requests tell them apart.
const (
	versionOld = 0 // clients add partitions, and their epoch stays
	versionNew = 2 // the broker adds partitions, and each transaction has an epoch of its own
)

// transactions are the coordinators of transactional ids.
type transactions struct{ *coordinators }

func newTransactions(b *Broker, c *config.Config) *transactions {
	x := &transactions{}
	opts := txn.DefaultOptions()
	opts.MaxTimeout = millis(c.Int("transaction.max.timeout.ms"))
	opts.AbortInterval = millis(c.Int("transaction.abort.timed.out.transaction.cleanup.interval.ms"))
	opts.Expiration = millis(c.Int("transactional.id.expiration.ms"))
	opts.ExpiryInterval = millis(c.Int("transaction.remove.expired.transaction.cleanup.interval.ms"))
	x.coordinators = newCoordinators(b, transactionsTopic, func(key partitionKey) coordinator.ShellOptions {
		return coordinator.ShellOptions{
			New: func() coordinator.Shard {
				o := opts
				o.Level = b.image().Feature(transactionVersion)
				return txn.New(o)
			},
			Errands: func(all []coordinator.Errand) { x.errands(key, all) },
		}
	})
	return x
}

// metadataChanged tells the coordinators which transaction version is finalized.
func (x *transactions) metadataChanged(old, im *metadata.Image) {
	level := im.Feature(transactionVersion)
	if old.Feature(transactionVersion) == level {
		return
	}
	for _, s := range x.loaded() {
		s.Post(txn.Level(level))
	}
}

// errands writes markers.
func (x *transactions) errands(key partitionKey, all []coordinator.Errand) {
	for _, e := range all {
		m := e.(txn.WriteMarkers)
		x.b.wg.Go(func() { x.writeAll(key, m) })
	}
}

// markerPause is the wait before a marker that could not be written is tried again.
const markerPause = 200 * time.Millisecond

// writeAll writes the markers of a transaction and tells its coordinator. It does not give up: until all of them are written
// readers of committed records wait.
func (x *transactions) writeAll(key partitionKey, m txn.WriteMarkers) {
	epoch := int32(0)
	if t := x.b.image().TopicByID(key.topic); t != nil {
		epoch = t.Partitions[key.partition].LeaderEpoch
	}
	left := m.Partitions
	for tries := 0; len(left) > 0; tries++ {
		if tries > 0 {
			select {
			case <-time.After(markerPause):
			case <-x.b.life.Done():
				return
			}
		}
		var failed []txn.Partition
		var err error
		for i, e := range x.b.writeMarkers(left, marker{m.Producer, m.Commit, epoch, m.Version}) {
			// An epoch that is not newer means that the marker is there, written by a coordinator before this one.
			if e != nil && !errors.Is(e, log.ErrInvalidProducerEpoch) && !errors.Is(e, kerr.InvalidProducerEpoch) {
				failed, err = append(failed, left[i]), e
			}
		}
		if left = failed; err != nil && tries%50 == 0 && x.b.life.Err() == nil {
			x.b.log.Warn("markers of a transaction cannot be written and are tried again", "transactionalId", m.TransactionalID, "partitions", len(left), "err", err)
		}
	}
	x.post(key, txn.MarkersWritten{TransactionalID: m.TransactionalID, Producer: m.Producer})
}

// marker is what ends a transaction in a partition.
type marker struct {
	txn.Producer
	commit           bool
	coordinatorEpoch int32
	version          int16
}

// writeMarkers writes a marker into each partition and returns when they are durable, with an error for each. A partition
// that does not exist any more needs none.
func (b *Broker) writeMarkers(ps []txn.Partition, m marker) []error {
	errs, commits := make([]error, len(ps)), make([]*log.Commit, len(ps))
	for i, p := range ps {
		t := b.image().Topic(p.Topic)
		switch {
		case t == nil || int(p.Index) >= len(t.Partitions) || p.Index < 0:
		case p.Topic == offsetsTopic:
			errs[i] = b.endOffsets(t, p.Index, m)
		default:
			commits[i], errs[i] = b.appendMarker(t, p.Index, m)
		}
	}
	for i, c := range commits {
		if c == nil {
			continue
		}
		select {
		case <-c.Done():
			errs[i] = c.Err()
		case <-b.life.Done():
			errs[i] = errClosing
		}
	}
	return errs
}

func (b *Broker) appendMarker(t *metadata.Topic, index int32, m marker) (*log.Commit, error) {
	l, err := b.parts.get(t, index)
	if err != nil {
		return nil, err
	}
	kind := batch.ControlAbort
	if m.commit {
		kind = batch.ControlCommit
	}
	now := time.Now()
	raw := batch.AppendMarker(nil, m.ID, m.Epoch, kind, m.coordinatorEpoch, now.UnixMilli())
	done, err := l.Append(now, raw, log.AppendOptions{
		Origin: log.Coordinator, Durable: b.durableAcks, LeaderEpoch: t.Partitions[index].LeaderEpoch, TransactionVersion: m.version,
	})
	return done.Commit, err
}

// endOffsets has the coordinator of groups end the transactional commits of a producer.
func (b *Broker) endOffsets(t *metadata.Topic, index int32, m marker) error {
	l, err := b.parts.get(t, index)
	if err == nil {
		err = l.CheckMarker(m.ID, m.Epoch, m.coordinatorEpoch, m.version)
	}
	if err != nil {
		return err
	}
	s, err := b.groups.shell(t, index)
	if err != nil {
		return err
	}
	reply, err := s.Do(b.life, group.EndTransaction{Sent: time.Now(), ProducerID: m.ID, ProducerEpoch: m.Epoch, CoordinatorEpoch: m.coordinatorEpoch, Commit: m.commit})
	if err != nil {
		return err
	}
	if code := reply.(int16); code != 0 {
		return kerr.ErrorForCode(code)
	}
	return nil
}

// mayTransaction asks the authorizer about a transactional id.
func (b *Broker) mayTransaction(c *protocol.Call, op Operation, id string) bool {
	return b.authorizer.Authorize(c, op, ResourceTransactionalID, id)
}

// addPartitions adds partitions to a transaction, or verifies that they are in it. It returns a code for each.
func (b *Broker) addPartitions(ctx context.Context, e txn.Add) []int16 {
	codes := make([]int16, len(e.Partitions))
	reply, err := b.txns.ask(ctx, e.TransactionalID, e)
	code := codeOf(err)
	if err == nil {
		added := reply.(txn.Added)
		if added.Code == 0 && e.Verify {
			return added.Codes
		}
		code = added.Code
	}
	for i := range codes {
		codes[i] = code
	}
	return codes
}

// offsetsPartition is the partition of __consumer_offsets that has a group.
func (b *Broker) offsetsPartition(group string) (txn.Partition, bool) {
	t := b.image().Topic(offsetsTopic)
	if t == nil || len(t.Partitions) == 0 {
		return txn.Partition{}, false
	}
	return txn.Partition{Topic: offsetsTopic, Index: metadata.PartitionFor(group, int32(len(t.Partitions)))}, true
}

// oldFenced is PRODUCER_FENCED as clients know it that came before that code.
func oldFenced(code, version, since int16) int16 {
	if code == kerr.ProducerFenced.Code && version < since {
		return kerr.InvalidProducerEpoch.Code
	}
	return code
}
