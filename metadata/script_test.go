package metadata

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/script"
)

var golden = flag.Bool("golden", false, "rewrite expectations")

// compareGolden compares with a file, or writes it with -golden.
func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *golden {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s", file, script.Difference(string(want), got))
	}
}

// node is a shard with its journal.
type node struct {
	t       testing.TB
	s       *Shard
	o       ShardOptions
	journal [][]byte
	keys    map[int][]byte // of the control records in it
	nextID  uint64
}

func newNode(t testing.TB) *node {
	n := &node{t: t, nextID: 100, keys: map[int][]byte{}}
	n.o = ShardOptions{
		ClusterID: "cluster", NodeID: 1, DeleteTopicEnable: true,
		DefaultPartitions: 2, DefaultReplicationFactor: 1, MinInSyncReplicas: 1,
		Voter: KRaftVoter{ID: 1, DirectoryID: testID(9000), MaxSupportedVersion: 1},
		NewID: func() [16]byte { n.nextID++; return testID(n.nextID) },
		ValidateTopicConfig: func(c map[string]string) error {
			if v, ok := c["nonsense"]; ok {
				return fmt.Errorf("Unknown topic config name: nonsense=%s", v)
			}
			return nil
		},
	}
	n.s = NewShard(n.o)
	return n
}

// testID makes small ids, which dumps show as #n.
func testID(n uint64) (id [16]byte) {
	for i := range 8 {
		id[15-i] = byte(n >> (8 * i))
	}
	return id
}

// do runs one event as the shell does and returns its result.
func (n *node) do(body any) coordinator.Result {
	n.t.Helper()
	res := n.s.Handle(time.Unix(1, 0), coordinator.Event{Token: "t", Body: body})
	for _, r := range res.Records {
		if r.Key != nil {
			n.keys[len(n.journal)] = r.Key
		}
		n.journal = append(n.journal, r.Value)
		n.s.Apply(r)
	}
	if len(res.Replies) != 1 || res.Replies[0].To != "t" || len(res.Errands) != 0 {
		n.t.Fatalf("%T: replies %+v, errands %v", body, res.Replies, res.Errands)
	}
	return res
}

// ask is do, for the reply.
func (n *node) ask(body any) any { return n.do(body).Replies[0].Body }

// load returns a shard that has read the journal.
func (n *node) load() *Shard {
	s := NewShard(n.o)
	for i, b := range n.journal {
		s.Apply(coordinator.Record{Key: n.keys[i], Value: b})
	}
	return s
}

// checkLoad holds load == live.
func (n *node) checkLoad() {
	n.t.Helper()
	s := n.load()
	if s.Err() != nil {
		n.t.Fatalf("load: %v", s.Err())
	}
	if live, loaded := dumpImage(n.s.Image()), dumpImage(s.Image()); live != loaded {
		n.t.Fatalf("load differs from live: %s", script.Difference(live, loaded))
	}
	if err := checkImage(s.Image()); err != nil {
		n.t.Fatal(err)
	}
}

// args are the words of a line: "name key=value flag".
type args map[string]string

func parseArgs(words []string) args {
	a := args{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		a[k] = v
	}
	return a
}

func (a args) int(t testing.TB, key string, otherwise int64) int64 {
	v, ok := a[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", key, v, err)
	}
	return n
}

func (a args) has(key string) bool { _, ok := a[key]; return ok }

// brokers reads "1,2".
func brokers(t testing.TB, s string) []int32 {
	ids := []int32{}
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		n, err := strconv.ParseInt(w, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, int32(n))
	}
	return ids
}

// TestScripts runs testdata/*.txt: blocks of a command with indented lines, "----"
// and what comes of it. After every command a fresh shard that reads the journal
// must have the same image. -golden rewrites what comes of it.
func TestScripts(t *testing.T) { script.Files(t, *golden, runScript) }

func runScript(t *testing.T, text string) string {
	n := newNode(t)
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		input, _, isCommand := strings.Cut(block, "----")
		if !isCommand {
			out.WriteString(block + "\n")
			continue
		}
		var lines []string
		for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		out.WriteString(input + "----\n" + n.command(lines))
		n.checkLoad()
	}
	return out.String()
}

