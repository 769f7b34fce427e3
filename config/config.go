package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config is what a node is told, in layers: defaults of the table, static
// settings (files, environment, command line), dynamic settings of the whole
// cluster and of this broker. The strongest layer wins, as in Kafka: dynamic
// broker, dynamic default, static, default.
//
// A Config never changes; the With methods give a new one.
type Config struct {
	static         map[string]string
	where          map[string]string // where the user gave a static setting; not those of Preset
	dynamicDefault map[string]string
	dynamicBroker  map[string]string
	listeners      []ListenerConfig
	warnings       []string
}

// Preset gives the static settings of a single node that nobody configured. A
// setting of the user takes the place of its namesake here (and log.dir that of
// log.dirs, broker.id that of node.id).
func Preset() Source {
	pairs := []Pair{
		{Name: "process.roles", Value: "broker,controller"},
		{Name: "node.id", Value: "1"},
		{Name: "controller.listener.names", Value: "CONTROLLER"},
		{Name: "listeners", Value: "PLAINTEXT://localhost:9092"},
		{Name: "log.dirs", Value: "data"},
	}
	for _, name := range []string{
		"offsets.topic.replication.factor",
		"transaction.state.log.replication.factor", "transaction.state.log.min.isr",
		"share.coordinator.state.topic.replication.factor", "share.coordinator.state.topic.min.isr",
	} {
		pairs = append(pairs, Pair{Name: name, Value: "1"})
	}
	return Source{Pairs: pairs}
}

// aliases are settings that replace one of Preset under another name.
var aliases = map[string]string{"log.dirs": "log.dir", "node.id": "broker.id"}

// Load puts the sources over Preset, each over the ones before it, and checks
// everything. The error holds all that is wrong, one a line, each with the
// place where it was written.
func Load(sources ...Source) (*Config, error) {
	c := &Config{static: map[string]string{}, where: map[string]string{}}
	for _, s := range sources {
		c.warnings = append(c.warnings, s.Warnings...)
		for _, p := range s.Pairs {
			c.static[p.Name], c.where[p.Name] = p.Value, p.Where
		}
	}
	for _, p := range Preset().Pairs {
		_, given := c.static[p.Name]
		_, other := c.static[aliases[p.Name]]
		if !given && !other {
			c.static[p.Name] = p.Value
		}
	}
	copyMissing(c.static, "node.id", "broker.id")
	copyMissing(c.static, "broker.id", "node.id")

	wrong := c.checkNames()
	wrong = append(wrong, c.checkValues()...)
	if len(wrong) == 0 { // the rules between settings need values that can be read
		wrong = append(wrong, c.checkRules()...)
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return c, nil
}

// copyMissing gives the two names of the node's id the same value
// (KafkaConfig.populateSynonyms).
func copyMissing(m map[string]string, from, to string) {
	if v, ok := m[from]; ok {
		if _, there := m[to]; !there {
			m[to] = v
		}
	}
}

// Warnings are things a user should know before the node serves. They are
// sentences for a log, in no particular rank.
func (c *Config) Warnings() []string { return slices.Clone(c.warnings) }

// GivenWithoutEffect names the settings that the user gave and that change
// nothing here, with the reason, sorted.
func (c *Config) GivenWithoutEffect() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.where)) {
		if s, ok := Lookup(Broker, name); ok && s.Effect.Kind == Ignored {
			names = append(names, name+": "+s.Effect.Why)
		}
	}
	return names
}

func (c *Config) checkNames() []error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(c.where)) {
		if s, ok := Lookup(Broker, name); ok && !s.DynamicOnly {
			continue
		}
		if l, s, ok := listenerSetting(name); ok {
			if s.Effect.Kind == Works {
				c.warn(name, fmt.Sprintf("%s has no effect for the listener %s alone yet; %s holds for all listeners", name, l, s.Name))
			}
			continue
		}
		if why, ok := findForeign(name); ok {
			c.warn(name, name+" has no effect: "+why)
			continue
		}
		wrong = append(wrong, fmt.Errorf("%s: %s", c.where[name], unknownName(name)))
	}
	return wrong
}

func (c *Config) warn(name, sentence string) {
	c.warnings = append(c.warnings, c.where[name]+": "+sentence)
}

// unknownName says what is wrong with a name in a static source.
func unknownName(name string) string {
	text := fmt.Sprintf("unknown setting %q", name)
	if hint, ok := hints[name]; ok {
		return text + "; " + hint
	}
	if known, ok := strings.CutPrefix(name, "cfg."); ok {
		if _, found := Lookup(Broker, known); found {
			return text + "; KAFKA_CFG_ is the prefix of another image, use KAFKA_ alone"
		}
	}
	if s, ok := Lookup(Broker, name); ok && s.DynamicOnly {
		return fmt.Sprintf("setting %q can only be changed at run time, not in a file", name)
	}
	if s, ok := Lookup(Topic, name); ok && !s.Internal {
		if len(s.Synonyms) == 0 {
			return fmt.Sprintf("%q is a setting of a topic, not of the broker", name)
		}
		return fmt.Sprintf("%q is a setting of a topic; the broker's default for it is %q", name, s.Synonyms[0])
	}
	if s, ok := Lookup(Group, name); ok && len(s.Synonyms) > 0 {
		return fmt.Sprintf("%q is a setting of a group; the broker's default for it is %q", name, s.Synonyms[0])
	}
	prefix := ""
	if rest, ok := strings.CutPrefix(name, "listener.name."); ok {
		if l, base, ok := strings.Cut(rest, "."); ok {
			prefix, name = "listener.name."+l+".", base
		}
	}
	return text + "; the nearest known one is " + prefix + Nearest(Broker, name)
}

