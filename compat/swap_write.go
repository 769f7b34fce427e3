package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// write adds data of every kind that both brokers take, and changes and deletes what both
// can change and delete.
func (s *swap) write(ctx context.Context, turn int, broker string) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	for _, step := range []struct {
		name string
		do   func(context.Context, *reference, int) error
	}{
		{"records", s.writeRecords}, {"compacted topics", s.writeKeys}, {"idempotent producers", s.writeSequences},
		{"commits", s.writeCommits}, {"topics and settings", s.writeTopics}, {"DeleteRecords", s.deleteSome},
	} {
		if err := step.do(ctx, ref, turn); err != nil {
			return fmt.Errorf("%s on %s: %w", step.name, broker, err)
		}
	}
	// Kafka writes where a log begins every 300 ms (swapSettings): what it has deleted would
	// come back after a SIGKILL before that, with Kafka too.
	time.Sleep(700 * time.Millisecond)
	return nil
}

func (s *swap) writeRecords(ctx context.Context, ref *reference, turn int) error {
	for _, codec := range codecs() {
		if err := ref.produce(ctx, swapPlain, codec, false, swapRecords(turn, 100, 50, 40)); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
	}
	// Not idempotent, and acknowledged as soon as written.
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.DefaultProduceTopic(swapPlain), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for i := range 20 {
		r := &kgo.Record{Value: fmt.Appendf(nil, "acks=1 %d/%d", turn, i), Headers: []kgo.RecordHeader{{Key: "turn", Value: []byte(strconv.Itoa(turn))}, {Key: "null"}}}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
	}
	return errors.Join(ref.produce(ctx, swapTimes, "gzip", false, swapRecords(turn, 50, 5, 100)), s.retain(ctx, ref, turn))
}

// writeKeys gives some keys of the compacted topic a new value, and others a tombstone.
func (s *swap) writeKeys(ctx context.Context, ref *reference, turn int) error {
	rs := swapRecords(turn, 1500, 30, 600)
	for key := range 8 {
		rs = append(rs, record{Key: []byte(strconv.Itoa((key + turn + 2) % 30))})
	}
	rs = append(rs, record{Key: []byte("turn " + strconv.Itoa(turn)), Value: []byte("kept")})
	return ref.produce(ctx, swapCompacted, codecs()[(turn+2)%5], false, rs)
}

