package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// wreck is a disk after a crash, with what had been promised by then.
type wreck struct {
	op       vfs.Op
	at       time.Time
	mode     vfs.Mode
	fs       *vfs.Crash
	promises []ledger
	c        Config // of its logs
	note     noted  // what else was known
	second   bool   // it is of a crash in the middle of a recovery
}

// moment is a disk at one change, from which each kind of crash is made.
type moment struct {
	op       vfs.Op
	at       time.Time
	disk     *vfs.Crash
	promises []ledger
	c        Config
	note     noted
}

// noted is what is known at a moment beside the promises of its ledgers.
type noted interface{ mark(h *maphash.Hash) }

// recorder takes moments.
type recorder struct {
	c        Config
	promises func() []ledger
	note     func() noted      // may be nil
	skip     func(vfs.Op) bool // at which changes no moment is taken; may be nil

	mu      sync.Mutex
	moments []moment
}

// watch takes a moment at each change of a disk from now on.
func (r *recorder) watch(disk *vfs.Crash) {
	disk.Trace(callers)
	disk.OnOp(func(op vfs.Op) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.skip != nil && r.skip(op) {
			return
		}
		// What was promised before the crash must be there, and nothing that was not tried by then.
		before := r.promises()
		m := moment{op: op, at: time.Now(), disk: disk.Moment(), promises: r.promises(), c: r.c}
		if r.note != nil {
			m.note = r.note()
		}
		for i := range m.promises {
			g := &m.promises[i]
			g.written, g.durable, g.start, g.removed = 0, 0, 0, false
			for _, was := range before {
				if was.id == g.id {
					g.written, g.durable, g.start, g.removed = was.written, was.durable, was.start, was.removed
				}
			}
		}
		r.moments = append(r.moments, m)
	})
}

// inquest collects what the wrecks have shown.
type inquest struct {
	seed maphash.Seed

	mu     sync.Mutex
	seen   map[uint64]bool // fingerprints of wrecks and promises
	again  int             // wrecks that had been checked before
	kinds  map[string]int  // of operations at which a crash was checked
	sites  map[vfs.Site]int
	second int // of the wrecks checked, those of a recovery that crashed
}

func newInquest() *inquest {
	return &inquest{seed: maphash.MakeSeed(), seen: map[uint64]bool{}, kinds: map[string]int{}, sites: map[vfs.Site]int{}}
}

// admit counts a wreck, and is false if one that was checked already had the same bytes
// and the same promises. The site counts all the same: the crash was there.
func (q *inquest) admit(w *wreck) bool {
	print := w.fingerprint(q.seed)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sites[w.op.Site]++
	if q.seen[print] {
		q.again++
		return false
	}
	q.seen[print] = true
	q.kinds[w.op.Kind.String()]++
	if w.second {
		q.second++
	}
	return true
}

func (w *wreck) fingerprint(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	word := func(n uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], n)
		_, _ = h.Write(b[:])
	}
	flag := func(yes bool) {
		if yes {
			word(1)
		} else {
			word(0)
		}
	}
	word(w.fs.Fingerprint(seed))
	flag(w.mode == vfs.Kill)
	for i := range w.promises {
		g := &w.promises[i]
		_, _ = h.WriteString(g.topic)
		_, _ = h.Write(g.id[:])
		word(uint64(g.durable))
		word(uint64(g.start))
		flag(g.gone)
		flag(g.removed)
		if w.mode == vfs.Kill {
			word(uint64(g.written))
		}
		for _, e := range g.entries {
			_, _ = h.Write(e.bytes[:batch.HeaderBytes]) // the CRC among others
			flag(e.optional)
			flag(e.broken)
		}
	}
	if w.note != nil {
		w.note.mark(&h)
	}
	return h.Sum64()
}

// crashes are the wrecks that a crash at this moment may leave. Torn ones are random, so
// there are several.
func (m *moment) crashes(seed uint64, torn int) []wreck {
	var all []wreck
	for _, mode := range vfs.Modes() {
		n := 1
		switch mode {
		case vfs.Torn:
			n = torn
		case vfs.Kill:
			if m.op.Kind == vfs.OpWrite { // it is under way, and may be cut short
				n = 2
			}
		}
		for i := range n {
			w := wreck{op: m.op, at: m.at, mode: mode, promises: m.promises, c: m.c, note: m.note}
			w.fs = m.disk.Crash(mode, seed+uint64(i)*1000)
			all = append(all, w)
		}
	}
	return all
}

