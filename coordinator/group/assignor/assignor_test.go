package assignor

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// TestUnknownTopic: a subscription to a topic that does not exist is an error, as in
// Kafka.
func TestUnknownTopic(t *testing.T) {
	for _, a := range []Assignor{Uniform(), Range()} {
		for _, homogeneous := range []bool{true, false} {
			spec := Spec{Members: []Member{{ID: "a", Topics: []Topic{{1}}}}, Homogeneous: homogeneous,
				Partitions: func(Topic) int32 { return 0 }}
			_, err := a.Assign(&spec)
			if err == nil || !strings.Contains(err.Error(), "topic 01000000000000000000000000000000") {
				t.Errorf("%s, homogeneous %v: error %v, want one that names the topic", a.Name(), homogeneous, err)
			}
		}
	}
}

// TestTooManyPartitions: the numbers of partitions do not overflow.
func TestTooManyPartitions(t *testing.T) {
	spec := Spec{Members: []Member{{ID: "a", Topics: []Topic{{1}, {2}}}}, Homogeneous: true,
		Partitions: func(Topic) int32 { return 1 << 30 }}
	for _, a := range []Assignor{Uniform(), Range()} {
		if _, err := a.Assign(&spec); err == nil {
			t.Errorf("%s numbers 2^31 partitions", a.Name())
		}
	}
}

// TestNoMembers: an empty group has an empty assignment.
func TestNoMembers(t *testing.T) {
	for _, a := range []Assignor{Uniform(), Range()} {
		got, err := a.Assign(&Spec{Homogeneous: true})
		if len(got) != 0 || err != nil {
			t.Errorf("%s gives %v, %v", a.Name(), got, err)
		}
	}
}

// TestNames: these are the names that members send.
func TestNames(t *testing.T) {
	if Uniform().Name() != "uniform" || Range().Name() != "range" {
		t.Errorf("the assignors are %q and %q", Uniform().Name(), Range().Name())
	}
}

// TestWrongPresentAssignments: what the present assignments cannot say is taken away:
// partitions of two members (the first by id keeps them), and those that do not exist.
func TestWrongPresentAssignments(t *testing.T) {
	topic := Topic{1}
	for _, homogeneous := range []bool{true, false} {
		spec := Spec{Homogeneous: homogeneous, Partitions: func(Topic) int32 { return 4 }, Members: []Member{
			{ID: "b", Topics: []Topic{topic}, Assigned: map[Topic][]int32{topic: {1, 2, 3}}},
			{ID: "a", Topics: []Topic{topic, topic}, Assigned: map[Topic][]int32{topic: {-1, 0, 1, 4}}},
		}}
		got, err := Uniform().Assign(&spec)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got[0][topic], []int32{2, 3}) || !slices.Equal(got[1][topic], []int32{0, 1}) {
			t.Errorf("homogeneous %v: got %v", homogeneous, got)
		}
	}
}

// TestOrders: strings and ids are ordered as in Java.
func TestOrders(t *testing.T) {
	pieces := []string{"", "a", "b", "\u00e9", "\ud7ff", "\ue000", "\uff5e", "\U00010000", "\U0001f600", "\U0010ffff"}
	var all []string
	for _, x := range pieces {
		for _, y := range pieces {
			all = append(all, x+y)
		}
	}
	for _, x := range all {
		for _, y := range all {
			want := slices.Compare(utf16.Encode([]rune(x)), utf16.Encode([]rune(y)))
			if got := compareJava(x, y); got != want {
				t.Errorf("compareJava(%+q, %+q) = %d, want %d", x, y, got, want)
			}
		}
	}
	numbers := []int64{-1 << 63, -256, -1, 0, 1, 255, 1<<63 - 1}
	for i := range len(numbers) * len(numbers) {
		for j := range len(numbers) * len(numbers) {
			x, y := id(numbers[i/len(numbers)], numbers[i%len(numbers)]), id(numbers[j/len(numbers)], numbers[j%len(numbers)])
			if got := compareTopics(x, y); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("compareTopics(%x, %x) = %d", x, y, got)
			}
		}
	}
}

func id(high, low int64) (topic Topic) {
	binary.BigEndian.PutUint64(topic[:8], uint64(high))
	binary.BigEndian.PutUint64(topic[8:], uint64(low))
	return topic
}

