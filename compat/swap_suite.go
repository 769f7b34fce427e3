package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// swapRounds is how often the data directory goes to the other broker and back.
	swapRounds = 3
	swapWithin = 5 * time.Minute
	swapGroup  = "swap-group"

	swapCompacted = "swap-compacted"
)

// swapSettings make Kafka clean and delete while the check runs.
var swapSettings = []string{"log.cleaner.backoff.ms=200", "log.initial.task.delay.ms=500", "log.retention.check.interval.ms=1000"}

// swap is one data directory that two brokers serve in turn.
type swap struct {
	b         *bench
	kafka     *target
	rotpeter  *target
	idem      *kgo.Client // one idempotent producer that lives through all swaps
	sequence  int
	bootstrap string
}

// swapChecks has Apache Kafka fill a data directory, and then takes it back and forth between
// the two brokers, by clean stops and by SIGKILL in turn. After each change of hands everything
// that can be seen of the data must be as the other broker showed it.
func (b *bench) swapChecks(ctx context.Context) error {
	if b.target == "kafka" {
		return nil // there is nothing to swap
	}
	java, err := b.cache.java()
	if err != nil {
		b.report.add(result{suite: "swap", client: "kafka", check: "data directory", outcome: notRun, reason: err.Error()})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, swapWithin)
	defer cancel()
	t, err := b.newTarget("swap")
	if err != nil {
		return err
	}
	s := &swap{b: b, rotpeter: t, kafka: newKafka(java, b.work, b.log, swapSettings)}
	s.kafka.data = t.data
	if err := s.kafka.Start(); err != nil {
		return err
	}
	s.bootstrap = s.kafka.bootstrap
	s.rotpeter.bootstrap = s.bootstrap
	defer s.end()
	if err := s.fill(ctx); err != nil {
		return fmt.Errorf("fill Kafka: %w", err)
	}
	from, to := s.kafka, s.rotpeter
	for turn := range 2 * swapRounds {
		if !s.turn(ctx, from, to, turn) {
			return nil // the rest would fail for the same reason
		}
		from, to = to, from
	}
	began := time.Now()
	err = from.Stop()
	b.report.note("broker", "swap", "stops cleanly on SIGTERM", time.Since(began), "", err)
	return nil
}

func (s *swap) end() {
	if s.idem != nil {
		s.idem.Close()
	}
	for _, t := range []*target{s.kafka, s.rotpeter} {
		if t.cmd != nil {
			t.Kill()
		}
	}
}

// turn ends one broker, starts the other on the same directory and compares.
func (s *swap) turn(ctx context.Context, from, to *target, turn int) bool {
	how, end := "clean stop", from.Stop
	if killed(turn) {
		how, end = "SIGKILL", from.Kill
	}
	name := fmt.Sprintf("%d %s after a %s of %s", turn+1, to.name, how, from.name)
	began := time.Now()
	before, err := s.snapshot(ctx)
	if err == nil {
		err = end()
	}
	if err == nil {
		err = to.Start()
	}
	var after string
	if err == nil {
		after, err = s.snapshot(ctx)
	}
	if err == nil && before != after {
		err = errors.New("the data differs:\n" + differences(before, after))
	}
	if err == nil {
		// Kafka writes down once a minute where a log begins: what it deleted comes back
		// after a SIGKILL, with itself too.
		err = s.write(ctx, turn, to == s.rotpeter || !killed(turn+1))
	}
	measure := fmt.Sprintf("%d facts", strings.Count(before, "\n"))
	s.b.report.note("swap", "data directory", name, time.Since(began), measure, err)
	return err == nil
}

// killed tells whether a turn begins with SIGKILL: each broker is stopped cleanly
// and killed in turn.
func killed(turn int) bool { return turn%4 >= 2 }

// differences are the lines that only one side has.
func differences(before, after string) string {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintf(&out, "- %s\n", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&out, "+ %s\n", line)
		}
	}
	return out.String()
}

