package config

import (
	"flag"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

var golden = flag.Bool("golden", false, "rewrite expected output")

func set(pairs ...string) Source {
	s, err := ParseOverrides("--set", pairs)
	if err != nil {
		panic(err)
	}
	return s
}

func TestTableIsWellFormed(t *testing.T) {
	for i, s := range Table() {
		if i > 0 && table.rows[i-1].Scope == s.Scope && table.rows[i-1].Name == s.Name {
			t.Errorf("%s setting %s stands twice", s.Scope, s.Name)
		}
		if text, ok := s.defaultText(); ok {
			v, err := s.parse(text)
			if err != nil {
				t.Errorf("default of %s: %v", s.Name, err)
			} else if again, _ := format(v); again != text {
				t.Errorf("default of %s: %q is written %q", s.Name, text, again)
			}
		}
		if s.Required && !slices.ContainsFunc(Preset().Pairs, func(p Pair) bool { return p.Name == s.Name }) {
			t.Errorf("%s is required and Preset has no value", s.Name)
		}
		if s.Type == Unknown || (s.NoDefault || s.Required) && s.Default != "" || len(s.Name) > maxCompared {
			t.Errorf("%s: %+v", s.Name, s)
		}
		if !strings.HasSuffix(s.Doc, ".") || strings.Contains(s.Doc, "\n") {
			t.Errorf("documentation of %s: %q", s.Name, s.Doc)
		}
		if s.Effect.Kind == unstated || (s.Effect.Kind == Works) != (s.Effect.Why == "") || strings.HasSuffix(s.Effect.Why, ".") {
			t.Errorf("effect of %s: %v %q", s.Name, s.Effect.Kind, s.Effect.Why)
		}
		for _, name := range s.Synonyms {
			y, ok := Lookup(Broker, name)
			if !ok {
				t.Errorf("%s: no broker setting %s", s.Name, name)
			} else if len(s.Synonyms) == 1 && s.Scope != Broker && y.Type != s.Type {
				t.Errorf("%s is a %s, %s a %s", s.Name, s.Type, name, y.Type)
			}
		}
	}
	for _, p := range Preset().Pairs {
		if _, err := row(Broker, p.Name).parse(p.Value); err != nil {
			t.Errorf("Preset: %v", err)
		}
	}
}

// A topic's default and its broker setting's default are one value, so the
// effect of both is described alike.
func TestTopicsEffectIsItsBrokerSettings(t *testing.T) {
	for _, s := range rowsOf(Topic) {
		if len(s.Synonyms) == 0 {
			continue
		}
		if b := row(Broker, s.Synonyms[0]); b.Effect != s.Effect {
			t.Errorf("%s: %s; %s: %s", s.Name, s.Effect, b.Name, b.Effect)
		}
	}
}

func TestDefaultsOfOneNode(t *testing.T) {
	c := mustLoad(t)
	l := c.Listeners()
	want := ListenerConfig{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "localhost", Port: 9092, Advertised: true, AdvertisedHost: "localhost", AdvertisedPort: 9092}
	if len(l) != 1 || l[0] != want {
		t.Errorf("listeners %+v", l)
	}
	if c.NodeID() != 1 || c.LogDirs()[0] != "data" || c.Text("rotpeter.acks.all") != "disk" || c.Text("rotpeter.http.listener") != "localhost:9644" {
		t.Errorf("node %d, dir %s, acks %s", c.NodeID(), c.LogDirs()[0], c.Text("rotpeter.acks.all"))
	}
	if c.Int("offsets.topic.replication.factor") != 1 || c.Int("default.replication.factor") != 1 {
		t.Error("one node has one replica")
	}
	if len(c.Warnings()) != 0 || len(c.GivenWithoutEffect()) != 0 {
		t.Errorf("warnings %v, %v", c.Warnings(), c.GivenWithoutEffect())
	}
}

func TestLaterSourceWins(t *testing.T) {
	file, err := ParseProperties("f", []byte("num.partitions=2\nlog.retention.hours=5\nnum.io.threads=9\nnum.partitions=3"))
	if err != nil {
		t.Fatal(err)
	}
	env := FromEnvironment([]string{"KAFKA_NUM_PARTITIONS=4", "KAFKA_LOG_RETENTION_HOURS=6"})
	c := mustLoad(t, file, env, set("num.partitions=5"))
	if c.Int("num.partitions") != 5 || c.Int("log.retention.hours") != 6 {
		t.Errorf("partitions %d, hours %d", c.Int("num.partitions"), c.Int("log.retention.hours"))
	}
	if got := c.GivenWithoutEffect(); len(got) != 1 || !strings.HasPrefix(got[0], "num.io.threads: the Go runtime") {
		t.Errorf("without effect: %v", got)
	}
	if c := mustLoad(t, file); c.Int("num.partitions") != 3 {
		t.Errorf("the last line counts, got %d", c.Int("num.partitions"))
	}
}

func TestAliasesReplacePreset(t *testing.T) {
	c := mustLoad(t, set("log.dir=/d", "broker.id=7"))
	if c.LogDirs()[0] != "/d" || c.NodeID() != 7 {
		t.Errorf("dir %s, node %d", c.LogDirs()[0], c.NodeID())
	}
	if c := mustLoad(t, set("log.dir=/d", "log.dirs=/e")); c.LogDirs()[0] != "/e" {
		t.Errorf("dir %s", c.LogDirs()[0])
	}
}

func TestLoadErrors(t *testing.T) {
	for _, c := range []struct {
		set  []string
		want string
	}{
		{[]string{"num.partition=3"}, `--set num.partition: unknown setting "num.partition"; the nearest known one is num.partitions`},
		{[]string{"nmu.partitions=3"}, `--set nmu.partitions: unknown setting "nmu.partitions"; the nearest known one is num.partitions`},
		{[]string{"log.retention.hour=3"}, `--set log.retention.hour: unknown setting "log.retention.hour"; the nearest known one is log.retention.hours`},
		{[]string{"rotpeter.ack.all=disk"}, `--set rotpeter.ack.all: unknown setting "rotpeter.ack.all"; the nearest known one is rotpeter.acks.all`},
		{[]string{"advertised.listener=A://h:1"}, `--set advertised.listener: unknown setting "advertised.listener"; the nearest known one is advertised.listeners`},
		{[]string{"listener.name.x.max.conections=1"}, `--set listener.name.x.max.conections: unknown setting "listener.name.x.max.conections"; the nearest known one is listener.name.x.max.connections`},
		{[]string{"retention.ms=3"}, `--set retention.ms: "retention.ms" is a setting of a topic; the broker's default for it is "log.retention.ms"`},
		{[]string{"remote.storage.enable=true"}, `--set remote.storage.enable: "remote.storage.enable" is a setting of a topic, not of the broker`},
		{[]string{"consumer.session.timeout.ms=1"}, `--set consumer.session.timeout.ms: "consumer.session.timeout.ms" is a setting of a group; the broker's default for it is "group.consumer.session.timeout.ms"`},
		{[]string{"leader.replication.throttled.rate=1"}, `--set leader.replication.throttled.rate: setting "leader.replication.throttled.rate" can only be changed at run time, not in a file`},
		{[]string{"port=9092"}, `--set port: unknown setting "port"; use listeners=PLAINTEXT://host:port`},
		{[]string{"cfg.node.id=1"}, `--set cfg.node.id: unknown setting "cfg.node.id"; KAFKA_CFG_ is the prefix of another image, use KAFKA_ alone`},
		{[]string{"num.partitions=many"}, "--set num.partitions: Invalid value many for configuration num.partitions: Not a number of type INT"},
		{[]string{"listener.name.x.max.connections=many"}, "--set listener.name.x.max.connections: Invalid value many for configuration listener.name.x.max.connections: Not a number of type INT"},
		{[]string{"rotpeter.acks.all=some"}, "--set rotpeter.acks.all: Invalid value some for configuration rotpeter.acks.all: String must be one of: disk, cache"},
		{[]string{"rotpeter.http.listener=9644"}, "--set rotpeter.http.listener: Invalid value 9644 for configuration rotpeter.http.listener: Expected host:port with a port from 0 to 65535"},
		{[]string{"rotpeter.request.memory.bytes=5"}, "--set rotpeter.request.memory.bytes: rotpeter.request.memory.bytes must be larger or equal to socket.request.max.bytes"},
		{[]string{"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"},
			"--set authorizer.class.name: authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer is not supported: requests are not authorized yet: leave it empty and keep the listeners on a trusted network"},
		{[]string{"listeners=SSL://localhost:9093"}, "--set listeners: listener SSL: the security protocol SSL is not supported yet; use SSL:PLAINTEXT in listener.security.protocol.map and keep the port on a trusted network, or put a TLS proxy in front of it"},
		{[]string{"controller.quorum.voters=1@a:1,2@b:1"}, "--set controller.quorum.voters: controller.quorum.voters names 2 controllers; this node is its own controller: name it alone, or leave the setting out"},
		{[]string{"b.c=1", "num.partitions=0"}, "--set b.c: unknown setting \"b.c\"; the nearest known one is log.dir\n--set num.partitions: Invalid value 0 for configuration num.partitions: Value must be at least 1"},
	} {
		_, err := Load(set(c.set...))
		if err == nil || err.Error() != c.want {
			t.Errorf("%v:\n got %v\nwant %s", c.set, err, c.want)
		}
	}
}

func TestForeignNamesAreAccepted(t *testing.T) {
	c := mustLoad(t, set("zookeeper.connect=z:2181", "confluent.license.topic.replication.factor=1", "super.users=User:a", "listener.name.plaintext.max.connections=5"))
	got := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{
		"--set zookeeper.connect: zookeeper.connect has no effect: ZooKeeper is gone since Kafka 4.0",
		"--set confluent.license.topic.replication.factor: confluent.license.topic.replication.factor has no effect: it is a setting of Confluent's own server",
		"--set super.users: super.users has no effect: requests are not authorized yet",
		"--set listener.name.plaintext.max.connections: listener.name.plaintext.max.connections has no effect for the listener plaintext alone yet; max.connections holds for all listeners",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no warning %q in\n%s", want, got)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"num.partition": "num.partitions", "NUM.PARTITIONS": "metrics.num.samples", "listener": "listeners", "log.dris": "log.dirs",
		"log.retention.minute": "log.retention.minutes", "offset.topic.num.partitions": "offsets.topic.num.partitions",
		"": "log.dir", strings.Repeat("x", 5000): "",
	} {
		got := Nearest(Broker, name)
		if want == "" || name == "NUM.PARTITIONS" { // any name, as long as there is one
			if _, ok := Lookup(Broker, got); !ok {
				t.Errorf("%.20q: %q", name, got)
			}
		} else if got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	if d := editDistance("abcd", "acbd"); d != 1 {
		t.Errorf("a swap counts %d", d)
	}
	if d := editDistance("", "abc"); d != 3 {
		t.Errorf("three inserts count %d", d)
	}
}

// The environment that the Testcontainers module for apache/kafka sends.
func TestTestcontainers(t *testing.T) {
	c := mustLoad(t, FromEnvironment([]string{
		"CLUSTER_ID=4L6g3nShT-eMCtK--X86sw", "KAFKA_NODE_ID=1", "KAFKA_PROCESS_ROLES=broker,controller",
		"KAFKA_LISTENERS=PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094,TC-0://0.0.0.0:19092",
		"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:32768,BROKER://3f2a:9093,TC-0://kafka:19092",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TC-0:PLAINTEXT",
		"KAFKA_INTER_BROKER_LISTENER_NAME=BROKER", "KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER",
		"KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9094", "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=1",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1", "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1", "KAFKA_LOG_FLUSH_INTERVAL_MESSAGES=9223372036854775807",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0",
	}))
	var got []string
	for _, l := range c.Listeners() {
		got = append(got, l.Name+" "+l.Host+" "+l.AdvertisedHost)
	}
	if want := []string{"PLAINTEXT 0.0.0.0 localhost", "BROKER 0.0.0.0 3f2a", "CONTROLLER 0.0.0.0 ", "TC-0 0.0.0.0 kafka"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if l := c.Listeners(); !l[2].Controller || l[2].Advertised || l[0].AdvertisedPort != 32768 || l[0].Port != 9092 {
		t.Errorf("%+v", l)
	}
	if w := c.Warnings(); len(w) != 3 || !strings.HasPrefix(w[0], "listener PLAINTEXT on 0.0.0.0, port 9092, lets everybody") {
		t.Errorf("warnings %q", w)
	}
}

// Old images name only the advertised listeners, and ZooKeeper.
func TestOldComposeFile(t *testing.T) {
	c := mustLoad(t, FromEnvironment([]string{
		"KAFKA_BROKER_ID=1", "KAFKA_ZOOKEEPER_CONNECT=zookeeper:2181", "KAFKA_JMX_PORT=9101",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
		"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092",
	}))
	l := c.Listeners()
	if len(l) != 2 || l[0].Host != "0.0.0.0" || l[0].Port != 29092 || l[1].AdvertisedHost != "localhost" {
		t.Errorf("%+v", l)
	}
}

func TestListeners(t *testing.T) {
	c := mustLoad(t, set("listeners=plaintext://[::1]:0,EXT://:9094,LOCAL://127.0.0.1:9095", "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,ext:PLAINTEXT,LOCAL:PLAINTEXT", "advertised.listeners=PLAINTEXT://[2001:db8::1]:1,EXT://:9094"))
	want := []ListenerConfig{
		{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "::1", Advertised: true, AdvertisedHost: "2001:db8::1", AdvertisedPort: 1},
		{Name: "EXT", Protocol: "PLAINTEXT", Port: 9094, Advertised: true, AdvertisedPort: 9094},
		{Name: "LOCAL", Protocol: "PLAINTEXT", Host: "127.0.0.1", Port: 9095},
	}
	if got := c.Listeners(); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "listener EXT on every interface, port 9094,") {
		t.Errorf("warnings %q", w)
	}
}

func TestMaxConnectionsPerIP(t *testing.T) {
	c := mustLoad(t, set("max.connections.per.ip=3", "max.connections.per.ip.overrides=10.0.0.1:7, fe80::1:8,host:9"))
	for addr, want := range map[string]int{"10.0.0.1": 7, "::ffff:10.0.0.1": 7, "10.0.0.2": 3, "fe80::1": 8} {
		if got := c.MaxConnectionsPerIP(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %d, want %d", addr, got, want)
		}
	}
}

func TestRequestMemory(t *testing.T) {
	if n := mustLoad(t).RequestMemoryBytes(); n != 512<<20 {
		t.Errorf("got %d", n)
	}
	if n := mustLoad(t, set("queued.max.request.bytes=104857600", "rotpeter.request.memory.bytes=1")).RequestMemoryBytes(); n != 100<<20 {
		t.Errorf("got %d", n)
	}
}

func TestTopicView(t *testing.T) {
	c := mustLoad(t, set("log.retention.hours=2", "log.roll.hours=3", "log.segment.bytes=2097152"))
	v, err := c.Topic(nil)
	if err != nil {
		t.Fatal(err)
	}
	if v.RetentionMillis != 2*hourMillis || v.SegmentMillis != 3*hourMillis || v.SegmentBytes != 2<<20 || !v.Delete || v.Compact ||
		v.MaxMessageBytes != 1048588 || v.FlushMillis != 9223372036854775807 || v.CompressionType != "producer" || v.LogAppendTime {
		t.Errorf("%+v", v)
	}
	v, err = c.Topic(map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "-1", "message.timestamp.type": "LogAppendTime", "internal.segment.bytes": "77", "segment.ms": "x"})
	if err == nil || err.Error() != "Invalid value x for configuration segment.ms: Not a number of type LONG" {
		t.Errorf("error %v", err)
	}
	if !v.Delete || !v.Compact || v.RetentionMillis != -1 || !v.LogAppendTime || v.SegmentBytes != 77 || v.SegmentMillis != 3*hourMillis {
		t.Errorf("%+v", v)
	}
	dynamic, err := c.WithDynamicDefault(map[string]string{"log.retention.ms": "9", "log.roll.ms": "x"})
	if err == nil || err.Error() != "Invalid value x for configuration log.roll.ms: Not a number of type LONG" {
		t.Errorf("error %v", err)
	}
	if v, _ := dynamic.Topic(nil); v.RetentionMillis != 9 || v.SegmentMillis != 3*hourMillis {
		t.Errorf("%+v", v)
	}
	if v, _ := c.Topic(nil); v.RetentionMillis != 2*hourMillis {
		t.Error("a Config changed")
	}
}

func TestGroupView(t *testing.T) {
	c := mustLoad(t, set("group.consumer.heartbeat.interval.ms=6000"))
	v, err := c.Group(map[string]string{"consumer.session.timeout.ms": "99000", "share.isolation.level": "read_committed", "streams.num.standby.replicas": "9"})
	if err != nil {
		t.Fatal(err)
	}
	if v.Consumer != (ProtocolView{60000, 6000, 1000}) || !v.ShareReadCommitted || v.StreamsStandbyReplicas != 2 || v.ShareAutoOffsetReset != "latest" || !v.ShareRenewAcknowledge {
		t.Errorf("%+v", v)
	}
}

func TestGettersRefuseNamesWeMadeUp(t *testing.T) {
	for name, get := range map[string]func(*Config){
		"no such name": func(c *Config) { c.Int("num.partition") },
		"wrong type":   func(c *Config) { c.Bool("num.partitions") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			get(mustLoad(t))
		}()
	}
}

func TestMarkdownIsCurrent(t *testing.T) {
	const file = "../docs/CONFIG.md"
	if *golden {
		if err := os.WriteFile(file, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Markdown() {
		t.Errorf("%s is not what the table says; run: go test ./config -golden", file)
	}
}
