package log

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// For a while nothing can be written: by kind of call, and with writes that get half way. Appends are refused, reads
// and removals work, and when it is over everything goes on and a stop is clean.
func TestDiskFullForAWhile(t *testing.T) {
	for _, rules := range [][]vfs.Rule{
		{{Kind: vfs.OpWrite, Times: -1, Err: syscall.ENOSPC}},
		{{Kind: vfs.OpWrite, Times: -1, Err: syscall.ENOSPC, Short: 50}},
		{{Kind: vfs.OpWrite, Times: -1, Err: syscall.ENOSPC, Short: 50}, {Kind: vfs.OpTruncate, Times: -1, Err: syscall.ENOSPC}},
		{{Kind: vfs.OpWrite, Times: -1, Err: syscall.EDQUOT}, {Kind: vfs.OpPreallocate, Times: -1, Err: syscall.EDQUOT}, {Kind: vfs.OpMkdir, Times: -1, Err: syscall.EDQUOT}},
	} {
		for _, kill := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewCrash()
				f := vfs.NewFault(disk)
				b := newRig(t, f)
				producer := batch.Plain()
				producer.ProducerID, producer.ProducerEpoch, producer.BaseSequence = 3, 0, 0
				for i := range 9 {
					b.put("a", i, 3)
					b.put("b", i, 3)
					if _, err := b.append("a", data(producer, time.Now().UnixMilli(), i, 1), AppendOptions{Durable: true, LeaderEpoch: 1}); err != nil {
						t.Fatal(err)
					}
					producer.BaseSequence++
				}
				f.SetRules(rules...)
				for i := range 5 {
					for _, topic := range []string{"a", "b", "new"} {
						began := time.Now()
						_, err := b.append(topic, data(batch.Plain(), began.UnixMilli(), i, 3), AppendOptions{Durable: true, LeaderEpoch: 1})
						if !errors.Is(err, ErrDiskFull) || time.Since(began) > 0 {
							t.Fatalf("append to %s: %v after %v", topic, err, time.Since(began))
						}
						l := b.must(topic)
						if _, err := readAll(l, l.Offsets().Start, End); err != nil {
							t.Fatalf("read %s: %v", topic, err)
						}
					}
					if err := b.deleteBefore("b", int64(2+i)); err != nil && !errors.Is(err, ErrDiskFull) {
						t.Fatalf("delete records: %v", err)
					}
					c := b.c
					c.RetentionBytes = 2000
					b.must("b").SetConfig(c)
					time.Sleep(time.Minute) // retention, checkpoints, idle logs
				}
				if err := b.s.Err(); err != nil {
					t.Fatalf("the directory is out of service: %v", err)
				}
				f.SetRules()
				time.Sleep(2 * retryPause)
				for i := range 9 {
					b.put("a", i, 3)
					b.put("b", i, 3)
					b.put("new", i, 3)
				}
				if _, err := b.append("a", data(producer, time.Now().UnixMilli(), 9, 1), AppendOptions{Durable: true, LeaderEpoch: 1}); err != nil {
					t.Errorf("the producer goes on: %v", err)
				}
				if err := b.deleteBefore("b", 9); err != nil {
					t.Error(err)
				}
				time.Sleep(3 * time.Minute)
				if kill {
					disk = disk.Crash(vfs.LoseUnsynced, 1)
				}
				if err := b.s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				b.fs = disk
				b.open()
				if b.s.Clean() == kill {
					t.Errorf("clean: %v", b.s.Clean())
				}
				for _, g := range b.promises() {
					if err := g.check(b.must(g.topic), true); err != nil {
						t.Errorf("%s: %v", g.topic, err)
					}
				}
				if err := b.s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The reserve is set aside at the start, given back when something that must go on needs it, taken again when there is
// space, and gone after a stop. While it is given back clients are refused without asking the disk.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewQuota(vfs.NewMem(), 64<<20)
		b := newRig(t, disk)
		b.put("t", 1, 1)
		time.Sleep(2 * retryPause) // the janitor's first round may need space too
		synctest.Wait()
		names := func() string {
			entries, err := disk.ReadDir("data")
			if err != nil {
				t.Fatal(err)
			}
			var s []string
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), wideReserve) {
					s = append(s, e.Name())
				}
			}
			return strings.Join(s, " ")
		}
		both := wideReserve + " " + lastReserve
		if got := names(); got != both {
			t.Errorf("set aside: %q", got)
		}
		used := 64<<20 - disk.Free()
		if used < 1000<<10 || used > 1100<<10 {
			t.Errorf("%d bytes are used, the reserve is 1/64 of 64 MiB", used)
		}
		disk.SetLimit(used)
		send := func(o Origin) error {
			_, err := b.must("t").Append(time.Now(), data(batch.Plain(), time.Now().UnixMilli(), 1, 1), AppendOptions{Origin: o})
			return err
		}
		for n := 0; send(Client) == nil; n++ { // fills the last block
			if n > 100 {
				t.Fatal("the disk is never full")
			}
		}
		if err := send(Client); !errors.Is(err, ErrDiskFull) || b.s.Full() {
			t.Errorf("a client's append: %v, full %v", err, b.s.Full())
		}
		if err := send(Coordinator); err != nil || !b.s.Full() || names() != lastReserve {
			t.Errorf("a coordinator's append: %v, full %v, %s", err, b.s.Full(), names())
		}
		if err := send(Client); !errors.Is(err, ErrDiskFull) { // there is space, but not for everybody
			t.Errorf("a client's append: %v", err)
		}
		for n := 0; send(Coordinator) == nil; n++ {
			if n > 10_000 {
				t.Fatal("the disk is never full")
			}
		}
		if names() != lastReserve {
			t.Errorf("coordinators took the last reserve: %s", names())
		}
		if err := send(Raft); err != nil || names() != "" {
			t.Errorf("the metadata log's append: %v, %q", err, names())
		}
		time.Sleep(3 * retryPause)
		synctest.Wait() // for the janitor's try of this very moment
		if !b.s.Full() || names() != "" {
			t.Errorf("full %v, %q", b.s.Full(), names())
		}
		disk.SetLimit(64 << 20)
		time.Sleep(3 * retryPause)
		synctest.Wait() // for the janitor's try of this very moment
		if b.s.Full() || names() != both {
			t.Errorf("full %v, %q", b.s.Full(), names())
		}
		if err := send(Client); err != nil {
			t.Error(err)
		}
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
		if got := names(); got != "" {
			t.Errorf("after a stop: %q", got)
		}
	})
}
