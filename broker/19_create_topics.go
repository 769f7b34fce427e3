package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// createTopics answers CreateTopics (19), versions 2-7.
//
// v4 brought -1 for the default numbers of partitions and replicas, v5 the
// created topic's numbers and settings in the answer (KIP-525), v7 its id. What
// is checked, in which order and with which words, is the metadata shard's business.
// Settings that were asked for are told as they were written, where
// DescribeConfigs tells the values that they mean. With a timeout of 0 or less
// nothing is created: REQUEST_TIMED_OUT.
// ACL: CREATE on the cluster or on the topic (29); DESCRIBE_CONFIGS on the topic
// to be told its settings, else TopicConfigErrorCode 29.
func (b *Broker) createTopics(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.CreateTopicsRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrCreateTopicsResponse()
		resp.Version = c.Version
		var wanted []metadata.NewTopic
		for _, t := range req.Topics {
			if t.Topic != metadata.ClusterMetadataTopic && !b.mayCluster(c, OpCreate) && !b.mayTopic(c, OpCreate, t.Topic) {
				resp.Topics = append(resp.Topics, refusedTopic(t.Topic, kerr.TopicAuthorizationFailed.Code, ptr("Authorization failed.")))
				continue
			}
			wanted = append(wanted, wantedTopic(t))
		}
		if req.TimeoutMillis <= 0 {
			for _, t := range wanted {
				resp.Topics = append(resp.Topics, refusedTopic(t.Name, kerr.RequestTimedOut.Code, nil))
			}
			return resp
		}
		results, err := b.askCreate(ctx, metadata.CreateTopics{Topics: wanted, ValidateOnly: req.ValidateOnly})
		if err != nil {
			for _, t := range wanted {
				resp.Topics = append(resp.Topics, refusedTopic(t.Name, codeOf(err), ptr(err.Error())))
			}
			return resp
		}
		for _, r := range results {
			resp.Topics = append(resp.Topics, b.createdTopic(c, r))
		}
		return resp
	})
}

func wantedTopic(t kmsg.CreateTopicsRequestTopic) metadata.NewTopic {
	w := metadata.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
	for _, a := range t.ReplicaAssignment {
		w.Assignments = append(w.Assignments, metadata.Assignment{Partition: a.Partition, Brokers: a.Replicas})
	}
	for _, cfg := range t.Configs {
		w.Configs = append(w.Configs, metadata.NewConfig{Name: cfg.Name, Value: cfg.Value})
	}
	return w
}

func refusedTopic(name string, code int16, message *string) kmsg.CreateTopicsResponseTopic {
	t := kmsg.NewCreateTopicsResponseTopic()
	t.Topic, t.ErrorCode, t.ErrorMessage = name, code, message
	t.NumPartitions, t.ReplicationFactor = -1, -1
	t.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
	return t
}

// createdTopic answers one topic that the shard decided about.
func (b *Broker) createdTopic(c *protocol.Call, r metadata.TopicCreated) kmsg.CreateTopicsResponseTopic {
	t := refusedTopic(r.Name, r.Code, r.Message)
	if r.Code != 0 {
		return t
	}
	t.TopicID = r.ID
	if !b.mayTopic(c, OpDescribeConfigs, r.Name) {
		t.ConfigErrorCode = kerr.TopicAuthorizationFailed.Code
		return t
	}
	t.NumPartitions, t.ReplicationFactor = r.Partitions, r.ReplicationFactor
	for _, e := range b.conf.Load().DescribeTopic(r.Configs, nil) {
		entry := kmsg.NewCreateTopicsResponseTopicConfig()
		entry.Name, entry.Value, entry.ReadOnly, entry.Source, entry.IsSensitive = e.Name, e.Value, e.ReadOnly, int8(e.Source), e.Sensitive
		if asked, ok := r.Configs[e.Name]; ok {
			entry.Value = &asked
		}
		t.Configs = append(t.Configs, entry)
	}
	return t
}
