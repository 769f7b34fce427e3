package group

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
	"github.com/rotpeter/rotpeter/metadata"
)

// cluster is a Cluster of topics made by scripts.
type cluster struct {
	byName   map[string]*metadata.Topic
	made     int // topics so far: the next id
	version  int64
	settings GroupSettings
}

func newCluster() *cluster {
	c := &cluster{byName: map[string]*metadata.Topic{}, version: 100, settings: DefaultGroupSettings()}
	c.settings.AssignmentInterval = 0
	return c
}

func (c *cluster) Topic(name string) *metadata.Topic { return c.byName[name] }

func (c *cluster) TopicByID(id [16]byte) *metadata.Topic {
	for _, t := range c.byName {
		if t.ID == id {
			return t
		}
	}
	return nil
}

func (c *cluster) Racks(*metadata.Partition) []string { return nil }
func (c *cluster) GroupSettings(string) GroupSettings { return c.settings }
func (c *cluster) Version() int64                     { return c.version }

// with is the cluster after a change.
func (c *cluster) with(change func(*cluster)) *cluster {
	n := *c
	n.byName = maps.Clone(c.byName)
	n.version++
	change(&n)
	return &n
}

// topics sets topics, each as name:partitions; with 0 partitions it is deleted, with a ! after the number it is made
// anew.
func (w *world) topics(specs ...string) {
	var changed []string
	created := false
	w.changed(w.cluster.with(func(c *cluster) {
		for _, spec := range specs {
			name, number, _ := strings.Cut(spec, ":")
			number, anew := strings.CutSuffix(number, "!")
			n, err := strconv.Atoi(number)
			if err != nil {
				w.t.Fatal(err)
			}
			changed = append(changed, name)
			old := c.byName[name]
			if delete(c.byName, name); n == 0 {
				continue
			}
			t := &metadata.Topic{Name: name, Partitions: make([]metadata.Partition, n)}
			if old != nil && !anew {
				t.ID = old.ID
			} else {
				c.made++
				t.ID, created = [16]byte{0: byte(c.made), 15: 1}, true
			}
			c.byName[name] = t
		}
	}), changed, created)
}

// changed tells the shard of a change.
func (w *world) changed(c *cluster, topics []string, created bool) {
	w.cluster = c
	w.take(w.shard.Handle(w.now, coordinator.Event{Body: MetadataChanged{Cluster: c, Changed: topics, Created: created}}))
}

// resolve does the errands that wait.
func (w *world) resolve() {
	all := w.errands
	w.errands = nil
	for _, e := range all {
		names := slices.Sorted(maps.Keys(w.cluster.byName))
		w.take(w.shard.Handle(w.now, coordinator.Event{Body: RegexesResolved{
			Group: e.Group, Matched: MatchRegexes(e.Regexes, names), Version: w.cluster.version, Asked: w.now,
		}}))
	}
}

// readBeat makes a heartbeat; what is not given is null.
func readBeat(a args) ConsumerHeartbeat {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Group, r.MemberID, r.MemberEpoch = a.str("group", "g"), a.str("member", ""), int32(a.int("epoch", 0))
	r.InstanceID, r.RackID, r.ServerAssignor, r.SubscribedTopicRegex = a.ptr("instance"), a.ptr("rack"), a.ptr("assignor"), a.ptr("regex")
	r.SubscribedTopicNames = a.list("topics")
	if r.RebalanceTimeoutMillis = -1; r.MemberEpoch == joinEpoch || a["rebalance"] != "" {
		r.RebalanceTimeoutMillis = a.millis("rebalance", time.Minute)
	}
	if owns, ok := a["owns"]; ok || r.MemberEpoch == joinEpoch {
		r.Topics = readOwns(owns)
	}
	return ConsumerHeartbeat{Req: r, Version: a.version(1), ClientID: a.str("client", "c"), ClientHost: "/127.0.0.1"}
}

// readOwns reads 1:0+1,2:0, topics by the first byte of their ids.
func readOwns(s string) []kmsg.ConsumerGroupHeartbeatRequestTopic {
	all := []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for f := range strings.SplitSeq(s, ",") {
		topic, partitions, ok := strings.Cut(f, ":")
		if !ok {
			continue
		}
		rt := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		n, _ := strconv.Atoi(topic)
		rt.TopicID = [16]byte{0: byte(n), 15: 1}
		for p := range strings.SplitSeq(partitions, "+") {
			n, _ := strconv.Atoi(p)
			rt.Partitions = append(rt.Partitions, int32(n))
		}
		all = append(all, rt)
	}
	return all
}

// showPartitions is what readOwns reads.
func showPartitions(topic [16]byte, ps []int32) string {
	return fmt.Sprintf("%d:%s", topic[0], strings.ReplaceAll(strings.Trim(fmt.Sprint(ps), "[]"), " ", "+"))
}

