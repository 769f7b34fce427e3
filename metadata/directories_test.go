package metadata

import (
	"fmt"
	"slices"
	"testing"
)

// describe shows the partitions of a topic: leader, leader epoch, ISR, ELR and directory.
func (n *node) describe(topic string) string {
	s := ""
	for _, p := range n.s.Image().Topic(topic).Partitions {
		dir := p.Directory(1)
		s += fmt.Sprintf("%d/%d isr%v elr%v last%v dir %d offline%v; ", p.Leader, p.LeaderEpoch, p.ISR, p.ELR, p.LastKnownELR, dir[15], n.s.Image().OfflineReplicas(&p))
	}
	return s
}

func (n *node) expect(topic, want string) {
	n.t.Helper()
	if got := n.describe(topic); got != want {
		n.t.Errorf("%s\nis   %s\nwant %s", topic, got, want)
	}
	n.checkLoad()
}

// A log directory fails, stays away over a restart, and comes back: its partitions
// lose their leader and get it back, the others keep theirs.
func TestDirectoriesOffline(t *testing.T) {
	n := newNode(t)
	one, two := testID(201), testID(202)
	n.ask(Bootstrap{})
	n.ask(RegisterBroker{Incarnation: testID(1), Epoch: 5, Directories: [][16]byte{two, one}, Clean: true})
	if got := n.s.Image().Broker(1).Directories; !slices.Equal(got, [][16]byte{one, two}) {
		t.Errorf("registered with %x", got)
	}
	n.ask(CreateTopics{Topics: []NewTopic{{Name: "a", Partitions: 4, ReplicationFactor: 1}}})
	n.expect("a", "1/0 isr[1] elr[] last[] dir 1 offline[]; 1/0 isr[1] elr[] last[] dir 1 offline[]; 1/0 isr[1] elr[] last[] dir 1 offline[]; 1/0 isr[1] elr[] last[] dir 1 offline[]; ")
	id := n.s.Image().Topic("a").ID
	assign := AssignDirectories{Assignments: []DirectoryAssignment{{id, 0, one}, {id, 1, two}, {id, 2, one}, {id, 9, one}, {testID(999), 0, one}}}
	if got := len(n.do(assign).Records); got != 3 {
		t.Errorf("%d records for 3 assignments", got)
	}
	if got := len(n.do(assign).Records); got != 0 {
		t.Errorf("%d records for what is recorded already", got)
	}
	// 3 is in the second directory too, and nobody has said so yet.
	off := DirectoriesOffline{Directories: [][16]byte{two}, Lost: []DirectoryAssignment{{id, 1, two}, {id, 3, two}}}
	if got := n.ask(off).(Offline); got.Partitions != 2 {
		t.Errorf("%+v", got)
	}
	offline := "1/0 isr[1] elr[] last[] dir 201 offline[]; -1/1 isr[] elr[1] last[1] dir 202 offline[1]; 1/0 isr[1] elr[] last[] dir 201 offline[]; -1/1 isr[] elr[1] last[1] dir 2 offline[1]; "
	n.expect("a", offline)
	if got := n.do(off).Records; len(got) != 0 {
		t.Errorf("%d records for directories that are offline already", len(got))
	}
	if got := n.s.Image().Broker(1).Directories; !slices.Equal(got, [][16]byte{one}) {
		t.Errorf("the directories in service are %x", got)
	}

	n.ask(RegisterBroker{Incarnation: testID(2), Epoch: 50, Directories: [][16]byte{one}, SomeOffline: true, Clean: true})
	n.expect("a", offline)
	n.ask(RegisterBroker{Incarnation: testID(3), Epoch: 60, Directories: [][16]byte{one, two}, Clean: true})
	n.expect("a", "1/0 isr[1] elr[] last[] dir 201 offline[]; 1/2 isr[1] elr[] last[] dir 202 offline[]; 1/0 isr[1] elr[] last[] dir 201 offline[]; 1/2 isr[1] elr[] last[] dir 2 offline[1]; ")
}

// A start with a directory away takes the leader from its partitions; one without the directory
// in log.dirs makes them anew.
func TestDirectoriesAway(t *testing.T) {
	for _, offline := range []bool{true, false} {
		n := newNode(t)
		one, two := testID(201), testID(202)
		n.ask(Bootstrap{})
		n.ask(RegisterBroker{Incarnation: testID(1), Epoch: 5, Directories: [][16]byte{one, two}, Clean: true})
		n.ask(CreateTopics{Topics: []NewTopic{{Name: "a", Partitions: 2, ReplicationFactor: 1}}})
		id := n.s.Image().Topic("a").ID
		n.ask(AssignDirectories{Assignments: []DirectoryAssignment{{id, 0, one}, {id, 1, two}}})
		n.ask(RegisterBroker{Incarnation: testID(2), Epoch: 50, Directories: [][16]byte{one}, SomeOffline: offline, Clean: false})
		want := "1/1 isr[1] elr[] last[] dir 201 offline[]; 1/1 isr[1] elr[] last[] dir 202 offline[1]; "
		if offline {
			want = "1/1 isr[1] elr[] last[] dir 201 offline[]; -1/1 isr[] elr[1] last[1] dir 202 offline[1]; "
		}
		n.expect("a", want)
	}
}

// Without ELR (KIP-966) the last member stays in the ISR; before directories had ids nothing is recorded of them.
func TestDirectoriesOfOlderLevels(t *testing.T) {
	for level, want := range map[int16]string{
		21: "-1/1 isr[1] elr[] last[] dir 201 offline[1]; ",
		16: "-1/1 isr[1] elr[] last[] dir 0 offline[]; ",
	} {
		n := newNode(t)
		n.apply(level, &FeatureLevelRecord{Name: FeatureMetadataVersion, FeatureLevel: level})
		n.ask(RegisterBroker{Incarnation: testID(1), Epoch: 5, Directories: [][16]byte{testID(201), testID(202)}, Clean: true})
		n.ask(CreateTopics{Topics: []NewTopic{{Name: "a", Partitions: 1, ReplicationFactor: 1}}})
		id := n.s.Image().Topic("a").ID
		n.ask(AssignDirectories{Assignments: []DirectoryAssignment{{id, 0, testID(201)}}})
		n.ask(DirectoriesOffline{Directories: [][16]byte{testID(201)}, Lost: []DirectoryAssignment{{Topic: id}}})
		n.expect("a", want)
	}
}

// A node all of whose directories are cordoned gets no new partitions.
func TestCordonDirectories(t *testing.T) {
	n := newNode(t)
	one, two := testID(201), testID(202)
	n.ask(Bootstrap{})
	n.ask(RegisterBroker{Incarnation: testID(1), Epoch: 5, Directories: [][16]byte{one, two}, Cordoned: [][16]byte{two}, Clean: true})
	create := func(name string) int16 {
		return n.ask(CreateTopics{Topics: []NewTopic{{Name: name, Partitions: 1, ReplicationFactor: 1}}}).(TopicsCreated).Topics[0].Code
	}
	if code := create("a"); code != 0 {
		t.Errorf("with one of two cordoned: %d", code)
	}
	n.ask(CordonDirectories{Directories: [][16]byte{two, one}})
	if code := create("b"); code != 38 {
		t.Errorf("with both cordoned: %d, want 38", code)
	}
	if got := n.do(CordonDirectories{Directories: [][16]byte{one, two}}).Records; len(got) != 0 {
		t.Errorf("%d records for no change", len(got))
	}
	n.ask(CordonDirectories{})
	if code := create("b"); code != 0 {
		t.Errorf("with none cordoned: %d", code)
	}
	n.checkLoad()
}