// group is a random group that changes.
type group struct {
	random *rand.Rand
	counts map[Topic]int32
	topics []Topic
	spec   Spec
	named  int
}

func newGroup(seed uint64, homogeneous bool) *group {
	g := &group{random: rand.New(rand.NewPCG(seed, 0)), counts: make(map[Topic]int32)}
	for range 1 + g.random.IntN(6) {
		topic := id(int64(g.random.Uint64()), int64(g.random.Uint64()))
		g.topics = append(g.topics, topic)
		g.counts[topic] = 1 + g.random.Int32N(20)
	}
	g.spec = Spec{Homogeneous: homogeneous, Partitions: func(topic Topic) int32 { return g.counts[topic] }}
	for range 1 + g.random.IntN(12) {
		g.join()
	}
	return g
}

// join adds a member with a random id; it subscribes to all topics, or to some if
// the group is not homogeneous.
func (g *group) join() {
	g.named++
	m := Member{ID: fmt.Sprintf("m%d.%d", g.random.IntN(1000), g.named)}
	if g.random.IntN(3) == 0 {
		m.InstanceID = fmt.Sprintf("i%d.%d", g.random.IntN(1000), g.named)
	}
	m.Topics = g.some()
	at := g.random.IntN(len(g.spec.Members) + 1)
	g.spec.Members = slices.Insert(g.spec.Members, at, m)
}

func (g *group) some() []Topic {
	if g.spec.Homogeneous {
		return g.topics
	}
	if g.random.IntN(3) == 0 { // some members share memory
		return g.topics[:g.random.IntN(len(g.topics)+1)]
	}
	return slices.DeleteFunc(slices.Clone(g.topics), func(Topic) bool { return g.random.IntN(3) == 0 })
}

// leave removes a member and gives it.
func (g *group) leave() Member {
	at := g.random.IntN(len(g.spec.Members))
	m := g.spec.Members[at]
	g.spec.Members = slices.Delete(g.spec.Members, at, at+1)
	return m
}

// assign makes the new assignment the present one. It checks that each partition of a
// subscribed topic has exactly one owner, who subscribes to it; that members whose
// assignment stayed have the same map; that the old maps and slices did not change;
// and that neither another order of the members nor another run gives another result.
// It gives the number of partitions that other members had before, or nobody.
func (g *group) assign(t *testing.T, a Assignor) (moved int) {
	t.Helper()
	var before []map[Topic][]int32
	for _, m := range g.spec.Members {
		before = append(before, cloneAssignment(m.Assigned))
	}
	got, err := a.Assign(&g.spec)
	if err != nil {
		t.Fatal(err)
	}
	checkComplete(t, &g.spec, got)
	shuffled := g.spec
	shuffled.Members = slices.Clone(g.spec.Members)
	order := g.random.Perm(len(got))
	for i, j := range order {
		shuffled.Members[i] = g.spec.Members[j]
	}
	again, err := a.Assign(&shuffled)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range order {
		if !maps.EqualFunc(again[i], got[j], slices.Equal) {
			t.Fatalf("%s: member %s gets %v or %v", a.Name(), shuffled.Members[i].ID, got[j], again[i])
		}
	}
	for i := range got {
		m := &g.spec.Members[i]
		if !maps.EqualFunc(m.Assigned, before[i], slices.Equal) {
			t.Fatalf("%s: the old assignment of member %s changed", a.Name(), m.ID)
		}
		if same := maps.EqualFunc(m.Assigned, got[i], slices.Equal); same != sameMap(m.Assigned, got[i]) && len(got[i]) > 0 {
			t.Fatalf("%s: member %s had %v and has %v: the same map: %v", a.Name(), m.ID, m.Assigned, got[i], !same)
		}
		moved += size(got[i]) - kept(m.Assigned, got[i])
		m.Assigned = got[i]
	}
	return moved
}

func cloneAssignment(assigned map[Topic][]int32) map[Topic][]int32 {
	clone := maps.Clone(assigned)
	for topic, list := range clone {
		clone[topic] = slices.Clone(list)
	}
	return clone
}

