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

// autoCreate creates topics with the broker's defaults and reports those that
// were refused, with the code that Kafka's Metadata answers for them.
func (b *Broker) autoCreate(ctx context.Context, names []string) map[string]*kerr.Error {
	failed := map[string]*kerr.Error{}
	var wanted []metadata.NewTopic
	for _, name := range names {
		wanted = append(wanted, b.newTopic(name))
	}
	results, err := b.askCreate(ctx, metadata.CreateTopics{Topics: wanted})
	if err != nil {
		for _, name := range names {
			failed[name] = kerr.UnknownTopicOrPartition
		}
		return failed
	}
	for _, r := range results {
		switch r.Code {
		case 0, kerr.TopicAlreadyExists.Code:
		case kerr.InvalidTopicException.Code:
			failed[r.Name] = kerr.InvalidTopicException
		default:
			b.log.Info("a topic could not be created for a client that asked for it", "topic", r.Name, "err", text(r.Message))
			failed[r.Name] = kerr.UnknownTopicOrPartition
		}
	}
	return failed
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
	return t
}

// askCreate hands a creation to the metadata shard.
func (b *Broker) askCreate(ctx context.Context, e metadata.CreateTopics) ([]metadata.TopicCreated, error) {
	reply, err := b.askMetadata(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("create topics: %w", err)
	}
	return reply.(metadata.TopicsCreated).Topics, nil
}

// ensureOffsetsTopic creates __consumer_offsets if it does not exist.
func (b *Broker) ensureOffsetsTopic(ctx context.Context) *kerr.Error {
	if b.image().Topic(offsetsTopic) != nil {
		return nil
	}
	if failed := b.autoCreate(ctx, []string{offsetsTopic}); failed[offsetsTopic] != nil {
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
