package log

import (
	"bytes"
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
	second   bool // it is of a crash in the middle of a recovery
}

// moment is a disk at one change, from which each kind of crash is made.
type moment struct {
	op       vfs.Op
	at       time.Time
	disk     *vfs.Crash
	promises []ledger
}

// recorder takes moments.
type recorder struct {
	promises func() []ledger

	mu      sync.Mutex
	moments []moment
}

// watch takes a moment at each change of a disk from now on.
func (r *recorder) watch(disk *vfs.Crash) {
	disk.Trace(helper)
	disk.OnOp(func(op vfs.Op) {
		r.mu.Lock()
		defer r.mu.Unlock()
		// What was promised before the crash must be there, and nothing that was not tried by then.
		before := r.promises()
		m := moment{op, time.Now(), disk.Moment(), r.promises()}
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
		}
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
			w := wreck{op: m.op, at: m.at, mode: mode, promises: m.promises}
			w.fs = m.disk.Crash(mode, seed+uint64(i)*1000)
			all = append(all, w)
		}
	}
	return all
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
	return wreck{op: op, at: time.Now(), mode: mode, fs: after, promises: promises}
}

// After a crash at any change of the disk, in every way that a crash can leave it,
// everything that was promised is there and nothing else, and the log takes appends. So
// it is after a crash in the middle of that recovery, and when a call had failed before.
func TestCrashAtEveryChange(t *testing.T) {
	lives, steps := uint64(58), 30
	if testing.Short() {
		lives, steps = 2, 20
	}
	q := newInquest()
	t.Run("life", func(t *testing.T) {
		for seed := range lives {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				q.life(t, seed, steps)
			})
		}
	})
	t.Logf("%d crash points, %d of them in a recovery; %d more were like one of them; at %v", len(q.seen), q.second, q.again, q.kinds)
	reportSites(t, "crashes", q.sites, func(s callSite) bool { return s.changes })
	if !testing.Short() && !t.Failed() {
		if len(q.seen) < 100_000 {
			t.Errorf("only %d crash points", len(q.seen))
		}
	}
}

// life records one life and checks what a crash at each of its changes leaves.
func (q *inquest) life(t *testing.T, seed uint64, steps int) {
	var r recorder
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
	r := recorder{promises: func() []ledger { return slices.Clone(promises) }}
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
	b := &rig{t: t, fs: disk, c: small(), every: time.Minute, ledgers: map[string]*ledger{}}
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

// faulty are the ways in which a call fails: not at all done, done in part on a full
// disk, done all the same, and together with all calls after it.
func faulty() []vfs.Rule {
	return []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC, Short: 50}, {Err: syscall.EIO, After: true}, {Err: syscall.EIO, Times: -1}}
}

// at makes the rule strike at the n-th call, which is op.
func at(rule vfs.Rule, n int, op vfs.Op) vfs.Rule {
	if rule.Times < 0 {
		rule.Nth = n
		return rule
	}
	rule.Call = n
	if op.Kind != vfs.OpWrite && op.Kind != vfs.OpRead {
		rule.Short = 0
	}
	return rule
}

// An error at any call of the disk loses nothing that was promised, wedges nothing,
// and after a restart on a disk that works the logs are whole. In most of the lives
// something had failed before. Short lives have an error at each of their calls, long ones
// at some calls from each place in the code.
func TestErrorAtEveryCall(t *testing.T) {
	lives, every := uint64(9), 1
	if testing.Short() {
		lives, every = 2, 29
	}
	tally := &errorTally{kinds: map[string]int{}, sites: map[vfs.Site]int{}}
	t.Run("life", func(t *testing.T) {
		for seed := range lives {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				before := map[uint64][]vfs.Rule{
					1: {{Kind: vfs.OpSync, Nth: 6, Err: syscall.EIO}},
					2: {{Kind: vfs.OpWrite, Path: "*.log", Nth: 6, Err: syscall.ENOSPC, Short: 50}},
					3: {{Kind: vfs.OpReadDir, Nth: 1, Err: syscall.EIO}},
				}[seed%4]
				if seed < 2 {
					tally.strike(t, seed, 14, before, func(calls []vfs.Op, i int) []int {
						var all []int
						for n := 1 + i; n <= len(calls); n += every * max(1, i*i) { // the last kind less often
							all = append(all, n)
						}
						return all
					})
					return
				}
				tally.strike(t, seed, 40, before, func(calls []vfs.Op, i int) []int { return someOfEachSite(calls, seed*10+uint64(i), 1) })
			})
		}
	})
	tally.reserving(t)
	tally.syncingAll(t)
	for seed := range uint64(2) {
		tally.recovering(t, seed, every)
	}
	if t.Failed() {
		return
	}
	t.Logf("%d errors: %v", tally.total, tally.kinds)
	reportSites(t, "errors", tally.sites, func(callSite) bool { return true })
}

