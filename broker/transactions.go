package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/internal/mutant"
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
type transactions struct {
	*coordinators
	jobs map[partitionKey]*markerJobs // guarded by coordinators.mu
}

func newTransactions(b *Broker, c *config.Config) *transactions {
	x := &transactions{jobs: map[partitionKey]*markerJobs{}}
	opts := txn.DefaultOptions()
	opts.MaxTimeout = millis(c.Int("transaction.max.timeout.ms"))
	opts.AbortInterval = millis(c.Int("transaction.abort.timed.out.transaction.cleanup.interval.ms"))
	opts.Expiration = millis(c.Int("transactional.id.expiration.ms"))
	opts.ExpiryInterval = millis(c.Int("transaction.remove.expired.transaction.cleanup.interval.ms"))
	x.coordinators = newCoordinators(b, transactionsTopic, func(key partitionKey) coordinator.ShellOptions {
		jobs := x.jobs[key]
		if jobs == nil {
			jobs = &markerJobs{b: b}
			x.jobs[key] = jobs
		}
		return coordinator.ShellOptions{
			New: func() coordinator.Shard {
				jobs.end()
				o := opts
				o.Level, o.LoadedAfter = b.image().Feature(transactionVersion), txn.Conn(x.loadedAfter(key))
				return txn.New(o)
			},
			Errands: func(all []coordinator.Errand) {
				for _, e := range all {
					jobs.add(func(ctx context.Context) { x.writeAll(ctx, key, e.(txn.WriteMarkers)) })
				}
			},
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

// markerJobs are the writers of markers that the present load of one coordinator has asked for.
type markerJobs struct {
	b    *Broker
	mu   sync.Mutex
	ctx  context.Context // nil: there are none
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// end ends the writers of the load before, once what they have appended is durable: one of those could write a marker that the new load has written too, when
// the producer has begun its next transaction already, and would end that. Once it returns none of them writes any more.
func (j *markerJobs) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ctx == nil {
		return
	}
	j.stop()
	j.wg.Wait()
	j.ctx = nil
}

func (j *markerJobs) add(write func(context.Context)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ctx == nil {
		j.ctx, j.stop = context.WithCancel(j.b.life)
	}
	ctx := j.ctx
	j.wg.Add(1)
	j.b.wg.Go(func() {
		defer j.wg.Done()
		write(ctx)
	})
}

// markerPause is the wait before a marker that could not be written is tried again.
const markerPause = 200 * time.Millisecond

// writeAll writes the markers of a transaction and tells its coordinator. It does not give up: until all of them are written
// readers of committed records wait. But where a newer coordinator has written markers this one has nothing to say any more.
func (x *transactions) writeAll(ctx context.Context, key partitionKey, m txn.WriteMarkers) {
	epoch := int32(0)
	if t := x.b.image().TopicByID(key.topic); t != nil {
		epoch = t.Partitions[key.partition].LeaderEpoch
	}
	left, pending := m.Partitions, &x.b.metrics.transactions.markers
	pending.Add(int64(len(left)))
	defer func() { pending.Add(-int64(len(left))) }()
	for tries := 0; len(left) > 0; tries++ {
		if tries > 0 {
			if ended := x.pause(ctx, len(left)); ended {
				return
			}
		}
		var failed []txn.Partition
		var err error
		for i, e := range x.b.writeMarkers(left, marker{m.Producer, m.Commit, epoch, m.Version}) {
			if errors.Is(e, log.ErrCoordinatorFenced) {
				x.b.log.Warn("a newer coordinator has written markers of a transaction", "transactionalId", m.TransactionalID, "err", e)
				return
			}
			// An epoch that is not newer means that the marker is there, durable, written by a load before this one.
			if e != nil && !errors.Is(e, log.ErrInvalidProducerEpoch) && !errors.Is(e, kerr.InvalidProducerEpoch) {
				failed, err = append(failed, left[i]), e
			}
		}
		pending.Add(int64(len(failed) - len(left)))
		if left = failed; err != nil && tries%50 == 0 && ctx.Err() == nil {
			x.b.log.Warn("markers of a transaction cannot be written and are tried again", "transactionalId", m.TransactionalID, "partitions", len(left), "err", err)
		}
	}
	x.post(key, m.Written())
}

// pause waits before markers that failed are tried again, unless there is no time for that.
func (x *transactions) pause(ctx context.Context, failed int) (ended bool) {
	n := &x.b.metrics.transactions.markersFailed
	n.Add(int64(failed))
	defer n.Add(-int64(failed))
	select {
	case <-time.After(markerPause):
		return false
	case <-ctx.Done():
		return true
	}
}

// marker is what ends a transaction in a partition.
type marker struct {
	txn.Producer
	commit           bool
	coordinatorEpoch int32
	version          int16
}

// writeMarkers writes a marker into each partition and returns when they are durable, with an error for each. A partition
// that does not exist any more needs none. What it has appended it waits for as long as the broker lives: a later writer
// that finds the marker there takes it for durable.
func (b *Broker) writeMarkers(ps []txn.Partition, m marker) []error {
	errs, commits := make([]error, len(ps)), make([]*log.Commit, len(ps))
	for i, p := range ps {
		t := b.image().Topic(p.Topic)
		switch {
		case !hasPartition(t, p.Index), mutant.On(mutant.MarkerSkipped) && i == 1:
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

// endOffsets has the coordinator of groups end the transactional commits of a producer. It does not leave before that is
// done or has failed: what is asked for and not waited for may happen any time later.
func (b *Broker) endOffsets(t *metadata.Topic, index int32, m marker) error {
	l, err := b.parts.get(t, index)
	if err != nil {
		return err
	}
	// A marker that the log refuses would take the coordinator down with it.
	if err := l.CheckMarker(m.ID, m.Epoch, m.coordinatorEpoch, m.version); err != nil {
		return err
	}
	s, err := b.groups.shell(t, index)
	if err != nil {
		return err
	}
	reply, err := s.Do(b.life, group.EndTransaction{ProducerID: m.ID, ProducerEpoch: m.Epoch, CoordinatorEpoch: m.coordinatorEpoch, Commit: m.commit})
	if err != nil {
		return err
	}
	if code := reply.(int16); code != 0 {
		return kerr.ErrorForCode(code)
	}
	return nil
}

// late hangs up: the request was delayed on a connection that its producer has given up since, or one that cannot be told
// from such a one. It was not believed.
func (b *Broker) late(c *protocol.Call, transactionalID string) protocol.Response {
	b.metrics.transactions.lateRequests.Add(1)
	b.log.Debug("a request of a transaction came over a connection that is not its producer's newest; it has no effect and the connection is closed",
		"request", kmsg.NameForKey(c.Key), "transactionalId", transactionalID, "conn", c.ConnID, "client", c.ClientID)
	return nil
}

// mayTransaction asks the authorizer about a transactional id.
func (b *Broker) mayTransaction(c *protocol.Call, op Operation, id string) bool {
	return b.authorizer.Authorize(c, op, ResourceTransactionalID, id)
}

// addPartitions adds partitions to a transaction, or verifies that they are in it. It returns a code for each, or that the
// request was late.
func (b *Broker) addPartitions(ctx context.Context, e txn.Add) (codes []int16, late bool) {
	codes = make([]int16, len(e.Partitions))
	reply, err := b.txns.ask(ctx, e.TransactionalID, e)
	code := codeOf(err)
	if err == nil {
		added := reply.(txn.Added)
		if added.Code == 0 && e.Verify {
			return added.Codes, false
		}
		code, late = added.Code, added.Late
	}
	fill(codes, code)
	return codes, late
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
