package log

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// live is a life of a compacted topic: writes, and pauses in which the cleaner works,
// tombstones and markers passing their horizon among them.
func (p *compactor) live() {
	for range 3 {
		for range 12 {
			p.send(batch.Plain(), false)
			p.idempotent(int64(p.rng.IntN(2)), false)
			p.idempotent(100, true)
			if p.rng.IntN(2) == 0 {
				p.end(100, p.rng.IntN(2) == 0)
			}
		}
		p.end(100, true)
		p.pause(7 * time.Minute)
	}
}

// pause lets the cleaner work. Nothing else is under way.
func (p *compactor) pause(d time.Duration) {
	p.quiet.Store(true)
	if p.onPause != nil {
		p.onPause(true)
	}
	time.Sleep(d)
	synctest.Wait()
	p.quiet.Store(false)
	p.failed = p.failed || p.s.Err() != nil
	if p.onPause != nil {
		p.onPause(false)
	}
}

// After a crash at any change of the disk while a log is compacted, in every way that
// a crash can leave the disk, no key has lost its last value, and compaction goes on.
func TestCrashWhileCompacting(t *testing.T) {
	every, seeds := 7, uint64(2)
	if testing.Short() {
		every, seeds = 41, 1
	}
	points, kinds := 0, map[string]int{}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			type wreck struct {
				op   vfs.Op
				mode vfs.Mode
				fs   *vfs.Crash
				p    *compactor
			}
			disk := vfs.NewCrash()
			p := newCompactor(t, disk, seed)
			p.codecs = 1 // compressors cost more than all the rest
			var mu sync.Mutex
			var wrecks []wreck
			disk.OnOp(func(op vfs.Op) {
				if !p.quiet.Load() || op.Call%every != 0 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, mode := range vfs.Modes() {
					wrecks = append(wrecks, wreck{op, mode, disk.Crash(mode, seed), p.copy()})
				}
			})
			p.live()
			disk.OnOp(nil)
			if err := p.s.Close(); err != nil {
				t.Fatal(err)
			}
			for i := range wrecks {
				w := &wrecks[i]
				kinds[w.op.Kind.String()]++
				if err := w.p.revive(w.fs, i%29 == int(seed)); err != nil {
					t.Fatalf("seed %d: crash %s at %v: %v", seed, w.mode, w.op, err)
				}
			}
			points += len(wrecks)
		})
	}
	t.Logf("%d crash points: %v", points, kinds)
	if every == 7 && points < 3000 {
		t.Errorf("only %d crash points", points)
	}
}

// copy is the player with what it knows at this moment, for another disk.
func (p *compactor) copy() *compactor {
	r := &rig{t: p.t, c: p.c, every: p.every, ledgers: p.ledgers, cleaner: p.cleaner}
	return &compactor{rig: r, rng: p.rng, history: slices.Clone(p.history), sequence: maps.Clone(p.sequence), open: maps.Clone(p.open), batches: p.batches, failed: p.failed}
}

// revive opens the disk, checks it, lets the cleaner go on, and checks again. With again
// it also crashes in the middle of the recovery.
func (p *compactor) revive(disk *vfs.Crash, again bool) error {
	for n := 1; again; n += 2 {
		d := disk.Crash(vfs.Kill, 0)
		d.StopAfter(n)
		if p.openAndCheck(d, false) == nil && d.Ops() <= n {
			break
		}
		for _, mode := range []vfs.Mode{vfs.LoseUnsynced, vfs.Torn} {
			if err := p.openAndCheck(d.Crash(mode, uint64(n)), false); err != nil {
				return fmt.Errorf("after a second crash, %s, %d changes into the recovery: %w", mode, n, err)
			}
		}
	}
	return p.openAndCheck(disk, true)
}

func (p *compactor) openAndCheck(disk *vfs.Crash, goOn bool) error {
	for round := range 2 {
		o := p.options()
		o.Cleaner.Enabled = goOn && round == 0
		o.ProducerExpiration = never // all these lives are one after the other
		s, err := OpenStore(disk, "data", o)
		if err != nil {
			return err
		}
		l, err := s.Open("t", 0, p.ledger("t").id, p.c)
		if err == nil {
			err = errors.Join(l.Err(), p.compareAt(l, High), p.compareAt(l, Stable))
		}
		if err == nil && o.Cleaner.Enabled {
			time.Sleep(30 * time.Second)
			synctest.Wait()
			err = errors.Join(p.compareAt(l, High), p.compareAt(l, Stable))
			if stats := s.CleanerStats(); stats.Uncleanable > 0 {
				err = errors.Join(err, fmt.Errorf("uncleanable: %w", l.uncleanable))
			}
		}
		if c := s.Close(); err == nil && c != nil {
			err = c
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// An error at any call of the disk while a log is compacted loses nothing, and after a
// restart on a disk that works compaction goes on.
func TestErrorWhileCompacting(t *testing.T) {
	var calls []vfs.Op
	var quiet []int // calls made while only the cleaner and the janitor work
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash())
		p := newCompactor(t, f, 1)
		p.codecs = 1
		p.onPause = func(begin bool) {
			for !begin && p.calls < len(f.Calls()) {
				p.calls++
				quiet = append(quiet, p.calls)
			}
			p.calls = len(f.Calls())
		}
		p.live()
		_ = p.s.Close()
		calls = f.Calls()
	})
	step := 3
	if testing.Short() {
		step = 59
	}
	for _, fault := range []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC}, {Err: syscall.EIO, After: true}} {
		for i := 0; i < len(quiet); i += step {
			synctest.Test(t, func(t *testing.T) {
				rule := fault
				rule.Call = quiet[i]
				disk := vfs.NewCrash()
				p := newCompactor(t, vfs.NewFault(disk, rule), 1)
				p.codecs = 1
				p.live()
				_ = p.s.Close()
				if err := p.revive(disk.Crash(vfs.LoseUnsynced, 0), false); err != nil {
					t.Fatalf("%v at %v, and then a power cut: %v", rule.Err, calls[quiet[i]-1], err)
				}
			})
		}
	}
	t.Logf("%d calls with errors", 3*len(quiet)/step)
	if len(quiet) < 200 {
		t.Errorf("the cleaner made %d calls only", len(quiet))
	}
}
