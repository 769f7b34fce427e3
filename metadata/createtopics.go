package metadata

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/invariant"
)

// maxPartitionsPerRequest is the most partitions of one CreateTopics request
// (ReplicationControlManager.MAX_PARTITIONS_PER_BATCH).
const maxPartitionsPerRequest = 10_000

// maxIDAttempts bounds the search for a topic id that is not in use: two thousand
// random ids in a row that are reserved, begin with "-" or exist mean that NewID
// is broken.
const maxIDAttempts = 2000

// tooManyRecords is what Kafka says when a request needs more than
// MaxRecordsPerBatch records.
const tooManyRecords = "Unable to perform excessively large batch operation."

// Failure is why a part of a request failed.
type Failure struct {
	Code    int16   // a Kafka error code; 0 is none
	Message *string // nil is null on the wire
}

func fail(e *kerr.Error, message string, args ...any) Failure {
	if len(args) > 0 {
		message = fmt.Sprintf(message, args...)
	}
	return Failure{Code: e.Code, Message: &message}
}

// CreateTopics asks for new topics (Kafka's ControllerApis.createTopics and
// ReplicationControlManager.createTopics). The topics of one request are created
// together or, if the log fails, not at all; one that is not valid does not keep
// the others from being created. The answer is TopicsCreated.
//
// Whether the client may create a topic is for the caller to decide before, by
// leaving it out. The controller mutation quota is the caller's too.
type CreateTopics struct {
	Topics       []NewTopic
	ValidateOnly bool // answer as if, change nothing
}

// NewTopic is one topic of a CreateTopics.
type NewTopic struct {
	Name              string
	Partitions        int32        // -1: the default, or as many as Assignments
	ReplicationFactor int16        // -1: the default, or as Assignments say
	Assignments       []Assignment // replicas by hand; both numbers must be -1 then
	Configs           []NewConfig
}

// Assignment is the replicas of one partition.
type Assignment struct {
	Partition int32
	Brokers   []int32 // the first one is the preferred leader
}

// NewConfig is one setting of a new topic. Of several with one name the last counts.
type NewConfig struct {
	Name  string
	Value *string // nil is refused
}

// TopicsCreated answers CreateTopics: one result for each different name, the
// valid names in the order of the request, then names that were there twice, then
// the metadata topic. When the request as a whole is refused there is one result
// for each topic of it.
type TopicsCreated struct{ Topics []TopicCreated }

// TopicCreated is the result for one topic. The fields after Failure are set only
// if it did not fail.
type TopicCreated struct {
	Name string
	Failure
	ID                [16]byte
	Partitions        int32
	ReplicationFactor int16
	Configs           map[string]string // as asked for
}

// topicMaker is one CreateTopics under way.
type topicMaker struct {
	s       *Shard
	records []Message
	ids     map[[16]byte]bool // given to topics of this request
}

func (s *Shard) createTopics(e coordinator.Event, c CreateTopics) coordinator.Result {
	ours, rest := splitNames(c.Topics)
	if s.countPartitions(ours) > maxPartitionsPerRequest {
		return s.result(e, nil, refuse(c, fail(kerr.PolicyViolation, "Excessively large number of partitions per request.")))
	}
	m := &topicMaker{s: s, ids: map[[16]byte]bool{}}
	reply := TopicsCreated{}
	for i := range ours {
		reply.Topics = append(reply.Topics, m.create(&ours[i]))
		if len(m.records) > MaxRecordsPerBatch {
			return s.result(e, nil, refuse(c, fail(kerr.PolicyViolation, tooManyRecords)))
		}
	}
	reply.Topics = append(reply.Topics, rest...)
	if c.ValidateOnly {
		m.records = nil
	}
	return s.result(e, m.records, reply)
}

// splitNames takes out topics that are named twice and the metadata topic, and
// gives their results.
func splitNames(all []NewTopic) (ours []NewTopic, rest []TopicCreated) {
	times := make(map[string]int, len(all))
	for i := range all {
		times[all[i].Name]++
	}
	metadataTopic := false
	for i := range all {
		switch name := all[i].Name; {
		case times[name] > 1:
			rest = append(rest, TopicCreated{Name: name, Failure: fail(kerr.InvalidRequest, "Duplicate topic name.")})
			times[name] = 0
		case times[name] == 0: // told already
		case name == ClusterMetadataTopic:
			metadataTopic = true
		default:
			ours = append(ours, all[i])
		}
	}
	if metadataTopic {
		rest = append(rest, TopicCreated{Name: ClusterMetadataTopic, Failure: fail(kerr.InvalidRequest,
			"Creation of internal topic %s is prohibited.", ClusterMetadataTopic)})
	}
	return ours, rest
}

