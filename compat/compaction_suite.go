package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// compactionWithin bounds the whole suite.
	compactionWithin = 3 * time.Minute
	compactionTopic  = "compaction"
	compactionKeys   = 500
	cleanerFile      = "cleaner-offset-checkpoint"
)

// compactionSettings make a cleaner work as soon as it may.
var compactionSettings = []string{"log.cleaner.backoff.ms=200", "log.cleaner.min.cleanable.ratio=0.01", "log.initial.task.delay.ms=100"}

// compaction is one data directory, as Kafka filled it and did not compact it, and what
// became of two copies of it.
type compaction struct {
	b    *bench
	java *javaTools
	dir  string
	raw  []*kgo.Record // what a read_committed reader saw before
}

// compactionChecks has Apache Kafka fill a topic without compacting it, lets each broker
// compact a copy, and compares the two, batch by batch, and with what was written.
func (b *bench) compactionChecks(ctx context.Context) error {
	if b.target == "kafka" {
		return nil // it would be compared with itself
	}
	java, err := b.cache.java()
	if err != nil {
		b.report.add(result{suite: "compaction", client: "kafka", check: "compacts as Kafka does", outcome: notRun, reason: err.Error()})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compactionWithin)
	defer cancel()
	c := &compaction{b: b, java: java, dir: filepath.Join(b.work, "compaction")}
	if err := c.fill(ctx); err != nil {
		return fmt.Errorf("fill Kafka: %w", err)
	}
	began := time.Now()
	measure, err := c.compare(ctx)
	b.report.note("compaction", "kafka-dump-log", "both brokers keep the same batches", time.Since(began), measure, err)
	if err != nil {
		return nil
	}
	for _, t := range []*target{
		newKafka(java, filepath.Join(c.dir, "ours"), b.log, compactionSettings),
		newRotpeter(b.bin, filepath.Join(c.dir, "theirs", "kafka-data"), b.log, compactionSettings),
	} {
		began = time.Now()
		measure, err := c.read(ctx, t)
		b.report.note("compaction", t.name, "reads what the other has compacted", time.Since(began), measure, err)
	}
	return nil
}

// fill writes keys, tombstones and transactions of all codecs through Kafka, whose cleaner
// is off, and makes two copies.
func (c *compaction) fill(ctx context.Context) error {
	from := filepath.Join(c.dir, "raw")
	for _, name := range []string{from, filepath.Join(c.dir, "ours"), filepath.Join(c.dir, "theirs")} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	t := newKafka(c.java, from, c.b.log, []string{"log.cleaner.enable=false"})
	if err := t.Start(); err != nil {
		return err
	}
	err := c.write(ctx, t.bootstrap)
	if err = errors.Join(err, t.Stop()); err != nil {
		return err
	}
	for _, to := range []string{"ours", "theirs"} {
		if err := os.CopyFS(filepath.Join(c.dir, to, "kafka-data"), os.DirFS(t.data)); err != nil {
			return err
		}
	}
	return nil
}

func (c *compaction) write(ctx context.Context, bootstrap string) error {
	ref, err := newReference(bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	policy, size := "compact", "1048576"
	resp, err := ref.admin.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &policy, "segment.bytes": &size}, compactionTopic)
	if err = errors.Join(err, resp.Err); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(c.b.seed, 3))
	for round := range 10 {
		codec := codecs()[round%len(codecs())]
		if err := ref.produce(ctx, compactionTopic, codec, false, compactionRecords(rng, round, 3000)); err != nil {
			return fmt.Errorf("produce %s: %w", codec, err)
		}
		if err := compactionTransaction(ctx, bootstrap, codec, round%2 == 0, compactionRecords(rng, round, 60)); err != nil {
			return fmt.Errorf("transaction %d: %w", round, err)
		}
	}
	last := []record{{Key: []byte("last"), Value: []byte("last")}}
	if err := ref.produce(ctx, compactionTopic, "none", false, last); err != nil {
		return err
	}
	c.raw, err = readCommitted(ctx, bootstrap)
	return err
}

func compactionRecords(rng *rand.Rand, round, n int) []record {
	out := make([]record, n)
	for i := range out {
		out[i] = record{Key: []byte(strconv.Itoa(rng.IntN(compactionKeys))), Value: make([]byte, 200+rng.IntN(200))}
		for j := range out[i].Value { // not to be compressed to nothing
			out[i].Value[j] = byte('a' + rng.IntN(26))
		}
		copy(out[i].Value, fmt.Sprintf("%d/%d ", round, i))
		if rng.IntN(8) == 0 {
			out[i].Value = nil
		}
	}
	return out
}

