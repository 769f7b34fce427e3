package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// metadataAPI answers Metadata (3), versions 0-13.
//
// v0: an empty list means all topics; v1+: null means all, empty none.
// v4 AllowAutoTopicCreation, v8-10 cluster and v8+ topic operations, v10 topic
// ids in answers, v12 questions by id (names beside ids are ignored), v13 a
// top-level error. A topic asked for twice is answered once.
// ACL: DESCRIBE on each topic (29, or left out of a list of all); to create a
// missing one, CREATE on the cluster or on the topic.
// A missing topic is created before the answer, where Kafka answers
// UNKNOWN_TOPIC_OR_PARTITION first and creates meanwhile: clients ask again
// then, so both look alike to them.
func (b *Broker) metadataAPI(ctx context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.MetadataRequest)
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = c.Version
	resp.AuthorizedOperations = operationsNotRequested
	if badMetadataRequest(req, c.Version) {
		// Kafka has no top-level code before v13 and lets the request fail as a
		// whole: every topic asked for answers INVALID_REQUEST.
		for _, t := range req.Topics {
			rt := newMetadataTopic(kerr.InvalidRequest, t.Topic, t.TopicID)
			if rt.Topic == nil {
				rt.Topic = new(string)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		resp.ErrorCode = kerr.InvalidRequest.Code
		return protocol.Now(resp)
	}
	ep := b.endpoint(c.Listener)
	node := kmsg.NewMetadataResponseBroker()
	node.NodeID, node.Host, node.Port, node.Rack = b.nodeID, ep.Host, ep.Port, b.rack
	resp.Brokers = append(resp.Brokers, node)
	resp.ClusterID = &b.clusterID
	resp.ControllerID = b.nodeID
	if req.IncludeClusterAuthorizedOperations && c.Version >= 8 && c.Version <= 10 {
		resp.AuthorizedOperations = 0
		if b.mayCluster(c, OpDescribe) {
			resp.AuthorizedOperations = b.authorizedOperations(c, ResourceCluster, clusterName)
		}
	}
	if req.Topics == nil || c.Version == 0 && len(req.Topics) == 0 {
		for _, t := range b.image().Topics() {
			if b.mayTopic(c, OpDescribe, t.Name) {
				resp.Topics = append(resp.Topics, b.metadataTopic(c, req, t))
			}
		}
		return protocol.Now(resp)
	}
	missing := b.missingTopics(c, req)
	if len(missing) == 0 {
		b.addAskedTopics(c, req, resp)
		return protocol.Now(resp)
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		b.autoCreate(ctx, missing)
		b.addAskedTopics(c, req, resp)
		return resp
	})
}

// badMetadataRequest is rule M3: topic ids may be asked only from v12 on, and
// null names only together with ids.
func badMetadataRequest(req *kmsg.MetadataRequest, version int16) bool {
	byID := asksByID(req)
	for _, t := range req.Topics {
		if version < 12 && (t.Topic == nil || t.TopicID != [16]byte{}) {
			return true
		}
		if t.Topic == nil && !byID {
			return true
		}
	}
	return false
}

// missingTopics lists, in request order and once each, the topics this request
// may create: legal names that do not exist.
func (b *Broker) missingTopics(c *protocol.Call, req *kmsg.MetadataRequest) []string {
	if c.Version >= 4 && !req.AllowAutoTopicCreation || !b.static.Bool("auto.create.topics.enable") {
		return nil
	}
	im := b.image()
	var names []string
	for _, t := range askedTopics(req) {
		if t.Name == nil || im.Topic(*t.Name) != nil {
			continue
		}
		name := *t.Name
		if metadata.InvalidTopicName(name) != "" || !b.mayTopic(c, OpDescribe, name) {
			continue
		}
		if !b.mayCluster(c, OpCreate) && !b.mayTopic(c, OpCreate, name) {
			continue
		}
		names = append(names, name)
	}
	return names
}

