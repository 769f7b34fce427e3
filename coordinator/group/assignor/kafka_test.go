package assignor

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// example is one group of a file in testdata with the assignment it must get.
type example struct {
	line     int
	assignor string
	sorted   bool // Kafka was given sorted maps
	spec     Spec
	want     []map[Topic][]int32

	topics []Topic
	counts map[Topic]int32
}

// TestRules holds the assignors against results worked out by hand.
func TestRules(t *testing.T) {
	for _, e := range readExamples(t, "testdata/rules.txt") {
		t.Run(fmt.Sprintf("line %d", e.line), func(t *testing.T) { e.compareAll(t, e.assign(t)) })
	}
}

// TestKafkasAssignments holds the assignors against those of Apache Kafka 4.3.1:
// testdata/kafka.txt was written by its UniformAssignor and RangeAssignor
// (testdata/KafkaAssignments.java). Half of the groups were given to Kafka in sorted
// maps, with topic ids whose hashes have the order of the ids: there the uniform
// assignor must agree in every partition. The others were given in hash maps, as the
// group coordinator does. Then members are numbered here in the order in which Kafka
// visited them, and where the order of topics and partitions matters as well (the
// homogeneous builder) each member must have as many partitions as in Kafka, and as
// many of those that it had. The range assignor must agree everywhere.
func TestKafkasAssignments(t *testing.T) {
	seen := make(map[string]int)
	for _, e := range readExamples(t, "testdata/kafka.txt") {
		kind := fmt.Sprintf("%s homogeneous=%v sorted=%v", e.assignor, e.spec.Homogeneous, e.sorted)
		seen[kind]++
		t.Run(fmt.Sprintf("%s line %d", kind, e.line), func(t *testing.T) {
			if e.assignor == "uniform" && !e.sorted {
				for i := range e.spec.Members {
					e.spec.Members[i].ID = fmt.Sprintf("%06d", i)
				}
			}
			got := e.assign(t)
			if e.assignor == "uniform" && e.spec.Homogeneous && !e.sorted {
				e.compareSizes(t, got)
				return
			}
			e.compareAll(t, got)
		})
	}
	if len(seen) != 8 {
		t.Errorf("the file has groups of %d kinds, want 8: %v", len(seen), seen)
	}
}

// assign runs the example's assignor.
func (e *example) assign(t *testing.T) []map[Topic][]int32 {
	t.Helper()
	for _, a := range []Assignor{Uniform(), Range()} {
		if a.Name() == e.assignor {
			got, err := a.Assign(&e.spec)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
	}
	t.Fatalf("no assignor is named %q", e.assignor)
	return nil
}

// compareAll demands the same partitions, and the same map where nothing changed.
func (e *example) compareAll(t *testing.T, got []map[Topic][]int32) {
	t.Helper()
	for i, m := range e.spec.Members {
		if !maps.EqualFunc(got[i], e.want[i], slices.Equal) {
			t.Errorf("member %s had %s, got %s, want %s", m.ID, e.show(m.Assigned), e.show(got[i]), e.show(e.want[i]))
		}
		if maps.EqualFunc(m.Assigned, e.want[i], slices.Equal) && !sameMap(m.Assigned, got[i]) {
			t.Errorf("member %s keeps its assignment, but not its map", m.ID)
		}
	}
}

// compareSizes demands as many partitions for each member, and as many kept.
func (e *example) compareSizes(t *testing.T, got []map[Topic][]int32) {
	t.Helper()
	for i, m := range e.spec.Members {
		if g, w := size(got[i]), size(e.want[i]); g != w {
			t.Errorf("member %s gets %d partitions, in Kafka %d", m.ID, g, w)
		}
		if g, w := kept(m.Assigned, got[i]), kept(m.Assigned, e.want[i]); g != w {
			t.Errorf("member %s keeps %d partitions, in Kafka %d", m.ID, g, w)
		}
	}
}

func (e *example) show(assigned map[Topic][]int32) string {
	var parts []string
	for i, topic := range e.topics {
		if list, ok := assigned[topic]; ok {
			parts = append(parts, fmt.Sprintf("%d:%v", i, list))
		}
	}
	return strings.Join(parts, " ")
}

// size counts the partitions of an assignment.
func size(assigned map[Topic][]int32) (n int) {
	for _, list := range assigned {
		n += len(list)
	}
	return n
}

// kept counts the partitions that are in both.
func kept(old, now map[Topic][]int32) (n int) {
	for topic, list := range old {
		for _, p := range list {
			if slices.Contains(now[topic], p) {
				n++
			}
		}
	}
	return n
}

func sameMap(a, b map[Topic][]int32) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// readExamples reads a file of testdata; the files say what their lines mean.
func readExamples(t *testing.T, file string) []*example {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []*example
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if words[0] == "case" {
			e := &example{line: n, assignor: words[1], sorted: words[3] == "sorted", counts: make(map[Topic]int32)}
			e.spec.Homogeneous = words[2] == "homogeneous"
			e.spec.Partitions = func(topic Topic) int32 { return e.counts[topic] }
			all = append(all, e)
			continue
		}
		if err := all[len(all)-1].read(words[0], line); err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
	}
	return all
}

// read adds a line that says something of a topic or a member.
func (e *example) read(word, line string) error {
	fields := strings.Split(line, "|")
	words := strings.Fields(fields[0])
	switch {
	case word == "topic" && len(words) == 3:
		var topic Topic
		if n, err := hex.Decode(topic[:], []byte(words[1])); err != nil || n != len(topic) {
			return fmt.Errorf("topic id %q: %d bytes, %v", words[1], n, err)
		}
		count, err := strconv.ParseInt(words[2], 10, 32)
		e.topics = append(e.topics, topic)
		e.counts[topic] = int32(count)
		return err
	case word == "member" && len(words) == 3 && len(fields) == 4:
		m := Member{ID: words[1], InstanceID: strings.TrimPrefix(words[2], "-")}
		topics, err := readSpans(strings.TrimSpace(fields[1]))
		if err != nil {
			return err
		}
		for _, n := range topics {
			m.Topics = append(m.Topics, e.topics[n])
		}
		if m.Assigned, err = e.readAssignment(fields[2]); err != nil {
			return err
		}
		want, err := e.readAssignment(fields[3])
		e.spec.Members, e.want = append(e.spec.Members, m), append(e.want, want)
		return err
	}
	return fmt.Errorf("not understood: %q", line)
}

func (e *example) readAssignment(text string) (map[Topic][]int32, error) {
	assigned := make(map[Topic][]int32)
	for _, word := range strings.Fields(text) {
		number, list, _ := strings.Cut(word, ":")
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, err
		}
		if assigned[e.topics[n]], err = readSpans(list); err != nil {
			return nil, err
		}
	}
	return assigned, nil
}

// readSpans reads numbers like 0-3,7.
func readSpans(text string) ([]int32, error) {
	var list []int32
	for span := range strings.SplitSeq(text, ",") {
		if span == "" {
			continue
		}
		from, to, isSpan := strings.Cut(span, "-")
		if !isSpan {
			to = from
		}
		first, err := strconv.ParseInt(from, 10, 32)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseInt(to, 10, 32)
		if err != nil {
			return nil, err
		}
		for n := first; n <= last; n++ {
			list = append(list, int32(n))
		}
	}
	return list, nil
}