func refuse(c CreateTopics, f Failure) TopicsCreated {
	reply := TopicsCreated{}
	for i := range c.Topics {
		reply.Topics = append(reply.Topics, TopicCreated{Name: c.Topics[i].Name, Failure: f})
	}
	return reply
}

// countPartitions counts what is asked for, whether it is valid or not.
func (s *Shard) countPartitions(topics []NewTopic) int64 {
	var n int64
	for i := range topics {
		switch t := &topics[i]; {
		case len(t.Assignments) > 0:
			n += int64(len(t.Assignments))
		case t.Partitions == -1:
			n += int64(s.o.DefaultPartitions)
		case t.Partitions > 0:
			n += int64(t.Partitions)
		}
	}
	return n
}

// create checks one topic, in Kafka's order, and adds its records.
func (m *topicMaker) create(t *NewTopic) TopicCreated {
	reply := TopicCreated{Name: t.Name}
	if reply.Failure = m.s.checkName(t.Name); reply.Code != 0 {
		return reply
	}
	configs, f := m.s.checkConfigs(t.Configs)
	if reply.Failure = f; f.Code != 0 {
		return reply
	}
	replicas, f := m.s.replicasOf(t)
	if reply.Failure = f; f.Code != 0 {
		return reply
	}
	id := m.newID()
	m.records = append(m.records, &TopicRecord{Name: t.Name, TopicID: id})
	names := make([]string, 0, len(configs))
	for name := range configs {
		names = append(names, name)
	}
	slices.Sort(names)
	var settings []Message
	for _, name := range names {
		value := configs[name]
		settings = append(settings, &ConfigRecord{ResourceType: int8(ResourceTopic), ResourceName: t.Name, Name: name, Value: &value})
	}
	m.records = append(append(m.records, settings...), m.s.clearELR(settings)...)
	for i, brokers := range replicas {
		m.records = append(m.records, m.s.newPartition(id, int32(i), brokers))
	}
	reply.ID, reply.Configs = id, configs
	reply.Partitions, reply.ReplicationFactor = int32(len(replicas)), int16(len(replicas[0]))
	return reply
}

// newID returns an id that no topic has.
func (m *topicMaker) newID() [16]byte {
	for range maxIDAttempts {
		id := m.s.o.NewID()
		if UsableUUID(id) && !m.ids[id] && m.s.d.img.TopicByID(id) == nil {
			m.ids[id] = true
			return id
		}
	}
	invariant.That(false, "new ids are new", "attempts", maxIDAttempts)
	return [16]byte{}
}

