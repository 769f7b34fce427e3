package log

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// scene is a short life after a script, of what random lives seldom meet. It is played with a crash at
// each of its changes of the disk, and with an error at each of its calls.
type scene struct {
	name string
	// quota is the size of the disk in bytes, 0: it has no end.
	quota int64
	setup func(*Config)
	// cleaner is for a scene of a compacted log.
	cleaner CleanerConfig
	play    func(*stage)
	check   func(*wreck, *testing.T) error // what must be there after a crash
}

func scenes() []scene {
	whole := func(w *wreck, t *testing.T) error { return w.recover(t) }
	return []scene{
		{name: "damage", play: (*stage).damage, check: (*wreck).recoverAround},
		{name: "idle", setup: func(c *Config) { c.SegmentBytes, c.SegmentIndexBytes, c.IndexIntervalBytes = 1<<20, 1<<20, 1 }, play: (*stage).idle, check: whole},
		{name: "reserve", quota: 64 << 20, setup: func(c *Config) { c.SegmentBytes = 1 << 20 }, play: (*stage).reserve, check: whole},
		{
			name: "large batches", setup: func(c *Config) { c.SegmentBytes, c.SegmentIndexBytes, c.MinCleanableRatio = 10_000, 1<<20, 0.1 },
			cleaner: CleanerConfig{Enabled: true, Threads: 1, DedupeBytes: 1 << 12, IOBytes: 1, LoadFactor: 0.9, Backoff: time.Second},
			play:    (*stage).largeBatches, check: whole,
		},
		{name: "undo that fails", play: (*stage).undoFails, check: whole},
	}
}

// stage is where a scene is played.
type stage struct {
	*rig
	disk  *vfs.Crash
	quota *vfs.Quota // between disk and fault; may be nil
	fault *vfs.Fault
	// struck: one of the calls fails, and then the script need not go as it is written
	struck vfs.Rule
	record *recorder // may be nil
}

func newStage(t *testing.T, s *scene, struck vfs.Rule, r *recorder) *stage {
	g := &stage{rig: &rig{t: t, c: small(), every: time.Minute, cleaner: s.cleaner, ledgers: map[string]*ledger{}}, disk: vfs.NewCrash(), struck: struck, record: r}
	if s.setup != nil {
		s.setup(&g.c)
	}
	var under vfs.FS = g.disk
	if s.quota > 0 {
		g.quota = vfs.NewQuota(g.disk, s.quota)
		under = g.quota
	}
	g.fault = vfs.NewFault(under)
	g.fault.Trace(callers)
	g.fs = g.fault
	g.rules()
	if r != nil {
		r.c, r.promises = g.c, g.promises
	}
	g.watch(true)
	return g
}

// rules has calls fail as the script says, besides the one that is struck.
func (g *stage) rules(more ...vfs.Rule) {
	if struck := g.struck; struck.Err != nil { // calls are counted anew
		struck.Nth -= len(matching(g.fault.Calls(), &struck))
		if struck.Nth > 0 || struck.Times < 0 {
			struck.Nth = max(1, struck.Nth)
			more = append([]vfs.Rule{struck}, more...)
		}
	}
	g.fault.SetRules(more...)
}

// watch has moments taken or not.
func (g *stage) watch(yes bool) {
	if g.record != nil && yes {
		g.record.watch(g.disk)
	} else {
		g.disk.OnOp(nil)
	}
}

// want fails the test if something is not as the script has it, unless a call was struck. It returns ok.
func (g *stage) want(ok bool, format string, args ...any) bool {
	g.t.Helper()
	if !ok && g.struck.Err == nil {
		g.t.Errorf(format, args...)
	}
	return ok
}

// start opens the store, once more if the first try met the error.
func (g *stage) start() bool {
	ok := g.open()
	if !ok {
		ok = g.open()
	}
	return g.want(ok, "the store does not open")
}

// send appends one batch of n records. A log may be out of service where a call was struck.
func (g *stage) send(seed, n int, durable bool) bool {
	g.t.Helper()
	_, err := g.append("t", data(batch.Plain(), time.Now().UnixMilli(), seed, n), AppendOptions{Durable: durable, LeaderEpoch: 1})
	synctest.Wait() // the janitor's calls come in the same order each time
	return g.want(err == nil, "append: %v", err)
}