// compactionTransaction writes records in one transaction of a producer of its own.
func compactionTransaction(ctx context.Context, bootstrap, codec string, commit bool, rs []record) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.TransactionalID("compaction-"+codec), kgo.DefaultProduceTopic(compactionTopic), kgo.ProducerBatchCompression(compression(codec)))
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for _, r := range rs {
		cl.Produce(ctx, &kgo.Record{Key: r.Key, Value: r.Value}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	return cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
}

// readCommitted reads the topic to the record that was written last.
func readCommitted(ctx context.Context, bootstrap string) ([]*kgo.Record, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{compactionTopic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var all []*kgo.Record
	for len(all) == 0 || string(all[len(all)-1].Key) != "last" {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(fetches.Err0(), fetches.Err()); err != nil {
			return nil, err
		}
		all = append(all, fetches.Records()...)
	}
	return all, nil
}

// compare lets both brokers compact their copy, and compares the two batch by batch.
func (c *compaction) compare(ctx context.Context) (string, error) {
	var views [2]string
	for i, t := range []*target{
		newRotpeter(c.b.bin, filepath.Join(c.dir, "ours", "kafka-data"), c.b.log, compactionSettings),
		newKafka(c.java, filepath.Join(c.dir, "theirs"), c.b.log, compactionSettings),
	} {
		if err := t.Start(); err != nil {
			return "", err
		}
		err := settled(ctx, filepath.Join(t.data, cleanerFile))
		if err = errors.Join(err, t.Stop()); err != nil {
			return "", err
		}
		if views[i], err = c.view(ctx, t.data); err != nil {
			return "", err
		}
	}
	if views[0] != views[1] {
		return "", errors.New("ours (-) and Kafka's (+) differ:\n" + clip(differences(views[0], views[1]), 3000))
	}
	return fmt.Sprintf("%d batches and records, of %d records", strings.Count(views[0], "\n"), len(c.raw)), nil
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

// settled waits until the cleaner has said how far it came, and says it no further.
func settled(ctx context.Context, file string) error {
	var was []byte
	for since := time.Now(); ; {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if !bytes.Equal(b, was) {
			was, since = b, time.Now()
		}
		if bytes.Contains(b, []byte(compactionTopic+" 0 ")) && time.Since(since) > 1500*time.Millisecond {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not say that the topic was compacted: %q", filepath.Base(file), was)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// varying is what must differ between two brokers that do the same: compressors make
// other bytes of the same records. A delete horizon counts from the time of cleaning.
const (
	varying = ` (position|size|crc): \d+`
	horizon = `deleteHorizonMs: (OptionalLong\[\d+\]|\d+)`
)

// view is what kafka-dump-log says of the topic's segments, their names and batches and records.
func (c *compaction) view(ctx context.Context, data string) (string, error) {
	files, err := filepath.Glob(filepath.Join(data, compactionTopic+"-0", "*.log"))
	if err != nil {
		return "", err
	}
	slices.Sort(files)
	out, err := c.java.run(ctx, nil, dumpLog, "--print-data-log", "--files", strings.Join(files, ","))
	if err != nil {
		return "", err
	}
	var view strings.Builder
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if file, ok := strings.CutPrefix(line, "Dumping "); ok {
			line = "segment " + filepath.Base(file)
		}
		line = regexp.MustCompile(varying).ReplaceAllString(line, "")
		line = regexp.MustCompile(horizon).ReplaceAllString(line, "deleteHorizonMs: set")
		fmt.Fprintf(&view, "%s\n", clip(line, 300))
	}
	for _, suffix := range []string{".index", ".timeindex", ".txnindex"} {
		if err := c.check(ctx, data, suffix); err != nil {
			return "", err
		}
	}
	b, err := os.ReadFile(filepath.Join(data, cleanerFile))
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, compactionTopic+" ") {
			fmt.Fprintf(&view, "%s %s", cleanerFile, line)
		}
	}
	return view.String(), err
}

// check has kafka-dump-log hold the indexes against the segments.
func (c *compaction) check(ctx context.Context, data, suffix string) error {
	files, err := filepath.Glob(filepath.Join(data, compactionTopic+"-0", "*"+suffix))
	if err != nil || len(files) == 0 {
		return err
	}
	_, err = dumpCompacted(ctx, c.java, func(string) bool { return true }, nil, files)
	return err
}

// read starts a broker on what the other one compacted, and holds what a read_committed
// reader sees against what was written: the last of each key, and nothing that was not there.
func (c *compaction) read(ctx context.Context, t *target) (string, error) {
	if err := t.Start(); err != nil {
		return "", err
	}
	got, err := readCommitted(ctx, t.bootstrap)
	if err == nil {
		err = c.goesOn(ctx, t.bootstrap)
	}
	if err = errors.Join(err, t.Stop()); err != nil {
		return "", err
	}
	was := map[int64]*kgo.Record{}
	for _, r := range c.raw {
		was[r.Offset] = r
	}
	for _, r := range got {
		if w := was[r.Offset]; w == nil || !bytes.Equal(w.Key, r.Key) || !bytes.Equal(w.Value, r.Value) || !w.Timestamp.Equal(r.Timestamp) {
			return "", fmt.Errorf("offset %d holds key %q, which was not written there", r.Offset, r.Key)
		}
	}
	want, have := lastOfEachKey(c.raw), lastOfEachKey(got)
	if !slices.EqualFunc(want, have, func(a, b *kgo.Record) bool { return a.Offset == b.Offset }) {
		return "", fmt.Errorf("%d keys have a last value, want %d, or others", len(have), len(want))
	}
	return fmt.Sprintf("%d of %d records, the last of %d keys", len(got), len(c.raw), len(want)), nil
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

// goesOn appends to what was compacted.
func (c *compaction) goesOn(ctx context.Context, bootstrap string) error {
	ref, err := newReference(bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	return ref.produce(ctx, compactionTopic, "lz4", false, []record{{Key: []byte("more"), Value: []byte("more")}})
}
