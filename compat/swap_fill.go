package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What there is in the data directory.
const (
	swapPlain     = "swap-plain"     // every codec, idempotent and not; DeleteRecords
	swapRetained  = "swap-retained"  // segments that retention deleted
	swapCleaned   = "swap-cleaned"   // compacted, with tombstones, and then left as it was
	swapCompacted = "swap-compacted" // compacted by both brokers when they like
	swapTxn       = "swap-txn"       // transactions that ended, aborted ones among them
	swapOpen      = "swap-open"      // transactions that did not end
	swapTimes     = "swap-times"     // the broker's times and codec
	swapSequences = "swap-sequences" // producers that know what they sent
	swapOld       = "swap-old"       // producers whose records are gone
	swapBusy      = "swap-busy"      // written to while a broker is killed
	swapAgain     = "swap-again"     // deleted and created again by each broker

	swapGroup        = "swap-group"         // commits without members
	swapReaders      = "swap-readers"       // classic members, who come again
	swapNewGroup     = "swap-new-group"     // group.protocol=consumer
	swapMemberGroup  = "swap-member-group"  // the same, with a member that did not leave
	swapShareGroup   = "swap-share-group"   // share group, not a consumer group at all
	swapOffsetsGroup = "swap-offsets-group" // commits in transactions, one of them open
	swapMetrics      = "swap-metrics"       // a subscription of client metrics
)

// swapTopics are the topics that Kafka is filled with.
func swapTopics() map[string]struct {
	partitions int32
	configs    string // NAME=VALUE, comma separated
} {
	type topic = struct {
		partitions int32
		configs    string
	}
	return map[string]topic{
		swapPlain:     {3, ""},
		swapRetained:  {1, "segment.bytes=1048576,retention.bytes=2000000"},
		swapCleaned:   {1, "cleanup.policy=compact,segment.ms=100,min.cleanable.dirty.ratio=0.01,max.compaction.lag.ms=200"},
		swapCompacted: {1, "cleanup.policy=compact,segment.bytes=1048576,segment.ms=300,min.cleanable.dirty.ratio=0.01,max.compaction.lag.ms=500,delete.retention.ms=500"},
		swapTxn:       {2, "segment.bytes=1048576"},
		swapOpen:      {1, ""},
		swapTimes:     {1, "message.timestamp.type=LogAppendTime,compression.type=lz4"},
		swapSequences: {1, ""},
		swapOld:       {1, "segment.bytes=1048576"},
		swapBusy:      {1, ""},
		swapAgain:     {2, "retention.ms=3600000"},
	}
}

// fill has Kafka's clients and tools put everything in that Kafka keeps in a data directory.
func (s *swap) fill(ctx context.Context) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	for name, t := range swapTopics() {
		if err := createWith(ctx, ref, name, t.partitions, t.configs); err != nil {
			return err
		}
	}
	var tools sync.WaitGroup
	var toolErrs [2]error
	for i, runs := range fillTools() {
		tools.Go(func() { toolErrs[i] = s.runTools(ctx, runs) })
	}
	err = s.fillTopics(ctx, ref)
	tools.Wait()
	if err = errors.Join(err, toolErrs[0], toolErrs[1]); err != nil {
		return err
	}
	if err := s.fillGroups(ctx, ref); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	s.filled = time.Now()
	return s.write(ctx, -1, "kafka")
}

func createWith(ctx context.Context, ref *reference, name string, partitions int32, configs string) error {
	set := map[string]*string{}
	for pair := range strings.SplitSeq(configs, ",") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			set[k] = &v
		}
	}
	resp, err := ref.admin.CreateTopic(ctx, partitions, 1, set, name)
	if err = errors.Join(err, resp.Err); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return nil
}

// toolRun is one run of a command line tool of Kafka's.
type toolRun struct {
	class string
	args  []string
}

