package log

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// moveWork is a life of two directories with moves in every state.
func moveWork(b *dirsRig) {
	b.fill("a", 0, 14)
	b.fill("txn", 0, 10)
	_ = b.deleteBefore("a", 8)
	b.rate.Store(1000)
	_ = b.move("a", "two")
	_ = b.move("txn", "two")
	for i := range 8 {
		b.fill("a", 20+i, 1)
		b.fill("txn", 20+i, 1)
		if i == 3 { // segments that are being copied go
			_ = b.deleteBefore("a", 21)
			_ = b.deleteBefore("txn", 10)
		}
		time.Sleep(300 * time.Millisecond)
	}
	time.Sleep(10 * time.Second)
	b.fill("a", 40, 3)
	_ = b.move("txn", "one")
	b.fill("txn", 40, 2)
	time.Sleep(500 * time.Millisecond)
	_ = b.move("txn", "two") // called off, unless it was quicker
	time.Sleep(90 * time.Second)
	_ = b.move("a", "one")
	time.Sleep(200 * time.Millisecond)
	if b.d.Close() != nil || !b.open() {
		return
	}
	b.fill("a", 60, 2)
	time.Sleep(5 * time.Second)
	b.fill("a", 70, 2)
	_ = b.d.Close()
}

// places is what the metadata log had at a moment.
type places map[partitionKey][16]byte

func (p places) mark(h *maphash.Hash) {
	for _, k := range slices.SortedFunc(maps.Keys(p), func(a, b partitionKey) int { return slices.Compare(a.topic[:], b.topic[:]) }) {
		maphash.WriteComparable(h, k)
		maphash.WriteComparable(h, p[k])
	}
}

func (b *dirsRig) places() noted {
	b.mu.Lock()
	defer b.mu.Unlock()
	return places(maps.Clone(b.assigned))
}

// dirsWreck is two directories after a crash, with what was promised by then and the places.
type dirsWreck struct{ wreck }

func (w *dirsWreck) recover(t *testing.T, disk vfs.FS) error {
	b := newDirsRig(t, disk)
	b.assigned = maps.Clone(w.note.(places))
	promises := slices.Clone(w.promises)
	for round := range 3 {
		d, err := b.tryOpen()
		if err != nil {
			return err
		}
		b.d = d
		if err = w.visit(promises, b, round == 0); err == nil {
			err = d.SetAsideUnknown()
		}
		if c := d.Close(); err == nil && c != nil {
			err = c
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if round > 0 && !d.Clean() {
			return errors.New("the marker of a clean stop is missing")
		}
	}
	return nil
}

// visit checks every log, and on the first visit appends to it, before the moves that
// go on have ended and after.
func (w *dirsWreck) visit(promises []ledger, b *dirsRig, first bool) error {
	b.ledgers = map[string]*ledger{}
	for i := range promises {
		g := &promises[i]
		b.ledgers[g.topic] = g
		l, err := b.log(g.topic)
		if err != nil {
			return fmt.Errorf("%s: %w", g.topic, err)
		}
		if err := g.check(l, w.mode == vfs.Kill); err != nil {
			return fmt.Errorf("%s in %s: %w", g.topic, l.Directory(), err)
		}
		if !first {
			continue
		}
		kept := 0
		for kept < len(g.entries) && g.entries[kept].first < l.Offsets().End {
			kept++
		}
		g.entries, g.written, g.durable = g.entries[:kept:kept], l.Offsets().End, l.Offsets().End
		for n := range 2 {
			if _, err := b.append(g.topic, data(batch.Plain(), time.Now().UnixMilli(), 900+n, 1), AppendOptions{Durable: true, LeaderEpoch: 90}); err != nil {
				return fmt.Errorf("%s: append after recovery: %w", g.topic, err)
			}
			time.Sleep(time.Minute)
		}
		if l, err = b.log(g.topic); err != nil {
			return fmt.Errorf("%s: %w", g.topic, err)
		}
		if to, _, _ := b.d.Moving(l); to != nil {
			return fmt.Errorf("%s: the move to %s does not end", g.topic, to.Name())
		}
		if err := g.check(l, true); err != nil {
			return fmt.Errorf("%s in %s, after appends: %w", g.topic, l.Directory(), err)
		}
	}
	return nil
}

// moving crashes while logs move: that loses nothing, and leaves one log of each.
func (q *inquest) moving(t *testing.T) {
	every := 1
	if testing.Short() {
		every = 67
	}
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		b := newDirsRig(t, disk)
		r := recorder{c: b.c, promises: b.promises, note: b.places, skip: func(op vfs.Op) bool { return op.Call%every != 0 }}
		r.watch(disk)
		b.open()
		moveWork(b)
		disk.OnOp(nil)
		lives := len(r.moments)
		for i := 0; i < len(r.moments); i++ { // it grows by starts that complete a swap, and crash again
			second := i >= lives
			for _, w := range r.moments[i].crashes(1, 1) {
				if w.second = second; !q.admit(&w) {
					continue
				}
				if !second && strings.HasSuffix(w.op.To, deleteDirSuffix) {
					r.moments = append(r.moments, (&dirsWreck{w}).recordStart(t)...)
				}
				if err := (&dirsWreck{w}).recover(t, w.fs); err != nil {
					t.Fatalf("crash %s at %v by %v: %v", w.mode, w.op, w.op.Site, err)
				}
			}
			r.moments[i].disk = nil
		}
	})
}