// command runs one command of a script.
func (n *node) command(lines []string) string {
	words := strings.Fields(lines[0])
	a := parseArgs(words[1:])
	switch words[0] {
	case "bootstrap":
		return n.show(n.do(n.bootstrapEvent(lines[1:])))
	case "update":
		return n.show(n.do(n.updateEvent(a, lines[1:])))
	case "alter":
		return n.show(n.do(n.alterEvent(lines[1:])))
	case "refresh":
		return n.show(n.do(RefreshRegistration{n.registration(a)}))
	case "offline":
		return n.show(n.do(DirectoriesOffline{Directories: [][16]byte{testID(uint64(a.int(n.t, "dir", 9000)))}}))
	case "assign":
		return n.show(n.do(n.assignEvent(a)))
	case "snapshot":
		var b strings.Builder
		for r := range n.s.Image().SnapshotRecords() {
			fmt.Fprintf(&b, "record %s\n", dumpRecord(n.t, r))
		}
		return b.String()
	case "register":
		return n.show(n.do(n.registration(a)))
	case "fence":
		return n.show(n.do(FenceBroker{}))
	case "producer-ids":
		return n.show(n.do(AllocateProducerIDs{}))
	case "create":
		return n.show(n.do(n.createEvent(a, lines[1:])))
	case "delete":
		return n.show(n.do(n.deleteEvent(a, lines[1:])))
	case "grow":
		return n.show(n.do(n.growEvent(a, lines[1:])))
	case "option":
		n.o.DeleteTopicEnable = a["delete.topic.enable"] != "false"
		n.s = n.load()
		return ""
	case "restart":
		n.s = n.load()
		return ""
	case "journal": // records of another node's log
		for _, r := range readSegment(n.t, "testdata/"+a["file"]) {
			if !r.control && r.offset <= a.int(n.t, "to", 1<<40) {
				n.journal = append(n.journal, r.value)
			}
		}
		n.s = n.load()
		return ""
	case "image":
		return dumpImage(n.s.Image())
	}
	n.t.Fatalf("unknown command %q", lines[0])
	return ""
}

func (n *node) registration(a args) RegisterBroker {
	run := uint64(a.int(n.t, "run", 1))
	r := RegisterBroker{
		Incarnation: testID(run*10 + 1), ControllerIncarnation: testID(run*10 + 2), Epoch: a.int(n.t, "epoch", 10), Clean: a.has("clean"),
		Endpoints:           []Endpoint{{Name: "PLAINTEXT", Host: "localhost", Port: 9092}},
		ControllerEndpoints: []Endpoint{{Name: "CONTROLLER", Host: "localhost", Port: 9093}},
	}
	for i := range a.int(n.t, "dirs", 1) {
		r.Directories = append(r.Directories, testID(uint64(9000+i)))
	}
	if rack, ok := a["rack"]; ok {
		r.Rack = &rack
	}
	return r
}

// bootstrapEvent begins a log with the levels "feature=level" of its lines, or those of a fresh cluster.
func (n *node) bootstrapEvent(lines []string) Bootstrap {
	var b Bootstrap
	for _, line := range lines {
		name, level, _ := strings.Cut(strings.TrimSpace(line), "=")
		b.Records = append(b.Records, AppendRecord(nil, &FeatureLevelRecord{Name: name, FeatureLevel: int16(args{name: level}.int(n.t, name, 0))}, 0))
	}
	return b
}

// updateEvent reads lines "feature=level", perhaps with "safe", "unsafe" or the number of another upgrade type.
func (n *node) updateEvent(a args, lines []string) UpdateFeatures {
	u := UpdateFeatures{ValidateOnly: a.has("validate")}
	for _, line := range lines {
		words := strings.Fields(line)
		name, level, _ := strings.Cut(words[0], "=")
		one := FeatureUpdate{Name: name, Level: int16(args{name: level}.int(n.t, name, 0)), Type: Upgrade}
		if len(words) > 1 {
			switch words[1] {
			case "safe":
				one.Type = SafeDowngrade
			case "unsafe":
				one.Type = UnsafeDowngrade
			default:
				one.Type = UpgradeType(args{"type": words[1]}.int(n.t, "type", 0))
			}
		}
		u.Updates = append(u.Updates, one)
	}
	return u
}

// alterEvent reads lines "topic|broker NAME SETTING[=VALUE]", where "-" is no name; without a value the setting goes.
func (n *node) alterEvent(lines []string) AlterConfigs {
	var e AlterConfigs
	for _, line := range lines {
		words := strings.Fields(line)
		r := ResourceChange{Resource: Resource{ResourceBroker, strings.Trim(words[1], "-")}}
		if words[0] == "topic" {
			r.Type = ResourceTopic
		}
		name, value, set := strings.Cut(words[2], "=")
		c := ConfigChange{Name: name, Op: ConfigDelete}
		if set {
			c.Op, c.Value = ConfigSet, &value
		}
		r.Changes = append(r.Changes, c)
		e.Resources = append(e.Resources, r)
	}
	return e
}

func (n *node) assignEvent(a args) AssignDirectories {
	t := n.s.Image().Topic(a["topic"])
	if t == nil {
		n.t.Fatalf("no topic %q", a["topic"])
	}
	return AssignDirectories{[]DirectoryAssignment{{Topic: t.ID, Directory: testID(uint64(a.int(n.t, "dir", 9000)))}}}
}