func (c *Config) checkValues() []error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(c.static)) {
		s := settingFor(name)
		if s.Type == Unknown {
			continue
		}
		_, err := s.parse(c.static[name])
		if err == nil {
			err = c.checkRefused(s)
		}
		if err != nil {
			wrong = append(wrong, c.at(name, err))
		}
	}
	return wrong
}

// at puts the place where name was given in front of an error.
func (c *Config) at(name string, err error) error {
	if where := c.where[name]; where != "" {
		return fmt.Errorf("%s: %w", where, err)
	}
	return err
}

// checkRefused stops values that would be unsafe to ignore.
func (c *Config) checkRefused(s Setting) error {
	if s.Effect.Kind != Refused {
		return nil
	}
	given, err := s.parse(c.static[s.Name])
	if err != nil {
		return err
	}
	text, _ := format(given)
	if normal, ok := s.defaultText(); text == "" || ok && text == normal {
		return nil
	}
	return &ValueError{s.Name, fmt.Sprintf("%s=%s is not supported: %s", s.Name, text, s.Effect.Why)}
}

// WithDynamicDefault gives a Config with these dynamic settings of the whole
// cluster in place of the ones before (KIP-226). Values that cannot be read are
// left out and named in the error; the Config is good either way.
func (c *Config) WithDynamicDefault(settings map[string]string) (*Config, error) {
	valid, err := validDynamic(settings)
	d := *c
	d.dynamicDefault = valid
	return &d, err
}

// WithDynamicBroker gives a Config with these dynamic settings of this broker
// in place of the ones before, as WithDynamicDefault does.
func (c *Config) WithDynamicBroker(settings map[string]string) (*Config, error) {
	valid, err := validDynamic(settings)
	d := *c
	d.dynamicBroker = valid
	return &d, err
}

func validDynamic(settings map[string]string) (map[string]string, error) {
	valid := map[string]string{}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if s := settingFor(name); s.Type != Unknown {
			if _, err := s.parse(settings[name]); err != nil {
				wrong = append(wrong, err)
				continue
			}
		}
		valid[name] = settings[name]
	}
	return valid, errors.Join(wrong...)
}

// text gives the strongest text of a broker setting, without its family, or
// ok=false when there is none (Kafka's null).
func (c *Config) text(s Setting) (text string, ok bool) {
	for _, layer := range []map[string]string{c.dynamicBroker, c.dynamicDefault, c.static} {
		if text, ok := layer[s.Name]; ok {
			return text, true
		}
	}
	return s.defaultText()
}

// value gives the strongest value of a broker setting, or nil for null.
func (c *Config) value(name string) value {
	s := row(Broker, name)
	text, ok := c.text(s)
	if !ok {
		return nil
	}
	v, err := s.parse(text)
	if err != nil { // Load and the With methods let nothing unreadable in
		panic("config: unchecked value: " + err.Error())
	}
	if group, found := strings.CutPrefix(name, "group."); found && strings.HasSuffix(group, ".assignment.interval.ms") {
		// A dynamic value may lie outside the static bounds
		// (GroupCoordinatorConfig.clampDynamicConfigs).
		return c.clamp(group, v.(int64))
	}
	return v
}

// given says whether the user set a static setting.
func (c *Config) given(name string) bool {
	_, ok := c.where[name]
	return ok
}

// Bool gives the value of a BOOLEAN broker setting. Like the other getters it
// panics if the table has no such setting: names are written in the program.
func (c *Config) Bool(name string) bool { return get[bool](c, name) }

// Int gives the value of an INT, SHORT or LONG broker setting, 0 for null.
func (c *Config) Int(name string) int64 { return get[int64](c, name) }

// Float gives the value of a DOUBLE broker setting.
func (c *Config) Float(name string) float64 { return get[float64](c, name) }

// Strings gives the value of a LIST broker setting, nil for null.
func (c *Config) Strings(name string) []string { return get[[]string](c, name) }

// Text gives the value of a STRING, CLASS or PASSWORD broker setting, "" for
// null.
func (c *Config) Text(name string) string { return get[string](c, name) }

func get[T any](c *Config, name string) T {
	v := c.value(name)
	if v == nil {
		var zero T
		return zero
	}
	t, ok := v.(T)
	if !ok {
		panic(fmt.Sprintf("config: %s is a %T", name, v))
	}
	return t
}