// After a crash at any change of the disk, in every way that a crash can leave it,
// everything that was promised is there and nothing else, and the log takes appends. So
// it is after a crash in the middle of that recovery, and when a call had failed before.
func TestCrashAtEveryChange(t *testing.T) {
	lives, steps := 46, 30
	if testing.Short() {
		lives, steps = 2, 16
	}
	q := newInquest()
	all := []part{{"compacting", q.compacting}, {"moving", q.moving}, {"moving what was compacted", q.movingCompacted}}
	for _, s := range scenes() {
		all = append(all, part{"scene/" + s.name, func(t *testing.T) { q.scene(t, &s) }})
	}
	for seed := range lives {
		all = append(all, part{"life/" + strconv.Itoa(seed), func(t *testing.T) { q.life(t, uint64(seed), steps) }})
	}
	together(t, all, func(t *testing.T) {
		t.Logf("%d crash points, %d of them in a recovery; %d more were like one of them; at %v", len(q.seen), q.second, q.again, q.kinds)
		reportSites(t, "crashes", q.sites, func(s callSite) bool { return s.changes })
		if !testing.Short() && len(q.seen) < 100_000 {
			t.Errorf("only %d crash points", len(q.seen))
		}
	})
}

// part is one of the tests that share a table of call sites.
type part struct {
	name string
	run  func(*testing.T)
}

// together runs the parts side by side, and then the report if all of them were run and went well.
func together(t *testing.T, all []part, report func(*testing.T)) {
	var ran atomic.Int64
	t.Cleanup(func() {
		if !t.Failed() && int(ran.Load()) == len(all) {
			report(t)
		}
	})
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			ran.Add(1)
			p.run(t)
		})
	}
}

// life records one life and checks what a crash at each of its changes leaves.
func (q *inquest) life(t *testing.T, seed uint64, steps int) {
	r := recorder{c: small()}
	synctest.Test(t, func(t *testing.T) {
		b := &rig{t: t}
		r.promises = b.promises
		var faults []vfs.Rule
		rng := rand.New(rand.NewPCG(seed, 2))
		switch seed % 6 { // some lives have two errors
		case 3:
			faults = []vfs.Rule{{Kind: vfs.OpSync, Nth: 1 + rng.IntN(30), Err: syscall.EIO}, {Call: 1 + rng.IntN(500), Err: syscall.EIO}}
		case 5:
			faults = []vfs.Rule{{Kind: vfs.OpWrite, Path: "*.log", Nth: 1 + rng.IntN(20), Err: syscall.ENOSPC, Short: 50}, {Call: 1 + rng.IntN(500), Err: syscall.EIO}}
		}
		newLife(b, seed, faults, r.watch).live(steps)
	})
	if t.Failed() {
		return
	}
	var recoveries []moment
	synctest.Test(t, func(t *testing.T) {
		for i := range r.moments {
			m := &r.moments[i]
			for j, w := range m.crashes(seed, 3) {
				if !q.admit(&w) {
					continue
				}
				if (i*7+j)%211 == int(seed%211) && !w.unwarned() {
					recoveries = append(recoveries, w.recordRecovery(t)...)
				}
				if err := w.recover(t); err != nil {
					t.Errorf("crash %s at %v by %v: %v\n%s", w.mode, w.op, w.op.Site, err, w.describe())
					return
				}
			}
			m.disk = nil
		}
	})
	synctest.Test(t, func(t *testing.T) {
		for i := range recoveries {
			m := &recoveries[i]
			for _, w := range m.crashes(seed, 2) {
				w.second = true
				if !q.admit(&w) {
					continue
				}
				if err := w.recover(t); err != nil {
					t.Errorf("crash %s at %v by %v, in a recovery: %v\n%s", w.mode, w.op, w.op.Site, err, w.describe())
					return
				}
			}
			m.disk = nil
		}
	})
}

// unwarned tells that a sync failed and the process was killed before it could leave its
// note of that: the next start believes what it reads, and the power cut after it takes that away.
func (w *wreck) unwarned() bool {
	_, err := w.fs.Stat("data/" + syncFailedFile)
	return err != nil && w.fs.Forgetful()
}

