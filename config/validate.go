package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// RequestError says that a change of settings is wrong as a request: a broker
// answers it with INVALID_REQUEST. Other errors of the Validate methods are
// *ValueError, which means INVALID_CONFIG.
type RequestError struct{ Message string }

func (e *RequestError) Error() string { return e.Message }

// ValidateTopic checks the overrides of a topic that is created or altered
// (LogConfig.validate). The error is a *ValueError with Kafka's text; of
// several it tells the first by name.
func (c *Config) ValidateTopic(overrides map[string]string) error {
	if err := knownNames(Topic, overrides, "Unknown topic config name: "); err != nil {
		return err
	}
	values, err := c.validValues(Topic, overrides)
	if err != nil {
		return err
	}
	low, high := values["min.compaction.lag.ms"].(int64), values["max.compaction.lag.ms"].(int64)
	if low > high {
		return &ValueError{"min.compaction.lag.ms", fmt.Sprintf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", low, high)}
	}
	if values["remote.storage.enable"].(bool) {
		return &ValueError{"remote.storage.enable", "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."}
	}
	return nil
}

// NullTopicValue is the error for overrides that were sent without a value.
func NullTopicValue(names []string) error {
	return &ValueError{strings.Join(names, ","), "Null value not supported for topic configs: " + strings.Join(names, ",")}
}

// ValidateGroup checks the overrides of a group (GroupConfig.validate).
func (c *Config) ValidateGroup(overrides map[string]string) error {
	if err := knownNames(Group, overrides, "Unknown group config name: "); err != nil {
		return err
	}
	values, err := c.validValues(Group, overrides)
	if err != nil {
		return err
	}
	for _, s := range rowsOf(Group) {
		n, isNumber := values[s.Name].(int64)
		if !isNumber {
			continue
		}
		low, high := bounds(s.Name)
		if low != "" && n < c.Int(low) {
			return &ValueError{s.Name, s.Name + " must be greater than or equal to " + low}
		}
		if high != "" && n > c.Int(high) {
			return &ValueError{s.Name, s.Name + " must be less than or equal to " + high}
		}
	}
	for _, p := range []string{"consumer", "share", "streams"} {
		session, heartbeat := p+".session.timeout.ms", p+".heartbeat.interval.ms"
		if values[session].(int64) <= values[heartbeat].(int64) {
			return &ValueError{session, session + " must be greater than " + heartbeat}
		}
	}
	return nil
}

const (
	minPushMillis = 100
	maxPushMillis = 3600000
)

// clientMatchKeys are what a client metrics subscription can select by.
var clientMatchKeys = []string{
	"client_instance_id", "client_id", "client_software_name", "client_software_version",
	"client_source_address", "client_source_port",
}

// ValidateClientMetrics checks the settings of a client metrics subscription
// (ClientMetricsConfigs.validate). Patterns are read as Go's regular
// expressions: what Java's have on top (look-ahead, back references) is an
// illegal pattern here.
func (c *Config) ValidateClientMetrics(settings map[string]string) error {
	if err := knownNames(ClientMetrics, settings, ""); err != nil {
		return &RequestError{"Unknown client metrics configuration: " + err.(*ValueError).Name}
	}
	values, err := c.validValues(ClientMetrics, settings)
	if err != nil {
		return err
	}
	if n := values["interval.ms"].(int64); n < minPushMillis || n > maxPushMillis {
		return &RequestError{fmt.Sprintf("Invalid value %d for interval.ms, interval must be between %d and %d (1 hour)", n, minPushMillis, maxPushMillis)}
	}
	for _, selector := range values["match"].([]string) {
		parts := strings.Split(selector, "=")
		ok := len(parts) == 2 && slices.Contains(clientMatchKeys, trim(parts[0]))
		if ok {
			_, err := regexp.Compile(trim(parts[1]))
			ok = err == nil
		}
		if !ok {
			return &ValueError{"match", "Illegal client matching pattern: " + selector}
		}
	}
	return nil
}

func knownNames(scope Scope, overrides map[string]string, complaint string) error {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if _, ok := Lookup(scope, name); !ok {
			return &ValueError{name, complaint + name}
		}
	}
	return nil
}

// validValues is effective with the first error alone.
func (c *Config) validValues(scope Scope, overrides map[string]string) (map[string]value, error) {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if _, err := row(scope, name).parse(overrides[name]); err != nil {
			return nil, err
		}
	}
	values, err := c.effective(scope, overrides)
	return values, err
}

// clusterLevelListenerSettings may be changed for a listener of all brokers at
// once (DynamicBrokerConfig).
var clusterLevelListenerSettings = []string{"max.connections", "max.connection.creation.rate", "num.network.threads"}

// ValidateBroker checks dynamic settings of one broker, or of the whole
// cluster if cluster (DynamicBrokerConfig.validateConfigs). Names that the
// table does not know are accepted, as Kafka accepts settings of plugins.
func (c *Config) ValidateBroker(settings map[string]string, cluster bool) error {
	var static, security, perBroker []string
	sorted := slices.Sorted(maps.Keys(settings))
	for _, name := range sorted {
		s, inTable := Lookup(Broker, name)
		_, base, forListener := listenerSetting(name)
		switch {
		case inTable && s.Mode == ReadOnly:
			static = append(static, name)
		case inTable && strings.HasPrefix(name, "ssl."):
			security = append(security, name)
		case inTable && s.Mode == PerBroker,
			forListener && !slices.Contains(clusterLevelListenerSettings, base.Name):
			perBroker = append(perBroker, name)
		}
	}
	if len(static) > 0 {
		return &RequestError{"Cannot update these configs dynamically: " + javaSet(static)}
	}
	if len(security) > 0 {
		return &RequestError{"These security configs can be dynamically updated only per-listener using the listener prefix: " + javaSet(security)}
	}
	for _, name := range sorted {
		if s := settingFor(name); s.Type != Unknown {
			if _, err := s.parse(settings[name]); err != nil {
				return err
			}
		}
	}
	if cluster && len(perBroker) > 0 {
		return &RequestError{"Cannot update these configs at default cluster level, broker id must be specified: " + javaSet(perBroker)}
	}
	if text, ok := settings["cordoned.log.dirs"]; ok {
		dirs, err := row(Broker, "cordoned.log.dirs").parse(text)
		if err != nil {
			return err
		}
		if r := c.cordonRule(dirs.([]string)); !r.ok {
			return &RequestError{"requirement failed: " + r.why}
		}
	}
	return nil
}

func javaSet(names []string) string { return "[" + strings.Join(names, ", ") + "]" }