// spoil stops cleanly and, while nobody looks, changes the bytes of a batch on disk: to nonsense, or back to what
// they were. The start after that believes that the stop was clean, or reads the log from there on. It is false if the stop failed:
// damage to what a start has to look at anyhow, because the recovery point could not be written, is another matter.
func (g *stage) spoil(i int, broken, clean bool) bool {
	if _, err := g.log("t"); !g.want(err == nil, "open: %v", err) {
		return false
	}
	at := g.spots("t")[i]
	if err := errors.Join(g.s.Close(), g.s.Err()); !g.want(err == nil, "stop: %v", err) {
		return false
	}
	g.watch(false)
	b := at.bytes
	if broken {
		b = make([]byte, len(b))
	}
	overwrite(g.t, g.disk, at.file, at.pos, b)
	if err := syncFile(g.disk, at.file); err != nil {
		g.t.Fatal(err)
	}
	if !clean {
		point := fmt.Appendf(nil, "0\n1\nt 0 %d\n", at.last)
		err := errors.Join(g.disk.Remove("data/"+cleanShutdownFile), replaceDurably(g.disk, "data/"+recoveryPointFile, point))
		if err != nil {
			g.t.Fatal(err)
		}
	}
	g.mu.Lock()
	l := g.ledgers["t"]
	l.entries = slices.Clone(l.entries)
	l.entries[i].broken = broken
	g.mu.Unlock()
	g.watch(true)
	return g.start()
}

// listed tells how many ranges the list of damage on disk has; -1: there is no list.
func (g *stage) listed() int {
	b, err := readFile(g.disk, "data/t-0/"+damageFile, maxCheckpointBytes)
	if missing(err) {
		return -1
	}
	all, err := parseDamages(b)
	g.want(err == nil, "the list of damage: %v", err)
	return len(all)
}

// damage is found by a reader and by a start, written down, put right and given up.
func (g *stage) damage() {
	if !g.start() {
		return
	}
	g.c.SegmentBytes = 3 * len(data(batch.Plain(), time.Now().UnixMilli(), 7, 3))
	for range 11 { // three a segment
		if !g.send(7, 3, true) {
			return
		}
	}
	look := func(i, want int, what string) {
		l, err := g.log("t")
		if !g.want(err == nil, "open: %v", err) {
			return
		}
		e := g.ledger("t").entries[i]
		_, err = readOne(l, e.first)
		g.want(errors.Is(err, ErrDamaged) == e.broken, "%s: read at %d: %v", what, e.first, err)
		time.Sleep(time.Second)
		synctest.Wait()
		g.want(g.listed() == want, "%s: the list has %d ranges, want %d", what, g.listed(), want)
	}
	if !g.spoil(1, true, true) {
		return
	}
	look(1, 1, "met by a reader")
	if !g.send(7, 3, true) || !g.spoil(4, true, false) {
		return
	}
	look(4, 2, "met by a start")
	if !g.spoil(10, true, false) {
		return
	}
	look(10, 3, "met by a start in the active segment")
	if !g.send(7, 2, true) || !g.spoil(10, false, false) {
		return
	}
	look(10, 2, "put right")
	for _, c := range []struct{ start, look, told, listed int }{
		{2, 2, 1, 2}, // the way from the index to the start leads over the first range
		{4, 4, 1, 1},
		{5, 5, 0, 1},
		{6, 6, 0, -1},
	} {
		what := fmt.Sprintf("records before batch %d were deleted", c.start)
		err := g.deleteBefore("t", g.ledger("t").entries[c.start].first)
		g.want(err == nil, "%s: %v", what, err)
		time.Sleep(2 * time.Minute)
		look(c.look, c.listed, what)
		if l, err := g.log("t"); err == nil {
			g.want(len(l.Damages()) == c.told && (l.Err() == nil) == (c.told == 0), "%s: %+v, %v", what, l.Damages(), l.Err())
		}
	}
	g.send(7, 1, true)
	err := g.s.Close()
	g.want(err == nil, "stop: %v", err)
}

