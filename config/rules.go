package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule is a condition between settings. name is the setting whose place goes
// in front of the message.
type rule struct {
	name string
	ok   bool
	why  string
}

// checkRules holds the static settings against the rules of KafkaConfig that
// one combined node can break, and against our own limits.
func (c *Config) checkRules() []error {
	var wrong []error
	for _, rules := range [][]rule{c.identityRules(), c.logRules(), c.networkRules(), c.groupRules()} {
		for _, r := range rules {
			if !r.ok {
				wrong = append(wrong, c.at(r.name, &ValueError{r.name, r.why}))
			}
		}
	}
	if err := c.checkQuorum(); err != nil {
		wrong = append(wrong, c.at("controller.quorum.voters", err))
	}
	if err := c.checkConnectionOverrides(); err != nil {
		wrong = append(wrong, c.at("max.connections.per.ip.overrides", err))
	}
	if err := c.checkListeners(); err != nil {
		wrong = append(wrong, err)
	}
	return wrong
}

func (c *Config) identityRules() []rule {
	roles := c.Strings("process.roles")
	return []rule{
		{"node.id", c.Int("node.id") == c.Int("broker.id"),
			"You must set `node.id` to the same value as `broker.id`."},
		{"process.roles", slices.Contains(roles, "broker") && slices.Contains(roles, "controller"),
			"process.roles=" + strings.Join(roles, ",") + " is not supported: this process is broker and controller in one; use broker,controller or leave it out"},
	}
}

// mebibyte is the least memory Kafka gives each cleaner thread's map.
const mebibyte = 1 << 20

func (c *Config) logRules() []rule {
	retention := c.familyMillis(retentionNames)
	threads := c.Int("log.cleaner.threads")
	return []rule{
		{"log.roll.ms", c.familyMillis(rollNames) >= 1, "log.roll.ms must be greater than or equal to 1"},
		{"log.roll.jitter.ms", c.familyMillis(jitterNames) >= 0, "log.roll.jitter.ms must be greater than or equal to 0"},
		{"log.retention.ms", retention != 0, "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"},
		{"log.cleaner.dedupe.buffer.size", threads == 0 || c.Int("log.cleaner.dedupe.buffer.size")/threads > mebibyte,
			"log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."},
		c.cordonRule(c.Strings("cordoned.log.dirs")),
		{"replica.fetch.wait.max.ms", c.Int("replica.fetch.wait.max.ms") <= c.Int("replica.socket.timeout.ms"),
			"replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts"},
		{"replica.fetch.wait.max.ms", c.Int("replica.fetch.wait.max.ms") <= c.Int("replica.lag.time.max.ms"),
			"replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent changes in ISR"},
	}
}

// cordonRule holds cordoned.log.dirs against log.dirs.
func (c *Config) cordonRule(cordoned []string) rule {
	dirs := c.LogDirs()
	missing := slices.DeleteFunc(slices.Clone(cordoned), func(d string) bool { return d == "*" || slices.Contains(dirs, d) })
	return rule{"cordoned.log.dirs", len(missing) == 0,
		"All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : " + strings.Join(missing, ", ")}
}

func (c *Config) networkRules() []rule {
	queued, largest := c.Int("queued.max.request.bytes"), c.Int("socket.request.max.bytes")
	idle, delay := c.Int("connections.max.idle.ms"), c.Int("connection.failed.authentication.delay.ms")
	return []rule{
		{"queued.max.request.bytes", queued <= 0 || queued >= largest,
			"queued.max.request.bytes must be larger or equal to socket.request.max.bytes"},
		{"rotpeter.request.memory.bytes", queued > 0 || c.Int("rotpeter.request.memory.bytes") >= largest,
			"rotpeter.request.memory.bytes must be larger or equal to socket.request.max.bytes"},
		{"max.connections.per.ip", c.Int("max.connections.per.ip") != 0 || c.Text("max.connections.per.ip.overrides") != "",
			"max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set."},
		{"connections.max.idle.ms", idle < 0 || delay < idle,
			fmt.Sprintf("connection.failed.authentication.delay.ms=%d should always be less than connections.max.idle.ms=%d to prevent failed authentication responses from timing out", delay, idle)},
	}
}

