package metadata

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// draft is the next image while records are applied to it. It changes in place
// what carries its own generation and copies the rest first (see index.go).
type draft struct {
	img Image
	gen uint64 // generation of the pieces that nobody else has seen

	configsGen uint64 // generation of img.configs
	keptGens   keptGens

	// collisions finds topics whose names differ only in "." and "_".
	collisions map[string][]string

	// The lists of the last partition: with few brokers most partitions have the
	// same ones, and lists are never changed in place, so they can be shared.
	lastInts []int32
	lastDirs [][16]byte
}

func newDraft(clusterID string, nodeID int32) *draft {
	return &draft{img: *newImage(clusterID, nodeID), gen: 1, collisions: map[string][]string{}}
}

// freeze returns the present state as an image that never changes.
func (d *draft) freeze() *Image {
	img := d.img
	d.gen++
	return &img
}

// revert goes back to an image that freeze returned.
func (d *draft) revert(img *Image) {
	d.img = *img
	d.gen++
	clear(d.collisions)
	for t := range img.All() {
		d.noteCollision(t.Name)
	}
}

func (d *draft) noteCollision(name string) {
	key, ok := collisionKey(name)
	if !ok {
		return
	}
	names := d.collisions[key]
	if i, found := slices.BinarySearch(names, name); !found {
		d.collisions[key] = slices.Insert(names, i, name)
	}
}

func (d *draft) forgetCollision(name string) {
	key, ok := collisionKey(name)
	if !ok {
		return
	}
	names := d.collisions[key]
	if i, found := slices.BinarySearch(names, name); found {
		names = slices.Delete(names, i, i+1)
	}
	if len(names) == 0 {
		delete(d.collisions, key)
		return
	}
	d.collisions[key] = names
}

// apply makes one record true. An error means that the record does not fit; the
// draft is as before.
func (d *draft) apply(m Message) error {
	switch m := m.(type) {
	case *TopicRecord:
		return d.applyTopic(m)
	case *PartitionRecord:
		return d.applyPartition(m)
	case *PartitionChangeRecord:
		return d.applyPartitionChange(m)
	case *RemoveTopicRecord:
		return d.applyRemoveTopic(m)
	case *ConfigRecord:
		d.applyConfig(m)
	case *ClearElrRecord:
		return d.applyClearElr(m)
	case *FeatureLevelRecord:
		return d.applyFeatureLevel(m)
	case *ProducerIDsRecord:
		// Never backwards, so that no producer id is handed out twice.
		d.img.NextProducerID = max(d.img.NextProducerID, m.NextProducerID)
	default:
		return d.applyRegistration(m)
	}
	return nil
}

// applyRegistration applies the records about brokers and controllers.
func (d *draft) applyRegistration(m Message) error {
	switch m := m.(type) {
	case *RegisterBrokerRecord:
		d.putBroker(&Broker{
			ID: m.BrokerID, Epoch: m.BrokerEpoch, Incarnation: m.IncarnationID,
			Endpoints: m.EndPoints, Features: m.Features, Rack: m.Rack,
			Fenced: m.Fenced, InControlledShutdown: m.InControlledShutdown,
			Directories: m.LogDirs, CordonedDirectories: m.CordonedLogDirs,
			MigratingZk: m.IsMigratingZkBroker, Unknown: m.Unknown,
		})
	case *UnregisterBrokerRecord:
		b, err := d.registration(m.BrokerID, m.BrokerEpoch)
		if err != nil {
			return err
		}
		d.img.brokers = slices.DeleteFunc(slices.Clone(d.img.brokers), func(x *Broker) bool { return x == b })
	case *FenceBrokerRecord:
		return d.changeBroker(m.ID, m.Epoch, func(b *Broker) { b.Fenced = true })
	case *UnfenceBrokerRecord:
		return d.changeBroker(m.ID, m.Epoch, func(b *Broker) { b.Fenced = false })
	case *BrokerRegistrationChangeRecord:
		return d.applyRegistrationChange(m)
	case *RegisterControllerRecord:
		d.putController(&Controller{
			ID: m.ControllerID, Incarnation: m.IncarnationID, Endpoints: m.EndPoints, Features: m.Features,
			ZkMigrationReady: m.ZkMigrationReady, Unknown: m.Unknown,
		})
	default:
		return d.applyKept(m)
	}
	return nil
}

