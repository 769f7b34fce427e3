package config

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// What Apache Kafka 4.3.1 answered; testdata/kafka-4.3.1/README.md tells how it
// was asked.

type oracleLine struct {
	In struct {
		Op, Type, Name                string
		Static, Configs               map[string]*string
		DynamicDefault, DynamicBroker map[string]string
		Keys                          []string
	}
	Error   *string
	Code    int
	Entries []oracleEntry
}

type oracleEntry struct {
	Name                string
	Value               *string
	ReadOnly, Sensitive bool
	Source              Origin
	Type                Type
	Synonyms            [][]any
}

func readLines[T any](t *testing.T, file string) []T {
	t.Helper()
	f, err := os.Open("testdata/kafka-4.3.1/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []T
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one T
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("%s: %v in %s", file, err, lines.Text())
		}
		all = append(all, one)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// base are the settings that Oracle.java puts under every case.
func base(over map[string]*string) Source {
	settings := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.listener.names":      "CONTROLLER",
		"controller.quorum.voters":       "1@localhost:9093",
		"listeners":                      "PLAINTEXT://:9092,CONTROLLER://:9093",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"advertised.listeners":           "PLAINTEXT://localhost:9092",
		"log.dirs":                       "/tmp/x",
	}
	for name, v := range over {
		if v == nil {
			delete(settings, name)
		} else {
			settings[name] = *v
		}
	}
	var s Source
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s.Pairs = append(s.Pairs, Pair{Name: name, Value: settings[name], Where: "t"})
	}
	return s
}

// The table has every row of Kafka's definitions, with the same facts, and no
// row of its own but those of Rotpeter and the dynamic-only ones.
func TestTableIsKafkas(t *testing.T) {
	type kafkaRow struct {
		Scope, Name, Type        string
		Required, Internal       bool
		Default, Validator, Mode *string
	}
	scopes := map[string]Scope{"broker": Broker, "topic": Topic, "group": Group, "client-metrics": ClientMetrics}
	seen := map[rowKey]bool{}
	for _, k := range readLines[kafkaRow](t, "table.jsonl") {
		s, ok := Lookup(scopes[k.Scope], k.Name)
		if !ok {
			t.Errorf("no %s setting %s", k.Scope, k.Name)
			continue
		}
		seen[rowKey{s.Scope, s.Name}] = true
		text, hasDefault := s.defaultText()
		mode := ReadOnly
		if k.Mode != nil {
			mode = map[string]Mode{"per-broker": PerBroker, "cluster-wide": ClusterWide}[*k.Mode]
		}
		if s.Type.String() != k.Type || s.Required != k.Required || s.Internal != k.Internal || s.Mode != mode ||
			hasDefault != (k.Default != nil) || hasDefault && text != *k.Default {
			t.Errorf("%s %s: ours %+v, Kafka's %+v", k.Scope, k.Name, s, k)
		}
		if validated := k.Validator != nil && *k.Validator != "non-null string"; validated != (s.Check.test != nil) {
			t.Errorf("%s %s: Kafka validates %t, we %t", k.Scope, k.Name, validated, !validated)
		}
	}
	for _, s := range Table() {
		if !seen[rowKey{s.Scope, s.Name}] && !isOurs(s) && !s.DynamicOnly {
			t.Errorf("Kafka has no %s setting %s", s.Scope, s.Name)
		}
	}
}

