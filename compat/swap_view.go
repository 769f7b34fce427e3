package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// section is one part of what can be seen of a broker: a name, and lines of text, a fact
// each. Two brokers with the same data show the same lines.
type section struct {
	name  string
	lines []string
}

func (s *section) add(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// addJSON adds a value whole, as Kafka's message has it.
func (s *section) addJSON(what string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte(err.Error())
	}
	s.add("%s %s", what, b)
}

// viewer asks one broker for everything.
type viewer struct {
	ctx    context.Context
	s      *swap
	ref    *reference
	broker *kgo.Broker
	topics []kmsg.MetadataResponseTopic // by name
}

// view is what both brokers can show of the data directory.
func (s *swap) view(ctx context.Context) ([]section, error) {
	return s.look(ctx, []part{
		{"cluster", (*viewer).cluster},
		{"topics and settings", (*viewer).settings},
		{"offsets and times", (*viewer).offsets},
		{"every batch", (*viewer).batches},
		{"read_committed", (*viewer).committed},
		{"last value of each key", (*viewer).lastValues},
		{"leader epochs", (*viewer).epochs},
		{"groups and commits", (*viewer).groups},
		{"groups of the new protocol", (*viewer).newGroups},
		{"producers", (*viewer).producers},
		{"sizes of logs", (*viewer).sizes},
	})
}

// part is how one section is made.
type part struct {
	name string
	show func(*viewer, *section) error
}

func (s *swap) look(ctx context.Context, parts []part) ([]section, error) {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return nil, err
	}
	defer ref.close()
	v := &viewer{ctx: ctx, s: s, ref: ref, broker: ref.cl.SeedBrokers()[0]}
	if err := eventuallyIn(ctx, swapPatience, v.leads); err != nil {
		return nil, err
	}
	var out []section
	for _, p := range parts {
		sec := section{name: p.name}
		if err := p.show(v, &sec); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		out = append(out, sec)
	}
	return out, nil
}

