package log

import (
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

// compacting crashes while a log is compacted: no key has lost its last value, and compaction goes on.
func (q *inquest) compacting(t *testing.T) {
	every, seeds := 7, uint64(2)
	if testing.Short() {
		every, seeds = 401, 1
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewCrash()
			p := newCompactor(t, disk, seed)
			p.codecs = 1 // compressors cost more than all the rest
			had := map[vfs.Site]int{}
			r := recorder{c: p.c, promises: func() []ledger { return nil }, note: func() noted { return p.copy() }}
			r.skip = func(op vfs.Op) bool {
				if !p.quiet.Load() {
					return true
				}
				had[op.Site]++
				return (had[op.Site] > 1 || testing.Short()) && op.Call%every != 0
			}
			r.watch(disk)
			p.live()
			disk.OnOp(nil)
			if err := p.s.Close(); err != nil {
				t.Fatal(err)
			}
			lives := len(r.moments)
			for i := 0; i < len(r.moments); i++ { // it grows by starts that go on with a compaction, and crash again
				second := i >= lives
				for _, w := range r.moments[i].crashes(seed, 1) {
					if w.second = second; !q.admit(&w) {
						continue
					}
					if !second && i%4 == 0 && strings.HasSuffix(w.op.Site.File, "replace.go") {
						r.moments = append(r.moments, w.note.(*compactor).recordStart(w.fs)...)
					}
					if err := w.note.(*compactor).revive(w.fs, !second && i%29 == int(seed)); err != nil {
						t.Fatalf("seed %d: crash %s at %v by %v: %v", seed, w.mode, w.op, w.op.Site, err)
					}
				}
				r.moments[i].disk = nil
			}
		})
	}
}

// copy is the player with what it knows at this moment, for another disk.
func (p *compactor) copy() *compactor {
	r := &rig{t: p.t, c: p.c, every: p.every, ledgers: p.ledgers, cleaner: p.cleaner}
	return &compactor{rig: r, rng: p.rng, history: slices.Clone(p.history), sequence: maps.Clone(p.sequence), open: maps.Clone(p.open), batches: p.batches, failed: p.failed}
}

// recordStart takes a moment at each change that a start on the disk makes.
func (p *compactor) recordStart(fs *vfs.Crash) []moment {
	disk := fs.Crash(vfs.Kill, 0)
	r := recorder{c: p.c, promises: func() []ledger { return nil }, note: func() noted { return p.copy() }}
	r.watch(disk)
	_ = p.copy().openAndCheck(disk, false) // what goes wrong shows when the wreck is checked
	disk.OnOp(nil)
	return r.moments
}

func (p *compactor) mark(h *maphash.Hash) {
	for _, w := range p.history {
		maphash.WriteComparable(h, w)
	}
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

// compacting has calls of the disk fail while a log is compacted: that loses nothing, and after a
// restart on a disk that works compaction goes on.
func (c *errorTally) compacting(t *testing.T) {
	var all, quiet []vfs.Op // all calls, and those made while only the cleaner and the janitor work
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash())
		f.Trace(callers)
		p := newCompactor(t, f, 1)
		p.codecs = 1
		p.onPause = func(begin bool) {
			all = f.Calls()
			if !begin {
				quiet = append(quiet, all[p.calls:]...)
			}
			p.calls = len(all)
		}
		p.live()
		_ = p.s.Close()
	})
	if len(quiet) < 200 {
		t.Errorf("the cleaner made %d calls only", len(quiet))
	}
	step := 24
	if testing.Short() {
		step = 401
	}
	for way, fault := range []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC}, {Err: syscall.EIO, After: true}} {
		had := map[vfs.Site]int{}
		for i, op := range quiet {
			if had[op.Site]++; (had[op.Site] > 1 || testing.Short()) && i%step != 8*way {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				rule := at(fault, op.Call, all)
				disk := vfs.NewCrash()
				f := vfs.NewFault(disk, rule)
				f.Trace(callers)
				p := newCompactor(t, f, 1)
				p.codecs = 1
				p.live()
				_ = p.s.Close()
				if struck, ok := victim(f.Calls(), &rule); ok {
					c.add(struck)
				}
				if err := p.revive(disk.Crash(vfs.LoseUnsynced, 0), false); err != nil {
					t.Fatalf("%v at %v by %v, and then a power cut: %v", rule.Err, op, op.Site, err)
				}
			})
		}
	}
}