func showTarget(p partitions) string {
	var all []string
	for _, topic := range sortedTopics(p) {
		all = append(all, showPartitions(topic, p[topic]))
	}
	return strings.Join(all, ",")
}

// showOwned has the epochs too, where they are not all that of the member.
func showOwned(o owned, epoch int32) string {
	var all []string
	for _, topic := range sortedTopics(o) {
		var ps []int32
		var epochs string
		for _, p := range o[topic] {
			ps = append(ps, p.partition)
			if p.epoch != epoch {
				epochs += fmt.Sprintf("@%d/%d", p.partition, p.epoch)
			}
		}
		all = append(all, showPartitions(topic, ps)+epochs)
	}
	return strings.Join(all, ",")
}

func showConsumerRecord(r coordinator.Record) string {
	kind, group, part, _ := readConsumerKey(r.Key)
	name := map[int16]string{
		consumerGroupKey: "consumer-group", consumerPartitionKey: "partition-metadata", consumerMemberKey: "member", consumerTargetKey: "target-epoch",
		consumerMemberTarget: "target", consumerCurrentKey: "current", consumerRegexKey: "regex",
	}[kind]
	words := []string{name, group, part}
	if r.Value == nil {
		return show(append(words, "gone")...)
	}
	m := newConsumerMember(part)
	switch kind {
	case consumerGroupKey:
		epoch, _, _ := readEpoch(r.Value)
		words = append(words, fmt.Sprintf("epoch=%d", epoch))
	case consumerTargetKey:
		epoch, at, _ := readEpoch(r.Value)
		if words = append(words, fmt.Sprintf("epoch=%d", epoch)); at == 0 {
			words = append(words, "at no time")
		}
	case consumerMemberKey:
		readMember(r.Value, m)
		words = append(words, showMember(m))
	case consumerMemberTarget:
		p, _ := readTarget(r.Value)
		words = append(words, "=", showTarget(p))
	case consumerCurrentKey:
		readCurrent(r.Value, m)
		words = append(words, showCurrent(m))
	case consumerRegexKey:
		x, _ := readRegex(r.Value)
		words = append(words, "=", strings.Join(x.topics, ","), fmt.Sprintf("version=%d", x.version))
	}
	return show(words...)
}

func showMember(m *consumerMember) string {
	words := []string{
		opt("instance", m.instanceID), opt("rack", m.rackID), m.clientID + m.clientHost, fmt.Sprintf("rebalance=%d", m.rebalanceMillis),
		"topics=" + strings.Join(m.topics, ","), showRegex(m.regex), opt("assignor", m.assignor),
	}
	if m.classic != nil {
		words = append(words, fmt.Sprintf("session=%d", m.classic.sessionMillis))
		for _, p := range m.classic.protocols {
			words = append(words, p.name+":"+text(p.metadata))
		}
	}
	return show(words...)
}

// showRegex shows nothing where there is none: then it is empty, and null only in records of others.
func showRegex(regex *string) string {
	switch {
	case regex == nil:
		return "regex-null"
	case *regex == "":
		return ""
	}
	return "regex=" + *regex
}

func showCurrent(m *consumerMember) string {
	state := map[memberState]string{memberStable: "stable", memberUnrevoked: "unrevoked", memberUnreleased: "unreleased"}[m.state]
	words := []string{fmt.Sprintf("epoch=%d previous=%d", m.epoch, m.previousEpoch), state, "has=" + showOwned(m.assigned, m.epoch)}
	if len(m.revoking) > 0 {
		words = append(words, "revoking="+showOwned(m.revoking, m.epoch))
	}
	return show(words...)
}

func showBeat(r *kmsg.ConsumerGroupHeartbeatResponse) string {
	words := []string{"Beat", showError(r.ErrorCode), opt("message", r.ErrorMessage)}
	if r.MemberID != nil {
		words = append(words, fmt.Sprintf("member=%s epoch=%d", *r.MemberID, r.MemberEpoch))
	}
	if r.Assignment != nil {
		p := partitions{}
		for _, t := range r.Assignment.Topics {
			p[t.TopicID] = t.Partitions
		}
		words = append(words, "assignment="+showTarget(p))
	}
	return show(words...)
}

