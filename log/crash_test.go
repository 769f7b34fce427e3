package log

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// work is a life of a store in which everything happens at least once. Errors are
// the disk's, and end nothing: a broker goes on too.
func work(b *rig) {
	plain := batch.Plain()
	idempotent := func(id int64, sequence int32) batch.Options {
		o := batch.Plain()
		o.ProducerID, o.ProducerEpoch, o.BaseSequence = id, 0, sequence
		return o
	}
	now := func() int64 { return time.Now().UnixMilli() }
	client := func(durable bool) AppendOptions {
		return AppendOptions{Origin: Client, Durable: durable, LeaderEpoch: 3}
	}
	if b.s == nil {
		return
	}
	var sequence int32
	for i := range 12 { // rolls every few appends
		_, err := b.append("a", data(idempotent(7, sequence), now(), i, 1+i%3), client(i%3 == 0))
		if err == nil {
			sequence += int32(1 + i%3)
		}
		_, _ = b.append("b", data(plain, now(), 100+i, 2), client(i%4 == 0))
		if i == 5 {
			time.Sleep(b.every) // checkpoints
		}
	}
	// Transactions: one committed, one aborted, one left open.
	for i, kind := range []batch.ControlKind{batch.ControlCommit, batch.ControlAbort, -1} {
		o := idempotent(int64(20+i), 0)
		o.Transactional = true
		_, _ = b.append("txn", data(o, now(), 200+i, 2), AppendOptions{Origin: Client, Durable: true, LeaderEpoch: 3, Verified: true})
		if kind >= 0 {
			raw := batch.AppendMarker(nil, int64(20+i), 0, kind, 5, now())
			_, _ = b.append("txn", raw, AppendOptions{Origin: Coordinator, Durable: true, LeaderEpoch: 3})
		}
		_, _ = b.append("txn", data(plain, now(), 210+i, 3), client(false))
	}
	two := append(data(plain, now(), 300, 1), data(plain, now(), 301, 2)...)
	_, _ = b.append("b", two, AppendOptions{Origin: Coordinator, Durable: true, LeaderEpoch: 3})
	_ = b.deleteBefore("a", 9)
	time.Sleep(2 * time.Second)
	if l, err := b.log("b"); err == nil { // retention takes all but the last segments
		c := b.c
		c.RetentionBytes = 900
		l.SetConfig(c)
	}
	time.Sleep(b.every + time.Minute) // and what it renamed is removed
	_, _ = b.append("a", data(idempotent(7, sequence), now(), 400, 1), client(true))
	_ = b.remove("gone")
	_, _ = b.append("gone2", data(plain, now(), 500, 1), client(true))
	_ = b.remove("gone2")
	if b.s.Close() != nil || !b.open() {
		return
	}
	for i := range 4 {
		_, _ = b.append("a", data(plain, now(), 600+i, 3), client(i == 3))
		_, _ = b.append("txn", data(plain, now(), 610+i, 3), client(i == 2))
	}
	if l, err := b.log("b"); err == nil { // every segment is too old, the active one too
		c := b.c
		c.RetentionMillis = 1
		l.SetConfig(c)
	}
	time.Sleep(b.every)
	_, _ = b.append("b", data(plain, now(), 700, 1), client(true))
	_ = b.s.Close()
}

// wreck is a disk after a crash, with what had been promised by then.
type wreck struct {
	op       vfs.Op
	mode     vfs.Mode
	fs       *vfs.Crash
	promises []ledger
}

// wreck is the disk after a crash at this moment: what was promised before it must
// be there, and nothing that was not tried by then.
func (b *rig) wreck(disk *vfs.Crash, op vfs.Op, mode vfs.Mode, seed uint64) wreck {
	before := b.promises()
	after := disk.Crash(mode, seed)
	promises := b.promises()
	for i := range promises {
		g := &promises[i]
		g.written, g.durable, g.start = 0, 0, 0
		for _, was := range before {
			if was.topic == g.topic {
				g.written, g.durable, g.start = was.written, was.durable, was.start
			}
		}
	}
	return wreck{op, mode, after, promises}
}

// After a crash at any change of the disk, in every way that a crash can leave it,
// everything that was promised is there and nothing else, the log takes appends,
// and a second crash during that recovery loses nothing either.
func TestCrashAtEveryChange(t *testing.T) {
	seeds, every := uint64(3), 1
	if testing.Short() {
		seeds, every = 1, 9
	}
	points, kinds := 0, map[string]int{}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewCrash()
			b := newRig(t, disk)
			var mu sync.Mutex
			var wrecks []wreck
			disk.OnOp(func(op vfs.Op) {
				if op.Call%every != 0 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, mode := range vfs.Modes() {
					wrecks = append(wrecks, b.wreck(disk, op, mode, seed))
				}
			})
			work(b)
			disk.OnOp(nil)
			for i, w := range wrecks {
				kinds[w.op.Kind.String()]++
				again := i%41 == int(seed)
				if err := w.check(t, again); err != nil {
					t.Fatalf("seed %d: crash %s at %v: %v", seed, w.mode, w.op, err)
				}
			}
			points += len(wrecks)
		})
	}
	t.Logf("%d crash points: %v", points, kinds)
	for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpTruncate, vfs.OpSync, vfs.OpRename, vfs.OpRemove, vfs.OpSyncDir, vfs.OpMkdir, vfs.OpOpen} {
		if kinds[kind.String()] == 0 && every == 1 {
			t.Errorf("no crash point at a %v", kind)
		}
	}
}

