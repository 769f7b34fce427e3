package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// deleteTopics answers DeleteTopics (20), versions 1-6; v3 brought
// TOPIC_DELETION_DISABLED, v5 messages, v6 topic ids (KIP-516). The answer comes
// when the deletion is durable; the files go a little later, as do the topic's
// committed offsets. With a timeout of 0 or less nothing is deleted:
// REQUEST_TIMED_OUT.
// ACL: DELETE on the cluster or the topic; without DESCRIBE a topic's id or
// name is not told.
func (b *Broker) deleteTopics(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DeleteTopicsRequest)
	var refs []metadata.TopicRef
	for _, t := range req.Topics {
		refs = append(refs, metadata.TopicRef{Name: t.Topic, ID: t.TopicID})
	}
	for i := range req.TopicNames {
		refs = append(refs, metadata.TopicRef{Name: &req.TopicNames[i]})
	}
	may := func(topic string) metadata.Access {
		cluster := b.mayCluster(c, OpDelete)
		return metadata.Access{
			Describe: cluster || b.mayTopic(c, OpDescribe, topic),
			Delete:   cluster || b.mayTopic(c, OpDelete, topic),
		}
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrDeleteTopicsResponse()
		resp.Version = c.Version
		answer := func(name *string, id [16]byte, code int16, message *string) {
			t := kmsg.NewDeleteTopicsResponseTopic()
			t.Topic, t.TopicID, t.ErrorCode, t.ErrorMessage = name, id, code, message
			resp.Topics = append(resp.Topics, t)
		}
		if req.TimeoutMillis <= 0 {
			for _, r := range refs {
				answer(r.Name, r.ID, kerr.RequestTimedOut.Code, nil)
			}
			return resp
		}
		reply, err := b.askMetadata(ctx, metadata.DeleteTopics{Topics: refs, May: may})
		if err != nil {
			for _, r := range refs {
				answer(r.Name, r.ID, codeOf(err), ptr(err.Error()))
			}
			return resp
		}
		deleted := reply.(metadata.TopicsDeleted)
		if deleted.Disabled {
			code, message := kerr.TopicDeletionDisabled.Code, "Topic deletion is disabled."
			if c.Version < 3 {
				code, message = kerr.InvalidRequest.Code, "This version does not support topic deletion."
			}
			for _, r := range refs {
				answer(r.Name, r.ID, code, &message)
			}
			return resp
		}
		for _, r := range deleted.Topics {
			answer(r.Name, r.ID, r.Code, r.Message)
		}
		return resp
	})
}