// setTopic puts a topic under its name and id.
func (d *draft) setTopic(t *Topic) {
	d.img.byName = d.img.byName.put(d.gen, hashName(t.Name), t.Name, t)
	d.img.byID = d.img.byID.put(d.gen, hashID(t.ID), t.ID, t)
	d.img.list = d.img.list.put(d.gen, t)
}

// own returns the topic with that id as one that this draft may change, nil if
// there is none.
func (d *draft) own(id [16]byte) *Topic {
	t := d.img.TopicByID(id)
	if t == nil || t.gen == d.gen {
		return t
	}
	c := *t
	c.gen = d.gen
	c.Partitions = slices.Clone(t.Partitions)
	d.setTopic(&c)
	return &c
}

func (d *draft) applyTopic(m *TopicRecord) error {
	if d.img.Topic(m.Name) != nil {
		return fmt.Errorf("topic %s exists already", m.Name)
	}
	if d.img.TopicByID(m.TopicID) != nil {
		return fmt.Errorf("topic %s: another topic has the id %s", m.Name, UUIDString(m.TopicID))
	}
	t := &Topic{Name: m.Name, ID: m.TopicID, Internal: Internal(m.Name), gen: d.gen}
	// Settings may have come first; from now on they are with the topic.
	r := Resource{ResourceTopic, m.Name}
	if t.Configs = d.img.configs[r]; t.Configs != nil {
		d.setConfigs(r, nil)
	}
	d.setTopic(t)
	d.img.topics++
	d.noteCollision(m.Name)
	return nil
}

func (d *draft) applyPartition(m *PartitionRecord) error {
	t := d.own(m.TopicID)
	if t == nil {
		return fmt.Errorf("partition %d of the unknown topic %s", m.PartitionID, UUIDString(m.TopicID))
	}
	if m.PartitionID < 0 {
		return fmt.Errorf("partition %d of topic %s", m.PartitionID, t.Name)
	}
	p := Partition{
		Index: m.PartitionID, Leader: m.Leader, LeaderEpoch: m.LeaderEpoch, PartitionEpoch: m.PartitionEpoch,
		Replicas: d.shareInts(m.Replicas), ISR: d.shareInts(m.Isr),
		ELR: d.shareInts(m.EligibleLeaderReplicas), LastKnownELR: d.shareInts(m.LastKnownElr),
		Removing: d.shareInts(m.RemovingReplicas), Adding: d.shareInts(m.AddingReplicas),
		Directories: d.shareDirs(m.Directories, len(m.Replicas)), Recovering: m.LeaderRecoveryState != 0,
	}
	if at, found := t.search(p.Index); found {
		t.Partitions[at] = p
	} else {
		t.Partitions = slices.Insert(t.Partitions, at, p)
		d.img.partitions++
	}
	return nil
}

// applyPartitionChange follows PartitionRegistration.merge.
func (d *draft) applyPartitionChange(m *PartitionChangeRecord) error {
	t := d.own(m.TopicID)
	if t == nil {
		return fmt.Errorf("change of partition %d of the unknown topic %s", m.PartitionID, UUIDString(m.TopicID))
	}
	p := t.Partition(m.PartitionID)
	if p == nil {
		return fmt.Errorf("change of the unknown partition %s-%d", t.Name, m.PartitionID)
	}
	set := func(field *[]int32, v []int32) {
		if v != nil {
			*field = d.shareInts(v)
		}
	}
	set(&p.Replicas, m.Replicas)
	set(&p.ISR, m.Isr)
	set(&p.Removing, m.RemovingReplicas)
	set(&p.Adding, m.AddingReplicas)
	set(&p.ELR, m.EligibleLeaderReplicas)
	set(&p.LastKnownELR, m.LastKnownElr)
	if m.Directories != nil {
		p.Directories = d.shareDirs(m.Directories, len(p.Replicas))
	}
	if m.Leader != NoLeaderChange {
		p.Leader = m.Leader
		p.LeaderEpoch++
	}
	if m.LeaderRecoveryState != noRecoveryChange {
		p.Recovering = m.LeaderRecoveryState != 0
	}
	p.PartitionEpoch++
	return nil
}