// swapTopics are the topics with their partitions and settings.
func swapTopics() map[string]struct {
	partitions int32
	configs    map[string]string
} {
	type topic = struct {
		partitions int32
		configs    map[string]string
	}
	return map[string]topic{
		"swap-plain":  {3, nil},
		"swap-small":  {1, map[string]string{"segment.bytes": "1048576", "retention.bytes": "20000000"}},
		swapCompacted: {1, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "500"}},
		"swap-txn":    {2, nil},
		"swap-times":  {1, map[string]string{"message.timestamp.type": "LogAppendTime", "compression.type": "lz4"}},
	}
}

// fill is what only Kafka can do so far, transactions and compaction, and then what both do.
func (s *swap) fill(ctx context.Context) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	for name, t := range swapTopics() {
		configs := map[string]*string{}
		for k, v := range t.configs {
			configs[k] = &v
		}
		resp, err := ref.admin.CreateTopic(ctx, t.partitions, 1, configs, name)
		if err = errors.Join(err, resp.Err); err != nil {
			return fmt.Errorf("create %s: %w", name, err)
		}
	}
	for round := range 5 {
		if err := ref.produce(ctx, swapCompacted, "none", false, swapRecords(round, 1500, 20, 200)); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
	}
	if err := s.transact(ctx); err != nil {
		return err
	}
	if s.idem, err = kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.DefaultProduceTopic("swap-plain"), kgo.MetadataMinAge(100*time.Millisecond)); err != nil {
		return err
	}
	return s.write(ctx, -1, true)
}

func swapRecords(round, n, keys, bytes int) []record {
	out := make([]record, n)
	for i := range out {
		out[i] = record{Key: []byte(strconv.Itoa(i % keys)), Value: fmt.Appendf(nil, "%-*s", bytes, fmt.Sprintf("%d/%d", round, i))}
	}
	return out
}

// transact commits some transactions and aborts others.
func (s *swap) transact(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.TransactionalID("swap"), kgo.DefaultProduceTopic("swap-txn"))
	if err != nil {
		return err
	}
	defer cl.Close()
	for i := range 6 {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		for j := range 50 {
			cl.Produce(ctx, &kgo.Record{Key: []byte(strconv.Itoa(j)), Value: fmt.Appendf(nil, "%d/%d", i, j)}, nil)
		}
		if err := cl.Flush(ctx); err != nil {
			return err
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(i%3 != 1)); err != nil {
			return err
		}
	}
	return nil
}

// write adds data of every kind that both brokers take, and deletes some if asked.
func (s *swap) write(ctx context.Context, turn int, remove bool) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	for _, codec := range codecs() {
		if err := ref.produce(ctx, "swap-plain", codec, false, swapRecords(turn, 300, 50, 40)); err != nil {
			return fmt.Errorf("produce %s: %w", codec, err)
		}
	}
	for topic, n := range map[string]int{"swap-small": 2500, swapCompacted: 500, "swap-times": 100} {
		if err := ref.produce(ctx, topic, "none", false, swapRecords(turn, n, 20, 600)); err != nil {
			return fmt.Errorf("produce to %s: %w", topic, err)
		}
	}
	// The same producer goes on with its sequence: the new broker must know it.
	for range 20 {
		s.sequence++
		if err := s.idem.ProduceSync(ctx, kgo.StringRecord("idempotent "+strconv.Itoa(s.sequence))).FirstErr(); err != nil {
			return fmt.Errorf("the producer that lives through the swaps: %w", err)
		}
	}
	var offsets kadm.Offsets
	for p := range int32(3) {
		offsets.Add(kadm.Offset{Topic: "swap-plain", Partition: p, At: int64(turn+2) * 10, LeaderEpoch: -1, Metadata: "turn " + strconv.Itoa(turn)})
	}
	if err := ref.admin.CommitAllOffsets(ctx, swapGroup, offsets); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if !remove {
		return nil
	}
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: "swap-small", At: int64(turn+1) * 700, LeaderEpoch: -1})
	deleted, err := ref.admin.DeleteRecords(ctx, before)
	if err == nil {
		err = deleted.Error()
	}
	return err
}

