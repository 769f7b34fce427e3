package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// update asks for a level of a feature, up or down, and returns the error code.
func (h *harness) update(cl *kgo.Client, feature string, level int16) int16 {
	h.t.Helper()
	req, u := kmsg.NewPtrUpdateFeaturesRequest(), kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	u.Feature, u.MaxVersionLevel, u.UpgradeType = feature, level, int8(metadata.Upgrade)
	if h.finalized(feature) > level {
		u.UpgradeType = int8(metadata.SafeDowngrade)
	}
	req.FeatureUpdates = append(req.FeatureUpdates, u)
	return ask[*kmsg.UpdateFeaturesResponse](h, cl, req).ErrorCode
}

// setLevel is update, by a client of its own, that must succeed.
func (h *harness) setLevel(feature string, level int16) {
	h.t.Helper()
	cl := h.client()
	defer cl.Close()
	if code := h.update(cl, feature, level); code != 0 {
		h.t.Fatalf("%s=%d: %v", feature, level, kerr.ErrorForCode(code))
	}
}

// finalized is the level that ApiVersions tells, 0 if it tells none.
func (h *harness) finalized(feature string) int16 {
	h.t.Helper()
	cl := h.client()
	defer cl.Close()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1"
	resp := ask[*kmsg.ApiVersionsResponse](h, cl, req)
	if o := h.b.metaLog.Offsets(); resp.FinalizedFeaturesEpoch > o.High {
		h.t.Errorf("epoch %d of the features, the metadata log ends at %d", resp.FinalizedFeaturesEpoch, o.High)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == feature {
			return f.MaxVersionLevel
		}
	}
	return 0
}

// What is answered is in force and stays so after a restart; the epoch of the features rises with each change.
func TestUpdateFeatures(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		epoch := func() int64 {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1"
			return ask[*kmsg.ApiVersionsResponse](h, cl, req).FinalizedFeaturesEpoch
		}
		before := epoch()
		for _, level := range []int16{1, 0, 2, 0, 1, 2, 1} {
			if code := h.update(cl, transactionVersion, level); code != 0 {
				t.Fatalf("level %d: %v", level, kerr.ErrorForCode(code))
			}
			if got := h.finalized(transactionVersion); got != level {
				t.Fatalf("level %d is finalized, want %d", got, level)
			}
			now := epoch()
			if now <= before {
				t.Fatalf("epoch %d after %d", now, before)
			}
			before = now
		}
		if code := h.update(cl, "share.version", 2); code != kerr.InvalidUpdateVersion.Code {
			t.Errorf("share.version: %v", kerr.ErrorForCode(code))
		}
		h.restart()
		if got := h.finalized(transactionVersion); got != 1 {
			t.Errorf("level %d after a restart, want 1", got)
		}
	})
}

// noAlter forbids ALTER on the cluster.
type noAlter struct{}

func (noAlter) Authorize(_ *protocol.Call, op Operation, t ResourceType, _ string) bool {
	return op != OpAlter || t != ResourceCluster
}

// An authorizer that forbids ALTER on the cluster is heard.
func TestUpdateFeaturesMayNot(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.auth = noAlter{}
		h.restart()
		cl := h.client()
		defer cl.Close()
		if code := h.update(cl, transactionVersion, 1); code != kerr.ClusterAuthorizationFailed.Code {
			t.Errorf("%v", kerr.ErrorForCode(code))
		}
		if got := h.finalized(transactionVersion); got != 2 {
			t.Errorf("level %d", got)
		}
	})
}