// shareInts returns v, or an equal list that is used already. The result of an
// empty list is nil.
func (d *draft) shareInts(v []int32) []int32 {
	if len(v) == 0 {
		return nil
	}
	if !slices.Equal(v, d.lastInts) {
		d.lastInts = v
	}
	return d.lastInts
}

// shareDirs is shareInts for the directories of that many replicas. Records from
// before directories had ids have none: each is DirectoryMigrating then.
func (d *draft) shareDirs(v [][16]byte, replicas int) [][16]byte {
	if len(v) == 0 {
		v = make([][16]byte, replicas)
	}
	if !slices.Equal(v, d.lastDirs) {
		d.lastDirs = v
	}
	return d.lastDirs
}

func (d *draft) applyRemoveTopic(m *RemoveTopicRecord) error {
	t := d.img.TopicByID(m.TopicID)
	if t == nil {
		return fmt.Errorf("removal of the unknown topic %s", UUIDString(m.TopicID))
	}
	d.img.byName = d.img.byName.remove(d.gen, hashName(t.Name), t.Name)
	d.img.byID = d.img.byID.remove(d.gen, hashID(t.ID), t.ID)
	d.img.list = d.img.list.remove(d.gen, t.Name)
	d.img.topics--
	d.img.partitions -= len(t.Partitions)
	d.forgetCollision(t.Name)
	return nil
}

func (d *draft) applyClearElr(m *ClearElrRecord) error {
	if m.TopicName != "" {
		t := d.img.Topic(m.TopicName)
		if t == nil {
			return fmt.Errorf("ELR of the unknown topic %s", m.TopicName)
		}
		d.clearElr(t)
		return nil
	}
	for _, t := range d.img.Topics() {
		d.clearElr(t)
	}
	return nil
}

// clearElr touches only partitions that have something to clear, as Kafka does:
// their partition epochs rise.
func (d *draft) clearElr(t *Topic) {
	for i := range t.Partitions {
		if p := &t.Partitions[i]; len(p.ELR) == 0 && len(p.LastKnownELR) == 0 {
			continue
		}
		t = d.own(t.ID)
		p := &t.Partitions[i]
		p.ELR, p.LastKnownELR = nil, nil
		p.PartitionEpoch++
	}
}

// applyConfig sets or removes one setting. The map of a resource is replaced, not
// changed: it may have been published.
func (d *draft) applyConfig(m *ConfigRecord) {
	r := Resource{ResourceType(m.ResourceType), m.ResourceName}
	old := d.img.Configs(r)
	c := maps.Clone(old)
	if c == nil {
		c = map[string]string{}
	}
	if m.Value == nil {
		delete(c, m.Name)
	} else {
		c[m.Name] = *m.Value
	}
	if len(c) == 0 {
		c = nil
	}
	if r.Type == ResourceTopic {
		if t := d.img.Topic(r.Name); t != nil {
			d.own(t.ID).Configs = c
			return
		}
	}
	d.setConfigs(r, c)
}

// setConfigs replaces the settings of a resource that is no existing topic; nil
// removes them.
func (d *draft) setConfigs(r Resource, c map[string]string) {
	if d.configsGen != d.gen {
		d.img.configs = maps.Clone(d.img.configs)
		d.configsGen = d.gen
	}
	if c == nil {
		delete(d.img.configs, r)
	} else {
		d.img.configs[r] = c
	}
}