// errorTally counts the errors that were injected.
type errorTally struct {
	mu    sync.Mutex
	total int
	kinds map[string]int
	sites map[vfs.Site]int
}

func (c *errorTally) add(op vfs.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	c.kinds[op.Kind.String()]++
	c.sites[op.Site]++
}

// strike has one life over and over, each time with one of its calls failing in one way.
func (c *errorTally) strike(t *testing.T, seed uint64, steps int, before []vfs.Rule, choose func(calls []vfs.Op, way int) []int) {
	calls := lifeWithErrors(t, seed, steps, append(slices.Clip(before), vfs.Rule{Path: "no such file"}))
	for way, rule := range faulty() {
		for _, n := range choose(calls, way) {
			made := lifeWithErrors(t, seed, steps, append(slices.Clip(before), at(rule, n, calls[n-1])))
			if n <= len(made) { // goroutines may take turns in another order
				c.add(made[n-1])
			}
		}
	}
}

// someOfEachSite chooses calls so that each kind of call at each site is among them up to most times.
func someOfEachSite(calls []vfs.Op, seed uint64, most int) []int {
	type place struct {
		kind vfs.OpKind
		site vfs.Site
	}
	rng, had := rand.New(rand.NewPCG(seed, 4)), map[place]int{}
	var all []int
	for _, i := range rng.Perm(len(calls)) {
		p := place{calls[i].Kind, calls[i].Site}
		if had[p]++; had[p] <= most {
			all = append(all, i+1)
		}
	}
	slices.Sort(all)
	return all
}

// reserving has the reservation of blocks fail, for which a segment must be larger than
// those of a life. It is no matter: the write itself tells whether there is space.
func (c *errorTally) reserving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash(), vfs.Rule{Kind: vfs.OpPreallocate, Path: "data/*/*.log", Err: syscall.ENOSPC})
		f.Trace(helper)
		b := newRig(t, f)
		b.c = DefaultConfig()
		value := bytes.Repeat([]byte{'x'}, firstReserve/2)
		for range 3 {
			raw := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: time.Now().UnixMilli(), Value: value}})
			if _, err := b.append("t", raw, AppendOptions{Durable: true}); err != nil {
				t.Error(err)
			}
		}
		if err := b.ledger("t").check(b.must("t"), true); err != nil {
			t.Error(err)
		}
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
		for _, op := range f.Calls() {
			if op.Kind == vfs.OpPreallocate {
				c.add(op)
			}
		}
	})
}

// syncingAll has one sync for all files fail, which a stop of many logs asks for.
func (c *errorTally) syncingAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash(), vfs.Rule{Kind: vfs.OpSyncFS, Err: syscall.EIO})
		f.Trace(helper)
		b := &rig{t: t, fs: f, c: small(), every: time.Minute, whole: true, ledgers: map[string]*ledger{}}
		b.open()
		for i := range syncFSFrom + 1 {
			if _, err := b.append(strconv.Itoa(i), data(batch.Plain(), 0, i, 1), AppendOptions{}); err != nil {
				t.Error(err)
			}
		}
		if err := b.s.Close(); !errors.Is(err, ErrOffline) {
			t.Errorf("close: %v", err)
		}
		for _, op := range f.Calls() {
			if op.Kind == vfs.OpSyncFS {
				c.add(op)
			}
		}
	})
}

// recovering has calls fail while logs are opened after a crash, up to three from each place
// in the code: the start after that finds all that was promised. Among the disks is
// one with a damaged partition.metadata, of which nothing is asked.
func (c *errorTally) recovering(t *testing.T, seed uint64, every int) {
	var r recorder
	synctest.Test(t, func(t *testing.T) {
		b := &rig{t: t}
		r.promises = b.promises
		newLife(b, seed, nil, r.watch).live(50)
	})
	had := map[vfs.Site]int{}
	for i := 0; i < len(r.moments); i += 5 * every {
		synctest.Test(t, func(t *testing.T) { // one by one: after a day producers are forgotten
			for j, w := range r.moments[i].crashes(seed, 1) {
				if i%20 == 0 && j == 0 {
					w.spoilMetadata()
				}
				c.strikeRecovery(t, &w, had)
			}
		})
	}
}

