package group

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// classicType is the type of these groups in ListGroups.
const classicType = "classic"

// describeNotFoundSince is the version of DescribeGroups that has an error for a
// group that does not exist; before it such a group is Dead (KIP-1043).
const describeNotFoundSince = 6

// list handles a ListGroups request. Groups of other types are listed too.
func (t *turn) list(e List) []kmsg.ListGroupsResponseGroup {
	groups := []kmsg.ListGroupsResponseGroup{}
	for _, id := range slices.Sorted(maps.Keys(t.foreign)) {
		g := t.foreign[id].listed(id)
		if passes(e.Types, g.GroupType) && passes(e.States, g.GroupState) {
			groups = append(groups, g)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.consumers)) {
		g := t.consumers[id].listed()
		if passes(e.Types, g.GroupType) && passes(e.States, g.GroupState) {
			groups = append(groups, g)
		}
	}
	if !passes(e.Types, classicType) {
		return groups
	}
	for _, id := range slices.Sorted(maps.Keys(t.groups)) {
		g := t.groups[id]
		if !passes(e.States, g.state.String()) {
			continue
		}
		lg := kmsg.NewListGroupsResponseGroup()
		lg.Group, lg.ProtocolType, lg.GroupState, lg.GroupType = id, g.protocolType, g.state.String(), classicType
		groups = append(groups, lg)
	}
	return groups
}

// passes reports whether a filter lets a name through, whatever its case.
func passes(filter []string, name string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool {
		return strings.EqualFold(strings.TrimSpace(f), name)
	})
}

// describe handles a DescribeGroups request for one group. What members told about
// themselves is shown in a Stable group only, where it is known for which protocol.
func (t *turn) describe(e Describe) kmsg.DescribeGroupsResponseGroup {
	r := kmsg.NewDescribeGroupsResponseGroup()
	r.Group = e.Group
	g := t.groups[e.Group]
	if g == nil {
		r.State = "Dead"
		if e.Version >= describeNotFoundSince {
			message := t.notFoundMessage(e.Group)
			r.ErrorCode, r.ErrorMessage = kerr.GroupIDNotFound.Code, &message
		}
		return r
	}
	r.State, r.ProtocolType = g.state.String(), g.protocolType
	if g.state == stable {
		r.Protocol = deref(g.protocol)
	}
	for _, m := range g.members {
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.id, m.instanceID, m.clientID, m.clientHost
		rm.MemberAssignment = m.assignment
		if g.state == stable {
			rm.ProtocolMetadata = m.metadata(g.protocol)
		}
		r.Members = append(r.Members, rm)
	}
	return r
}

// count sums up the shard for metrics.
func (t *turn) count() Counts {
	c := Counts{Groups: len(t.groups), Skipped: t.skipped}
	for _, g := range t.groups {
		switch g.state {
		case empty:
			c.Empty++
		case preparingRebalance:
			c.PreparingRebalance++
		case completingRebalance:
			c.CompletingRebalance++
		case stable:
			c.Stable++
		}
	}
	for _, g := range t.consumers {
		c.Consumer++
		switch g.state() {
		case consumerEmpty:
			c.ConsumerEmpty++
		case consumerAssigning:
			c.ConsumerAssigning++
		case consumerReconciling:
			c.ConsumerReconciling++
		case consumerStable:
			c.ConsumerStable++
		}
	}
	for _, offsets := range t.offsets {
		c.Offsets += len(offsets)
	}
	return c
}