// writeSequences has the producers that the other broker knew go on with their sequences, and
// a new one begin.
func (s *swap) writeSequences(ctx context.Context, ref *reference, turn int) error {
	for range 20 {
		s.sequence++
		if err := s.idem.ProduceSync(ctx, kgo.StringRecord("idempotent "+strconv.Itoa(s.sequence))).FirstErr(); err != nil {
			return fmt.Errorf("the client that lives through the swaps: %w", err)
		}
	}
	if _, err := s.newRawProducer(ctx, ref.cl, "of turn "+strconv.Itoa(turn+1), swapSequences); err != nil {
		return err
	}
	for _, p := range s.raw {
		if p.name == "without records" {
			continue // what is known of it stays as old as it is
		}
		for n := range 2 {
			if err := p.send(ctx, ref.cl, n+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *swap) writeCommits(ctx context.Context, ref *reference, turn int) error {
	var offsets kadm.Offsets
	for p := range int32(3) {
		offsets.Add(kadm.Offset{Topic: swapPlain, Partition: p, At: int64(turn+2) * 10, LeaderEpoch: -1, Metadata: "turn " + strconv.Itoa(turn)})
	}
	if err := ref.admin.CommitAllOffsets(ctx, swapGroup, offsets); err != nil {
		return fmt.Errorf("%s: %w", swapGroup, err)
	}
	member, err := ref.member(ctx, swapPlain, swapReaders, 100)
	if err != nil {
		return fmt.Errorf("%s: %w", swapReaders, err)
	}
	member.Close()
	// A group that was new with the last broker goes with this one.
	mine, last := fmt.Sprintf("swap-group-%d", turn), fmt.Sprintf("swap-group-%d", turn-1)
	if err := ref.admin.CommitAllOffsets(ctx, mine, offsets); err != nil {
		return fmt.Errorf("%s: %w", mine, err)
	}
	if turn < 0 {
		return nil
	}
	deleted, err := ref.admin.DeleteGroup(ctx, last)
	return errors.Join(err, deleted.Err)
}

// writeTopics creates topics, deletes those of the other broker, and changes settings.
func (s *swap) writeTopics(ctx context.Context, ref *reference, turn int) error {
	mine, last := fmt.Sprintf("swap-turn-%d", turn), fmt.Sprintf("swap-turn-%d", turn-1)
	if err := createWith(ctx, ref, mine, 1, "min.insync.replicas=1,retention.ms="+strconv.Itoa(86400000+turn)); err != nil {
		return err
	}
	if _, err := ref.admin.CreatePartitions(ctx, 1, mine); err != nil {
		return err
	}
	gone := []string{swapAgain}
	if turn >= 0 {
		gone = append(gone, last)
	}
	for _, topic := range gone {
		deleted, err := ref.admin.DeleteTopic(ctx, topic)
		if err = errors.Join(err, deleted.Err); err != nil {
			return fmt.Errorf("delete %s: %w", topic, err)
		}
	}
	if err := createWith(ctx, ref, swapAgain, 2, "retention.ms="+strconv.Itoa(3600000+turn)); err != nil {
		return err
	}
	for _, topic := range []string{mine, swapAgain} {
		if err := ref.produce(ctx, topic, "snappy", false, swapRecords(turn, 20, 20, 20)); err != nil {
			return fmt.Errorf("produce to %s: %w", topic, err)
		}
	}
	set := func(name, value string) kadm.AlterConfig {
		return kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
	}
	changes := []kadm.AlterConfig{set("max.message.bytes", strconv.Itoa(2_000_000+turn)), set("flush.ms", strconv.Itoa(60_000+turn))}
	if turn%2 == 1 {
		changes[1] = kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "flush.ms"}
	}
	altered, err := ref.admin.AlterTopicConfigs(ctx, changes, swapPlain)
	if err == nil {
		_, err = altered.On(swapPlain, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		return err
	}
	every, err1 := ref.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{set("log.segment.bytes", strconv.Itoa(1<<29+turn))})
	one, err2 := ref.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{set("log.flush.interval.ms", strconv.Itoa(60_000+turn))}, 1)
	for _, r := range append(every, one...) {
		err1 = errors.Join(err1, r.Err)
	}
	return errors.Join(err1, err2)
}

func (s *swap) deleteSome(ctx context.Context, ref *reference, turn int) error {
	return deleteRecords(ctx, ref, swapPlain, 1, int64(turn+2)*30)
}

// refusals checks that Rotpeter does not take over what belongs to members and producers whose
// protocols it does not serve yet: it must not commit for them, nor add to a transaction.
func (s *swap) refusals(ctx context.Context) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: swapTxn, At: 1, LeaderEpoch: -1})
	for group, want := range map[string]error{swapMemberGroup: kerr.UnknownMemberID, swapShareGroup: kerr.GroupIDNotFound} {
		if err := ref.admin.CommitAllOffsets(ctx, group, offsets); !errors.Is(err, want) {
			return fmt.Errorf("a commit to %s: %v, want %v", group, err, want)
		}
		deleted, err := ref.admin.DeleteGroup(ctx, group)
		if err == nil {
			err = deleted.Err
		}
		if err == nil {
			return fmt.Errorf("%s was deleted", group)
		}
		if group != swapShareGroup {
			continue // members of both protocols may be in it
		}
		join := kmsg.NewPtrJoinGroupRequest()
		join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = group, "consumer", 10_000, 10_000
		join.Protocols = append(join.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range"})
		kresp, err := ref.cl.SeedBrokers()[0].Request(ctx, join)
		if err != nil {
			return err
		}
		if code := kresp.(*kmsg.JoinGroupResponse).ErrorCode; code != kerr.InconsistentGroupProtocol.Code {
			return fmt.Errorf("a classic member may join %s: error %d", group, code)
		}
	}
	return nil
}