// fillTools have Kafka's command line tools set what only they and Kafka know; two at a time.
func fillTools() [2][]toolRun {
	return [2][]toolRun{{
		{kafkaConfigs, []string{"--alter", "--entity-type", "users", "--entity-name", "alice", "--add-config", "SCRAM-SHA-256=[iterations=4096,password=one]"}},
		{kafkaConfigs, []string{"--alter", "--entity-type", "users", "--entity-name", "bob", "--entity-type", "clients", "--entity-name", "app",
			"--add-config", "producer_byte_rate=1000000,consumer_byte_rate=2000000"}},
		{kafkaConfigs, []string{"--alter", "--entity-type", "ips", "--entity-name", "192.0.2.7", "--add-config", "connection_creation_rate=50"}},
		{kafkaConfigs, []string{"--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "message.max.bytes=3000000"}},
	}, {
		{kafkaACLs, []string{"--add", "--allow-principal", "User:alice", "--allow-host", "192.0.2.8", "--operation", "Read", "--operation", "Describe", "--topic", "secret", "--group", "secret-readers"}},
		{kafkaACLs, []string{"--add", "--deny-principal", "User:*", "--operation", "Write", "--topic", "audit-", "--resource-pattern-type", "prefixed"}},
		{producerPerformance, []string{"--topic", swapTxn, "--num-records", "500", "--record-size", "200", "--throughput", "-1", "--transactional-id", "swap-java", "--transaction-duration-ms", "40"}},
		{consoleConsumer, []string{"--topic", swapPlain, "--group", swapNewGroup, "--command-property", "group.protocol=consumer", "--from-beginning", "--max-messages", "200"}},
	}}
}

func (s *swap) runTools(ctx context.Context, runs []toolRun) error {
	for _, t := range runs {
		args := append([]string{"--bootstrap-server", s.bootstrap}, t.args...)
		if out, err := s.java.run(ctx, nil, t.class, args...); err != nil {
			return fmt.Errorf("%s %s: %w: %s", t.class, strings.Join(t.args, " "), err, firstWords(out))
		}
	}
	return nil
}

func (s *swap) fillTopics(ctx context.Context, ref *reference) error {
	for _, step := range []struct {
		name string
		do   func(context.Context, *reference) error
	}{
		{"plain", s.fillPlain}, {"retention", s.fillRetained}, {"what the tools leave", s.fillRest}, {"transactions", s.fillTxn},
		{"open transactions", s.fillOpen}, {"producers", s.fillProducers}, {"compaction", s.fillCleaned},
	} {
		if err := step.do(ctx, ref); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (s *swap) fillPlain(ctx context.Context, ref *reference) error {
	for _, codec := range codecs() {
		if err := ref.produce(ctx, swapPlain, codec, false, swapRecords(-2, 300, 50, 40)); err != nil {
			return err
		}
	}
	var err1, err2 error
	s.idem, err1 = kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.DefaultProduceTopic(swapPlain), kgo.MetadataMinAge(100*time.Millisecond))
	s.busy.cl, err2 = kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.DefaultProduceTopic(swapBusy), kgo.MetadataMinAge(100*time.Millisecond))
	return errors.Join(err1, err2)
}

func swapRecords(round, n, keys, bytes int) []record {
	out := make([]record, n)
	for i := range out {
		out[i] = record{Key: []byte(strconv.Itoa(i % keys)), Value: fmt.Appendf(nil, "%-*s", bytes, fmt.Sprintf("%d/%d", round, i))}
	}
	return out
}

// fillRetained waits until retention has deleted segments, and then has it delete no more.
func (s *swap) fillRetained(ctx context.Context, ref *reference) error {
	return s.retain(ctx, ref, -1)
}

func (s *swap) retain(ctx context.Context, ref *reference, turn int) error {
	limit := func(bytes string) error {
		_, err := ref.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.bytes", Value: &bytes}}, swapRetained)
		return err
	}
	starts, _, err := ref.ends(ctx, swapRetained)
	if err = errors.Join(err, limit("2000000"), ref.produce(ctx, swapRetained, "none", false, swapRecords(turn, 5000, 20, 600))); err != nil {
		return err
	}
	err = eventuallyIn(ctx, swapPatience, func() error {
		now, _, err := ref.ends(ctx, swapRetained)
		if err == nil && now[0] == starts[0] {
			err = fmt.Errorf("retention has deleted nothing: %s still starts at %d", swapRetained, now[0])
		}
		return err
	})
	return errors.Join(err, limit("-1"))
}

// fillRest sets, by a client, what the tools do not: each of them takes a second.
func (s *swap) fillRest(ctx context.Context, ref *reference) error {
	app := "app"
	_, err := ref.admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{
		{Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &app}}, Ops: []kadm.AlterClientQuotaOp{{Key: "consumer_byte_rate", Value: 12345678.5}}},
		{Entity: kadm.ClientQuotaEntity{{Type: "client-id"}}, Ops: []kadm.AlterClientQuotaOp{{Key: "controller_mutation_rate", Value: 1e6}}},
		{Entity: kadm.ClientQuotaEntity{{Type: "user"}}, Ops: []kadm.AlterClientQuotaOp{{Key: "request_percentage", Value: 900}}},
		{Entity: kadm.ClientQuotaEntity{{Type: "ip"}}, Ops: []kadm.AlterClientQuotaOp{{Key: "connection_creation_rate", Value: 1e6}}},
	})
	if err != nil {
		return err
	}
	scrams, err := ref.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "alice", Mechanism: kadm.ScramSha512, Iterations: 8192, Password: "two"}})
	if err == nil {
		err = scrams.Error()
	}
	if err != nil {
		return err
	}
	acls := kadm.NewACLs().Allow("User:bob").AllowHosts("*").Topics("out").TransactionalIDs("bob").ResourcePatternType(kadm.ACLPatternLiteral).
		Operations(kadm.OpWrite, kadm.OpDescribe)
	made, err := ref.admin.CreateACLs(ctx, acls)
	for _, r := range made {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		return err
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for _, c := range []struct {
		kind             kmsg.ConfigResourceType
		name, key, value string
	}{
		{kmsg.ConfigResourceTypeBroker, "1", "log.retention.ms", "500000000"},
		{kmsg.ConfigResourceTypeGroupConfig, swapNewGroup, "consumer.session.timeout.ms", "50000"},
		{kmsg.ConfigResourceTypeGroupConfig, swapMemberGroup, "consumer.session.timeout.ms", "60000"},
		{kmsg.ConfigResourceTypeGroupConfig, swapShareGroup, "share.auto.offset.reset", "earliest"},
		{kmsg.ConfigResourceTypeClientMetrics, swapMetrics, "interval.ms", "60000"},
	} {
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = c.kind, c.name
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Op, rc.Value = c.key, kmsg.IncrementalAlterConfigOpSet, &c.value
		r.Configs = append(r.Configs, rc)
		req.Resources = append(req.Resources, r)
	}
	kresp, err := ref.cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return err
	}
	for _, r := range kresp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
		if r.ErrorCode != 0 {
			return fmt.Errorf("set %s: %w", r.ResourceName, kerr.ErrorForCode(r.ErrorCode))
		}
	}
	return nil
}