// recordStart takes a moment at each change that a start on the wreck makes.
func (w *dirsWreck) recordStart(t *testing.T) []moment {
	promises := slices.Clone(w.promises)
	for i := range promises {
		if w.mode != vfs.Kill {
			promises[i].written = promises[i].durable
		}
	}
	disk := w.fs.Crash(vfs.Kill, 0)
	b := newDirsRig(t, disk)
	b.assigned = maps.Clone(w.note.(places))
	r := recorder{c: b.c, promises: func() []ledger { return slices.Clone(promises) }, note: b.places}
	r.watch(disk)
	b.open()
	for i := range promises {
		g := promises[i]
		b.ledgers[g.topic] = &g
		_, _ = b.log(g.topic)
	}
	time.Sleep(time.Minute)
	_ = b.d.Close()
	disk.OnOp(nil)
	return r.moments
}

// moving has calls of the disk fail while logs move: nothing that was promised is lost.
func (c *errorTally) moving(t *testing.T) {
	var calls []vfs.Op
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash())
		f.Trace(callers)
		b := newDirsRig(t, f)
		b.open()
		moveWork(b)
		calls = f.Calls()
	})
	step := 10
	if testing.Short() {
		step = 401
	}
	for way, fault := range []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC}} {
		had := map[vfs.Site]int{}
		for i, op := range calls {
			if had[op.Site]++; (had[op.Site] > 2 || testing.Short()) && i%step != 5*way {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				rule := at(fault, i+1, calls)
				disk := vfs.NewCrash()
				f := vfs.NewFault(disk, rule)
				f.Trace(callers)
				b := newDirsRig(t, f)
				if b.open() {
					moveWork(b)
					_ = b.d.Close()
				}
				struck, ok := victim(f.Calls(), &rule)
				if !ok {
					return
				}
				c.add(struck)
				w := dirsWreck{wreck{mode: vfs.LoseUnsynced, promises: b.promises(), note: b.places()}}
				if err := w.recover(t, disk.Crash(vfs.LoseUnsynced, 0)); err != nil {
					t.Fatalf("%v at %v by %v, and then a power cut: %v", rule.Err, struck, struck.Site, err)
				}
			})
		}
	}
}

// startingWithMoves has calls fail while directories are opened after a crash in the middle of the swap of a log and
// its copy, up to three from each place in the code: the start after that finds all that was promised.
func (c *errorTally) startingWithMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		b := newDirsRig(t, disk)
		r := recorder{c: b.c, promises: b.promises, note: b.places}
		r.skip = func(op vfs.Op) bool { return !strings.HasSuffix(op.To, deleteDirSuffix) }
		r.watch(disk)
		b.open()
		moveWork(b)
		disk.OnOp(nil)
		if len(r.moments) == 0 {
			t.Fatal("no log was swapped")
		}
		had := map[vfs.Site]int{}
		if testing.Short() {
			r.moments = r.moments[:1]
		}
		for i := range r.moments {
			for _, w := range r.moments[i].crashes(0, 1) {
				c.strikeStart(t, &dirsWreck{w}, had)
			}
		}
	})
}

