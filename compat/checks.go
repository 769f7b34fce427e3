package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// check is a row of the table of clients. run gets a name that is the check's
// and the client's own, for topics and groups.
type check struct {
	name string
	can  func(impl any) bool // whether a client has what the check needs
	run  func(ctx context.Context, ref *reference, c client, name string) error
}

func checks() []check {
	all := []check{{"api versions", is[apiLister], checkAPIVersions}, {"topics", is[topicAdmin], checkTopics}}
	for _, codec := range codecs() {
		all = append(all, check{"produce " + codec, is[producer], func(ctx context.Context, ref *reference, c client, name string) error {
			return checkProduce(ctx, ref, c, name, codec)
		}})
	}
	all = append(all, check{"idempotent producer", is[producer], checkIdempotent})
	for _, codec := range codecs() {
		all = append(all, check{"consume " + codec, is[consumer], func(ctx context.Context, ref *reference, c client, name string) error {
			return checkConsume(ctx, ref, c, name, codec)
		}})
	}
	return append(all,
		check{"group of 3", is[consumer], checkGroupOfThree}, check{"commit and resume", is[consumer], checkResume},
		check{"groups and lag", is[groupAdmin], checkGroups}, check{"offsets for times", is[timeFinder], checkTimes},
		check{"headers written", is[producer], checkHeadersWritten}, check{"headers read", is[consumer], checkHeadersRead},
		check{"nulls written", is[producer], checkNullsWritten}, check{"nulls read", is[consumer], checkNullsRead},
		check{"1 MB written", is[producer], checkBigWritten}, check{"1 MB read", is[consumer], checkBigRead},
	)
}

// is says whether a client can do what the interface T asks.
func is[T any](impl any) bool {
	_, ok := impl.(T)
	return ok
}

const checkPartitions = 12

// sample is records with 60 keys, 10 values each, in an order where keys take turns.
func sample() []record {
	var rs []record
	for i := range 600 {
		key := fmt.Sprintf("key-%d", i%60)
		value := fmt.Sprintf("value %d of %s %s", i/60, key, strings.Repeat("abcdefgh", 20))
		rs = append(rs, record{Key: []byte(key), Value: []byte(value)})
	}
	return rs
}

// sameByKey compares what was written with what is in the log, or was read from
// it: the same values of each key in the same order, each key in one partition.
func sameByKey(want, got []record) error {
	if len(want) != len(got) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	got = slices.Clone(got)
	slices.SortStableFunc(got, func(a, b record) int { return int(a.Offset - b.Offset) })
	byKey := map[string][]record{}
	partitions := map[int32]bool{}
	for _, r := range got {
		byKey[string(r.Key)] = append(byKey[string(r.Key)], r)
		partitions[r.Partition] = true
	}
	for _, w := range want {
		rs := byKey[string(w.Key)]
		if len(rs) == 0 {
			return fmt.Errorf("key %q: no record where %.50q was expected", w.Key, w.Value)
		}
		byKey[string(w.Key)] = rs[1:]
		if !bytes.Equal(rs[0].Value, w.Value) {
			return fmt.Errorf("key %q: value %.50q, want %.50q", w.Key, rs[0].Value, w.Value)
		}
		if len(rs) > 1 && rs[1].Partition != rs[0].Partition {
			return fmt.Errorf("key %q is in partitions %d and %d", w.Key, rs[0].Partition, rs[1].Partition)
		}
	}
	if len(partitions) < checkPartitions/2 {
		return fmt.Errorf("only %d of %d partitions were used", len(partitions), checkPartitions)
	}
	return nil
}