// fillTxn commits some transactions and aborts others, so many that segments are sealed
// with aborted ones in them.
func (s *swap) fillTxn(ctx context.Context, _ *reference) error {
	cl, err := newTransactional(s.bootstrap, "swap-ended", swapTxn)
	if err != nil {
		return err
	}
	defer cl.Close()
	noise := rand.New(rand.NewPCG(1, 2))
	for i := range 8 {
		commit, word := kgo.TryCommit, "seen"
		if i%3 == 1 {
			commit, word = kgo.TryAbort, swapHidden
		}
		var rs []string
		for j := range 100 {
			rs = append(rs, fmt.Sprintf("%s %d/%d %x", word, i, j, make([]byte, 1500+noise.IntN(1000))))
		}
		if err := transact(ctx, cl, rs...); err != nil {
			return err
		}
		if err := cl.EndTransaction(ctx, commit); err != nil {
			return err
		}
	}
	return nil
}

// swapHidden begins the values of aborted records.
const swapHidden = "aborted"

func newTransactional(bootstrap, id, topic string) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(id), kgo.TransactionTimeout(15*time.Minute),
		kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(100*time.Millisecond))
}

// transact begins a transaction and leaves it open.
func transact(ctx context.Context, cl *kgo.Client, values ...string) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for i, v := range values {
		cl.Produce(ctx, &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte(v)}, nil)
	}
	return cl.Flush(ctx)
}

// fillOpen leaves two transactions open, one of them with offsets of a group.
func (s *swap) fillOpen(ctx context.Context, ref *reference) error {
	for i, t := range []struct {
		id    string
		value string
	}{{"swap-open-1", "open until Kafka commits it"}, {"swap-open-2", swapHidden + " in the end"}} {
		if err := ref.produce(ctx, swapOpen, "none", false, swapRecords(-2, 10, 5, 20)); err != nil {
			return err
		}
		cl, err := newTransactional(s.bootstrap, t.id, swapOpen)
		if err != nil {
			return err
		}
		s.open[i] = cl
		if err := transact(ctx, cl, t.value, t.value, t.value); err != nil {
			return err
		}
	}
	for _, t := range []struct {
		offset int64
		end    kgo.TransactionEndTry
		open   bool
	}{{3, kgo.TryCommit, false}, {5, kgo.TryAbort, false}, {7, kgo.TryCommit, true}} {
		cl, id := s.open[1], "swap-open-2"
		if !t.open {
			var err error
			id = "swap-offsets"
			if cl, err = newTransactional(s.bootstrap, id, swapTxn); err != nil {
				return err
			}
			defer cl.Close()
			if err := transact(ctx, cl, "seen"); err != nil {
				return err
			}
		}
		if err := txnCommit(ctx, cl, id, t.offset); err != nil {
			return fmt.Errorf("commit offset %d in a transaction: %w", t.offset, err)
		}
		if t.open {
			continue
		}
		if err := cl.EndTransaction(ctx, t.end); err != nil {
			return err
		}
	}
	return ref.produce(ctx, swapOpen, "none", false, swapRecords(-2, 10, 5, 20))
}

