// Command franz is franz-go as a client of compat: see driver.go there for the
// requests and answers.
//
//	franz BOOTSTRAP serve
//	franz BOOTSTRAP feed TOPIC CODEC
//	franz BOOTSTRAP members
//	franz BOOTSTRAP transform IN OUT GROUP ID SEED HOLD
//	franz BOOTSTRAP read TOPIC PARTITIONS
//	franz BOOTSTRAP late TOPIC PARTITIONS NAME PRODUCERS ROUNDS SEED [old]
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rotpeter/rotpeter/compat/clients/member"
)

// arguments are those of all operations.
type arguments struct {
	Topic, Group, Codec                 string
	Partitions, Members, Count, Seconds int
	Timestamp                           int64
	Idempotent                          bool
	Records                             []record
}

type record struct {
	Member    int      `json:"member"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []header `json:"headers"`
}

type header struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

type driver struct {
	bootstrap string
	admin     *kadm.Client
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: franz BOOTSTRAP serve | feed TOPIC CODEC | members | transform ... | read TOPIC PARTITIONS")
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(args[0]))
	if err != nil {
		return err
	}
	defer cl.Close()
	d := &driver{bootstrap: args[0], admin: kadm.NewClient(cl)}
	if args[1] == "feed" && len(args) == 4 {
		return d.feed(args[2], args[3])
	}
	if args[1] == "members" {
		return member.Serve(d.join)
	}
	if args[1] == "transform" {
		return d.transform(args[2:])
	}
	if args[1] == "late" {
		return d.late(args[2:])
	}
	if args[1] == "read" && len(args) == 4 {
		return d.read(args[2], args[3])
	}
	return d.serve()
}

// serve answers requests until standard input ends.
func (d *driver) serve() error {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil
		}
		var request struct {
			Op   string
			Args arguments
		}
		reply := map[string]any{}
		err = json.Unmarshal(line, &request)
		if err == nil {
			reply["ok"], err = d.do(request.Op, request.Args)
		}
		if err != nil {
			reply = map[string]any{"error": err.Error()}
		}
		if err := out.Encode(reply); err != nil {
			return err
		}
	}
}

func (d *driver) do(op string, a arguments) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch op {
	case "version":
		return version(), nil
	case "create":
		resp, err := d.admin.CreateTopic(ctx, int32(a.Partitions), 1, nil, a.Topic)
		return nil, errors.Join(err, resp.Err)
	case "topics":
		found, err := d.admin.ListTopics(ctx)
		return found.Names(), err
	case "describe":
		return d.describe(ctx, a.Topic)
	case "delete":
		resp, err := d.admin.DeleteTopic(ctx, a.Topic)
		return nil, errors.Join(err, resp.Err)
	case "produce":
		return nil, d.produce(ctx, a)
	case "consume":
		return d.consume(ctx, a)
	case "times":
		listed, err := d.admin.ListOffsetsAfterMilli(ctx, a.Timestamp, a.Topic)
		offsets := map[int32]int64{}
		listed.Each(func(o kadm.ListedOffset) {
			offsets[o.Partition] = o.Offset
			if o.Timestamp < 0 { // kadm answers the end offset where there is no such record
				offsets[o.Partition] = -1
			}
		})
		return offsets, err
	case "groups":
		found, err := d.admin.ListGroups(ctx)
		return found.Groups(), err
	case "group":
		return d.group(ctx, a)
	case "delete_group":
		resp, err := d.admin.DeleteGroup(ctx, a.Group)
		return nil, errors.Join(err, resp.Err)
	}
	return nil, fmt.Errorf("unknown operation %q", op)
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, m := range info.Deps {
			if m.Path == "github.com/twmb/franz-go" {
				return m.Version
			}
		}
	}
	return "unknown"
}

func (d *driver) describe(ctx context.Context, topic string) (any, error) {
	found, err := d.admin.ListTopics(ctx, topic)
	if err == nil {
		err = found[topic].Err
	}
	if err != nil {
		return nil, err
	}
	configs, err := d.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	retention := ""
	for _, c := range configs[0].Configs {
		if c.Key == "retention.ms" {
			retention = c.MaybeValue()
		}
	}
	return map[string]any{"partitions": len(found[topic].Partitions), "retention": retention}, configs[0].Err
}

func (d *driver) group(ctx context.Context, a arguments) (any, error) {
	lags, err := d.admin.Lag(ctx, a.Group)
	if err != nil {
		return nil, err
	}
	l := lags[a.Group]
	lag := map[int32]int64{}
	for p, m := range l.Lag[a.Topic] {
		if m.Commit.At >= 0 {
			lag[p] = m.Lag
		}
	}
	return map[string]any{"state": l.State, "members": len(l.Members), "lag": lag}, l.Error()
}

// producer is a client that produces with acks=all.
func (d *driver) producer(topic, codec string, idempotent bool) (*kgo.Client, error) {
	compression := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[codec]
	opts := []kgo.Opt{kgo.SeedBrokers(d.bootstrap), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(compression), kgo.ProducerBatchMaxBytes(1_048_576), kgo.ProducerLinger(20 * time.Millisecond)}
	if !idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	return kgo.NewClient(opts...)
}

func (d *driver) produce(ctx context.Context, a arguments) error {
	cl, err := d.producer(a.Topic, a.Codec, a.Idempotent)
	if err != nil {
		return err
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(a.Records))
	for i, r := range a.Records {
		records[i] = &kgo.Record{Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
	}
	return cl.ProduceSync(ctx, records...).FirstErr()
}

// consume reads until count records came, commits behind them and leaves.
func (d *driver) consume(ctx context.Context, a arguments) ([]record, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(a.Seconds)*time.Second)
	defer cancel()
	enough, done := context.WithCancel(ctx)
	defer done()
	var (
		mu   sync.Mutex
		out  []record
		errs []error
		wg   sync.WaitGroup
	)
	member := func(i int) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(d.bootstrap), kgo.ConsumeTopics(a.Topic), kgo.ConsumerGroup(a.Group),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
		if err != nil {
			return err
		}
		defer cl.Close()
		limit := -1 // no limit
		var read []*kgo.Record
		for enough.Err() == nil {
			if a.Members == 1 {
				limit = a.Count - len(read)
			}
			fetches := cl.PollRecords(enough, limit)
			read = append(read, fetches.Records()...)
			mu.Lock()
			fetches.EachRecord(func(k *kgo.Record) { out = append(out, answer(i, k)) })
			if len(out) >= a.Count {
				done()
			}
			mu.Unlock()
		}
		return cl.CommitRecords(ctx, read...)
	}
	for i := range a.Members {
		wg.Go(func() {
			err := member(i)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

func answer(member int, k *kgo.Record) record {
	r := record{Member: member, Partition: k.Partition, Offset: k.Offset, Timestamp: k.Timestamp.UnixMilli(), Key: k.Key, Value: k.Value}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, header{Name: h.Key, Value: h.Value})
	}
	return r
}

// feed produces each line of standard input, key and value apart by a unit
// separator; it retries while the broker is away.
func (d *driver) feed(topic, codec string) error {
	cl, err := d.producer(topic, codec, true)
	if err != nil {
		return err
	}
	defer cl.Close()
	var (
		mu     sync.Mutex
		failed error
	)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<20)
	for lines.Scan() {
		key, value, ok := bytes.Cut(bytes.Clone(lines.Bytes()), []byte{0x1f})
		if !ok {
			return fmt.Errorf("a line without a separator: %.100q", key)
		}
		cl.Produce(context.Background(), &kgo.Record{Key: key, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	err = cl.Flush(context.Background())
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, lines.Err(), failed)
}