func checkAPIVersions(ctx context.Context, _ *reference, c client, _ string) error {
	impl := c.impl.(apiLister)
	lines, err := impl.APIs(ctx)
	if err != nil {
		return err
	}
	if !strings.Contains(lines[0], "(id: ") {
		return fmt.Errorf("first line %q", lines[0])
	}
	for _, want := range []string{"Produce(0): 0 to 13 [usable: 13]", "Fetch(1): 4 to 18 [usable: 18]", "ListOffsets(2): 1 to 11 [usable: 11]",
		"Metadata(3): 0 to 13 [usable: 13]", "OffsetCommit(8): 2 to 10 [usable: 10]", "OffsetFetch(9): 1 to 10 [usable: 10]",
		"FindCoordinator(10): 0 to 6 [usable: 6]", "JoinGroup(11): 0 to 9 [usable: 9]", "ApiVersions(18): 0 to 4 [usable: 4]",
		"CreateTopics(19): 2 to 7 [usable: 7]", "InitProducerId(22): 0 to 5 [usable: 5]", "DescribeConfigs(32): 1 to 4 [usable: 4]"} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.Trim(l, "\t,") == want }) {
			return fmt.Errorf("no line %q", want)
		}
	}
	for _, line := range lines {
		if strings.Contains(line, "UNKNOWN") {
			return fmt.Errorf("the tool does not know %q", line)
		}
	}
	return nil
}

func checkTopics(ctx context.Context, _ *reference, c client, name string) error {
	impl := c.impl.(topicAdmin)
	if err := impl.Create(ctx, name, 7); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := eventually(ctx, func() error {
		d, err := impl.Describe(ctx, name)
		if err == nil && d.Partitions != 7 {
			err = fmt.Errorf("describe: %d partitions, want 7", d.Partitions)
		}
		if err == nil && d.Retention != "" && d.Retention != "604800000" {
			err = fmt.Errorf("describe: retention.ms %s, want Kafka's default", d.Retention)
		}
		return err
	}); err != nil {
		return err
	}
	if err := impl.Create(ctx, name, 7); err == nil {
		return errors.New("a topic was created twice")
	}
	names, err := impl.Topics(ctx)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if !slices.Contains(names, name) {
		return fmt.Errorf("list: %d topics without the one just created", len(names))
	}
	if err := impl.Delete(ctx, name); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return eventually(ctx, func() error {
		names, err := impl.Topics(ctx)
		if err == nil && slices.Contains(names, name) {
			err = errors.New("list: the deleted topic is still there")
		}
		return err
	})
}

// eventually tries for a few seconds: what a client knows of topics and groups
// may be a moment old.
func eventually(ctx context.Context, f func() error) error {
	return eventuallyIn(ctx, 5*time.Second, f)
}

func eventuallyIn(ctx context.Context, limit time.Duration, f func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		if err := f(); err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}

// write has the client write records to a new topic and reads them back.
func write(ctx context.Context, ref *reference, c client, name, codec string, idempotent bool, rs []record) ([]record, error) {
	impl := c.impl.(producer)
	if err := ref.create(ctx, name, checkPartitions); err != nil {
		return nil, err
	}
	if err := impl.Produce(ctx, name, codec, idempotent, rs); err != nil {
		return nil, err
	}
	got, err := ref.readAll(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	return got, nil
}

// read writes records to a new topic and has the client read them in a group.
func read(ctx context.Context, ref *reference, c client, name, codec string, members int, rs []record) ([]record, error) {
	impl := c.impl.(consumer)
	if err := ref.create(ctx, name, checkPartitions); err != nil {
		return nil, err
	}
	if err := ref.produce(ctx, name, codec, false, rs); err != nil {
		return nil, fmt.Errorf("write for the client: %w", err)
	}
	return impl.Consume(ctx, name, name, members, len(rs))
}

func checkProduce(ctx context.Context, ref *reference, c client, name, codec string) error {
	got, err := write(ctx, ref, c, name, codec, false, sample())
	if err != nil {
		return err
	}
	for _, r := range got {
		if r.codec != codec {
			return fmt.Errorf("a batch is compressed with %s", r.codec)
		}
	}
	return sameByKey(sample(), got)
}

func checkIdempotent(ctx context.Context, ref *reference, c client, name string) error {
	got, err := write(ctx, ref, c, name, "lz4", true, sample())
	if err != nil {
		return err
	}
	for _, r := range got {
		if r.producerID < 0 {
			return errors.New("a batch has no producer id")
		}
	}
	return sameByKey(sample(), got)
}

func checkConsume(ctx context.Context, ref *reference, c client, name, codec string) error {
	got, err := read(ctx, ref, c, name, codec, 1, sample())
	if err != nil {
		return err
	}
	return sameByKey(sample(), got)
}

func checkGroupOfThree(ctx context.Context, ref *reference, c client, name string) error {
	if err := ref.create(ctx, name, checkPartitions); err != nil {
		return err
	}
	// The records come when all three are in the group: each gets its share.
	wrote := make(chan error, 1)
	writing, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := ref.waitMembers(writing, name, 3)
		if err == nil {
			err = ref.produce(writing, name, "none", false, sample())
		}
		wrote <- err
	}()
	got, err := c.impl.(consumer).Consume(ctx, name, name, 3, len(sample()))
	cancel()
	if err := errors.Join(err, <-wrote); err != nil {
		return err
	}
	owner := map[int32]int{}
	members := map[int]bool{}
	for _, r := range got {
		if m, ok := owner[r.Partition]; ok && m != r.Member {
			return fmt.Errorf("members %d and %d read partition %d", m, r.Member, r.Partition)
		}
		owner[r.Partition] = r.Member
		members[r.Member] = true
	}
	if len(members) != 3 {
		return fmt.Errorf("%d of 3 members read", len(members))
	}
	return sameByKey(sample(), got)
}