// checkComplete checks that each partition has one owner, who subscribes to it.
func checkComplete(t *testing.T, spec *Spec, got []map[Topic][]int32) {
	t.Helper()
	if len(got) != len(spec.Members) {
		t.Fatalf("%d assignments for %d members", len(got), len(spec.Members))
	}
	owned := make(map[Topic]map[int32]bool)
	for i, m := range spec.Members {
		for _, topic := range m.Topics {
			if owned[topic] == nil {
				owned[topic] = make(map[int32]bool)
			}
		}
		for topic, list := range got[i] {
			if !slices.Contains(m.Topics, topic) || len(list) == 0 || !slices.IsSorted(list) {
				t.Fatalf("member %s gets %v of topic %x", m.ID, list, topic)
			}
		}
	}
	for i, m := range spec.Members {
		for topic, list := range got[i] {
			for _, p := range list {
				if p < 0 || p >= spec.Partitions(topic) || owned[topic][p] {
					t.Fatalf("member %s gets partition %d of topic %x, of %d, owned: %v", m.ID, p, topic, spec.Partitions(topic), owned[topic][p])
				}
				owned[topic][p] = true
			}
		}
	}
	for topic, partitions := range owned {
		if len(partitions) != int(spec.Partitions(topic)) {
			t.Fatalf("%d of %d partitions of topic %x are assigned", len(partitions), spec.Partitions(topic), topic)
		}
	}
}

// sizes gives the number of partitions of each member.
func (g *group) sizes() []int {
	var all []int
	for _, m := range g.spec.Members {
		all = append(all, size(m.Assigned))
	}
	return all
}

// TestUniformHomogeneous: sizes differ by one at most; nothing moves without a change;
// on a join only what the new member gets moves; on a leave only what the member had.
func TestUniformHomogeneous(t *testing.T) {
	for seed := range uint64(300) {
		g := newGroup(seed, true)
		g.assign(t, Uniform())
		for range 12 {
			var want int
			switch {
			case g.random.IntN(3) == 0:
			case len(g.spec.Members) > 1 && g.random.IntN(2) == 0:
				want = size(g.leave().Assigned)
			default:
				g.join()
				want = g.partitions() / len(g.spec.Members) // or one more
			}
			joined := slices.ContainsFunc(g.spec.Members, func(m Member) bool { return m.Assigned == nil })
			moved := g.assign(t, Uniform())
			if moved != want && !(joined && moved == want+1) {
				t.Fatalf("seed %d: %d partitions moved, want %d", seed, moved, want)
			}
			if s := g.sizes(); slices.Max(s)-slices.Min(s) > 1 {
				t.Fatalf("seed %d: members have %v partitions", seed, s)
			}
		}
	}
}

// partitions counts the partitions of all topics.
func (g *group) partitions() (n int) {
	for _, count := range g.counts {
		n += int(count)
	}
	return n
}

// TestUniformHeterogeneous: after a change no single move makes the balance better,
// and nothing moves without a change.
func TestUniformHeterogeneous(t *testing.T) {
	for seed := range uint64(300) {
		g := newGroup(seed, false)
		g.assign(t, Uniform())
		for range 12 {
			switch g.random.IntN(4) {
			case 0:
				g.join()
			case 1:
				if len(g.spec.Members) > 1 {
					g.leave()
				}
			case 2:
				g.spec.Members[g.random.IntN(len(g.spec.Members))].Topics = g.some()
			default:
				g.counts[g.topics[g.random.IntN(len(g.topics))]] += g.random.Int32N(5)
			}
			g.assign(t, Uniform())
			g.checkBalance(t)
			if moved := g.assign(t, Uniform()); moved != 0 {
				t.Fatalf("seed %d: %d partitions moved without a change", seed, moved)
			}
		}
	}
}

// checkBalance checks that no single move would help: whoever has a partition of a
// topic has at most one partition more in all than any other subscriber of it.
func (g *group) checkBalance(t *testing.T) {
	t.Helper()
	for _, from := range g.spec.Members {
		for topic := range from.Assigned {
			for _, to := range g.spec.Members {
				if slices.Contains(to.Topics, topic) && size(from.Assigned) > size(to.Assigned)+1 {
					t.Fatalf("member %s has %d partitions, some of topic %x; %s, which subscribes to it too, has %d",
						from.ID, size(from.Assigned), topic, to.ID, size(to.Assigned))
				}
			}
		}
	}
}

