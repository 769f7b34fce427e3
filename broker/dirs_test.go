package broker

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

const twoDirs = "log.dirs=one,two"

// create makes a topic.
func (h *harness) create(cl *kgo.Client, topic string, partitions int32) *kerr.Error {
	h.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
	req.Topics = append(req.Topics, rt)
	return kerr.TypedErrorForCode(ask[*kmsg.CreateTopicsResponse](h, cl, req).Topics[0].ErrorCode)
}

// dirs describes the log directories in short: "one: a-0 a-1(future 3); two offline".
func (h *harness) dirs(cl *kgo.Client, only string) string {
	h.t.Helper()
	resp, err := cl.Broker(1).Request(h.t.Context(), kmsg.NewPtrDescribeLogDirsRequest())
	if err != nil {
		h.t.Fatal(err)
	}
	var dirs []string
	for _, d := range resp.(*kmsg.DescribeLogDirsResponse).Dirs {
		if d.ErrorCode != 0 {
			dirs = append(dirs, fmt.Sprintf("%s %s", d.Dir, kerr.ErrorForCode(d.ErrorCode).(*kerr.Error).Message))
			continue
		}
		s := d.Dir + ":"
		if d.IsCordoned {
			s = d.Dir + " (cordoned):"
		}
		for _, t := range d.Topics {
			for _, p := range t.Partitions {
				if t.Topic != only {
					continue
				}
				s += fmt.Sprintf(" %s-%d", t.Topic, p.Partition)
				if p.IsFuture {
					s += "(future)"
				}
			}
		}
		dirs = append(dirs, s)
	}
	return strings.Join(dirs, "; ")
}