func showConsumerGroup(r kmsg.ConsumerGroupDescribeResponseGroup) string {
	words := []string{"ConsumerDescribe", r.Group, showError(r.ErrorCode), opt("message", r.ErrorMessage)}
	if r.ErrorCode == 0 {
		words = append(words, r.State, fmt.Sprintf("epoch=%d target=%d", r.Epoch, r.AssignmentEpoch), r.AssignorName)
	}
	named := func(a kmsg.Assignment) string {
		var all []string
		for _, t := range a.TopicPartitions {
			all = append(all, t.Topic+"/"+showPartitions(t.TopicID, t.Partitions))
		}
		return strings.Join(all, ",")
	}
	for _, m := range r.Members {
		words = append(words, show("["+m.MemberID, opt("instance", m.InstanceID), opt("rack", m.RackID), fmt.Sprintf("epoch=%d", m.MemberEpoch), m.ClientID+m.ClientHost,
			"topics="+strings.Join(m.SubscribedTopics, ","), showRegex(m.SubscribedTopicRegex), "has="+named(m.Assignment), "target="+named(m.TargetAssignment),
			fmt.Sprintf("type=%d]", m.MemberType)))
	}
	return show(words...)
}

// dump writes down what records have made of a group, and what is derived of that.
func (g *consumerGroup) dump() []string {
	lines := []string{fmt.Sprintf("consumer %s epoch=%d hash=%d target=%d at=%d old=%t", g.id, g.epoch, g.hash, g.targetEpoch, g.targetAt, g.oldMetadata)}
	add := func(format string, args ...any) {
		lines = append(lines, "consumer "+g.id+" "+fmt.Sprintf(format, args...))
	}
	for id, m := range g.members {
		add("member %s %s %s", id, showMember(m), showCurrent(m))
	}
	for id, p := range g.target {
		add("target %s %s", id, showTarget(p))
	}
	for regex, x := range g.resolved {
		add("regex %s %+v", regex, *x)
	}
	add("derived %v %v %v %v %d %v %v", g.static, g.topics, g.regexes, g.assignors, g.classicMembers, g.classicProtocols, g.held)
	return lines
}

// checkConsumerGroup checks what must hold of a group after every event: what is derived agrees with what it is derived
// from, a partition has one owner at most, and every member has a session.
func (w *world) checkConsumerGroup(g *consumerGroup) error {
	again := newConsumerGroup(g.id)
	owner := map[assignor.Topic]map[int32]string{}
	for _, id := range g.ids() {
		m := g.members[id]
		again.put(m)
		for _, o := range []owned{m.assigned, m.revoking} {
			for topic, ps := range o {
				if owner[topic] == nil {
					owner[topic] = map[int32]string{}
				}
				for _, p := range ps {
					if other, taken := owner[topic][p.partition]; taken {
						return fmt.Errorf("partition %d of %d is of %s and of %s", p.partition, topic[0], other, id)
					}
					owner[topic][p.partition] = id
				}
			}
		}
		switch {
		case w.shard.named[timerKey{consumerSessionTimer, g.id, id}] == nil:
			return fmt.Errorf("member %s has no session", id)
		case m.epoch > g.targetEpoch || g.targetEpoch > g.epoch:
			return fmt.Errorf("member %s is at epoch %d, the target at %d, the group at %d", id, m.epoch, g.targetEpoch, g.epoch)
		case m.classic == nil && m.state == memberUnrevoked && w.shard.named[timerKey{consumerRebalanceTimer, g.id, id}] == nil && m.epoch != leaveStaticEpoch:
			return fmt.Errorf("member %s must give partitions up and has all the time in the world", id)
		}
	}
	for regex, x := range g.resolved {
		again.resolve(regex, x)
	}
	if !g.sameDerived(again) {
		return fmt.Errorf("what is derived differs:\n%s\n%s", g.derived(), again.derived())
	}
	for id := range g.target {
		if g.members[id] == nil {
			return fmt.Errorf("%s has a target and is no member", id)
		}
	}
	for regex := range g.resolved {
		if g.regexes[regex] == 0 {
			return fmt.Errorf("regular expression %s is known and nobody has it", regex)
		}
	}
	// A regular expression that is not matched yet brings another epoch and another hash when it is.
	if g.fresh && g.epoch >= g.freshFor && len(g.resolved) == len(g.regexes) {
		t := turn{Shard: w.shard, now: w.now}
		if hash := t.hashTopics(g.topics); hash != g.hash {
			return fmt.Errorf("the hash of the topics is %d, the group has %d and looks no more", hash, g.hash)
		}
	}
	if w.shard.groups[g.id] != nil {
		return errors.New("there is a classic group of the same id")
	}
	return nil
}

func (g *consumerGroup) sameDerived(h *consumerGroup) bool {
	return maps.Equal(g.static, h.static) && maps.Equal(g.topics, h.topics) && maps.Equal(g.regexes, h.regexes) && maps.Equal(g.assignors, h.assignors) &&
		g.classicMembers == h.classicMembers && maps.Equal(g.classicProtocols, h.classicProtocols) &&
		maps.EqualFunc(g.held, h.held, func(a, b map[int32]int32) bool { return maps.Equal(a, b) })
}

func (g *consumerGroup) derived() string {
	return fmt.Sprint(g.static, g.topics, g.regexes, g.assignors, g.classicMembers, g.classicProtocols, g.held)
}