// recordRecovery takes a moment at each change that a recovery of the wreck makes. It
// promises no more than the wreck did: less, where the first crash was a power cut.
func (w *wreck) recordRecovery(t *testing.T) []moment {
	promises := slices.Clone(w.promises)
	if w.mode != vfs.Kill {
		for i := range promises {
			promises[i].written = promises[i].durable
		}
	}
	r := recorder{c: w.c, promises: func() []ledger { return slices.Clone(promises) }}
	disk := w.fs.Crash(vfs.Kill, 0)
	r.watch(disk)
	b := w.rig(t, disk)
	if s, err := OpenStore(disk, "data", b.options()); err == nil {
		for i := range w.promises {
			if g := &w.promises[i]; !g.gone {
				_, _ = s.Open(g.topic, 0, g.id, g.config(b.c)) // what goes wrong shows when the wreck is checked
			}
		}
		time.Sleep(2 * b.every)
		_ = s.Close()
	}
	disk.OnOp(nil)
	return r.moments
}

func (w *wreck) rig(t *testing.T, disk vfs.FS) *rig {
	b := &rig{t: t, fs: disk, c: w.c, every: time.Minute, ledgers: map[string]*ledger{}}
	for i := range w.promises {
		g := w.promises[i]
		b.ledgers[g.topic] = &g
	}
	b.known = b.current
	return b
}

// describe tells what was promised.
func (w *wreck) describe() string {
	var s strings.Builder
	for _, g := range w.promises {
		fmt.Fprintf(&s, "%s %x: start %d, durable %d, written %d, gone %t, removed %t\n", g.topic, g.id[15], g.start, g.durable, g.written, g.gone, g.removed)
		for _, e := range g.entries {
			h, err := batch.Parse(e.bytes)
			fmt.Fprintf(&s, "  %d-%d epoch %d producer %d sequence %d transactional %t control %t optional %t %v\n",
				e.first, e.last, h.LeaderEpoch, h.ProducerID, h.BaseSequence, h.Transactional(), h.Control(), e.optional, err)
		}
	}
	return s.String()
}

// recover opens the wreck, checks it, appends, closes, and opens it once more.
func (w *wreck) recover(t *testing.T) error {
	b := w.rig(t, w.fs)
	for round := range 2 {
		s, err := OpenStore(b.fs, "data", b.options())
		if err != nil {
			return err
		}
		b.s = s
		for _, topic := range slices.Sorted(maps.Keys(b.ledgers)) {
			if err = b.visit(b.ledgers[topic], w.mode == vfs.Kill, round == 0); err != nil {
				err = fmt.Errorf("%s: %w", topic, err)
				break
			}
		}
		if err == nil {
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

// visit checks a log and, if it is the first visit, appends to it.
func (b *rig) visit(g *ledger, killed, first bool) error {
	if g.gone && !g.removed {
		return nil // it may be there or not
	}
	id := g.id
	if g.gone {
		id = testID(255) // somebody else's by now
	}
	l, err := b.s.Open(g.topic, 0, id, g.config(b.c))
	if err != nil {
		return err
	}
	if g.gone {
		if o := l.Offsets(); o.End != 0 {
			return fmt.Errorf("it was removed, and has the offsets %d to %d", o.Start, o.End)
		}
		return nil
	}
	if err := g.check(l, killed); err != nil || !first {
		return err
	}
	end := l.Offsets().End
	raw := data(batch.Plain(), time.Now().UnixMilli(), 999, 1)
	done, err := l.Append(time.Now(), raw, AppendOptions{Durable: true, LeaderEpoch: 200})
	if err != nil {
		return fmt.Errorf("append after recovery: %w", err)
	}
	<-done.Commit.Done()
	if err := done.Commit.Err(); err != nil {
		return fmt.Errorf("commit after recovery: %w", err)
	}
	if done.First != end {
		return fmt.Errorf("appended at %d, the end was %d", done.First, end)
	}
	g.entries = append(slices.Clip(g.found), entry{first: end, last: end, bytes: raw})
	g.durable, g.written, g.start = end+1, end+1, min(g.start, l.Offsets().Start)
	return nil
}