func (n *node) createEvent(a args, lines []string) CreateTopics {
	c := CreateTopics{ValidateOnly: a.has("validate")}
	for _, line := range lines {
		words := strings.Fields(line)
		t := NewTopic{Name: strings.Trim(words[0], `"`), Partitions: 1, ReplicationFactor: 1}
		for _, w := range words[1:] {
			k, v, hasValue := strings.Cut(w, "=")
			switch k {
			case "partitions":
				t.Partitions = int32(args{k: v}.int(n.t, k, 0))
			case "rf":
				t.ReplicationFactor = int16(args{k: v}.int(n.t, k, 0))
			case "assign":
				p, ids, _ := strings.Cut(v, ":")
				t.Assignments = append(t.Assignments, Assignment{Partition: int32(args{k: p}.int(n.t, k, 0)), Brokers: brokers(n.t, ids)})
			default: // a setting; without "=" its value is null
				config := NewConfig{Name: k}
				if hasValue {
					config.Value = &v
				}
				t.Configs = append(t.Configs, config)
			}
		}
		c.Topics = append(c.Topics, t)
	}
	return c
}

func (n *node) deleteEvent(a args, lines []string) DeleteTopics {
	d := DeleteTopics{}
	if hidden, ok := a["hidden"]; ok {
		d.May = func(topic string) Access {
			return Access{Describe: !strings.HasPrefix(topic, hidden), Delete: !strings.HasPrefix(topic, hidden) && !strings.HasPrefix(topic, a["kept"])}
		}
	}
	for _, line := range lines {
		la := parseArgs(strings.Fields(line))
		ref := TopicRef{ID: testID(uint64(la.int(n.t, "id", 0)))}
		if name, ok := la["name"]; ok {
			ref.Name = &name
		}
		d.Topics = append(d.Topics, ref)
	}
	return d
}

func (n *node) growEvent(a args, lines []string) CreatePartitions {
	c := CreatePartitions{ValidateOnly: a.has("validate")}
	for _, line := range lines {
		words := strings.Fields(line)
		la := parseArgs(words[1:])
		t := MorePartitions{Name: words[0], Count: int32(la.int(n.t, "to", 0))}
		if assign, ok := la["assign"]; ok {
			t.Assignments = [][]int32{}
			for _, ids := range strings.Split(assign, ":") {
				t.Assignments = append(t.Assignments, brokers(n.t, ids))
			}
		}
		c.Topics = append(c.Topics, t)
	}
	return c
}

// show prints records and reply of a result.
func (n *node) show(res coordinator.Result) string {
	var b strings.Builder
	for i, r := range res.Records {
		if i == 20 {
			fmt.Fprintf(&b, "record (%d more)\n", len(res.Records)-i)
			break
		}
		if r.Key != nil {
			fmt.Fprintf(&b, "control %s\n", dumpControl(n.t, r.Key, r.Value))
			continue
		}
		fmt.Fprintf(&b, "record %s\n", dumpRecord(n.t, r.Value))
	}
	fail := func(f Failure) string {
		if f.Code == 0 {
			return "ok"
		}
		if f.Message == nil {
			return fmt.Sprintf("error=%d null", f.Code)
		}
		return fmt.Sprintf("error=%d %.300s", f.Code, *f.Message)
	}
	switch r := res.Replies[0].Body.(type) {
	case TopicsCreated:
		for _, t := range r.Topics {
			fmt.Fprintf(&b, "reply %.40q %s", t.Name, fail(t.Failure))
			if t.Code == 0 {
				fmt.Fprintf(&b, " id=%s partitions=%d rf=%d configs=%v", shortID(t.ID), t.Partitions, t.ReplicationFactor, t.Configs)
			}
			b.WriteString("\n")
		}
	case TopicsDeleted:
		if r.Disabled {
			b.WriteString("reply disabled\n")
		}
		for _, t := range r.Topics {
			name := "null"
			if t.Name != nil {
				name = strconv.Quote(*t.Name)
			}
			fmt.Fprintf(&b, "reply %s %s %s\n", name, shortID(t.ID), fail(t.Failure))
		}
	case FeaturesUpdated:
		fmt.Fprintf(&b, "reply %s\n", fail(r.Failure))
	case ConfigsAltered:
		for _, f := range r.Results {
			fmt.Fprintf(&b, "reply %s\n", fail(f))
		}
	case PartitionsCreated:
		for _, t := range r.Topics {
			fmt.Fprintf(&b, "reply %q %s\n", t.Name, fail(t.Failure))
		}
	default:
		fmt.Fprintf(&b, "reply %T %+v\n", r, r)
	}
	return b.String()
}
