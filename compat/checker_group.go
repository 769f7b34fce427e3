package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// member is a franz-go member of a group that commits what it was given, now and then leaves and comes back.
func (r *checkerRound) member(ctx context.Context, name, group, protocol string) error {
	rng := r.random(name)
	r.tellf("consumer %s", name)
	for ctx.Err() == nil {
		opts := r.options(name, kgo.ConsumeTopics(r.name), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(time.Second), kgo.SessionTimeout(6*time.Second),
			kgo.Balancers(kgo.RangeBalancer()))
		if protocol == "consumer" {
			opts = append(opts, kgo.ServerSideBalancer())
		}
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			return err
		}
		for range 200 + rng.IntN(400) {
			fetches := cl.PollRecords(ctx, 1+rng.IntN(400))
			words, n := checkerReads(fetches)
			if n > 0 {
				r.tellf("poll %s 0 %d%s", name, monotonic(), words)
				if rng.IntN(4) == 0 {
					r.commitPolled(cl, name, group, fetches)
				}
			}
			cl.AllowRebalance()
			if pause(ctx, 30*time.Millisecond); ctx.Err() != nil {
				break
			}
		}
		cl.CloseAllowingRebalance()
	}
	return nil
}

// commitPolled commits behind the records of a poll.
func (r *checkerRound) commitPolled(cl *kgo.Client, name, group string, fetches kgo.Fetches) {
	offsets := map[int32]kgo.EpochOffset{}
	fetches.EachRecord(func(k *kgo.Record) {
		offsets[k.Partition] = kgo.EpochOffset{Epoch: k.LeaderEpoch, Offset: k.Offset + 1}
	})
	numbers := map[int32]uint32{}
	for p, o := range offsets {
		numbers[p] = r.next()
		r.tellf("commit %d %s %s %d %d 0 %d", numbers[p], name, group, p, o.Offset, monotonic())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for t := range req.Topics {
			for p := range req.Topics[t].Partitions {
				rp := &req.Topics[t].Partitions[p]
				rp.Metadata = kmsg.StringPtr(fmt.Sprint(numbers[rp.Partition]))
			}
		}
		return nil
	})
	done := map[int32]bool{}
	cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{r.name: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err != nil || len(resp.Topics) != 1 {
				return
			}
			for _, p := range resp.Topics[0].Partitions {
				done[p.Partition] = p.ErrorCode == 0
			}
		})
	for p, number := range numbers {
		if done[p] {
			r.tellf("committed %d ok %d", number, monotonic())
		} else {
			r.tellf("committed %d unknown %d", number, monotonic())
		}
	}
}

// fetchOffsets asks for the offsets of groups until ctx ends.
func (r *checkerRound) fetchOffsets(ctx context.Context, groups []string) error {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 9) // the next one names topics by id
	cl, err := kgo.NewClient(r.options("fetches-offsets", kgo.MaxVersions(versions))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		for _, group := range groups {
			r.fetchOffset(ctx, cl, group)
		}
		pause(ctx, 200*time.Millisecond)
	}
	return nil
}

// fetchOffset asks once; whatever is no answer is left out.
func (r *checkerRound) fetchOffset(ctx context.Context, cl *kgo.Client, group string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic = r.name
	for p := range int32(checkerPartitions) {
		t.Partitions = append(t.Partitions, p)
	}
	g.Topics = append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	begin := monotonic()
	resp, err := req.RequestWith(ctx, cl)
	end := monotonic()
	if err != nil || len(resp.Groups) != 1 || resp.Groups[0].ErrorCode != 0 || len(resp.Groups[0].Topics) != 1 {
		return
	}
	for _, p := range resp.Groups[0].Topics[0].Partitions {
		if p.ErrorCode != 0 {
			continue
		}
		number := uint64(0)
		if p.Offset >= 0 {
			text := ""
			if p.Metadata != nil {
				text = strings.TrimSuffix(*p.Metadata, "\x00") // which confluent-kafka sends along
			}
			if number, err = strconv.ParseUint(text, 10, 32); err != nil {
				number = 1<<32 - 1 // nobody's
			}
		}
		r.tellf("fetched %s %d %d %d %d %d", group, p.Partition, number, p.Offset, begin, end)
	}
}

// newProducerIDs asks for producer ids without a transactional id, until ctx ends.
func (r *checkerRound) newProducerIDs(ctx context.Context) error {
	cl, err := kgo.NewClient(r.options("asks-for-producer-ids")...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for n := 0; ctx.Err() == nil; n++ {
		resp, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil {
			r.tellf("producer %d %s/asked-%d", resp.ProducerID, r.name, n)
		}
		pause(ctx, 250*time.Millisecond)
	}
	return nil
}
