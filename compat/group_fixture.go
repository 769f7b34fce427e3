package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// toolFixture is what a script of tools finds: topics, and groups of which
// some have members in this process. For a script NAME:
//
//	topic NAME-a    3 partitions of 20 records; partition 1 from two days ago to one day ago and then now,
//	                the others of 2024-01-01, a minute apart
//	topic NAME-b    1 partition of 20 records
//	group NAME-live    two classic members of NAME-a, one of them static
//	group NAME-empty   had a member, has offsets of NAME-a 0..2 (5, 10, 15) and NAME-b (20)
//	group NAME-simple  never had one, has the same offsets
//
// and for a script whose name begins with consumer, groups of the consumer protocol:
//
//	group NAME-live    one member of NAME-a
//	group NAME-empty   as above
type toolFixture struct{ members []*kgo.Client }

func (f *toolFixture) close() {
	for _, m := range f.members {
		m.Close()
	}
}

// makeToolFixture makes all that a script finds. The fixture is to be closed, also after an error.
func makeToolFixture(ctx context.Context, ref *reference, name string) (*toolFixture, error) {
	f := &toolFixture{}
	a, b := name+"-a", name+"-b"
	if err := errors.Join(createWith(ctx, ref, a, 3, "retention.ms=-1"), createWith(ctx, ref, b, 1, "retention.ms=-1")); err != nil {
		return f, err
	}
	if err := errors.Join(ref.produce(ctx, a, "none", true, toolRecords(3)), ref.produce(ctx, b, "none", true, toolRecords(1))); err != nil {
		return f, err
	}
	offsets := kadm.Offsets{}
	for p, at := range []int64{5, 10, 15} {
		offsets.AddOffset(a, int32(p), at, -1)
	}
	offsets.AddOffset(b, 0, 20, -1)
	consumer := name[:min(len(name), 8)] == "consumer"
	var opts []kgo.Opt
	if consumer {
		opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	} else {
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()))
	}
	left, err := f.member(ctx, ref, name+"-empty", "left", []string{a}, 3, opts...)
	if err != nil {
		return f, err
	}
	left.Close()
	f.members = f.members[:0]
	if err := eventually(ctx, func() error { return ref.admin.CommitAllOffsets(ctx, name+"-empty", offsets) }); err != nil {
		return f, err
	}
	if consumer {
		_, err := f.member(ctx, ref, name+"-live", "one", []string{a}, 3, opts...)
		return f, err
	}
	if err := ref.admin.CommitAllOffsets(ctx, name+"-simple", offsets); err != nil {
		return f, err
	}
	_, err1 := f.member(ctx, ref, name+"-live", "one", []string{a}, 1, opts...)
	_, err2 := f.member(ctx, ref, name+"-live", "two", []string{a}, 1, append(slices.Clone(opts), kgo.InstanceID("two-instance"))...)
	if err := errors.Join(err1, err2, ref.waitMembers(ctx, name+"-live", 2)); err != nil {
		return f, err
	}
	return f, nil
}

// member joins a group, reads a record of each of some partitions and commits
// nothing; it stays until the fixture closes.
func (f *toolFixture) member(ctx context.Context, ref *reference, group, id string, topics []string, partitions int, opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(ref.bootstrap), kgo.ClientID(id), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())...)
	if err != nil {
		return nil, err
	}
	f.members = append(f.members, cl)
	ctx, cancel := context.WithTimeout(ctx, groupWithin)
	defer cancel()
	seen := map[int32]bool{}
	for len(seen) < partitions {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return cl, fmt.Errorf("member %s of %s: %w", id, group, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[r.Partition] = true })
	}
	return cl, nil
}

func toolRecords(partitions int) []record {
	var rs []record
	day := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for p := range partitions {
		for i := range 20 {
			at := day.Add(time.Duration(i) * time.Minute)
			if p == 1 {
				at = time.Now().Add(-48 * time.Hour).Add(time.Duration(i) * time.Hour)
			}
			if p == 1 && i >= 10 {
				at = time.Now()
			}
			rs = append(rs, record{Partition: int32(p), Key: []byte("k"), Value: []byte("v"), Timestamp: at.UnixMilli()})
		}
	}
	return rs
}
