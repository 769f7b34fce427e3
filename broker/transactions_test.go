package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
)

// txnPartitions is how many partitions each transaction of these tests writes to.
const txnPartitions = 3

// txnProducer is a client with the transactional id "t".
func (h *harness) txnProducer(opts ...kgo.Opt) *kgo.Client {
	return h.client(append([]kgo.Opt{
		kgo.TransactionalID("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(time.Minute),
	}, opts...)...)
}

// writeTxn writes one record with a value into each partition of topic x, and an offset of the same number for group g.
// It leaves the transaction open.
func writeTxn(ctx context.Context, cl *kgo.Client, number int) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	var rs []*kgo.Record
	for p := range int32(txnPartitions) {
		rs = append(rs, &kgo.Record{Topic: "x", Partition: p, Value: []byte(strconv.Itoa(number))})
	}
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		return err
	}
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = "t", "g", id, epoch
	rt, rp := kmsg.NewTxnOffsetCommitRequestTopic(), kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rt.Topic, rp.Offset = "x", int64(number)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// committed reads what readers of committed records see: how often each number is there; and the offset of group g.
func (h *harness) committed() (map[int]int, int64) {
	h.t.Helper()
	synctest.Wait() // an end is answered when it is decided; the markers come then
	cl := h.client(kgo.ConsumeTopics("x"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	ends := kmsg.NewPtrListOffsetsRequest()
	ends.ReplicaID, ends.IsolationLevel = -1, 1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = "x"
	for p := range int32(txnPartitions) {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	ends.Topics = append(ends.Topics, rt)
	left := map[int32]int64{}
	for _, t := range ask[*kmsg.ListOffsetsResponse](h, cl, ends).Topics {
		for _, p := range t.Partitions {
			if p.Offset > 0 {
				left[p.Partition] = p.Offset
			}
		}
	}
	seen := map[int]int{}
	for len(left) > 0 {
		ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
		fs := cl.PollFetches(ctx)
		late := ctx.Err() != nil
		cancel()
		if late {
			h.t.Fatalf("nothing comes, and it is not the end: %v", left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset >= left[r.Partition]-1 { // a marker: the last stable offset is behind one
				delete(left, r.Partition)
			}
			if n, err := strconv.Atoi(string(r.Value)); err == nil && !r.Attrs.IsControl() {
				seen[n]++
			}
		})
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	rg, gt := kmsg.NewOffsetFetchRequestGroup(), kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = "x", []int32{0}
	if x := h.b.image().Topic("x"); x != nil {
		gt.TopicID = x.ID
	}
	rg.Group, rg.Topics = "g", append(rg.Topics, gt)
	req.Groups, req.RequireStable = append(req.Groups, rg), true
	p := ask[*kmsg.OffsetFetchResponse](h, cl, req).Groups[0]
	if p.ErrorCode != 0 || p.Topics[0].Partitions[0].ErrorCode != 0 {
		return seen, -2
	}
	return seen, p.Topics[0].Partitions[0].Offset
}

// visible is committed as text.
func (h *harness) visible() string {
	h.t.Helper()
	seen, offset := h.committed()
	s := ""
	for _, n := range slices.Sorted(maps.Keys(seen)) {
		s += fmt.Sprintf("%dx%d ", n, seen[n])
	}
	return fmt.Sprintf("%soffset=%d", s, offset)
}

func (h *harness) sees(want string) {
	h.t.Helper()
	if got := h.visible(); got != want {
		h.t.Errorf("readers of committed records see %q, want %q", got, want)
	}
}

// makeX creates the topic that transactions write to.
func (h *harness) makeX() {
	h.t.Helper()
	cl := h.client()
	defer cl.Close()
	req, rt := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "x", txnPartitions, 1
	req.Topics = append(req.Topics, rt)
	if code := ask[*kmsg.CreateTopicsResponse](h, cl, req).Topics[0].ErrorCode; code != 0 && code != kerr.TopicAlreadyExists.Code {
		h.t.Fatalf("create: %v", kerr.ErrorForCode(code))
	}
}

// Records and offsets of a transaction are seen when it commits, all at once, and never if it aborts; a restart changes
// nothing of that, nor of the transaction that is open.
func TestTransactions(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.makeX()
		cl := h.txnProducer()
		defer cl.Close()
		must := func(err error) {
			h.t.Helper()
			if err != nil {
				h.t.Fatal(err)
			}
		}
		must(writeTxn(h.t.Context(), cl, 1))
		h.sees("offset=-2") // UNSTABLE_OFFSET_COMMIT
		must(cl.EndTransaction(h.t.Context(), kgo.TryCommit))
		h.sees("1x3 offset=1")
		must(writeTxn(h.t.Context(), cl, 2))
		must(cl.EndTransaction(h.t.Context(), kgo.TryAbort))
		h.sees("1x3 offset=1")
		must(writeTxn(h.t.Context(), cl, 3))
		h.restart()
		h.sees("1x3 offset=-2")
		must(cl.EndTransaction(h.t.Context(), kgo.TryCommit))
		h.sees("1x3 3x3 offset=3")
	})
}

// A new producer with the same id ends the transaction of the one before it, which can do nothing any more.
func TestTransactionsFence(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.makeX()
		old, cl := h.txnProducer(), h.txnProducer()
		defer old.Close()
		defer cl.Close()
		if err := writeTxn(h.t.Context(), old, 1); err != nil {
			h.t.Fatal(err)
		}
		if err := writeTxn(h.t.Context(), cl, 2); err != nil {
			h.t.Fatal(err)
		}
		if err := old.EndTransaction(h.t.Context(), kgo.TryCommit); err == nil {
			h.t.Error("a fenced producer commits")
		}
		if err := cl.EndTransaction(h.t.Context(), kgo.TryCommit); err != nil {
			h.t.Fatal(err)
		}
		h.sees("2x3 offset=2")
	})
}

