package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// change is what became of topics when the image changed.
type change struct {
	deleted []*metadata.Topic
}

// publish makes the shard's image the broker's, after each durable batch and
// before its replies: whoever is answered finds the change.
func (b *Broker) publish(s coordinator.Shard) {
	shard := s.(*metadata.Shard)
	if shard.Err() != nil {
		return // every event is answered with the reason; the image must not be acted on
	}
	o := b.metaLog.Offsets()
	im := shard.Image().At(o.End-1, o.LeaderEpoch)
	old := b.img.Load()
	if old == nil || !maps.Equal(old.ClusterConfigs(), im.ClusterConfigs()) || !maps.Equal(old.BrokerConfigs(b.nodeID), im.BrokerConfigs(b.nodeID)) {
		b.applyDynamic(im)
	}
	b.img.Store(im)
	if !shard.InTransaction() && im.Feature(metadata.FeatureMetadataVersion) > 0 {
		b.snapshots.offer(im)
	}
	if old == nil {
		return
	}
	for _, t := range metadata.Reconfigured(old, im) {
		b.parts.configure(t)
	}
	created, deleted, grown := metadata.Diff(old, im)
	b.groups.metadataChanged(im, created, deleted, grown)
	b.txns.metadataChanged(old, im)
	b.placer.created(created)
	b.placer.created(grown)
	if im.Feature(metadata.FeatureMetadataVersion) > old.Feature(metadata.FeatureMetadataVersion) {
		b.metadataVersionRaised(im)
	}
	if len(deleted) == 0 {
		return
	}
	select {
	case b.changes <- change{deleted: deleted}:
	case <-b.life.Done():
	}
}

// metadataVersionRaised has the metadata log told what an older metadata.version had
// no room for.
func (b *Broker) metadataVersionRaised(im *metadata.Image) {
	if im.Broker(b.nodeID) != nil {
		b.meta.Post(metadata.RefreshRegistration{RegisterBroker: b.registration()})
	}
	b.placer.recordAll(im)
}

// applyDynamic puts the dynamic broker settings of the metadata log over the
// static ones (KIP-226).
func (b *Broker) applyDynamic(im *metadata.Image) {
	c, err := b.static.WithDynamicDefault(im.ClusterConfigs())
	c, err2 := c.WithDynamicBroker(im.BrokerConfigs(b.nodeID))
	if err := errors.Join(err, err2); err != nil {
		b.log.Warn("dynamic settings of the broker that cannot be read are left out", "err", err)
	}
	b.conf.Store(c)
	b.dirs.Cordon(b.cordoned())
	if b.img.Load() != nil {
		b.placer.recordCordoned()
	}
	b.dirs.SetCleaner(b.cleanerConfig(c))
	if b.parts != nil {
		for _, t := range im.Topics() {
			b.parts.configure(t)
		}
	}
}

// reap removes the logs of topics that are gone, away from the metadata shard. Their committed offsets
// go after that, from a goroutine of their own: a coordinator that cannot write, because the disk is full, must not
// keep the next logs from going, which makes space.
func (b *Broker) reap() {
	for {
		select {
		case c := <-b.changes:
			for _, t := range c.deleted {
				if err := b.parts.remove(t); err != nil {
					b.log.Error("a deleted topic's logs stay on disk until the next start", "topic", t.Name, "err", err)
				}
			}
			b.orphans.add(c.deleted)
		case <-b.life.Done():
			return
		}
	}
}

// orphans are deleted topics whose committed offsets are to be deleted.
type orphans struct {
	wake chan struct{} // has room for one

	mu     sync.Mutex
	topics []*metadata.Topic
}

func (o *orphans) add(topics []*metadata.Topic) {
	o.mu.Lock()
	o.topics = append(o.topics, topics...)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *orphans) take() []*metadata.Topic {
	o.mu.Lock()
	defer o.mu.Unlock()
	topics := o.topics
	o.topics = nil
	return topics
}

// forgetOffsets deletes the committed offsets of deleted topics.
func (b *Broker) forgetOffsets() {
	for {
		select {
		case <-b.orphans.wake:
			for _, t := range b.orphans.take() {
				b.groups.topicDeleted(b.life, t)
			}
		case <-b.life.Done():
			return
		}
	}
}

// roomToCreate is POLICY_VIOLATION while memory is short, and log.ErrDiskFull while nothing new should be begun, so that what is set aside is there for
// deleting.
func (b *Broker) roomToCreate() error {
	if b.dirs.Full() {
		return fmt.Errorf("%w: nothing is created until there is space", log.ErrDiskFull)
	}
	return b.memory.create()
}

// openers is how many logs are opened side by side after a start: it is mostly waiting for the disk.
const openers = 8

