package broker

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// describeConfigs answers DescribeConfigs (32), versions 1-4; v1 brought
// synonyms, v3 types and documentation.
//
// Topics, this broker ("" is the cluster's default), groups and client metrics
// subscriptions; null or no keys mean all. ACL: DESCRIBE_CONFIGS on the topic
// (29), the group (30) or the cluster (31).
// A message is never null: "" where there is nothing to say. A type that
// cannot be described is INVALID_REQUEST with that code's own sentence.
// Left out: broker loggers (8). Their levels cannot be changed here; asking for
// them is INVALID_REQUEST.
func (b *Broker) describeConfigs(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DescribeConfigsRequest)
	resp := kmsg.NewPtrDescribeConfigsResponse()
	resp.Version = c.Version
	for _, r := range req.Resources {
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		rr.Configs = []kmsg.DescribeConfigsResponseResourceConfig{}
		entries, refusal := b.configEntries(c, r)
		rr.ErrorCode, rr.ErrorMessage = refusal.Code, ptr(text(refusal.Message))
		for _, e := range entries {
			rr.Configs = append(rr.Configs, configEntry(e, req))
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return protocol.Now(resp)
}

func refusal(code *kerr.Error, message string) metadata.Failure {
	f := metadata.Failure{Code: code.Code}
	if message != "" {
		f.Message = &message
	}
	return f
}

// configEntries finds what a resource's settings are, or why they are not told.
func (b *Broker) configEntries(c *protocol.Call, r kmsg.DescribeConfigsRequestResource) ([]config.Entry, metadata.Failure) {
	conf, im, name := b.conf.Load(), b.image(), r.ResourceName
	switch r.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if !b.mayTopic(c, OpDescribeConfigs, name) {
			return nil, refusal(kerr.TopicAuthorizationFailed, "Topic authorization failed.")
		}
		if why := metadata.InvalidTopicName(name); why != "" {
			return nil, refusal(kerr.InvalidTopicException, why)
		}
		t := im.Topic(name)
		if t == nil {
			return nil, refusal(kerr.UnknownTopicOrPartition, "")
		}
		return conf.DescribeTopic(t.Configs, r.ConfigNames), metadata.Failure{}
	case kmsg.ConfigResourceTypeGroupConfig:
		if !b.mayGroup(c, OpDescribeConfigs, name) {
			return nil, refusal(kerr.GroupAuthorizationFailed, "Group authorization failed.")
		}
		if name == "" {
			return nil, refusal(kerr.InvalidRequest, "Group name must not be empty")
		}
		return conf.DescribeGroup(im.Configs(metadata.Resource{Type: metadata.ResourceGroup, Name: name}), r.ConfigNames), metadata.Failure{}
	}
	if !b.mayCluster(c, OpDescribeConfigs) {
		return nil, refusal(kerr.ClusterAuthorizationFailed, "Cluster authorization failed.")
	}
	switch r.ResourceType {
	case kmsg.ConfigResourceTypeBroker:
		return b.brokerEntries(conf, name, r.ConfigNames)
	case kmsg.ConfigResourceTypeClientMetrics:
		if name == "" {
			return nil, refusal(kerr.InvalidRequest, "Client metrics subscription name must not be empty")
		}
		return conf.DescribeClientMetrics(im.Configs(metadata.Resource{Type: metadata.ResourceClientMetrics, Name: name}), r.ConfigNames), metadata.Failure{}
	}
	return nil, refusal(kerr.InvalidRequest, kerr.InvalidRequest.Description)
}

func (b *Broker) brokerEntries(conf *config.Config, name string, keys []string) ([]config.Entry, metadata.Failure) {
	if name == "" {
		return conf.DescribeBrokerDefault(keys), metadata.Failure{}
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return nil, refusal(kerr.InvalidRequest, "Broker id must be an integer, but it is: "+name)
	}
	if int32(id) != b.nodeID {
		return nil, refusal(kerr.InvalidRequest, "Unexpected broker id, expected "+itoa(b.nodeID)+" or empty string, but received "+name)
	}
	return conf.DescribeBroker(keys), metadata.Failure{}
}

// configEntry writes one setting as the request wants it.
func configEntry(e config.Entry, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.Value, out.ReadOnly, out.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	out.Source, out.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type)
	out.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{}
	if req.IncludeSynonyms {
		for _, s := range e.Synonyms {
			y := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			y.Name, y.Value, y.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
			out.ConfigSynonyms = append(out.ConfigSynonyms, y)
		}
	}
	if req.IncludeDocumentation {
		out.Documentation = &e.Documentation
	}
	return out
}
