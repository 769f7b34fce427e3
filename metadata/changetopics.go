package metadata

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
)

// DeleteTopics asks for the end of topics, by name or by id (Kafka's
// ControllerApis.deleteTopics). The answer is TopicsDeleted.
type DeleteTopics struct {
	Topics []TopicRef

	// May says what the client may do with a topic of that name, whether there is one
	// or not. nil: everything.
	May func(topic string) Access
}

// Access is what a client may do with a topic.
type Access struct {
	Describe bool // learn that it exists
	Delete   bool
}

// TopicRef names a topic by one of its name and its id.
type TopicRef struct {
	Name *string
	ID   [16]byte // zero: none
}

// TopicsDeleted answers DeleteTopics. Results are in the order of the request, one
// for each different topic. (Kafka shuffles them.)
type TopicsDeleted struct {
	// Disabled: delete.topic.enable is false, and nothing else is set. For the
	// client TOPIC_DELETION_DISABLED for each topic, INVALID_REQUEST before version 3.
	Disabled bool
	Topics   []TopicDeleted
}

// TopicDeleted is the result for one topic.
type TopicDeleted struct {
	Name *string  // nil when it was given by id and does not exist or is hidden
	ID   [16]byte // zero when it was given by name and does not exist or is hidden
	Failure
}

// Kafka's words for these codes; an answer about a topic that may not be told
// apart from one that does not exist has no others.
const (
	unknownTopic       = "This server does not host this topic-partition."
	unknownTopicID     = "This server does not host this topic ID."
	authorizationFails = "Topic authorization failed."
)

// topicRemover is one DeleteTopics under way.
type topicRemover struct {
	s       *Shard
	may     func(string) Access
	times   map[refKey]int    // how often each name and id is in the request
	taken   map[[16]byte]bool // ids of topics given twice over: by id and by name
	records []Message
}

// refKey is a TopicRef that can be compared: one of the two is set.
type refKey struct {
	Name  string
	ID    [16]byte
	Named bool
}

func (r TopicRef) key() refKey {
	if r.Name != nil {
		return refKey{Name: *r.Name, Named: true}
	}
	return refKey{ID: r.ID}
}

// both reports that name and id are given, neither that none is.
func (r TopicRef) both() bool    { return r.Name != nil && r.ID != [16]byte{} }
func (r TopicRef) neither() bool { return r.Name == nil && r.ID == [16]byte{} }

func (s *Shard) deleteTopics(e coordinator.Event, d DeleteTopics) coordinator.Result {
	if !s.o.DeleteTopicEnable {
		return s.result(e, nil, TopicsDeleted{Disabled: true})
	}
	m := &topicRemover{s: s, may: d.May, times: map[refKey]int{}, taken: map[[16]byte]bool{}}
	if m.may == nil {
		m.may = func(string) Access { return Access{Describe: true, Delete: true} }
	}
	for _, ref := range d.Topics {
		if !ref.both() && !ref.neither() {
			m.times[ref.key()]++
		}
	}
	m.findTaken(d.Topics)
	reply := TopicsDeleted{}
	for _, ref := range d.Topics {
		if one, ok := m.remove(ref); ok {
			reply.Topics = append(reply.Topics, one)
		}
	}
	return s.result(e, s.transaction("Topic deletion", m.records), reply)
}

// findTaken finds topics that are given by name and by id: they are not deleted,
// and there is one result for the two.
func (m *topicRemover) findTaken(refs []TopicRef) {
	for _, ref := range refs {
		if ref.Name == nil || ref.both() || m.times[ref.key()] != 1 {
			continue
		}
		t := m.s.d.img.Topic(*ref.Name)
		if t == nil || !m.may(t.Name).Delete {
			continue
		}
		if m.times[refKey{ID: t.ID}] > 0 {
			m.taken[t.ID] = true
		}
	}
}

// remove gives the result for one reference, unless it was given with an equal one.
func (m *topicRemover) remove(ref TopicRef) (TopicDeleted, bool) {
	switch key := ref.key(); {
	case ref.neither():
		return TopicDeleted{Failure: fail(kerr.InvalidRequest, "Neither topic name nor id were specified.")}, true
	case ref.both():
		return TopicDeleted{Name: ref.Name, ID: ref.ID, Failure: fail(kerr.InvalidRequest, "You may not specify both topic name and topic id.")}, true
	case m.times[key] == 0:
		return TopicDeleted{}, false
	case m.times[key] > 1:
		m.times[key] = 0
		if key.Named {
			return TopicDeleted{Name: ref.Name, Failure: fail(kerr.InvalidRequest, "Duplicate topic name.")}, true
		}
		return TopicDeleted{ID: ref.ID, Failure: fail(kerr.InvalidRequest, "Duplicate topic id.")}, true
	case key.Named:
		return m.removeNamed(key.Name), true
	}
	return m.removeByID(ref.ID)
}