// warmUp opens the logs of all partitions, so that retention knows them, and
// loads the groups, while the broker serves already.
func (b *Broker) warmUp() {
	began, n := time.Now(), 0
	next := make(chan partitionOf)
	var wg sync.WaitGroup
	for range openers {
		wg.Go(func() {
			for p := range next {
				if _, err := b.parts.get(p.topic, p.index); err != nil {
					b.logStorage("open after start", err)
				}
			}
		})
	}
	for p := range allPartitionsOf(b.image()) {
		select {
		case next <- p:
			n++
			continue
		case <-b.life.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	if b.life.Err() != nil {
		return
	}
	b.log.Info("all partitions are open", "partitions", n, "took", time.Since(began))
	if err := b.dirs.SetAsideUnknown(); err != nil {
		b.logStorage("set aside directories of unknown topics", err)
	}
	if _, err := b.groups.all(); err != nil {
		b.logStorage("load groups after start", err)
	}
	if _, err := b.txns.all(); err != nil {
		b.logStorage("load transactions after start", err)
	}
}

// partitionOf is one partition of a topic.
type partitionOf struct {
	topic *metadata.Topic
	index int32
}

func allPartitionsOf(im *metadata.Image) iter.Seq[partitionOf] {
	return func(yield func(partitionOf) bool) {
		for _, t := range im.Topics() {
			for i := range t.Partitions {
				if !yield(partitionOf{t, int32(i)}) {
					return
				}
			}
		}
	}
}

// logStorage reports a storage error once where it is met; clients get its code.
func (b *Broker) logStorage(doing string, err error) {
	if errors.Is(err, errClosing) || errors.Is(err, log.ErrOffline) || errors.Is(err, log.ErrDamaged) || errors.Is(err, log.ErrDiskFull) || errors.Is(err, kerr.NotLeaderForPartition) {
		return // the log or its directory has told of it
	}
	b.log.Error("storage error", "doing", doing, "err", err)
}

// reserveProducerIDs takes the next block of producer ids from the metadata log.
func (b *Broker) reserveProducerIDs(ctx context.Context) (first, count int64, err error) {
	reply, err := b.askMetadata(ctx, metadata.AllocateProducerIDs{})
	if err != nil {
		return 0, 0, fmt.Errorf("reserve producer ids: %w", err)
	}
	block := reply.(metadata.ProducerIDBlock)
	if block.Count == 0 {
		return 0, 0, errors.New("reserve producer ids: all of them have been handed out")
	}
	return block.First, int64(block.Count), nil
}

// facts are what the metrics ask at each scrape.
func (b *Broker) facts() brokerFacts {
	f := brokerFacts{State: brokerState(b.state.Load()), NodeID: b.nodeID, Listeners: map[string]listenerFacts{}, Closed: map[string]int64{}}
	if im := b.image(); im != nil {
		for _, t := range im.Topics() {
			f.Topics = append(f.Topics, t.Name)
			f.Partitions += len(t.Partitions)
		}
	}
	if b.parts != nil {
		now, longest := time.Now(), millis(b.static.Int("transaction.max.timeout.ms"))
		b.parts.each(func(l *log.Log) {
			o := l.Offsets()
			f.Transactions.add(l, now, longest)
			f.Logs = append(f.Logs, logFacts{Topic: l.Topic(), Partition: l.Partition(), Start: o.Start, Stable: o.Stable, End: o.End, Bytes: l.Size(), Segments: l.Segments(), Damaged: len(l.Damages())})
		})
	}
	if b.dirs != nil {
		b.offlineFacts(&f)
		f.Cleaner = b.dirs.CleanerStats()
	}
	if b.metaLog != nil {
		o := b.metaLog.Offsets()
		f.Metadata = metadataFacts{Epoch: o.LeaderEpoch, End: o.End, High: o.High}
	}
	f.FetchSessions, f.FetchSessionPartitions, f.FetchSessionEvictions = b.sessions.stats()
	b.groupFacts(&f.Groups)
	f.Transactions.read(&b.metrics.transactions)
	b.serverFacts(&f)
	return f
}

// offlineFacts counts what is out of service.
func (b *Broker) offlineFacts(f *brokerFacts) {
	for _, r := range b.partitionDirs() {
		offline := r.Err() != nil
		if offline {
			f.OfflineLogDirs++
		}
		f.LogDirs = append(f.LogDirs, logDirFacts{Name: r.Name(), Offline: offline})
	}
	if b.Err() != nil {
		f.OfflinePartitions = f.Partitions
		return
	}
	if im := b.image(); im != nil && f.OfflineLogDirs > 0 {
		for t := range im.All() {
			for i := range t.Partitions {
				if t.Partitions[i].Leader == metadata.NoLeader {
					f.OfflinePartitions++
				}
			}
		}
	}
}

// groupFacts sums the groups that are loaded. A coordinator that does not answer
// soon is left out: a scrape must not wait for a slow disk.
func (b *Broker) groupFacts(f *groupFacts) {
	if b.groups == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), groupStatsWait)
	defer cancel()
	for _, s := range b.groups.loaded() {
		reply, err := s.Do(ctx, group.Count{})
		if err != nil {
			continue
		}
		c := reply.(group.Counts)
		f.Empty += c.Empty
		f.PreparingRebalance += c.PreparingRebalance
		f.CompletingRebalance += c.CompletingRebalance
		f.Stable += c.Stable
		f.Offsets += c.Offsets
		f.ConsumerEmpty += c.ConsumerEmpty
		f.ConsumerAssigning += c.ConsumerAssigning
		f.ConsumerReconciling += c.ConsumerReconciling
		f.ConsumerStable += c.ConsumerStable
	}
}

// serverFacts sums what the listeners count.
func (b *Broker) serverFacts(f *brokerFacts) {
	for _, r := range protocol.Reasons() {
		f.Closed[string(r)] = 0
	}
	for name, s := range b.servers {
		st := s.Stats()
		var closed uint64
		for r, n := range st.Closed {
			f.Closed[string(r)] += int64(n)
			closed += n
		}
		f.Listeners[name] = listenerFacts{Open: st.Open, Accepted: int64(st.Opened), Closed: int64(closed)}
	}
	if b.credit != nil {
		f.RequestMemory, f.RequestMemoryLimit = b.credit.Used(), b.credit.Total()
	}
}
