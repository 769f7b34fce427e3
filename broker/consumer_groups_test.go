package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/protocol"
)

// consumer is a member of a consumer group (KIP-848) that the tests move by hand.
type consumer struct {
	h      *harness
	cl     *kgo.Client
	id     string
	epoch  int32
	topics []string
	regex  *string
	has    map[[16]byte][]int32
}

// beat sends one heartbeat and takes what it is told. It gives up at once what it has to.
func (c *consumer) beat() *kmsg.ConsumerGroupHeartbeatResponse {
	c.h.t.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = "g", c.id, c.epoch
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if c.epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.SubscribedTopicRegex = 60_000, c.topics, c.regex
	}
	for topic, ps := range c.has {
		rt := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		rt.TopicID, rt.Partitions = topic, ps
		req.Topics = append(req.Topics, rt)
	}
	resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](c.h, c.cl, req)
	if resp.ErrorCode != 0 {
		return resp
	}
	c.epoch = resp.MemberEpoch
	if resp.Assignment != nil {
		c.has = map[[16]byte][]int32{}
		for _, t := range resp.Assignment.Topics {
			c.has[t.TopicID] = t.Partitions
		}
	}
	return resp
}

// names are the partitions that the member has.
func (c *consumer) names() string {
	var all []string
	for topic, ps := range c.has {
		name := "?"
		if t := c.h.b.image().TopicByID(topic); t != nil {
			name = t.Name
		}
		all = append(all, fmt.Sprint(name, ps))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (h *harness) consumer(cl *kgo.Client, id string, topics ...string) *consumer {
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"g"}
	ask[*kmsg.FindCoordinatorResponse](h, cl, find)
	return &consumer{h: h, cl: cl, id: id, topics: topics}
}

func (h *harness) createTopic(cl *kgo.Client, name string, partitions int32) {
	h.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), 10_000
	if r := ask[*kmsg.CreateTopicsResponse](h, cl, req); r.Topics[0].ErrorCode != 0 {
		h.t.Fatalf("create %s: error %d", name, r.Topics[0].ErrorCode)
	}
}

func (h *harness) describeConsumers(cl *kgo.Client) kmsg.ConsumerGroupDescribeResponseGroup {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{"g"}
	return ask[*kmsg.ConsumerGroupDescribeResponse](h, cl, req).Groups[0]
}

// A group hears of new topics, partitions and settings while it is in use, and is there after a restart.
func TestConsumerGroup(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer func() { cl.Close() }()
		h.createTopic(cl, "a", 2)
		one := h.consumer(cl, "one", "a")
		regex := "a|b.*"
		two := h.consumer(cl, "two")
		two.regex = &regex
		if r := one.beat(); r.ErrorCode != 0 || one.names() != "a[0 1]" || r.HeartbeatIntervalMillis != 5000 {
			t.Fatalf("the first member: %+v has %q", r, one.names())
		}
		two.beat()
		time.Sleep(2 * time.Second) // longer than the interval between two targets
		for range 3 {
			one.beat()
			two.beat()
		}
		if a, b := len(one.names()), len(two.names()); a == 0 || b == 0 {
			t.Errorf("they have %q and %q", one.names(), two.names())
		}
		h.createTopic(cl, "bb", 1)
		time.Sleep(11 * time.Second) // regular expressions are matched again after ten seconds
		for range 4 {
			one.beat()
			two.beat()
			time.Sleep(2 * time.Second)
		}
		if !strings.Contains(two.names(), "bb[0]") {
			t.Errorf("a new topic that its regular expression matches: it has %q", two.names())
		}
		g := h.describeConsumers(cl)
		if g.State != "Stable" || len(g.Members) != 2 || g.AssignorName != "uniform" {
			t.Errorf("described: %+v", g)
		}
		h.alterGroup(cl, "consumer.heartbeat.interval.ms", "7000")
		if r := one.beat(); r.HeartbeatIntervalMillis != 7000 {
			t.Errorf("the interval of heartbeats is %d ms after a change to 7000", r.HeartbeatIntervalMillis)
		}
		cl.Close()
		h.restart()
		cl = h.client()
		one.cl, two.cl = cl, cl
		if r := two.beat(); r.ErrorCode != 0 || r.MemberEpoch != g.Epoch {
			t.Errorf("after a restart, at epoch %d: %+v", g.Epoch, r)
		}
		time.Sleep(46 * time.Second)
		if r := one.beat(); r.ErrorCode != kerr.UnknownMemberID.Code {
			t.Errorf("after the session: error %d", r.ErrorCode)
		}
	})
}

func (h *harness) alterGroup(cl *kgo.Client, name, value string) {
	h.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = name, &value
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	if resp := ask[*kmsg.IncrementalAlterConfigsResponse](h, cl, req); resp.Resources[0].ErrorCode != 0 {
		h.t.Fatalf("%s=%s: error %d", name, value, resp.Resources[0].ErrorCode)
	}
}

// The protocol can be turned off, and then Kafka answers UNSUPPORTED_VERSION.
func TestConsumerProtocolOff(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		h.createTopic(cl, "a", 1)
		if r := h.consumer(cl, "one", "a").beat(); r.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("heartbeat: error %d", r.ErrorCode)
		}
		if g := h.describeConsumers(cl); g.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("describe: error %d", g.ErrorCode)
		}
	}, "group.coordinator.rebalance.protocols=classic")
}

// refuseTopic lets everything be done but describe one topic.
type refuseTopic string

func (r refuseTopic) Authorize(_ *protocol.Call, op Operation, t ResourceType, name string) bool {
	return op != OpDescribe || t != ResourceTopic || name != string(r)
}

// Who may not describe a topic cannot subscribe to it by name, does not get it by a regular expression, and does not
// see the members that have it.
func TestConsumerGroupAuthorization(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		h.createTopic(cl, "a", 1)
		h.createTopic(cl, "ab", 1)
		h.consumer(cl, "one", "ab").beat()
		h.b.authorizer = refuseTopic("ab")
		if r := h.consumer(cl, "two", "a", "ab").beat(); r.ErrorCode != kerr.TopicAuthorizationFailed.Code {
			t.Errorf("a subscription: error %d", r.ErrorCode)
		}
		if g := h.describeConsumers(cl); g.ErrorCode != kerr.TopicAuthorizationFailed.Code || len(g.Members) > 0 || g.ErrorMessage == nil {
			t.Errorf("described: %+v", g)
		}
		regex := "a.*"
		three := h.consumer(cl, "three")
		three.regex = &regex
		for range 4 {
			three.beat()
			time.Sleep(2 * time.Second)
		}
		if got := three.names(); got != "a[0]" {
			t.Errorf("its regular expression gave it %q", got)
		}
	})
}
