package log

import (
	"bytes"
	"errors"
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

// faulty are the ways in which a call fails: not at all done, done in part on a full
// disk, done all the same, and together with all calls after it.
func faulty() []vfs.Rule {
	return []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC, Short: 50}, {Err: syscall.EIO, After: true}, {Err: syscall.EIO, Times: -1}}
}

// at makes the rule strike at the n-th call, from 1. That is known by its place in the code, and by how many
// calls from there came before: goroutines may take turns in another order the next time.
func at(rule vfs.Rule, n int, calls []vfs.Op) vfs.Rule {
	if rule.Times < 0 {
		rule.Nth = n
		return rule
	}
	op := calls[n-1]
	rule.Kind, rule.Site = op.Kind, op.Site
	rule.Nth = len(matching(calls[:n], &rule))
	if op.Kind != vfs.OpWrite && op.Kind != vfs.OpRead {
		rule.Short = 0
	}
	return rule
}

// matching are the calls that a rule is about.
func matching(calls []vfs.Op, rule *vfs.Rule) (all []vfs.Op) {
	for _, op := range calls {
		if rule.Matches(op) {
			all = append(all, op)
		}
	}
	return all
}

// victim is the first call that went wrong by a rule of at, if there was one.
func victim(calls []vfs.Op, rule *vfs.Rule) (vfs.Op, bool) {
	met := matching(calls, rule)
	if rule.Nth < 1 || rule.Nth > len(met) {
		return vfs.Op{}, false
	}
	return met[rule.Nth-1], true
}

// An error at any call of the disk loses nothing that was promised, wedges nothing,
// and after a restart on a disk that works the logs are whole. In most of the lives
// something had failed before. Short lives have an error at each of their calls, long ones
// at some calls from each place in the code.
func TestErrorAtEveryCall(t *testing.T) {
	lives, every := 9, 1
	if testing.Short() {
		lives, every = 2, 29
	}
	c := &errorTally{kinds: map[string]int{}, sites: map[vfs.Site]int{}}
	all := []part{
		{"compacting", c.compacting}, {"moving", c.moving}, {"starting with moves", c.startingWithMoves}, {"starting over", c.startingOver},
		{"reserving", c.reserving}, {"syncing all", c.syncingAll},
		{"recovering/0", func(t *testing.T) { c.recovering(t, 0, every) }}, {"recovering/1", func(t *testing.T) { c.recovering(t, 1, every) }},
	}
	for _, s := range scenes() {
		all = append(all, part{"scene/" + s.name, func(t *testing.T) { c.scene(t, &s) }})
	}
	for seed := range lives {
		all = append(all, part{"life/" + strconv.Itoa(seed), func(t *testing.T) { c.life(t, uint64(seed), every) }})
	}
	together(t, all, func(t *testing.T) {
		t.Logf("%d errors: %v", c.total, c.kinds)
		reportSites(t, "errors", c.sites, func(callSite) bool { return true })
	})
}

// life has one life over and over with errors.
func (c *errorTally) life(t *testing.T, seed uint64, every int) {
	before := map[uint64][]vfs.Rule{
		1: {{Kind: vfs.OpSync, Nth: 6, Err: syscall.EIO}},
		2: {{Kind: vfs.OpWrite, Path: "*.log", Nth: 6, Err: syscall.ENOSPC, Short: 50}},
		3: {{Kind: vfs.OpReadDir, Nth: 1, Err: syscall.EIO}},
	}[seed%4]
	if seed < 2 {
		c.strike(t, seed, 14, before, func(calls []vfs.Op, i int) []int {
			var all []int
			for n := 1 + i; n <= len(calls); n += every * max(1, i*i) { // the last kind less often
				all = append(all, n)
			}
			return all
		})
		return
	}
	c.strike(t, seed, 40, before, func(calls []vfs.Op, i int) []int { return someOfEachSite(calls, seed*10+uint64(i), 1) })
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
			rule := at(rule, n, calls)
			made := lifeWithErrors(t, seed, steps, append(slices.Clip(before), rule))
			if op, ok := victim(made, &rule); ok {
				c.add(op)
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
		f := vfs.NewFault(vfs.NewCrash(), vfs.Rule{Kind: vfs.OpPreallocate, Path: "*" + logSuffix, Err: syscall.ENOSPC})
		f.Trace(callers)
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
			if op.Kind == vfs.OpPreallocate && strings.HasSuffix(op.Name, logSuffix) {
				c.add(op)
				break
			}
		}
	})
}

// syncingAll has one sync for all files fail, which a stop of many logs asks for.
func (c *errorTally) syncingAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash(), vfs.Rule{Kind: vfs.OpSyncFS, Err: syscall.EIO})
		f.Trace(callers)
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
	r := recorder{c: small()}
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

// startingOver has calls fail while a log is opened whose end was lost, and its start, which is durable, lies behind that.
func (c *errorTally) startingOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		b := newRig(t, disk)
		for i := range 9 {
			if _, err := b.append("t", data(batch.Plain(), time.Now().UnixMilli(), i, 3), AppendOptions{Durable: i < 2}); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.deleteBefore("t", b.must("t").Offsets().End); err != nil {
			t.Fatal(err)
		}
		w := wreck{mode: vfs.LoseUnsynced, fs: disk.Crash(vfs.LoseUnsynced, 0), promises: b.promises(), c: b.c}
		_ = b.s.Close()
		c.strikeRecovery(t, &w, map[vfs.Site]int{})
	})
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
	calls := w.openWith(t, w.fs.Crash(vfs.Kill, 0), vfs.Rule{Path: "no such file"})
	for i, call := range calls {
		if had[call.Site]++; had[call.Site] > 3 {
			continue
		}
		disk, rule := w.fs.Crash(vfs.Kill, 0), at(vfs.Rule{Err: syscall.EIO}, i+1, calls)
		if op, ok := victim(w.openWith(t, disk, rule), &rule); ok {
			c.add(op)
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
	f.Trace(callers)
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
		last := &faults[len(faults)-1]
		// A failed sync and then no note of it: the operator is told to restart the machine,
		// for what is read may not be on disk (Store.fail).
		if op, ok := victim(calls, last); ok && strings.HasSuffix(op.Name, syncFailedFile) {
			return
		}
		modes := []vfs.Mode{vfs.LoseUnsynced}
		if len(calls)%3 == 0 {
			modes = append(modes, vfs.KeepAll)
		}
		for _, mode := range modes {
			w := wreck{mode: mode, fs: f.disk.Crash(mode, 0), promises: f.promises(), c: f.c}
			if err := w.recover(t); err != nil {
				op, _ := victim(f.allCalls(), last)
				t.Errorf("seed %d: %+v at %v by %v; after %s: %v\n%s", seed, *last, op, op.Site, mode, err, w.describe())
			}
		}
	})
	return calls
}