// checkName follows validateNewTopicNames and the check for existing topics; of
// several errors the last one counts.
func (s *Shard) checkName(name string) Failure {
	if s.d.img.Topic(name) != nil {
		return fail(kerr.TopicAlreadyExists, "Topic '%s' already exists.", name)
	}
	if key, ok := collisionKey(name); ok {
		if others := s.d.collisions[key]; len(others) > 0 {
			return fail(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", name, others[0])
		}
	}
	if why := InvalidTopicName(name); why != "" {
		return fail(kerr.InvalidTopicException, "%s", why)
	}
	return Failure{}
}

func (s *Shard) checkConfigs(list []NewConfig) (map[string]string, Failure) {
	configs := make(map[string]string, len(list))
	var null []string
	for _, c := range list {
		if c.Value == nil {
			null = append(null, c.Name)
		} else {
			configs[c.Name] = *c.Value
		}
	}
	if len(null) > 0 {
		return nil, fail(kerr.InvalidConfig, "Null value not supported for topic configs: %s", strings.Join(null, ","))
	}
	if len(configs) > 0 && s.o.ValidateTopicConfig != nil {
		if err := s.o.ValidateTopicConfig(configs); err != nil {
			return nil, fail(kerr.InvalidConfig, "%s", err.Error())
		}
	}
	return configs, Failure{}
}

// replicasOf returns the brokers of each partition of a new topic.
func (s *Shard) replicasOf(t *NewTopic) ([][]int32, Failure) {
	switch {
	case len(t.Assignments) > 0:
		return s.assigned(t)
	case t.ReplicationFactor < -1 || t.ReplicationFactor == 0:
		return nil, fail(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	case t.Partitions < -1 || t.Partitions == 0:
		return nil, fail(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	n, factor := t.Partitions, t.ReplicationFactor
	if n == -1 {
		n = s.o.DefaultPartitions
	}
	if factor == -1 {
		factor = s.o.DefaultReplicationFactor
	}
	replicas, why := s.place(0, n, factor)
	if why != "" {
		return nil, fail(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): %s", factor, why)
	}
	return replicas, Failure{}
}

// assigned checks replicas that were chosen by hand.
func (s *Shard) assigned(t *NewTopic) ([][]int32, Failure) {
	if t.ReplicationFactor != -1 {
		return nil, fail(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
	}
	if t.Partitions != -1 {
		return nil, fail(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	byIndex := make(map[int32][]int32, len(t.Assignments))
	factor := -1
	for _, a := range t.Assignments {
		if _, twice := byIndex[a.Partition]; twice {
			return nil, fail(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		if f := s.checkAssignment(a.Partition, a.Brokers, factor); f.Code != 0 {
			return nil, f
		}
		factor = len(a.Brokers)
		byIndex[a.Partition] = a.Brokers
	}
	replicas := make([][]int32, len(byIndex))
	for i := range replicas {
		brokers, ok := byIndex[int32(i)]
		if !ok {
			return nil, fail(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
		replicas[i] = brokers
	}
	return replicas, Failure{}
}

// checkAssignment checks the replicas of one partition; factor is how many others
// have, -1 if there is no other yet.
func (s *Shard) checkAssignment(partition int32, brokers []int32, factor int) Failure {
	if len(brokers) == 0 {
		return fail(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	ordered := slices.Sorted(slices.Values(brokers))
	for i, id := range ordered {
		if s.d.img.Broker(id) == nil {
			return fail(kerr.InvalidReplicaAssignment,
				"The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if i > 0 && ordered[i-1] == id {
			return fail(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", id)
		}
	}
	if factor >= 0 && len(brokers) != factor {
		return fail(kerr.InvalidReplicaAssignment, "The manual partition assignment includes a partition with %d replica(s), "+
			"but this is not consistent with previous partitions, which have %d replica(s).", len(brokers), factor)
	}
	if !slices.ContainsFunc(brokers, s.active) {
		return fail(kerr.InvalidReplicaAssignment, "All brokers specified in the manual partition assignment for partition %d "+
			"are fenced or in controlled shutdown.", partition)
	}
	return Failure{}
}

// active reports whether a broker may lead partitions.
func (s *Shard) active(id int32) bool {
	b := s.d.img.Broker(id)
	return b != nil && b.Active()
}

// place chooses the brokers of n partitions, the first of which has the index
// first: leaders in turn over the active brokers, the other replicas behind them,
// brokers that are not active last. The second result says why there is no place,
// in the words of Kafka's StripedReplicaPlacer. Racks are not looked at: Kafka does
// so to spread replicas, and this node has none to spread.
func (s *Shard) place(first, n int32, factor int16) (replicas [][]int32, why string) {
	var active, fenced []int32
	for _, b := range s.d.img.Brokers() {
		switch {
		case b.Cordoned():
		case b.Active():
			active = append(active, b.ID)
		default:
			fenced = append(fenced, b.ID)
		}
	}
	if factor <= 0 {
		return nil, fmt.Sprintf("Invalid replication factor %d: the replication factor must be positive.", factor)
	}
	if len(active) == 0 {
		return nil, "All brokers are currently fenced, or have all their log directories cordoned."
	}
	if total := len(active) + len(fenced); int(factor) > total {
		return nil, fmt.Sprintf("The target replication factor of %d cannot be reached because only %d broker(s) are registered "+
			"or some brokers have all their log directories cordoned.", factor, total)
	}
	rings := make([][]int32, len(active))
	for at := range rings {
		rings[at] = slices.Concat(active[at:], active[:at], fenced)[:factor]
	}
	for i := first; i < first+n; i++ {
		replicas = append(replicas, rings[int(i)%len(rings)])
	}
	return replicas, ""
}

// newPartition returns the record of a partition that begins its life.
func (s *Shard) newPartition(topic [16]byte, index int32, brokers []int32) *PartitionRecord {
	m := &PartitionRecord{PartitionID: index, TopicID: topic, Replicas: brokers}
	for _, id := range brokers {
		if s.active(id) {
			m.Isr = append(m.Isr, id)
		}
		m.Directories = append(m.Directories, s.defaultDirectory(id))
	}
	m.Leader = m.Isr[0]
	return m
}

// defaultDirectory returns where a new replica on that broker goes: into its only
// directory, or it is left to the broker (ClusterControlManager.defaultDir).
func (s *Shard) defaultDirectory(broker int32) [16]byte {
	b := s.d.img.Broker(broker)
	switch {
	case b == nil:
		return DirectoryUnassigned
	case len(b.Directories) == 0:
		return DirectoryMigrating
	case len(b.Directories) == 1:
		return b.Directories[0]
	}
	return DirectoryUnassigned
}
