package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// listConfigResources answers ListConfigResources (74), versions 0-1; v0 knows
// client metrics subscriptions only, v1 brought the other types (KIP-1142).
//
// Groups and subscriptions are listed if they have settings of their own;
// brokers, broker loggers and topics if they exist. No types mean all; one that
// the version does not know is UNSUPPORTED_VERSION. ACL: DESCRIBE_CONFIGS on
// the cluster.
func (b *Broker) listConfigResources(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	resp.Version = c.Version
	if !b.mayCluster(c, OpDescribeConfigs) {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return protocol.Now(resp)
	}
	// In the order in which Kafka answers.
	known := []kmsg.ConfigResourceType{kmsg.ConfigResourceTypeClientMetrics}
	if c.Version > 0 {
		known = []kmsg.ConfigResourceType{kmsg.ConfigResourceTypeGroupConfig, kmsg.ConfigResourceTypeClientMetrics,
			kmsg.ConfigResourceTypeBrokerLogger, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeTopic}
	}
	for _, t := range req.ResourceTypes {
		if !slices.Contains(known, kmsg.ConfigResourceType(t)) {
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			return protocol.Now(resp)
		}
	}
	im := b.image()
	for _, t := range known {
		if len(req.ResourceTypes) > 0 && !slices.Contains(req.ResourceTypes, int8(t)) {
			continue
		}
		for _, name := range configResources(im, t) {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = name, int8(t)
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	return protocol.Now(resp)
}

// configResources are the names of a type's resources.
func configResources(im *metadata.Image, t kmsg.ConfigResourceType) (names []string) {
	switch t {
	case kmsg.ConfigResourceTypeGroupConfig:
		return im.ConfiguredNames(metadata.ResourceGroup)
	case kmsg.ConfigResourceTypeClientMetrics:
		return im.ConfiguredNames(metadata.ResourceClientMetrics)
	case kmsg.ConfigResourceTypeTopic:
		for topic := range im.All() {
			names = append(names, topic.Name)
		}
	default:
		for _, broker := range im.Brokers() {
			if broker.Active() {
				names = append(names, itoa(broker.ID))
			}
		}
	}
	return names
}
