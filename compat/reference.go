package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reference is franz-go in this process: it prepares what a client shall read
// and reads back what a client wrote.
type reference struct {
	bootstrap string
	cl        *kgo.Client
	admin     *kadm.Client
}

func newReference(bootstrap string) (*reference, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ClientID("compat"), kgo.MetadataMinAge(100*time.Millisecond), kgo.RetryTimeout(time.Minute))
	if err != nil {
		return nil, err
	}
	return &reference{bootstrap: bootstrap, cl: cl, admin: kadm.NewClient(cl)}, nil
}

func (r *reference) close() { r.cl.Close() }

// create creates a topic and waits until the broker serves its partitions; one
// that exists is an error.
func (r *reference) create(ctx context.Context, topic string, partitions int) error {
	resp, err := r.admin.CreateTopic(ctx, int32(partitions), 1, nil, topic)
	if err = errors.Join(err, resp.Err); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	return eventually(ctx, func() error {
		_, ends, err := r.ends(ctx, topic)
		if err == nil && len(ends) != partitions {
			err = fmt.Errorf("%s has %d partitions after it was created with %d", topic, len(ends), partitions)
		}
		return err
	})
}

func compression(codec string) kgo.CompressionCodec {
	switch codec {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}

// produce writes records in their order; a timestamp other than 0 is kept, and
// with manual the partition too.
func (r *reference) produce(ctx context.Context, topic, codec string, manual bool, rs []record) error {
	opts := []kgo.Opt{kgo.SeedBrokers(r.bootstrap), kgo.ProducerBatchCompression(compression(codec)),
		kgo.ProducerBatchMaxBytes(1048576), kgo.ProducerLinger(5 * time.Millisecond), kgo.MetadataMinAge(100 * time.Millisecond)}
	if manual {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	out := make([]*kgo.Record, len(rs))
	for i, r := range rs {
		k := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		if r.Timestamp != 0 {
			k.Timestamp = time.UnixMilli(r.Timestamp)
		}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		out[i] = k
	}
	return cl.ProduceSync(ctx, out...).FirstErr()
}

// ends are the log start and end offsets of a topic's partitions.
func (r *reference) ends(ctx context.Context, topic string) (starts, ends map[int32]int64, err error) {
	starts, ends = map[int32]int64{}, map[int32]int64{}
	first, err := r.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = first.Error()
	}
	if err != nil {
		return nil, nil, err
	}
	last, err := r.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = last.Error()
	}
	if err != nil {
		return nil, nil, err
	}
	first.Each(func(o kadm.ListedOffset) { starts[o.Partition] = o.Offset })
	last.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return starts, ends, nil
}

// each reads a topic from the beginning to the ends at the time of the call,
// without a group, and hands over its records, in order within a partition.
func (r *reference) each(ctx context.Context, topic string, f func(*kgo.Record)) error {
	starts, ends, err := r.ends(ctx, topic)
	if err != nil {
		return err
	}
	left := 0
	from := map[int32]kgo.Offset{}
	for p, end := range ends {
		if end > starts[p] {
			from[p] = kgo.NewOffset().At(starts[p])
			left++
		}
	}
	if left == 0 {
		return nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.bootstrap), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		return err
	}
	defer cl.Close()
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("read %s-%d: %w", e.Topic, e.Partition, e.Err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			if k.Offset >= ends[k.Partition] {
				return
			}
			f(k)
			if k.Offset == ends[k.Partition]-1 {
				left--
			}
		})
	}
	return nil
}

// readAll is each, collected.
func (r *reference) readAll(ctx context.Context, topic string) ([]record, error) {
	var out []record
	err := r.each(ctx, topic, func(k *kgo.Record) {
		rec := record{Partition: k.Partition, Offset: k.Offset, Timestamp: k.Timestamp.UnixMilli(), Key: k.Key, Value: k.Value,
			codec: codecs()[k.Attrs.CompressionType()], producerID: k.ProducerID}
		for _, h := range k.Headers {
			rec.Headers = append(rec.Headers, header{Name: h.Key, Value: h.Value})
		}
		out = append(out, rec)
	})
	return out, err
}

// member joins a group that reads topic and reads count records; it commits
// behind them. Close of the answer leaves the group.
func (r *reference) member(ctx context.Context, topic, group string, count int) (*kgo.Client, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return nil, err
	}
	var read []*kgo.Record
	for len(read) < count {
		fetches := cl.PollRecords(ctx, count-len(read))
		if err := fetches.Err(); err != nil {
			cl.Close()
			return nil, err
		}
		read = append(read, fetches.Records()...)
	}
	if err := cl.CommitRecords(ctx, read...); err != nil {
		cl.Close()
		return nil, err
	}
	return cl, nil
}

// waitMembers waits until a group is stable with so many members.
func (r *reference) waitMembers(ctx context.Context, group string, members int) error {
	for {
		described, err := r.admin.DescribeGroups(ctx, group)
		if err != nil {
			return err
		}
		if g := described[group]; g.State == "Stable" && len(g.Members) == members {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("group %s: %w, it is %s with %d of %d members", group, ctx.Err(), described[group].State, len(described[group].Members), members)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