// kraft.version 1 writes the voters into the log (KIP-853), where a restart finds them, and from then on each snapshot has
// them. There is no way back.
func TestUpgradeKRaftVersion(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		if got := h.finalized(metadata.FeatureKRaftVersion); got != 0 {
			t.Fatalf("kraft.version %d with static voters", got)
		}
		if code := h.update(cl, metadata.FeatureKRaftVersion, 1); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		check := func(when string) {
			t.Helper()
			if got := h.finalized(metadata.FeatureKRaftVersion); got != 1 {
				t.Fatalf("%s: kraft.version %d", when, got)
			}
			found := newSnapshots(h.fs, metaDirName, h.b.metaLog, h.b.log, snapshotSettings{})
			if err := found.find(h.b.metaLog.Offsets()); err != nil {
				t.Fatal(err)
			}
			q, inLog, err := voters(h.b.metaLog, found)
			if err != nil || !inLog || q.Version != 1 || len(q.Voters) != 1 || q.Voters[0].ID != h.b.nodeID || q.Voters[0].DirectoryID != h.b.dirID {
				t.Fatalf("%s: voters %+v in the log: %t, %v", when, q, inLog, err)
			}
		}
		check("at once")
		if code := h.update(cl, metadata.FeatureKRaftVersion, 0); code != kerr.InvalidUpdateVersion.Code {
			t.Errorf("downgrade: %v", kerr.ErrorForCode(code))
		}
		if code := h.update(cl, metadata.FeatureKRaftVersion, 1); code != 0 {
			t.Errorf("again: %v", kerr.ErrorForCode(code))
		}
		h.restart()
		check("after a restart")
		for range 6 { // until only a snapshot has them
			h.churn(cl, 10)
			synctest.Wait()
			time.Sleep(2 * time.Minute)
		}
		if o := h.b.metaLog.Offsets(); o.Start < 100 {
			t.Fatalf("the log begins at %d still", o.Start)
		}
		check("with a log that begins later")
		h.restart()
		check("after a restart of that")
	}, "controller.quorum.voters=1@localhost:9093",
		"metadata.log.max.record.bytes.between.snapshots=3000", "internal.metadata.log.segment.bytes=4000", "metadata.max.retention.bytes=12000")
}

// A crash at any change of the disk leaves kraft.version 1 with its voters, or 0, and 1 once that was answered.
func TestUpgradeKRaftVersionOnCrash(t *testing.T) {
	disk := vfs.NewCrash()
	var moments []*vfs.Crash
	set := []string{"controller.quorum.voters=1@localhost:9093"}
	answered := 0
	onDisk(t, func() vfs.FS { return disk }, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		var mu sync.Mutex
		disk.OnOp(func(vfs.Op) {
			mu.Lock()
			defer mu.Unlock()
			moments = append(moments, disk.Moment())
		})
		if code := h.update(cl, metadata.FeatureKRaftVersion, 1); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		mu.Lock()
		answered = len(moments)
		mu.Unlock()
		if code := h.update(cl, transactionVersion, 1); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
	}, set...)
	for i, m := range moments {
		for _, mode := range vfs.Modes() {
			onDisk(t, func() vfs.FS { return m.Crash(mode, uint64(i)) }, func(h *harness) {
				level, q := h.finalized(metadata.FeatureKRaftVersion), h.b.image().Quorum
				if q.Version != level || level == 1 && len(q.Voters) != 1 || i > answered && level != 1 {
					t.Errorf("change %d of %d, %s: kraft.version %d, voters %+v", i, answered, mode, level, q)
				}
			}, set...)
		}
	}
}

// formatAt makes the disk one that was formatted with these levels and never started.
func (h *harness) formatAt(levels ...metadata.FeatureLevelRecord) {
	h.t.Helper()
	h.stop()
	for _, dir := range []string{metaDirName, "data"} {
		entries, err := h.fs.ReadDir(dir)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, e := range entries {
			if !e.IsDir() && e.Name() != metaPropertiesFile {
				if err := h.fs.Remove(filepath.Join(dir, e.Name())); err != nil {
					h.t.Fatal(err)
				}
			}
		}
	}
	c := snapshotContent{records: func(yield func([]byte) bool) {
		for i := range levels {
			if !yield(metadata.AppendRecord(nil, &levels[i], 0)) {
				return
			}
		}
	}}
	if _, err := writeSnapshot(h.fs, filepath.Join("data", "part"), filepath.Join("data", bootstrapFile), &c, nil); err != nil {
		h.t.Fatal(err)
	}
	h.start()
}

