package raw

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Group is members of one consumer group, each with a connection of its own.
type Group struct {
	Addr       string
	Name       string
	Topic      string
	Partitions int // of the topic, at least as many as there are members
	members    []*member
	round      byte
}

type member struct {
	g          *Group
	c          *Conn
	id         string
	generation int32 // or member epoch
	owned      []int32
	topicID    [16]byte
}

// Connect adds members that are only connected, and have found their coordinator.
func (g *Group) Connect(ctx context.Context, members int) error {
	for range members {
		c, err := Dial(ctx, g.Addr)
		if err != nil {
			return err
		}
		g.members = append(g.members, &member{g: g, c: c})
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKey = 2, g.Name
	return until(g.members[0].c, func(c *Conn) (int16, error) {
		resp, err := c.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.(*kmsg.FindCoordinatorResponse).ErrorCode, nil
	})
}

// until asks again while the group's coordinator is not there yet.
func until(c *Conn, ask func(*Conn) (int16, error)) error {
	deadline := time.Now().Add(answerWithin)
	for {
		code, err := ask(c)
		switch e := kerr.ErrorForCode(code); {
		case err != nil || e == nil:
			return err
		case !kerr.IsRetriable(e) || time.Now().After(deadline):
			return e
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Close hangs up.
func (g *Group) Close() {
	for _, m := range g.members {
		_ = m.c.Close() // the group is left behind
	}
}

// all runs a step of all members side by side, and answers how long the last of them took.
func (g *Group) all(step func(m *member) error) (time.Duration, error) {
	errs := make([]error, len(g.members))
	var wg sync.WaitGroup
	began := time.Now()
	for i, m := range g.members {
		wg.Go(func() { errs[i] = step(m) })
	}
	wg.Wait()
	return time.Since(began), errors.Join(errs...)
}

// Classic has all members join by the classic protocol, with a subscription that is new to the group, and answers the time from the first JoinGroup to
// the last member's assignment. The first time it includes group.initial.rebalance.delay.ms; from then on the group
// waits for nothing but its members.
func (g *Group) Classic() (time.Duration, error) {
	g.round++
	took, err := g.all((*member).join)
	if err != nil {
		return 0, err
	}
	return took, g.complete()
}

// join is a member's way to its assignment: JoinGroup and SyncGroup, again where the group has moved on meanwhile.
func (m *member) join() error {
	for {
		again, err := m.joinOnce()
		if err != nil || !again {
			return err
		}
	}
}

func (m *member) joinOnce() (again bool, err error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = 5, m.g.Name, m.id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 45_000, 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", m.subscription()
	req.Protocols = append(req.Protocols, p)
	got, err := m.c.Do(req)
	if err != nil {
		return false, err
	}
	joined := got.(*kmsg.JoinGroupResponse)
	if m.id = joined.MemberID; joined.ErrorCode != 0 {
		return m.tryAgain("join", joined.ErrorCode)
	}
	m.generation = joined.Generation
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, m.g.Name, m.id, m.generation
	if joined.LeaderID == m.id {
		for i, other := range joined.Members {
			a := kmsg.NewSyncGroupRequestGroupAssignment()
			a.MemberID, a.MemberAssignment = other.MemberID, m.g.share(i, len(joined.Members))
			sync.GroupAssignment = append(sync.GroupAssignment, a)
		}
	}
	got, err = m.c.Do(sync)
	if err != nil {
		return false, err
	}
	synced := got.(*kmsg.SyncGroupResponse)
	if synced.ErrorCode != 0 {
		return m.tryAgain("sync", synced.ErrorCode)
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(synced.MemberAssignment); err != nil {
		return false, fmt.Errorf("assignment: %w", err)
	}
	m.owned = nil
	for i := range a.Topics {
		m.owned = append(m.owned, a.Topics[i].Partitions...)
	}
	return false, nil
}

func (m *member) tryAgain(what string, code int16) (bool, error) {
	switch e := kerr.ErrorForCode(code); e {
	case kerr.MemberIDRequired, kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator:
		return true, nil
	default:
		return false, fmt.Errorf("%s group: %w", what, e)
	}
}

// subscription is the member's metadata. Its user data differs each round, so that a rebalance begins.
func (m *member) subscription() []byte {
	s := kmsg.NewConsumerMemberMetadata()
	s.Topics, s.UserData = []string{m.g.Topic}, []byte{m.g.round}
	return s.AppendTo(nil)
}

// share is the assignment of the i-th of n members.
func (g *Group) share(i, n int) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	t := kmsg.NewConsumerMemberAssignmentTopic()
	t.Topic = g.Topic
	for p := i; p < g.Partitions; p += n {
		t.Partitions = append(t.Partitions, int32(p))
	}
	a.Topics = append(a.Topics, t)
	return a.AppendTo(nil)
}

// complete holds the members' partitions against the topic's.
func (g *Group) complete() error {
	var all []int32
	for _, m := range g.members {
		all = append(all, m.owned...)
	}
	slices.Sort(all)
	if !slices.Equal(all, first(g.Partitions)) {
		return fmt.Errorf("the members have %d partitions of %d", len(all), g.Partitions)
	}
	return nil
}

// beatEvery is the pause between two heartbeats of a member that has no assignment yet. Clients wait five seconds unless
// they have something to say, so that what a broker needs would not be seen.
const beatEvery = 2 * time.Millisecond

// Consumer has all members join an empty group by the newer protocol (KIP-848), and answers the time from the first
// heartbeat until each member has its part and has confirmed it.
func (g *Group) Consumer() (time.Duration, error) {
	most, least := (g.Partitions+len(g.members)-1)/len(g.members), g.Partitions/len(g.members)
	for i, m := range g.members {
		m.id = uuid(g.Name, i)
	}
	var mu sync.Mutex
	have := map[string]int{}
	settled := func(m *member) bool { // all of them: one whose part is complete may still be given what another gives up
		mu.Lock()
		defer mu.Unlock()
		have[m.id] = len(m.owned)
		total := 0
		for _, n := range have {
			if total += n; n < least || n > most {
				return false
			}
		}
		return total == g.Partitions && len(have) == len(g.members)
	}
	took, err := g.all(func(m *member) error {
		deadline := time.Now().Add(answerWithin)
		for time.Now().Before(deadline) {
			if err := m.beat(); err != nil {
				return err
			}
			if settled(m) {
				return nil
			}
			time.Sleep(beatEvery)
		}
		return fmt.Errorf("member %s has %d partitions after %v", m.id, len(m.owned), answerWithin)
	})
	if err != nil {
		return 0, err
	}
	return took, g.complete()
}

// beat is one heartbeat, and one more that confirms if it brought another assignment.
func (m *member) beat() error {
	for range 2 {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, m.g.Name, m.id, m.generation
		if m.generation == 0 {
			req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 60_000, []string{m.g.Topic}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		} else {
			req.Topics = m.ownedTopics()
		}
		got, err := m.c.Do(req)
		if err != nil {
			return err
		}
		resp := got.(*kmsg.ConsumerGroupHeartbeatResponse)
		if resp.ErrorCode != 0 {
			if kerr.IsRetriable(kerr.ErrorForCode(resp.ErrorCode)) {
				return nil
			}
			return fmt.Errorf("heartbeat: %w", kerr.ErrorForCode(resp.ErrorCode))
		}
		m.generation = resp.MemberEpoch
		if resp.Assignment == nil {
			return nil
		}
		m.owned = nil
		for i := range resp.Assignment.Topics {
			m.topicID = resp.Assignment.Topics[i].TopicID
			m.owned = append(m.owned, resp.Assignment.Topics[i].Partitions...)
		}
	}
	return nil
}

func (m *member) ownedTopics() []kmsg.ConsumerGroupHeartbeatRequestTopic {
	all := []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if len(m.owned) > 0 {
		t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		t.TopicID, t.Partitions = m.topicID, m.owned
		all = append(all, t)
	}
	return all
}

// uuid is a member id as clients make them, of a group and a number.
func uuid(group string, i int) string {
	var b [16]byte
	copy(b[:12], group)
	binary.BigEndian.PutUint32(b[12:], uint32(i)+1)
	return base64.RawURLEncoding.EncodeToString(b[:])
}
