package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// partition finds the log of one partition by its topic's name and checks the
// leader epoch that the client knows (-1: no check).
func (b *Broker) partition(topic string, index, epoch int32) (*log.Log, *metadata.Topic, error) {
	t := b.image().Topic(topic)
	if t == nil || index < 0 || int(index) >= len(t.Partitions) {
		return nil, nil, kerr.UnknownTopicOrPartition
	}
	if err := checkLeaderEpoch(epoch, t.Partitions[index].LeaderEpoch); err != nil {
		return nil, nil, err
	}
	l, err := b.parts.get(t, index)
	if err != nil {
		b.logStorage("open", err)
		return nil, nil, err
	}
	return l, t, nil
}

// epochEnd tells where a leader epoch ended (LeaderEpochFileCache.endOffsetFor).
// Kafka's log knows an epoch from its beginning on, ours from its first batch on:
// current is the partition's epoch now.
func epochEnd(l *log.Log, current, epoch int32) (e int32, end int64) {
	if epoch == -1 || epoch > current {
		return -1, -1
	}
	if e, end = l.EpochEnd(epoch); end >= 0 {
		return e, end
	}
	o := l.Offsets()
	if epoch == current || o.LeaderEpoch < 0 {
		return epoch, o.End
	}
	return o.LeaderEpoch, o.End
}

// autoCreate creates topics with the broker's defaults. Whether it could is seen
// in the image: clients are told no more than that a topic does not exist.
func (b *Broker) autoCreate(ctx context.Context, names []string) {
	var wanted []metadata.NewTopic
	for _, name := range names {
		wanted = append(wanted, b.newTopic(name))
	}
	results, err := b.askCreate(ctx, metadata.CreateTopics{Topics: wanted})
	if err != nil {
		b.log.Info("topics could not be created for a client that asked for them", "err", err)
		return
	}
	for _, r := range results {
		if r.Code != 0 && r.Code != kerr.TopicAlreadyExists.Code {
			b.log.Info("a topic could not be created for a client that asked for it", "topic", r.Name, "err", text(r.Message))
		}
	}
}

// newTopic describes a topic as auto-creation makes it: internal topics have
// their own partition counts and settings (storage.md 2.9). Their replication
// factors are one whatever is configured, since there is one broker.
func (b *Broker) newTopic(name string) metadata.NewTopic {
	t := metadata.NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1}
	if name == offsetsTopic {
		t.Partitions, t.ReplicationFactor = int32(b.static.Int("offsets.topic.num.partitions")), 1
		t.Configs = []metadata.NewConfig{
			{Name: "compression.type", Value: ptr("producer")},
			{Name: "cleanup.policy", Value: ptr("compact")},
			{Name: "segment.bytes", Value: ptr(itoa(b.static.Int("offsets.topic.segment.bytes")))},
		}
	}
	if name == transactionsTopic {
		t.Partitions, t.ReplicationFactor = int32(b.static.Int("transaction.state.log.num.partitions")), 1
		t.Configs = []metadata.NewConfig{
			{Name: "compression.type", Value: ptr("uncompressed")},
			{Name: "cleanup.policy", Value: ptr("compact")},
			{Name: "min.insync.replicas", Value: ptr("1")}, // there is one broker, whatever transaction.state.log.min.isr is
			{Name: "segment.bytes", Value: ptr(itoa(b.static.Int("transaction.state.log.segment.bytes")))},
			{Name: "unclean.leader.election.enable", Value: ptr("false")},
		}
	}
	return t
}

// askCreate hands a creation to the metadata shard.
func (b *Broker) askCreate(ctx context.Context, e metadata.CreateTopics) ([]metadata.TopicCreated, error) {
	if err := b.roomToCreate(); err != nil {
		return nil, fmt.Errorf("create topics: %w", err)
	}
	reply, err := b.askMetadata(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("create topics: %w", err)
	}
	return reply.(metadata.TopicsCreated).Topics, nil
}

// ensureTopic creates an internal topic if it does not exist.
func (b *Broker) ensureTopic(ctx context.Context, name string) *kerr.Error {
	if b.image().Topic(name) != nil {
		return nil
	}
	if b.autoCreate(ctx, []string{name}); b.image().Topic(name) == nil {
		return kerr.CoordinatorNotAvailable
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