// A raised metadata.version has room for more, which is written down while the broker runs: its registration as a controller, its
// directories, and which partitions are in them.
func TestRaiseMetadataVersion(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.formatAt(metadata.FeatureLevelRecord{Name: metadata.FeatureMetadataVersion, FeatureLevel: 14})
		cl := h.client()
		defer cl.Close()
		h.produce(cl, "kept", 3)
		state := func() string {
			h.t.Helper()
			synctest.Wait()
			im := h.b.image()
			b, p := im.Broker(h.b.nodeID), im.Topic("kept").Partition(0)
			return fmt.Sprintf("level %d, %d controllers, directories %t, partition placed %t, cordoned told %t, fenced %t", im.Feature(metadata.FeatureMetadataVersion),
				len(im.Controllers()), slices.Equal(b.Directories, [][16]byte{h.b.dirID}), p.Directory(h.b.nodeID) == h.b.dirID, b.CordonedDirectories != nil, b.Fenced)
		}
		for _, c := range []struct {
			level int16
			want  string
		}{
			{14, "level 14, 0 controllers, directories false, partition placed false, cordoned told false, fenced false"},
			{15, "level 15, 1 controllers, directories false, partition placed false, cordoned told false, fenced false"},
			{17, "level 17, 1 controllers, directories true, partition placed true, cordoned told false, fenced false"},
			{29, "level 29, 1 controllers, directories true, partition placed true, cordoned told false, fenced false"},
			{23, "level 23, 1 controllers, directories true, partition placed true, cordoned told false, fenced false"},
			{30, "level 30, 1 controllers, directories true, partition placed true, cordoned told true, fenced false"},
		} {
			h.setLevel(metadata.FeatureMetadataVersion, c.level)
			if got := state(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			h.produce(cl, "kept", 1)
		}
		if code := h.update(cl, metadata.FeatureMetadataVersion, 29); code != kerr.InvalidUpdateVersion.Code {
			t.Errorf("a downgrade that loses records: %v", kerr.ErrorForCode(code))
		}
		h.restart()
		if got := h.finalized(metadata.FeatureMetadataVersion); got != 30 {
			t.Errorf("level %d after a restart", got)
		}
		h.produce(cl, "kept", 1)
	}, "controller.quorum.voters=1@localhost:9093")
}

// levelModel is what is known of the transactions of several producers: by number, whether it was committed or
// aborted for certain, and whether its commit was asked for.
type levelModel struct {
	mu     sync.Mutex
	next   int
	ended  map[int]bool // answered: committed or not
	asked  map[int]bool // commits that were asked for
	errors map[string]int
}

func (m *levelModel) begin() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	return m.next
}

// produce runs transactions one after the other until ctx ends, with a client of its own that is made anew after an error,
// and now and then without one.
func (m *levelModel) produce(ctx context.Context, h *harness, id string, r *rand.Rand) {
	var cl *kgo.Client
	renew := func() {
		if cl != nil {
			cl.Close()
		}
		cl = h.client(kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(time.Minute))
	}
	renew()
	defer func() { cl.Close() }()
	for ctx.Err() == nil {
		n, commit := m.begin(), r.IntN(4) > 0
		if err := m.one(cl, n, commit, r); err != nil {
			m.mu.Lock()
			m.errors[err.Error()]++
			m.mu.Unlock()
			renew()
		} else if r.IntN(10) == 0 {
			renew()
		}
	}
}

// one is one transaction, in which time passes.
func (m *levelModel) one(cl *kgo.Client, n int, commit bool, r *rand.Rand) error {
	pause := func() { time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond) }
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for p := range int32(txnPartitions) {
		if err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: "x", Partition: p, Value: []byte(strconv.Itoa(n))}).FirstErr(); err != nil {
			return errors.Join(err, cl.EndTransaction(context.Background(), kgo.TryAbort))
		}
		pause()
	}
	m.mu.Lock()
	m.asked[n] = commit
	m.mu.Unlock()
	if err := cl.EndTransaction(context.Background(), kgo.TransactionEndTry(commit)); err != nil {
		return err
	}
	m.mu.Lock()
	m.ended[n] = commit
	m.mu.Unlock()
	pause()
	return nil
}

// check holds what readers of committed records see against the model.
func (m *levelModel) check(seen map[int]int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all error
	for n, count := range seen {
		if count != txnPartitions {
			all = errors.Join(all, fmt.Errorf("transaction %d: %d records of %d are seen", n, count, txnPartitions))
		}
		if !m.asked[n] {
			all = errors.Join(all, fmt.Errorf("transaction %d is seen, and nobody asked for its commit", n))
		}
	}
	for n, commit := range m.ended {
		if commit && seen[n] != txnPartitions {
			all = errors.Join(all, fmt.Errorf("committed transaction %d: %d records are seen", n, seen[n]))
		}
	}
	return all
}