func (m *topicRemover) removeNamed(name string) TopicDeleted {
	t := m.s.d.img.Topic(name)
	switch may := m.may(name); {
	case !may.Describe:
		return TopicDeleted{Name: &name, Failure: fail(kerr.TopicAuthorizationFailed, authorizationFails)}
	case t == nil:
		return TopicDeleted{Name: &name, Failure: fail(kerr.UnknownTopicOrPartition, unknownTopic)}
	case !may.Delete:
		return TopicDeleted{Name: &name, Failure: fail(kerr.TopicAuthorizationFailed, authorizationFails)}
	}
	if m.taken[t.ID] {
		return TopicDeleted{Name: &name, ID: t.ID, Failure: fail(kerr.InvalidRequest, "The provided topic name maps to an ID that was already supplied.")}
	}
	m.records = append(m.records, &RemoveTopicRecord{TopicID: t.ID})
	return TopicDeleted{Name: &name, ID: t.ID}
}

func (m *topicRemover) removeByID(id [16]byte) (TopicDeleted, bool) {
	t := m.s.d.img.TopicByID(id)
	if t == nil {
		return TopicDeleted{ID: id, Failure: fail(kerr.UnknownTopicID, unknownTopicID)}, true
	}
	name := t.Name
	switch may := m.may(name); {
	case !may.Delete && may.Describe:
		return TopicDeleted{Name: &name, ID: id, Failure: fail(kerr.TopicAuthorizationFailed, authorizationFails)}, true
	case !may.Delete:
		return TopicDeleted{ID: id, Failure: fail(kerr.TopicAuthorizationFailed, authorizationFails)}, true
	case m.taken[id]:
		return TopicDeleted{}, false
	}
	m.records = append(m.records, &RemoveTopicRecord{TopicID: id})
	return TopicDeleted{Name: &name, ID: id}, true
}

// CreatePartitions asks for more partitions of topics (Kafka's
// ControllerApis.createPartitions). The answer is PartitionsCreated.
//
// Whether the client may alter a topic is for the caller to decide before, by
// leaving it out.
type CreatePartitions struct {
	Topics       []MorePartitions
	ValidateOnly bool // answer as if, change nothing
}

// MorePartitions is one topic of a CreatePartitions.
type MorePartitions struct {
	Name        string
	Count       int32     // of all partitions, afterwards
	Assignments [][]int32 // brokers of each partition to add; nil: the controller chooses
}

// PartitionsCreated answers CreatePartitions: names that were there twice first,
// then the others in the order of the request.
type PartitionsCreated struct{ Topics []TopicGrown }

// TopicGrown is the result for one topic.
type TopicGrown struct {
	Name string
	Failure
}

func (s *Shard) createPartitions(e coordinator.Event, c CreatePartitions) coordinator.Result {
	times := make(map[string]int, len(c.Topics))
	for i := range c.Topics {
		times[c.Topics[i].Name]++
	}
	reply := PartitionsCreated{}
	for i := range c.Topics {
		if name := c.Topics[i].Name; times[name] > 1 {
			reply.Topics = append(reply.Topics, TopicGrown{Name: name, Failure: fail(kerr.InvalidRequest, "Duplicate topic name.")})
			times[name] = 0
		}
	}
	var records []Message
	for i := range c.Topics {
		t := &c.Topics[i]
		if times[t.Name] == 0 {
			continue
		}
		more, f := s.grow(t, MaxRecordsPerBatch-len(records))
		reply.Topics = append(reply.Topics, TopicGrown{Name: t.Name, Failure: f})
		records = append(records, more...)
	}
	if c.ValidateOnly {
		records = nil
	}
	return s.result(e, records, reply)
}

// grow checks one topic, in Kafka's order, and returns the records of the new
// partitions. There is room for so many records more.
//
// Past the limit of records Kafka 4.3 answers UNKNOWN_SERVER_ERROR and creates the
// partitions below the limit all the same; here nothing of the topic is created
// and the answer is the one that Kafka's CreateTopics gives.
func (s *Shard) grow(m *MorePartitions, room int) ([]Message, Failure) {
	t := s.d.img.Topic(m.Name)
	if t == nil {
		return nil, Failure{Code: kerr.UnknownTopicOrPartition.Code}
	}
	have := int32(len(t.Partitions))
	if m.Count == have {
		return nil, fail(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	}
	if m.Count < have {
		return nil, fail(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", t.Name, have, m.Count)
	}
	add := m.Count - have
	if m.Assignments != nil && len(m.Assignments) != int(add) {
		return nil, fail(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", add, len(m.Assignments))
	}
	if int(add) > room {
		return nil, fail(kerr.PolicyViolation, tooManyRecords)
	}
	replicas, f := s.replicasOfMore(t, m, add)
	if f.Code != 0 {
		return nil, f
	}
	records := make([]Message, 0, add)
	for i, brokers := range replicas {
		records = append(records, s.newPartition(t.ID, have+int32(i), brokers))
	}
	return records, Failure{}
}

func (s *Shard) replicasOfMore(t *Topic, m *MorePartitions, add int32) ([][]int32, Failure) {
	have, factor := int32(len(t.Partitions)), 1
	if have > 0 {
		factor = len(t.Partitions[0].Replicas)
	}
	if m.Assignments == nil {
		replicas, why := s.place(have, add, int16(factor))
		if why != "" {
			return nil, fail(kerr.InvalidReplicationFactor, "%s", why)
		}
		return replicas, Failure{}
	}
	for i, brokers := range m.Assignments {
		if f := s.checkAssignment(have+int32(i), brokers, factor); f.Code != 0 {
			return nil, f
		}
	}
	return m.Assignments, Failure{}
}
