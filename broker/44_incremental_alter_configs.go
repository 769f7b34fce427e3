package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// incrementalAlterConfigs answers IncrementalAlterConfigs (44), versions 0-1 (KIP-339): it
// changes single settings of topics, of this broker ("" is the cluster's default),
// of groups and of client metrics subscriptions. A resource changes as a whole or not at all.
//
// The answer comes when the change is durable and in force for topics and this
// broker. A resource named twice is INVALID_REQUEST, both times.
// ACL: ALTER_CONFIGS on the topic (29), the group (30) or the cluster (31).
// Left out: broker loggers (8), as in DescribeConfigs.
func (b *Broker) incrementalAlterConfigs(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.IncrementalAlterConfigsRequest)
	var changes []resourceAsked
	for _, r := range req.Resources {
		var settings []metadata.ConfigChange
		for _, s := range r.Configs {
			settings = append(settings, metadata.ConfigChange{Name: s.Name, Op: metadata.ConfigOp(s.Op), Value: s.Value})
		}
		changes = append(changes, askResource(r.ResourceType, r.ResourceName, settings))
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
		resp.Version = c.Version
		for i, f := range b.changeConfigs(ctx, c, changes, req.ValidateOnly) {
			rr := kmsg.NewIncrementalAlterConfigsResponseResource()
			rr.ResourceType, rr.ResourceName = changes[i].kind, changes[i].name
			rr.ErrorCode, rr.ErrorMessage = f.Code, f.Message
			resp.Resources = append(resp.Resources, rr)
		}
		return resp
	})
}

// resourceAsked is one resource of a request.
type resourceAsked struct {
	kind    kmsg.ConfigResourceType
	name    string
	replace bool
	changes []metadata.ConfigChange
	refusal metadata.Failure // what is wrong with the request itself
}

// askResource takes in what is asked of one resource, with what is wrong with it as a request.
func askResource(kind kmsg.ConfigResourceType, name string, changes []metadata.ConfigChange) resourceAsked {
	a := resourceAsked{kind: kind, name: name, changes: changes}
	var bad, null []string
	seen, twice := map[string]bool{}, false
	for i := range changes {
		s := &changes[i]
		twice = twice || seen[s.Name]
		seen[s.Name] = true
		switch {
		case s.Op < metadata.ConfigSet || s.Op > metadata.ConfigSubtract:
			bad = append(bad, s.Name)
		case s.Op == metadata.ConfigDelete:
			s.Value = nil
		case s.Value == nil:
			null = append(null, s.Name)
		}
	}
	switch {
	case twice:
		a.refusal = refusal(kerr.InvalidRequest, "Error due to duplicate config keys")
	case len(null) > 0:
		a.refusal = refusal(kerr.InvalidRequest, "Null value not supported for : "+strings.Join(null, ", "))
	case len(bad) > 0:
		a.refusal = refusal(kerr.InvalidRequest, "Unknown operations for : "+strings.Join(bad, ", "))
	}
	return a
}

// changeConfigs carries out what may be, and returns a result for each resource.
func (b *Broker) changeConfigs(ctx context.Context, c *protocol.Call, asked []resourceAsked, validateOnly bool) []metadata.Failure {
	results := make([]metadata.Failure, len(asked))
	e := metadata.AlterConfigs{ValidateOnly: validateOnly}
	type key struct {
		kind kmsg.ConfigResourceType
		name string
	}
	times := map[key]int{}
	for _, a := range asked {
		times[key{a.kind, a.name}]++
	}
	var places []int
	for i := range asked {
		a := &asked[i]
		switch {
		case times[key{a.kind, a.name}] > 1:
			results[i] = refusal(kerr.InvalidRequest, "Each resource must appear at most once.")
		case a.refusal.Code != 0:
			results[i] = a.refusal
		default:
			if results[i] = b.mayAlter(c, a); results[i].Code == 0 {
				places = append(places, i)
				e.Resources = append(e.Resources, metadata.ResourceChange{
					Resource: metadata.Resource{Type: metadata.ResourceType(a.kind), Name: a.name}, Replace: a.replace, Changes: a.changes,
				})
			}
		}
	}
	if len(e.Resources) == 0 {
		return results
	}
	reply, err := b.askMetadata(ctx, e)
	for n, i := range places {
		if err != nil {
			results[i] = metadata.Failure{Code: codeOf(err)}
			continue
		}
		results[i] = reply.(metadata.ConfigsAltered).Results[n]
	}
	return results
}