// snapshot is everything that is to survive a change of hands, a fact a line.
func (s *swap) snapshot(ctx context.Context) (string, error) {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return "", err
	}
	defer ref.close()
	names := slices.Sorted(maps.Keys(swapTopics()))
	var out strings.Builder
	topics, err := ref.admin.ListTopics(ctx, names...)
	if err != nil {
		return "", err
	}
	configs, err := ref.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		fmt.Fprintf(&out, "%s id %s, %d partitions\n", name, topics[name].ID, len(topics[name].Partitions))
		set, err := configs.On(name, nil)
		if err != nil {
			return "", err
		}
		slices.SortFunc(set.Configs, func(a, b kadm.Config) int { return strings.Compare(a.Key, b.Key) })
		for _, c := range set.Configs {
			if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				fmt.Fprintf(&out, "%s %s=%s\n", name, c.Key, c.MaybeValue())
			}
		}
		for _, level := range []kgo.IsolationLevel{kgo.ReadUncommitted(), kgo.ReadCommitted()} {
			if err := digest(ctx, ref, name, level, &out); err != nil {
				return "", err
			}
		}
	}
	offsets, err := ref.admin.FetchOffsets(ctx, swapGroup)
	if err != nil {
		return "", err
	}
	for _, o := range offsets.Sorted() {
		fmt.Fprintf(&out, "group %s-%d at %d %q\n", o.Topic, o.Partition, o.At, o.Metadata)
	}
	return out.String(), nil
}

// digest adds what a reader at an isolation level sees of a topic: offsets and a
// checksum over all fields of all records for each partition.
func digest(ctx context.Context, ref *reference, topic string, level kgo.IsolationLevel, out *strings.Builder) error {
	starts, ends, err := ref.ends(ctx, topic)
	if err != nil {
		return err
	}
	name := "read_uncommitted"
	if level == kgo.ReadCommitted() {
		name = "read_committed"
	}
	for _, p := range slices.Sorted(maps.Keys(ends)) {
		n, sum, err := digestPartition(ctx, ref, topic, p, starts[p], ends[p], level)
		if err != nil {
			return fmt.Errorf("read %s-%d: %w", topic, p, err)
		}
		fmt.Fprintf(out, "%s-%d %s %d to %d, %d records, sum %x\n", topic, p, name, starts[p], ends[p], n, sum)
	}
	return nil
}

func digestPartition(ctx context.Context, ref *reference, topic string, p int32, start, end int64, level kgo.IsolationLevel) (n int, sum []byte, err error) {
	if start >= end {
		return 0, nil, nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(ref.bootstrap), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {p: kgo.NewOffset().At(start)}}))
	if err != nil {
		return 0, nil, err
	}
	defer cl.Close()
	var all []*kgo.Record
	for last := start - 1; last < end-1; {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(fetches.Err0(), fetches.Err()); err != nil {
			return n, nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all = append(all, r)
			last = r.Offset
		})
	}
	if topic == swapCompacted { // whichever broker has it may compact it further
		all = lastOfEachKey(all)
	}
	return len(all), sumOfRecords(all), nil
}

// lastOfEachKey is what compaction promises to keep.
func lastOfEachKey(all []*kgo.Record) []*kgo.Record {
	last := map[string]*kgo.Record{}
	for _, r := range all {
		last[string(r.Key)] = r
	}
	kept := slices.Collect(maps.Values(last))
	slices.SortFunc(kept, func(a, b *kgo.Record) int { return cmp.Compare(a.Offset, b.Offset) })
	return kept
}

func sumOfRecords(all []*kgo.Record) []byte {
	h := sha256.New()
	var number [8]byte
	for _, r := range all {
		for _, v := range []int64{r.Offset, r.Timestamp.UnixMilli(), r.ProducerID, int64(r.ProducerEpoch), int64(len(r.Key)), int64(len(r.Value))} {
			binary.BigEndian.PutUint64(number[:], uint64(v))
			h.Write(number[:])
		}
		h.Write(r.Key)
		h.Write(r.Value)
	}
	return h.Sum(nil)[:8]
}