// applyFeatureLevel refuses what this version of Kafka's metadata does not know: a
// log that needs more cannot be read safely.
func (d *draft) applyFeatureLevel(m *FeatureLevelRecord) error {
	if m.Name == FeatureKRaftVersion {
		return nil // KAFKA-18979: written by mistake once; control records tell it
	}
	known := slices.IndexFunc(Features(), func(f Feature) bool { return f.Name == m.Name })
	if m.FeatureLevel != 0 || m.Name == FeatureMetadataVersion {
		if known < 0 {
			return fmt.Errorf("feature %s is not supported, the log has it at level %d", m.Name, m.FeatureLevel)
		}
		if f := Features()[known]; m.FeatureLevel < f.Min || m.FeatureLevel > f.Max {
			return fmt.Errorf("feature %s is supported at levels %d to %d, the log has it at %d", m.Name, f.Min, f.Max, m.FeatureLevel)
		}
	}
	fs := slices.Clone(d.img.features)
	i, found := slices.BinarySearchFunc(fs, m.Name, func(f FeatureLevel, name string) int { return strings.Compare(f.Name, name) })
	switch {
	case m.FeatureLevel == 0 && found:
		fs = slices.Delete(fs, i, i+1)
	case m.FeatureLevel == 0:
	case found:
		fs[i].Level = m.FeatureLevel
	default:
		fs = slices.Insert(fs, i, FeatureLevel{Name: m.Name, Level: m.FeatureLevel})
	}
	d.img.features = fs
	return nil
}

func (d *draft) putBroker(b *Broker) {
	bs := slices.Clone(d.img.brokers)
	if i, found := searchBroker(bs, b.ID); found {
		bs[i] = b
	} else {
		bs = slices.Insert(bs, i, b)
	}
	d.img.brokers = bs
}

func (d *draft) putController(c *Controller) {
	cs := slices.Clone(d.img.controllers)
	i, found := slices.BinarySearchFunc(cs, c.ID, func(c *Controller, id int32) int { return int(c.ID) - int(id) })
	if found {
		cs[i] = c
	} else {
		cs = slices.Insert(cs, i, c)
	}
	d.img.controllers = cs
}

// registration returns the registration of a broker, which must be of that epoch.
func (d *draft) registration(id int32, epoch int64) (*Broker, error) {
	b := d.img.Broker(id)
	if b == nil {
		return nil, fmt.Errorf("no registration of broker %d", id)
	}
	if b.Epoch != epoch {
		return nil, fmt.Errorf("no registration of broker %d with epoch %d, its epoch is %d", id, epoch, b.Epoch)
	}
	return b, nil
}

func (d *draft) changeBroker(id int32, epoch int64, change func(*Broker)) error {
	b, err := d.registration(id, epoch)
	if err != nil {
		return err
	}
	c := *b
	change(&c)
	d.putBroker(&c)
	return nil
}

func (d *draft) applyRegistrationChange(m *BrokerRegistrationChangeRecord) error {
	if m.Fenced < changeUnfence || m.Fenced > changeFence {
		return fmt.Errorf("change of broker %d: value %d for fenced", m.BrokerID, m.Fenced)
	}
	if m.InControlledShutdown != changeNone && m.InControlledShutdown != changeInControlledShutdown {
		return fmt.Errorf("change of broker %d: value %d for in controlled shutdown", m.BrokerID, m.InControlledShutdown)
	}
	return d.changeBroker(m.BrokerID, m.BrokerEpoch, func(b *Broker) {
		if m.Fenced != changeNone {
			b.Fenced = m.Fenced == changeFence
		}
		if m.InControlledShutdown != changeNone {
			b.InControlledShutdown = true
		}
		if len(m.LogDirs) > 0 {
			b.Directories = m.LogDirs
		}
		if m.CordonedLogDirs != nil {
			b.CordonedDirectories = m.CordonedLogDirs
		}
	})
}