// startDiffers are the starts that we decide differently on purpose. Key: the
// settings as JSON. Value: a part of our error, "" if we accept.
var startDiffers = map[string]string{
	// More than Kafka's word for it: we name the limit.
	`{"process.roles":"broker"}`:        "process.roles=broker is not supported",
	`{"process.roles":"controller"}`:    "process.roles=controller is not supported",
	`{"process.roles":"broker,broker"}`: "process.roles=broker is not supported",
	// What Kafka requires has a value for one node.
	`{"process.roles":null}`:             "",
	`{"node.id":null}`:                   "",
	`{"controller.quorum.voters":""}`:    "",
	`{"controller.quorum.voters":null}`:  "",
	`{"controller.listener.names":null}`: "",
	// Unknown names and unsafe values stop the start.
	`{"no.such.setting":"1"}`:                            `unknown setting "no.such.setting"; the nearest known one is `,
	`{"config.providers":"a,a"}`:                         "config.providers=a is not supported: values are not looked up",
	`{"create.topic.policy.class.name":"com.example.P"}`: "create.topic.policy.class.name=com.example.P is not supported",
	`{"principal.builder.class":"foo"}`:                  "principal.builder.class=foo is not supported",
	`{"remote.log.storage.system.enable":"true"}`:        "tiered storage is not supported",
	`{"listener.security.protocol.map":"PLAINTEXT:PLAINTEXT,PLAINTEXT:SSL,CONTROLLER:PLAINTEXT"}`: "the security protocol SSL is not supported yet",
	// Kafka's bind fails later; ours is refused at once.
	`{"listeners":"PLAINTEXT://:99999,CONTROLLER://:9093"}`: "port 99999 is not between 0 and 65535",
	`{"listeners":"PLAINTEXT://:-1,CONTROLLER://:9093"}`:    "port -1 is not between 0 and 65535",
	// Java's way of saying that a colon is missing, a number is none, or a
	// thread pool is empty.
	`{"listener.security.protocol.map":"PLAINTEXT"}`:     `Error parsing configuration property 'listener.security.protocol.map': "PLAINTEXT" has no colon`,
	`{"max.connections.per.ip.overrides":"foo"}`:         `Error parsing configuration property 'max.connections.per.ip.overrides': "foo" has no colon`,
	`{"max.connections.per.ip.overrides":"127.0.0.1:x"}`: `"x" is not a number of connections`,
	`{"log.cleaner.threads":"0"}`:                        "",
	`{"group.share.assignors":"a,b"}`:                    "", // a class name; no class is loaded here
	`{"num.partitions":"٣"}`:                             "Not a number of type INT",
}

func TestStartAsKafka(t *testing.T) {
	used := map[string]bool{}
	for _, line := range readLines[oracleLine](t, "start.jsonl") {
		key, err := json.Marshal(line.In.Static)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if line.Error != nil {
			_, want, _ = strings.Cut(*line.Error, ": ")
			want = strings.TrimPrefix(want, "requirement failed: ")
		}
		if ours, differs := startDiffers[string(key)]; differs {
			want, used[string(key)] = ours, true
		}
		_, err = Load(base(line.In.Static))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v, want none", key, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s:\n got %v\nwant %s", key, err, want)
		}
	}
	for key := range startDiffers {
		if !used[key] {
			t.Errorf("no case %s", key)
		}
	}
}

func TestValidateAsKafka(t *testing.T) {
	for _, line := range readLines[oracleLine](t, "validate.jsonl") {
		c := mustLoad(t, base(line.In.Static))
		settings, nulls := plain(line.In.Configs)
		var err error
		switch in := line.In; {
		case in.Name == "" && in.Type != "BROKER" || in.Type == "GROUP" && len(nulls) > 0:
			continue // the API's own checks, not those of settings
		case in.Type == "TOPIC" && len(nulls) > 0:
			err = NullTopicValue(nulls)
		case in.Type == "TOPIC":
			err = c.ValidateTopic(settings)
		case in.Type == "GROUP":
			err = c.ValidateGroup(settings)
		case in.Type == "CLIENT_METRICS":
			err = c.ValidateClientMetrics(settings)
		case in.Type == "BROKER":
			err = c.ValidateBroker(settings, in.Name == "")
		}
		if line.Error == nil {
			if err != nil {
				t.Errorf("%s %v: %v, Kafka accepts", line.In.Type, settings, err)
			}
			continue
		}
		class, want, _ := strings.Cut(*line.Error, ": ")
		if len(settings) > 1 && err != nil && line.In.Type == "TOPIC" {
			continue // which of several wrong ones is told hangs on a hash order
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s %v:\n got %v\nwant %s", line.In.Type, settings, err, want)
			continue
		}
		var asRequest *RequestError
		if got := errors.As(err, &asRequest); got != (class == "InvalidRequestException") && line.In.Type != "BROKER" {
			t.Errorf("%s %v: request error %t, Kafka's is a %s", line.In.Type, settings, got, class)
		}
	}
}