// leads asks for all topics, and whether the broker leads all of their partitions and has
// loaded all groups: one that starts does after a while.
func (v *viewer) leads() error {
	kresp, err := v.broker.Request(v.ctx, kmsg.NewPtrListGroupsRequest())
	if err == nil {
		err = kerr.ErrorForCode(kresp.(*kmsg.ListGroupsResponse).ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(v.ctx, v.ref.cl)
	if err != nil {
		return err
	}
	v.topics = resp.Topics
	slices.SortFunc(v.topics, func(a, b kmsg.MetadataResponseTopic) int { return cmp.Compare(*a.Topic, *b.Topic) })
	return v.eachPartition(func(string) bool { return true }, func(t kmsg.MetadataResponseTopic, p int32, _ string) error {
		got, err := v.listOffset(t, p, 0, -1)
		if err == nil {
			err = kerr.ErrorForCode(got.ErrorCode)
		}
		return err
	})
}

// frozen tells of a topic that changes only when the suite writes to it: not those that
// the brokers compact when they see fit, nor those they write to themselves, nor the one
// that is written to while a broker is killed.
func frozen(topic string) bool {
	return topic != swapCompacted && topic != swapBusy && !strings.HasPrefix(topic, "__")
}

// eachPartition calls f for each partition of the topics that keep, in order.
func (v *viewer) eachPartition(keep func(topic string) bool, f func(t kmsg.MetadataResponseTopic, p int32, name string) error) error {
	for _, t := range v.topics {
		if !keep(*t.Topic) {
			continue
		}
		for p := range int32(len(t.Partitions)) {
			name := fmt.Sprintf("%s-%d", *t.Topic, p)
			if err := f(t, p, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func (v *viewer) cluster(s *section) error {
	m, err := v.ref.admin.BrokerMetadata(v.ctx)
	if err != nil {
		return err
	}
	s.add("cluster %s, brokers %v, controller %d", m.Cluster, m.Brokers.NodeIDs(), m.Controller)
	return nil
}

// settings are the topics as Metadata tells them, and everything that was set.
func (v *viewer) settings(s *section) error {
	req := kmsg.NewPtrDescribeConfigsRequest()
	ask := func(kind kmsg.ConfigResourceType, name string) {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kind, name
		req.Resources = append(req.Resources, r)
	}
	for _, t := range v.topics {
		s.add("topic %s id %x internal %t error %d", *t.Topic, t.TopicID, t.IsInternal, t.ErrorCode)
		slices.SortFunc(t.Partitions, func(a, b kmsg.MetadataResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
		for _, p := range t.Partitions {
			s.add("partition %s-%d error %d leader %d replicas %v in sync %v offline %v", *t.Topic, p.Partition, p.ErrorCode, p.Leader, p.Replicas, p.ISR, p.OfflineReplicas)
		}
		ask(kmsg.ConfigResourceTypeTopic, *t.Topic)
	}
	ask(kmsg.ConfigResourceTypeBroker, "")
	ask(kmsg.ConfigResourceTypeBroker, "1")
	ask(kmsg.ConfigResourceTypeGroupConfig, swapNewGroup)
	ask(kmsg.ConfigResourceTypeClientMetrics, swapMetrics)
	kresp, err := v.broker.Request(v.ctx, req)
	if err != nil {
		return err
	}
	for _, r := range kresp.(*kmsg.DescribeConfigsResponse).Resources {
		s.add("%v %q error %d", r.ResourceType, r.ResourceName, r.ErrorCode)
		for _, c := range r.Configs {
			switch c.Source {
			case kmsg.ConfigSourceDefaultConfig, kmsg.ConfigSourceStaticBrokerConfig:
			default:
				s.add("%v %q %s=%s (%v)", r.ResourceType, r.ResourceName, c.Name, orNull(c.Value), c.Source)
			}
		}
	}
	slices.Sort(s.lines)
	return nil
}

func orNull(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// offsets are where each log begins, ends and is stable, and which offsets ListOffsets
// finds for times.
func (v *viewer) offsets(s *section) error {
	return v.eachPartition(frozen, func(t kmsg.MetadataResponseTopic, p int32, name string) error {
		for _, q := range []struct {
			what      string
			isolation int8
			time      int64
		}{
			{"starts at", 0, -2}, {"ends at", 0, -1}, {"is stable to", 1, -1}, {"greatest time at", 0, -3},
			{"time 0 at", 0, 0}, {"time of the fill's end at", 0, v.s.filled.UnixMilli()}, {"time far ahead at", 0, 1 << 60},
		} {
			at, err := v.listOffset(t, p, q.isolation, q.time)
			if err != nil {
				return err
			}
			epoch := fmt.Sprintf(", epoch %d", at.LeaderEpoch)
			if q.time == -1 {
				epoch = "" // that of the leader, who changed
			}
			s.add("%s %s %d, time %d%s, error %d", name, q.what, at.Offset, at.Timestamp, epoch, at.ErrorCode)
		}
		return nil
	})
}

func (v *viewer) listOffset(t kmsg.MetadataResponseTopic, p int32, isolation int8, time int64) (kmsg.ListOffsetsResponseTopicPartition, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = *t.Topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p, time, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	kresp, err := v.broker.Request(v.ctx, req)
	if err != nil {
		return kmsg.ListOffsetsResponseTopicPartition{}, err
	}
	return kresp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0], nil
}

// batchHead is what a batch's header says, and a checksum of all its bytes.
type batchHead struct {
	base, last, maxTime, producer int64
	leaderEpoch, sequence, count  int32
	attributes, producerEpoch     int16
	sum                           uint32
}

func (h batchHead) String() string {
	var kind strings.Builder
	kind.WriteString(codecs()[h.attributes&7])
	for bit, word := range []string{"append time", "transactional", "control", "horizon"} {
		if h.attributes&(8<<bit) != 0 {
			kind.WriteString(", " + word)
		}
	}
	return fmt.Sprintf("%d-%d epoch %d (%s) %d records, time %d, producer %d/%d from %d, sum %08x",
		h.base, h.last, h.leaderEpoch, kind.String(), h.count, h.maxTime, h.producer, h.producerEpoch, h.sequence, h.sum)
}

// readHeads reads the heads of whole batches. What follows the last whole one is left.
func readHeads(b []byte) (heads []batchHead) {
	for len(b) >= 61 {
		n := 12 + int(binary.BigEndian.Uint32(b[8:]))
		if n < 61 || n > len(b) {
			return heads
		}
		be := binary.BigEndian
		h := batchHead{
			base: int64(be.Uint64(b)), leaderEpoch: int32(be.Uint32(b[12:])), attributes: int16(be.Uint16(b[21:])),
			maxTime: int64(be.Uint64(b[35:])), producer: int64(be.Uint64(b[43:])), producerEpoch: int16(be.Uint16(b[51:])),
			sequence: int32(be.Uint32(b[53:])), count: int32(be.Uint32(b[57:])), sum: crc32.ChecksumIEEE(b[:n]),
		}
		h.last = h.base + int64(be.Uint32(b[23:]))
		heads = append(heads, h)
		b = b[n:]
	}
	return heads
}

// fetched is what Fetch says of a partition, from its start to its end or last stable offset.
type fetched struct {
	heads              []batchHead
	start, end, stable int64
	aborted            map[string]bool
}

// fetch reads a partition from its start as bytes.
func (v *viewer) fetch(t kmsg.MetadataResponseTopic, p int32, isolation int8) (*fetched, error) {
	first, err := v.listOffset(t, p, 0, -2)
	if err != nil {
		return nil, err
	}
	out := &fetched{aborted: map[string]bool{}}
	for next := first.Offset; ; {
		rp, err := v.fetchOnce(t, p, isolation, next)
		if err != nil {
			return nil, err
		}
		if rp.ErrorCode != 0 {
			return nil, fmt.Errorf("fetch from %d: %w", next, kerr.ErrorForCode(rp.ErrorCode))
		}
		out.start, out.end, out.stable = rp.LogStartOffset, rp.HighWatermark, rp.LastStableOffset
		for _, a := range rp.AbortedTransactions {
			out.aborted[fmt.Sprintf("producer %d from %d", a.ProducerID, a.FirstOffset)] = true
		}
		heads := readHeads(rp.RecordBatches)
		if len(heads) == 0 {
			if end := map[int8]int64{0: out.end, 1: out.stable}[isolation]; next < end {
				return nil, fmt.Errorf("nothing from %d on, of %d", next, end)
			}
			return out, nil
		}
		out.heads = append(out.heads, heads...)
		next = heads[len(heads)-1].last + 1
	}
}

func (v *viewer) fetchOnce(t kmsg.MetadataResponseTopic, p int32, isolation int8, from int64) (*kmsg.FetchResponseTopicPartition, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes, req.IsolationLevel, req.SessionEpoch = 0, 64<<20, isolation, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = *t.Topic, t.TopicID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, from, 64<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	kresp, err := v.broker.Request(v.ctx, req)
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch from %d: error %d, %d topics", from, resp.ErrorCode, len(resp.Topics))
	}
	return &resp.Topics[0].Partitions[0], nil
}

// batches are all batches byte by byte.
func (v *viewer) batches(s *section) error {
	return v.eachPartition(frozen, func(t kmsg.MetadataResponseTopic, p int32, name string) error {
		f, err := v.fetch(t, p, 0)
		if err != nil {
			return err
		}
		s.add("%s starts at %d, ends at %d", name, f.start, f.end)
		for _, h := range f.heads {
			s.add("%s %v", name, h)
		}
		return nil
	})
}

// committed is what a reader gets who asks for committed records only: which batches, and
// which transactions it is told to leave out.
func (v *viewer) committed(s *section) error {
	return v.eachPartition(frozen, func(t kmsg.MetadataResponseTopic, p int32, name string) error {
		f, err := v.fetch(t, p, 1)
		if err != nil {
			return err
		}
		s.add("%s stable to %d of %d, %d batches", name, f.stable, f.end, len(f.heads))
		for _, a := range slices.Sorted(maps.Keys(f.aborted)) {
			s.add("%s aborted: %s", name, a)
		}
		all, err := v.read(*t.Topic, p, f, kgo.ReadCommitted())
		if err != nil {
			return err
		}
		h := crc32.NewIEEE()
		for _, r := range all {
			if bytes.HasPrefix(r.Value, []byte(swapHidden)) {
				return fmt.Errorf("a reader of committed records gets one that is not, at %d: %.40q", r.Offset, r.Value)
			}
			fmt.Fprintf(h, "%d %d %q %q\n", r.Offset, r.Timestamp.UnixMilli(), r.Key, r.Value)
		}
		s.add("%s %d records, sum %08x", name, len(all), h.Sum32())
		return nil
	})
}

// read has franz-go read a partition to the end of what was fetched: the last batch
// holds a record or a marker, or the log would not end there.
func (v *viewer) read(topic string, p int32, f *fetched, level kgo.IsolationLevel) ([]*kgo.Record, error) {
	end := int64(-1)
	for _, h := range f.heads {
		if h.count > 0 {
			end = h.last
		}
	}
	if end < f.start {
		return nil, nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(v.ref.bootstrap), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), kgo.FetchMaxWait(200e6),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {p: kgo.NewOffset().At(f.start)}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var all []*kgo.Record
	for last := int64(-1); last < end; {
		fetches := cl.PollFetches(v.ctx)
		if err := errors.Join(fetches.Err0(), fetches.Err()); err != nil {
			return nil, fmt.Errorf("read after %d to %d: %w", last, end, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			last = r.Offset
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
		})
	}
	return all, nil
}

// lastValues is what compaction promises to keep, whichever broker compacts when: the last
// value of each key. A key whose last value is a tombstone may be gone.
func (v *viewer) lastValues(s *section) error {
	return v.eachPartition(func(topic string) bool { return topic == swapCompacted }, func(t kmsg.MetadataResponseTopic, p int32, name string) error {
		f, err := v.fetch(t, p, 0)
		if err != nil {
			return err
		}
		all, err := v.read(*t.Topic, p, f, kgo.ReadUncommitted())
		if err != nil {
			return err
		}
		last := map[string]*kgo.Record{}
		for _, r := range all {
			last[string(r.Key)] = r
		}
		s.add("%s starts at %d, ends at %d", name, f.start, f.end)
		for _, key := range slices.Sorted(maps.Keys(last)) {
			if r := last[key]; r.Value != nil {
				s.add("%s key %s at %d, time %d, producer %d, value %s", name, key, r.Offset, r.Timestamp.UnixMilli(), r.ProducerID, strings.TrimSpace(string(r.Value)))
			}
		}
		return nil
	})
}

// epochs are the ends of all leader epochs that wrote something.
func (v *viewer) epochs(s *section) error {
	return v.eachPartition(frozen, func(t kmsg.MetadataResponseTopic, p int32, name string) error {
		f, err := v.fetch(t, p, 0)
		if err != nil {
			return err
		}
		epochs := map[int32]bool{}
		for _, h := range f.heads {
			epochs[h.leaderEpoch] = true
		}
		for _, epoch := range slices.Sorted(maps.Keys(epochs)) {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			req.ReplicaID = -1
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = *t.Topic
			rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = p, -1, epoch
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			kresp, err := v.broker.Request(v.ctx, req)
			if err != nil {
				return err
			}
			got := kresp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
			s.add("%s epoch %d ends at %d (epoch %d, error %d)", name, epoch, got.EndOffset, got.LeaderEpoch, got.ErrorCode)
		}
		return nil
	})
}

// groups are all groups of all kinds, with what they have committed.
func (v *viewer) groups(s *section) error {
	kresp, err := v.broker.Request(v.ctx, kmsg.NewPtrListGroupsRequest())
	if err != nil {
		return err
	}
	listed := kresp.(*kmsg.ListGroupsResponse)
	if listed.ErrorCode != 0 {
		return kerr.ErrorForCode(listed.ErrorCode)
	}
	slices.SortFunc(listed.Groups, func(a, b kmsg.ListGroupsResponseGroup) int { return cmp.Compare(a.Group, b.Group) })
	names := map[[16]byte]string{}
	for _, t := range v.topics {
		names[t.TopicID] = *t.Topic
	}
	for _, g := range listed.Groups {
		s.add("group %s is of type %s, protocol %q, state %s", g.Group, g.GroupType, g.ProtocolType, g.GroupState)
		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Groups = []string{g.Group}
		kresp, err := describe.RequestWith(v.ctx, v.ref.cl)
		if err != nil {
			return err
		}
		s.addJSON("group "+g.Group+" described", kresp.Groups)
		for _, stable := range []bool{false, true} {
			if err := v.commits(s, g.Group, stable, names); err != nil {
				return fmt.Errorf("offsets of %s: %w", g.Group, err)
			}
		}
	}
	return nil
}

func (v *viewer) commits(s *section, group string, stable bool, names map[[16]byte]string) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = stable
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	req.Groups = append(req.Groups, rg)
	kresp, err := v.broker.Request(v.ctx, req)
	if err != nil {
		return err
	}
	what := "commits"
	if stable {
		what = "commits for sure"
	}
	for _, g := range kresp.(*kmsg.OffsetFetchResponse).Groups {
		s.add("group %s error %d", g.Group, g.ErrorCode)
		var lines []string
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				lines = append(lines, fmt.Sprintf("group %s %s %s-%d at %d, epoch %d, %q, error %d", g.Group, what,
					cmp.Or(t.Topic, names[t.TopicID], hex.EncodeToString(t.TopicID[:])), p.Partition, p.Offset, p.LeaderEpoch, orNull(p.Metadata), p.ErrorCode))
			}
		}
		slices.Sort(lines)
		s.lines = append(s.lines, lines...)
	}
	return nil
}

// sizes are the bytes of each log, as DescribeLogDirs adds them up.
func (v *viewer) sizes(s *section) error {
	dirs, err := v.ref.admin.DescribeAllLogDirs(v.ctx, nil)
	if err != nil {
		return err
	}
	for _, on := range dirs.Sorted() {
		s.add("directory error %v", on.Err)
		on.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if frozen(p.Topic) {
				s.add("%s-%d %d bytes, lag %d, future %t", p.Topic, p.Partition, p.Size, p.OffsetLag, p.IsFuture)
			}
		})
	}
	slices.Sort(s.lines)
	return nil
}

// compare notes one check for each section: that it shows what the one before showed.
func (s *swap) compare(who string, before, after []section) {
	for i, b := range before {
		var err error
		if diff := differences(strings.Join(b.lines, "\n"), strings.Join(after[i].lines, "\n")); diff != "" {
			err = errors.New("it shows (+) what the broker before did not, or not (-) what it did:\n" + diff)
		}
		s.b.report.note("swap", who, b.name, 0, fmt.Sprintf("%d facts", len(b.lines)), err)
	}
}

// differencesShown bounds how many lines a diff has.
const differencesShown = 40

// differences are the lines that only one side has, "" if there are none.
func differences(a, b string) string {
	before, after := strings.Split(a, "\n"), strings.Split(b, "\n")
	count := map[string]int{}
	for _, line := range after {
		count[line]++
	}
	var out []string
	for _, line := range before {
		if count[line]--; count[line] < 0 {
			out = append(out, "- "+line)
		}
	}
	for _, line := range after {
		if count[line] > 0 {
			count[line]--
			out = append(out, "+ "+line)
		}
	}
	if n := len(out) - differencesShown; n > 0 {
		out = append(out[:differencesShown], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(out, "\n")
}