// TestRangeProperties: each member has one range of each topic, the sizes in a topic
// differ by one at most, ranges follow the order of the members, and topics of the
// same size and the same subscribers are cut at the same places.
func TestRangeProperties(t *testing.T) {
	for seed := range uint64(300) {
		for _, homogeneous := range []bool{true, false} {
			g := newGroup(seed, homogeneous)
			g.counts[g.topics[0]] = g.counts[g.topics[len(g.topics)-1]]
			g.assign(t, Range())
			if moved := g.assign(t, Range()); moved != 0 {
				t.Fatalf("seed %d: %d partitions moved without a change", seed, moved)
			}
			slices.SortFunc(g.spec.Members, func(a, b Member) int {
				return slices.Compare([]string{staticFirst(a), a.ID}, []string{staticFirst(b), b.ID})
			})
			cuts := make(map[string][]int32)
			for _, topic := range g.topics {
				g.checkRanges(t, topic, cuts)
			}
		}
	}
}

// staticFirst is a key that orders static members before others.
func staticFirst(m Member) string {
	if m.InstanceID == "" {
		return "\xff"
	}
	return m.InstanceID
}

// checkRanges checks the ranges of one topic, and that cuts has the same ones for
// topics of the same size with the same subscribers.
func (g *group) checkRanges(t *testing.T, topic Topic, cuts map[string][]int32) {
	t.Helper()
	key := fmt.Sprint(g.counts[topic])
	var all, sizes []int32
	for _, m := range g.spec.Members {
		if !slices.Contains(m.Topics, topic) {
			continue
		}
		key += " " + m.ID
		all = append(all, m.Assigned[topic]...)
		sizes = append(sizes, int32(len(m.Assigned[topic])))
	}
	for i, p := range all {
		if int(p) != i {
			t.Fatalf("the ranges of topic %x are, one after the other, %v", topic, all)
		}
	}
	if len(sizes) > 0 && slices.Max(sizes)-slices.Min(sizes) > 1 {
		t.Fatalf("the ranges of topic %x have sizes %v", topic, sizes)
	}
	if other, ok := cuts[key]; ok && !slices.Equal(other, sizes) {
		t.Fatalf("two topics of the same members are cut into %v and %v", other, sizes)
	}
	cuts[key] = sizes
}

// FuzzAssign gives both assignors groups whose present assignments are any numbers at all.
func FuzzAssign(f *testing.F) {
	f.Add([]byte{3, 4, 1, 2, 7, 1, 0, 3, 7, 0, 2, 1, 9, 2, 0, 1, 2, 3})
	f.Add([]byte("a group of members with topics and partitions, more or less"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, homogeneous := range []bool{true, false} {
			spec := fuzzSpec(data, homogeneous)
			for _, a := range []Assignor{Uniform(), Range()} {
				got, err := a.Assign(spec)
				if err != nil {
					t.Fatal(err)
				}
				checkComplete(t, spec, got)
			}
		}
	})
}

// fuzzSpec reads a group of up to 16 members and 8 topics of up to 32 partitions.
func fuzzSpec(data []byte, homogeneous bool) *Spec {
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	var topics []Topic
	counts := make(map[Topic]int32)
	for n := next() % 9; n > 0; n-- {
		b := next()
		topic := Topic{b >> 5, 15: b}
		topics = append(topics, topic)
		counts[topic] = 1 + int32(b&31)
	}
	spec := &Spec{Homogeneous: homogeneous, Partitions: func(topic Topic) int32 { return counts[topic] }}
	for n := next() % 17; n > 0; n-- {
		m := Member{ID: string([]byte{next(), n}), Assigned: make(map[Topic][]int32), Topics: topics}
		subscribed := next()
		if !homogeneous {
			m.Topics = nil
			for i, topic := range topics {
				if subscribed>>i&1 != 0 {
					m.Topics = append(m.Topics, topic)
				}
			}
		}
		for held := next() % 8; held > 0; held-- {
			topic := Topic{15: next()}
			if len(topics) > 0 && topic[15] < 240 {
				topic = topics[int(topic[15])%len(topics)]
			}
			m.Assigned[topic] = append(m.Assigned[topic], int32(int8(next()))/2)
		}
		for _, list := range m.Assigned {
			slices.Sort(list)
		}
		spec.Members = append(spec.Members, m)
	}
	return spec
}
