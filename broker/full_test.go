package broker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// putBytes sends one record of n bytes and gives the code of the answer and the time it took.
func (h *harness) putBytes(cl *kgo.Client, topic string, n int) (took time.Duration, code error) {
	h.t.Helper()
	req := produceRequest(topic, testBatch(-1, -1, -1, string(make([]byte, n))))
	req.Topics[0].TopicID = h.b.image().Topic(topic).ID
	began := time.Now()
	resp, err := req.RequestWith(context.Background(), cl)
	if err != nil {
		h.t.Fatal(err)
	}
	return time.Since(began), kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// fillUp produces until the disk is full.
func (h *harness) fillUp(cl *kgo.Client, topic string) (records int) {
	h.t.Helper()
	for size := 200_000; size > 50; {
		took, code := h.putBytes(cl, topic, size)
		switch {
		case code == nil:
			records++
		case !errors.Is(code, kerr.KafkaStorageError) || !kerr.IsRetriable(code):
			h.t.Fatalf("a full disk answers %v", code)
		case took > 0:
			h.t.Fatalf("a full disk answers after %v", took)
		default:
			size /= 2
		}
	}
	return records
}

// A full disk refuses what producers send, at once and with an error that they try again after. Everything else goes
// on: consumers read and commit, topics and records are deleted, settings are changed, retention works. What that
// frees is used without a restart.
func TestFullDisk(t *testing.T) {
	for _, makeSpace := range []struct {
		name string
		do   func(h *harness, cl *kgo.Client) error
	}{
		{"a topic is deleted", func(h *harness, cl *kgo.Client) error {
			_, err := kadm.NewClient(cl).DeleteTopic(context.Background(), "gone")
			return err
		}},
		{"records are deleted", func(h *harness, cl *kgo.Client) error {
			var to kadm.Offsets
			to.Add(kadm.Offset{Topic: "gone", At: -1})
			resp, err := kadm.NewClient(cl).DeleteRecords(context.Background(), to)
			return errors.Join(err, resp.Error())
		}},
		{"retention is shortened", func(h *harness, cl *kgo.Client) error {
			resp, err := kadm.NewClient(cl).AlterTopicConfigs(context.Background(), []kadm.AlterConfig{{Name: "retention.bytes", Value: ptr("1000")}}, "gone")
			if err == nil {
				_, err = resp.On("gone", nil)
			}
			return err
		}},
		{"the disk grows", func(h *harness, cl *kgo.Client) error {
			h.fs.(*vfs.Quota).SetLimit(96 << 20)
			return nil
		}},
	} {
		t.Run(makeSpace.name, func(t *testing.T) {
			fullDisk(t, makeSpace.do)
		})
	}
}

func fullDisk(outer *testing.T, makeSpace func(h *harness, cl *kgo.Client) error) {
	onDisk(outer, func() vfs.FS { return vfs.NewQuota(vfs.NewMem(), 32<<20) }, func(h *harness) {
		t := h.t
		ctx := context.Background()
		cl := h.client()
		defer cl.Close()
		adm := kadm.NewClient(cl)
		for _, topic := range []string{"fill", "gone", "idle"} {
			if _, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"segment.bytes": ptr("2000000")}, topic); err != nil {
				t.Fatal(err)
			}
		}
		for range 30 {
			if _, code := h.putBytes(cl, "gone", 200_000); code != nil {
				t.Fatal(code)
			}
		}
		group := func() {
			t.Helper()
			var at kadm.Offsets
			at.Add(kadm.Offset{Topic: "fill", At: 1, LeaderEpoch: -1})
			if err := adm.CommitAllOffsets(ctx, "g", at); err != nil {
				t.Errorf("commit: %v", err)
			}
		}
		group()
		n := h.fillUp(cl, "fill")

		consumer := h.client(kgo.ConsumeTopics("fill"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if got := len(h.consume(consumer, n)); got != n {
			t.Errorf("read %d records of %d", got, n)
		}
		consumer.Close()
		group()
		time.Sleep(3 * time.Minute) // checkpoints and everything else that is done in the background
		for _, topic := range []string{"fill", "idle"} {
			if took, code := h.putBytes(cl, topic, 5000); !errors.Is(code, kerr.KafkaStorageError) || took > 0 {
				t.Errorf("produce to %s: %v after %v", topic, code, took)
			}
		}
		group()
		if h.b.dirs.Full() { // else there is room for more
			if _, err := adm.CreateTopic(ctx, 1, 1, nil, "more"); !errors.Is(err, kerr.KafkaStorageError) {
				t.Errorf("create a topic: %v", err)
			}
		}

		if err := makeSpace(h, cl); err != nil {
			t.Fatalf("making space: %v", err)
		}
		time.Sleep(10 * time.Minute) // retention's next look, and file.delete.delay.ms
		for _, topic := range []string{"fill", "idle"} {
			if _, code := h.putBytes(cl, topic, 5000); code != nil {
				t.Errorf("there is space, but produce to %s: %v", topic, code)
			}
		}
		if _, err := adm.CreateTopic(ctx, 1, 1, nil, "more"); err != nil {
			t.Errorf("there is space, but create a topic: %v", err)
		}
		h.restart()
		if !h.b.dirs.Clean() {
			t.Error("the stop was not clean")
		}
		consumer = h.client(kgo.ConsumeTopics("fill"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer consumer.Close()
		if got := len(h.consume(consumer, n+1)); got != n+1 {
			t.Errorf("after a restart: read %d records of %d", got, n+1)
		}
	})
}

// A broker starts and stops on a full disk, and goes on when there is space.
func TestFullDiskRestart(outer *testing.T) {
	disk := vfs.NewQuota(vfs.NewMem(), 32<<20)
	onDisk(outer, func() vfs.FS { return disk }, func(h *harness) {
		t := h.t
		cl := h.client()
		defer func() { cl.Close() }()
		if _, err := kadm.NewClient(cl).CreateTopic(context.Background(), 1, 1, nil, "fill"); err != nil {
			t.Fatal(err)
		}
		n := h.fillUp(cl, "fill")
		h.restart()
		if !h.b.dirs.Clean() {
			t.Error("the stop was not clean")
		}
		consumer := h.client(kgo.ConsumeTopics("fill"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer consumer.Close()
		if got := len(h.consume(consumer, n)); got != n {
			t.Errorf("read %d records of %d", got, n)
		}
		disk.SetLimit(64 << 20)
		time.Sleep(time.Minute)
		cl.Close()
		cl = h.client()
		if _, code := h.putBytes(cl, "fill", 5000); code != nil {
			t.Errorf("there is space, but produce: %v", code)
		}
	})
}