// mayAlter says why a resource is not altered whatever is asked of it.
func (b *Broker) mayAlter(c *protocol.Call, a *resourceAsked) metadata.Failure {
	switch a.kind {
	case kmsg.ConfigResourceTypeTopic:
		if !b.mayTopic(c, OpAlterConfigs, a.name) {
			return refusal(kerr.TopicAuthorizationFailed, "Topic authorization failed.")
		}
		return metadata.Failure{}
	case kmsg.ConfigResourceTypeGroupConfig:
		if !b.mayGroup(c, OpAlterConfigs, a.name) {
			return refusal(kerr.GroupAuthorizationFailed, "Group authorization failed.")
		}
		return metadata.Failure{}
	}
	if !b.mayCluster(c, OpAlterConfigs) {
		return refusal(kerr.ClusterAuthorizationFailed, "Cluster authorization failed.")
	}
	switch a.kind {
	case kmsg.ConfigResourceTypeClientMetrics:
		return metadata.Failure{}
	case kmsg.ConfigResourceTypeBroker:
		if a.name == "" {
			return metadata.Failure{}
		}
		id, err := strconv.ParseInt(a.name, 10, 32)
		if err != nil {
			return refusal(kerr.InvalidRequest, "Node id must be an integer, but it is: "+a.name)
		}
		if int32(id) != b.nodeID {
			return refusal(kerr.InvalidRequest, "Unexpected broker id, expected "+itoa(b.nodeID)+", but received "+a.name)
		}
		return metadata.Failure{}
	}
	return refusal(kerr.InvalidRequest, "Unknown resource type "+itoa(int(a.kind)))
}

// configRules hands the shard what config knows.
func (b *Broker) configRules() metadata.ConfigRules {
	return metadata.ConfigRules{
		Validate: b.validateConfigs,
		List: func(r metadata.Resource, name string) (value string, isList bool) {
			scope, ok := scopeOf(r.Type)
			if !ok {
				return "", false
			}
			s, known := config.Lookup(scope, name)
			return s.Default, known && s.Type == config.List
		},
	}
}

func scopeOf(t metadata.ResourceType) (config.Scope, bool) {
	switch t {
	case metadata.ResourceTopic:
		return config.Topic, true
	case metadata.ResourceBroker:
		return config.Broker, true
	case metadata.ResourceGroup:
		return config.Group, true
	case metadata.ResourceClientMetrics:
		return config.ClientMetrics, true
	}
	return 0, false
}

func (b *Broker) validateConfigs(r metadata.Resource, configs map[string]string) metadata.Failure {
	var err error
	switch r.Type {
	case metadata.ResourceTopic:
		if why := metadata.InvalidTopicName(r.Name); why != "" {
			return refusal(kerr.InvalidTopicException, why)
		}
		err = b.static.ValidateTopic(configs)
	case metadata.ResourceGroup:
		if r.Name == "" {
			return refusal(kerr.InvalidRequest, "Default group resources are not allowed.")
		}
		err = b.static.ValidateGroup(configs)
	case metadata.ResourceClientMetrics:
		if r.Name == "" {
			return refusal(kerr.InvalidRequest, "Subscription name can't be empty")
		}
		err = b.static.ValidateClientMetrics(configs)
	case metadata.ResourceBroker:
		if err = b.static.ValidateBroker(configs, r.Name == ""); err != nil {
			return refusal(kerr.InvalidRequest, err.Error()) // KAFKA-13609: it would rather be INVALID_CONFIG
		}
	}
	if request := (*config.RequestError)(nil); errors.As(err, &request) {
		return refusal(kerr.InvalidRequest, request.Message)
	}
	if err != nil {
		return refusal(kerr.InvalidConfig, err.Error())
	}
	return metadata.Failure{}
}