// txnCommit commits an offset of a group in the transaction that a client has open.
func txnCommit(ctx context.Context, cl *kgo.Client, txn string, offset int64) error {
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = txn, id, epoch, swapOffsetsGroup
	added, err := add.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return err
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group, commit.Generation = txn, id, epoch, swapOffsetsGroup, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = swapTxn
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset, rp.LeaderEpoch = offset, -1
	rt.Partitions = append(rt.Partitions, rp)
	commit.Topics = append(commit.Topics, rt)
	resp, err := commit.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// fillProducers leaves the states of producers: one whose records are there, one in a later
// epoch, and one whose records are gone.
func (s *swap) fillProducers(ctx context.Context, ref *reference) error {
	steady, err1 := s.newRawProducer(ctx, ref.cl, "of Kafka", swapSequences)
	bumped, err2 := s.newRawProducer(ctx, ref.cl, "in a later epoch", swapSequences)
	old, err3 := s.newRawProducer(ctx, ref.cl, "without records", swapOld)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	for _, p := range []*rawProducer{steady, bumped, old} {
		for i := range 8 {
			if err := p.send(ctx, ref.cl, i%3+1); err != nil {
				return err
			}
		}
	}
	bumped.bump()
	if err := bumped.send(ctx, ref.cl, 2); err != nil {
		return err
	}
	// Three segments, of which DeleteRecords takes the first. Kafka deletes the snapshot of
	// producers at the second one's base, and keeps that at the third one's.
	if err := ref.produce(ctx, swapOld, "none", false, swapRecords(-2, 4000, 10, 600)); err != nil {
		return err
	}
	return deleteRecords(ctx, ref, swapOld, 0, 2500)
}

func deleteRecords(ctx context.Context, ref *reference, topic string, partition int32, before int64) error {
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: before, LeaderEpoch: -1})
	deleted, err := ref.admin.DeleteRecords(ctx, offsets)
	if err == nil {
		err = deleted.Error()
	}
	return err
}

// fillCleaned waits until the cleaner has been over keys, tombstones and compressed batches,
// and then has it clean no more.
func (s *swap) fillCleaned(ctx context.Context, ref *reference) error {
	written := 0
	for round, codec := range codecs() {
		rs := swapRecords(round, 500, 40, 100)
		for key := range 5 {
			rs = append(rs, record{Key: []byte(strconv.Itoa(key)), Value: nil})
		}
		rs = append(rs, record{Key: []byte("only once " + codec), Value: []byte("kept")})
		written += len(rs)
		if err := ref.produce(ctx, swapCleaned, codec, false, rs); err != nil {
			return err
		}
		time.Sleep(150 * time.Millisecond)
	}
	if err := ref.produce(ctx, swapCleaned, "none", false, []record{{Key: []byte("last"), Value: []byte("in the active segment")}}); err != nil {
		return err
	}
	err := eventuallyIn(ctx, swapPatience, func() error {
		rs, err := ref.readAll(ctx, swapCleaned)
		if err == nil && len(rs) > 60 {
			err = fmt.Errorf("%d of %d records are left of %s: it was not cleaned", len(rs), written, swapCleaned)
		}
		return err
	})
	if err != nil {
		return err
	}
	one := "1.0"
	_, err = ref.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "min.cleanable.dirty.ratio", Value: &one}, {Op: kadm.DeleteConfig, Name: "max.compaction.lag.ms"}}, swapCleaned)
	return err
}

// fillGroups has a share group read something, and leaves a group of the new protocol with a
// member: it was killed, and is in the group until its session of a minute ends, which begins
// anew when a coordinator starts.
func (s *swap) fillGroups(ctx context.Context, ref *reference) error {
	err := s.runTools(ctx, []toolRun{
		{consoleShareConsumer, []string{"--topic", swapPlain, "--group", swapShareGroup, "--max-messages", "50"}},
	})
	if err != nil {
		return err
	}
	member := s.java.command(ctx, consoleConsumer, "--bootstrap-server", s.bootstrap, "--topic", swapTxn, "--group", swapMemberGroup, "--command-property", "group.protocol=consumer",
		"--command-property", "auto.commit.interval.ms=100", "--from-beginning")
	if err := member.Start(); err != nil {
		return err
	}
	err = eventuallyIn(ctx, swapPatience, func() error {
		described, err := ref.admin.DescribeConsumerGroups(ctx, swapMemberGroup)
		if g := described[swapMemberGroup]; err == nil && (g.State != "Stable" || len(g.Members) != 1) {
			err = fmt.Errorf("%s is %s with %d members", swapMemberGroup, g.State, len(g.Members))
		}
		if err != nil {
			return err
		}
		offsets, err := ref.admin.FetchOffsets(ctx, swapMemberGroup)
		if err == nil && len(offsets.Sorted()) < 2 {
			err = fmt.Errorf("%s has not committed", swapMemberGroup)
		}
		return err
	})
	killed := member.Process.Kill()
	_ = member.Wait() // says that it was killed
	return errors.Join(err, killed)
}