// askedTopics lists, once each, what a request asks for: its topic ids (Topic is
// nil then), or its names if it has no ids.
func askedTopics(req *kmsg.MetadataRequest) []metadata.TopicRef {
	byID := asksByID(req)
	var asked []metadata.TopicRef
	ids, names := map[[16]byte]bool{}, map[string]bool{}
	for _, t := range req.Topics {
		switch {
		case byID && t.TopicID != [16]byte{} && !ids[t.TopicID]:
			ids[t.TopicID] = true
			asked = append(asked, metadata.TopicRef{ID: t.TopicID})
		case !byID && !names[*t.Topic]:
			names[*t.Topic] = true
			asked = append(asked, metadata.TopicRef{Name: t.Topic})
		}
	}
	return asked
}

func asksByID(req *kmsg.MetadataRequest) bool {
	return slices.ContainsFunc(req.Topics, func(t kmsg.MetadataRequestTopic) bool { return t.TopicID != [16]byte{} })
}

// addAskedTopics answers each topic of the request.
func (b *Broker) addAskedTopics(c *protocol.Call, req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) {
	im := b.image()
	for _, asked := range askedTopics(req) {
		var t *metadata.Topic
		byID := asked.Name == nil
		if byID {
			t = im.TopicByID(asked.ID)
		} else {
			t = im.Topic(*asked.Name)
		}
		switch {
		case t != nil && b.mayTopic(c, OpDescribe, t.Name):
			resp.Topics = append(resp.Topics, b.metadataTopic(c, req, t))
		case byID && t == nil:
			resp.Topics = append(resp.Topics, newMetadataTopic(kerr.UnknownTopicID, nil, asked.ID))
		case byID:
			resp.Topics = append(resp.Topics, newMetadataTopic(kerr.TopicAuthorizationFailed, nil, asked.ID))
		case !b.mayTopic(c, OpDescribe, *asked.Name):
			resp.Topics = append(resp.Topics, newMetadataTopic(kerr.TopicAuthorizationFailed, asked.Name, [16]byte{}))
		case metadata.InvalidTopicName(*asked.Name) != "":
			resp.Topics = append(resp.Topics, newMetadataTopic(kerr.InvalidTopicException, asked.Name, [16]byte{}))
		default:
			resp.Topics = append(resp.Topics, newMetadataTopic(kerr.UnknownTopicOrPartition, asked.Name, [16]byte{}))
		}
	}
}

func newMetadataTopic(code *kerr.Error, name *string, id [16]byte) kmsg.MetadataResponseTopic {
	t := kmsg.NewMetadataResponseTopic()
	t.Topic, t.TopicID = name, id
	t.AuthorizedOperations = operationsNotRequested
	if code != nil {
		t.ErrorCode = code.Code
	}
	if name != nil {
		t.IsInternal = metadata.Internal(*name)
	}
	return t
}

// offlineReplicas are those of a partition that has no leader: with one, this node serves it.
func offlineReplicas(im *metadata.Image, p *metadata.Partition) []int32 {
	if p.Leader != metadata.NoLeader {
		return nil
	}
	return im.OfflineReplicas(p)
}

func (b *Broker) metadataTopic(c *protocol.Call, req *kmsg.MetadataRequest, t *metadata.Topic) kmsg.MetadataResponseTopic {
	rt := newMetadataTopic(nil, &t.Name, t.ID)
	if req.IncludeTopicAuthorizedOperations && c.Version >= 8 {
		rt.AuthorizedOperations = b.authorizedOperations(c, ResourceTopic, t.Name)
	}
	im := b.image()
	rt.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Partition, rp.Leader, rp.LeaderEpoch = p.Index, p.Leader, p.LeaderEpoch
		rp.Replicas, rp.ISR, rp.OfflineReplicas = p.Replicas, p.ISR, offlineReplicas(im, p)
		if p.Leader < 0 {
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		rt.Partitions[i] = rp
	}
	return rt
}