// watch reads committed records as they come, and says which was seen before its commit was asked for.
func (m *levelModel) watch(ctx context.Context, h *harness) error {
	cl := h.client(kgo.ConsumeTopics("x"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer cl.Close()
	var all error
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			n, err := strconv.Atoi(string(r.Value))
			m.mu.Lock()
			defer m.mu.Unlock()
			if err != nil || !m.asked[n] {
				all = errors.Join(all, fmt.Errorf("record %s was seen early", r.Value))
			}
		})
	}
	return all
}

// The level of transaction.version goes up and down under producers in the middle of their transactions, of whom some have
// learnt of it and some not, and the broker is started again now and then: no record is lost, seen twice, torn from the
// others of its transaction, or seen before the commit.
func TestTransactionsSurviveLevels(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			inBubble(t, func(h *harness) {
				h.makeX()
				m := &levelModel{ended: map[int]bool{}, asked: map[int]bool{}, errors: map[string]int{}}
				ctx, end := context.WithCancel(h.t.Context())
				var wg sync.WaitGroup
				for i := range uint64(4) {
					wg.Go(func() { m.produce(ctx, h, fmt.Sprint("t", i), rand.New(rand.NewPCG(seed, i))) })
				}
				wg.Go(func() {
					if err := m.watch(ctx, h); err != nil {
						t.Error(err)
					}
				})
				r := rand.New(rand.NewPCG(seed, 99))
				levels := map[int16]int{}
				for i := range 60 {
					time.Sleep(time.Duration(r.IntN(80)) * time.Millisecond)
					if i%20 == 19 {
						h.restart()
						continue
					}
					level := int16(r.IntN(3))
					h.setLevel(transactionVersion, level)
					levels[level]++
				}
				end()
				wg.Wait()
				time.Sleep(3 * time.Minute) // what a client left open times out
				seen, _ := h.committed()
				if err := m.check(seen); err != nil {
					t.Error(err)
				}
				commits := 0
				for _, commit := range m.ended {
					if commit {
						commits++
					}
				}
				t.Logf("%d transactions, %d committed, levels %v, errors %v", m.next, commits, levels, slices.Sorted(maps.Keys(m.errors)))
				if commits < 50 {
					t.Errorf("only %d commits", commits)
				}
			}, "num.partitions=1", "offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=2")
		})
	}
}

// After a crash at any change of the disk, while the level goes up and down between transactions and in the middle of them,
// every transaction is whole.
func TestCrashOfTransactionsAtLevels(t *testing.T) {
	run := txnRun{steps: 9, every: 5, levels: []int16{1, 0, 2, 0, 1, 2, 0, 0, 2}}
	if testing.Short() {
		run.every = 41
	}
	crashTransactions(t, recordTransactions(t, run))
}

// A group of the newer protocol outlives a time without group.version; what is asked of it meanwhile is refused.
func TestGroupVersion(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.makeX()
		cl := h.client()
		defer cl.Close()
		beat := func(epoch int32) *kmsg.ConsumerGroupHeartbeatResponse {
			req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			req.Group, req.MemberID, req.MemberEpoch = "g", "m", epoch
			if epoch == 0 {
				req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 30000, []string{"x"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			}
			resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](h, cl, req)
			for resp.ErrorCode == kerr.CoordinatorLoadInProgress.Code || resp.ErrorCode == kerr.CoordinatorNotAvailable.Code {
				time.Sleep(100 * time.Millisecond)
				resp = ask[*kmsg.ConsumerGroupHeartbeatResponse](h, cl, req)
			}
			return resp
		}
		joined := beat(0)
		if joined.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(joined.ErrorCode))
		}
		for _, restart := range []bool{false, true} {
			if code := h.update(cl, "group.version", 0); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			if restart {
				h.restart()
			}
			if got := beat(joined.MemberEpoch); got.ErrorCode != kerr.UnsupportedVersion.Code {
				t.Errorf("heartbeat without group.version: %v", kerr.ErrorForCode(got.ErrorCode))
			}
			if code := h.update(cl, "group.version", 1); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			if got := beat(joined.MemberEpoch); got.ErrorCode != 0 {
				t.Errorf("heartbeat with group.version again: %v", kerr.ErrorForCode(got.ErrorCode))
			}
		}
	})
}