func (c *errorTally) strikeStart(t *testing.T, w *dirsWreck, had map[vfs.Site]int) {
	calls, _ := w.openWith(t, w.fs.Crash(vfs.Kill, 0), vfs.Rule{Path: "no such file"})
	for i, call := range calls {
		if had[call.Site]++; had[call.Site] > 3 {
			continue
		}
		disk, rule := w.fs.Crash(vfs.Kill, 0), at(vfs.Rule{Err: syscall.EIO}, i+1, calls)
		made, after := w.openWith(t, disk, rule)
		if op, ok := victim(made, &rule); ok {
			c.add(op)
		}
		second := *w
		second.mode, second.note = vfs.LoseUnsynced, after
		if err := second.recover(t, disk.Crash(vfs.LoseUnsynced, 0)); err != nil {
			t.Fatalf("crash %s at %v, an error at %v by %v, and a power cut: %v\n%s", w.mode, w.op, call, call.Site, err, w.describe())
		}
	}
}

// openWith opens the directories and all logs on a disk with a fault, gives moves time to end, and stops.
func (w *dirsWreck) openWith(t *testing.T, disk *vfs.Crash, rule vfs.Rule) ([]vfs.Op, noted) {
	f := vfs.NewFault(disk, rule)
	f.Trace(callers)
	b := newDirsRig(t, f)
	b.assigned = maps.Clone(w.note.(places))
	if !b.open() {
		return f.Calls(), b.places()
	}
	for i := range w.promises {
		b.ledgers[w.promises[i].topic] = &w.promises[i]
		_, _ = b.log(w.promises[i].topic)
	}
	time.Sleep(time.Minute)
	_ = b.d.Close()
	return f.Calls(), b.places()
}

// movingCompacted crashes while a log moves that was compacted: it moves with the gaps that this left, and
// none of what lies behind them is lost.
func (q *inquest) movingCompacted(t *testing.T) {
	every := 1
	if testing.Short() {
		every = 5
	}
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		b := newDirsRig(t, disk)
		b.c = compacted()
		b.cleaner = CleanerConfig{Enabled: true, Threads: 1, DedupeBytes: 1 << 12, IOBytes: 1 << 14, LoadFactor: 0.9, Backoff: time.Second}
		b.open()
		for i := range 120 {
			if _, err := b.append("a", data(batch.Plain(), time.Now().UnixMilli(), i, 2), AppendOptions{Durable: true}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		l, err := b.log("a")
		if err != nil {
			t.Fatal(err)
		}
		if b.d.CleanerStats().Cleaned == 0 {
			t.Fatal("nothing was compacted")
		}
		b.cleaner.Enabled = false
		b.d.SetCleaner(b.cleaner)
		time.Sleep(time.Minute)
		want, err := readAll(l, 0, End)
		if err != nil {
			t.Fatal(err)
		}
		r := recorder{c: b.c, promises: func() []ledger { return nil }, note: b.places, skip: func(op vfs.Op) bool { return op.Call%every != 0 }}
		r.watch(disk)
		if err := b.move("a", "two"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		disk.OnOp(nil)
		check := func(b *dirsRig) error {
			for range 2 { // before a move that goes on has ended, and after
				l, err := b.log("a")
				if err != nil {
					return err
				}
				got, err := readAll(l, 0, End)
				if err != nil {
					return err
				}
				if !bytes.Equal(got, want) {
					return fmt.Errorf("%s has %d bytes, want %d", l.Directory(), len(got), len(want))
				}
				time.Sleep(time.Minute)
			}
			return b.d.Close()
		}
		if dir, _ := b.where("a"); dir != "two" {
			t.Errorf("the log is in %s", dir)
		}
		if err := check(b); err != nil {
			t.Error(err)
		}
		for i := range r.moments {
			for _, w := range r.moments[i].crashes(1, 1) {
				if !q.admit(&w) {
					continue
				}
				again := newDirsRig(t, w.fs)
				again.c, again.cleaner, again.assigned = b.c, b.cleaner, maps.Clone(w.note.(places))
				again.ledger("a")
				again.open()
				if err := check(again); err != nil {
					t.Fatalf("crash %s at %v by %v: %v", w.mode, w.op, w.op.Site, err)
				}
			}
			r.moments[i].disk = nil
		}
	})
}