// alterDir asks for the move of a partition.
func (h *harness) alterDir(cl *kgo.Client, topic string, partition int32, dir string) *kerr.Error {
	h.t.Helper()
	req := kmsg.NewPtrAlterReplicaLogDirsRequest()
	rd := kmsg.NewAlterReplicaLogDirsRequestDir()
	rd.Dir = dir
	rt := kmsg.NewAlterReplicaLogDirsRequestDirTopic()
	rt.Topic, rt.Partitions = topic, []int32{partition}
	rd.Topics = append(rd.Topics, rt)
	req.Dirs = append(req.Dirs, rd)
	resp, err := cl.Broker(1).Request(h.t.Context(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	return kerr.TypedErrorForCode(resp.(*kmsg.AlterReplicaLogDirsResponse).Topics[0].Partitions[0].ErrorCode)
}

// put appends one record and returns the code of the answer.
func (h *harness) put(cl *kgo.Client, topic string, partition int32) *kerr.Error {
	h.t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, h.b.image().Topic(topic).ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition = partition
	rp.Records = batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: time.Now().UnixMilli(), Value: []byte("v")}})
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.Broker(1).Request(h.t.Context(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	return kerr.TypedErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

// get fetches from the beginning of a partition: the code, and how many bytes.
func (h *harness) get(cl *kgo.Client, topic string, partition int32) (*kerr.Error, int) {
	h.t.Helper()
	return h.getFrom(cl, topic, partition, 0, time.Second)
}

func (h *harness) getFrom(cl *kgo.Client, topic string, partition int32, offset int64, wait time.Duration) (*kerr.Error, int) {
	h.t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.MinBytes, req.MaxWaitMillis = 1<<20, 1, int32(wait.Milliseconds())
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, h.b.image().Topic(topic).ID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = partition, offset, 1<<20, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.Broker(1).Request(h.t.Context(), req)
	if err != nil {
		h.t.Error(err)
		return nil, 0
	}
	p := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	return kerr.TypedErrorForCode(p.ErrorCode), len(p.RecordBatches)
}

// offset asks for the end of a partition.
func (h *harness) offset(cl *kgo.Client, topic string, partition int32) *kerr.Error {
	h.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = partition, timestampLatest, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.Broker(1).Request(h.t.Context(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	return kerr.TypedErrorForCode(resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode)
}

// leaders describes the partitions of a topic as Metadata does.
func (h *harness) leaders(cl *kgo.Client, topic string) string {
	h.t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	var all []string
	for _, p := range ask[*kmsg.MetadataResponse](h, cl, req).Topics[0].Partitions {
		all = append(all, fmt.Sprintf("%d:%d/%d isr%v offline%v", p.Partition, p.Leader, p.ErrorCode, p.ISR, p.OfflineReplicas))
	}
	return strings.Join(all, " ")
}

// coordinator asks who coordinates a group, and the coordinator for its members' heartbeats.
func (h *harness) coordinator(cl *kgo.Client, group string) (find, beat *kerr.Error) {
	h.t.Helper()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKeys = []string{group}
	found := ask[*kmsg.FindCoordinatorResponse](h, cl, req)
	hb := kmsg.NewPtrHeartbeatRequest()
	hb.Group, hb.MemberID = group, "m"
	resp, err := cl.Broker(1).Request(h.t.Context(), hb)
	if err != nil {
		h.t.Fatal(err)
	}
	return kerr.TypedErrorForCode(found.Coordinators[0].ErrorCode), kerr.TypedErrorForCode(resp.(*kmsg.HeartbeatResponse).ErrorCode)
}

// groupIn finds a group whose coordinator's partition is in a directory.
func (h *harness) groupIn(dir string) string {
	h.t.Helper()
	t := h.b.image().Topic(offsetsTopic)
	for i := range 1000 {
		group := fmt.Sprintf("g%d", i)
		l, err := h.b.parts.get(t, metadata.PartitionFor(group, int32(len(t.Partitions))))
		if err == nil && l.Directory() == dir {
			return group
		}
	}
	h.t.Fatal("no group in " + dir)
	return ""
}

// A directory that fails takes its own partitions offline, with the codes that Kafka
// answers, and nothing else. What was in it is there when it works again.
func TestOneDirectoryFails(t *testing.T) {
	var disk *vfs.Fault
	onDisk(t, func() vfs.FS { disk = vfs.NewFault(vfs.NewMem()); return disk }, func(h *harness) {
		cl := h.client(kgo.RequestRetries(0))
		if err := h.create(cl, "a", 4); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := h.dirs(cl, "a"); got != "one: a-0 a-2; two: a-1 a-3" {
			t.Fatalf("placed %s", got)
		}
		for p := range int32(4) {
			if err := h.put(cl, "a", p); err != nil {
				t.Fatal(err)
			}
		}
		if _, beat := h.coordinator(cl, "any"); beat != kerr.UnknownMemberID {
			t.Errorf("heartbeat of a stranger: %v", beat)
		}
		time.Sleep(time.Second)
		inOne, inTwo := h.groupIn("one"), h.groupIn("two")
		for i, p := range h.b.image().Topic("a").Partitions {
			if want := h.b.dirs.ID(h.b.dirs.Directories()[i%2]); p.Directory(1) != want {
				t.Errorf("a-%d is recorded in directory %x, want %x", i, p.Directory(1), want)
			}
		}

		waited := make(chan time.Duration, 1)
		go func() { // waits for what comes after the one record
			began := time.Now()
			if err, _ := h.getFrom(cl, "a", 3, 1, time.Minute); err != kerr.KafkaStorageError {
				t.Errorf("a fetch that waited when the directory failed: %v", err)
			}
			waited <- time.Since(began)
		}()
		time.Sleep(time.Second)
		disk.SetRules(vfs.Rule{Kind: vfs.OpSync, Path: "two/a-1/*", Err: syscall.EIO})
		if err := h.put(cl, "a", 1); err != kerr.KafkaStorageError {
			t.Fatalf("the append whose sync fails: %v", err)
		}
		disk.SetRules(vfs.Rule{Path: "two/*", Err: syscall.EIO, Times: -1}, vfs.Rule{Path: "two/*/*", Err: syscall.EIO, Times: -1})
		if d := <-waited; d > 10*time.Second {
			t.Errorf("a fetch from the directory waited for %v", d)
		}
		for p := range int32(4) {
			var want *kerr.Error
			if p%2 == 1 {
				want = kerr.KafkaStorageError
			}
			if err := h.put(cl, "a", p); err != want {
				t.Errorf("produce to a-%d: %v, want %v", p, err, want)
			}
			if err, n := h.get(cl, "a", p); err != want || (n > 0) != (want == nil) {
				t.Errorf("fetch from a-%d: %v and %d bytes, want %v", p, err, n, want)
			}
			if err := h.offset(cl, "a", p); err != want {
				t.Errorf("list offsets of a-%d: %v, want %v", p, err, want)
			}
		}
		if got, want := h.leaders(cl, "a"), "0:1/0 isr[1] offline[] 1:-1/5 isr[] offline[1] 2:1/0 isr[1] offline[] 3:-1/5 isr[] offline[1]"; got != want {
			t.Errorf("metadata: %s\nwant      %s", got, want)
		}
		if got := h.dirs(cl, "a"); got != "one: a-0 a-2; two KAFKA_STORAGE_ERROR" {
			t.Errorf("log directories: %s", got)
		}
		if find, beat := h.coordinator(cl, inTwo); find != kerr.CoordinatorNotAvailable || beat != kerr.NotCoordinator {
			t.Errorf("a group in the failed directory: %v, %v", find, beat)
		}
		if find, beat := h.coordinator(cl, inOne); find != nil || beat != kerr.UnknownMemberID {
			t.Errorf("a group in the other one: %v, %v", find, beat)
		}
		for dir, want := range map[string]*kerr.Error{"one": kerr.KafkaStorageError, "two": kerr.KafkaStorageError, "three": kerr.LogDirNotFound} {
			if err := h.alterDir(cl, "a", 1, dir); err != want {
				t.Errorf("a move of an offline partition to %s: %v, want %v", dir, err, want)
			}
		}
		if err := h.alterDir(cl, "a", 0, "one"); err != nil {
			t.Errorf("the move to where it is: %v", err)
		}
		if err := h.create(cl, "later", 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := h.dirs(cl, "later"); got != "one: later-0 later-1 later-2; two KAFKA_STORAGE_ERROR" {
			t.Errorf("a topic made then: %s", got)
		}
		f := h.b.facts()
		if offline := strings.Count(h.leaders(cl, "a")+h.leaders(cl, offsetsTopic), ":-1/"); f.OfflineLogDirs != 1 || f.OfflinePartitions != offline {
			t.Errorf("metrics: %d directories and %d partitions offline, want 1 and %d", f.OfflineLogDirs, f.OfflinePartitions, offline)
		}
		if h.b.Err() != nil {
			t.Errorf("the broker has ended: %v", h.b.Err())
		}
		cl.Close()

		h.restart() // and it still cannot be read
		cl = h.client(kgo.RequestRetries(0))
		if err := h.put(cl, "a", 1); err != kerr.NotLeaderForPartition {
			t.Errorf("produce to a partition that was offline at the start: %v", err)
		}
		if err := h.put(cl, "a", 0); err != nil {
			t.Errorf("produce to the others: %v", err)
		}
		if got := h.dirs(cl, "a"); got != "one: a-0 a-2; two KAFKA_STORAGE_ERROR" {
			t.Errorf("log directories: %s", got)
		}
		cl.Close()
		disk.SetRules()
		h.restart()
		cl = h.client(kgo.RequestRetries(0))
		defer cl.Close()
		time.Sleep(time.Second)
		for p := range int32(4) {
			if err := h.put(cl, "a", p); err != nil {
				t.Errorf("produce to a-%d with all directories: %v", p, err)
			}
			if err, n := h.get(cl, "a", p); err != nil || n == 0 {
				t.Errorf("fetch from a-%d with all directories: %v, %d bytes", p, err, n)
			}
		}
	}, twoDirs, "offsets.topic.num.partitions=8")
}

// Without the metadata log's directory, or without any, the broker ends.
func TestTheMetadataDirectoryFails(t *testing.T) {
	for name, c := range map[string]struct{ set, path string }{
		"the metadata log's": {twoDirs, "one/a-0/*"},
		"the only one":       {"metadata.log.dir=meta", "data/a-0/*"},
	} {
		t.Run(name, func(t *testing.T) {
			var disk *vfs.Fault
			onDisk(t, func() vfs.FS { disk = vfs.NewFault(vfs.NewMem()); return disk }, func(h *harness) {
				cl := h.client(kgo.RequestRetries(0))
				defer cl.Close()
				if err := h.create(cl, "a", 1); err != nil {
					t.Fatal(err)
				}
				if err := h.put(cl, "a", 0); err != nil {
					t.Fatal(err)
				}
				disk.SetRules(vfs.Rule{Kind: vfs.OpWrite, Path: c.path, Err: syscall.EIO})
				if err := h.put(cl, "a", 0); err != kerr.KafkaStorageError {
					t.Errorf("produce: %v", err)
				}
				select {
				case <-h.b.Failed():
				case <-time.After(time.Minute):
					t.Error("the broker goes on")
				}
			}, c.set)
		})
	}
}

// A partition moves under a producer and a consumer that notice nothing, and
// cordoned directories get nothing new.
func TestAlterReplicaLogDirs(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		if err := h.alterDir(cl, "a", 0, "two"); err != kerr.UnknownTopicOrPartition {
			t.Errorf("a partition that does not exist: %v", err)
		}
		if err := h.create(cl, "a", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := h.dirs(cl, "a"); got != "one:; two: a-0" {
			t.Errorf("where it was asked to be made: %s", got)
		}
		h.produce(cl, "a", 500)
		consumer := h.client(kgo.ConsumeTopics("a"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer consumer.Close()
		h.consume(consumer, 500)
		for name, want := range map[string]*kerr.Error{"nowhere": kerr.LogDirNotFound, "./one": kerr.LogDirNotFound} {
			if err := h.alterDir(cl, "a", 0, name); err != want {
				t.Errorf("to %s: %v, want %v", name, err, want)
			}
		}
		h.setBroker(cl, "replica.alter.log.dirs.io.max.bytes.per.second", "2000")
		if err := h.alterDir(cl, "a", 0, "one"); err != nil {
			t.Fatal(err)
		}
		h.setBroker(cl, "replica.alter.log.dirs.io.max.bytes.per.second", "9223372036854775807")
		for range 10 {
			h.produce(cl, "a", 50)
			time.Sleep(time.Second)
		}
		if got := h.dirs(cl, "a"); got != "one: a-0; two:" {
			t.Errorf("after the move: %s", got)
		}
		h.consume(consumer, 500)
		p := h.b.image().Topic("a").Partitions[0]
		if p.Directory(1) != h.b.dirs.ID(h.b.dirs.Directories()[0]) || p.LeaderEpoch != 0 {
			t.Errorf("the metadata log has %+v", p)
		}

		h.setBroker(cl, "cordoned.log.dirs", "two")
		time.Sleep(time.Second)
		if err := h.alterDir(cl, "a", 0, "two"); err != kerr.InvalidReplicaAssignment {
			t.Errorf("to a cordoned directory: %v", err)
		}
		if err := h.create(cl, "b", 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := h.dirs(cl, "b"); got != "one: b-0 b-1 b-2; two (cordoned):" {
			t.Errorf("with one cordoned: %s", got)
		}
		h.setBroker(cl, "cordoned.log.dirs", "*")
		time.Sleep(time.Second)
		if err := h.create(cl, "c", 1); err != kerr.InvalidReplicationFactor {
			t.Errorf("a topic with all directories cordoned: %v", err)
		}
		h.setBroker(cl, "cordoned.log.dirs", "")
		time.Sleep(time.Second)
		if err := h.create(cl, "c", 4); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := h.dirs(cl, "c"); got != "one:; two: c-0 c-1 c-2 c-3" {
			t.Errorf("with none cordoned: %s", got)
		}
	}, twoDirs)
}

// setBroker sets a dynamic setting of the broker.
func (h *harness) setBroker(cl *kgo.Client, name, value string) {
	h.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = name, &value
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	resp, err := cl.Broker(1).Request(h.t.Context(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	if got := resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0]; got.ErrorCode != 0 {
		h.t.Fatalf("set %s: %v %s", name, kerr.ErrorForCode(got.ErrorCode), text(got.ErrorMessage))
	}
}

// Directories that are not of one node are refused, new ones are made the node's.
func TestWhoseDirectories(t *testing.T) {
	inBubble(t, func(h *harness) {
		first := h.b.dirs.ID(h.b.dirs.Directories()[0])
		h.stop()
		h.set = []string{twoDirs, "metadata.log.dir=data"}
		h.start()
		var ids [][16]byte
		for _, r := range h.b.dirs.Directories() {
			ids = append(ids, h.b.dirs.ID(r))
		}
		if len(ids) != 3 || ids[2] != first || ids[0] == ids[1] || slices.Contains(ids[:2], first) {
			t.Errorf("directory ids %x, the first one was %x", ids, first)
		}
		if got := h.b.image().Broker(1).Directories; len(got) != 2 {
			t.Errorf("registered with %x", got)
		}
		h.stop()
		refused := func(says string, set ...string) {
			t.Helper()
			h.set = set
			if err := h.tryStart(); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v: %v, want an error about %q", set, err, says)
			}
		}
		refused("named twice", "log.dirs=one,./one", "metadata.log.dir=data")
		refused("put the directory with the metadata log back", "log.dirs=new,one")
		id := metadata.MetaProperties{ClusterID: "other", NodeID: 1, DirectoryID: h.newID()}
		if err := h.fs.MkdirAll("stranger", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := writeFile(h.fs, "stranger/meta.properties", id.Format(time.Now())); err != nil {
			t.Fatal(err)
		}
		refused("cluster.id", "log.dirs=data,stranger")
		copied, err := readFile(h.fs, "one/meta.properties")
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFile(h.fs, "stranger/meta.properties", copied); err != nil {
			t.Fatal(err)
		}
		refused("the same directory.id", "log.dirs=data,one,stranger")
		h.set = []string{twoDirs, "metadata.log.dir=data"}
		h.start()
	})
}