// A transaction that takes longer than its timeout is aborted, also if the broker was down in between, and its producer is told.
func TestTransactionsTimeOut(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inBubble(t, func(h *harness) {
			h.makeX()
			cl := h.txnProducer()
			defer cl.Close()
			if err := writeTxn(h.t.Context(), cl, 1); err != nil {
				h.t.Fatal(err)
			}
			time.Sleep(50 * time.Second)
			h.sees("offset=-2")
			if restart {
				h.restart()
			}
			time.Sleep(25 * time.Second)
			h.sees("offset=-1")
			if err := cl.EndTransaction(h.t.Context(), kgo.TryCommit); err == nil {
				h.t.Error("a transaction is committed after its timeout")
			}
			h.sees("offset=-1")
		})
	}
}

// txnMoment is a disk at one change, with what was known of the transactions by then.
type txnMoment struct {
	op    vfs.Op
	disk  *vfs.Crash
	ended map[int]bool // answered: committed or not
	asked map[int]bool // ends that were asked for by then, answered or not
}

// After a crash at any change of the disk every transaction is whole: what was answered stays, and of the others either
// all is seen or nothing. Nobody waits for a transaction that is decided.
func TestCrashOfTransactions(t *testing.T) {
	steps, every := 12, 3
	if testing.Short() {
		steps, every = 6, 29
	}
	crashTransactions(t, recordTransactions(t, txnRun{steps: steps, every: every}))
}

// crashTransactions starts a broker on each of the disks as a crash leaves it.
func crashTransactions(t *testing.T, moments []txnMoment) {
	t.Helper()
	points := 0
	for i, m := range moments {
		for _, mode := range vfs.Modes() {
			points++
			synctest.Test(t, func(t *testing.T) {
				h := &harness{t: t, fs: m.disk.Crash(mode, uint64(i)), set: []string{"num.partitions=1", "offsets.topic.num.partitions=2", "transaction.state.log.num.partitions=2"}}
				h.ids.Store(1 << 32)
				h.start()
				defer h.stop()
				if err := h.wholeTransactions(m); err != nil {
					t.Errorf("crash %s at %v by %v: %v", mode, m.op, m.op.Site, err)
				}
			})
		}
	}
	t.Logf("%d crash points", points)
}

// txnRun says which transactions to run, and at how many changes of the disk a moment is taken.
type txnRun struct {
	steps, every int
	levels       []int16 // of transaction.version, set in turn while a transaction is open; none: it stays
}

// recordTransactions runs transactions, and takes a moment at some changes of the disk. Where levels change there is a new
// client now and then, which learns of the present one.
func recordTransactions(t *testing.T, run txnRun) (moments []txnMoment) {
	disk := vfs.NewCrash()
	onDisk(t, func() vfs.FS { return disk }, func(h *harness) {
		h.makeX()
		var mu sync.Mutex
		ended, asked := map[int]bool{}, map[int]bool{}
		disk.Trace(vfs.NewSites(nil))
		disk.OnOp(func(op vfs.Op) {
			mu.Lock()
			defer mu.Unlock()
			if op.Call%run.every == 0 {
				moments = append(moments, txnMoment{op, disk.Moment(), maps.Clone(ended), maps.Clone(asked)})
			}
		})
		cl := h.txnProducer()
		defer func() { cl.Close() }()
		for n := range run.steps {
			if len(run.levels) > 0 && n%4 == 3 {
				cl.Close()
				cl = h.txnProducer()
			}
			if err := writeTxn(h.t.Context(), cl, n); err != nil {
				t.Fatal(err)
			}
			if len(run.levels) > 0 {
				h.setLevel(transactionVersion, run.levels[n%len(run.levels)])
			}
			commit := n%3 != 1
			mu.Lock()
			asked[n] = commit
			mu.Unlock()
			if err := cl.EndTransaction(h.t.Context(), kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			ended[n] = commit
			mu.Unlock()
		}
	}, "num.partitions=1", "offsets.topic.num.partitions=2", "transaction.state.log.num.partitions=2")
	return moments
}

// wholeTransactions holds a broker after a crash against what was known before it.
func (h *harness) wholeTransactions(m txnMoment) error {
	h.makeX()
	cl := h.txnProducer() // its first request aborts what was open
	defer cl.Close()
	const last = 1000
	if err := writeTxn(h.t.Context(), cl, last); err != nil {
		return fmt.Errorf("the next transaction: %w", err)
	}
	if err := cl.EndTransaction(h.t.Context(), kgo.TryCommit); err != nil {
		return fmt.Errorf("the next commit: %w", err)
	}
	seen, offset := h.committed()
	var all error
	for n, count := range seen {
		commit, asked := m.asked[n]
		if count != txnPartitions || (!asked || !commit) && n != last {
			all = errors.Join(all, fmt.Errorf("transaction %d: %d records of %d are seen; end asked for: %t, commit: %t", n, count, txnPartitions, asked, commit))
		}
	}
	for n, commit := range m.ended {
		if commit && seen[n] != txnPartitions {
			all = errors.Join(all, fmt.Errorf("committed transaction %d: %d records are seen", n, seen[n]))
		}
	}
	if seen[last] != txnPartitions || offset != last {
		all = errors.Join(all, fmt.Errorf("the next transaction: %d records, offset %d", seen[last], offset))
	}
	return all
}