// spoilMetadata damages the file of each partition that says whose it is. Nothing is promised any more.
func (w *wreck) spoilMetadata() {
	names, err := vfs.Files(w.fs, "data")
	if err != nil {
		return // there is no directory yet
	}
	for _, name := range names {
		if strings.HasSuffix(name, metadataFile) {
			_ = writeFile(w.fs, name, []byte("nonsense"), true)
		}
	}
	w.promises = slices.Clone(w.promises)
	for i := range w.promises {
		w.promises[i].gone, w.promises[i].removed = true, false
	}
}

// strikeRecovery has calls of a recovery fail, of those places that had fewer than three.
func (c *errorTally) strikeRecovery(t *testing.T, w *wreck, had map[vfs.Site]int) {
	for n, call := range w.openWith(t, w.fs.Crash(vfs.Kill, 0), vfs.Rule{Path: "no such file"}) {
		if had[call.Site]++; had[call.Site] > 3 {
			continue
		}
		disk := w.fs.Crash(vfs.Kill, 0)
		made := w.openWith(t, disk, vfs.Rule{Call: n + 1, Err: syscall.EIO})
		if n < len(made) {
			c.add(made[n])
		}
		if len(w.promises) > 0 && w.promises[0].gone && !w.promises[0].removed {
			continue // of what was spoiled nothing is asked
		}
		second := *w
		second.fs, second.mode, second.promises = disk.Crash(vfs.LoseUnsynced, 0), vfs.LoseUnsynced, slices.Clone(w.promises)
		if err := second.recover(t); err != nil {
			t.Errorf("crash %s at %v, an error at %v by %v, and a power cut: %v\n%s", w.mode, w.op, call, call.Site, err, w.describe())
			return
		}
	}
}

// openWith opens all logs of the wreck on a disk with a fault, reads a little and stops.
func (w *wreck) openWith(t *testing.T, disk *vfs.Crash, rule vfs.Rule) []vfs.Op {
	f := vfs.NewFault(disk, rule)
	f.Trace(helper)
	b := w.rig(t, f)
	s, err := OpenStore(f, "data", b.options())
	if err != nil {
		return f.Calls()
	}
	for i := range w.promises {
		g := &w.promises[i]
		l, err := s.Open(g.topic, 0, g.id, g.config(b.c))
		if err != nil {
			continue
		}
		if c, err := l.Read(l.Offsets().Start, 300, Stable, true); err == nil {
			c.Release()
		}
	}
	_ = s.SetAsideUnknown()
	time.Sleep(b.every)
	_ = s.Close()
	return f.Calls()
}

// lifeWithErrors lives and then looks, after a power cut, whether everything that was promised is
// there. It returns the calls of the disk that the life made.
func lifeWithErrors(t *testing.T, seed uint64, steps int, faults []vfs.Rule) (calls []vfs.Op) {
	synctest.Test(t, func(t *testing.T) {
		f := newLife(&rig{t: t}, seed, faults, nil)
		f.live(steps)
		calls = f.allCalls()
		for _, rule := range faults {
			// A failed sync and then no note of it: the operator is told to restart the machine,
			// for what is read may not be on disk (Store.fail).
			if n := max(rule.Call, rule.Nth); rule.Kind == vfs.OpAny && n > 0 && n <= len(calls) && strings.HasSuffix(calls[n-1].Name, syncFailedFile) {
				return
			}
		}
		modes := []vfs.Mode{vfs.LoseUnsynced}
		if len(calls)%3 == 0 {
			modes = append(modes, vfs.KeepAll)
		}
		for _, mode := range modes {
			w := wreck{mode: mode, fs: f.disk.Crash(mode, 0), promises: f.promises()}
			if err := w.recover(t); err != nil {
				made := f.allCalls()
				for _, rule := range faults {
					if n := max(rule.Call, rule.Nth); rule.Kind == vfs.OpAny && n > 0 && n <= len(made) {
						t.Errorf("seed %d: %+v at %v by %v", seed, rule, made[n-1], made[n-1].Site)
					}
				}
				t.Errorf("after %s: %v\n%s", mode, err, w.describe())
			}
		}
	})
	return calls
}