func checkResume(ctx context.Context, ref *reference, c client, name string) error {
	impl := c.impl.(consumer)
	if err := ref.create(ctx, name, checkPartitions); err != nil {
		return err
	}
	if err := ref.produce(ctx, name, "none", false, sample()); err != nil {
		return err
	}
	first, err := impl.Consume(ctx, name, name, 1, 250)
	if err != nil {
		return fmt.Errorf("first reader: %w", err)
	}
	if len(first) != 250 {
		return fmt.Errorf("first reader: %d records, want 250", len(first))
	}
	rest, err := impl.Consume(ctx, name, name, 1, len(sample())-250)
	if err != nil {
		return fmt.Errorf("second reader: %w", err)
	}
	return sameByKey(sample(), append(first, rest...))
}

func checkGroups(ctx context.Context, ref *reference, c client, name string) error {
	impl := c.impl.(groupAdmin)
	if err := ref.create(ctx, name, checkPartitions); err != nil {
		return err
	}
	if err := ref.produce(ctx, name, "none", false, sample()); err != nil {
		return err
	}
	member, err := ref.member(ctx, name, name, 250)
	if err != nil {
		return fmt.Errorf("member for the client: %w", err)
	}
	defer func() { member.Close() }()
	state := func(want string, members int) error {
		return eventually(ctx, func() error {
			g, err := impl.Group(ctx, name, name)
			if err == nil && (!strings.EqualFold(g.State, want) || g.Members != members) {
				err = fmt.Errorf("group is %s with %d members, want %s with %d", g.State, g.Members, want, members)
			}
			return err
		})
	}
	if err := state("Stable", 1); err != nil {
		return err
	}
	member.Close()
	if err := state("Empty", 0); err != nil {
		return err
	}
	names, err := impl.Groups(ctx)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if !slices.Contains(names, name) {
		return fmt.Errorf("list: %d groups without the one looked for", len(names))
	}
	if err := groupLag(ctx, ref, impl, name); err != nil {
		return err
	}
	if err := impl.DeleteGroup(ctx, name); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if names, err = impl.Groups(ctx); err == nil && slices.Contains(names, name) {
		err = errors.New("list: the deleted group is still there")
	}
	return err
}

// groupLag holds the lag that the client tells against what the group read.
// The reader committed only the partitions that it had records of.
func groupLag(ctx context.Context, ref *reference, impl groupAdmin, name string) error {
	g, err := impl.Group(ctx, name, name)
	if err != nil {
		return err
	}
	_, ends, err := ref.ends(ctx, name)
	if err != nil {
		return err
	}
	var lag, end int64
	for p, l := range g.Lag {
		lag += l
		end += ends[p]
	}
	if end-lag != 250 {
		return fmt.Errorf("lag %d of %d records, want the group to be 250 ahead of the start", lag, end)
	}
	return nil
}

