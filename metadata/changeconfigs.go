package metadata

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
)

// ConfigOp is what is to be done with a setting (AlterConfigOp.OpType).
type ConfigOp int8

// The operations.
const (
	ConfigSet ConfigOp = iota
	ConfigDelete
	ConfigAppend   // to a list
	ConfigSubtract // from a list
)

func (o ConfigOp) String() string {
	return [...]string{"SET", "DELETE", "APPEND", "SUBTRACT"}[o]
}

// maxConfigValueBytes is what a ConfigRecord can hold (KAFKA-14215).
const maxConfigValueBytes = 1<<15 - 1

// minInSyncReplicas is the setting that eligible leader replicas (KIP-966) hang on.
const minInSyncReplicas = "min.insync.replicas"

// AlterConfigs changes dynamic settings (Kafka's ConfigurationControlManager). The answer is
// ConfigsAltered.
type AlterConfigs struct {
	Resources    []ResourceChange
	ValidateOnly bool
}

// ResourceChange is what is to become of one resource: all of it or nothing.
type ResourceChange struct {
	Resource
	// Replace removes the settings that are not named (AlterConfigs, the older API).
	Replace bool
	Changes []ConfigChange
}

// ConfigChange is one operation. Value is nil for ConfigDelete only.
type ConfigChange struct {
	Name  string
	Op    ConfigOp
	Value *string
}

// ConfigsAltered answers AlterConfigs, a result for each resource in the order of the request.
type ConfigsAltered struct{ Results []Failure }

// ConfigRules are what the shard has to know of settings. nil functions accept
// everything and know no lists.
type ConfigRules struct {
	// Validate returns why settings are not valid for a resource: a refusal, or none.
	Validate func(r Resource, configs map[string]string) Failure
	// List tells whether a setting is a list, and its value where it is not set.
	List func(r Resource, name string) (value string, isList bool)
}

func (s *Shard) alterConfigs(e coordinator.Event, a AlterConfigs) coordinator.Result {
	reply := ConfigsAltered{}
	var records []Message
	for _, r := range a.Resources {
		changes, failure := s.alterResource(r)
		if failure.Code == 0 {
			records = append(records, changes...)
		}
		reply.Results = append(reply.Results, failure)
	}
	records = append(records, s.clearELR(records)...)
	if a.ValidateOnly {
		records = nil
	}
	return s.result(e, s.transaction("Config change", records), reply)
}

// clearELR forgets the eligible leader replicas of partitions for which other settings
// of min.insync.replicas hold from now on: who was eligible was so by the old one
// (createClearElrRecordsAsNeeded).
func (s *Shard) clearELR(changes []Message) []Message {
	if s.d.img.Feature(FeatureELRVersion) == 0 {
		return nil
	}
	var ms []Message
	for _, m := range changes {
		switch c := m.(*ConfigRecord); {
		case c.Name != minInSyncReplicas:
		case c.ResourceType == int8(ResourceTopic):
			ms = append(ms, &ClearElrRecord{TopicName: c.ResourceName})
		default:
			ms = append(ms, &ClearElrRecord{})
		}
	}
	return ms
}

// refusedWithELR says which changes of min.insync.replicas are not made while eligible leader
// replicas are recorded: the controller must know the one value that holds.
func (s *Shard) refusedWithELR(changes []Message) Failure {
	if s.d.img.Feature(FeatureELRVersion) == 0 {
		return Failure{}
	}
	for _, m := range changes {
		switch c := m.(*ConfigRecord); {
		case c.Name != minInSyncReplicas || c.ResourceType != int8(ResourceBroker):
		case c.ResourceName != "":
			return fail(kerr.InvalidConfig, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
		case c.Value == nil:
			return fail(kerr.InvalidConfig, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
		}
	}
	return Failure{}
}

// alterResource checks the change of one resource and returns its records.
func (s *Shard) alterResource(r ResourceChange) ([]Message, Failure) {
	old := s.d.img.Configs(r.Resource)
	if t := s.d.img.Topic(r.Name); r.Type == ResourceTopic && t != nil {
		old = t.Configs
	}
	all := maps.Clone(old)
	if all == nil {
		all = map[string]string{}
	}
	var records []Message
	set := func(name string, value *string) {
		was, had := all[name]
		if value == nil {
			delete(all, name)
		} else {
			all[name] = *value
		}
		// A broker reads its files again when told, so an unchanged setting is recorded too (KAFKA-14136).
		if r.Type != ResourceBroker && (value == nil && !had || value != nil && had && was == *value) {
			return
		}
		records = append(records, &ConfigRecord{ResourceType: int8(r.Type), ResourceName: r.Name, Name: name, Value: value})
	}
	if r.Replace {
		named := map[string]bool{}
		for _, c := range r.Changes {
			named[c.Name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(old)) {
			if !named[name] {
				set(name, nil)
			}
		}
	}
	for _, c := range r.Changes {
		value := c.Value
		if c.Op == ConfigAppend || c.Op == ConfigSubtract {
			list, failure := s.alterList(r.Resource, all, c)
			if failure.Code != 0 {
				return nil, failure
			}
			value = &list
		}
		if value != nil && len(*value) > maxConfigValueBytes {
			return nil, fail(kerr.InvalidConfig, "The configuration value cannot be added because it exceeds the maximum value size of %d bytes.", maxConfigValueBytes)
		}
		set(c.Name, value)
	}
	if r.Type == ResourceTopic && s.d.img.Topic(r.Name) == nil {
		return nil, fail(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Name)
	}
	if s.o.Configs.Validate != nil {
		if failure := s.o.Configs.Validate(r.Resource, all); failure.Code != 0 {
			return nil, failure
		}
	}
	if failure := s.refusedWithELR(records); failure.Code != 0 {
		return nil, failure
	}
	return records, Failure{}
}

// alterList is the value of a list with items added or taken out.
func (s *Shard) alterList(r Resource, all map[string]string, c ConfigChange) (string, Failure) {
	value, isList := "", false
	if s.o.Configs.List != nil {
		value, isList = s.o.Configs.List(r, c.Name)
	}
	if !isList {
		return "", fail(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", c.Op, c.Name)
	}
	if own, ok := all[c.Name]; ok {
		value = own
	}
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item != "" {
			items = append(items, item)
		}
	}
	for item := range strings.SplitSeq(*c.Value, ",") {
		switch has := slices.Contains(items, item); {
		case c.Op == ConfigAppend && !has:
			items = append(items, item)
		case c.Op == ConfigSubtract && has:
			items = slices.DeleteFunc(items, func(i string) bool { return i == item })
		}
	}
	return strings.Join(items, ","), Failure{}
}

// Reconfigured returns the topics of the newer of two images whose settings are others than before, sorted by name.
// Like Diff it looks only at parts that the images do not share.
func Reconfigured(older, newer *Image) []*Topic {
	var changed []*Topic
	if older.byID == newer.byID {
		return nil
	}
	for h := range newer.byID.part {
		was, is := older.byID.part[h], newer.byID.part[h]
		if was == is || is == nil {
			continue
		}
		for id, t := range is.m {
			if before := was.get(id); before != nil && !maps.Equal(before.Configs, t.Configs) {
				changed = append(changed, t)
			}
		}
	}
	slices.SortFunc(changed, func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
	return changed
}