func TestDescribeAsKafka(t *testing.T) {
	for _, line := range readLines[oracleLine](t, "describe.jsonl") {
		in := line.In
		if line.Code != 0 {
			continue // the API's own checks
		}
		c, err := loadRaw(t, base(in.Static)).WithDynamicDefault(in.DynamicDefault)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = c.WithDynamicBroker(in.DynamicBroker); err != nil {
			t.Fatal(err)
		}
		settings, _ := plain(in.Configs)
		var got []Entry
		switch {
		case in.Type == "TOPIC":
			got = c.DescribeTopic(settings, in.Keys)
		case in.Type == "GROUP":
			got = c.DescribeGroup(settings, in.Keys)
		case in.Type == "CLIENT_METRICS":
			got = c.DescribeClientMetrics(settings, in.Keys)
		case in.Name == "":
			got = c.DescribeBrokerDefault(in.Keys)
		default:
			got = c.DescribeBroker(in.Keys)
		}
		got = slices.DeleteFunc(got, func(e Entry) bool { return strings.HasPrefix(e.Name, "rotpeter.") })
		slices.SortFunc(line.Entries, func(a, b oracleEntry) int { return strings.Compare(a.Name, b.Name) })
		compareEntries(t, in.Type+" "+in.Name, got, line.Entries)
	}
}

func compareEntries(t *testing.T, resource string, got []Entry, want []oracleEntry) {
	t.Helper()
	names := func(n int, name func(int) string) (all []string) {
		for i := range n {
			all = append(all, name(i))
		}
		return all
	}
	ours := names(len(got), func(i int) string { return got[i].Name })
	kafkas := names(len(want), func(i int) string { return want[i].Name })
	if !slices.Equal(ours, kafkas) {
		t.Errorf("%s: entries\n got %v\nwant %v", resource, ours, kafkas)
		return
	}
	for i, e := range got {
		synonyms := [][]any{}
		for _, y := range e.Synonyms {
			var v any
			if y.Value != nil {
				v = *y.Value
			}
			synonyms = append(synonyms, []any{y.Name, v, float64(y.Source)})
		}
		o := oracleEntry{e.Name, e.Value, e.ReadOnly, e.Sensitive, e.Source, e.Type, synonyms}
		a, errA := json.Marshal(o)
		b, errB := json.Marshal(want[i])
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if string(a) != string(b) {
			t.Errorf("%s:\n got %s\nwant %s", resource, a, b)
		}
		if e.Documentation == "" && e.Type != Unknown {
			t.Errorf("%s %s has no documentation", resource, e.Name)
		}
	}
}

func plain(m map[string]*string) (settings map[string]string, nulls []string) {
	settings = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] == nil {
			nulls = append(nulls, name)
		} else {
			settings[name] = *m[name]
		}
	}
	return settings, nulls
}

func mustLoad(t *testing.T, s ...Source) *Config {
	t.Helper()
	c, err := Load(s...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loadRaw is Load without its checks and Preset's answer to internal topics:
// describing shows also what a start would refuse.
func loadRaw(t *testing.T, s Source) *Config {
	t.Helper()
	c := &Config{static: map[string]string{}, where: map[string]string{}}
	for _, p := range s.Pairs {
		c.static[p.Name], c.where[p.Name] = p.Value, p.Where
	}
	copyMissing(c.static, "node.id", "broker.id")
	copyMissing(c.static, "broker.id", "node.id")
	return c
}
