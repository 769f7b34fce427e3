package config

import "strings"

// foreign is a name that is no setting of Kafka 4.3 and is accepted all the
// same, because files and containers that work with Kafka carry it. Kafka warns
// about such names, and so do we.
type foreign struct {
	name   string
	prefix bool // every name that begins with name
	why    string
}

const (
	zookeeperGone = "ZooKeeper is gone since Kafka 4.0"
	formatGone    = "it was removed in Kafka 4.0"
	noJVM         = "there is no Java virtual machine"
	noPlugin      = "plugins written in Java cannot run here"
	noAuthorizer  = "requests are not authorized yet"
)

var foreignNames = []foreign{
	{name: "zookeeper.", prefix: true, why: zookeeperGone},
	{name: "control.plane.listener.name", why: zookeeperGone},
	{name: "broker.id.generation.enable", why: zookeeperGone},
	{name: "reserved.broker.max.id", why: zookeeperGone},
	{name: "password.encoder.", prefix: true, why: zookeeperGone},
	{name: "inter.broker.protocol.version", why: formatGone},
	{name: "log.message.format.version", why: formatGone},
	{name: "log.message.downconversion.enable", why: formatGone},
	{name: "log.message.timestamp.difference.max.ms", why: formatGone},
	{name: "offsets.commit.required.acks", why: formatGone},
	{name: "delegation.token.master.key", why: formatGone},
	{name: "jmx.port", why: noJVM},
	{name: "confluent.", prefix: true, why: "it is a setting of Confluent's own server"},
	{name: "rsm.config.", prefix: true, why: noPlugin},
	{name: "rlmm.config.", prefix: true, why: noPlugin},
	{name: "super.users", why: noAuthorizer},
	{name: "allow.everyone.if.no.acl.found", why: noAuthorizer},
	// Turned into ssl.keystore.location and the like by the start script of the
	// apache/kafka image; listeners that need them are refused.
	{name: "ssl.keystore.filename", why: ssl},
	{name: "ssl.keystore.credentials", why: ssl},
	{name: "ssl.key.credentials", why: ssl},
	{name: "ssl.truststore.filename", why: ssl},
	{name: "ssl.truststore.credentials", why: ssl},
}

// findForeign says why a foreign name has no effect.
func findForeign(name string) (why string, ok bool) {
	for _, f := range foreignNames {
		if name == f.name || f.prefix && strings.HasPrefix(name, f.name) {
			return f.why, true
		}
	}
	return "", false
}

// hints are what to use instead of names that are refused.
var hints = map[string]string{
	"port":                 "use listeners=PLAINTEXT://host:port",
	"host.name":            "use listeners=PLAINTEXT://host:port",
	"advertised.port":      "use advertised.listeners=PLAINTEXT://host:port",
	"advertised.host.name": "use advertised.listeners=PLAINTEXT://host:port",
	"cluster.id":           "a cluster's id stands in meta.properties; it is no setting",
	"broker.id.generation": "set node.id",
}

// listenerSetting splits listener.name.<listener>.<setting> and
// listener.name.<listener>.<mechanism>.<setting> (KIP-226, KIP-85) and gives
// the row that says the type of the setting.
func listenerSetting(name string) (listener string, s Setting, ok bool) {
	rest, found := strings.CutPrefix(name, "listener.name.")
	if !found {
		return "", Setting{}, false
	}
	listener, base, found := strings.Cut(rest, ".")
	if !found || listener == "" {
		return "", Setting{}, false
	}
	if s, ok := Lookup(Broker, baseSetting(base)); ok {
		return listener, s, true
	}
	return "", Setting{}, false
}

// mechanismSettings may stand behind a SASL mechanism's name.
var mechanismSettings = []string{
	"sasl.jaas.config", "sasl.login.callback.handler.class", "sasl.login.class",
	"sasl.server.callback.handler.class", "connections.max.reauth.ms",
}

func baseSetting(base string) string {
	for _, m := range mechanismSettings {
		if strings.HasSuffix(base, m) {
			return m
		}
	}
	return base
}

// settingFor finds the row that says how to read a broker setting of this
// name, looking through listener prefixes; Unknown for a foreign or custom name.
func settingFor(name string) Setting {
	if s, ok := Lookup(Broker, name); ok {
		return s
	}
	if _, s, ok := listenerSetting(name); ok {
		s.Name, s.Synonyms, s.Mode = name, nil, ReadOnly
		return s
	}
	return Setting{Name: name, NoDefault: true}
}
