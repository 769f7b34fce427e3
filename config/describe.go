package config

import (
	"maps"
	"slices"
)

// Origin is where a value comes from, with its number on the wire
// (DescribeConfigsResponse.ConfigSource).
type Origin int8

// The origins. 6 is that of broker loggers, which are no settings.
const (
	FromTopic          Origin = 1
	FromDynamicBroker  Origin = 2
	FromDynamicDefault Origin = 3
	FromStatic         Origin = 4
	FromDefault        Origin = 5
	FromClientMetrics  Origin = 7
	FromGroup          Origin = 8
)

// Entry is one setting of an answer to DescribeConfigs. Synonyms and
// Documentation are always there; the answer leaves out what was not asked for.
type Entry struct {
	Name          string
	Value         *string // nil: null, or sensitive
	ReadOnly      bool
	Source        Origin
	Sensitive     bool
	Type          Type
	Documentation string
	Synonyms      []Synonym
}

// Synonym is one place that has or could have given the value, the strongest
// first.
type Synonym struct {
	Name   string
	Value  *string
	Source Origin
}

// DescribeTopic describes the settings of a topic with these overrides. Of
// keys, nil or empty means all; unknown keys are left out. As in Kafka, a value
// that comes from a sibling in another unit (log.retention.hours) has no
// synonyms and the source default.
func (c *Config) DescribeTopic(overrides map[string]string, keys []string) []Entry {
	return c.describe(Topic, FromTopic, overrides, keys)
}

// DescribeGroup describes the settings of a group, whether it exists or not.
func (c *Config) DescribeGroup(overrides map[string]string, keys []string) []Entry {
	return c.describe(Group, FromGroup, overrides, keys)
}

// DescribeClientMetrics describes a client metrics subscription.
func (c *Config) DescribeClientMetrics(overrides map[string]string, keys []string) []Entry {
	return c.describe(ClientMetrics, FromClientMetrics, overrides, keys)
}

func (c *Config) describe(scope Scope, own Origin, overrides map[string]string, keys []string) []Entry {
	values, _ := c.effective(scope, overrides) // what cannot be read shows the default, as it is in force
	var entries []Entry
	for _, s := range rowsOf(scope) {
		_, overridden := overrides[s.Name]
		if !wanted(keys, s.Name) || s.Internal && !overridden {
			continue
		}
		e := Entry{Name: s.Name, Type: s.Type, Documentation: s.Doc, Value: shownValue(values[s.Name])}
		if overridden {
			e.Synonyms = append(e.Synonyms, Synonym{s.Name, e.Value, own})
		}
		e.Synonyms = append(e.Synonyms, c.inherited(s, e.Value)...)
		e.Source = firstSource(e.Synonyms)
		entries = append(entries, e)
	}
	return entries
}

// inherited gives the synonyms of a topic's or group's setting below an
// override: the broker settings of its row.
func (c *Config) inherited(s Setting, v *string) []Synonym {
	switch {
	case len(s.Synonyms) > 0:
		return c.layers(s.Synonyms[0], s.Synonyms, s.Sensitive())
	case s.Scope == Group: // has no broker setting: its own default stands in
		text, _ := s.defaultText()
		return []Synonym{{s.Name, &text, FromDefault}}
	}
	return nil
}

// layers lists what every layer holds for the names, strongest layer first,
// without what stands before the first entry of name (ConfigHelper.configSynonyms).
func (c *Config) layers(name string, names []string, sensitive bool) []Synonym {
	var all []Synonym
	add := func(synonym, text string, from Origin) {
		if len(all) == 0 && synonym != name {
			return
		}
		y := Synonym{Name: synonym, Source: from}
		if !sensitive {
			y.Value = &text
		}
		all = append(all, y)
	}
	for _, layer := range []struct {
		settings map[string]string
		from     Origin
	}{{c.dynamicBroker, FromDynamicBroker}, {c.dynamicDefault, FromDynamicDefault}, {c.static, FromStatic}} {
		for _, n := range names {
			if text, ok := layer.settings[n]; ok {
				add(n, text, layer.from)
			}
		}
	}
	for _, n := range names {
		if s, found := Lookup(Broker, n); found && !s.DynamicOnly {
			if text, ok := s.defaultText(); ok {
				add(n, text, FromDefault)
			}
		}
	}
	return all
}

// DescribeBroker describes all settings of this broker: those of the table but
// for internal ones, and every other one that was set.
func (c *Config) DescribeBroker(keys []string) []Entry {
	set := map[string]bool{}
	for _, layer := range []map[string]string{c.static, c.dynamicDefault, c.dynamicBroker} {
		for name := range layer {
			set[name] = true
		}
	}
	for _, s := range rowsOf(Broker) {
		if !s.Internal && !s.DynamicOnly {
			set[s.Name] = true
		}
	}
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if wanted(keys, name) {
			entries = append(entries, c.describeBroker(name))
		}
	}
	return entries
}

func (c *Config) describeBroker(name string) Entry {
	s := settingFor(name)
	e := brokerEntry(s)
	e.Synonyms = c.layers(name, brokerSynonyms(name), s.Sensitive())
	e.Source = firstSource(e.Synonyms)
	if s.Sensitive() {
		return e
	}
	if _, inTable := Lookup(Broker, name); inTable {
		e.Value = shownValue(c.value(name))
	} else if text, ok := c.text(s); ok {
		e.Value = &text
	}
	return e
}

// DescribeBrokerDefault describes the dynamic settings of the whole cluster,
// which is what the empty broker name stands for.
func (c *Config) DescribeBrokerDefault(keys []string) []Entry {
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(c.dynamicDefault)) {
		if !wanted(keys, name) {
			continue
		}
		s := settingFor(name)
		e := brokerEntry(s)
		if !s.Sensitive() {
			text := c.dynamicDefault[name]
			e.Value = &text
		}
		for _, y := range c.layers(name, brokerSynonyms(name), s.Sensitive()) {
			if y.Source == FromDynamicDefault {
				e.Synonyms = append(e.Synonyms, y)
			}
		}
		e.Source = firstSource(e.Synonyms)
		entries = append(entries, e)
	}
	return entries
}

func brokerEntry(s Setting) Entry {
	return Entry{Name: s.Name, ReadOnly: s.Mode == ReadOnly, Sensitive: s.Sensitive(), Type: s.Type, Documentation: s.Doc}
}

// brokerSynonyms is DynamicBrokerConfig.brokerConfigSynonyms: the family, or
// the listener's setting and the plain one.
func brokerSynonyms(name string) []string {
	if s, ok := Lookup(Broker, name); ok && len(s.Synonyms) > 0 {
		return s.Synonyms
	}
	if _, s, ok := listenerSetting(name); ok {
		return []string{name, s.Name}
	}
	return []string{name}
}

func firstSource(synonyms []Synonym) Origin {
	if len(synonyms) == 0 {
		return FromDefault
	}
	return synonyms[0].Source
}

func shownValue(v value) *string {
	text, ok := format(v)
	if !ok {
		return nil
	}
	return &text
}

func wanted(keys []string, name string) bool {
	return len(keys) == 0 || slices.Contains(keys, name)
}