// recoverAround is recover for a log with batches that are damaged on disk: those are known as damage, all others are read.
func (w *wreck) recoverAround(t *testing.T) error {
	b := w.rig(t, w.fs)
	for round := range 2 {
		s, err := OpenStore(b.fs, "data", b.options())
		if err != nil {
			return err
		}
		b.s = s
		for _, g := range b.ledgers {
			err = b.visitAround(g, w.mode == vfs.Kill, round == 0)
		}
		if c := s.Close(); err == nil && c != nil {
			err = c
		}
		if err == nil && !s.Clean() && round == 1 {
			err = errors.New("the marker of a clean stop is missing")
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

func (b *rig) visitAround(g *ledger, killed, first bool) error {
	l, err := b.log(g.topic)
	if err != nil {
		return err
	}
	o, least := l.Offsets(), g.durable
	if killed {
		least = max(least, g.written)
	}
	if o.End < least {
		return fmt.Errorf("ends at %d, %d was promised", o.End, least)
	}
	if o.End > 0 && (o.Start < g.start || o.Start > g.asked) {
		return fmt.Errorf("starts at %d, %d was promised and %d asked for", o.Start, g.start, g.asked)
	}
	broken := 0
	for _, e := range g.entries {
		if e.first >= o.End || e.last < o.Start {
			continue
		}
		got, err := readOne(l, max(e.first, o.Start))
		switch {
		case e.broken && !errors.Is(err, ErrDamaged):
			return fmt.Errorf("offset %d is damaged: read %d bytes, %v", e.first, len(got), err)
		case !e.broken && (err != nil || !bytes.Equal(got, e.bytes)):
			return fmt.Errorf("offset %d is whole: read %d bytes of %d, %v", e.first, len(got), len(e.bytes), err)
		case e.broken:
			broken++
		}
	}
	if known := l.Damages(); len(known) != broken {
		return fmt.Errorf("%d batches are damaged, and known are %+v", broken, known)
	}
	if !first {
		return nil
	}
	g.entries = slices.DeleteFunc(slices.Clone(g.entries), func(e entry) bool { return e.first >= o.End })
	done, err := b.append(g.topic, data(batch.Plain(), time.Now().UnixMilli(), 99, 2), AppendOptions{Durable: true, LeaderEpoch: 9})
	if err != nil || done.First != o.End {
		return fmt.Errorf("appended at %d, the end was %d: %w", done.First, o.End, err)
	}
	return nil
}

// idle is a log that is left alone until its indexes leave memory, and written to again, twice.
func (g *stage) idle() {
	if !g.start() {
		return
	}
	g.watch(false)
	for i := range idleEntries + 2 {
		g.send(i, 1, i%16 == 15)
	}
	g.watch(true)
	for i := range 2 {
		l, err := g.log("t")
		if !g.want(err == nil, "open: %v", err) {
			return
		}
		active := l.active()
		g.want(active.awake(), "the log sleeps before its time")
		time.Sleep(idleMillis*time.Millisecond + 2*idleCheck)
		synctest.Wait()
		g.want(!active.awake(), "the log does not rest")
		names, err := vfs.Files(g.disk, "data/t-0")
		g.want(err == nil && slices.ContainsFunc(names, func(s string) bool { return strings.HasSuffix(s, indexSuffix) }), "no index was written: %v, %v", names, err)
		g.send(100+i, 2, i == 1)
		g.want(active.awake(), "the log sleeps on after an append")
		g.send(200+i, 1, true)
	}
	err := g.s.Close()
	g.want(err == nil, "stop: %v", err)
}

// reserve fills the disk: what is set aside is given back piece by piece, and set aside again when there is space.
func (g *stage) reserve() {
	if !g.start() {
		return
	}
	g.send(0, 1, true)
	time.Sleep(2 * retryPause)
	synctest.Wait()
	free, limit := g.quota.Free(), int64(64<<20)
	send := func(o Origin, seed int) error {
		_, err := g.append("t", data(batch.Plain(), time.Now().UnixMilli(), seed, 1), AppendOptions{Origin: o, Durable: true, LeaderEpoch: 1})
		return err
	}
	reserves := func(want bool, when string) {
		for _, name := range []string{wideReserve, lastReserve} {
			_, err := g.disk.Stat("data/" + name)
			g.want((err == nil) == want, "%s: %s: %v", when, name, err)
		}
	}
	reserves(true, "after a start")
	for i, o := range []Origin{Coordinator, Raft} {
		limit -= g.quota.Free() // what is used now
		g.quota.SetLimit(limit)
		if i == 0 {
			g.watch(false)
			for n := 0; n < 100 && send(Client, n) == nil; n++ { // fills the last block
			}
			g.watch(true)
			g.want(errors.Is(send(Client, 100), ErrDiskFull), "the disk is not full")
			g.want(!g.s.Full(), "the reserve was used for a client")
		}
		err := send(o, 200+i)
		g.want(err == nil && g.s.Full(), "an append that must go on: %v", err)
	}
	g.want(errors.Is(send(Client, 300), ErrDiskFull), "a client's append goes on without the reserve")
	time.Sleep(3 * retryPause)
	g.quota.SetLimit(64 << 20)
	time.Sleep(3 * retryPause)
	synctest.Wait()
	g.want(!g.s.Full() && g.quota.Free() > free-1<<20, "the disk is still full")
	reserves(true, "when there is space again")
	err := send(Client, 400)
	g.want(err == nil, "append: %v", err)
	err = g.s.Close()
	g.want(err == nil, "stop: %v", err)
	reserves(false, "after a stop")
}

// largeBatches has a log compacted whose batches are larger than what the cleaner reads at once.
func (g *stage) largeBatches() {
	if !g.start() {
		return
	}
	g.rules(vfs.Rule{Kind: vfs.OpWrite, Path: "*" + cleanedSuffix, Err: syscall.ENOSPC}) // the first try leaves files that have to go
	book := g.ledger("t")
	book.compact = true
	for i := range 8 {
		g.mu.Lock()
		book.entries = slices.Clone(book.entries)
		for i := range book.entries { // the next one has the same key
			book.entries[i].optional = true
		}
		g.mu.Unlock()
		raw := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: bytes.Repeat([]byte{byte(i)}, headerWindowBytes)}})
		_, err := g.append("t", raw, AppendOptions{Durable: true, LeaderEpoch: 1})
		synctest.Wait()
		if !g.want(err == nil, "append: %v", err) {
			return
		}
	}
	time.Sleep(2 * time.Minute)
	g.want(g.s.CleanerStats().Cleaned > 0, "nothing was compacted")
	err := g.s.Close()
	g.want(err == nil, "stop: %v", err)
}