func checkTimes(ctx context.Context, ref *reference, c client, name string) error {
	impl := c.impl.(timeFinder)
	if err := ref.create(ctx, name, 2); err != nil {
		return err
	}
	start := time.Now().Add(-time.Hour).UnixMilli()
	var rs []record
	for i := range 20 {
		rs = append(rs, record{Key: []byte("k"), Value: []byte("v"), Timestamp: start + int64(i)*1000})
	}
	if err := ref.produce(ctx, name, "none", true, rs); err != nil {
		return err
	}
	for _, t := range []struct{ after, want int64 }{{-5000, 0}, {5000, 5}, {5001, 6}, {19000, 19}, {19001, -1}} {
		offsets, err := impl.Times(ctx, name, 2, start+t.after)
		if err != nil {
			return err
		}
		if len(offsets) != 2 || offsets[0] != t.want || offsets[1] != -1 {
			return fmt.Errorf("%d ms after the first record: offsets %v, want 0:%d and 1:-1", t.after, offsets, t.want)
		}
	}
	return nil
}

func withHeaders() []record {
	return []record{
		{Key: []byte("k"), Value: []byte("v"), Headers: []header{{"first", []byte("1")}, {"second", []byte("two words")}}},
		{Key: []byte("k"), Value: []byte("w"), Headers: []header{{"third", []byte("3")}}},
	}
}

// sameRecords compares keys, values and headers in order of offset.
func sameRecords(want, got []record) error {
	if len(want) != len(got) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	slices.SortStableFunc(got, func(a, b record) int { return int(a.Offset - b.Offset) })
	same := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	for i, w := range want {
		g := got[i]
		if !same(w.Key, g.Key) || !same(w.Value, g.Value) {
			return fmt.Errorf("record %d is %.20q=%.20q, want %.20q=%.20q", i, g.Key, g.Value, w.Key, w.Value)
		}
		if !slices.EqualFunc(w.Headers, g.Headers, func(a, b header) bool { return a.Name == b.Name && same(a.Value, b.Value) }) {
			return fmt.Errorf("record %d has headers %q, want %q", i, g.Headers, w.Headers)
		}
	}
	return nil
}

func checkHeadersWritten(ctx context.Context, ref *reference, c client, name string) error {
	got, err := write(ctx, ref, c, name, "none", false, withHeaders())
	if err != nil {
		return err
	}
	return sameRecords(withHeaders(), got)
}

func checkHeadersRead(ctx context.Context, ref *reference, c client, name string) error {
	got, err := read(ctx, ref, c, name, "none", 1, withHeaders())
	if err != nil {
		return err
	}
	return sameRecords(withHeaders(), got)
}

// withNulls has a null value, an empty value and a null key; the keys tell the
// records apart, as their partitions may differ.
func withNulls() []record {
	return []record{{Key: nil, Value: []byte("null key")}, {Key: []byte("empty"), Value: []byte{}}, {Key: []byte("null"), Value: nil}}
}

func sameUnordered(want, got []record) error {
	for i, r := range got {
		got[i].Offset = int64(slices.IndexFunc(want, func(w record) bool { return bytes.Equal(w.Key, r.Key) && (w.Key == nil) == (r.Key == nil) }))
	}
	return sameRecords(want, got)
}

func checkNullsWritten(ctx context.Context, ref *reference, c client, name string) error {
	got, err := write(ctx, ref, c, name, "none", false, withNulls())
	if err != nil {
		return err
	}
	return sameUnordered(withNulls(), got)
}

func checkNullsRead(ctx context.Context, ref *reference, c client, name string) error {
	got, err := read(ctx, ref, c, name, "none", 1, withNulls())
	if err != nil {
		return err
	}
	return sameUnordered(withNulls(), got)
}

// big is a record a little under Kafka's default limit, of letters that do not compress.
func big() []record {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	random := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 1_000_000)
	for i := range value {
		value[i] = letters[random.IntN(len(letters))]
	}
	return []record{{Key: []byte("big"), Value: value}}
}

func checkBigWritten(ctx context.Context, ref *reference, c client, name string) error {
	got, err := write(ctx, ref, c, name, "none", false, big())
	if err != nil {
		return err
	}
	return sameRecords(big(), got)
}

func checkBigRead(ctx context.Context, ref *reference, c client, name string) error {
	got, err := read(ctx, ref, c, name, "none", 1, big())
	if err != nil {
		return err
	}
	return sameRecords(big(), got)
}