// groupRules are those of GroupCoordinatorConfig and ShareGroupConfig.
func (c *Config) groupRules() []rule {
	rules := []rule{
		{"group.coordinator.rebalance.protocols", slices.Contains(c.Strings("group.coordinator.rebalance.protocols"), "classic"),
			"Disabling the 'classic' protocol is not supported."},
		{"group.consumer.assignors", !slices.ContainsFunc(c.Strings("group.consumer.assignors"), unknownAssignor),
			"only the assignors uniform and range, or the classes of Kafka with these names, can be used: no class is loaded"},
		c.codecRule("offsets.topic.compression.codec"),
		c.codecRule("share.coordinator.state.topic.compression.codec"),
	}
	for _, s := range rowsOf(Group) {
		if len(s.Synonyms) == 0 {
			continue
		}
		low, high := bounds(s.Name)
		if low != "" && high != "" {
			rules = append(rules, rule{high, c.Int(high) >= c.Int(low), high + " must be greater than or equal to " + low})
		}
		name := s.Synonyms[0]
		if low != "" {
			rules = append(rules, rule{name, c.staticInt(name) >= c.Int(low), name + " must be greater than or equal to " + low})
		}
		if high != "" {
			rules = append(rules, rule{name, c.staticInt(name) <= c.Int(high), name + " must be less than or equal to " + high})
		}
	}
	for _, p := range []string{"consumer", "share", "streams"} {
		heartbeat, session := "group."+p+".heartbeat.interval.ms", "group."+p+".session.timeout.ms"
		rules = append(rules, rule{heartbeat, c.Int(heartbeat) < c.Int(session), heartbeat + " must be less than " + session})
	}
	return rules
}

// unknownAssignor tells that a name is neither an assignor's nor that of Kafka's class for it.
func unknownAssignor(name string) bool {
	short := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(name, "org.apache.kafka.coordinator.group.assignor."), "Assignor"))
	return name != "uniform" && name != "range" && (short == name || short != "uniform" && short != "range")
}

// staticInt is Int before it is held within bounds.
func (c *Config) staticInt(name string) int64 {
	s := row(Broker, name)
	text, _ := c.text(s)
	n, err := s.parse(text)
	if err != nil {
		panic("config: unchecked value: " + err.Error())
	}
	return n.(int64)
}

// maxCompressionID is zstd's, the highest id of CompressionType.
const maxCompressionID = 4

func (c *Config) codecRule(name string) rule {
	id := c.Int(name)
	return rule{name, id >= 0 && id <= maxCompressionID, fmt.Sprintf("Unknown compression type id: %d", id)}
}

// checkQuorum wants this node among the voters, if there are any.
func (c *Config) checkQuorum() error {
	const name = "controller.quorum.voters"
	ids, err := parseVoters(name, c.Strings(name))
	if err != nil || len(ids) == 0 {
		return err
	}
	if me := c.Int("node.id"); len(ids) > 1 {
		return fmt.Errorf("%s names %d controllers; this node is its own controller: name it alone, or leave the setting out", name, len(ids))
	} else if ids[0] != me {
		return problem(name, "If process.roles contains the 'controller' role, the node id %d must be included in the set of voters %s=Set(%d)", me, name, ids[0])
	}
	return nil
}

// hostPattern is Utils.VALID_HOST_CHARACTERS.
var hostPattern = regexp.MustCompile(`^([0-9a-zA-Z\-%._:]*)$`)

// checkConnectionOverrides reads max.connections.per.ip.overrides once.
func (c *Config) checkConnectionOverrides() error {
	const name = "max.connections.per.ip.overrides"
	pairs, err := csvMap(name, c.Text(name))
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if !hostPattern.MatchString(p.Name) {
			return fmt.Errorf("%s contains invalid addresses : %s", name, p.Name)
		}
		if _, err := strconv.ParseInt(p.Value, 10, 32); err != nil {
			return fmt.Errorf("%s: %q is not a number of connections", name, p.Value)
		}
	}
	return nil
}

// MaxConnectionsPerIP gives the connections that one address may have: its
// entry in max.connections.per.ip.overrides, or max.connections.per.ip. Entries
// count for literal addresses; a host name in the overrides matches nothing,
// since this package resolves no names.
func (c *Config) MaxConnectionsPerIP(a netip.Addr) int {
	pairs, err := csvMap("", c.Text("max.connections.per.ip.overrides"))
	if err == nil {
		for _, p := range slices.Backward(pairs) {
			b, errAddr := netip.ParseAddr(p.Name)
			n, errCount := strconv.ParseInt(p.Value, 10, 32)
			if errAddr == nil && errCount == nil && a.Unmap() == b.Unmap() {
				return int(n)
			}
		}
	}
	return int(c.Int("max.connections.per.ip"))
}