// undoFails has appends fail whose bytes, a part of them or all, cannot be taken back at once: the next append does it first.
func (g *stage) undoFails() {
	if !g.start() {
		return
	}
	g.send(0, 2, true)
	for i, write := range []vfs.Rule{{Err: syscall.ENOSPC, Short: 50}, {Err: syscall.ENOSPC, After: true}, {Err: syscall.EDQUOT, Short: 150}} {
		for seed := range 3 {
			g.send(10*i+seed, 2, seed%2 == 0)
		}
		write.Kind, write.Path = vfs.OpWrite, "*"+logSuffix
		// The second try to undo fails too.
		g.rules(write, vfs.Rule{Kind: vfs.OpTruncate, Path: "*" + logSuffix, Times: 2, Err: syscall.EIO})
		for range 2 {
			_, err := g.append("t", data(batch.Plain(), time.Now().UnixMilli(), 70+i, 3), AppendOptions{Durable: true, LeaderEpoch: 1})
			g.want(err != nil, "an append on a broken disk succeeded")
		}
		g.rules()
		g.send(80+i, 1, i%2 == 0)
	}
	if l, err := g.log("t"); g.want(err == nil, "open: %v", err) {
		err = g.ledger("t").check(l, true)
		g.want(err == nil, "%v", err)
	}
	err := g.s.Close()
	g.want(err == nil, "stop: %v", err)
}

// scene plays a scene and looks at what a crash at each of its changes leaves.
func (q *inquest) scene(t *testing.T, s *scene) {
	var r recorder
	synctest.Test(t, func(t *testing.T) {
		s.play(newStage(t, s, vfs.Rule{}, &r))
	})
	if t.Failed() {
		return
	}
	if len(r.moments) == 0 {
		t.Fatal("nothing changed on the disk")
	}
	every := 1
	if testing.Short() {
		every = 23
	}
	synctest.Test(t, func(t *testing.T) {
		for i := 0; i < len(r.moments); i += every {
			m := &r.moments[i]
			for _, w := range m.crashes(1, 3) {
				if !q.admit(&w) {
					continue
				}
				if err := s.check(&w, t); err != nil {
					t.Errorf("crash %s at %v by %v: %v\n%s", w.mode, w.op, w.op.Site, err, w.describe())
					return
				}
			}
			m.disk = nil
		}
	})
}

// scene plays a scene over and over, each time with one of its calls failing in one way, then cuts the power and
// looks at what is there.
func (c *errorTally) scene(t *testing.T, s *scene) {
	play := func(rule vfs.Rule, check bool) (calls []vfs.Op) {
		synctest.Test(t, func(t *testing.T) {
			g := newStage(t, s, rule, nil)
			s.play(g)
			if g.s != nil {
				_ = g.s.Close()
			}
			calls = g.fault.Calls()
			op, ok := victim(calls, &rule)
			if !check || !ok || strings.HasSuffix(op.Name, syncFailedFile) { // see lifeWithErrors
				return
			}
			c.add(op)
			w := wreck{mode: vfs.LoseUnsynced, promises: g.promises(), c: g.c}
			w.fs = g.disk.Crash(w.mode, 0)
			if err := s.check(&w, t); err != nil {
				t.Errorf("%+v at %v by %v, and then a power cut: %v\n%s", rule, op, op.Site, err, w.describe())
			}
		})
		return calls
	}
	calls := play(vfs.Rule{}, false)
	for way, rule := range faulty() {
		for _, n := range someOfEachSite(calls, uint64(way), 2) {
			if testing.Short() && n%31 != way {
				continue
			}
			if play(at(rule, n, calls), true); t.Failed() {
				return
			}
		}
	}
}
