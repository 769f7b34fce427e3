package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// listed is the group in ListGroups.
func (g *consumerGroup) listed() kmsg.ListGroupsResponseGroup {
	lg := kmsg.NewListGroupsResponseGroup()
	lg.Group, lg.ProtocolType, lg.GroupState, lg.GroupType = g.id, consumerProtocol, g.state().String(), string(consumerKind)
	return lg
}

// consumerDescribe handles a ConsumerGroupDescribe request for one group (ConsumerGroup.asDescribedGroup).
func (t *turn) consumerDescribe(e ConsumerDescribe) kmsg.ConsumerGroupDescribeResponseGroup {
	r := kmsg.NewConsumerGroupDescribeResponseGroup()
	r.Group = e.Group
	g := t.consumers[e.Group]
	if g == nil {
		no := refuse(kerr.GroupIDNotFound, "Group %s not found.", e.Group)
		if t.exists(e.Group) {
			no = refuse(kerr.GroupIDNotFound, "Group %s is not a consumer group.", e.Group)
		}
		r.ErrorCode, r.ErrorMessage = no.err.Code, &no.message
		return r
	}
	r.State, r.Epoch, r.AssignmentEpoch = g.state().String(), g.epoch, g.targetEpoch
	r.AssignorName = preferred(g.assignors, g.assignors, t.o.Assignors[0].Name())
	for _, id := range g.ids() {
		r.Members = append(r.Members, t.describeMember(g, g.members[id]))
	}
	return r
}

// The types of members in ConsumerGroupDescribe (KIP-1099).
const (
	classicMemberType  = 0
	consumerMemberType = 1
)

func (t *turn) describeMember(g *consumerGroup, m *consumerMember) kmsg.ConsumerGroupDescribeResponseGroupMember {
	r := kmsg.NewConsumerGroupDescribeResponseGroupMember()
	r.MemberID, r.InstanceID, r.RackID, r.MemberEpoch = m.id, m.instanceID, m.rackID, m.epoch
	r.ClientID, r.ClientHost, r.SubscribedTopics, r.SubscribedTopicRegex = m.clientID, m.clientHost, m.topics, m.regex
	has := partitions{}
	for _, o := range []owned{m.assigned, m.revoking} {
		for topic, ps := range o {
			for _, p := range ps {
				has[topic] = append(has[topic], p.partition)
			}
		}
	}
	r.Assignment = t.describeAssignment(has)
	r.TargetAssignment = t.describeAssignment(g.target[m.id])
	if r.MemberType = consumerMemberType; m.classic != nil {
		r.MemberType = classicMemberType
	}
	return r
}

// describeAssignment names the partitions of those topics that exist.
func (t *turn) describeAssignment(p partitions) kmsg.Assignment {
	a := kmsg.NewAssignment()
	for _, topic := range sortedTopics(p) {
		if known := t.cluster.TopicByID(topic); known != nil {
			tp := kmsg.NewAssignmentTopicPartition()
			tp.TopicID, tp.Topic, tp.Partitions = topic, known.Name, p[topic]
			a.TopicPartitions = append(a.TopicPartitions, tp)
		}
	}
	return a
}