// check recovers a wreck. With again it also crashes in the middle of the recovery.
func (w *wreck) check(t *testing.T, again bool) error {
	if again {
		for n := 1; ; n += 3 {
			disk := w.fs.Crash(vfs.Kill, 0)
			disk.StopAfter(n)
			if w.recover(t, disk, true) == nil && disk.Ops() <= n {
				break // it came to its end
			}
			for _, mode := range []vfs.Mode{vfs.LoseUnsynced, vfs.Torn, vfs.Kill} {
				second := *w
				if w.mode == vfs.Kill {
					second.mode = mode // only a kill leaves what was not synced
				}
				if err := second.recover(t, disk.Crash(mode, uint64(n)), false); err != nil {
					return fmt.Errorf("after a second crash, %s, %d changes into the recovery: %w", mode, n, err)
				}
			}
		}
	}
	return w.recover(t, w.fs, false)
}

// recover opens the wreck, checks it, appends, closes, and opens it once more.
// crashing tells that the disk stops working in between.
func (w *wreck) recover(t *testing.T, disk *vfs.Crash, crashing bool) error {
	b := &rig{t: t, fs: disk, c: small(), every: time.Minute}
	promises := slices.Clone(w.promises)
	for round := range 2 {
		o := b.options()
		o.Known = func(id [16]byte) bool {
			return slices.ContainsFunc(promises, func(g ledger) bool { return g.id == id && !g.gone })
		}
		s, err := OpenStore(disk, "data", o)
		if err != nil {
			return err
		}
		b.s = s
		if err = w.visit(promises, s, b.c, round == 0 && !crashing); err == nil {
			err = s.SetAsideUnknown()
		}
		if c := s.Close(); err == nil && c != nil {
			err = c
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if round == 1 && !s.Clean() {
			return errors.New("the marker of a clean stop is missing")
		}
	}
	return nil
}

// visit checks every log and, if it is the first visit, appends to it.
func (w *wreck) visit(promises []ledger, s *Store, c Config, first bool) error {
	for i := range promises {
		g := &promises[i]
		if g.gone {
			continue
		}
		l, err := s.Open(g.topic, 0, g.id, c)
		if err != nil {
			return fmt.Errorf("%s: %w", g.topic, err)
		}
		if err := g.check(l, w.mode == vfs.Kill); err != nil {
			return fmt.Errorf("%s: %w", g.topic, err)
		}
		if !first {
			continue
		}
		end := l.Offsets().End
		raw := data(batch.Plain(), time.Now().UnixMilli(), 999, 1)
		done, err := l.Append(time.Now(), raw, AppendOptions{Durable: true, LeaderEpoch: 4})
		if err != nil {
			return fmt.Errorf("%s: append after recovery: %w", g.topic, err)
		}
		<-done.Commit.Done()
		if err := done.Commit.Err(); err != nil {
			return fmt.Errorf("%s: commit after recovery: %w", g.topic, err)
		}
		if done.First != end {
			return fmt.Errorf("%s: appended at %d, the end was %d", g.topic, done.First, end)
		}
		kept := 0
		for kept < len(g.entries) && g.entries[kept].first < end {
			kept++
		}
		g.entries = append(g.entries[:kept:kept], entry{end, end, raw})
		g.durable, g.written = end+1, end+1
	}
	return nil
}

// An error at any call of the disk loses nothing that was promised, wedges nothing,
// and after a restart on a disk that works the logs are whole.
func TestErrorAtEveryCall(t *testing.T) {
	var calls []vfs.Op
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash())
		work(newRig(t, f))
		calls = f.Calls()
	})
	step := 1
	if testing.Short() {
		step = 29
	}
	kinds := map[string]int{}
	for _, fault := range []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC, Short: 50}, {Err: syscall.EIO, After: true}} {
		for n := 1; n <= len(calls); n += step {
			synctest.Test(t, func(t *testing.T) {
				rule := fault
				rule.Call = n
				if rule.Short > 0 && calls[n-1].Kind != vfs.OpWrite && calls[n-1].Kind != vfs.OpRead {
					rule.Short = 0
				}
				kinds[calls[n-1].Kind.String()]++
				disk := vfs.NewCrash()
				f := vfs.NewFault(disk, rule)
				b := &rig{t: t, fs: f, c: small(), every: time.Minute, ledgers: map[string]*ledger{}}
				if b.open() {
					work(b)
				}
				w := wreck{mode: vfs.LoseUnsynced, promises: b.promises()}
				if err := w.recover(t, disk.Crash(vfs.LoseUnsynced, 0), false); err != nil {
					t.Fatalf("%v at %v, and then a power cut: %v", rule.Err, f.Calls()[n-1], err)
				}
			})
		}
	}
	t.Logf("%d calls with errors: %v", 3*len(calls)/step, kinds)
}
